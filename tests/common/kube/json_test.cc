#include "common/kube/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/model/names.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

absl::Time At(std::string_view text) { return *ParseTime(text); }

template <class T>
T Read(const json& object) {
  const absl::StatusOr<ObjectPtr> value = ObjectFromJson(KindOf<T>::kValue, object);
  EXPECT_TRUE(value.ok()) << value.status();
  return value.ok() ? std::get<T>(**value) : T();
}

json Meta(json more = json::object()) {
  json meta = {{"name", "x"},
               {"namespace", "shop"},
               {"uid", "uid-x"},
               {"resourceVersion", "17"},
               {"creationTimestamp", "2026-11-22T15:00:00Z"}};
  meta.update(more);
  return meta;
}

TEST(PathTest, AddressesEachKind) {
  EXPECT_EQ(PathOf(Kind::kPolicy, "shop", "hourly"),
            "/apis/snapkeeper.io/v1alpha1/namespaces/shop/snapshotpolicies/hourly");
  EXPECT_EQ(PathOf(Kind::kClaim, "shop"), "/api/v1/namespaces/shop/persistentvolumeclaims");
  EXPECT_EQ(PathOf(Kind::kClaim, ""), "/api/v1/persistentvolumeclaims");
  EXPECT_EQ(PathOf(Kind::kVolume, "", "pv"), "/api/v1/persistentvolumes/pv");
  EXPECT_EQ(PathOf(Kind::kSnapshot, "shop", "s"),
            "/apis/snapshot.storage.k8s.io/v1/namespaces/shop/volumesnapshots/s");
  EXPECT_EQ(PathOf(Kind::kContent, "ignored", "c"),
            "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents/c");
  EXPECT_EQ(PathOf(Kind::kSnapshotClass, ""),
            "/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses");
  EXPECT_EQ(PathOf(Kind::kNamespace, "", "shop"), "/api/v1/namespaces/shop");
  EXPECT_EQ(PathOf(Kind::kLease, "shop", "l"),
            "/apis/coordination.k8s.io/v1/namespaces/shop/leases/l");
  EXPECT_EQ(PathOf(Kind::kEvent, "shop"), "/api/v1/namespaces/shop/events");
  EXPECT_EQ(PathOf(Kind::kLease, "a/b", "c?d"),
            "/apis/coordination.k8s.io/v1/namespaces/a%2Fb/leases/c%3Fd");
}

TEST(TimeTest, ReadsAnyRfc3339TimeAndWritesWholeSecondsOfUtc) {
  const absl::Time time = absl::FromUnixMillis(1'795'359'600'123);  // 2026-11-22T15:00:00.123Z
  for (std::string_view text : {"2026-11-22T15:00:00.123Z", "2026-11-22T16:00:00.123+01:00",
                                "2026-11-22T10:30:00.123000000-04:30"}) {
    EXPECT_EQ(ParseTime(text), time) << text;
  }
  EXPECT_EQ(FormatRfc3339(time), "2026-11-22T15:00:00Z");
  EXPECT_EQ(FormatMicroTime(time), "2026-11-22T15:00:00.123000Z");
  EXPECT_EQ(FormatMicroTime(At("2026-11-22T15:00:00Z")), "2026-11-22T15:00:00.000000Z");
  EXPECT_EQ(FormatRfc3339(absl::UnixEpoch()), "1970-01-01T00:00:00Z");
  EXPECT_EQ(FormatRfc3339(*ParseTime("9999-12-31T23:59:59-01:00")), "9999-12-31T23:59:59Z");
  EXPECT_EQ(FormatRfc3339(*ParseTime("0000-01-01T00:00:00+01:00")), "0000-01-01T00:00:00Z");
  for (std::string_view text :
       {"", "infinite-future", "2026-11-22", "2026-11-22T15:00:00", " 2026-11-22T15:00:00Z",
        "2026-11-22T15:00:00Z ", "2026-13-22T15:00:00Z", "now"}) {
    EXPECT_EQ(ParseTime(text), std::nullopt) << text;
  }
}

TEST(ObjectTest, ReadsMetadata) {
  const Namespace ns = Read<Namespace>({{"metadata",
                                         {{"name", "shop"},
                                          {"uid", "u"},
                                          {"resourceVersion", "1"},
                                          {"generation", 3},
                                          {"creationTimestamp", "2026-11-22T15:00:00Z"},
                                          {"deletionTimestamp", "2026-11-22T15:00:01Z"}}}});
  EXPECT_EQ(ns.meta, (ObjectMeta{"", "shop", "u", "1", 3, At("2026-11-22T15:00:00Z"), true}));
  EXPECT_FALSE(
      Read<Namespace>({{"metadata", Meta({{"deletionTimestamp", nullptr}})}}).meta.deleting);
}

