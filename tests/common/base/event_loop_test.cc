#include "common/base/event_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <latch>
#include <mutex>
#include <thread>

#include "common/base/call.h"
#include "tests/support/sim_waiter.h"

namespace snapkeeper {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class EventLoopTest : public ::testing::Test {
 protected:
  EventLoop::Task Say(int n) {
    return [this, n] { said_.push_back(n); };
  }

  SimClock clock_;
  SimWaiter waiter_{clock_};
  EventLoop loop_{waiter_};
  std::vector<int> said_;
};

TEST_F(EventLoopTest, RunsPostedTasksInOrder) {
  for (int i = 0; i < 3; ++i) loop_.Post(Say(i));
  EXPECT_TRUE(loop_.Turn());
  EXPECT_THAT(said_, ElementsAre(0, 1, 2));
  EXPECT_FALSE(loop_.Turn());
}

TEST_F(EventLoopTest, LeavesATaskThatATaskPostsToTheNextTurn) {
  loop_.Post([this] {
    Say(1)();
    loop_.Post(Say(2));
  });
  loop_.Turn();
  EXPECT_THAT(said_, ElementsAre(1));
  loop_.Turn();
  EXPECT_THAT(said_, ElementsAre(1, 2));
}

TEST_F(EventLoopTest, FiresTimersByDueTimeAndThenByCreation) {
  const Timer b = loop_.After(absl::Seconds(2), Say(2));
  const Timer c = loop_.After(absl::Seconds(2), Say(3));
  const Timer a = loop_.After(absl::Seconds(1), Say(1));
  EXPECT_EQ(loop_.NextTimer(), absl::Seconds(1));
  RunUntil(clock_, {&loop_}, absl::Seconds(10));
  EXPECT_THAT(said_, ElementsAre(1, 2, 3));
  EXPECT_EQ(loop_.NextTimer(), absl::InfiniteDuration());
}

TEST_F(EventLoopTest, FiresNotBeforeTheDelayAndAtOnceWhenItIsNotPositive) {
  const Timer later = loop_.After(absl::Milliseconds(10), Say(1));
  const Timer now = loop_.After(absl::ZeroDuration(), Say(2));
  const Timer past = loop_.After(-absl::Seconds(5), Say(3));
  loop_.Turn();
  EXPECT_THAT(said_, ElementsAre(2, 3));
  clock_.Advance(absl::Milliseconds(9));
  loop_.Turn();
  EXPECT_THAT(said_, ElementsAre(2, 3));
  clock_.Advance(absl::Milliseconds(1));
  loop_.Turn();
  EXPECT_THAT(said_, ElementsAre(2, 3, 1));
}

TEST_F(EventLoopTest, ATimerThatRearmsItselfWithoutDelayFiresOncePerTurn) {
  Timer timer;
  std::function<void()> again = [&] {
    said_.push_back(0);
    timer = loop_.After(absl::ZeroDuration(), again);
  };
  timer = loop_.After(absl::ZeroDuration(), again);
  loop_.Turn();
  EXPECT_EQ(said_.size(), 1u);
  loop_.Turn();
  EXPECT_EQ(said_.size(), 2u);
}

TEST_F(EventLoopTest, DestroyingOrReplacingOrCancellingATimerKeepsItFromFiring) {
  { const Timer destroyed = loop_.After(absl::ZeroDuration(), Say(1)); }
  Timer replaced = loop_.After(absl::ZeroDuration(), Say(2));
  replaced = loop_.After(absl::ZeroDuration(), Say(3));
  Timer cancelled = loop_.After(absl::ZeroDuration(), Say(4));
  EXPECT_TRUE(cancelled.active());
  cancelled.Cancel();
  EXPECT_FALSE(cancelled.active());
  Timer from = loop_.After(absl::ZeroDuration(), Say(5));
  const Timer to = std::move(from);
  from.Cancel();  // NOLINT(bugprone-use-after-move): a moved-from timer is inert
  loop_.Turn();
  EXPECT_THAT(said_, ElementsAre(3, 5));
  EXPECT_FALSE(to.active());
}

TEST_F(EventLoopTest, ATimerMayCancelAnotherThatIsDueInTheSameTurn) {
  Timer second;
  const Timer first = loop_.After(absl::ZeroDuration(), [&second] { second.Cancel(); });
  second = loop_.After(absl::ZeroDuration(), Say(2));
  loop_.Turn();
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(EventLoopTest, ATimerMayBeDestroyedOrReplacedByItsOwnCallback) {
  auto destroyed = std::make_unique<Timer>();
  const auto held = std::make_shared<int>(7);
  *destroyed = loop_.After(absl::ZeroDuration(), [this, &destroyed, held] {
    destroyed.reset();
    said_.push_back(*held);
  });
  Timer replaced;
  replaced = loop_.After(absl::ZeroDuration(), [this, &replaced, held] {
    replaced = loop_.After(absl::Seconds(1), Say(9));
    said_.push_back(*held + 1);
  });
  RunUntil(clock_, {&loop_}, absl::Seconds(1));
  EXPECT_THAT(said_, ElementsAre(7, 8, 9));
  EXPECT_EQ(held.use_count(), 1);
}

TEST_F(EventLoopTest, CancellingFreesWhatTheCallbackHolds) {
  const auto held = std::make_shared<int>();
  Timer timer = loop_.After(absl::Seconds(1), [held] {});
  EXPECT_EQ(held.use_count(), 2);
  timer.Cancel();
  EXPECT_EQ(held.use_count(), 1);
}

TEST_F(EventLoopTest, ATaskIsFreedBeforeTheNextOneRuns) {
  const auto held = std::make_shared<int>();
  loop_.Post([held] {});
  loop_.Post([this, &held] { said_.push_back(static_cast<int>(held.use_count())); });
  loop_.Turn();
  EXPECT_THAT(said_, ElementsAre(1));
}

TEST_F(EventLoopTest, RunLeapsOverSimulatedTimeUntilStopped) {
  const Timer tick = loop_.After(absl::Hours(24 * 365), [this] {
    Say(1)();
    loop_.Stop();
  });
  loop_.Run();
  EXPECT_THAT(said_, ElementsAre(1));
  EXPECT_EQ(loop_.Elapsed(), absl::Hours(24 * 365));
}

TEST_F(EventLoopTest, StopEndsTheTurnFirst) {
  loop_.Post([this] { loop_.Stop(); });
  loop_.Post(Say(1));
  loop_.Run();
  EXPECT_THAT(said_, ElementsAre(1));
}

TEST_F(EventLoopTest, ReportsTheLongestTurnOrLatenessOnce) {
  loop_.Post([this] { clock_.Advance(absl::Milliseconds(30)); });
  loop_.Turn();
  loop_.Turn();
  EXPECT_EQ(loop_.TakeMaxTurn(), absl::Milliseconds(30));
  EXPECT_EQ(loop_.TakeMaxTurn(), absl::ZeroDuration());
  const Timer timer = loop_.After(absl::Milliseconds(10), [] {});
  clock_.Advance(absl::Milliseconds(25));
  loop_.Turn();
  EXPECT_EQ(loop_.TakeMaxTurn(), absl::Milliseconds(15));
}

TEST_F(EventLoopTest, SeveralLoopsShareOneClockAndDifferByTheirWallClocks) {
  SimWaiter other_waiter(clock_);
  other_waiter.set_offset(absl::Hours(1));
  EventLoop other(other_waiter);
  const Timer a = loop_.After(absl::Seconds(1), [&] { other.Post(Say(2)); });
  const Timer b = other.After(absl::Seconds(1), Say(1));
  const Timer c = loop_.After(absl::Seconds(2), Say(3));
  RunFor(clock_, {&loop_, &other}, absl::Seconds(5));
  EXPECT_THAT(said_, ElementsAre(2, 1, 3));
  EXPECT_EQ(other.Now() - loop_.Now(), absl::Hours(1));
  EXPECT_EQ(clock_.Elapsed(), absl::Seconds(5));
}

TEST(EventLoopLifetimeTest, TimersAndTasksThatOutliveTheirTurnDieWithTheLoop) {
  const auto held = std::make_shared<int>();
  Timer survivor;
  {
    SimClock clock;
    SimWaiter waiter(clock);
    EventLoop loop(waiter);
    auto inner = std::make_shared<Timer>(loop.After(absl::Seconds(1), [held] {}));
    loop.Post([inner, held] {});
    // A call that posts while the loop that would run it is being destroyed.
    loop.Post([held, call = Call([&loop, held] { loop.Post([held] {}); })] {});
    survivor = loop.After(absl::Seconds(2), [] {});
  }
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_FALSE(survivor.active());
}

// A waiter that really sleeps, for the tests with threads.
class BlockingWaiter : public Waiter {
 public:
  absl::Time Now() const override { return absl::UnixEpoch(); }
  absl::Duration Elapsed() const override { return absl::ZeroDuration(); }
  void Wait(absl::Duration max) override {
    std::unique_lock lock(mutex_);
    if (max > absl::ZeroDuration()) wake_.wait(lock, [this] { return woken_; });
    woken_ = false;
  }
  void Wake() override {
    const std::lock_guard lock(mutex_);
    woken_ = true;
    wake_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool woken_ = false;
};

TEST(EventLoopThreadTest, TakesTasksFromManyThreadsAndKeepsEachThreadsOrder) {
  constexpr int kThreads = 4, kTasks = 5000;
  BlockingWaiter waiter;
  EventLoop loop(waiter);
  std::vector<std::vector<int>> seen(kThreads);
  int left = kThreads * kTasks;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&loop, &seen, &left, t] {
      for (int i = 0; i < kTasks; ++i) {
        loop.Post([&loop, &seen, &left, t, i] {
          seen[t].push_back(i);
          if (--left == 0) loop.Stop();
        });
      }
    });
  }
  loop.Run();
  for (std::thread& thread : threads) thread.join();
  for (const auto& order : seen) {
    EXPECT_EQ(order.size(), size_t{kTasks});
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  }
}

TEST(EventLoopThreadTest, KnowsItsOwnThread) {
  BlockingWaiter waiter;
  EventLoop loop(waiter);
  EXPECT_TRUE(loop.InLoop());
  std::latch in_loop{1};
  std::thread thread([&loop] { loop.Run(); });
  loop.Post([&loop, &in_loop] {
    EXPECT_TRUE(loop.InLoop());
    in_loop.count_down();
  });
  in_loop.wait();
  EXPECT_FALSE(loop.InLoop());
  loop.Stop();
  thread.join();
}

TEST(EventLoopThreadTest, ATaskThatPostsOnItsOwnThreadIsNotLostAsTheLoopGoesToSleep) {
  BlockingWaiter waiter;
  EventLoop loop(waiter);
  int turns = 0;
  std::function<void()> step = [&] {
    if (++turns == 1000) return loop.Stop();
    loop.Post(step);
  };
  std::thread thread([&loop] { loop.Run(); });
  loop.Post(step);
  thread.join();
  EXPECT_EQ(turns, 1000);
}

}  // namespace
}  // namespace snapkeeper
