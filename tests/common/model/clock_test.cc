#include "common/model/clock.h"

#include <gtest/gtest.h>

namespace snapkeeper {
namespace {

constexpr absl::Duration kSecond = absl::Seconds(1);
const absl::Time kStart = absl::FromUnixSeconds(1'767'225'600);  // the server's, at Elapsed 0

TEST(ServerClockTest, SaysNothingBeforeTheFirstReply) {
  EXPECT_EQ(ServerClock().Offset(kStart, absl::ZeroDuration()), std::nullopt);
}

TEST(ServerClockTest, TellsNoMoreThanTheRepliesProve) {
  ServerClock clock;
  clock.Hear(kStart + 10 * kSecond, 10 * kSecond, 10 * kSecond);
  const auto offset = [&clock](absl::Duration ahead) {
    return clock.Offset(kStart + 20 * kSecond + ahead, 20 * kSecond);
  };
  EXPECT_EQ(offset(absl::ZeroDuration()), absl::ZeroDuration());
  EXPECT_EQ(offset(kSecond), absl::ZeroDuration());  // Date is in whole seconds
  EXPECT_EQ(offset(37 * kSecond), 36 * kSecond);
  EXPECT_EQ(offset(-37 * kSecond), -37 * kSecond);
}

TEST(ServerClockTest, ASlowReplyTakesNothingAwayFromWhatIsKnown) {
  ServerClock clock;
  clock.Hear(kStart + 10 * kSecond, 10 * kSecond, 10 * kSecond);
  clock.Hear(kStart + 30 * kSecond, 20 * kSecond, 30 * kSecond);
  EXPECT_EQ(clock.Offset(kStart + 67 * kSecond, 30 * kSecond), 36 * kSecond);
}

TEST(ServerClockTest, AfterAStepOfTheServersClockTheNewestReplyCounts) {
  ServerClock clock;
  clock.Hear(kStart + 10 * kSecond, 10 * kSecond, 10 * kSecond);
  const absl::Time set_back = kStart - absl::Hours(1);
  clock.Hear(set_back + 20 * kSecond, 20 * kSecond, 20 * kSecond);
  EXPECT_EQ(clock.Offset(set_back + 30 * kSecond, 30 * kSecond), absl::ZeroDuration());
}

}  // namespace
}  // namespace snapkeeper