TEST(ObjectTest, ReadsAClaim) {
  const json spec = {
      {"volumeName", "pv-1"}, {"storageClassName", "fast"}, {"accessModes", {"RWO"}}};
  const Claim claim = Read<Claim>(
      {{"metadata", Meta({{"labels", {{"app", "db"}}},
                          {"annotations", {{"snapkeeper.io/exclude", "true"}, {"other", "x"}}}})},
       {"spec", spec},
       {"status", {{"phase", "Bound"}}}});
  EXPECT_EQ(claim.labels, (std::map<std::string, std::string>{{"app", "db"}}));
  EXPECT_EQ(claim.exclude, "true");
  EXPECT_EQ(claim.phase, "Bound");
  EXPECT_EQ(claim.volume_name, "pv-1");
  EXPECT_EQ(claim.storage_class, "fast");
  EXPECT_EQ(claim.data_source_snapshot, "");
  EXPECT_EQ(claim.source_json, R"({"labels":{"app":"db"},"spec":)" + spec.dump() + "}");
}

TEST(ObjectTest, NamesTheSnapshotThatAClaimIsMadeFrom) {
  const json ours = {
      {"apiGroup", "snapshot.storage.k8s.io"}, {"kind", "VolumeSnapshot"}, {"name", "s"}};
  json here = ours, elsewhere = ours, clone = ours, later = ours;
  here["namespace"] = "shop";
  elsewhere["namespace"] = "bank";
  clone = {{"kind", "PersistentVolumeClaim"}, {"name", "s"}};
  const std::vector<std::pair<json, std::string>> cases = {
      {{{"dataSource", ours}}, "s"},
      {{{"dataSourceRef", ours}}, "s"},
      {{{"dataSourceRef", here}}, "s"},
      {{{"dataSource", nullptr}, {"dataSourceRef", elsewhere}}, ""},
      {{{"dataSource", clone}}, ""},
      {json::object(), ""},
  };
  for (const auto& [spec, name] : cases) {
    EXPECT_EQ(Read<Claim>({{"metadata", Meta()}, {"spec", spec}}).data_source_snapshot, name)
        << spec;
  }
}

