#include <absl/time/time.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/simulation/fault_on.h"
#include "tests/simulation/world.h"

namespace snapkeeper {
namespace {

using ::testing::_;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::Pair;

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
  // Oldest first, once there are so many.
  std::vector<Snapshot> Take(size_t count) {
    while (world_.SnapshotsOf("pruned").size() < count) world_.RunFor(absl::Seconds(1));
    world_.RunFor(absl::Seconds(8));
    std::vector<Snapshot> taken;
    for (const auto& snapshot : world_.SnapshotsOf("pruned")) taken.push_back(*snapshot);
    std::sort(taken.begin(), taken.end(),
              [](const auto& a, const auto& b) { return a.instant < b.instant; });
    return taken;
  }
  void TakeForeign() {
    const auto made = world_.simulator().store().Create(
        Kind::kSnapshot,
        {{"metadata", {{"namespace", "default"}, {"name", "foreign"}}},
         {"spec", {{"source", {{"persistentVolumeClaimName", "data"}}}}}},
        "admin");
    ASSERT_TRUE(made.ok()) << made.status();
  }
  // Named "restored".
  void MakePendingClaimFrom(const Snapshot& source) {
    const auto made = world_.simulator().store().Create(
        Kind::kClaim,
        {{"metadata", {{"namespace", "default"}, {"name", "restored"}}},
         {"spec",
          {{"storageClassName", "not-there-yet"},
           {"accessModes", {"ReadWriteOnce"}},
           {"resources", {{"requests", {{"storage", "1Gi"}}}}},
           {"dataSource",
            {{"apiGroup", "snapshot.storage.k8s.io"},
             {"kind", "VolumeSnapshot"},
             {"name", source.meta.name}}}}}},
        "user");
    ASSERT_TRUE(made.ok()) << made.status();
  }
  void Patch(const ObjectKey& key, const nlohmann::json& patch) {
    const auto patched = world_.simulator().store().Patch(key, patch, false, "somebody");
    ASSERT_TRUE(patched.ok()) << patched.status();
  }
  // From now on the scheduler can neither list nor watch these.
  void Blind(Kind kind) {
    blind_ =
        std::make_unique<FaultBy>([kind](std::string_view user, Verb verb, const ObjectKey& key) {
          const bool reads = verb == Verb::kList || verb == Verb::kWatch;
          return user == "scheduler-0" && key.kind == kind && reads
                     ? Fault::Fail(absl::UnavailableError("away"))
                     : Fault();
        });
    world_.simulator().SetFaultPlan(blind_.get());
    world_.simulator().BreakWatches("scheduler-0", WatchBreak::kReset);
    world_.RunFor(absl::Minutes(1));
    ASSERT_FALSE(world_.SchedulerOf("scheduler-0")->Ready().ok());
  }
  // How often the executor lists snapshots for a prune.
  int PrunesIn(absl::Duration time) {
    int lists = 0;
    FaultBy count([&lists](std::string_view user, Verb verb, const ObjectKey& key) {
      lists += user == "executor-0" && verb == Verb::kList && key.kind == Kind::kSnapshot;
      return Fault();
    });
    world_.simulator().SetFaultPlan(&count);
    world_.RunFor(time);
    world_.simulator().SetFaultPlan(nullptr);
    return lists;
  }
  bool IsThere(const Snapshot& snapshot) {
    const auto found =
        world_.simulator().store().Find<Snapshot>(snapshot.meta.ns, snapshot.meta.name);
    return found && found->meta.uid == snapshot.meta.uid && !found->meta.deleting;
  }

