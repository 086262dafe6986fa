#include <absl/time/time.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/model/reason.h"
#include "tests/simulation/fault_on.h"
#include "tests/simulation/world.h"

namespace snapkeeper {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ScheduleTest : public ::testing::Test {
 protected:
  ScheduleTest() : world_({.quarantine = absl::Seconds(5)}) {
    for (int i = 0; i < kClaims; ++i)
      world_.simulator().AddClaim("default", "data-" + std::to_string(i), {{"app", "db"}});
    world_.StartExecutor("executor-0");
    world_.StartExecutor("executor-1");
    // Claims exist for a while before the first instant.
    world_.RunFor(absl::Seconds(3));
  }
  std::string Uid(const std::string& policy) { return world_.PolicyOf(policy)->meta.uid; }
  // What a policy with this spec took whose volumes behave so, a day after it was deleted.
  std::vector<std::shared_ptr<const Snapshot>> OrphansAfterADay(const ClassBehaviour& behaviour,
                                                                nlohmann::json spec) {
    world_.simulator().AddSnapshotClass("never", kSimDriver, /*is_default=*/false);
    world_.simulator().volumes().SetBehaviour("never", behaviour);
    spec["schedule"] = "@every 10m";
    spec["snapshotClassName"] = "never";
    world_.AddPolicy("old", spec);
    world_.StartScheduler("scheduler-0");
    world_.RunFor(absl::Minutes(11));
    auto orphans = world_.SnapshotsOf("old");
    EXPECT_FALSE(orphans.empty());
    world_.DeletePolicy("old");
    world_.RunFor(absl::Hours(25));
    return orphans;
  }
  // Or going.
  void ExpectGone(const std::vector<std::shared_ptr<const Snapshot>>& snapshots) {
    for (const auto& snapshot : snapshots) {
      const auto left = world_.simulator().store().Find<Snapshot>("default", snapshot->meta.name);
      EXPECT_FALSE(left && !left->meta.deleting) << snapshot->meta.name;
    }
  }

  static constexpr int kClaims = 3;
  World world_;
};

TEST_F(ScheduleTest, EveryInstantGetsOneReadySnapshotOfEachVolumeAndThreeAreKept) {
  world_.AddPolicy("fast", {{"schedule", "@every 10s"}, {"retention", {{"keepLast", 3}}}});
  world_.oracle().ExpectAll(*world_.PolicyOf("fast"));
  const absl::Time created = world_.Now();
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Minutes(10));
  const std::vector<absl::Time> instants =
      Every(absl::Seconds(10), created, world_.Now() - absl::Seconds(10));
  world_.oracle().CheckTaken(Uid("fast"), instants, kClaims);
  world_.oracle().CheckAccounted(*world_.PolicyOf("fast"), instants.back());
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
  EXPECT_LE(world_.SnapshotsOf("fast").size(), 5u * kClaims);
  EXPECT_GE(world_.SnapshotsOf("fast").size(), 3u * kClaims);
  EXPECT_EQ(world_.StatusOf("fast").missed_runs, 0);
}

