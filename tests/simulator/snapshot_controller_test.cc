#include "simulator/snapshot_controller.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/simulator/world.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kClaimFinalizer[] = "snapshot.storage.kubernetes.io/pvc-as-source-protection";

class SnapshotControllerTest : public testing::Test {
 protected:
  void Behave(ClassBehaviour behaviour) {
    world_.simulator.volumes().SetBehaviour("sim", std::move(behaviour));
  }
  json Status(const std::string& name) {
    return world_.At({Kind::kSnapshot, "default", name}, "/status");
  }
  std::string ContentOf(const std::string& name) {
    return "snapcontent-" + world_.snapshot(name)->meta.uid;
  }
  bool Exists(const std::string& name) { return world_.snapshot(name) != nullptr; }
  size_t physical() { return world_.simulator.volumes().storage().snapshots.size(); }

  World world_;
  Store& store_ = world_.store();
  const ObjectKey claim_{Kind::kClaim, "default", "data-0"};
};

TEST_F(SnapshotControllerTest, ASnapshotIsBoundThenCutThenReady) {
  Behave({.bind_after = absl::Seconds(1),
          .cut_after = absl::Seconds(2),
          .ready_after = absl::Seconds(3)});
  const absl::Time start = world_.loop.Now();
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  EXPECT_EQ(Status("a"), json());
  world_.Run(absl::Seconds(1));
  const std::string content = ContentOf("a");
  EXPECT_EQ(Status("a"),
            json({{"boundVolumeSnapshotContentName", content}, {"readyToUse", false}}));
  EXPECT_EQ(world_.At({Kind::kContent, "", content}, "/spec/volumeSnapshotRef/uid"),
            world_.snapshot("a")->meta.uid);
  EXPECT_EQ(world_.At({Kind::kSnapshot, "default", "a"}, "/metadata/finalizers"),
            json({"snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection",
                  "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection"}));
  world_.Run(absl::Seconds(2));
  EXPECT_EQ(world_.snapshot("a")->cut_time, start + absl::Seconds(3));
  EXPECT_FALSE(world_.snapshot("a")->ready_to_use);
  world_.Run(absl::Seconds(3));
  EXPECT_TRUE(world_.snapshot("a")->ready_to_use);
  EXPECT_EQ(world_.snapshot("a")->cut_time, start + absl::Seconds(3));
  EXPECT_EQ(Status("a")["restoreSize"], "1Gi");
  EXPECT_EQ(world_.At({Kind::kContent, "", content}, "/status"),
            json({{"snapshotHandle", "snap-" + world_.snapshot("a")->meta.uid},
                  {"creationTime", absl::ToUnixNanos(start + absl::Seconds(3))},
                  {"readyToUse", true},
                  {"restoreSize", 1 << 30}}));
}

TEST_F(SnapshotControllerTest, FiveWritesMakeASnapshotThatIsReadyAtOnceAndThreeMoreEndIt) {
  const int64_t before = store_.counts().writes;
  ASSERT_THAT(world_.TakeSnapshot("a", {{"volumeSnapshotClassName", "sim"},
                                        {"source", {{"persistentVolumeClaimName", "data-0"}}}}),
              IsOk());
  EXPECT_EQ(store_.counts().writes - before,
            5);  // created; content, bound; content and snapshot cut and ready
  ASSERT_THAT(world_.Delete({Kind::kSnapshot, "default", "a"}), IsOk());
  EXPECT_EQ(store_.counts().writes - before, 8);  // marked; content gone, gone
}

