#include "common/base/backoff.h"

#include <gtest/gtest.h>

namespace snapkeeper {
namespace {

constexpr Backoff kBackoff = {.min = absl::Milliseconds(100), .max = absl::Seconds(10)};

TEST(BackoffTest, StaysBetweenTheMinimumAndTheDoublingCeiling) {
  const std::pair<int, absl::Duration> ceilings[] = {
      {1, absl::Milliseconds(200)}, {2, absl::Milliseconds(400)}, {6, absl::Milliseconds(6400)},
      {7, absl::Seconds(10)},       {8, absl::Seconds(10)},       {1'000'000, absl::Seconds(10)}};
  Rng rng(7);
  for (const auto& [attempt, ceiling] : ceilings) {
    absl::Duration least = absl::InfiniteDuration(), most = absl::ZeroDuration();
    for (int i = 0; i < 1000; ++i) {
      const absl::Duration delay = kBackoff.Delay(attempt, rng);
      least = std::min(least, delay);
      most = std::max(most, delay);
    }
    EXPECT_GE(least, kBackoff.min) << attempt;
    EXPECT_LE(most, ceiling) << attempt;
    // Spread over the whole range, or many clients would return together.
    EXPECT_LT(least, kBackoff.min + (ceiling - kBackoff.min) * 0.05) << attempt;
    EXPECT_GT(most, kBackoff.min + (ceiling - kBackoff.min) * 0.95) << attempt;
  }
}

TEST(BackoffTest, ReplaysFromASeed) {
  Rng a(42), b(42), c(43);
  const absl::Duration delay = kBackoff.Delay(5, a);
  EXPECT_EQ(delay, kBackoff.Delay(5, b));
  EXPECT_NE(delay, kBackoff.Delay(5, c));
}

TEST(BackoffTest, TakesTheServersHintAsALowerBoundWithALittleJitter) {
  Rng rng(1);
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration delay = kBackoff.Delay(1, rng, absl::Seconds(30));
    EXPECT_GE(delay, absl::Seconds(30));
    EXPECT_LE(delay, absl::Seconds(33));
  }
}

TEST(BackoffTest, AHintBelowTheDelayChangesNothing) {
  Rng rng(1);
  for (int i = 0; i < 100; ++i)
    EXPECT_GE(kBackoff.Delay(9, rng, absl::Milliseconds(1)), kBackoff.min);
}

TEST(BackoffTest, NeverExceedsAMaximumBelowTwiceTheMinimum) {
  constexpr Backoff kNarrow = {.min = absl::Seconds(1), .max = absl::Milliseconds(1500)};
  Rng rng(3);
  for (int i = 0; i < 100; ++i) EXPECT_LE(kNarrow.Delay(4, rng), kNarrow.max);
}

}  // namespace
}  // namespace snapkeeper
