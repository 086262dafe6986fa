#include "simulator/claim_binder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/simulator/world.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using nlohmann::json;
using ::testing::IsEmpty;

class ClaimBinderTest : public testing::Test {
 protected:
  std::shared_ptr<const Claim> claim(const std::string& name) {
    return world_.store().Find<Claim>("default", name);
  }
  absl::StatusOr<VersionPtr> Restore(const std::string& name, const std::string& kind,
                                     const std::string& source, const std::string& size = "1Gi") {
    json from = {{"kind", kind}, {"name", source}};
    if (kind == "VolumeSnapshot") from["apiGroup"] = "snapshot.storage.k8s.io";
    return world_.Create(Kind::kClaim,
                         ClaimJson(name, {{"dataSource", from},
                                          {"resources", {{"requests", {{"storage", size}}}}}}));
  }

  World world_;
};

TEST_F(ClaimBinderTest, AClaimGetsAVolumeThatClaimsItBack) {
  const auto bound = claim("data-0");
  EXPECT_EQ(bound->phase, "Bound");
  EXPECT_EQ(bound->storage_class, "sim");
  const auto volume = world_.store().Find<Volume>("", bound->volume_name);
  EXPECT_EQ(volume->meta.name, "pvc-" + bound->meta.uid);
  EXPECT_EQ(volume->claim_uid, bound->meta.uid);
  EXPECT_EQ(volume->driver, kSimDriver);
  EXPECT_EQ(world_.simulator.volumes().DataOf("default", "data-0"), 1);
}

TEST_F(ClaimBinderTest, AClaimOfAnUnknownClassStaysPending) {
  ASSERT_THAT(world_.Create(Kind::kClaim, ClaimJson("a", {{"storageClassName", "unknown"}})),
              IsOk());
  world_.Run(absl::Hours(1));
  EXPECT_EQ(claim("a")->phase, "Pending");
  EXPECT_EQ(world_.simulator.volumes().DataOf("default", "a"), std::nullopt);
}

TEST_F(ClaimBinderTest, AVolumeMadeBeforehandIsBoundByTheClaimThatNamesIt) {
  ASSERT_THAT(world_.Create(Kind::kClaim,
                            ClaimJson("a", {{"storageClassName", ""}, {"volumeName", "mine"}})),
              IsOk());
  EXPECT_EQ(claim("a")->phase, "Pending");
  json volume = {{"metadata", {{"name", "mine"}}},
                 {"spec",
                  {{"capacity", {{"storage", "1Gi"}}},
                   {"accessModes", {"ReadWriteOnce"}},
                   {"csi", {{"driver", kSimDriver}, {"volumeHandle", "h"}}},
                   {"claimRef", {{"namespace", "default"}, {"name", "other"}}}}}};
  ASSERT_THAT(world_.Create(Kind::kVolume, volume), IsOk());
  EXPECT_EQ(claim("a")->phase, "Pending");  // it is another's
  ASSERT_THAT(world_.Delete({Kind::kVolume, "", "mine"}), IsOk());
  volume["spec"].erase("claimRef");
  ASSERT_THAT(world_.Create(Kind::kVolume, volume), IsOk());
  EXPECT_EQ(claim("a")->phase, "Bound");
  EXPECT_EQ(world_.simulator.volumes().DataOf("default", "a"), 1);
  // Its reclaim policy is Retain, where none is named.
  ASSERT_THAT(world_.Delete({Kind::kClaim, "default", "a"}), IsOk());
  EXPECT_EQ(world_.At({Kind::kVolume, "", "mine"}, "/status/phase"), "Released");
}

TEST_F(ClaimBinderTest, ADeletedClaimTakesItsVolumeWithIt) {
  const std::string volume = claim("data-0")->volume_name;
  ASSERT_THAT(world_.Delete({Kind::kClaim, "default", "data-0"}), IsOk());
  EXPECT_EQ(world_.store().Find({Kind::kVolume, "", volume}), nullptr);
  EXPECT_THAT(world_.simulator.volumes().storage().volumes, IsEmpty());
}

TEST_F(ClaimBinderTest, ARestoredVolumeHoldsWhatTheSnapshotHolds) {
  Volumes& volumes = world_.simulator.volumes();
  volumes.WriteData("default", "data-0");
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  volumes.WriteData("default", "data-0");
  ASSERT_THAT(Restore("restored", "VolumeSnapshot", "a"), IsOk());
  EXPECT_EQ(volumes.DataOf("default", "restored"), 2);
  ASSERT_THAT(Restore("cloned", "PersistentVolumeClaim", "data-0"), IsOk());
  EXPECT_EQ(volumes.DataOf("default", "cloned"), 3);
}

TEST_F(ClaimBinderTest, ARestoreWaitsForAReadySnapshotOfItsDriverThatFits) {
  world_.simulator.volumes().SetBehaviour("sim", {.ready_after = absl::Minutes(1)});
  ASSERT_THAT(Restore("early", "VolumeSnapshot", "a"), IsOk());
  ASSERT_THAT(Restore("small", "VolumeSnapshot", "a", "1Mi"), IsOk());
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  EXPECT_EQ(claim("early")->phase, "Pending");
  world_.Run(absl::Minutes(1));
  EXPECT_EQ(claim("early")->phase, "Bound");
  EXPECT_EQ(claim("small")->phase, "Pending");
}

TEST(QuantityTest, IsReadAndWrittenAsKubernetesDoes) {
  const std::pair<const char*, std::optional<int64_t>> kCases[] = {
      {"0", 0},         {"1073741824", 1 << 30},
      {"1Gi", 1 << 30}, {"1.5Ki", 1536},
      {"1k", 1000},     {"1e3", 1000},
      {"2E3", 2000},    {"500m", 1},
      {"1500m", 2},     {"", {}},
      {"Gi", {}},       {"1Gb", {}},
      {"-1", {}},       {"1 Gi", {}},
      {"0x10", {}},     {"nan", {}},
      {"inf", {}},      {"9E", {9'000'000'000'000'000'000}},
      {"10Ei", {}},
  };
  for (const auto& [text, bytes] : kCases) EXPECT_EQ(ParseQuantity(text), bytes) << text;
  for (const auto& [bytes, text] : {std::pair<int64_t, const char*>{0, "0"},
                                    {1 << 30, "1Gi"},
                                    {1536, "1536"},
                                    {3 << 20, "3Mi"}})
    EXPECT_EQ(FormatQuantity(bytes), text);
}

}  // namespace
}  // namespace snapkeeper