// external-snapshotter v8.7 pkg/common-controller/snapshot_controller.go.
TEST_F(SnapshotControllerTest, WhatIsWrongIsToldInTheControllersWords) {
  world_.simulator.AddSnapshotClass("foreign", "other.example.com", false);
  ASSERT_THAT(world_.Create(Kind::kClaim, ClaimJson("pending", {{"storageClassName", "unknown"}})),
              IsOk());
  ASSERT_THAT(world_.Create(Kind::kVolume, {{"metadata", {{"name", "local"}}},
                                            {"spec",
                                             {{"capacity", {{"storage", "1Gi"}}},
                                              {"accessModes", {"ReadWriteOnce"}},
                                              {"hostPath", {{"path", "/x"}}}}}}),
              IsOk());
  ASSERT_THAT(world_.Create(Kind::kClaim, ClaimJson("local", {{"volumeName", "local"},
                                                              {"storageClassName", ""}})),
              IsOk());
  struct Case {
    std::string claim, snapshot_class, message;
    json ready;
  };
  const std::string kContentError = "Failed to create snapshot content with error ";
  for (const Case& c : {
           Case{"data-0", "none",
                "Failed to get snapshot class with error "
                "volumesnapshotclass.snapshot.storage.k8s.io \"none\" not found",
                nullptr},
           Case{"gone", "",
                "Failed to set default snapshot class with error failed to retrieve PVC gone from "
                "the lister: \"persistentvolumeclaim \\\"gone\\\" not found\"",
                nullptr},
           Case{"pending", "",
                "Failed to set default snapshot class with error the PVC pending is not yet bound "
                "to a PV, will not attempt to take a snapshot",
                nullptr},
           Case{"local", "",
                "Failed to set default snapshot class with error snapshotting non-CSI volumes is "
                "not supported, snapshot:default/s",
                nullptr},
           Case{"gone", "sim",
                kContentError + "snapshot controller failed to update s on API server: cannot get "
                                "claim from snapshot",
                false},
           Case{"pending", "sim",
                kContentError +
                    "failed to get input parameters to create snapshot s: \"the PVC pending is not "
                    "yet bound to a PV, will not attempt to take a snapshot\"",
                false},
           Case{"local", "sim",
                kContentError + "cannot find CSI PersistentVolumeSource for volume local", false},
       }) {
    json spec = {{"source", {{"persistentVolumeClaimName", c.claim}}}};
    if (!c.snapshot_class.empty()) spec["volumeSnapshotClassName"] = c.snapshot_class;
    ASSERT_THAT(world_.TakeSnapshot("s", spec), IsOk());
    EXPECT_EQ(Status("s")["error"]["message"], c.message);
    EXPECT_EQ(Status("s").value("readyToUse", json()), c.ready) << c.message;
    const int64_t rv = store_.resource_version();
    world_.Run(absl::Minutes(10));
    EXPECT_EQ(store_.resource_version(), rv) << "the same message is not written twice";
    ASSERT_THAT(world_.Delete({Kind::kSnapshot, "default", "s"}), IsOk());
    EXPECT_FALSE(Exists("s")) << c.message;
  }
}

TEST_F(SnapshotControllerTest, NeitherNoneNorTwoDefaultClassesWillDo) {
  world_.simulator.AddSnapshotClass("second", kSimDriver, true);
  ASSERT_THAT(world_.TakeSnapshot("two"), IsOk());
  EXPECT_EQ(
      world_.snapshot("two")->error,
      "Failed to set default snapshot class with error 2 default snapshot classes were found");
  ASSERT_THAT(world_.Delete({Kind::kSnapshotClass, "", "second"}), IsOk());
  ASSERT_THAT(world_.Delete({Kind::kSnapshotClass, "", "sim"}), IsOk());
  ASSERT_THAT(world_.TakeSnapshot("none"), IsOk());
  EXPECT_EQ(world_.snapshot("none")->error,
            "Failed to set default snapshot class with error cannot find default snapshot class");
  world_.simulator.AddSnapshotClass("sim", kSimDriver, true);
  world_.Run(absl::Minutes(6));  // nothing is terminal
  for (const char* name : {"two", "none"}) {
    EXPECT_TRUE(world_.snapshot(name)->ready_to_use);
    EXPECT_EQ(world_.snapshot(name)->class_name, "sim");
    EXPECT_THAT(world_.snapshot(name)->error, IsEmpty());
  }
}

