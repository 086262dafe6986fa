#include <absl/time/time.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/kube/json.h"
#include "common/model/names.h"
#include "tests/simulation/fault_on.h"
#include "tests/simulation/world.h"

// Failovers, outages and wrong clocks, each at the moment that hurts.

namespace snapkeeper {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

int Uncut(World& world, const std::string& policy) {
  int uncut = 0;
  for (const auto& s : world.SnapshotsOf(policy)) uncut += !s->cut_time.has_value();
  return uncut;
}

TEST(RecoveryTest, MaxCreatingHoldsAfterFailover) {
  World world({.cut_after = absl::Seconds(40)});
  const int cap = DriverProfile().max_creating;
  for (int i = 0; i < 2 * cap; ++i)
    world.simulator().AddClaim("default", fmt::format("data-{:02}", i), {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.StartExecutor("executor-1");
  world.AddPolicy("wide", {{"schedule", "@every 10m"}, {"startingDeadlineSeconds", 300}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(600));
  world.RunFor(absl::Seconds(5));
  ASSERT_EQ(Uncut(world, "wide"), cap);
  world.Kill("scheduler-0");
  world.RunFor(absl::Seconds(1));
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Seconds(5));
  EXPECT_LE(Uncut(world, "wide"), cap);
}

TEST(RecoveryTest, ForbidHoldsAfterFailover) {
  World world({.cut_after = absl::Seconds(80), .ready_after = absl::Seconds(100)});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.StartExecutor("executor-1");
  world.AddPolicy("slow", {{"schedule", "@every 30s"}, {"startingDeadlineSeconds", 300}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(65));
  ASSERT_EQ(world.SnapshotsOf("slow").size(), 1u);  // the second instant waits for the first
  world.Kill("scheduler-0");
  world.RunFor(absl::Seconds(1));
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Seconds(5));
  EXPECT_EQ(world.SnapshotsOf("slow").size(), 1u);
  EXPECT_LE(Uncut(world, "slow"), 1);
}

TEST(RecoveryTest, ForbidHoldsBeforeSnapshotsAreListed) {
  World world({.cut_after = absl::Seconds(1), .ready_after = absl::Seconds(100)});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.StartExecutor("executor-1");
  world.AddPolicy("slow", {{"schedule", "@every 30s"}, {"startingDeadlineSeconds", 300}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(45));
  ASSERT_EQ(world.SnapshotsOf("slow").size(), 1u);
  world.Kill("scheduler-0");
  world.RunFor(absl::Seconds(20));  // an instant is due
  FaultOn slow(Verb::kList, Kind::kSnapshot, {.request_delay = absl::Seconds(5)}, "scheduler-1");
  world.simulator().SetFaultPlan(&slow);
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Seconds(10));
  world.simulator().SetFaultPlan(nullptr);
  EXPECT_EQ(world.SnapshotsOf("slow").size(), 1u);
}

TEST(RecoveryTest, ARunWhoseDeadlinePassesBeforeSnapshotsAreListedHasOneOutcome) {
  World world({.cut_after = absl::Seconds(1), .ready_after = absl::Seconds(20)});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("slow", {{"schedule", "@every 30s"}, {"startingDeadlineSeconds", 3}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(45));
  ASSERT_EQ(world.SnapshotsOf("slow").size(), 1u);
  world.Kill("scheduler-0");
  world.RunFor(absl::Seconds(13));
  FaultOn slow(Verb::kList, Kind::kSnapshot, {.request_delay = absl::Seconds(5)}, "scheduler-1");
  world.simulator().SetFaultPlan(&slow);
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Seconds(30));  // an instant is due before the list is there
  world.simulator().SetFaultPlan(nullptr);
  world.RunFor(absl::Minutes(2));
  EXPECT_THAT(world.oracle().violations(), IsEmpty());
  for (const RunRecord& run : world.StatusOf("slow").recent_runs) EXPECT_EQ(run.counts.selected, 1);
}

TEST(RecoveryTest, AnEditBeforeSnapshotsAreListedForgetsNoMissedInstant) {
  World world({});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 10s"}, {"startingDeadlineSeconds", 60}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(25));
  world.Kill("scheduler-0");
  world.RunFor(absl::Seconds(50));  // five instants: the newest is caught up with
  FaultOn slow(Verb::kList, Kind::kSnapshot, {.request_delay = absl::Seconds(5)}, "scheduler-1");
  world.simulator().SetFaultPlan(&slow);
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Seconds(1));
  world.PatchPolicy("p", {{"spec", {{"schedule", "@every 1h"}}}});
  world.RunFor(absl::Seconds(30));
  world.simulator().SetFaultPlan(nullptr);
  EXPECT_EQ(world.StatusOf("p").missed_runs, 4);
  EXPECT_EQ(world.oracle().counts().created, 3);
}

TEST(RecoveryTest, FailuresBeyondTenAreNotCountedTwice) {
  World world({});
  for (int i = 0; i < 15; ++i)  // their class has no provisioner: they stay Pending
    world.simulator().AddClaim("default", fmt::format("bad-{:02}", i), {{"app", "db"}}, "none");
  for (int i = 0; i < 5; ++i)
    world.simulator().AddClaim("default", fmt::format("good-{:02}", i), {{"app", "db"}});
  world.AddPolicy("mixed", {{"schedule", "@every 10m"}, {"startingDeadlineSeconds", 300}});
  world.StartScheduler("scheduler-0");  // without executors
  world.RunFor(absl::Seconds(615));
  RunCounts counts = world.StatusOf("mixed").recent_runs.at(0).counts;
  ASSERT_EQ(counts.selected, 20);
  ASSERT_EQ(counts.failed, 15);
  world.Kill("scheduler-0");
  world.StartExecutor("executor-0");
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Seconds(30));
  counts = world.StatusOf("mixed").recent_runs.at(0).counts;
  EXPECT_EQ(counts.selected, 20);
  EXPECT_EQ(counts.failed, 15);
  EXPECT_EQ(counts.succeeded, 5);
}

TEST(RecoveryTest, ADrainWritesTheRecordAlthoughJobsWaitForExecutors) {
  World world({});
  world.simulator().AddClaim("default", "bad", {{"app", "bad"}}, "none");
  world.simulator().AddClaim("default", "good", {{"app", "good"}});
  world.AddPolicy("bad", {{"schedule", "@every 10m"},
                          {"startingDeadlineSeconds", 300},
                          {"selector", {{"matchLabels", {{"app", "bad"}}}}}});
  world.AddPolicy("good", {{"schedule", "@every 10m"},
                           {"startingDeadlineSeconds", 300},
                           {"selector", {{"matchLabels", {{"app", "good"}}}}}});
  world.StartScheduler("scheduler-0");  // without executors
  world.RunFor(absl::Seconds(601));
  bool drained = false;
  const_cast<Scheduler*>(world.SchedulerOf("scheduler-0"))->Drain([&] { drained = true; });
  world.RunFor(absl::Seconds(6));
  ASSERT_TRUE(drained);
  world.Kill("scheduler-0");
  EXPECT_EQ(world.StatusOf("bad").recent_runs.size(), 1u);
}

TEST(RecoveryTest, WhatEndsDuringADrainIsRecorded) {
  World world({.ready_after = absl::Seconds(20)});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 10m"}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(610));
  const_cast<Scheduler*>(world.SchedulerOf("scheduler-0"))->Drain([] {});
  world.RunFor(absl::Seconds(20));
  EXPECT_THAT(Outcomes(world.StatusOf("p")), ::testing::ElementsAre("1 succeeded"));
  EXPECT_TRUE(world.StatusOf("p").recent_runs.at(0).completion_time);
  world.RunFor(absl::Minutes(20));
  EXPECT_EQ(world.oracle().counts().created, 1);
}

TEST(RecoveryTest, ARunThatTurnedUpSettlesThoughTheClockIsSetBackALittle) {
  for (const bool step : {false, true}) {
    World world({});
    world.simulator().AddClaim("default", "data", {{"app", "db"}});
    world.StartExecutor("executor-0");
    world.AddPolicy("late", {{"schedule", "@every 60s"}, {"startingDeadlineSeconds", 10}});
    world.RunFor(absl::Seconds(140));  // two instants are missed
    world.StartScheduler("scheduler-0");
    world.RunFor(absl::Seconds(20));
    ASSERT_EQ(world.StatusOf("late").missed_runs, 2);
    const absl::Time missed = absl::FromUnixSeconds(1'767'225'600) + absl::Seconds(120);
    world.PostAsAnother("late", "data", missed);
    world.RunFor(absl::Seconds(5));
    if (step) world.StepClocks(-absl::Milliseconds(50));
    world.RunFor(absl::Minutes(5));
    EXPECT_EQ(world.StatusOf("late").missed_runs, 1);
    const std::vector<RunRecord> runs = world.StatusOf("late").recent_runs;
    EXPECT_TRUE(std::none_of(runs.begin(), runs.end(), [&](const RunRecord& r) {
      return r.instant == missed && !r.completion_time;
    })) << step;
  }
}

TEST(RecoveryTest, WhatAnEarlierLeaderRecordsLateIsAccountedForThoughItIsGone) {
  World world({});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("late", {{"schedule", "@every 1h"}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Minutes(61));
  world.Kill("scheduler-0");
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Minutes(1));
  PolicyStatus status = world.StatusOf("late");
  ASSERT_EQ(status.epoch, 1);
  const absl::Time instant = status.recent_runs.at(0).instant - absl::Minutes(30);
  status.recent_runs.push_back({.instant = instant,
                                .generation = 1,
                                .state = RunState::kSettling,
                                .start_time = instant,
                                .posted_time = instant,
                                .counts = {.selected = 3, .pending = 3}});
  const auto written = world.simulator().store().Patch(
      {Kind::kPolicy, "default", "late"},
      StatusPatch(status, world.PolicyOf("late")->meta.resource_version), true, "scheduler-0");
  ASSERT_TRUE(written.ok()) << written.status();
  world.RunFor(absl::Minutes(1));
  const RunRecord recorded = world.StatusOf("late").recent_runs.at(1);
  EXPECT_EQ(recorded.instant, instant);
  EXPECT_TRUE(recorded.completion_time);
  EXPECT_EQ(recorded.counts.failed, 3);
}

// Whoever owns a namespace can write any status there.
class ForgedEpochTest : public ::testing::Test {
 protected:
  void SetUp() override {
    world.simulator().AddClaim("default", "data", {{"app", "db"}});
    world.StartExecutor("executor-0");
    world.AddPolicy("p", {{"schedule", "@every 60s"}});
    world.StartScheduler("scheduler-0");
    world.RunFor(absl::Seconds(90));
  }
  void Forge(int64_t epoch) {
    const auto forged = world.simulator().store().Patch(
        {Kind::kPolicy, "default", "p"}, {{"status", {{"epoch", epoch}}}}, true, "tenant");
    ASSERT_TRUE(forged.ok()) << forged.status();
  }
  void DeleteLease() {
    const auto deleted = world.simulator().store().Delete(
        {Kind::kLease, "default", "snapkeeper-scheduler"}, {}, "user");
    ASSERT_TRUE(deleted.ok()) << deleted.status();
  }
  size_t TakenIn(absl::Duration time) {
    const size_t before = world.SnapshotsOf("p").size();
    world.RunFor(time);
    return world.SnapshotsOf("p").size() - before;
  }

  World world{{}};
};

TEST_F(ForgedEpochTest, StopsNoScheduler) {
  for (const int64_t epoch : {2, 1 << 30}) {
    Forge(epoch);
    EXPECT_EQ(TakenIn(absl::Minutes(3)), 3u);
    EXPECT_FALSE(world.Deposed("scheduler-0"));
    EXPECT_EQ(world.StatusOf("p").epoch, 1);
  }
}

TEST_F(ForgedEpochTest, DoesNotRaiseThatOfTheNextScheduler) {
  world.Kill("scheduler-0");
  Forge(1 << 30);
  world.StartScheduler("scheduler-1");
  EXPECT_EQ(TakenIn(absl::Minutes(3)), 3u);
  EXPECT_EQ(world.StatusOf("p").epoch, 2);
}

TEST_F(ForgedEpochTest, IsBelievedWhereTheLeaseIsGone) {
  world.Kill("scheduler-0");
  Forge(41);
  DeleteLease();
  world.StartScheduler("scheduler-1");
  EXPECT_EQ(TakenIn(absl::Minutes(3)), 3u);
  EXPECT_EQ(world.StatusOf("p").epoch, 42);
}

TEST_F(ForgedEpochTest, LeavesHalfOfAllEpochsWhereTheLeaseIsGone) {
  world.Kill("scheduler-0");
  Forge(2147483647);
  DeleteLease();
  for (const int64_t more : {1, 2}) {
    const std::string name = fmt::format("scheduler-{}", more);
    world.StartScheduler(name);
    EXPECT_EQ(TakenIn(absl::Minutes(3)), 3u);
    EXPECT_FALSE(world.Deposed(name));
    EXPECT_EQ(world.StatusOf("p").epoch, (1 << 30) + more);
    world.Kill(name);
  }
}

TEST(RecoveryTest, NoNumbersInAStatusStopTheScheduler) {
  World world({});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 10m"}, {"missedRunPolicy", "Skip"}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(90));
  world.Kill("scheduler-0");
  constexpr int kMost = 2147483647;
  constexpr int64_t kMostMissed = 9223372036854775807;
  const auto run = [&world](absl::Duration age, nlohmann::json counts) {
    return nlohmann::json{{"scheduledTime", FormatRfc3339(world.Now() - age)},
                          {"state", "Settling"},
                          {"postedTime", FormatRfc3339(world.Now() - age)},
                          {"counts", std::move(counts)}};
  };
  const auto forged =
      world.simulator().store().Patch({Kind::kPolicy, "default", "p"},
                                      {{"status",
                                        {{"missedRuns", kMostMissed},
                                         {"observedGeneration", kMostMissed},
                                         {"recentRuns",
                                          {run(absl::Seconds(10), {{"selected", kMost}}),
                                           run(absl::Seconds(20), {{"selected", kMost},
                                                                   {"succeeded", kMost},
                                                                   {"failed", kMost},
                                                                   {"skipped", kMost},
                                                                   {"cancelled", kMost}})}}}}},
                                      true, "tenant");
  ASSERT_TRUE(forged.ok()) << forged.status();
  world.RunFor(absl::Minutes(25));
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Minutes(10));
  EXPECT_EQ(world.SnapshotsOf("p").size(), 1u);
  const PolicyStatus status = world.StatusOf("p");
  EXPECT_GT(status.missed_runs, 2);
  ASSERT_EQ(status.recent_runs.size(), 3u);
  for (const RunRecord& record : status.recent_runs) {
    EXPECT_TRUE(record.completion_time);
    EXPECT_GT(record.counts.selected, 0);
  }
}

// Everybody is cut off up to a moment; the first POST of a snapshot is carried out all the same.
class Outage : public FaultPlan {
 public:
  Outage(const World& world, absl::Time end) : world_(world), end_(end) {}
  Fault OnRequest(std::string_view, Verb verb, const ObjectKey& key) override {
    if (verb == Verb::kCreate && key.kind == Kind::kSnapshot && !std::exchange(posted_, true))
      return {.reply = absl::UnavailableError("the connection was reset")};
    return Fault::Fail(absl::UnavailableError("away"));
  }
  EventFault OnEvent(std::string_view, Kind) override { return {.delay = end_ - world_.Now()}; }