  World world_;
  std::unique_ptr<FaultPlan> blind_;
};

TEST_F(SeriesTest, AnUnreadyOneStaysUntilAnyReadyOneOfItsClaimHasANewerCut) {
  Start("@every 1h", {{"keepLast", 5}, {"unreadyTtl", "60s"}}, "stuck");
  const Snapshot unready = TakeFirst();
  world_.RunFor(absl::Minutes(5));
  EXPECT_TRUE(IsThere(unready));
  TakeForeign();
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
  world_.DeleteClaim("data");
  AddClaim();
  world_.RunFor(absl::Minutes(10));
  EXPECT_GT(world_.oracle().counts().deleted, 3);
  EXPECT_TRUE(IsThere(unready));
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(SeriesTest, OneWhoseContentRefersToAnotherIsLeftAlone) {
  Start("@every 60s", {{"keepLast", 2}, {"unreadyTtl", "60s"}});
  const Snapshot first = TakeFirst();
  Patch({Kind::kContent, "", first.bound_content},
        {{"spec", {{"volumeSnapshotRef", {{"uid", "another"}}}}}});
  world_.RunFor(absl::Minutes(10));
  EXPECT_GT(world_.oracle().counts().deleted, 3);
  EXPECT_TRUE(IsThere(first));
}

TEST_F(SeriesTest, OneWhoseContentRefersToAnotherCostsNoPruneJobs) {
  Start("@every 1h", {{"keepLast", 5}, {"unreadyTtl", "60s"}});
  Patch({Kind::kContent, "", Take(2)[0].bound_content},
        {{"spec", {{"volumeSnapshotRef", {{"uid", "another"}}}}}});
  world_.RunFor(absl::Minutes(5));
  EXPECT_LE(PrunesIn(absl::Minutes(30)), 2);
}

TEST_F(SeriesTest, TheDataSourceOfAPendingClaimIsNotPruned) {
  Start("@every 60s", {{"keepLast", 2}});
  const Snapshot source = TakeFirst();
  MakePendingClaimFrom(source);
  world_.RunFor(absl::Minutes(5));
  EXPECT_TRUE(IsThere(source));
  ASSERT_TRUE(
      world_.simulator().store().Delete({Kind::kClaim, "default", "restored"}, {}, "user").ok());
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

TEST_F(SeriesTest, AnOutageDoesNotEatTheHistory) {
  Start("@every 60s", {{"maxAge", "5m"}});
  world_.RunFor(absl::Minutes(10));
  FaultOn down(Verb::kCreate, Kind::kSnapshot, Fault::Fail(absl::UnavailableError("down")));
  world_.simulator().SetFaultPlan(&down);
  world_.RunFor(absl::Minutes(20));
  EXPECT_GE(world_.SnapshotsOf("pruned").size(), 3u);
  world_.simulator().SetFaultPlan(nullptr);
  world_.RunFor(absl::Minutes(10));
  EXPECT_LE(world_.SnapshotsOf("pruned").size(), 7u);
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(SeriesTest, NothingIsPrunedOnContentsThatCannotBeReadAnyMore) {
  Start("@every 1h", {{"keepLast", 5}});
  const std::vector<Snapshot> taken = Take(3);
  Blind(Kind::kContent);
  Patch({Kind::kContent, "", taken[2].bound_content},
        {{"spec", {{"volumeSnapshotRef", {{"uid", "another"}}}}}});
  world_.PatchPolicy("pruned", {{"spec", {{"retention", {{"keepLast", 1}}}}}});
  world_.RunFor(absl::Minutes(10));
  EXPECT_TRUE(IsThere(taken[1]));  // the newest that can be restored
}

TEST_F(SeriesTest, NothingIsPrunedOnClaimsThatCannotBeReadAnyMore) {
  Start("@every 10m", {{"keepLast", 3}});
  const std::vector<Snapshot> taken = Take(3);
  Blind(Kind::kClaim);
  MakePendingClaimFrom(taken[0]);
  world_.RunFor(absl::Minutes(30));
  EXPECT_TRUE(IsThere(taken[0]));
}

TEST_F(SeriesTest, AScheduleThatDoesNotParseDoesNotLetAgeEatTheHistory) {
  Start("@every 10m", {{"maxAge", "1h"}});
  world_.RunFor(absl::Hours(2));
  const size_t before = world_.SnapshotsOf("pruned").size();
  ASSERT_GE(before, 6u);
  world_.PatchPolicy("pruned", {{"spec", {{"schedule", "61 * * * *"}}}});
  world_.RunFor(absl::Hours(3));
  EXPECT_EQ(world_.SnapshotsOf("pruned").size(), before);
}

TEST_F(SeriesTest, AForeignOneOfAClaimMadeAnewDoesNotLetTheOldOnesGo) {
  Start("@every 1h", {{"keepLast", 5}, {"unreadyTtl", "60s"}}, "stuck");
  const Snapshot unready = TakeFirst();
  world_.DeleteClaim("data");
  world_.simulator().AddClaim("default", "data", {{"app", "other"}});
  world_.RunFor(absl::Minutes(5));
  TakeForeign();
  world_.RunFor(absl::Seconds(10));
  world_.PatchPolicy("pruned", {{"spec", {{"runHistoryLimit", 6}}}});  // it is looked at again
  world_.RunFor(absl::Minutes(5));
  EXPECT_TRUE(IsThere(unready));
}

TEST_F(SeriesTest, AnEditedVolumeHandleDeletesNothing) {
  Start("@every 1h", {{"keepLast", 5}, {"unreadyTtl", "60s"}});
  const Snapshot oldest = Take(3).front();
  Patch({Kind::kSnapshot, "default", oldest.meta.name},
        {{"metadata", {{"annotations", {{"snapkeeper.io/volume-handle", "x"}}}}}});
  world_.RunFor(absl::Minutes(90));
  EXPECT_TRUE(IsThere(oldest));
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(SeriesTest, SuspendingEndsAPruneThatIsUnderWay) {
  Start("@every 60s", {{"keepLast", 100}});
  Take(30);
  std::vector<absl::Time> deletes;
  FaultBy slow([&](std::string_view, Verb verb, const ObjectKey& key) {
    if (verb != Verb::kDelete || key.kind != Kind::kSnapshot) return Fault();
    deletes.push_back(world_.Now());
    return Fault{.request_delay = absl::Seconds(1)};
  });
  world_.simulator().SetFaultPlan(&slow);
  world_.PatchPolicy("pruned",
                     {{"spec", {{"schedule", "0 0 1 1 *"}, {"retention", {{"keepLast", 1}}}}}});
  while (deletes.empty()) world_.RunFor(absl::Milliseconds(100));
  world_.PatchPolicy("pruned", {{"spec", {{"suspend", true}}}});
  world_.RunFor(absl::Seconds(2));
  deletes.clear();
  world_.RunFor(absl::Minutes(2));
  EXPECT_THAT(deletes, IsEmpty());
  world_.simulator().SetFaultPlan(nullptr);
}

struct Sick {
  std::string name;
  size_t volumes, sick;
  Fault fault;  // of each delete of a sick one's
};
void PrintTo(const Sick& sick, std::ostream* out) { *out << sick.name; }

class SickVolumesTest : public SeriesTest, public ::testing::WithParamInterface<Sick> {};

TEST_P(SickVolumesTest, HoldUpNoOtherAndArePrunedOnceTheyAreWell) {
  for (size_t i = 1; i < GetParam().volumes; ++i)
    world_.simulator().AddClaim("default", "more-" + std::to_string(i), {{"app", "db"}});
  std::map<std::string, std::string> claims;  // by UID: their order in the job
  world_.simulator().store().ForEach<Claim>(
      [&claims](const Claim& claim) { claims[claim.meta.uid] = claim.meta.name; });
  std::set<std::string> sick;
  for (const auto& [uid, name] : claims) {
    if (sick.size() < GetParam().sick) sick.insert(name);
  }
  FaultBy plan([&sick](std::string_view, Verb verb, const ObjectKey& key) {
    const bool meant = verb == Verb::kDelete && key.kind == Kind::kSnapshot &&
                       sick.contains(key.name.substr(0, key.name.rfind('-')));
    return meant ? GetParam().fault : Fault();
  });
  world_.simulator().SetFaultPlan(&plan);
  Start("@every 10m", {{"keepLast", 2}});
  world_.RunFor(absl::Hours(3));
  std::map<std::string, int> left;
  for (const auto& snapshot : world_.SnapshotsOf("pruned")) {
    if (!sick.contains(snapshot->source_claim)) ++left[snapshot->source_claim];
  }
  EXPECT_THAT(left, Each(Pair(_, Le(3))));
  world_.simulator().SetFaultPlan(nullptr);
  world_.RunFor(absl::Minutes(15));
  EXPECT_LE(world_.SnapshotsOf("pruned").size(), 3 * claims.size());
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

Fault Refusal() {
  return Fault::Fail(absl::PermissionDeniedError("admission webhook denied the request"));
}
Fault Failure() { return Fault::Fail(absl::UnavailableError("failed calling webhook")); }

INSTANTIATE_TEST_SUITE_P(All, SickVolumesTest,
                         ::testing::Values(Sick{"OneIsRefused", 3, 1, Refusal()},
                                           Sick{"OneFails", 3, 1, Failure()},
                                           Sick{"OneHangs", 3, 1, Fault::Hang()},
                                           Sick{"FiveOfEightAreRefused", 8, 5, Refusal()},
                                           Sick{"FiveOfEightFail", 8, 5, Failure()},
                                           Sick{"FiveOfEightHang", 8, 5, Fault::Hang()}),
                         [](const auto& info) { return info.param.name; });

TEST_F(SeriesTest, AnOrphanWhoseAnnotationWasEditedCostsNoPruneJobs) {
  Start("@every 1h", {{"keepLast", 5}}, "stuck");
  const std::vector<Snapshot> taken = Take(2);
  world_.PatchPolicy("pruned", {{"spec", {{"suspend", true}}}});
  Patch({Kind::kSnapshot, "default", taken[0].meta.name},
        {{"metadata", {{"annotations", {{"snapkeeper.io/policy", "x/y"}}}}}});
  Patch({Kind::kSnapshot, "default", taken[1].meta.name},
        {{"metadata", {{"labels", {{"snapkeeper.io/hold", "true"}}}}}});
  world_.DeletePolicy("pruned");
  TakeForeign();
  world_.RunFor(absl::Hours(30));
  EXPECT_LE(PrunesIn(absl::Minutes(30)), 2);
}

TEST_F(SeriesTest, OfAPolicyThatWaitsForFinalizersNothingIsPrunedUntilItIsGone) {
  Start("@every 1h", {{"keepLast", 5}}, "stuck");
  Take(2);
  TakeForeign();  // of a newer cut
  Patch({Kind::kPolicy, "default", "pruned"},
        {{"metadata", {{"finalizers", {"example.com/slow"}}}}});
  world_.DeletePolicy("pruned");
  world_.RunFor(absl::Hours(30));
  EXPECT_EQ(world_.SnapshotsOf("pruned").size(), 2u);
  EXPECT_THAT(world_.MetricsOf("executor-0"),
              ::testing::Not(HasSubstr(R"(kind="prune",result="PolicyChanged")")));
  Patch({Kind::kPolicy, "default", "pruned"}, {{"metadata", {{"finalizers", nullptr}}}});
  world_.RunFor(absl::Minutes(1));
  EXPECT_EQ(world_.oracle().counts().deleted, 2);
}

TEST_F(SeriesTest, WhatIsRetainedIsToldAndNotPruned) {
  Start("@every 10m", {{"keepLast", 1}});
  const Snapshot first = TakeFirst();
  Patch({Kind::kContent, "", first.bound_content}, {{"spec", {{"deletionPolicy", "Retain"}}}});
  Take(3);
  world_.RunFor(absl::Minutes(30));
  EXPECT_TRUE(IsThere(first));
  EXPECT_GE(world_.oracle().counts().deleted, 2);
  const auto events = world_.simulator().store().List(Kind::kEvent, {});
  EXPECT_TRUE(std::any_of(events->items.begin(), events->items.end(), [](const auto& event) {
    return event->tags->fields.at("reason") == "Retained";
  }));
  Patch({Kind::kContent, "", first.bound_content}, {{"spec", {{"deletionPolicy", "Delete"}}}});
  world_.RunFor(absl::Minutes(1));
  EXPECT_FALSE(IsThere(first));
}

TEST_F(SeriesTest, AForeignOneCostsTheExecutorNoReadWhereItIsNotTheNewest) {
  TakeForeign();
  Start("@every 10m", {{"keepLast", 2}});
  int reads = 0;
  FaultBy count([&reads](std::string_view user, Verb verb, const ObjectKey& key) {
    reads += user == "executor-0" && verb == Verb::kGet && key.kind == Kind::kSnapshot;
    return Fault();
  });
  world_.simulator().SetFaultPlan(&count);
  world_.RunFor(absl::Hours(1));
  EXPECT_GT(world_.oracle().counts().deleted, 1);
  EXPECT_EQ(reads, 0);
  world_.simulator().SetFaultPlan(nullptr);
}

// Two policies cut at the same second: the one that stays for that is shown to the executor.
TEST_F(SeriesTest, OneOfTwoOfTheSameCutGoes) {
  constexpr int kClaims = 8;  // which of the two stays is chance
  for (int i = 1; i < kClaims; ++i)
    world_.simulator().AddClaim("default", "data-" + std::to_string(i), {{"app", "db"}});
  world_.AddPolicy(
      "twin", {{"schedule", "* * * * *"}, {"retention", {{"maxAge", "30s"}, {"minReady", 0}}}});
  Start("* * * * *", {{"maxAge", "30s"}, {"minReady", 0}});
  world_.RunFor(absl::Minutes(3) + absl::Seconds(50));
  size_t left = 0;
  for (const char* policy : {"pruned", "twin"}) left += world_.SnapshotsOf(policy).size();
  EXPECT_EQ(left, size_t{kClaims});
}

// Only ours, and only those that stay.
TEST_F(SeriesTest, MetricsCountNoCopiesAndNoneThatIsBeingDeleted) {
  Start("@every 10m", {{"keepLast", 3}});
  const std::vector<Snapshot> taken = Take(3);
  world_.simulator().AddNamespace("elsewhere");
  world_.CopySnapshot(taken[0].meta.name, {"elsewhere", taken[0].meta.name});
  Patch({Kind::kSnapshot, "default", taken[0].meta.name},
        {{"metadata", {{"finalizers", {"example.com/stay"}}}}});
  ASSERT_TRUE(world_.simulator()
                  .store()
                  .Delete({Kind::kSnapshot, "default", taken[0].meta.name}, {}, "somebody")
                  .ok());
  world_.RunFor(absl::Seconds(5));
  const std::string metrics = world_.MetricsOf("scheduler-0");
  EXPECT_THAT(metrics,
              HasSubstr(R"(persistentvolumeclaim="data",policy="pruned",ready="true"} 2)"));
  EXPECT_THAT(metrics,
              HasSubstr(R"(persistentvolumeclaim="data",policy="pruned",ready="false"} 0)"));
  EXPECT_THAT(
      metrics,
      HasSubstr(R"(snapkeeper_policy_deleting_snapshots{namespace="default",policy="pruned"} 1)"));
}

TEST_F(SeriesTest, DeletesThatHangLeaveSlotsToCreates) {
  for (int i = 0; i < 70; ++i) {
    const std::string app = "app-" + std::to_string(i);
    world_.simulator().AddClaim("default", "data-" + app, {{"app", app}});
    world_.AddPolicy(app, {{"schedule", "@every 60s"},
                           {"selector", {{"matchLabels", {{"app", app}}}}},
                           {"retention", {{"keepLast", 1}}}});
  }
  FaultOn hang(Verb::kDelete, Kind::kSnapshot, Fault::Hang());
  world_.simulator().SetFaultPlan(&hang);
  Start("@every 7s", {{"keepLast", 100}});
  world_.RunFor(absl::Minutes(4));
  EXPECT_GE(world_.SnapshotsOf("pruned").size(), 33u);
  EXPECT_EQ(world_.StatusOf("pruned").missed_runs, 0);
  world_.simulator().SetFaultPlan(nullptr);
}

TEST_F(SeriesTest, ADeleteThatHangsIsToldAndNotRepeated) {
  Start("@every 10m", {{"keepLast", 2}});
  const Snapshot first = TakeFirst();
  Patch({Kind::kSnapshot, "default", first.meta.name},
        {{"metadata", {{"finalizers", {"example.com/stay"}}}}});
  int deletes = 0, told = 0;
  FaultBy count([&](std::string_view, Verb verb, const ObjectKey& key) {
    deletes += verb == Verb::kDelete && key.name == first.meta.name;
    told += verb == Verb::kCreate && key.kind == Kind::kEvent;
    return Fault();
  });
  world_.simulator().SetFaultPlan(&count);
  world_.RunFor(absl::Minutes(40));
  ASSERT_EQ(deletes, 1);
  EXPECT_EQ(told, 1);
  world_.RunFor(absl::Hours(2));
  EXPECT_EQ(deletes, 1);
  EXPECT_EQ(told, 1);
  world_.simulator().SetFaultPlan(nullptr);
}

}  // namespace
}  // namespace snapkeeper