TEST_F(SnapshotControllerTest, ADriverThatDoesNotRunLeavesItBoundForEver) {
  world_.simulator.AddSnapshotClass("foreign", "other.example.com", false);
  ASSERT_THAT(world_.TakeSnapshot("a", {{"volumeSnapshotClassName", "foreign"},
                                        {"source", {{"persistentVolumeClaimName", "data-0"}}}}),
              IsOk());
  world_.Run(absl::Hours(1));
  EXPECT_EQ(Status("a"),
            json({{"boundVolumeSnapshotContentName", ContentOf("a")}, {"readyToUse", false}}));
}

TEST_F(SnapshotControllerTest, FailedCallsAreTriedAgainAfterOneSecondThenTwo) {
  Behave({.fail_creates = 2, .error_text = "rpc error: code = ResourceExhausted desc = slow down"});
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  const std::string handle =
      store_.Find<Volume>("", store_.Find<Claim>("default", "data-0")->volume_name)->volume_handle;
  const std::string rest = ": failed to take snapshot of the volume " + handle +
                           ": \"rpc error: code = ResourceExhausted desc = slow down\"";
  EXPECT_EQ(world_.snapshot("a")->error, "Failed to create snapshot" + rest);
  world_.Run(absl::Seconds(1));
  EXPECT_EQ(world_.snapshot("a")->error, "Failed to check and update snapshot content" + rest);
  EXPECT_FALSE(world_.snapshot("a")->cut_time);
  world_.Run(absl::Milliseconds(1999));
  EXPECT_FALSE(world_.snapshot("a")->ready_to_use);
  world_.Run(absl::Milliseconds(1));
  EXPECT_TRUE(world_.snapshot("a")->ready_to_use);
  EXPECT_THAT(world_.snapshot("a")->error, IsEmpty());
}

TEST_F(SnapshotControllerTest, AnErrorTextStandsBesideTheCutUntilReady) {
  Behave({.ready_after = absl::Minutes(1), .error_text = "uploading"});
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  EXPECT_TRUE(world_.snapshot("a")->cut_time);
  EXPECT_THAT(world_.snapshot("a")->error, HasSubstr("uploading"));
  world_.Run(absl::Minutes(1));
  EXPECT_TRUE(world_.snapshot("a")->ready_to_use);
  EXPECT_EQ(Status("a").contains("error"), false);
}

TEST_F(SnapshotControllerTest, PendingSnapshotsFollowAChangeOfBehaviour) {
  Behave({.never_ready = true});
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  world_.Run(absl::Hours(24));
  EXPECT_FALSE(world_.snapshot("a")->ready_to_use);
  Behave({});
  world_.Settle();
  EXPECT_TRUE(world_.snapshot("a")->ready_to_use);

  Behave({.never_bound = true});
  ASSERT_THAT(world_.TakeSnapshot("b"), IsOk());
  world_.Run(absl::Hours(1));
  EXPECT_EQ(Status("b"), json());
  Behave({.never_cut = true});
  world_.Run(absl::Hours(1));
  EXPECT_FALSE(world_.snapshot("b")->bound_content.empty());
  EXPECT_FALSE(world_.snapshot("b")->cut_time);
  Behave({});
  world_.Settle();
  EXPECT_TRUE(world_.snapshot("b")->ready_to_use);
}

TEST_F(SnapshotControllerTest, CutTimesMayBeAbsentOrWrong) {
  Behave({.no_cut_time = true});
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  EXPECT_EQ(Status("a")["creationTime"], "1970-01-01T00:00:00Z");
  Behave({.cut_clock_skew = absl::Hours(2)});
  ASSERT_THAT(world_.TakeSnapshot("b"), IsOk());
  EXPECT_EQ(world_.snapshot("b")->cut_time, world_.loop.Now() + absl::Hours(2));
}

