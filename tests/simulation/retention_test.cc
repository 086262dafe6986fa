#include <absl/time/time.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/simulation/fault_on.h"
#include "tests/simulation/world.h"

namespace snapkeeper {
namespace {

using ::testing::IsEmpty;

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

}  // namespace
}  // namespace snapkeeper