TEST_F(ScheduleTest, ASchedulerThatWasDownCatchesUpOnceAndCountsTheRest) {
  world_.AddPolicy("late", {{"schedule", "@every 10s"},
                            {"startingDeadlineSeconds", 60},
                            {"retention", {{"keepLast", 3}}}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Minutes(1));
  world_.Kill("scheduler-0");
  world_.RunFor(absl::Seconds(50));
  const auto before = world_.oracle().Settled(Uid("late"));
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Seconds(5));
  EXPECT_EQ(world_.StatusOf("late").missed_runs, 4);
  EXPECT_EQ(world_.oracle().Settled(Uid("late")), before + 1);
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(ScheduleTest, WithSkipNothingIsCaughtUp) {
  world_.AddPolicy(
      "skip",
      {{"schedule", "@every 10s"}, {"missedRunPolicy", "Skip"}, {"startingDeadlineSeconds", 60}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Minutes(1));
  world_.Kill("scheduler-0");
  world_.RunFor(absl::Seconds(50));
  const auto before = world_.oracle().Settled(Uid("skip"));
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Seconds(5));
  EXPECT_EQ(world_.StatusOf("skip").missed_runs, 5);
  EXPECT_EQ(world_.oracle().Settled(Uid("skip")), before);
}

TEST_F(ScheduleTest, EditingSuspendingAndResumingNeverFiresThePast) {
  world_.AddPolicy("edited", {{"schedule", "@every 60s"}, {"startingDeadlineSeconds", 600}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Seconds(130));
  const int64_t taken = world_.oracle().counts().created;
  world_.PatchPolicy("edited", {{"spec", {{"suspend", true}}}});
  world_.RunFor(absl::Seconds(240));
  EXPECT_EQ(world_.oracle().counts().created, taken);
  world_.PatchPolicy("edited", {{"spec", {{"suspend", false}}}});
  world_.RunFor(absl::Seconds(1));
  EXPECT_EQ(world_.oracle().counts().created, taken);
  // Also while nobody schedules.
  world_.Kill("scheduler-0");
  world_.PatchPolicy("edited", {{"spec", {{"schedule", "@every 90s"}}}});
  world_.RunFor(absl::Seconds(200));
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Seconds(1));
  EXPECT_EQ(world_.oracle().counts().created, taken);
  world_.RunFor(absl::Seconds(90));
  EXPECT_EQ(world_.oracle().counts().created, taken + kClaims);
  EXPECT_EQ(world_.StatusOf("edited").missed_runs, 0);
}

TEST_F(ScheduleTest, SuspendingAndResumingWhileNobodySchedulesNeverFiresThePast) {
  world_.AddPolicy("resumed", {{"schedule", "@every 60s"}, {"startingDeadlineSeconds", 600}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Seconds(130));
  const int64_t taken = world_.oracle().counts().created;
  world_.Kill("scheduler-0");
  world_.PatchPolicy("resumed", {{"spec", {{"suspend", true}}}});
  world_.RunFor(absl::Seconds(200));
  world_.PatchPolicy("resumed", {{"spec", {{"suspend", false}}}});
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Seconds(20));
  EXPECT_EQ(world_.oracle().counts().created, taken);
  world_.RunFor(absl::Seconds(60));
  EXPECT_EQ(world_.oracle().counts().created, taken + kClaims);
  EXPECT_EQ(world_.StatusOf("resumed").missed_runs, 0);
}

TEST_F(ScheduleTest, AnEditOfSomethingElseWhileNobodySchedulesLosesNoInstant) {
  world_.AddPolicy("kept", {{"schedule", "@every 60s"}, {"startingDeadlineSeconds", 600}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Seconds(130));
  const int64_t taken = world_.oracle().counts().created;
  world_.Kill("scheduler-0");
  world_.PatchPolicy("kept", {{"spec", {{"runHistoryLimit", 5}}}});
  world_.RunFor(absl::Seconds(200));
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Seconds(10));
  EXPECT_EQ(world_.oracle().counts().created, taken + kClaims);
  EXPECT_EQ(world_.StatusOf("kept").missed_runs, 2);
}

TEST_F(ScheduleTest, TheStatusFollowsClaimsAndSnapshotsThatComeAndGoBetweenRuns) {
  world_.AddPolicy("daily", {{"schedule", "@every 24h"}});
  world_.StartScheduler("scheduler-0");
  auto& store = world_.simulator().store();
  const auto protection = [this] {
    world_.RunFor(absl::Seconds(15));
    const PolicyStatus status = world_.StatusOf("daily");
    for (const Condition& c : status.conditions) {
      if (c.type == "Protected") return fmt::format("{} of {}", c.reason, status.selected_volumes);
    }
    return std::string("untold");
  };
  const auto take = [&store](const std::string& claim, const std::string& name) {
    ASSERT_TRUE(store
                    .Create(Kind::kSnapshot,
                            {{"metadata", {{"namespace", "default"}, {"name", name}}},
                             {"spec", {{"source", {{"persistentVolumeClaimName", claim}}}}}},
                            "admin")
                    .ok());
  };
  const auto remove = [&store](Kind kind, const std::string& name) {
    ASSERT_TRUE(store.Delete({kind, "default", name}, {}, "admin").ok());
  };
  EXPECT_EQ(protection(), "NoReadySnapshot of 3");
  for (const char* claim : {"data-0", "data-1", "data-2"}) take(claim, fmt::format("of-{}", claim));
  EXPECT_EQ(protection(), "AllVolumes of 3");
  const int64_t writes = world_.oracle().counts().status_writes;
  take("data-0", "another");
  EXPECT_EQ(protection(), "AllVolumes of 3");
  EXPECT_EQ(world_.oracle().counts().status_writes, writes);
  remove(Kind::kSnapshot, "of-data-1");
  EXPECT_EQ(protection(), "NoReadySnapshot of 3");
  remove(Kind::kClaim, "data-1");
  EXPECT_EQ(protection(), "AllVolumes of 2");
  world_.simulator().AddClaim("default", "data-3", {{"app", "db"}});
  EXPECT_EQ(protection(), "NoReadySnapshot of 3");
  // Also while nobody schedules.
  world_.Kill("scheduler-0");
  take("data-3", "of-data-3");
  world_.RunFor(absl::Seconds(15));
  world_.StartScheduler("scheduler-1");
  EXPECT_EQ(protection(), "AllVolumes of 3");
}

TEST_F(ScheduleTest, AnExecutorThatCannotWorkKeepsNobodyFromTheirSnapshots) {
  world_.SetClockOffset("executor-0", absl::Hours(1));
  world_.AddPolicy("fast", {{"schedule", "@every 60s"},
                            {"startingDeadlineSeconds", 10},
                            {"retention", {{"keepLast", 2}}}});
  const absl::Time created = world_.Now();
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Minutes(10));
  world_.oracle().CheckTaken(
      Uid("fast"), Every(absl::Seconds(60), created, world_.Now() - absl::Seconds(10)), kClaims);
  EXPECT_LE(world_.SnapshotsOf("fast").size(), 4u * kClaims);
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

// Only the first snapshot can be taken, and no status of a policy is.
class OneCreate : public FaultPlan {
 public:
  Fault OnRequest(std::string_view, Verb verb, const ObjectKey& key) override {
    const bool create = verb == Verb::kCreate && key.kind == Kind::kSnapshot;
    const bool status = verb == Verb::kPatch && key.kind == Kind::kPolicy;
    return status || (create && created_++ > 0) ? Fault::Fail(absl::UnavailableError("down"))
                                                : Fault();
  }
  EventFault OnEvent(std::string_view, Kind) override { return {}; }

 private:
  int created_ = 0;
};

// The scheduler died in a run of which one snapshot is there, and nothing is written.
class UnwrittenTest : public ScheduleTest {
 protected:
  UnwrittenTest() {
    world_.AddPolicy("edited", {{"schedule", "@every 10m"}, {"startingDeadlineSeconds", 300}});
    world_.StartScheduler("scheduler-0");
    OneCreate faults;
    world_.simulator().SetFaultPlan(&faults);
    while (world_.SnapshotsOf("edited").empty()) world_.RunFor(absl::Seconds(1));
    world_.Kill("scheduler-0");
    world_.RunFor(absl::Seconds(5));
    world_.simulator().SetFaultPlan(nullptr);
  }
  void Edit(const nlohmann::json& spec) { world_.PatchPolicy("edited", {{"spec", spec}}); }
  std::vector<std::string> OutcomesOfTheNextScheduler() {
    world_.StartScheduler("scheduler-1");
    world_.RunFor(absl::Minutes(1));
    EXPECT_THAT(world_.oracle().violations(), IsEmpty());
    return Outcomes(world_.StatusOf("edited"));
  }
};

TEST_F(UnwrittenTest, IsCompletedByTheNextScheduler) {
  EXPECT_THAT(OutcomesOfTheNextScheduler(), ElementsAre("3 succeeded"));
}

TEST_F(UnwrittenTest, IsCancelledWhereThePolicyWasSuspendedMeanwhile) {
  Edit({{"suspend", true}});
  EXPECT_THAT(OutcomesOfTheNextScheduler(), ElementsAre("1 succeeded, 2 cancelled"));
  EXPECT_EQ(world_.oracle().counts().created, 1);
  EXPECT_FALSE(world_.StatusOf("edited").last_successful_time);
}

struct Edited {
  const char* what;
  std::vector<nlohmann::json> specs;  // one after the other
};
class EditedMeanwhileTest : public UnwrittenTest, public ::testing::WithParamInterface<Edited> {};

TEST_P(EditedMeanwhileTest, IsSkippedByTheNextScheduler) {
  for (const nlohmann::json& spec : GetParam().specs) Edit(spec);
  EXPECT_THAT(OutcomesOfTheNextScheduler(), ElementsAre("1 succeeded, 2 skipped (PolicyChanged)"));
  EXPECT_EQ(world_.oracle().counts().created, 1);
}

const Edited kEdits[] = {
    {"Schedule", {{{"schedule", "@every 1h"}}}},
    {"Resumed", {{{"suspend", true}}, {{"suspend", false}}}},
    {"Selector", {{{"selector", {{"matchLabels", nullptr}}}}}},
    {"ReadyTimeout", {{{"readyTimeoutSeconds", 300}}}},
};
INSTANTIATE_TEST_SUITE_P(All, EditedMeanwhileTest, ::testing::ValuesIn(kEdits),
                         [](const auto& edited) { return edited.param.what; });

TEST_F(UnwrittenTest, TakesNothingThatAnEditedPolicySelectsInstead) {
  for (const char* claim : {"other-0", "other-1"})
    world_.simulator().AddClaim("default", claim, {{"app", "other"}});
  Edit({{"selector", {{"matchLabels", {{"app", "other"}}}}}});
  EXPECT_THAT(OutcomesOfTheNextScheduler(), ElementsAre("1 succeeded"));
  EXPECT_EQ(world_.oracle().counts().created, 1);
}

TEST_F(UnwrittenTest, IsRecordedWithNoTimeOfAWrongClock) {
  Edit({{"readyTimeoutSeconds", 300}});
  world_.StartScheduler("scheduler-1");
  world_.SetClockOffset("scheduler-1", absl::Hours(24 * 365));
  world_.RunFor(absl::Minutes(1));
  for (const RunRecord& run : world_.StatusOf("edited").recent_runs) {
    EXPECT_LE(*run.start_time, world_.Now());
    EXPECT_FALSE(run.posted_time);
  }
  world_.SetClockOffset("scheduler-1", absl::ZeroDuration());
  world_.RunFor(absl::Minutes(2));
  const PolicyStatus status = world_.StatusOf("edited");
  EXPECT_THAT(Outcomes(status), ElementsAre("1 succeeded, 2 skipped (PolicyChanged)"));
  EXPECT_LE(*status.recent_runs.at(0).start_time, world_.Now());
  EXPECT_LE(*status.recent_runs.at(0).completion_time, world_.Now());
}

TEST(OrderTest, TheVolumesThatWereProtectedLongestAgoGoFirst) {
  World world({.cut_after = absl::Seconds(30)});
  const int cap = DriverProfile().max_creating;
  for (int i = 0; i < 2 * cap; ++i) {
    const std::string claim = fmt::format("data-{}", i);
    world.simulator().AddClaim("default", claim, {{"app", "db"}});
    ASSERT_TRUE(world.simulator()
                    .store()
                    .Create(Kind::kSnapshot,
                            {{"metadata", {{"namespace", "default"}, {"name", claim}}},
                             {"spec", {{"source", {{"persistentVolumeClaimName", claim}}}}}},
                            "admin")
                    .ok());
  }
  world.simulator().AddClaim("default", "unprotected", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.StartExecutor("executor-1");
  world.RunFor(absl::Minutes(1));
  world.AddPolicy("wide", {{"schedule", "@every 5m"}, {"startingDeadlineSeconds", 120}});
  world.StartScheduler("scheduler-0");
  while (world.SnapshotsOf("wide").empty()) world.RunFor(absl::Seconds(1));
  ASSERT_EQ(world.oracle().counts().created, cap);
  const auto taken = world.SnapshotsOf("wide");
  EXPECT_TRUE(std::any_of(taken.begin(), taken.end(), [](const auto& snapshot) {
    return snapshot->source_claim == "unprotected";
  }));
}

TEST(ClaimTest, OneThatIsGoneOrReplacedBeforeItsSnapshotIsAskedForEndsTheWaitAtOnce) {
  World world({.cut_after = absl::Seconds(30)});
  auto& store = world.simulator().store();
  const auto add = [&world](const std::string& claim) {
    world.simulator().AddClaim("default", claim, {{"app", "db"}});
  };
  const int cap = DriverProfile().max_creating;
  for (int i = 0; i < cap; ++i) add("a-" + std::to_string(i));
  for (const char* claim : {"b-gone", "b-replaced", "b-stays"}) add(claim);
  world.StartExecutor("executor-0");
  world.StartExecutor("executor-1");
  world.AddPolicy("waits", {{"schedule", "@every 60s"}, {"startingDeadlineSeconds", 50}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Seconds(62));
  ASSERT_EQ(world.oracle().counts().created, cap);

  // It learns of the second by a list: another claim of the same name.
  world.Freeze("scheduler-0", true);
  world.simulator().BreakWatches("scheduler-0", WatchBreak::kEnd);
  ASSERT_TRUE(store.Delete({Kind::kClaim, "default", "b-gone"}, {}, "admin").ok());
  ASSERT_TRUE(store.Delete({Kind::kClaim, "default", "b-replaced"}, {}, "admin").ok());
  add("b-replaced");
  store.ExpireHistory();
  world.Freeze("scheduler-0", false);
  world.RunFor(absl::Seconds(50));

  const std::vector<RunRecord> runs = world.StatusOf("waits").recent_runs;
  ASSERT_EQ(runs.size(), 1u);
  ASSERT_EQ(runs[0].failures.size(), 2u);
  EXPECT_EQ(runs[0].failures[0].reason, Reason::kClaimNotFound);
  EXPECT_EQ(runs[0].failures[1].reason, Reason::kClaimReplaced);
  EXPECT_EQ(runs[0].counts.succeeded + runs[0].counts.pending, cap + 1);
  EXPECT_THAT(world.oracle().violations(), IsEmpty());
}

TEST_F(ScheduleTest, AnInstantFiredAfterAnEditIsNotForgottenWhenItsSchedulerDiesSoonAfter) {
  world_.AddPolicy("busy", {{"schedule", "@every 10s"}, {"startingDeadlineSeconds", 300}});
  world_.AddPolicy("edited", {{"schedule", "@every 1h"}, {"startingDeadlineSeconds", 300}});
  world_.StartScheduler("scheduler-0");
  const auto instants = Every(absl::Minutes(1), world_.Now(), world_.Now() + absl::Minutes(1));
  world_.RunFor(instants.front() - world_.Now() - absl::Seconds(12));
  world_.Freeze("executor-0", true);
  world_.Freeze("executor-1", true);
  world_.RunFor(absl::Seconds(8));  // "busy" cannot be posted
  world_.PatchPolicy("edited", {{"spec", {{"schedule", "@every 1m"}}}});
  world_.RunFor(absl::Seconds(5));
  for (const char* name : {"scheduler-0", "executor-0", "executor-1"}) world_.Kill(name);
  world_.StartExecutor("executor-0");
  world_.StartExecutor("executor-1");
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Seconds(30));
  world_.oracle().CheckTaken(Uid("edited"), instants, kClaims);
  EXPECT_EQ(world_.StatusOf("edited").missed_runs, 0);
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(ScheduleTest, ARunThatCouldNotBePostedYetIsTakenOverByTheNextScheduler) {
  world_.AddPolicy("busy", {{"schedule", "@every 10s"}, {"startingDeadlineSeconds", 300}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Seconds(30));
  const auto instants = Every(absl::Seconds(10), world_.Now(), world_.Now() + absl::Seconds(20));
  world_.RunFor(instants.front() - world_.Now() - absl::Seconds(1));
  world_.Freeze("executor-0", true);
  world_.Freeze("executor-1", true);
  world_.RunFor(absl::Seconds(13));  // both have fired; the first is with an executor
  for (const char* name : {"scheduler-0", "executor-0", "executor-1"}) world_.Kill(name);
  world_.StartExecutor("executor-0");
  world_.StartExecutor("executor-1");
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Seconds(30));
  EXPECT_EQ(world_.StatusOf("busy").missed_runs, 0);
  world_.oracle().CheckTaken(Uid("busy"), instants, kClaims);
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(ScheduleTest, AStatusThatCouldNotBeWrittenForLongIsWrittenWhenItCan) {
  world_.AddPolicy(
      "mute",
      {{"schedule", "@every 10s"}, {"runHistoryLimit", 20}, {"retention", {{"keepLast", 100}}}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Seconds(5));
  FaultOn refused(Verb::kPatch, Kind::kPolicy, Fault::Fail(absl::PermissionDeniedError("no")));
  world_.simulator().SetFaultPlan(&refused);
  world_.RunFor(absl::Minutes(10));
  world_.simulator().SetFaultPlan(nullptr);
  world_.RunFor(absl::Minutes(2));
  const PolicyStatus status = world_.StatusOf("mute");
  ASSERT_THAT(status.recent_runs, ::testing::Not(IsEmpty()));
  EXPECT_GE(status.recent_runs.front().instant, world_.Now() - absl::Seconds(20));
  EXPECT_EQ(status.missed_runs, 0);
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(ScheduleTest, ASnapshotIsNotPrunedBeforeItsOutcomeIsWritten) {
  world_.AddPolicy("mute", {{"schedule", "@every 20s"}, {"retention", {{"keepLast", 1}}}});
  world_.oracle().ExpectAll(*world_.PolicyOf("mute"));
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Minutes(1));
  FaultOn refused(Verb::kPatch, Kind::kPolicy, Fault::Fail(absl::PermissionDeniedError("no")));
  world_.simulator().SetFaultPlan(&refused);
  world_.RunFor(absl::Minutes(1));
  world_.Kill("scheduler-0");
  world_.simulator().SetFaultPlan(nullptr);
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Minutes(1));
  EXPECT_EQ(world_.StatusOf("mute").missed_runs, 0);
  EXPECT_LE(world_.SnapshotsOf("mute").size(), 2u * kClaims);
  world_.oracle().CheckAccounted(*world_.PolicyOf("mute"), world_.Now() - absl::Seconds(20));
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(ScheduleTest, ASnapshotOfAClaimThatWasReplacedProtectsItsSuccessorNot) {
  world_.AddPolicy("p", {{"schedule", "@every 1h"}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Minutes(61));
  const auto is_protected = [this] {
    for (const Condition& c : world_.StatusOf("p").conditions) {
      if (c.type == kProtected) return c.status;
    }
    return false;
  };
  const auto last_ready = [this] {
    const std::string metrics = world_.MetricsOf("scheduler-0");
    const size_t at = metrics.find("\nsnapkeeper_last_ready_timestamp_seconds{");
    return metrics.substr(metrics.find("} ", at) + 2, 2);
  };
  ASSERT_TRUE(is_protected());
  ASSERT_NE(last_ready(), "0\n");
  world_.DeleteClaim("data-0");
  world_.simulator().AddClaim("default", "data-0", {{"app", "db"}});
  world_.RunFor(absl::Minutes(1));
  EXPECT_FALSE(is_protected());
  EXPECT_EQ(last_ready(), "0\n");
  world_.RunFor(absl::Minutes(61));
  EXPECT_TRUE(is_protected());
}

TEST_F(ScheduleTest, WhatSettlesBeforeAllIsReadIsWrittenThen) {
  world_.AddPolicy("early", {{"schedule", "@every 10m"}, {"retention", {{"keepLast", 3}}}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Minutes(1));
  world_.Kill("scheduler-0");
  FaultOn slow(Verb::kList, Kind::kContent, {.request_delay = absl::Seconds(25)});
  world_.simulator().SetFaultPlan(&slow);
  world_.RunFor(absl::Seconds(530));
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Minutes(1));
  world_.simulator().SetFaultPlan(nullptr);
  ASSERT_THAT(world_.StatusOf("early").recent_runs, ::testing::SizeIs(1));
  EXPECT_EQ(world_.StatusOf("early").recent_runs[0].state, RunState::kSucceeded);
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(ScheduleTest, WhereEverybodysClockIsAYearAheadNothingIsLost) {
  world_.AddPolicy("count", {{"schedule", "@every 10s"},
                             {"startingDeadlineSeconds", 60},
                             {"retention", {{"keepLast", 3}}}});
  world_.AddPolicy("age", {{"schedule", "@every 1m"},
                           {"startingDeadlineSeconds", 60},
                           {"retention", {{"maxAge", "5m"}}}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Minutes(10));
  for (const absl::Duration step : {absl::Hours(24) * 365, -absl::Hours(24) * 365}) {
    const int64_t created = world_.oracle().counts().created;
    world_.StepClocks(step);
    world_.RunFor(absl::Minutes(10));
    // Six instants a minute of the one, one of the other, of three volumes each.
    EXPECT_GE(world_.oracle().counts().created - created, (6 + 1) * 9 * kClaims) << step;
    for (const char* policy : {"count", "age"}) {
      EXPECT_GE(world_.SnapshotsOf(policy).size(), 3u * kClaims) << step;
      EXPECT_GE(world_.StatusOf(policy).recent_runs.size(), 5u);
    }
    EXPECT_THAT(world_.oracle().violations(), IsEmpty());
  }
}

TEST_F(ScheduleTest, TheNextSchedulerWritesNothingWhereAllIsWritten) {
  world_.AddPolicy("quiet", {{"schedule", "@every 1h"}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Minutes(61));
  ASSERT_THAT(world_.StatusOf("quiet").recent_runs, SizeIs(1));
  const int64_t writes = world_.oracle().counts().status_writes;
  world_.Kill("scheduler-0");
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Minutes(1));
  EXPECT_EQ(world_.oracle().counts().status_writes, writes);
}

TEST_F(ScheduleTest, TheLaterOfTwoSchedulersWins) {
  world_.AddPolicy("two", {{"schedule", "@every 10s"}, {"retention", {{"keepLast", 3}}}});
  world_.oracle().ExpectAll(*world_.PolicyOf("two"));
  const absl::Time created = world_.Now();
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Seconds(25));
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Seconds(1));
  EXPECT_TRUE(world_.Deposed("scheduler-0"));
  EXPECT_FALSE(world_.Deposed("scheduler-1"));
  world_.RunFor(absl::Minutes(1));
  const auto instants = Every(absl::Seconds(10), created, world_.Now() - absl::Seconds(10));
  world_.oracle().CheckTaken(Uid("two"), instants, kClaims);
  world_.oracle().CheckAccounted(*world_.PolicyOf("two"), instants.back());
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(ScheduleTest, ACopyInAnotherNamespaceIsNotAnOrphanOfOurs) {
  world_.simulator().AddSnapshotClass("never", kSimDriver, /*is_default=*/false);
  world_.simulator().volumes().SetBehaviour("never", {.never_bound = true});
  world_.simulator().AddNamespace("copies");
  world_.simulator().AddClaim("copies", "data-0", {});
  world_.AddPolicy("fast", {{"schedule", "@every 10m"}, {"retention", {{"keepLast", 3}}}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Minutes(11));
  std::shared_ptr<const Snapshot> ours;
  for (const auto& snapshot : world_.SnapshotsOf("fast")) {
    if (snapshot->source_claim == "data-0") ours = snapshot;
  }
  ASSERT_TRUE(ours);
  world_.CopySnapshot(ours->meta.name, {"copies", ours->meta.name},
                      {{"spec", {{"volumeSnapshotClassName", "never"}}}});
  world_.RunFor(absl::Minutes(1));
  world_.DeletePolicy("fast");
  world_.RunFor(absl::Hours(25));
  const auto left = world_.simulator().store().Find<Snapshot>("copies", ours->meta.name);
  EXPECT_TRUE(left && !left->meta.deleting);
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(ScheduleTest, ClocksThatAreBothGoodEnoughPruneAsOnesThatAgree) {
  world_.AddPolicy("fast", {{"schedule", "@every 10s"}, {"retention", {{"keepLast", 2}}}});
  world_.SetClockOffset("executor-0", -absl::Seconds(20));
  world_.SetClockOffset("executor-1", -absl::Seconds(20));
  world_.StartScheduler("scheduler-0");
  world_.SetClockOffset("scheduler-0", absl::Seconds(20));
  world_.RunFor(absl::Minutes(5));
  EXPECT_GT(world_.oracle().counts().created, 20);
  EXPECT_GT(world_.oracle().counts().deleted, 0);
  for (int second = 0; second < 60; ++second) {
    world_.RunFor(absl::Seconds(1));
    int left = 0;
    for (const auto& snapshot : world_.SnapshotsOf("fast")) left += !snapshot->meta.deleting;
    EXPECT_LE(left, (2 + 1) * kClaims);  // one is being taken
  }
}

// Its deadlines are shorter than its clock is wrong.
TEST_F(ScheduleTest, ASchedulerWhoseClockIsGoodEnoughTakesWhatIsShortlyDue) {
  world_.AddPolicy("fast", {{"schedule", "@every 10s"}, {"startingDeadlineSeconds", 1}});
  world_.StartScheduler("scheduler-0");
  world_.SetClockOffset("scheduler-0", absl::Seconds(-20));
  world_.RunFor(absl::Minutes(2));
  EXPECT_GT(world_.oracle().counts().created, 15);
  for (const RunRecord& run : world_.StatusOf("fast").recent_runs) EXPECT_EQ(run.counts.failed, 0);
}

// How old the earlier one is, is told by the server's clock.
TEST_F(ScheduleTest, AClockThatIsGoodEnoughHoldsNoRunBackForLonger) {
  world_.simulator().AddSnapshotClass("never", kSimDriver, /*is_default=*/false);
  world_.simulator().volumes().SetBehaviour("never", {.never_ready = true});
  world_.AddPolicy("tight", {{"schedule", "@every 10m"},
                             {"snapshotClassName", "never"},
                             {"startingDeadlineSeconds", 10},
                             {"readyTimeoutSeconds", 600}});
  world_.StartScheduler("scheduler-0");
  world_.SetClockOffset("scheduler-0", absl::Seconds(-20));
  world_.RunFor(absl::Minutes(45));
  EXPECT_GE(world_.oracle().counts().created, 4 * kClaims);
  for (const RunRecord& run : world_.StatusOf("tight").recent_runs)
    EXPECT_EQ(run.counts.skipped, 0);
}

TEST_F(ScheduleTest, WhatWasNotReadyOfADeletedPolicyGoesAfterADayHoweverLongItWouldHaveWaited) {
  ExpectGone(OrphansAfterADay({.never_cut = true}, {{"readyTimeoutSeconds", 30 * 24 * 3600}}));
}

TEST_F(ScheduleTest, AnOrphanGoesWhenAnotherPolicyHasMadeItSuperfluous) {
  const auto orphans = OrphansAfterADay({.never_ready = true}, nlohmann::json::object());
  world_.AddPolicy("new", {{"schedule", "@every 1h"}, {"retention", {{"keepLast", 3}}}});
  world_.RunFor(absl::Hours(6));
  ExpectGone(orphans);
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(ScheduleTest, ADriverWhoseClockIsAheadDoesNotCostTheNewest) {
  world_.simulator().AddSnapshotClass("ahead", kSimDriver, /*is_default=*/false);
  world_.simulator().volumes().SetBehaviour("ahead", {.cut_after = absl::Seconds(1),
                                                      .ready_after = absl::Minutes(18),
                                                      .cut_clock_skew = absl::Minutes(30)});
  world_.AddPolicy("fast", {{"schedule", "@every 20m"},
                            {"snapshotClassName", "ahead"},
                            {"readyTimeoutSeconds", 3600},
                            {"retention", {{"keepLast", 1}}}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Hours(3));
  EXPECT_GT(world_.oracle().counts().deleted, 0);
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(ScheduleTest, AClockThatIsAYearAheadForAMinuteFailsNothingThatIsUnderWay) {
  world_.simulator().AddSnapshotClass("slow", kSimDriver, /*is_default=*/false);
  world_.simulator().volumes().SetBehaviour("slow", {.ready_after = absl::Minutes(5)});
  world_.AddPolicy("fast", {{"schedule", "@every 1h"}, {"snapshotClassName", "slow"}});
  world_.StartScheduler("scheduler-0");
  while (world_.oracle().counts().created < kClaims) world_.RunFor(absl::Seconds(1));
  world_.RunFor(absl::Seconds(30));
  world_.SetClockOffset("scheduler-0", absl::Hours(24 * 365));
  world_.RunFor(absl::Minutes(2));
  world_.SetClockOffset("scheduler-0", absl::ZeroDuration());
  world_.RunFor(absl::Minutes(10));
  ASSERT_THAT(world_.StatusOf("fast").recent_runs, ::testing::SizeIs(1));
  const RunRecord run = world_.StatusOf("fast").recent_runs[0];
  EXPECT_EQ(run.counts.succeeded, kClaims);
  EXPECT_EQ(run.counts.succeeded_late, 0);
}

TEST_F(ScheduleTest, AnExecutorThatCannotListLearnsWhatIsReady) {
  world_.simulator().AddSnapshotClass("slow", kSimDriver, /*is_default=*/false);
  world_.simulator().volumes().SetBehaviour("slow", {.ready_after = absl::Minutes(2)});
  world_.AddPolicy("fast", {{"schedule", "@every 1h"}, {"snapshotClassName", "slow"}});
  FaultOn fault(Verb::kList, Kind::kSnapshot, Fault::Fail(absl::PermissionDeniedError("no")),
                "executor-1");
  world_.simulator().SetFaultPlan(&fault);
  world_.Kill("executor-1");
  world_.StartExecutor("executor-1");
  world_.StartScheduler("scheduler-0");
  while (world_.oracle().counts().created < kClaims) world_.RunFor(absl::Seconds(1));
  world_.RunFor(absl::Seconds(30));
  world_.Kill("executor-0");
  world_.RunFor(absl::Minutes(20));
  world_.simulator().SetFaultPlan(nullptr);
  ASSERT_THAT(world_.StatusOf("fast").recent_runs, ::testing::SizeIs(1));
  const RunRecord run = world_.StatusOf("fast").recent_runs[0];
  EXPECT_EQ(run.counts.succeeded, kClaims) << "late: " << run.counts.succeeded_late;
}

TEST_F(ScheduleTest, WhatIsReadyAtItsDeadlineIsNotFailedForWantOfAnExecutor) {
  world_.simulator().AddSnapshotClass("slow", kSimDriver, /*is_default=*/false);
  world_.simulator().volumes().SetBehaviour("slow", {.ready_after = absl::Minutes(2)});
  world_.AddPolicy("fast", {{"schedule", "@every 1h"}, {"snapshotClassName", "slow"}});
  world_.StartScheduler("scheduler-0");
  while (world_.oracle().counts().created < kClaims) world_.RunFor(absl::Seconds(1));
  world_.RunFor(absl::Seconds(30));
  world_.Kill("executor-0");
  world_.Kill("executor-1");
  world_.RunFor(absl::Minutes(15));
  world_.StartExecutor("executor-0");
  world_.RunFor(absl::Minutes(30));
  ASSERT_THAT(world_.StatusOf("fast").recent_runs, ::testing::SizeIs(1));
  const RunRecord run = world_.StatusOf("fast").recent_runs[0];
  EXPECT_EQ(run.counts.succeeded + run.counts.succeeded_late, kClaims);
  EXPECT_EQ(run.counts.failed, 0) << ToString(run.failures[0].reason) << ": "
                                  << run.failures[0].message;
}

TEST_F(ScheduleTest, ReadinessThatCrossesTheVerdictOnItsWayIsLate) {
  world_.simulator().AddSnapshotClass("slow", kSimDriver, /*is_default=*/false);
  world_.simulator().volumes().SetBehaviour("slow", {.ready_after = absl::Seconds(61)});
  world_.AddPolicy(
      "fast",
      {{"schedule", "@every 1h"}, {"snapshotClassName", "slow"}, {"readyTimeoutSeconds", 60}});
  world_.SetNetwork({.delay = [] { return absl::Seconds(2); }});
  world_.StartScheduler("scheduler-0");
  while (world_.oracle().counts().created < kClaims) world_.RunFor(absl::Seconds(1));
  world_.RunFor(absl::Minutes(30));
  ASSERT_THAT(world_.StatusOf("fast").recent_runs, ::testing::SizeIs(1));
  EXPECT_EQ(world_.StatusOf("fast").recent_runs[0].counts.succeeded_late, kClaims);
}

}  // namespace
}  // namespace snapkeeper