 private:
  const World& world_;
  const absl::Time end_;
  bool posted_ = false;
};

// The snapshot of a policy's first instant is made in an outage that is longer than its starting
// deadline.
class UnseenPostTest : public ::testing::Test {
 protected:
  void Start(absl::Duration deadline, absl::Duration ready_after, absl::Duration ready_timeout) {
    world.simulator().volumes().SetDefaultBehaviour(
        {.cut_after = absl::Seconds(1), .ready_after = ready_after});
    world.simulator().AddClaim("default", "data", {{"app", "db"}});
    world.StartExecutor("executor-0");
    world.AddPolicy("p", {{"schedule", "@every 5m"},
                          {"startingDeadlineSeconds", absl::ToInt64Seconds(deadline)},
                          {"readyTimeoutSeconds", absl::ToInt64Seconds(ready_timeout)}});
    world.StartScheduler("scheduler-0");
    world.RunFor(absl::Seconds(299));
    const absl::Duration length = deadline + absl::Seconds(31);
    Outage outage(world, world.Now() + length);
    world.simulator().SetFaultPlan(&outage);
    world.RunFor(length);
    world.simulator().SetFaultPlan(nullptr);
    world.RunFor(absl::Seconds(10));
    ASSERT_EQ(Taken(), 1);
    ASSERT_EQ(world.StatusOf("p").recent_runs.at(0).counts.failed, 1);
  }
  int64_t Taken() { return world.oracle().counts().created; }
  // Of one that is ready after eight minutes, while the next instant is due after five.
  void ExpectHeldUntilReady() {
    world.RunFor(absl::Minutes(3));
    EXPECT_EQ(Taken(), 1);
    world.RunFor(absl::Seconds(30));
    EXPECT_EQ(Taken(), 2);
  }