TEST(ObjectTest, LeavesALargeSourceClaimOut) {
  auto source = [](size_t size) {
    return Read<Claim>({{"metadata", Meta()}, {"spec", {{"x", std::string(size, 'x')}}}})
        .source_json;
  };
  EXPECT_THAT(source(65'000),
              SizeIs(65'000 + std::string(R"({"labels":{},"spec":{"x":""}})").size()));
  EXPECT_EQ(source(64 << 10), "");
}

TEST(ObjectTest, ReadsAVolume) {
  const Volume volume = Read<Volume>({{"metadata", Meta()},
                                      {"spec",
                                       {{"claimRef", {{"uid", "claim-uid"}}},
                                        {"csi", {{"driver", "d"}, {"volumeHandle", "h"}}}}}});
  EXPECT_EQ(volume.claim_uid, "claim-uid");
  EXPECT_EQ(volume.driver, "d");
  EXPECT_EQ(volume.volume_handle, "h");
  EXPECT_EQ(Read<Volume>({{"metadata", Meta()}, {"spec", {{"nfs", json::object()}}}}).driver, "");
}

TEST(ObjectTest, ReadsAClass) {
  auto is_default = [](const char* value) {
    return Read<SnapshotClass>(
               {{"metadata",
                 Meta({{"annotations",
                        {{"snapshot.storage.kubernetes.io/is-default-class", value}}}})},
                {"driver", "d"},
                {"deletionPolicy", "Delete"}})
        .is_default;
  };
  EXPECT_TRUE(is_default("true"));
  EXPECT_FALSE(is_default("false"));
  EXPECT_EQ(Read<SnapshotClass>({{"metadata", Meta()}, {"driver", "d"}}).driver, "d");
}

TEST(ObjectTest, ReadsAContent) {
  const Content content = Read<Content>(
      {{"metadata", Meta()},
       {"spec",
        {{"driver", "d"},
         {"deletionPolicy", "Retain"},
         {"source", {{"volumeHandle", "h"}}},
         {"volumeSnapshotRef", {{"namespace", "shop"}, {"name", "s"}, {"uid", "u"}}}}},
       {"status", {{"creationTime", 1795359600000000000}, {"restoreSize", 1}}}});
  EXPECT_EQ(content.driver, "d");
  EXPECT_EQ(content.volume_handle, "h");
  EXPECT_EQ(content.snapshot_ns, "shop");
  EXPECT_EQ(content.snapshot_name, "s");
  EXPECT_EQ(content.snapshot_uid, "u");
  EXPECT_TRUE(content.retained);
}

TEST(ObjectTest, ReadsALease) {
  const Lease lease = Read<Lease>({{"metadata", Meta()},
                                   {"spec",
                                    {{"holderIdentity", "me"},
                                     {"leaseTransitions", 4},
                                     {"renewTime", "2026-11-22T15:00:00.000000Z"}}}});
  EXPECT_EQ(lease.holder, "me");
  EXPECT_EQ(lease.transitions, 4);
  EXPECT_EQ(Read<Lease>({{"metadata", Meta()}}).transitions, 0);
}

TEST(ObjectTest, ReadsASnapshot) {
  const Snapshot snapshot =
      Read<Snapshot>({{"metadata", Meta({{"labels",
                                          {{"app.kubernetes.io/managed-by", "snapkeeper"},
                                           {"snapkeeper.io/policy-uid", "p"},
                                           {"snapkeeper.io/pvc-uid", "c"},
                                           {"snapkeeper.io/instant", "20261122T150000Z"},
                                           {"snapkeeper.io/trigger", "schedule"}}},
                                         {"annotations",
                                          {{"snapkeeper.io/identity", "i"},
                                           {"snapkeeper.io/policy", "shop/hourly"},
                                           {"snapkeeper.io/claim", "data-0"},
                                           {"snapkeeper.io/volume-handle", "h"}}}})},
                      {"spec",
                       {{"source", {{"persistentVolumeClaimName", "data-0"}}},
                        {"volumeSnapshotClassName", "cls"}}},
                      {"status",
                       {{"boundVolumeSnapshotContentName", "content"},
                        {"creationTime", "2026-11-22T15:00:02Z"},
                        {"readyToUse", true},
                        {"restoreSize", "1Gi"},
                        {"error", {{"message", "slow"}, {"time", "2026-11-22T15:00:01Z"}}}}}});
  Snapshot expected;
  expected.meta = {"shop", "x", "uid-x", "17", 0, At("2026-11-22T15:00:00Z"), false};
  expected.source_claim = "data-0";
  expected.class_name = "cls";
  expected.bound_content = "content";
  expected.cut_time = At("2026-11-22T15:00:02Z");
  expected.ready_to_use = true;
  expected.error = "slow";
  expected.managed = true;
  expected.policy_uid = "p";
  expected.claim_uid = "c";
  expected.instant = "20261122T150000Z";
  expected.trigger = "schedule";
  expected.identity = "i";
  expected.policy = "shop/hourly";
  expected.claim = "data-0";
  expected.volume_handle = "h";
  EXPECT_EQ(snapshot, expected);
}

TEST(ObjectTest, ReadsANewSnapshotWithoutStatus) {
  const Snapshot snapshot =
      Read<Snapshot>({{"metadata", Meta()},
                      {"spec", {{"source", {{"volumeSnapshotContentName", "pre-provisioned"}}}}}});
  EXPECT_EQ(snapshot.source_claim, "");
  EXPECT_EQ(snapshot.cut_time, std::nullopt);
  EXPECT_FALSE(snapshot.ready_to_use);
  EXPECT_FALSE(snapshot.managed);
}

TEST(ObjectTest, KnowsGroupMembersByStatusOrOwner) {
  EXPECT_EQ(
      Read<Snapshot>({{"metadata", Meta()}, {"status", {{"volumeGroupSnapshotName", "g"}}}}).group,
      "g");
  EXPECT_EQ(
      Read<Snapshot>({{"metadata", Meta({{"ownerReferences",
                                          {{{"kind", "Other"}, {"name", "o"}},
                                           {{"kind", "VolumeGroupSnapshot"}, {"name", "g"}}}}})}})
          .group,
      "g");
}

TEST(ObjectTest, HoldsByLabelOrAnnotation) {
  struct Case {
    json labels, annotations;
    std::string hold, until;
  };
  const std::vector<Case> cases = {
      {nullptr, nullptr, "", ""},
      {{{"snapkeeper.io/hold", "true"}}, nullptr, "true", ""},
      {nullptr, {{"snapkeeper.io/hold", "true"}}, "true", ""},
      {{{"snapkeeper.io/hold", "true"}}, {{"snapkeeper.io/hold", "false"}}, "true", ""},
      {{{"snapkeeper.io/hold", "false"}}, {{"snapkeeper.io/hold", "true"}}, "true", ""},
      {{{"snapkeeper.io/hold", "true"}},
       {{"snapkeeper.io/hold-until", "2027-01-01T00:00:00Z"}},
       "true",
       "2027-01-01T00:00:00Z"},
  };
  for (const Case& c : cases) {
    const Snapshot snapshot = Read<Snapshot>(
        {{"metadata", Meta({{"labels", c.labels}, {"annotations", c.annotations}})}});
    EXPECT_EQ(snapshot.hold, c.hold);
    EXPECT_EQ(snapshot.hold_until, c.until);
  }
}

json PolicyJson(json spec, json status = json::object()) {
  json merged = {{"schedule", "@hourly"}, {"selector", json::object()}};
  merged.update(spec);
  return {{"metadata", Meta()}, {"spec", merged}, {"status", std::move(status)}};
}

TEST(PolicyTest, ReadsTheWholeSpec) {
  const PolicySpec spec =
      Read<Policy>(
          PolicyJson(
              {{"schedule", "0 * * * *"},
               {"timeZone", "Europe/Berlin"},
               {"suspend", true},
               {"startingDeadlineSeconds", 900},
               {"missedRunPolicy", "Skip"},
               {"selector",
                {{"matchLabels", {{"app", "db"}}},
                 {"matchExpressions",
                  {{{"key", "tier"}, {"operator", "In"}, {"values", {"gold", "silver"}}},
                   {{"key", "tmp"}, {"operator", "DoesNotExist"}}}}}},
               {"snapshotClassName", "cls"},
               {"readyTimeoutSeconds", 3600},
               {"retention",
                {{"keepLast", 24}, {"maxAge", "2160h"}, {"minReady", 2}, {"unreadyTtl", "1h30m"}}},
               {"runHistoryLimit", 7}}))
          .spec;
  PolicySpec expected;
  expected.schedule = "0 * * * *";
  expected.time_zone = "Europe/Berlin";
  expected.suspend = true;
  expected.starting_deadline = absl::Minutes(15);
  expected.run_latest = false;
  expected.selector = {{{"app", "db"}},
                       {{"tier", "In", {"gold", "silver"}}, {"tmp", "DoesNotExist", {}}}};
  expected.snapshot_class = "cls";
  expected.ready_timeout = absl::Hours(1);
  expected.retention = {24, absl::Hours(2160), 2, absl::Minutes(90)};
  expected.run_history_limit = 7;
  EXPECT_EQ(spec, expected);
}

TEST(PolicyTest, DefaultsWhatTheSchemaWould) {
  PolicySpec expected;
  expected.schedule = "@hourly";
  EXPECT_EQ(Read<Policy>(PolicyJson(json::object())).spec, expected);
  EXPECT_EQ(expected.time_zone, "UTC");
  EXPECT_TRUE(expected.run_latest);
}

PolicyStatus FullStatus() {
  PolicyStatus status;
  status.observed_generation = 3;
  status.last_schedule_time = At("2026-11-22T15:00:00Z");
  status.schedule_hash = "hash";
  status.schedule_since = At("2026-11-01T00:00:00Z");
  status.epoch = 12;
  status.last_successful_time = At("2026-11-22T14:00:00Z");
  status.next_schedule_time = At("2026-11-22T16:00:00Z");
  status.selected_volumes = 20;
  status.ready_snapshots = 480;
  status.missed_runs = 1000;
  RunRecord run;
  run.instant = At("2026-11-22T15:00:00Z");
  run.generation = 2;
  run.state = RunState::kPartiallySucceeded;
  run.start_time = At("2026-11-22T15:00:00Z");
  run.posted_time = At("2026-11-22T15:00:01Z");
  run.completion_time = At("2026-11-22T15:00:09Z");
  run.counts = {20, 14, 1, 2, 1, 1, 1};
  run.failures = {
      {"data-3", "uid-3", "data-3-h", Outcome::kFailed, Reason::kNotReadyInTime, "why \"x\" é"}};
  run.failures_omitted = 4;
  RunRecord open;
  open.instant = At("2026-11-22T14:00:00Z");
  open.state = RunState::kPosting;
  status.recent_runs = {run, open};
  status.conditions = {{"Ready", true, "Valid", "", 3, At("2026-11-22T13:00:00Z")},
                       {"Stalled", false, "Valid", "m", 3, At("2026-11-22T13:00:00Z")}};
  return status;
}

// RFC 7386, as the API server applies it.
json Patched(json target, const json& patch) {
  target.merge_patch(patch);
  return target;
}

TEST(PolicyTest, WritesAStatusThatReadsBackTheSame) {
  const json patch = StatusPatch(FullStatus(), "99");
  EXPECT_EQ(patch["metadata"], (json{{"resourceVersion", "99"}}));
  EXPECT_THAT(patch, SizeIs(2));
  json object = PolicyJson(json::object());
  object["status"] = Patched(json::object(), patch["status"]);
  EXPECT_EQ(Read<Policy>(object).status, FullStatus());
}

TEST(PolicyTest, AStatusPatchReplacesWhatWasThere) {
  json object = PolicyJson(json::object());
  object["status"] =
      Patched(StatusPatch(FullStatus(), "")["status"], StatusPatch({}, "")["status"]);
  EXPECT_EQ(Read<Policy>(object).status, PolicyStatus{.recent_runs = FullStatus().recent_runs});
}

// A list is replaced as it is, so that the API server would find a null there that the schema
// forbids.
TEST(PolicyTest, PutsNoNullIntoLists) {
  EXPECT_THAT(StatusPatch(FullStatus(), "")["status"]["recentRuns"].dump(), Not(HasSubstr("null")));
  EXPECT_THAT(StatusPatch(FullStatus(), "")["status"]["conditions"].dump(), Not(HasSubstr("null")));
}

// `kubectl wait --for=jsonpath={.status.recentRuns[0].state}` fails at once on an empty list.
TEST(PolicyTest, NoRunsAreNoList) {
  EXPECT_FALSE(StatusPatch({}, "")["status"].contains("recentRuns"));
}

TEST(PolicyTest, ReadsAReasonOfALaterVersionAsNone) {
  const json status = {
      {"recentRuns",
       {{{"scheduledTime", "2026-11-22T15:00:00Z"},
         {"failures",
          {{{"outcome", "Skipped"}, {"reason", "NotInventedYet"}, {"message", "m"}}}}}}}};
  const RunFailure failure =
      Read<Policy>(PolicyJson(json::object(), status)).status.recent_runs.at(0).failures.at(0);
  EXPECT_EQ(failure.outcome, Outcome::kSkipped);
  EXPECT_EQ(failure.reason, Reason::kNone);
  EXPECT_EQ(failure.message, "m");
}

TEST(ObjectTest, RefusesWhatItCannotTrustAndNamesTheField) {
  struct Case {
    Kind kind;
    json object;
    std::string message;
  };
  auto run = [](json run) {
    return PolicyJson(json::object(), {{"recentRuns", json::array({std::move(run)})}});
  };
  const std::vector<Case> cases = {
      {Kind::kClaim, json::array(), "the object is not a JSON object"},
      {Kind::kClaim, "text", "the object is not a JSON object"},
      {Kind::kClaim, json::object(), "metadata.name is missing"},
      {Kind::kClaim, {{"metadata", "x"}}, "metadata is not an object"},
      {Kind::kClaim, {{"metadata", {{"name", "x"}}}}, "metadata.uid is missing"},
      {Kind::kClaim,
       {{"metadata", {{"name", "x"}, {"uid", "u"}}}},
       "metadata.resourceVersion is missing"},
      {Kind::kClaim,
       {{"metadata", Meta({{"resourceVersion", 17}})}},
       "resourceVersion is not a string"},
      {Kind::kClaim,
       {{"metadata", Meta({{"creationTimestamp", "yesterday"}})}},
       "metadata.creationTimestamp is not an RFC 3339 time"},
      {Kind::kClaim,
       {{"metadata", Meta({{"labels", {{"a", 1}}}})}},
       "labels has a value that is not a string"},
      {Kind::kClaim,
       {{"metadata", Meta()}, {"spec", {{"volumeName", 1}}}},
       "spec.volumeName is not a string"},
      {Kind::kClaim, {{"metadata", Meta()}, {"spec", 1}}, "spec is not an object"},
      {Kind::kSnapshot,
       {{"metadata", Meta()}, {"status", {{"readyToUse", "true"}}}},
       "status.readyToUse is not a boolean"},
      {Kind::kSnapshot,
       {{"metadata", Meta({{"ownerReferences", {1}}})}},
       "ownerReferences has an element that is not an object"},
      {Kind::kLease,
       {{"metadata", Meta()}, {"spec", {{"leaseTransitions", 3000000000}}}},
       "spec.leaseTransitions is out of range"},
      {Kind::kLease,
       {{"metadata", Meta()}, {"spec", {{"leaseTransitions", 1.5}}}},
       "spec.leaseTransitions is not an integer"},
      {Kind::kPolicy, {{"metadata", Meta()}}, "spec.schedule is missing"},
      {Kind::kPolicy,
       {{"metadata", Meta()}, {"spec", {{"schedule", "@hourly"}}}},
       "spec.selector is missing"},
      {Kind::kPolicy, PolicyJson({{"missedRunPolicy", "All"}}),
       "spec.missedRunPolicy has a value that this version does not know"},
      {Kind::kPolicy, PolicyJson({{"retention", {{"maxAge", "1d"}}}}),
       "spec.retention.maxAge is not a duration"},
      {Kind::kPolicy, PolicyJson({{"retention", {{"keepLast", "3"}}}}),
       "spec.retention.keepLast is not an integer"},
      {Kind::kPolicy, PolicyJson({{"selector", {{"matchExpressions", {{{"key", "k"}}}}}}}),
       "spec.selector.matchExpressions[0].operator is missing"},
      {Kind::kPolicy,
       PolicyJson(
           {{"selector",
             {{"matchExpressions", {{{"key", "k"}, {"operator", "In"}, {"values", {1}}}}}}}}),
       "matchExpressions[0].values has an element that is not a string"},
      {Kind::kPolicy, run(json::object()), "status.recentRuns[0].scheduledTime is missing"},
      {Kind::kPolicy, run({{"scheduledTime", "2026-11-22T15:00:00Z"}, {"state", "Lost"}}),
       "status.recentRuns[0].state has a value that this version does not know"},
      {Kind::kEvent, {{"metadata", Meta()}}, "is an Event"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(ObjectFromJson(c.kind, c.object),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.message)))
        << c.object;
  }
}

CreateSnapshot Job() {
  CreateSnapshot job;
  job.identity = {"11111111-1111-1111-1111-111111111111", "20261122T150000Z",
                  "22222222-2222-2222-2222-222222222222"};
  job.name = SnapshotName(job.identity, "data-0");
  job.policy = "shop/hourly";
  job.run = "namespaces/shop/policies/hourly/runs/20261122T150000Z";
  job.target = {.ns = "shop",
                .claim = "data-0",
                .claim_uid = job.identity.claim_uid,
                .snapshot_class = "cls",
                .driver = "d",
                .volume_handle = "h",
                .source_json = R"({"labels":{},"spec":{}})"};
  job.post_before = At("2026-11-22T15:00:59.9Z");
  job.ready_timeout = absl::Minutes(10);
  return job;
}

TEST(SnapshotToJsonTest, WritesTheObjectOfTheDesign) {
  EXPECT_EQ(SnapshotToJson(Job()), json::parse(R"({
    "apiVersion": "snapshot.storage.k8s.io/v1",
    "kind": "VolumeSnapshot",
    "metadata": {
      "name": "data-0-d2blg63bses24tt42xpiojfrcu",
      "namespace": "shop",
      "labels": {
        "app.kubernetes.io/managed-by": "snapkeeper",
        "snapkeeper.io/policy-uid": "11111111-1111-1111-1111-111111111111",
        "snapkeeper.io/pvc-uid": "22222222-2222-2222-2222-222222222222",
        "snapkeeper.io/instant": "20261122T150000Z",
        "snapkeeper.io/trigger": "schedule"
      },
      "annotations": {
        "snapkeeper.io/identity": "snapkeeper/v1/11111111-1111-1111-1111-111111111111/20261122T150000Z/22222222-2222-2222-2222-222222222222",
        "snapkeeper.io/policy": "shop/hourly",
        "snapkeeper.io/claim": "data-0",
        "snapkeeper.io/run": "namespaces/shop/policies/hourly/runs/20261122T150000Z",
        "snapkeeper.io/post-before": "2026-11-22T15:00:59Z",
        "snapkeeper.io/volume-handle": "h",
        "snapkeeper.io/source-claim": "{\"labels\":{},\"spec\":{}}"
      }
    },
    "spec": {
      "volumeSnapshotClassName": "cls",
      "source": {"persistentVolumeClaimName": "data-0"}
    }
  })"));
}

TEST(SnapshotToJsonTest, LeavesEmptyPartsOutThatTheServerWouldRefuse) {
  CreateSnapshot job = Job();
  job.target.snapshot_class.clear();
  job.target.source_json.clear();
  const json object = SnapshotToJson(job);
  EXPECT_FALSE(object["spec"].contains("volumeSnapshotClassName"));
  EXPECT_FALSE(object["metadata"]["annotations"].contains("snapkeeper.io/source-claim"));
}

TEST(SnapshotToJsonTest, ItsIdentityIsProvenWhenItIsReadBack) {
  json object = SnapshotToJson(Job());
  object["metadata"].update({{"uid", "u"}, {"resourceVersion", "1"}});
  EXPECT_EQ(ProvenIdentity(Read<Snapshot>(object)), Job().identity);
}

TEST(ParseJsonTest, LeavesManagedFieldsOut) {
  const std::string text =
      R"({"metadata":{"managedFields":[{"manager":"m","f":{"a":{}}}],"name":"x",
    "labels":{"managedFields":"kept"}},"spec":{"managedFields":[1]}})";
  EXPECT_THAT(ParseJson(text), IsOkAndHolds(json::parse(R"({"metadata":{"name":"x",
    "labels":{"managedFields":"kept"}},"spec":{"managedFields":[1]}})")));
  // In a watch event.
  EXPECT_THAT(ParseJson(R"({"object":)" + text + "}"),
              IsOkAndHolds(json::parse(R"({"object":{"metadata":{"name":"x",
    "labels":{"managedFields":"kept"}},"spec":{"managedFields":[1]}}})")));
}