TEST_F(SnapshotControllerTest, ASnapshotHoldsTheDataOfItsCut) {
  Behave({.cut_after = absl::Seconds(1), .ready_after = absl::Seconds(1)});
  Volumes& volumes = world_.simulator.volumes();
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  EXPECT_EQ(volumes.SnapshotDataOf("default", "a"), std::nullopt);
  volumes.WriteData("default", "data-0");
  world_.Run(absl::Seconds(1));
  volumes.WriteData("default", "data-0");
  EXPECT_EQ(volumes.SnapshotDataOf("default", "a"), 2);
  EXPECT_EQ(volumes.DataOf("default", "data-0"), 3);
}

TEST_F(SnapshotControllerTest, DeletingTakesTheContentAndTheDataWithIt) {
  Behave({.delete_after = absl::Seconds(10), .fail_deletes = 2});
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  const ObjectKey content{Kind::kContent, "", ContentOf("a")};
  ASSERT_THAT(world_.Delete({Kind::kSnapshot, "default", "a"}), IsOk());
  EXPECT_TRUE(world_.snapshot("a")->meta.deleting);
  EXPECT_EQ(
      world_.At(
          content,
          "/metadata/annotations/snapshot.storage.kubernetes.io~1volumesnapshot-being-deleted"),
      "yes");
  world_.Run(
      absl::Milliseconds(12'999));  // 10 s, and failures that are tried again after 1 and 2 s
  EXPECT_TRUE(Exists("a"));
  EXPECT_EQ(physical(), 1u);
  world_.Run(absl::Milliseconds(1));
  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(store_.Find(content), nullptr);
  EXPECT_EQ(physical(), 0u);
}

TEST_F(SnapshotControllerTest, ADeleteThatAlwaysFailsHangsUntilTheDriverIsMended) {
  Behave({.fail_deletes = -1});
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  ASSERT_THAT(world_.Delete({Kind::kSnapshot, "default", "a"}), IsOk());
  world_.Run(absl::Hours(5));
  EXPECT_TRUE(Exists("a"));
  Behave({});
  world_.Run(absl::Minutes(6));
  EXPECT_FALSE(Exists("a"));
}

TEST_F(SnapshotControllerTest, WithPolicyRetainTheContentAndTheDataStay) {
  world_.simulator.AddSnapshotClass("keeping", kSimDriver, false, "Retain");
  ASSERT_THAT(world_.TakeSnapshot("a", {{"volumeSnapshotClassName", "keeping"},
                                        {"source", {{"persistentVolumeClaimName", "data-0"}}}}),
              IsOk());
  const ObjectKey content{Kind::kContent, "", ContentOf("a")};
  ASSERT_THAT(world_.Delete({Kind::kSnapshot, "default", "a"}), IsOk());
  EXPECT_FALSE(Exists("a"));
  EXPECT_NE(store_.Find(content), nullptr);
  EXPECT_EQ(physical(), 1u);
  // To be rid of it: say Delete, then delete the content.
  ASSERT_THAT(store_.Patch(content, {{"spec", {{"deletionPolicy", "Delete"}}}}, false, "me"),
              IsOk());
  ASSERT_THAT(world_.Delete(content), IsOk());
  EXPECT_EQ(store_.Find(content), nullptr);
  EXPECT_EQ(physical(), 0u);
}

TEST_F(SnapshotControllerTest, AContentDeletedByHandWaitsForItsSnapshot) {
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  const ObjectKey content{Kind::kContent, "", ContentOf("a")};
  ASSERT_THAT(world_.Delete(content), IsOk());
  world_.Run(absl::Hours(1));
  EXPECT_NE(store_.Find(content), nullptr);
  EXPECT_TRUE(world_.snapshot("a")->ready_to_use);
  ASSERT_THAT(world_.Delete({Kind::kSnapshot, "default", "a"}), IsOk());
  EXPECT_EQ(store_.Find(content), nullptr);
  EXPECT_FALSE(Exists("a"));
}

TEST_F(SnapshotControllerTest, ADeleteWaitsForAHangingCreate) {
  Behave({.never_cut = true});
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  ASSERT_THAT(world_.Delete({Kind::kSnapshot, "default", "a"}), IsOk());
  world_.Run(absl::Hours(1));
  EXPECT_TRUE(Exists("a"));
  Behave({});
  world_.Settle();
  EXPECT_FALSE(Exists("a"));
}

TEST_F(SnapshotControllerTest, ADeleteWaitsForAPendingClaimThatIsToBeMadeFromIt) {
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  // Too small, so that it stays Pending.
  ASSERT_THAT(
      world_.Create(Kind::kClaim,
                    ClaimJson("restored", {{"dataSource",
                                            {{"apiGroup", "snapshot.storage.k8s.io"},
                                             {"kind", "VolumeSnapshot"},
                                             {"name", "a"}}},
                                           {"resources", {{"requests", {{"storage", "1Mi"}}}}}})),
      IsOk());
  ASSERT_THAT(world_.Delete({Kind::kSnapshot, "default", "a"}), IsOk());
  world_.Run(absl::Hours(1));
  EXPECT_TRUE(Exists("a"));
  ASSERT_THAT(world_.Delete({Kind::kClaim, "default", "restored"}), IsOk());
  EXPECT_FALSE(Exists("a"));
}

TEST_F(SnapshotControllerTest, AMemberOfAGroupIsNotDeletedAlone) {
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  ASSERT_THAT(store_.Patch({Kind::kSnapshot, "default", "a"},
                           {{"status", {{"volumeGroupSnapshotName", "g"}}}}, true, "me"),
              IsOk());
  ASSERT_THAT(world_.Delete({Kind::kSnapshot, "default", "a"}), IsOk());
  world_.Run(absl::Hours(1));
  EXPECT_TRUE(Exists("a"));
}

TEST_F(SnapshotControllerTest, AnUnreadySnapshotKeepsItsClaimFromGoing) {
  Behave({.never_ready = true});
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  ASSERT_THAT(world_.Delete(claim_), IsOk());
  EXPECT_EQ(world_.At(claim_, "/metadata/finalizers"), json({kClaimFinalizer}));
  Behave({});
  world_.Settle();
  EXPECT_TRUE(world_.snapshot("a")->ready_to_use);
  EXPECT_EQ(store_.Find(claim_), nullptr);
  EXPECT_EQ(world_.simulator.volumes().SnapshotDataOf("default", "a"), 1);  // outlives the volume
}

TEST_F(SnapshotControllerTest, ATerminatingClaimIsTakenOnlyWhileAnotherSnapshotHoldsIt) {
  json held = ClaimJson("held");
  held["metadata"]["finalizers"] = {"a.b/c"};
  ASSERT_THAT(world_.Create(Kind::kClaim, held), IsOk());
  ASSERT_THAT(world_.Delete({Kind::kClaim, "default", "held"}), IsOk());
  ASSERT_THAT(world_.TakeSnapshot("a", {{"source", {{"persistentVolumeClaimName", "held"}}}}),
              IsOk());
  EXPECT_EQ(world_.snapshot("a")->error,
            "Failed to create snapshot content with error snapshot controller failed to update "
            "held on API server: cannot add finalizer on claim because it is being deleted");

  Behave({.never_ready = true});
  ASSERT_THAT(world_.TakeSnapshot("first"), IsOk());
  ASSERT_THAT(world_.Delete(claim_), IsOk());
  ASSERT_THAT(world_.TakeSnapshot("second"), IsOk());
  EXPECT_THAT(world_.snapshot("second")->error, IsEmpty());
  EXPECT_TRUE(world_.snapshot("second")->cut_time);
}

TEST_F(SnapshotControllerTest, AClaimThatWasReplacedBeforeTheBindingGivesTheOtherVolume) {
  Behave({.bind_after = absl::Seconds(5)});
  const std::string old_handle = "vol-" + store_.Find<Claim>("default", "data-0")->meta.uid;
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  ASSERT_THAT(world_.Delete(claim_), IsOk());
  world_.simulator.AddClaim("default", "data-0", {});
  world_.Run(absl::Seconds(5));
  ASSERT_TRUE(world_.snapshot("a")->ready_to_use);
  EXPECT_NE(store_.Find<Content>("", ContentOf("a"))->volume_handle, old_handle);
}

TEST_F(SnapshotControllerTest, AContentThatVanishesIsMadeAgainWithTheOldTimeAndNewData) {
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  const auto cut = world_.snapshot("a")->cut_time;
  const ObjectKey content{Kind::kContent, "", ContentOf("a")};
  world_.Run(absl::Minutes(1));
  world_.simulator.volumes().WriteData("default", "data-0");
  ASSERT_THAT(store_.Patch(content, {{"metadata", {{"finalizers", nullptr}}}}, false, "me"),
              IsOk());
  ASSERT_THAT(world_.Delete(content), IsOk());
  EXPECT_FALSE(world_.snapshot("a")->ready_to_use);
  EXPECT_EQ(world_.snapshot("a")->error, "VolumeSnapshotContent is missing");
  world_.Run(absl::Seconds(1));
  EXPECT_TRUE(world_.snapshot("a")->ready_to_use);
  EXPECT_EQ(world_.snapshot("a")->cut_time, cut);
  EXPECT_EQ(world_.simulator.volumes().SnapshotDataOf("default", "a"), 2);
}

TEST_F(SnapshotControllerTest, APreProvisionedSnapshotBindsToItsContent) {
  const auto content = [](const std::string& snapshot) {
    return json{{"metadata", {{"name", "mine"}}},
                {"spec",
                 {{"deletionPolicy", "Retain"},
                  {"driver", kSimDriver},
                  {"source", {{"snapshotHandle", "h"}}},
                  {"volumeSnapshotRef", {{"namespace", "default"}, {"name", snapshot}}}}}};
  };
  ASSERT_THAT(world_.TakeSnapshot("a", {{"source", {{"volumeSnapshotContentName", "mine"}}}}),
              IsOk());
  EXPECT_EQ(world_.snapshot("a")->error, "VolumeSnapshotContent is missing");
  ASSERT_THAT(world_.Create(Kind::kContent, content("other")), IsOk());
  world_.Run(absl::Seconds(2));
  EXPECT_THAT(world_.snapshot("a")->error, HasSubstr("the VolumeSnapshotRef does not match"));
  ASSERT_THAT(world_.Delete({Kind::kContent, "", "mine"}), IsOk());
  ASSERT_THAT(world_.Create(Kind::kContent, content("a")), IsOk());
  world_.Run(absl::Minutes(1));
  EXPECT_TRUE(world_.snapshot("a")->ready_to_use);
  EXPECT_EQ(store_.Find<Content>("", "mine")->snapshot_uid, world_.snapshot("a")->meta.uid);
}

TEST_F(SnapshotControllerTest, DelaysAreStretchedAtRandomWithinTheSpread) {
  Behave({.ready_after = absl::Seconds(10), .spread = 1});
  for (int i = 0; i < 50; ++i) ASSERT_THAT(world_.TakeSnapshot(fmt::format("s-{}", i)), IsOk());
  const auto ready = [&] {
    int count = 0;
    store_.ForEach<Snapshot>([&](const Snapshot& s) { count += s.ready_to_use; });
    return count;
  };
  world_.Run(absl::Milliseconds(9'999));
  EXPECT_EQ(ready(), 0);
  world_.Run(absl::Seconds(5));
  EXPECT_GT(ready(), 10);
  EXPECT_LT(ready(), 40);
  world_.Run(absl::Seconds(6));
  EXPECT_EQ(ready(), 50);
}

TEST_F(SnapshotControllerTest, ForeignFinalizersAreLeftAlone) {
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  store_.Edit({Kind::kSnapshot, "default", "a"}, "me", [](json& object) {
    object["metadata"]["finalizers"].push_back("a.b/c");
    return true;
  });
  ASSERT_THAT(world_.Delete({Kind::kSnapshot, "default", "a"}), IsOk());
  EXPECT_EQ(world_.At({Kind::kSnapshot, "default", "a"}, "/metadata/finalizers"), json({"a.b/c"}));
}

}  // namespace
}  // namespace snapkeeper
