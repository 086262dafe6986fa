#include <absl/time/time.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/model/names.h"
#include "common/model/reason.h"
#include "tests/simulation/world.h"

namespace snapkeeper {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Instants of `@every period` in (after, until].
std::vector<absl::Time> Every(absl::Duration period, absl::Time after, absl::Time until) {
  std::vector<absl::Time> instants;
  const int64_t step = absl::ToInt64Seconds(period);
  for (int64_t k = absl::ToUnixSeconds(after) / step + 1; absl::FromUnixSeconds(k * step) <= until;
       ++k) {
    instants.push_back(absl::FromUnixSeconds(k * step));
  }
  return instants;
}

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

// "3 succeeded", "1 skipped (Overlap)": what became of the volumes of the policy's runs, oldest
// first.
std::vector<std::string> Outcomes(const PolicyStatus& status) {
  std::vector<std::string> outcomes;
  for (auto run = status.recent_runs.rbegin(); run != status.recent_runs.rend(); ++run) {
    std::string text;
    const RunCounts& c = run->counts;
    for (const auto& [count, word] :
         {std::pair(c.succeeded, "succeeded"), std::pair(c.succeeded_late, "succeeded late"),
          std::pair(c.failed, "failed"), std::pair(c.skipped, "skipped"),
          std::pair(c.cancelled, "cancelled"), std::pair(c.pending, "pending")}) {
      if (count > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, word);
    }
    if (!run->failures.empty() && run->failures[0].reason != Reason::kNone)
      text += fmt::format(" ({})", ToString(run->failures[0].reason));
    outcomes.push_back(std::move(text));
  }
  return outcomes;
}

// Each snapshot takes 33 seconds to be ready, and there is an instant every 20.
class OverlapTest : public ::testing::Test {
 protected:
  OverlapTest() : world_({.quarantine = absl::Seconds(5), .ready_after = absl::Seconds(33)}) {
    world_.simulator().AddClaim("default", "data", {{"app", "db"}});
    world_.StartExecutor("executor-0");
    world_.RunFor(absl::Seconds(3));
    world_.AddPolicy("dense", {{"schedule", "@every 20s"},
                               {"startingDeadlineSeconds", 15},
                               {"readyTimeoutSeconds", 50},
                               {"runHistoryLimit", 20}});
    world_.StartScheduler("scheduler-0");
    first_ = Every(absl::Seconds(20), world_.Now(), world_.Now() + absl::Seconds(20)).front();
  }
  // Up to `time` after the first instant.
  void RunUntil(absl::Duration time) { world_.RunFor(first_ + time - world_.Now()); }
  // "40+13": one that was asked for 13 seconds after the third instant.
  std::vector<std::string> Asked() {
    std::map<absl::Time, std::string> asked;
    for (const auto& snapshot : world_.SnapshotsOf("dense")) {
      const absl::Time instant = *ParseInstant(snapshot->instant);
      asked[instant] = fmt::format("{}+{}", absl::ToInt64Seconds(instant - first_),
                                   absl::ToInt64Seconds(snapshot->meta.created - instant));
    }
    std::vector<std::string> texts;
    for (const auto& [instant, text] : asked) texts.push_back(text);
    return texts;
  }