TEST(ParseJsonTest, RefusesWhatIsNotJsonOrTooDeep) {
  for (std::string_view text :
       {"", "{", "{\"a\":1", "<html>", "{}{}", "{\"a\":\xff}", "nul", "{'a':1}", "{\"a\":1e999}"}) {
    EXPECT_THAT(ParseJson(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not JSON")))
        << text;
  }
  auto nested = [](size_t depth, std::string_view open, std::string_view close) {
    std::string text;
    for (size_t i = 0; i < depth; ++i) text += open;
    text += "1";
    for (size_t i = 0; i < depth; ++i) text += close;
    return text;
  };
  EXPECT_THAT(ParseJson(nested(120, "[", "]")), IsOk());
  for (size_t depth : {129u, 100'000u}) {
    EXPECT_THAT(ParseJson(nested(depth, "[", "]")),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nested")));
    EXPECT_THAT(ParseJson(nested(depth, "{\"metadata\":", "}")),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nested")));
  }
}

json Item(const std::string& name) {
  return {{"metadata", {{"name", name}, {"uid", "u-" + name}, {"resourceVersion", "5"}}}};
}

TEST(ParsePageTest, ReadsItemsAndWhereToGoOn) {
  const json list = {{"kind", "NamespaceList"},
                     {"items", {Item("a"), Item("b")}},
                     {"metadata", {{"resourceVersion", "17"}, {"continue", "token"}}}};
  const absl::StatusOr<ListPage> page = ParsePage(Kind::kNamespace, list.dump());
  ASSERT_THAT(page, IsOk());
  EXPECT_EQ(page->resource_version, "17");
  EXPECT_EQ(page->next, "token");
  EXPECT_THAT(page->unreadable, IsEmpty());
  ASSERT_THAT(page->items, SizeIs(2));
  EXPECT_EQ(MetaOf(*page->items[0]).name, "a");
  EXPECT_EQ(MetaOf(*page->items[1]).uid, "u-b");
}

TEST(ParsePageTest, ReadsAnEmptyList) {
  for (json items : {json(), json::array()}) {
    const json list = {{"items", items}, {"metadata", {{"resourceVersion", "1"}}}};
    const absl::StatusOr<ListPage> page = ParsePage(Kind::kClaim, list.dump());
    ASSERT_THAT(page, IsOk());
    EXPECT_THAT(page->items, IsEmpty());
    EXPECT_EQ(page->next, "");
  }
}

TEST(ParsePageTest, LeavesOutWhatItCannotRead) {
  json broken = Item("broken");
  broken["metadata"]["namespace"] = "shop";
  broken["metadata"]["creationTimestamp"] = 5;
  const json list = {{"items", {Item("a"), broken, json::object(), Item("b")}},
                     {"metadata", {{"resourceVersion", "17"}}}};
  const absl::StatusOr<ListPage> page = ParsePage(Kind::kNamespace, list.dump());
  ASSERT_THAT(page, IsOk());
  EXPECT_THAT(page->items, SizeIs(2));
  ASSERT_THAT(page->unreadable, SizeIs(2));
  EXPECT_EQ(page->unreadable[0].object, "shop/broken u-broken 5");
  EXPECT_THAT(page->unreadable[0].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("creationTimestamp")));
}

// Else a half list would be taken for the whole: what is missing in it would count as deleted.
TEST(ParsePageTest, RefusesATextThatIsNoWholeList) {
  const std::string whole =
      json{{"items", {Item("a"), Item("b")}}, {"metadata", {{"resourceVersion", "17"}}}}.dump();
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(ParsePage(Kind::kNamespace, whole.substr(0, length)).ok()) << length;
  }
  EXPECT_THAT(ParsePage(Kind::kNamespace, whole), IsOk());
  EXPECT_THAT(ParsePage(Kind::kNamespace, "{}"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("metadata.resourceVersion")));
  EXPECT_THAT(ParsePage(Kind::kNamespace, R"({"kind":"Status"})"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ParsePage(Kind::kNamespace, "[]"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ParseFrameTest, ReadsEachTypeOfEvent) {
  const std::vector<std::pair<std::string, WatchEvent::Type>> cases = {
      {"ADDED", WatchEvent::kAdded},
      {"MODIFIED", WatchEvent::kModified},
      {"DELETED", WatchEvent::kDeleted}};
  for (const auto& [type, expected] : cases) {
    const absl::StatusOr<WatchFrame> frame =
        ParseFrame(Kind::kNamespace, json{{"type", type}, {"object", Item("a")}}.dump());
    ASSERT_THAT(frame, IsOk());
    EXPECT_EQ(frame->event.type, expected);
    EXPECT_EQ(frame->event.resource_version, "5");
    EXPECT_EQ(MetaOf(*frame->event.object).name, "a");
    EXPECT_FALSE(frame->unreadable);
  }
}

TEST(ParseFrameTest, ABookmarkHasOnlyAVersion) {
  const absl::StatusOr<WatchFrame> frame = ParseFrame(
      Kind::kPolicy,
      R"({"type":"BOOKMARK","object":{"kind":"SnapshotPolicy","metadata":{"resourceVersion":"8"}}})");
  ASSERT_THAT(frame, IsOk());
  EXPECT_EQ(frame->event.type, WatchEvent::kBookmark);
  EXPECT_EQ(frame->event.object, nullptr);
  EXPECT_EQ(frame->event.resource_version, "8");
}

TEST(ParseFrameTest, AnObjectThatCannotBeReadLeavesTheCaches) {
  const absl::StatusOr<WatchFrame> frame =
      ParseFrame(Kind::kPolicy, json{{"type", "MODIFIED"}, {"object", Item("a")}}.dump());
  ASSERT_THAT(frame, IsOk());
  EXPECT_EQ(frame->event.type, WatchEvent::kDeleted);
  EXPECT_EQ(MetaOf(*frame->event.object).name, "a");
  EXPECT_EQ(frame->event.resource_version, "5");
  ASSERT_TRUE(frame->unreadable);
  EXPECT_EQ(frame->unreadable->object, "/a u-a 5");
}

TEST(ParseFrameTest, AnErrorEventIsItsStatus) {
  auto error = [](json status) {
    return ParseFrame(Kind::kClaim, json{{"type", "ERROR"}, {"object", std::move(status)}}.dump());
  };
  EXPECT_THAT(
      error({{"kind", "Status"},
             {"status", "Failure"},
             {"code", 410},
             {"reason", "Expired"},
             {"message", "too old resource version: 1 (17)"}}),
      StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("too old resource version: 1 (17)")));
  EXPECT_THAT(error({{"code", 504}, {"message", "m"}}),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(error(json::object()), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(ParseFrameTest, RefusesWhatIsNoEvent) {
  for (std::string_view text :
       {"{}", "{\"type\":1}", "{\"type\":\"ADDED\"}", "{\"type\":\"ADDED\",\"object\":[]}",
        "{\"type\":\"ADDED\",\"object\":{}}",
        "{\"type\":\"NEW\",\"object\":{\"metadata\":{\"resourceVersion\":\"1\"}}}",
        "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":1}}}", "{]"}) {
    EXPECT_THAT(ParseFrame(Kind::kClaim, text), StatusIs(absl::StatusCode::kInternal)) << text;
  }
}

// A tenant may make thousands of such objects, and every daemon keeps them.
TEST(JsonTest, WhatATenantWritesOnASnapshotIsKeptAsFarAsItCanMeanAnything) {
  json text = {{"metadata", {{"name", "s"}, {"uid", "u"}, {"resourceVersion", "1"}}},
               {"status", {{"error", {{"message", std::string(256 << 10, 'e')}}}}}};
  for (const char* key : {"identity", "policy", "claim", "volume-handle", "hold", "hold-until"})
    text["metadata"]["annotations"]["snapkeeper.io/" + std::string(key)] =
        std::string(256 << 10, 'a');
  const absl::StatusOr<ObjectPtr> object = ObjectFromJson(Kind::kSnapshot, text);
  ASSERT_THAT(object, IsOk());
  const Snapshot& snapshot = std::get<Snapshot>(**object);
  for (const std::string* kept :
       {&snapshot.error, &snapshot.identity, &snapshot.policy, &snapshot.claim,
        &snapshot.volume_handle, &snapshot.hold, &snapshot.hold_until}) {
    EXPECT_LE(kept->size(), 4096u);
    EXPECT_GT(kept->size(), 4000u);
  }
}

}  // namespace
}  // namespace snapkeeper
