#include "common/model/select.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/model/reason.h"

namespace snapkeeper {
namespace {

const absl::Time kInstant = absl::FromUnixSeconds(1795359600);

Policy PolicyOf(LabelSelector selector) {
  Policy policy;
  policy.meta.ns = "shop";
  policy.spec.selector = std::move(selector);
  return policy;
}

Claim ClaimOf(const std::string& name, std::map<std::string, std::string> labels = {}) {
  Claim claim;
  claim.meta.ns = "shop";
  claim.meta.name = name;
  claim.meta.uid = "uid-" + name;
  claim.meta.created = kInstant;
  claim.labels = std::move(labels);
  claim.phase = "Bound";
  claim.volume_name = "pv-" + name;
  claim.source_json = R"({"spec":{}})";
  return claim;
}

std::vector<std::string> Names(const std::vector<const Claim*>& claims) {
  std::vector<std::string> names;
  for (const Claim* claim : claims) names.push_back(claim->meta.name);
  return names;
}

TEST(SelectTest, SelectsByNamespaceLabelsAndOptOut) {
  const Policy policy = PolicyOf({{{"app", "db"}}, {}});
  const struct {
    const char* what;
    void (*change)(Claim&);
    bool selected;
  } cases[] = {
      {"matching", [](Claim&) {}, true},
      {"another namespace", [](Claim& c) { c.meta.ns = "bank"; }, false},
      {"other labels",
       [](Claim& c) {
         c.labels = {{"app", "web"}};
       },
       false},
      {"opted out", [](Claim& c) { c.exclude = "true"; }, false},
      {"opt-out says false", [](Claim& c) { c.exclude = "false"; }, true},
      {"not bound yet: preflight tells", [](Claim& c) { c.phase = "Pending"; }, true},
      {"being deleted: preflight tells", [](Claim& c) { c.meta.deleting = true; }, true},
  };
  for (const auto& c : cases) {
    Claim claim = ClaimOf("data-0", {{"app", "db"}});
    c.change(claim);
    EXPECT_EQ(Selects(policy, claim), c.selected) << c.what;
  }
}

TEST(SelectTest, TheEmptySelectorSelectsEveryClaimButThoseOptedOut) {
  const Claim a = ClaimOf("a"), b = ClaimOf("b", {{"app", "db"}});
  Claim out = ClaimOf("out");
  out.exclude = "true";
  EXPECT_THAT(Names(SelectVolumes(PolicyOf({}), kInstant, {&out, &b, &a})),
              testing::ElementsAre("a", "b"));
}

TEST(SelectTest, ARunIsForTheClaimsThatExistedAtItsInstant) {
  Claim before = ClaimOf("before"), same = ClaimOf("same"), after = ClaimOf("after");
  before.meta.created = kInstant - absl::Seconds(1);
  after.meta.created = kInstant + absl::Seconds(1);
  EXPECT_THAT(Names(SelectVolumes(PolicyOf({}), kInstant, {&same, &after, &before})),
              testing::ElementsAre("before", "same"));
  EXPECT_THAT(SelectVolumes(PolicyOf({}), kInstant, {}), testing::IsEmpty());
}

SnapshotClass ClassOf(const std::string& name, const std::string& driver, bool is_default) {
  SnapshotClass snapshot_class;
  snapshot_class.meta.name = name;
  snapshot_class.driver = driver;
  snapshot_class.is_default = is_default;
  return snapshot_class;
}

// A claim that can be snapshotted, and all that preflight looks at.
struct Scene {
  Policy policy = PolicyOf({});
  Claim claim = ClaimOf("data-0");
  std::optional<Volume> volume;
  std::optional<Namespace> ns = Namespace();
  std::vector<SnapshotClass> classes = {ClassOf("fast", "csi.example.com", true),
                                        ClassOf("slow", "csi.example.com", false),
                                        ClassOf("other", "other.example.com", true)};

  Scene() {
    volume.emplace();
    volume->meta.name = "pv-data-0";
    volume->claim_uid = "uid-data-0";
    volume->driver = "csi.example.com";
    volume->volume_handle = "handle-0";
  }

