#include "simulator/table.h"

#include <gtest/gtest.h>

#include <utility>

namespace snapkeeper {
namespace {

// apimachinery pkg/util/duration/duration_test.go has the same pairs.
TEST(HumanDurationTest, IsShownAsKubectlDoes) {
  const std::pair<absl::Duration, const char*> kCases[] = {
      {absl::ZeroDuration(), "0s"},
      {absl::Milliseconds(999), "0s"},
      {absl::Seconds(-1), "0s"},
      {absl::Seconds(-2), "<invalid>"},
      {absl::Seconds(119), "119s"},
      {absl::Seconds(120), "2m"},
      {absl::Seconds(125), "2m5s"},
      {absl::Seconds(599), "9m59s"},
      {absl::Minutes(10), "10m"},
      {absl::Minutes(179), "179m"},
      {absl::Hours(3), "3h"},
      {absl::Minutes(185), "3h5m"},
      {absl::Hours(8), "8h"},
      {absl::Hours(47), "47h"},
      {absl::Hours(48), "2d"},
      {absl::Hours(49), "2d1h"},
      {absl::Hours(24 * 8), "8d"},
      {absl::Hours(24 * 365), "365d"},
      {absl::Hours(24 * 730), "2y"},
      {absl::Hours(24 * 735), "2y5d"},
      {absl::Hours(24 * 365 * 8), "8y"},
  };
  for (const auto& [age, text] : kCases) EXPECT_EQ(HumanDuration(age), text) << age;
}

}  // namespace
}  // namespace snapkeeper