  World world{{}};
};

TEST_F(UnseenPostTest, IsNotCalledFailedForEver) {
  Start(absl::Seconds(30), absl::Minutes(2), absl::Minutes(10));
  world.RunFor(absl::Minutes(2));
  const PolicyStatus status = world.StatusOf("p");
  ASSERT_EQ(status.recent_runs.size(), 1u);
  EXPECT_EQ(status.recent_runs[0].counts.failed, 0);
  EXPECT_EQ(status.recent_runs[0].counts.succeeded_late, 1);
}

TEST_F(UnseenPostTest, HoldsTheNextRunOfItsVolumeUntilItIsReady) {
  Start(absl::Seconds(250), absl::Minutes(8), absl::Minutes(10));
  ExpectHeldUntilReady();
}

TEST_F(UnseenPostTest, HoldsTheNextRunOfItsVolumeAfterFailover) {
  Start(absl::Seconds(250), absl::Minutes(8), absl::Minutes(10));
  world.Kill("scheduler-0");
  world.StartScheduler("scheduler-1");
  ExpectHeldUntilReady();
}

TEST_F(UnseenPostTest, HoldsNoRunOfItsVolumeOnceItIsPastItsReadyTimeout) {
  Start(absl::Seconds(250), absl::Hours(8), absl::Seconds(400));
  world.RunFor(absl::Seconds(100));
  EXPECT_EQ(Taken(), 1);
  world.RunFor(absl::Seconds(15));
  EXPECT_EQ(Taken(), 2);
}

TEST_F(UnseenPostTest, HoldsNoRunOfItsVolumeOnceItIsGone) {
  Start(absl::Seconds(250), absl::Hours(8), absl::Minutes(10));
  world.RunFor(absl::Minutes(1));
  ASSERT_EQ(Taken(), 1);
  const auto gone = world.simulator().store().Delete(
      {Kind::kSnapshot, "default", world.SnapshotsOf("p").at(0)->meta.name}, {}, "user");
  ASSERT_TRUE(gone.ok()) << gone.status();
  world.RunFor(absl::Seconds(1));
  EXPECT_EQ(Taken(), 2);
}

TEST_F(UnseenPostTest, IsAnOverlapAtTheStartingDeadlineOfTheNextRun) {
  Start(absl::Seconds(250), absl::Hours(8), absl::Hours(1));
  world.RunFor(absl::Seconds(280));
  EXPECT_EQ(Taken(), 1);
  EXPECT_THAT(Outcomes(world.StatusOf("p")),
              ::testing::ElementsAre("1 failed (DeadlineExceeded)", "1 skipped (Overlap)"));
}

// A policy whose first run takes ten minutes; the limit of its history is raised from 2 to 20 when
// younger runs have gone from the record.
class HistoryLimitTest : public ::testing::Test {
 protected:
  void SetUp() override {
    world.simulator().AddSnapshotClass("slow", kSimDriver, false);
    world.simulator().volumes().SetBehaviour(
        "slow", {.cut_after = absl::Seconds(1), .ready_after = absl::Seconds(590)});
    world.simulator().AddClaim("default", "a-slow", {{"app", "db"}});
    world.StartExecutor("executor-0");
    world.AddPolicy("p", {{"schedule", "@every 60s"},
                          {"startingDeadlineSeconds", 20},
                          {"runHistoryLimit", 2},
                          {"snapshotClassName", "slow"},
                          {"readyTimeoutSeconds", 3600},
                          {"retention", {{"keepLast", 8}}}});
    world.StartScheduler("scheduler-0");
    world.RunFor(absl::Seconds(65));
    world.PatchPolicy("p", {{"spec", {{"snapshotClassName", "sim"}}}});
    world.simulator().AddClaim("default", "b-fast", {{"app", "db"}});
    world.RunFor(absl::Seconds(420));
    world.PatchPolicy("p", {{"spec", {{"runHistoryLimit", 20}}}});
  }