  absl::StatusOr<Target> Judge() const {
    std::vector<const SnapshotClass*> pointers;
    for (const auto& snapshot_class : classes) pointers.push_back(&snapshot_class);
    return Preflight(policy, claim, volume ? &*volume : nullptr, ns ? &*ns : nullptr, pointers);
  }
};

TEST(PreflightTest, TellsWhatTheJobMustCarry) {
  auto target = Scene().Judge();
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ(*target, (Target{"shop", "data-0", "uid-data-0", "fast", "csi.example.com", "handle-0",
                             R"({"spec":{}})"}));
}

TEST(PreflightTest, TakesTheNamedClassAlsoIfItIsNoDefault) {
  Scene scene;
  scene.policy.spec.snapshot_class = "slow";
  scene.classes[0].is_default = false;
  auto target = scene.Judge();
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ(target->snapshot_class, "slow");
}

TEST(PreflightTest, AnUnknownNamespaceIsNoObstacle) {
  Scene scene;
  scene.ns.reset();
  EXPECT_TRUE(scene.Judge().ok());
}

TEST(PreflightTest, RefusesWithReasonObjectCauseAndRemedy) {
  const struct {
    const char* what;
    void (*change)(Scene&);
    Reason reason;
    std::vector<std::string> said;
  } cases[] = {
      {"namespace going",
       [](Scene& s) { s.ns->meta.deleting = true; },
       Reason::kNamespaceTerminating,
       {"namespace is being deleted", "recreate"}},
      {"claim going",
       [](Scene& s) { s.claim.meta.deleting = true; },
       Reason::kClaimTerminating,
       {"is being deleted", "exclude it"}},
      {"claim pending",
       [](Scene& s) { s.claim.phase = "Pending"; },
       Reason::kClaimNotBound,
       {"phase Pending", "kubectl describe pvc"}},
      {"claim lost",
       [](Scene& s) { s.claim.phase = "Lost"; },
       Reason::kClaimNotBound,
       {"phase Lost"}},
      {"claim without phase",
       [](Scene& s) { s.claim.phase = ""; },
       Reason::kClaimNotBound,
       {"phase none"}},
      {"no volume",
       [](Scene& s) { s.volume.reset(); },
       Reason::kClaimNotBound,
       {"\"pv-data-0\" does not exist", "recreate the claim"}},
      {"volume of another claim",
       [](Scene& s) { s.volume->claim_uid = "older"; },
       Reason::kClaimNotBound,
       {"pv-data-0", "\"older\"", "uid-data-0", "bind"}},
      {"volume of no claim",
       [](Scene& s) { s.volume->claim_uid = ""; },
       Reason::kClaimNotBound,
       {"\"\""}},
      {"not CSI",
       [](Scene& s) { s.volume->driver = s.volume->volume_handle = ""; },
       Reason::kNotCsi,
       {"pv-data-0 is not a CSI volume", "exclude the claim"}},
      {"named class missing",
       [](Scene& s) { s.policy.spec.snapshot_class = "none"; },
       Reason::kClassNotFound,
       {"VolumeSnapshotClass none does not exist", "create it"}},
      {"no class at all",
       [](Scene& s) { s.classes.clear(); },
       Reason::kNoDefaultClass,
       {"csi.example.com", "is-default-class"}},
      {"no default for this driver",
       [](Scene& s) { s.classes[0].is_default = false; },
       Reason::kNoDefaultClass,
       {"csi.example.com", "snapshotClassName"}},
      {"two defaults",
       [](Scene& s) { s.classes[1].is_default = true; },
       Reason::kMultipleDefaultClasses,
       {"2 default", "fast, slow", "snapshotClassName"}},
      {"class of another driver",
       [](Scene& s) { s.policy.spec.snapshot_class = "other"; },
       Reason::kDriverMismatch,
       {"other is for driver other.example.com", "driver csi.example.com", "snapshotClassName"}},
  };
  for (const auto& c : cases) {
    Scene scene;
    c.change(scene);
    const absl::Status status = scene.Judge().status();
    ASSERT_FALSE(status.ok()) << c.what;
    EXPECT_EQ(ReasonOf(status), c.reason) << c.what;
    EXPECT_FALSE(IsRetryable(status)) << c.what;
    const std::string message(status.message());
    EXPECT_THAT(message, testing::HasSubstr("PersistentVolumeClaim shop/data-0")) << c.what;
    for (const std::string& part : c.said) EXPECT_THAT(message, testing::HasSubstr(part));
  }
}

TEST(PreflightTest, TheCauseNearestToTheUserComesFirst) {
  Scene scene;
  scene.ns->meta.deleting = scene.claim.meta.deleting = true;
  scene.claim.phase = "Pending";
  scene.volume.reset();
  scene.classes.clear();
  EXPECT_EQ(ReasonOf(scene.Judge().status()), Reason::kNamespaceTerminating);
  scene.ns->meta.deleting = false;
  EXPECT_EQ(ReasonOf(scene.Judge().status()), Reason::kClaimTerminating);
  scene.claim.meta.deleting = false;
  EXPECT_EQ(ReasonOf(scene.Judge().status()), Reason::kClaimNotBound);
}

}  // namespace
}  // namespace snapkeeper