  World world_;
  absl::Time first_;
};

TEST_F(OverlapTest, AVolumeWaitsForItsEarlierSnapshotAndIsSkippedAtTheStartingDeadline) {
  RunUntil(absl::Seconds(105));
  EXPECT_THAT(Asked(), ElementsAre("0+0", "20+13", "60+6", "100+0"));
  EXPECT_THAT(Outcomes(world_.StatusOf("dense")),
              ElementsAre("1 succeeded", "1 succeeded", "1 skipped (Overlap)", "1 succeeded",
                          "1 skipped (Overlap)"));
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(OverlapTest, ASnapshotPastItsReadyTimeoutBlocksNoLonger) {
  world_.simulator().volumes().SetDefaultBehaviour({.never_ready = true});
  RunUntil(absl::Seconds(65));
  EXPECT_THAT(Asked(), ElementsAre("0+0", "40+10"));
}

TEST_F(OverlapTest, WhatWaitsIsCancelledWhenThePolicyIsSuspendedAndWhatIsPostedSettles) {
  RunUntil(absl::Seconds(22));
  world_.PatchPolicy("dense", {{"spec", {{"suspend", true}}}});
  RunUntil(absl::Seconds(60));
  EXPECT_THAT(Asked(), ElementsAre("0+0"));
  EXPECT_THAT(Outcomes(world_.StatusOf("dense")), ElementsAre("1 succeeded", "1 cancelled"));
}

TEST_F(OverlapTest, WhatWaitsForgoesItsSnapshotWhenThePolicyIsDeleted) {
  RunUntil(absl::Seconds(22));
  world_.DeletePolicy("dense");
  RunUntil(absl::Seconds(60));
  EXPECT_EQ(world_.oracle().counts().created, 1);
}

TEST_F(OverlapTest, WhatWaitsFailsAtOnceWhenItsClaimIsGone) {
  RunUntil(absl::Seconds(22));
  auto& store = world_.simulator().store();
  const ObjectKey claim{Kind::kClaim, "default", "data"};
  ASSERT_TRUE(store.Delete(claim, {}, "admin").ok());
  // The snapshot that is not ready holds it.
  ASSERT_TRUE(
      store.Patch(claim, {{"metadata", {{"finalizers", nullptr}}}}, /*status=*/false, "admin")
          .ok());
  RunUntil(absl::Seconds(24));
  EXPECT_THAT(Outcomes(world_.StatusOf("dense")),
              ElementsAre("1 pending", "1 failed (ClaimNotFound)"));
}

TEST_F(OverlapTest, OneThatIsReadyAfterItsDeadlineTurnsFromFailedToSucceededLate) {
  world_.PatchPolicy("dense",
                     {{"spec", {{"readyTimeoutSeconds", 25}, {"startingDeadlineSeconds", 1}}}});
  RunUntil(absl::Seconds(27));
  EXPECT_THAT(Outcomes(world_.StatusOf("dense")),
              ElementsAre("1 failed (NotReadyInTime)", "1 skipped (Overlap)"));
  EXPECT_FALSE(world_.StatusOf("dense").last_successful_time.has_value());
  RunUntil(absl::Seconds(36));
  EXPECT_THAT(Outcomes(world_.StatusOf("dense")),
              ElementsAre("1 succeeded late", "1 skipped (Overlap)"));
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(OverlapTest, APostedOneThatVanishedWhileNobodyScheduledHasFailed) {
  RunUntil(absl::Seconds(12));
  world_.Kill("scheduler-0");
  const auto taken = world_.SnapshotsOf("dense");
  ASSERT_THAT(taken, SizeIs(1));
  ASSERT_TRUE(world_.simulator()
                  .store()
                  .Delete({Kind::kSnapshot, "default", taken[0]->meta.name}, {}, "admin")
                  .ok());
  world_.RunFor(absl::Seconds(2));
  world_.StartScheduler("scheduler-1");
  RunUntil(absl::Seconds(19));
  EXPECT_THAT(Outcomes(world_.StatusOf("dense")), ElementsAre("1 failed"));
  EXPECT_EQ(world_.oracle().counts().created, 1);
}

// No executor is there, so that nothing is posted until a test starts one.
class UnpostedTest : public ::testing::Test {
 protected:
  UnpostedTest() {
    for (const char* claim : {"data-0", "data-1", "data-2"})
      world_.simulator().AddClaim("default", claim, {{"app", "db"}});
    world_.RunFor(absl::Seconds(3));
    world_.AddPolicy("waits", {{"schedule", "@every 60s"}, {"startingDeadlineSeconds", 1200}});
    world_.StartScheduler("scheduler-0");
    const absl::Time now = world_.Now();
    world_.RunFor(Every(absl::Seconds(60), now, now + absl::Minutes(1)).front() - now +
                  absl::Seconds(5));
  }

  World world_{World::Options{}};
};

TEST_F(UnpostedTest, SuspendingThePolicyCancelsWhatIsNotPosted) {
  world_.PatchPolicy("waits", {{"spec", {{"suspend", true}}}});
  world_.RunFor(absl::Seconds(5));
  world_.StartExecutor("executor-0");
  world_.RunFor(absl::Seconds(30));
  EXPECT_EQ(world_.oracle().counts().created, 0);
  EXPECT_THAT(Outcomes(world_.StatusOf("waits")), ElementsAre("3 cancelled"));
}

TEST_F(UnpostedTest, DeletingThePolicyEndsWhatIsNotPosted) {
  world_.DeletePolicy("waits");
  world_.RunFor(absl::Seconds(5));
  world_.StartExecutor("executor-0");
  world_.RunFor(absl::Seconds(30));
  EXPECT_EQ(world_.oracle().counts().created, 0);
}

TEST_F(UnpostedTest, APolicyThatIsBeingDeletedPostsNothing) {
  world_.PatchPolicy("waits", {{"metadata", {{"finalizers", {"example.com/slow"}}}}});
  world_.DeletePolicy("waits");
  ASSERT_TRUE(world_.PolicyOf("waits")->meta.deleting);
  world_.RunFor(absl::Seconds(5));
  world_.StartExecutor("executor-0");
  world_.RunFor(absl::Minutes(3));
  EXPECT_EQ(world_.oracle().counts().created, 0);
}

TEST_F(UnpostedTest, AfterAnEditTheNextSchedulerSkipsTheRestOfTheRun) {
  world_.Kill("scheduler-0");
  world_.PatchPolicy("waits", {{"spec", {{"readyTimeoutSeconds", 300}}}});
  world_.StartExecutor("executor-0");
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Seconds(30));
  EXPECT_EQ(world_.oracle().counts().created, 0);
  EXPECT_THAT(Outcomes(world_.StatusOf("waits")), ElementsAre("3 skipped"));
}

TEST_F(UnpostedTest, MoreThanTenOpenRunsAreSkipped) {
  world_.RunFor(absl::Minutes(11) + absl::Seconds(15));
  EXPECT_THAT(Outcomes(world_.StatusOf("waits")),
              AllOf(SizeIs(12), Contains("3 pending").Times(10),
                    Contains("3 skipped (TooManyOpen)").Times(2)));
}

TEST(PruneTest, RunsThatSettleNoSoonerThanTheNextBeginsDoNotHoldUpPruning) {
  World world({.quarantine = absl::Seconds(5), .ready_after = absl::Seconds(11)});
  world.simulator().AddClaim("default", "data", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.AddPolicy("slow", {{"schedule", "@every 10s"},
                           {"startingDeadlineSeconds", 60},
                           {"retention", {{"keepLast", 2}}}});
  world.StartScheduler("scheduler-0");
  for (int minute = 0; minute < 10; ++minute) {
    world.RunFor(absl::Minutes(1));
    EXPECT_LE(world.SnapshotsOf("slow").size(), 6u) << "after minute " << minute;
  }
  EXPECT_GT(world.oracle().counts().deleted, 20);
  EXPECT_THAT(world.oracle().violations(), IsEmpty());
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

TEST_F(ScheduleTest, OfAPolicySuspendedMeanwhileTheNextSchedulerPostsNothingMore) {
  world_.AddPolicy("stopped", {{"schedule", "@every 10m"}});
  world_.StartScheduler("scheduler-0");
  OneCreate faults;
  world_.simulator().SetFaultPlan(&faults);
  while (world_.SnapshotsOf("stopped").empty()) world_.RunFor(absl::Seconds(1));
  world_.Kill("scheduler-0");
  world_.RunFor(absl::Seconds(5));
  world_.simulator().SetFaultPlan(nullptr);
  world_.PatchPolicy("stopped", {{"spec", {{"suspend", true}}}});
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Minutes(1));
  EXPECT_EQ(world_.oracle().counts().created, 1);
  EXPECT_THAT(Outcomes(world_.StatusOf("stopped")), ElementsAre("1 succeeded"));
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

// What prunes the snapshots of one claim, "data".
class SeriesTest : public ::testing::Test {
 protected:
  SeriesTest() : world_({.quarantine = absl::Seconds(5)}) {
    AddClaim();
    world_.simulator().AddSnapshotClass("stuck", kSimDriver, /*is_default=*/false);
    world_.simulator().volumes().SetBehaviour("stuck", {.never_ready = true});
    world_.StartExecutor("executor-0");
    world_.RunFor(absl::Seconds(3));
  }
  void AddClaim() { world_.simulator().AddClaim("default", "data", {{"app", "db"}}); }
  void Start(const std::string& schedule, nlohmann::json retention,
             const std::string& snapshot_class = "") {
    world_.AddPolicy("pruned", {{"schedule", schedule},
                                {"snapshotClassName", snapshot_class},
                                {"readyTimeoutSeconds", 30},
                                {"retention", std::move(retention)}});
    world_.StartScheduler("scheduler-0");
  }
  Snapshot TakeFirst() {
    while (world_.SnapshotsOf("pruned").empty()) world_.RunFor(absl::Seconds(1));
    world_.RunFor(absl::Seconds(5));
    return *world_.SnapshotsOf("pruned").front();
  }
  bool IsThere(const Snapshot& snapshot) {
    const auto found =
        world_.simulator().store().Find<Snapshot>(snapshot.meta.ns, snapshot.meta.name);
    return found && found->meta.uid == snapshot.meta.uid && !found->meta.deleting;
  }

  World world_;
};

TEST_F(SeriesTest, AnUnreadyOneStaysUntilAnyReadyOneOfItsClaimHasANewerCut) {
  Start("@every 1h", {{"keepLast", 5}, {"unreadyTtl", "60s"}}, "stuck");
  const Snapshot unready = TakeFirst();
  world_.RunFor(absl::Minutes(5));
  EXPECT_TRUE(IsThere(unready));
  ASSERT_TRUE(world_.simulator()
                  .store()
                  .Create(Kind::kSnapshot,
                          {{"metadata", {{"namespace", "default"}, {"name", "foreign"}}},
                           {"spec", {{"source", {{"persistentVolumeClaimName", "data"}}}}}},
                          "admin")
                  .ok());
  world_.RunFor(absl::Seconds(10));
  world_.PatchPolicy("pruned", {{"spec", {{"runHistoryLimit", 6}}}});  // it is looked at again
  world_.RunFor(absl::Minutes(5));
  EXPECT_FALSE(IsThere(unready));
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(SeriesTest, AClaimMadeAnewUnderTheNameDoesNotLetTheOldOnesGo) {
  Start("@every 60s", {{"keepLast", 2}, {"unreadyTtl", "60s"}}, "stuck");
  const Snapshot unready = TakeFirst();
  world_.PatchPolicy("pruned", {{"spec", {{"snapshotClassName", "sim"}}}});
  auto& store = world_.simulator().store();
  const ObjectKey claim{Kind::kClaim, "default", "data"};
  ASSERT_TRUE(store.Delete(claim, {}, "admin").ok());
  // The snapshot that is not ready holds it.
  ASSERT_TRUE(
      store.Patch(claim, {{"metadata", {{"finalizers", nullptr}}}}, /*status=*/false, "admin")
          .ok());
  AddClaim();
  world_.RunFor(absl::Minutes(10));
  EXPECT_GT(world_.oracle().counts().deleted, 3);
  EXPECT_TRUE(IsThere(unready));
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(SeriesTest, OneWhoseContentRefersToAnotherIsLeftAlone) {
  Start("@every 60s", {{"keepLast", 2}, {"unreadyTtl", "60s"}});
  const Snapshot first = TakeFirst();
  ASSERT_TRUE(world_.simulator()
                  .store()
                  .Patch({Kind::kContent, "", first.bound_content},
                         {{"spec", {{"volumeSnapshotRef", {{"uid", "another"}}}}}},
                         /*status=*/false, "admin")
                  .ok());
  world_.RunFor(absl::Minutes(10));
  EXPECT_GT(world_.oracle().counts().deleted, 3);
  EXPECT_TRUE(IsThere(first));
}

TEST_F(SeriesTest, TheDataSourceOfAPendingClaimIsNotPruned) {
  Start("@every 60s", {{"keepLast", 2}});
  const Snapshot source = TakeFirst();
  auto& store = world_.simulator().store();
  ASSERT_TRUE(store
                  .Create(Kind::kClaim,
                          {{"metadata", {{"namespace", "default"}, {"name", "restored"}}},
                           {"spec",
                            {{"storageClassName", "not-there-yet"},
                             {"accessModes", {"ReadWriteOnce"}},
                             {"resources", {{"requests", {{"storage", "1Gi"}}}}},
                             {"dataSource",
                              {{"apiGroup", "snapshot.storage.k8s.io"},
                               {"kind", "VolumeSnapshot"},
                               {"name", source.meta.name}}}}}},
                          "user")
                  .ok());
  world_.RunFor(absl::Minutes(5));
  EXPECT_TRUE(IsThere(source));
  ASSERT_TRUE(store.Delete({Kind::kClaim, "default", "restored"}, {}, "user").ok());
  world_.RunFor(absl::Minutes(2));
  EXPECT_FALSE(IsThere(source));
}

TEST_F(SeriesTest, TheNewestReadyOneStaysAsLongAsItsClaimDoes) {
  Start("@every 10m", {{"maxAge", "60s"}, {"minReady", 0}});
  const Snapshot newest = TakeFirst();
  world_.RunFor(absl::Minutes(5));
  EXPECT_TRUE(IsThere(newest));
  ASSERT_TRUE(
      world_.simulator().store().Delete({Kind::kClaim, "default", "data"}, {}, "admin").ok());
  world_.PatchPolicy("pruned", {{"spec", {{"runHistoryLimit", 6}}}});  // it is looked at again
  world_.RunFor(absl::Minutes(2));
  EXPECT_FALSE(IsThere(newest));
}

TEST_F(SeriesTest, NoneIsPrunedBeforeItsRunHasSettled) {
  auto& store = world_.simulator().store();
  world_.simulator().AddSnapshotClass("idle", "idle.example", /*is_default=*/true);
  ASSERT_TRUE(store
                  .Create(Kind::kVolume,
                          {{"metadata", {{"name", "idle"}}},
                           {"spec",
                            {{"capacity", {{"storage", "1Gi"}}},
                             {"accessModes", {"ReadWriteOnce"}},
                             {"csi", {{"driver", "idle.example"}, {"volumeHandle", "h"}}}}}},
                          "admin")
                  .ok());
  ASSERT_TRUE(
      store
          .Create(
              Kind::kClaim,
              {{"metadata",
                {{"namespace", "default"}, {"name", "never-ready"}, {"labels", {{"app", "db"}}}}},
               {"spec",
                {{"storageClassName", ""},
                 {"volumeName", "idle"},
                 {"accessModes", {"ReadWriteOnce"}},
                 {"resources", {{"requests", {{"storage", "1Gi"}}}}}}}},
              "admin")
          .ok());
  Start("@every 60s", {{"keepLast", 1}});
  world_.PatchPolicy("pruned", {{"spec", {{"readyTimeoutSeconds", 600}}}});
  world_.RunFor(absl::Seconds(10));
  std::vector<Snapshot> first;
  while (first.size() < 2) {
    world_.RunFor(absl::Seconds(1));
    first.clear();
    for (const auto& snapshot : world_.SnapshotsOf("pruned")) first.push_back(*snapshot);
  }
  if (first[0].source_claim != "data") std::swap(first[0], first[1]);
  world_.RunFor(absl::Minutes(9));
  EXPECT_TRUE(IsThere(first[0]));
  world_.RunFor(absl::Minutes(3));
  EXPECT_FALSE(IsThere(first[0]));
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(SeriesTest, WhatComesOfAgeBetweenRunsIsPrunedThen) {
  Start("@every 1h", {{"maxAge", "90m"}});
  const Snapshot first = TakeFirst();
  world_.RunFor(absl::Minutes(89));
  EXPECT_TRUE(IsThere(first));
  world_.RunFor(absl::Minutes(2));
  EXPECT_FALSE(IsThere(first));
}

// The first request to delete a snapshot meets a change of it.
class OneConflict : public FaultPlan {
 public:
  Fault OnRequest(std::string_view, Verb verb, const ObjectKey& key) override {
    return verb == Verb::kDelete && key.kind == Kind::kSnapshot && deletes_++ == 0
               ? Fault::Fail(absl::AbortedError("conflict"))
               : Fault();
  }
  EventFault OnEvent(std::string_view, Kind) override { return {}; }

 private:
  int deletes_ = 0;
};

TEST_F(SeriesTest, WhatTheExecutorSparedIsPlannedAgainSoon) {
  OneConflict conflict;
  world_.simulator().SetFaultPlan(&conflict);
  Start("@every 1h", {{"keepLast", 1}});
  const Snapshot first = TakeFirst();
  while (world_.SnapshotsOf("pruned").size() < 2) world_.RunFor(absl::Seconds(1));
  world_.RunFor(absl::Seconds(20));
  EXPECT_TRUE(IsThere(first));
  world_.RunFor(absl::Seconds(40));
  EXPECT_FALSE(IsThere(first));
  world_.simulator().SetFaultPlan(nullptr);
}

// Nobody can take a snapshot.
class NoCreates : public FaultPlan {
 public:
  Fault OnRequest(std::string_view, Verb verb, const ObjectKey& key) override {
    return verb == Verb::kCreate && key.kind == Kind::kSnapshot
               ? Fault::Fail(absl::UnavailableError("down"))
               : Fault();
  }
  EventFault OnEvent(std::string_view, Kind) override { return {}; }
};

TEST_F(SeriesTest, AnOutageDoesNotEatTheHistory) {
  Start("@every 60s", {{"maxAge", "5m"}});
  world_.RunFor(absl::Minutes(10));
  NoCreates down;
  world_.simulator().SetFaultPlan(&down);
  world_.RunFor(absl::Minutes(20));
  EXPECT_GE(world_.SnapshotsOf("pruned").size(), 3u);
  world_.simulator().SetFaultPlan(nullptr);
  world_.RunFor(absl::Minutes(10));
  EXPECT_LE(world_.SnapshotsOf("pruned").size(), 7u);
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
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

// The API server takes no status of a policy.
class NoStatusWrites : public FaultPlan {
 public:
  Fault OnRequest(std::string_view, Verb verb, const ObjectKey& key) override {
    return verb == Verb::kPatch && key.kind == Kind::kPolicy
               ? Fault::Fail(absl::PermissionDeniedError("no"))
               : Fault();
  }
  EventFault OnEvent(std::string_view, Kind) override { return {}; }
};

TEST_F(ScheduleTest, AStatusThatCouldNotBeWrittenForLongIsWrittenWhenItCan) {
  world_.AddPolicy(
      "mute",
      {{"schedule", "@every 10s"}, {"runHistoryLimit", 20}, {"retention", {{"keepLast", 100}}}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Seconds(5));
  NoStatusWrites refused;
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
  NoStatusWrites refused;
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

// Contents take their time to be listed.
class SlowContents : public FaultPlan {
 public:
  Fault OnRequest(std::string_view, Verb verb, const ObjectKey& key) override {
    Fault fault;
    if (verb == Verb::kList && key.kind == Kind::kContent) fault.request_delay = absl::Seconds(25);
    return fault;
  }
  EventFault OnEvent(std::string_view, Kind) override { return {}; }
};

TEST_F(ScheduleTest, WhatSettlesBeforeAllIsReadIsWrittenThen) {
  world_.AddPolicy("early", {{"schedule", "@every 10m"}, {"retention", {{"keepLast", 3}}}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Minutes(1));
  world_.Kill("scheduler-0");
  SlowContents slow;
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
  const nlohmann::json copy = {{"apiVersion", "snapshot.storage.k8s.io/v1"},
                               {"kind", "VolumeSnapshot"},
                               {"metadata",
                                {{"namespace", "copies"},
                                 {"name", ours->meta.name},
                                 {"labels",
                                  {{"app.kubernetes.io/managed-by", "snapkeeper"},
                                   {"snapkeeper.io/policy-uid", ours->policy_uid},
                                   {"snapkeeper.io/pvc-uid", ours->claim_uid},
                                   {"snapkeeper.io/instant", ours->instant},
                                   {"snapkeeper.io/trigger", ours->trigger}}},
                                 {"annotations",
                                  {{"snapkeeper.io/identity", ours->identity},
                                   {"snapkeeper.io/policy", ours->policy},
                                   {"snapkeeper.io/claim", ours->claim}}}}},
                               {"spec",
                                {{"volumeSnapshotClassName", "never"},
                                 {"source", {{"persistentVolumeClaimName", "data-0"}}}}}};
  ASSERT_TRUE(world_.simulator().store().Create(Kind::kSnapshot, copy, "user").ok());
  world_.RunFor(absl::Minutes(1));
  world_.DeletePolicy("fast");
  world_.RunFor(absl::Hours(25));
  const auto left = world_.simulator().store().Find<Snapshot>("copies", ours->meta.name);
  EXPECT_TRUE(left && !left->meta.deleting);
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(ScheduleTest, ClocksThatAreBothGoodEnoughPrune) {
  world_.AddPolicy("fast", {{"schedule", "@every 1m"}, {"retention", {{"keepLast", 2}}}});
  world_.SetClockOffset("executor-0", -absl::Seconds(20));
  world_.SetClockOffset("executor-1", -absl::Seconds(20));
  world_.StartScheduler("scheduler-0");
  world_.SetClockOffset("scheduler-0", absl::Seconds(20));
  world_.RunFor(absl::Minutes(15));
  EXPECT_GT(world_.oracle().counts().created, 20);
  EXPECT_GT(world_.oracle().counts().deleted, 0);
}

TEST_F(ScheduleTest, AnOrphanGoesWhenAnotherPolicyHasMadeItSuperfluous) {
  world_.simulator().AddSnapshotClass("never", kSimDriver, /*is_default=*/false);
  world_.simulator().volumes().SetBehaviour("never", {.never_ready = true});
  world_.AddPolicy("old", {{"schedule", "@every 10m"}, {"snapshotClassName", "never"}});
  world_.StartScheduler("scheduler-0");
  world_.RunFor(absl::Minutes(11));
  const auto orphans = world_.SnapshotsOf("old");
  ASSERT_FALSE(orphans.empty());
  world_.DeletePolicy("old");
  world_.RunFor(absl::Hours(25));
  world_.AddPolicy("new", {{"schedule", "@every 1h"}, {"retention", {{"keepLast", 3}}}});
  world_.RunFor(absl::Hours(6));
  for (const auto& orphan : orphans) {
    const auto left = world_.simulator().store().Find<Snapshot>("default", orphan->meta.name);
    EXPECT_FALSE(left && !left->meta.deleting) << orphan->meta.name;
  }
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

// One executor may not list snapshots; all else works.
class NoListFor : public FaultPlan {
 public:
  Fault OnRequest(std::string_view user, Verb verb, const ObjectKey& key) override {
    return user == "executor-1" && verb == Verb::kList && key.kind == Kind::kSnapshot
               ? Fault::Fail(absl::PermissionDeniedError("no"))
               : Fault();
  }
  EventFault OnEvent(std::string_view, Kind) override { return {}; }
};

TEST_F(ScheduleTest, AnExecutorThatCannotListLearnsWhatIsReady) {
  world_.simulator().AddSnapshotClass("slow", kSimDriver, /*is_default=*/false);
  world_.simulator().volumes().SetBehaviour("slow", {.ready_after = absl::Minutes(2)});
  world_.AddPolicy("fast", {{"schedule", "@every 1h"}, {"snapshotClassName", "slow"}});
  NoListFor fault;
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