  World world{{.quarantine = absl::Seconds(5)}};
};

TEST_F(HistoryLimitTest, NoSettledRunComesBack) {
  std::set<absl::Time> odd;
  for (int i = 0; i < 600; ++i) {
    world.RunFor(absl::Seconds(1));
    for (const RunRecord& run : world.StatusOf("p").recent_runs) {
      for (const RunFailure& f : run.failures) {
        if (f.reason == Reason::kDeleted) odd.insert(run.instant);
      }
    }
  }
  EXPECT_THAT(odd, IsEmpty());
  EXPECT_EQ(world.StatusOf("p").missed_runs, 0);
  EXPECT_THAT(world.oracle().violations(), IsEmpty());
}

TEST_F(HistoryLimitTest, TheNextSchedulerMakesNoNegativeCount) {
  world.RunFor(absl::Seconds(180));  // the first has settled
  world.Kill("scheduler-0");
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Seconds(90));
  EXPECT_EQ(world.StatusOf("p").epoch, 2);  // it could write its status at all
}

TEST(RecoveryTest, ASchedulerWhoseClockWasWrongAtItsStartPrunesOnceItIsRight) {
  World world({.quarantine = absl::Seconds(5)});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 10s"}, {"retention", {{"keepLast", 3}}}});
  world.RunFor(absl::Seconds(3));
  world.StartScheduler("scheduler-0");
  world.SetClockOffset("scheduler-0", absl::Hours(24));
  world.RunFor(absl::Seconds(30));
  world.SetClockOffset("scheduler-0", absl::ZeroDuration());
  world.RunFor(absl::Minutes(10));
  EXPECT_LE(world.SnapshotsOf("p").size(), 6u);
}

