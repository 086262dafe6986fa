#include "scheduler/ticker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/sim_waiter.h"

namespace snapkeeper {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class TickerTest : public ::testing::Test {
 protected:
  absl::Time In(absl::Duration time) { return loop_.Now() + time; }
  void Run(absl::Duration time) { RunFor(clock_, {&loop_}, time); }

  SimClock clock_;
  SimWaiter waiter_{clock_};
  EventLoop loop_{waiter_};
  std::vector<std::string> due_;
  Ticker ticker_{loop_, [this](const std::string& key) { due_.push_back(key); }};
};

TEST_F(TickerTest, TellsEachKeyOnceAtItsTime) {
  ticker_.Set("later", In(absl::Minutes(10)));
  ticker_.Set("sooner", In(absl::Minutes(5)));
  Run(absl::Minutes(5) - absl::Nanoseconds(1));
  EXPECT_THAT(due_, IsEmpty());
  Run(absl::Nanoseconds(1));
  EXPECT_THAT(due_, ElementsAre("sooner"));
  Run(absl::Hours(1));
  EXPECT_THAT(due_, ElementsAre("sooner", "later"));
  EXPECT_EQ(loop_.NextTimer(), absl::InfiniteDuration());
}

TEST_F(TickerTest, ATimeThatHasPassedIsDueInTheNextTurn) {
  ticker_.Set("a", In(-absl::Hours(1)));
  EXPECT_THAT(due_, IsEmpty());
  Run(absl::ZeroDuration());
  EXPECT_THAT(due_, ElementsAre("a"));
}

TEST_F(TickerTest, ALaterTimeReplacesTheEarlierOneAndTheInfiniteFutureForgetsIt) {
  ticker_.Set("a", In(absl::Minutes(5)));
  ticker_.Set("b", In(absl::Minutes(5)));
  ticker_.Set("a", In(absl::Minutes(10)));
  ticker_.Set("b", absl::InfiniteFuture());
  Run(absl::Minutes(9));
  EXPECT_THAT(due_, IsEmpty());
  Run(absl::Minutes(1));
  EXPECT_THAT(due_, ElementsAre("a"));
}

TEST_F(TickerTest, AKeyMayBeSetAgainFromWithinItsCall) {
  int calls = 0;
  Ticker ticker(loop_, [&](const std::string& key) {
    if (++calls < 3) ticker.Set(key, In(absl::Minutes(5)));
  });
  ticker.Set("a", In(absl::Minutes(5)));
  Run(absl::Hours(1));
  EXPECT_EQ(calls, 3);
}

TEST_F(TickerTest, AClockThatIsSetForwardIsNoticedWithinAMinute) {
  ticker_.Set("a", In(absl::Hours(5)));
  Run(absl::Minutes(2));
  clock_.Step(absl::Hours(5));
  Run(absl::Minutes(1));
  EXPECT_THAT(due_, ElementsAre("a"));
}

TEST_F(TickerTest, AfterAClockIsSetBackByMoreThanAMinuteEveryKeyIsDue) {
  ticker_.Set("a", In(absl::Hours(5)));
  ticker_.Set("b", In(absl::Hours(24 * 365)));
  Run(absl::Minutes(2));
  clock_.Step(-absl::Minutes(1));
  Run(absl::Minutes(2));
  EXPECT_THAT(due_, IsEmpty());
  clock_.Step(-absl::Minutes(1) - absl::Seconds(1));
  Run(absl::Minutes(1));
  EXPECT_THAT(due_, UnorderedElementsAre("a", "b"));
}

}  // namespace
}  // namespace snapkeeper