TEST(RecoveryTest, AnEditSeenByAWrongClockLosesNoLaterInstant) {
  World world({.quarantine = absl::Seconds(5)});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 15s"}, {"startingDeadlineSeconds", 60}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(60));
  world.SetClockOffset("scheduler-0", absl::Hours(24));
  world.RunFor(absl::Seconds(20));
  world.PatchPolicy("p", {{"spec", {{"schedule", "@every 10s"}}}});
  world.RunFor(absl::Seconds(5));
  world.SetClockOffset("scheduler-0", absl::ZeroDuration());
  world.RunFor(absl::Minutes(2));
  world.Kill("scheduler-0");
  world.RunFor(absl::Seconds(50));
  const int64_t missed = world.StatusOf("p").missed_runs;
  const int64_t created = world.oracle().counts().created;
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Seconds(3));
  EXPECT_EQ(world.StatusOf("p").missed_runs - missed, 4);
  EXPECT_EQ(world.oracle().counts().created - created, 1);
}

TEST(RecoveryTest, APolicyDeletedWhileItsJobIsAtAnExecutorThatDiesIsNotSnapshotted) {
  World world({});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.StartExecutor("executor-1");
  world.AddPolicy("p", {{"schedule", "@every 60s"}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(59));
  world.Freeze("executor-0", true);
  world.Freeze("executor-1", true);
  world.RunFor(absl::Seconds(2));
  world.DeletePolicy("p");
  world.RunFor(absl::Seconds(1));
  world.Kill("executor-0");
  world.Kill("executor-1");
  world.StartExecutor("executor-1");
  world.RunFor(absl::Seconds(20));
  EXPECT_EQ(world.oracle().counts().created, 0);
}

// The first POST is carried out, and nobody can see it for a while; the second is refused.
class RefusedAgain : public FaultPlan {
 public:
  Fault OnRequest(std::string_view, Verb verb, const ObjectKey& key) override {
    if (key.kind != Kind::kSnapshot) return {};
    if (verb == Verb::kGet) return Fault::Fail(absl::UnavailableError("away"));
    if (verb != Verb::kCreate) return {};
    if (posts_++ == 0) return {.reply = absl::UnavailableError("the connection was reset")};
    return Fault::Fail(
        WithReason(absl::PermissionDeniedError("exceeded quota"), Reason::kQuotaExceeded));
  }
  EventFault OnEvent(std::string_view, Kind kind) override {
    return {.delay = kind == Kind::kSnapshot ? absl::Seconds(10) : absl::ZeroDuration()};
  }

 private:
  int posts_ = 0;
};

TEST(RecoveryTest, APostThatWasCarriedOutUnseenAndThenRefusedIsNotCalledFailedForEver) {
  World world({});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 10m"}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(599));
  RefusedAgain faults;
  world.simulator().SetFaultPlan(&faults);
  world.RunFor(absl::Seconds(8));
  ASSERT_THAT(Outcomes(world.StatusOf("p")), ::testing::ElementsAre("1 failed (QuotaExceeded)"));
  EXPECT_FALSE(world.StatusOf("p").last_successful_time);
  world.RunFor(absl::Seconds(30));
  world.simulator().SetFaultPlan(nullptr);
  EXPECT_EQ(world.StatusOf("p").recent_runs.at(0).counts.succeeded_late, 1);
  EXPECT_TRUE(world.StatusOf("p").last_successful_time);
}

TEST(RecoveryTest, ARunThatTurnedUpHasAnOutcomeOfEachOfItsVolumes) {
  World world({});
  for (const char* name : {"a", "b", "c"})
    world.simulator().AddClaim("default", name, {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 60s"}, {"startingDeadlineSeconds", 10}});
  world.RunFor(absl::Seconds(140));  // two instants are missed
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(20));
  ASSERT_EQ(world.StatusOf("p").missed_runs, 2);
  world.PostAsAnother("p", "a", absl::FromUnixSeconds(1'767'225'600) + absl::Seconds(120));
  world.RunFor(absl::Seconds(30));
  EXPECT_EQ(world.StatusOf("p").missed_runs, 1);
  EXPECT_THAT(Outcomes(world.StatusOf("p")),
              ::testing::ElementsAre("1 succeeded, 2 failed (DeadlineExceeded)", "3 succeeded"));
}

// A snapshot of an instant that was counted as missed turns up, while more could be taken of it.
class TurnedUpTest : public ::testing::Test {
 protected:
  TurnedUpTest() : world_({}) {
    for (const char* name : {"a", "b", "c"})
      world_.simulator().AddClaim("default", name, {{"app", "db"}});
    world_.StartExecutor("executor-0");
    world_.AddPolicy("p", {{"schedule", "@every 60s"},
                           {"missedRunPolicy", "Skip"},
                           {"startingDeadlineSeconds", 300}});
    world_.RunFor(absl::Seconds(140));
    world_.StartScheduler("scheduler-0");
    world_.RunFor(absl::Seconds(20));
    EXPECT_EQ(world_.StatusOf("p").missed_runs, 2);
    world_.PostAsAnother("p", "a", absl::FromUnixSeconds(1'767'225'600) + absl::Seconds(120));
    world_.RunFor(absl::Seconds(5));
  }
  World world_;
};

TEST_F(TurnedUpTest, TakesNothingOfAPolicyThatIsGone) {
  world_.DeletePolicy("p");
  world_.RunFor(absl::Minutes(2));
  EXPECT_EQ(world_.oracle().counts().created, 1);
}

TEST_F(TurnedUpTest, IsCompletedByTheNextScheduler) {
  world_.Kill("executor-0");
  world_.RunFor(absl::Seconds(27));  // the next instant's run is written
  ASSERT_EQ(world_.StatusOf("p").recent_runs.size(), 2u);
  world_.Kill("scheduler-0");
  world_.StartExecutor("executor-0");
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Seconds(20));
  EXPECT_THAT(Outcomes(world_.StatusOf("p")), ::testing::ElementsAre("3 succeeded", "3 succeeded"));
}

TEST(RecoveryTest, AMissedInstantThatComesAgainIsMissedNoMore) {
  World world({});
  for (const char* name : {"a", "b"}) world.simulator().AddClaim("default", name, {{"app", "db"}});
  world.RunFor(absl::Seconds(3));
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 10m"}, {"missedRunPolicy", "Skip"}});
  world.RunFor(absl::Minutes(65));
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Minutes(1));
  ASSERT_EQ(world.StatusOf("p").missed_runs, 6);
  world.StepClocks(-absl::Hours(1));
  world.RunFor(absl::Minutes(10));
  EXPECT_EQ(world.StatusOf("p").missed_runs, 5);
  EXPECT_THAT(Outcomes(world.StatusOf("p")), ::testing::ElementsAre("2 succeeded"));
  EXPECT_THAT(world.MetricsOf("scheduler-0"),
              ::testing::HasSubstr(R"(outcome="Succeeded",reason=""} 2)"));
}

// Its run is taken up without it, as one that has vanished.
TEST(RecoveryTest, AVolumeWhoseSnapshotIsSeenLateIsCountedOnce) {
  World world({.ready_after = absl::Seconds(60)});
  for (const char* name : {"a", "b"}) world.simulator().AddClaim("default", name, {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 10m"}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(620));
  ASSERT_EQ(world.StatusOf("p").recent_runs.at(0).counts.pending, 2);
  world.Kill("scheduler-0");
  Store& store = world.simulator().store();
  const std::string name = world.SnapshotsOf("p").at(1)->meta.name;
  const auto hide = [&](const char* managed) {
    const auto patched = store.Patch(
        {Kind::kSnapshot, "default", name},
        {{"metadata", {{"labels", {{"app.kubernetes.io/managed-by", managed}}}}}}, false, "user");
    ASSERT_TRUE(patched.ok()) << patched.status();
  };
  hide("nobody");
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Seconds(10));
  hide("snapkeeper");
  world.RunFor(absl::Minutes(2));
  EXPECT_THAT(Outcomes(world.StatusOf("p")), ::testing::ElementsAre("2 succeeded"));
}

TEST(RecoveryTest, APolicyThatComesBackWithTheSameUidGoesOn) {
  World world({.ready_after = absl::Seconds(90)});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 60s"}, {"startingDeadlineSeconds", 30}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(70));  // a run is open
  const ObjectKey key{Kind::kPolicy, "default", "p"};
  Store& store = world.simulator().store();
  const nlohmann::json policy = *store.JsonOf(key);
  world.DeletePolicy("p");
  world.RunFor(absl::Seconds(5));
  world.AddPolicy("p", policy["spec"]);
  store.Edit(key, "etcd", [&policy](nlohmann::json& object) {
    object["metadata"]["uid"] = policy["metadata"]["uid"];
    return true;
  });
  world.RunFor(absl::Minutes(10));
  EXPECT_GE(world.SnapshotsOf("p").size(), 5u);
}

TEST(RecoveryTest, WhatWasSuspendedAndResumedUnderAWrongClockDoesNotFireThePast) {
  World world({});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 10m"}, {"startingDeadlineSeconds", 3000}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Minutes(11));
  world.SetClockOffset("scheduler-0", absl::Seconds(40));
  world.RunFor(absl::Minutes(1));
  world.PatchPolicy("p", {{"spec", {{"suspend", true}}}});
  world.RunFor(absl::Minutes(20));
  world.PatchPolicy("p", {{"spec", {{"suspend", false}}}});
  world.RunFor(absl::Minutes(1));
  world.SetClockOffset("scheduler-0", absl::ZeroDuration());
  world.RunFor(absl::Minutes(1));
  EXPECT_EQ(world.oracle().counts().created, 1);
  EXPECT_EQ(world.StatusOf("p").missed_runs, 0);
  world.RunFor(absl::Minutes(10));
  EXPECT_EQ(world.oracle().counts().created, 2);
}

TEST(RecoveryTest, WhereEverybodysClockIsSetBackTheNewestSnapshotsAreKept) {
  World world({.quarantine = absl::Seconds(5)});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.RunFor(absl::Seconds(3));
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 60s"}, {"retention", {{"keepLast", 1}}}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Minutes(30));
  world.StepClocks(-absl::Minutes(20));
  world.RunFor(absl::Seconds(165));  // the quarantine of each is over where it is looked at
  int gaps = 0;
  for (int i = 0; i < 40; ++i) {
    world.RunFor(absl::Minutes(1));
    const auto snapshots = world.SnapshotsOf("p");
    const absl::Time now = world.Now();
    gaps += std::none_of(snapshots.begin(), snapshots.end(), [now](const auto& s) {
      return s->ready_to_use && s->meta.created <= now &&
             s->meta.created > now - absl::Seconds(150);
    });
    EXPECT_LE(snapshots.size(), 4u);
    const std::vector<RunRecord> runs = world.StatusOf("p").recent_runs;
    std::set<absl::Time> instants;
    for (const RunRecord& run : runs) instants.insert(run.instant);
    EXPECT_EQ(instants.size(), runs.size()) << "two records of one instant";
    EXPECT_TRUE(std::any_of(runs.begin(), runs.end(), [now](const RunRecord& r) {
      return r.instant <= now && r.instant > now - absl::Seconds(150);
    })) << i;
  }
  EXPECT_LE(gaps, 1);  // the instant whose name the newest of before has comes again
}

TEST(RecoveryTest, AClockSetBackAnHourStopsNoPolicy) {
  for (const absl::Duration back : {absl::Hours(1), absl::Hours(24 * 365)}) {
    World world({.quarantine = absl::Seconds(5)});
    world.simulator().AddClaim("default", "data", {{"app", "db"}});
    world.RunFor(absl::Seconds(3));
    world.StartExecutor("executor-0");
    world.AddPolicy("p", {{"schedule", "@every 60s"}, {"startingDeadlineSeconds", 50}});
    world.StartScheduler("scheduler-0");
    world.RunFor(absl::Minutes(5));
    world.StepClocks(back);
    world.RunFor(absl::Minutes(5));
    const absl::Time into_minute = world.Now();
    world.RunFor(absl::Ceil(into_minute - absl::UnixEpoch(), absl::Minutes(1)) -
                 (into_minute - absl::UnixEpoch()));  // a run begins
    world.StepClocks(-back);
    const int64_t created = world.oracle().counts().created;
    world.RunFor(absl::Minutes(4));
    EXPECT_GE(world.oracle().counts().created - created, 2) << back;
  }
}

TEST(RecoveryTest, ALateOutcomeNamesTheDriverThoughTheClaimIsGone) {
  for (const bool failover : {false, true}) {
    World world({.ready_after = absl::Seconds(60)});
    world.simulator().AddClaim("default", "data", {{"app", "db"}});
    world.StartExecutor("executor-0");
    world.AddPolicy("p", {{"schedule", "@every 10m"}, {"readyTimeoutSeconds", 30}});
    world.StartScheduler("scheduler-0");
    world.RunFor(absl::Seconds(640));  // it has failed
    if (failover) world.Kill("scheduler-0");
    world.DeleteClaim("data");
    world.RunFor(absl::Seconds(60));
    if (failover) world.StartScheduler("scheduler-1");
    world.RunFor(absl::Seconds(30));
    EXPECT_THAT(world.MetricsOf(failover ? "scheduler-1" : "scheduler-0"),
                HasSubstr(R"(driver="sim.snapkeeper.io",outcome="SucceededLate")"));
  }
}

TEST(RecoveryTest, OutcomesAfterFailoverNameTheDriver) {
  World world({.ready_after = absl::Seconds(40)});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 10m"}, {"readyTimeoutSeconds", 30}});
  world.AddPolicy("q", {{"schedule", "@every 10m"}, {"readyTimeoutSeconds", 300}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(635));  // p has failed, q is under way
  world.Kill("scheduler-0");
  world.RunFor(absl::Seconds(60));  // both become ready
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Seconds(30));
  const std::string metrics = world.MetricsOf("scheduler-1");
  EXPECT_THAT(metrics, HasSubstr(R"(driver="sim.snapkeeper.io",outcome="SucceededLate")"));
  EXPECT_THAT(metrics, HasSubstr(R"(driver="sim.snapkeeper.io",outcome="Succeeded")"));
  EXPECT_THAT(metrics, Not(HasSubstr(R"(driver="")")));
}

TEST(RecoveryTest, ACopyInAnotherNamespaceIsNoLateSuccess) {
  World world({.ready_after = absl::Hours(1)});
  world.simulator().AddSnapshotClass("at-once", kSimDriver, /*is_default=*/false);
  world.simulator().volumes().SetBehaviour("at-once", {});
  world.simulator().AddNamespace("elsewhere");
  for (const char* ns : {"default", "elsewhere"})
    world.simulator().AddClaim(ns, "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 10m"}, {"readyTimeoutSeconds", 30}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(640));
  ASSERT_EQ(world.StatusOf("p").recent_runs.at(0).counts.failed, 1);
  const std::string name = world.SnapshotsOf("p").at(0)->meta.name;
  world.CopySnapshot(name, {"elsewhere", name},
                     {{"metadata", {{"annotations", {{"snapkeeper.io/volume-handle", nullptr}}}}},
                      {"spec", {{"volumeSnapshotClassName", "at-once"}}}});
  world.RunFor(absl::Seconds(60));
  ASSERT_TRUE(world.simulator().store().Find<Snapshot>("elsewhere", name)->ready_to_use);
  const RunCounts counts = world.StatusOf("p").recent_runs.at(0).counts;
  EXPECT_EQ(counts.failed, 1);
  EXPECT_EQ(counts.succeeded_late, 0);
}

TEST(RecoveryTest, LateReadinessIsToldOfMoreThanTenVolumesAfterFailover) {
  World world({.ready_after = absl::Seconds(120)});
  for (int i = 0; i < 15; ++i)
    world.simulator().AddClaim("default", fmt::format("data-{:02}", i), {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("p", {{"schedule", "@every 10m"}, {"readyTimeoutSeconds", 30}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(640));
  ASSERT_EQ(world.StatusOf("p").recent_runs.at(0).counts.failed, 15);
  world.Kill("scheduler-0");
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Seconds(120));
  EXPECT_EQ(world.StatusOf("p").recent_runs.at(0).counts.succeeded_late, 15);
}

TEST(RecoveryTest, APolicyThatIsBeingDeletedDoesNotFire) {
  World world({});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("dying", {{"schedule", "@every 60s"}, {"startingDeadlineSeconds", 600}});
  world.PatchPolicy("dying", {{"metadata", {{"finalizers", {"example.com/wait"}}}}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(40));
  world.Kill("scheduler-0");
  world.DeletePolicy("dying");
  ASSERT_TRUE(world.PolicyOf("dying")->meta.deleting);
  world.RunFor(absl::Seconds(90));
  world.StartScheduler("scheduler-1");
  world.RunFor(absl::Seconds(120));
  EXPECT_EQ(world.oracle().counts().created, 0);
}

}  // namespace
}  // namespace snapkeeper
