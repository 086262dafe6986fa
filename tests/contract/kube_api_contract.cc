#include "tests/contract/kube_api_contract.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "common/kube/events.h"
#include "common/kube/json.h"
#include "common/kube/reflector.h"
#include "common/model/names.h"
#include "common/model/reason.h"
#include "tests/support/matchers.h"

namespace snapkeeper {

using absl::StatusCode;
using nlohmann::json;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

namespace {

constexpr char kFinalizer[] = "snapkeeper.io/contract";
const absl::Status kNoAnswer = absl::UnknownError("no answer within the limit");

template <class T>
const T& ValueOf(const absl::StatusOr<ObjectPtr>& result) {
  static const T kNone;
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? std::get<T>(**result) : kNone;
}

ObjectMeta Meta(const absl::StatusOr<ObjectPtr>& result) {
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? MetaOf(**result) : ObjectMeta();
}

std::vector<std::string> Names(const absl::StatusOr<ListResult>& list) {
  std::vector<std::string> names;
  EXPECT_TRUE(list.ok()) << list.status();
  if (list.ok()) {
    for (const ObjectPtr& object : list->items) names.push_back(MetaOf(*object).name);
  }
  return names;
}

Preconditions Exactly(const ObjectMeta& meta) { return {meta.uid, meta.resource_version}; }

}  // namespace

void KubeApiContract::SetUp() {
  static std::atomic<int> count = 0;
  world_ = GetParam().make();
  api_ = &world_->api();
  // A real API server keeps what earlier runs left.
  ns_ = fmt::format("contract-{}-{}-{}", absl::ToUnixSeconds(world_->loop().Now()), getpid(),
                    ++count);
  ASSERT_THAT(Create(Kind::kNamespace,
                     {{"apiVersion", "v1"}, {"kind", "Namespace"}, {"metadata", {{"name", ns_}}}}),
              IsOk());
}

void KubeApiContract::TearDown() {
  if (world_) (void)DeleteCurrent({Kind::kNamespace, "", ns_});
}

absl::StatusOr<ObjectPtr> KubeApiContract::Get(const ObjectKey& key) {
  std::optional<absl::StatusOr<ObjectPtr>> result;
  Call call = api_->Get(key, [&result](absl::StatusOr<ObjectPtr> r) { result = std::move(r); });
  return world_->RunUntil([&result] { return result.has_value(); }) ? *result : kNoAnswer;
}

absl::StatusOr<ListResult> KubeApiContract::List(const ListQuery& query) {
  std::optional<absl::StatusOr<ListResult>> result;
  Call call = api_->List(query, [&result](absl::StatusOr<ListResult> r) { result = std::move(r); });
  return world_->RunUntil([&result] { return result.has_value(); }) ? *result : kNoAnswer;
}

absl::StatusOr<ObjectPtr> KubeApiContract::Create(Kind kind, const json& body) {
  std::optional<absl::StatusOr<ObjectPtr>> result;
  Call call =
      api_->Create(kind, body, [&result](absl::StatusOr<ObjectPtr> r) { result = std::move(r); });
  return world_->RunUntil([&result] { return result.has_value(); }) ? *result : kNoAnswer;
}

absl::Status KubeApiContract::Delete(const ObjectKey& key, const Preconditions& preconditions) {
  std::optional<absl::Status> result;
  Call call =
      api_->Delete(key, preconditions, [&result](absl::Status r) { result = std::move(r); });
  return world_->RunUntil([&result] { return result.has_value(); }) ? *result : kNoAnswer;
}

absl::StatusOr<ObjectPtr> KubeApiContract::Patch(const ObjectKey& key, const json& patch,
                                                 bool status) {
  std::optional<absl::StatusOr<ObjectPtr>> result;
  Call call = api_->Patch(key, patch, status,
                          [&result](absl::StatusOr<ObjectPtr> r) { result = std::move(r); });
  return world_->RunUntil([&result] { return result.has_value(); }) ? *result : kNoAnswer;
}

absl::Status KubeApiContract::DeleteCurrent(const ObjectKey& key) {
  const absl::StatusOr<ObjectPtr> current = Get(key);
  return current.ok() ? Delete(key, Exactly(MetaOf(**current))) : current.status();
}

json KubeApiContract::LeaseJson(const std::string& name, const json& labels) {
  return {
      {"apiVersion", "coordination.k8s.io/v1"},
      {"kind", "Lease"},
      {"metadata", {{"name", name}, {"namespace", ns_}, {"labels", labels}}},
      {"spec", {{"holderIdentity", "one"}, {"leaseDurationSeconds", 15}, {"leaseTransitions", 0}}}};
}

json KubeApiContract::PolicyJson(const std::string& name) {
  return {{"apiVersion", "snapkeeper.io/v1alpha1"},
          {"kind", "SnapshotPolicy"},
          {"metadata", {{"name", name}, {"namespace", ns_}}},
          {"spec", {{"schedule", "@hourly"}, {"selector", json::object()}}}};
}

// Of a class and a claim that there are not, so that no controller makes anything of it.
json KubeApiContract::SnapshotJson(const std::string& name) {
  return {{"apiVersion", "snapshot.storage.k8s.io/v1"},
          {"kind", "VolumeSnapshot"},
          {"metadata", {{"name", name}, {"namespace", ns_}}},
          {"spec",
           {{"volumeSnapshotClassName", "contract-none"},
            {"source", {{"persistentVolumeClaimName", "none"}}}}}};
}

std::unique_ptr<KubeApiContract::Watching> KubeApiContract::Watch(
    const ListQuery& query, const std::string& resource_version) {
  auto watching = std::make_unique<Watching>();
  Watching* w = watching.get();
  w->call = api_->Watch(
      query, resource_version,
      [w, resource_version](WatchEvent event) {
        if (!std::exchange(w->accepted, true)) {
          EXPECT_EQ(event.type, WatchEvent::kBookmark);
          EXPECT_EQ(event.resource_version, resource_version);
          return;
        }
        w->events.push_back(std::move(event));
      },
      [w](absl::Status status) { w->ended = std::move(status); });
  return watching;
}

std::vector<std::string> KubeApiContract::Told(const Watching& watching) {
  static constexpr const char* kWords[] = {"ADDED", "MODIFIED", "DELETED"};
  std::vector<std::string> told;
  for (const WatchEvent& event : watching.events) {
    if (event.type == WatchEvent::kBookmark) continue;
    told.push_back(fmt::format("{} {}", kWords[event.type], MetaOf(*event.object).name));
  }
  return told;
}

std::vector<std::string> KubeApiContract::ToldAfter(Watching& watching, size_t count) {
  EXPECT_TRUE(world_->RunUntil(
      [&watching, count] { return Told(watching).size() >= count || watching.ended; }));
  EXPECT_FALSE(watching.ended) << *watching.ended;
  return Told(watching);
}

// --- objects

TEST_P(KubeApiContract, AnswersTheObjectAsCreatedAndAsItIs) {
  const absl::StatusOr<ObjectPtr> created = Create(Kind::kLease, LeaseJson("a"));
  const ObjectMeta meta = Meta(created);
  EXPECT_EQ(meta.ns, ns_);
  EXPECT_EQ(meta.name, "a");
  EXPECT_THAT(meta.uid, Not(IsEmpty()));
  EXPECT_THAT(meta.resource_version, Not(IsEmpty()));
  EXPECT_FALSE(meta.deleting);
  EXPECT_EQ(meta.created, absl::FromUnixSeconds(absl::ToUnixSeconds(meta.created)));
  EXPECT_LT(absl::AbsDuration(world_->loop().Now() - meta.created), absl::Seconds(30));
  EXPECT_EQ(ValueOf<Lease>(created).holder, "one");
  EXPECT_EQ(ValueOf<Lease>(Get(Key(Kind::kLease, "a"))), ValueOf<Lease>(created));
}

TEST_P(KubeApiContract, ThereIsNothingWhereNothingWasMade) {
  EXPECT_THAT(Get(Key(Kind::kLease, "none")), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(Get(Key(Kind::kPolicy, "none")), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(Get({Kind::kSnapshot, ns_ + "-none", "none"}), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(Get({Kind::kContent, "", "contract-none"}), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(Get({Kind::kNamespace, "", ns_ + "-none"}), StatusIs(StatusCode::kNotFound));
}

TEST_P(KubeApiContract, ANameIsTakenOnce) {
  ASSERT_THAT(Create(Kind::kSnapshot, SnapshotJson("a")), IsOk());
  EXPECT_THAT(Create(Kind::kSnapshot, SnapshotJson("a")), StatusIs(StatusCode::kAlreadyExists));
  // Other kinds and other namespaces have names of their own.
  EXPECT_THAT(Create(Kind::kPolicy, PolicyJson("a")), IsOk());
  EXPECT_THAT(Create(Kind::kLease, LeaseJson("a")), IsOk());
}

TEST_P(KubeApiContract, ANameIsTakenOnceHoweverManyAskAtOnce) {
  constexpr int kAsking = 8;
  int made = 0, taken = 0;
  std::vector<Call> calls;
  for (int i = 0; i < kAsking; ++i) {
    calls.push_back(api_->Create(Kind::kSnapshot, SnapshotJson("a"),
                                 [&made, &taken](absl::StatusOr<ObjectPtr> r) {
                                   made += r.ok();
                                   taken += absl::IsAlreadyExists(r.status());
                                 }));
  }
  EXPECT_TRUE(world_->RunUntil([&made, &taken] { return made + taken == kAsking; }));
  EXPECT_EQ(made, 1);
}

TEST_P(KubeApiContract, ANewObjectUnderAnOldNameHasAnotherUid) {
  const ObjectMeta first = Meta(Create(Kind::kLease, LeaseJson("a")));
  ASSERT_THAT(Delete(Key(Kind::kLease, "a"), Exactly(first)), IsOk());
  EXPECT_THAT(Get(Key(Kind::kLease, "a")), StatusIs(StatusCode::kNotFound));
  const ObjectMeta second = Meta(Create(Kind::kLease, LeaseJson("a")));
  EXPECT_NE(second.uid, first.uid);
  EXPECT_NE(second.resource_version, first.resource_version);
  EXPECT_THAT(Delete(Key(Kind::kLease, "a"), {first.uid, second.resource_version}),
              StatusIs(StatusCode::kAborted));
}

TEST_P(KubeApiContract, ANamespaceMustExist) {
  json lease = LeaseJson("a"), snapshot = SnapshotJson("a");
  lease["metadata"]["namespace"] = snapshot["metadata"]["namespace"] = ns_ + "-none";
  EXPECT_THAT(Create(Kind::kLease, lease), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(Create(Kind::kSnapshot, snapshot), StatusIs(StatusCode::kNotFound));
}

TEST_P(KubeApiContract, NothingIsMadeInANamespaceThatIsBeingDeleted) {
  json held = PolicyJson("held");
  held["metadata"]["finalizers"] = {kFinalizer};
  ASSERT_THAT(Create(Kind::kPolicy, held), IsOk());
  ASSERT_THAT(DeleteCurrent({Kind::kNamespace, "", ns_}), IsOk());
  EXPECT_TRUE(Meta(Get({Kind::kNamespace, "", ns_})).deleting);
  const absl::StatusOr<ObjectPtr> result = Create(Kind::kSnapshot, SnapshotJson("a"));
  EXPECT_THAT(result, StatusIs(StatusCode::kPermissionDenied));
  EXPECT_EQ(ReasonOf(result.status()), Reason::kNamespaceTerminating);
  EXPECT_THAT(Patch(Key(Kind::kPolicy, "held"), {{"metadata", {{"finalizers", nullptr}}}}), IsOk());
}

TEST_P(KubeApiContract, NamesMustBeDnsSubdomains) {
  for (const std::string& name :
       {std::string("Upper"), std::string("under_score"), std::string("-a"), std::string("a-"),
        std::string("a..b"), std::string("a b"), std::string("é"), std::string(254, 'a')}) {
    EXPECT_THAT(Create(Kind::kSnapshot, SnapshotJson(name)), StatusIs(StatusCode::kInvalidArgument))
        << name;
    EXPECT_THAT(Create(Kind::kLease, LeaseJson(name)), StatusIs(StatusCode::kInvalidArgument))
        << name;
  }
  json nameless = SnapshotJson("");
  EXPECT_THAT(Create(Kind::kSnapshot, nameless), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(Create(Kind::kSnapshot, SnapshotJson("a.b-c.1")), IsOk());
  EXPECT_THAT(Create(Kind::kSnapshot, SnapshotJson(std::string(253, 'a'))), IsOk());
}

TEST_P(KubeApiContract, LabelsMustBeLabels) {
  for (const json& labels : {json{{"a", "not a label value"}}, json{{"a", std::string(64, 'a')}},
                             json{{"not a key", "x"}}, json{{"a/b/c", "x"}}, json{{"a", "-x"}}}) {
    json snapshot = SnapshotJson("a");
    snapshot["metadata"]["labels"] = labels;
    EXPECT_THAT(Create(Kind::kSnapshot, snapshot), StatusIs(StatusCode::kInvalidArgument))
        << labels;
  }
}

TEST_P(KubeApiContract, SchemasAreEnforced) {
  auto snapshot = [this](const json& spec) {
    json object = SnapshotJson("a");
    object["spec"] = spec;
    return std::pair(Kind::kSnapshot, object);
  };
  auto policy = [this](const json& patch) {
    json object = PolicyJson("a");
    object["spec"].merge_patch(patch);
    return std::pair(Kind::kPolicy, object);
  };
  json claim = {{"apiVersion", "v1"},
                {"kind", "PersistentVolumeClaim"},
                {"metadata", {{"name", "a"}, {"namespace", ns_}}},
                {"spec", {{"accessModes", {"ReadWriteOnce"}}}}};
  const std::vector<std::pair<Kind, json>> refused = {
      snapshot(nullptr),
      snapshot(json::object()),
      snapshot({{"source", json::object()}}),
      snapshot(
          {{"source", {{"persistentVolumeClaimName", "c"}, {"volumeSnapshotContentName", "s"}}}}),
      snapshot({{"volumeSnapshotClassName", ""}, {"source", {{"persistentVolumeClaimName", "c"}}}}),
      snapshot({{"source", {{"persistentVolumeClaimName", 5}}}}),
      policy({{"schedule", nullptr}}),
      policy({{"schedule", ""}}),
      policy({{"schedule", 5}}),
      policy({{"selector", nullptr}}),
      policy({{"missedRunPolicy", "Perhaps"}}),
      policy({{"timeZone", "Local"}}),
      policy({{"startingDeadlineSeconds", 0}}),
      policy({{"runHistoryLimit", 21}}),
      policy({{"retention", {{"keepLast", 0}}}}),
      policy({{"retention", {{"minReady", -1}}}}),
      policy({{"retention", {{"maxAge", "1d"}}}}),
      policy({{"retention", {{"maxAge", "0h"}}}}),
      policy({{"selector", {{"matchExpressions", {{{"key", "a"}, {"operator", "In"}}}}}}}),
      {Kind::kClaim, claim},  // no size
  };
  for (const auto& [kind, object] : refused) {
    EXPECT_THAT(Create(kind, object), StatusIs(StatusCode::kInvalidArgument)) << object;
  }
  claim["spec"]["resources"]["requests"]["storage"] = "1Gi";
  EXPECT_THAT(Create(Kind::kClaim, claim), IsOk());
}

TEST_P(KubeApiContract, UnknownFieldsAreDropped) {
  json object = PolicyJson("a");
  object["spec"]["notInvented"] = {{"yet", true}};
  EXPECT_THAT(Create(Kind::kPolicy, object), IsOk());
}

TEST_P(KubeApiContract, ASnapshotOfOursReadsBackAsProvenOurs) {
  CreateSnapshot job;
  job.identity = {"11111111-1111-1111-1111-111111111111", "20261122T150000Z",
                  "22222222-2222-2222-2222-222222222222"};
  job.name = SnapshotName(job.identity, "data-0");
  job.policy = ns_ + "/hourly";
  job.run = "namespaces/" + ns_ + "/policies/hourly/runs/20261122T150000Z";
  job.target = {.ns = ns_,
                .claim = "data-0",
                .claim_uid = job.identity.claim_uid,
                .snapshot_class = "contract-none",
                .driver = "d",
                .volume_handle = "h",
                .source_json = R"({"labels":{"ä":"ö"},"spec":{}})"};
  job.post_before = world_->loop().Now() + absl::Minutes(1);
  const Snapshot created = ValueOf<Snapshot>(Create(Kind::kSnapshot, SnapshotToJson(job)));
  EXPECT_EQ(ProvenIdentity(created), job.identity);
  EXPECT_EQ(created.volume_handle, "h");
  EXPECT_EQ(created.source_claim, "data-0");
  EXPECT_EQ(created.class_name, "contract-none");
  EXPECT_EQ(created.policy, job.policy);
}

// --- lists

TEST_P(KubeApiContract, AnEmptyListHasAVersionToWatchFrom) {
  const absl::StatusOr<ListResult> list = List({Kind::kLease, ns_, "", ""});
  EXPECT_THAT(Names(list), IsEmpty());
  EXPECT_THAT(list->resource_version, Not(IsEmpty()));
}

TEST_P(KubeApiContract, AListSeesEveryWriteThatWasAnsweredAndIsInOrder) {
  std::vector<std::string> names;
  for (int i = 0; i < 17; ++i) {  // several pages
    names.push_back(fmt::format("lease-{}", (i * 7) % 17));
    ASSERT_THAT(Create(Kind::kLease, LeaseJson(names.back())), IsOk());
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(Names(List({Kind::kLease, ns_, "", ""})), names);
  ASSERT_THAT(DeleteCurrent(Key(Kind::kLease, "lease-3")), IsOk());
  EXPECT_THAT(Names(List({Kind::kLease, ns_, "", ""})), Not(Contains("lease-3")));
}

TEST_P(KubeApiContract, AListIsOfOneNamespaceOrOfAll) {
  const std::string other = ns_ + "-b";
  ASSERT_THAT(Create(Kind::kNamespace, {{"metadata", {{"name", other}}}}), IsOk());
  json there = LeaseJson("there");
  there["metadata"]["namespace"] = other;
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("here")), IsOk());
  ASSERT_THAT(Create(Kind::kLease, there), IsOk());
  EXPECT_THAT(Names(List({Kind::kLease, ns_, "", ""})), ElementsAre("here"));
  EXPECT_THAT(Names(List({Kind::kLease, other, "", ""})), ElementsAre("there"));
  std::vector<std::string> all;
  const absl::StatusOr<ListResult> list = List({Kind::kLease, "", "", ""});
  ASSERT_THAT(list, IsOk());
  for (const ObjectPtr& object : list->items) {
    const ObjectMeta& meta = MetaOf(*object);
    if (meta.ns.starts_with(ns_)) all.push_back(meta.name);
  }
  EXPECT_THAT(all, ElementsAre("there", "here"));  // "NS-b/" sorts before "NS/"
  EXPECT_THAT(Names(List({Kind::kLease, ns_ + "-none", "", ""})), IsEmpty());
  EXPECT_THAT(DeleteCurrent({Kind::kNamespace, "", other}), IsOk());
}

TEST_P(KubeApiContract, ListsAreSelectedByLabelsAndByName) {
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("a", {{"app", "db"}, {"tier", "gold"}})), IsOk());
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("b", {{"app", "db"}, {"tier", "silver"}})), IsOk());
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("c", {{"app", "web"}})), IsOk());
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("d")), IsOk());
  struct Case {
    std::string labels, fields;
    std::vector<std::string> names;
  };
  const std::vector<Case> cases = {
      {"app=db", "", {"a", "b"}},         {"app==db,tier=gold", "", {"a"}},
      {"app!=db", "", {"c", "d"}},        {"app in (db, web),tier notin (gold)", "", {"b", "c"}},
      {"app", "", {"a", "b", "c"}},       {"!app", "", {"d"}},
      {"tier,tier!=gold", "", {"b"}},     {"app=none", "", {}},
      {"", "metadata.name=b", {"b"}},     {"", "metadata.name!=b", {"a", "c", "d"}},
      {"app=web", "metadata.name=b", {}},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(Names(List({Kind::kLease, ns_, c.labels, c.fields})), c.names)
        << c.labels << " " << c.fields;
  }
  EXPECT_THAT(List({Kind::kLease, ns_, "a in", ""}), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(List({Kind::kLease, ns_, "", "spec.nothing=1"}),
              StatusIs(StatusCode::kInvalidArgument));
}

// --- patches

TEST_P(KubeApiContract, AMergePatchSetsDeletesAndReplacesLists) {
  json object = PolicyJson("a");
  object["spec"]["selector"] = {
      {"matchLabels", {{"app", "db"}, {"tier", "gold"}}},
      {"matchExpressions",
       {{{"key", "x"}, {"operator", "Exists"}}, {{"key", "y"}, {"operator", "Exists"}}}}};
  object["spec"]["startingDeadlineSeconds"] = 60;
  ASSERT_THAT(Create(Kind::kPolicy, object), IsOk());
  const PolicySpec spec =
      ValueOf<Policy>(
          Patch(Key(Kind::kPolicy, "a"),
                {{"spec",
                  {{"startingDeadlineSeconds", nullptr},
                   {"suspend", true},
                   {"selector",
                    {{"matchLabels", {{"tier", nullptr}, {"new", "n"}}},
                     {"matchExpressions", {{{"key", "z"}, {"operator", "Exists"}}}}}}}}}))
          .spec;
  EXPECT_EQ(spec.starting_deadline, std::nullopt);
  EXPECT_TRUE(spec.suspend);
  EXPECT_EQ(spec.schedule, "@hourly");
  EXPECT_EQ(spec.selector, (LabelSelector{{{"app", "db"}, {"new", "n"}}, {{"z", "Exists", {}}}}));
  EXPECT_EQ(ValueOf<Policy>(Get(Key(Kind::kPolicy, "a"))).spec, spec);
}

TEST_P(KubeApiContract, StatusAndSpecAreWrittenApart) {
  json object = PolicyJson("a");
  object["status"] = {{"epoch", 9}};
  const Policy created = ValueOf<Policy>(Create(Kind::kPolicy, object));
  EXPECT_EQ(created.status, PolicyStatus());  // not by create
  EXPECT_EQ(created.meta.generation, 1);

  const json both = {{"spec", {{"suspend", true}}}, {"status", {{"epoch", 4}}}};
  const Policy by_status = ValueOf<Policy>(Patch(Key(Kind::kPolicy, "a"), both, /*status=*/true));
  EXPECT_EQ(by_status.status.epoch, 4);
  EXPECT_FALSE(by_status.spec.suspend);
  EXPECT_EQ(by_status.meta.generation, 1);
  EXPECT_NE(by_status.meta.resource_version, created.meta.resource_version);

  const Policy by_spec = ValueOf<Policy>(
      Patch(Key(Kind::kPolicy, "a"), {{"spec", {{"suspend", true}}}, {"status", {{"epoch", 5}}}}));
  EXPECT_EQ(by_spec.status.epoch, 4);
  EXPECT_TRUE(by_spec.spec.suspend);
  EXPECT_EQ(by_spec.meta.generation, 2);

  const Policy by_label =
      ValueOf<Policy>(Patch(Key(Kind::kPolicy, "a"), {{"metadata", {{"labels", {{"a", "b"}}}}}}));
  EXPECT_EQ(by_label.meta.generation, 2);
  EXPECT_NE(by_label.meta.resource_version, by_spec.meta.resource_version);
}

TEST_P(KubeApiContract, AWholeStatusOfOursIsTakenAndReadBack) {
  ASSERT_THAT(Create(Kind::kPolicy, PolicyJson("a")), IsOk());
  const absl::Time now = absl::FromUnixSeconds(absl::ToUnixSeconds(world_->loop().Now()));
  PolicyStatus status;
  status.observed_generation = 1;
  status.last_schedule_time = now;
  status.schedule_hash = "hash";
  status.schedule_since = now - absl::Hours(1);
  status.epoch = 3;
  status.next_schedule_time = now + absl::Hours(1);
  status.selected_volumes = 2;
  status.missed_runs = 1000;
  RunRecord run;
  run.instant = now;
  run.generation = 1;
  run.state = RunState::kSettling;
  run.start_time = now;
  run.counts = {2, 1, 0, 1, 0, 0, 0};
  run.failures = {{"data-0", "uid", "s", Outcome::kFailed, Reason::kQuotaExceeded, "why"}};
  status.recent_runs = {run};
  status.conditions = {{"Ready", true, "Valid", "", 1, now}};
  const Policy written = ValueOf<Policy>(
      Patch(Key(Kind::kPolicy, "a"),
            StatusPatch(status, Meta(Get(Key(Kind::kPolicy, "a"))).resource_version), true));
  EXPECT_EQ(written.status, status);

  status.last_schedule_time.reset();
  status.conditions.clear();
  EXPECT_EQ(ValueOf<Policy>(Patch(Key(Kind::kPolicy, "a"),
                                  StatusPatch(status, written.meta.resource_version), true))
                .status,
            status);
}

TEST_P(KubeApiContract, AStaleResourceVersionIsAborted) {
  const ObjectMeta first = Meta(Create(Kind::kPolicy, PolicyJson("a")));
  auto patch = [this](const std::string& version, int epoch) {
    return Patch(Key(Kind::kPolicy, "a"),
                 {{"metadata", {{"resourceVersion", version}}}, {"status", {{"epoch", epoch}}}},
                 true);
  };
  const absl::StatusOr<ObjectPtr> second = patch(first.resource_version, 1);
  ASSERT_THAT(second, IsOk());
  EXPECT_THAT(patch(first.resource_version, 2), StatusIs(StatusCode::kAborted));
  EXPECT_EQ(ValueOf<Policy>(Get(Key(Kind::kPolicy, "a"))).status.epoch, 1);
  EXPECT_THAT(patch(Meta(second).resource_version, 3), IsOk());
  EXPECT_THAT(
      Patch(Key(Kind::kPolicy, "a"), {{"metadata", {{"resourceVersion", first.resource_version}}},
                                      {"spec", {{"suspend", true}}}}),
      StatusIs(StatusCode::kAborted));
  // Without a version a patch is unconditional.
  EXPECT_THAT(Patch(Key(Kind::kPolicy, "a"), {{"status", {{"epoch", 4}}}}, true), IsOk());
}

// The scheduler takes its epoch so.
TEST_P(KubeApiContract, OfTwoThatCompareAndSwapOneWins) {
  const ObjectMeta meta = Meta(Create(Kind::kLease, LeaseJson("a")));
  int won = 0, lost = 0;
  std::vector<Call> calls;
  for (const char* holder : {"me", "you"}) {
    calls.push_back(api_->Patch(Key(Kind::kLease, "a"),
                                {{"metadata", {{"resourceVersion", meta.resource_version}}},
                                 {"spec", {{"holderIdentity", holder}, {"leaseTransitions", 1}}}},
                                false, [&won, &lost](absl::StatusOr<ObjectPtr> r) {
                                  won += r.ok();
                                  lost += absl::IsAborted(r.status());
                                }));
  }
  EXPECT_TRUE(world_->RunUntil([&won, &lost] { return won + lost == 2; }));
  EXPECT_EQ(won, 1);
  EXPECT_EQ(ValueOf<Lease>(Get(Key(Kind::kLease, "a"))).transitions, 1);
}

TEST_P(KubeApiContract, APatchThatChangesNothingMakesNoVersion) {
  ASSERT_THAT(Create(Kind::kPolicy, PolicyJson("a")), IsOk());
  const ObjectMeta before =
      Meta(Patch(Key(Kind::kPolicy, "a"), {{"status", {{"epoch", 4}}}}, true));
  const ObjectMeta after = Meta(Patch(Key(Kind::kPolicy, "a"), {{"status", {{"epoch", 4}}}}, true));
  EXPECT_EQ(after.resource_version, before.resource_version);
}

TEST_P(KubeApiContract, PatchesAreChecked) {
  ASSERT_THAT(Create(Kind::kPolicy, PolicyJson("a")), IsOk());
  EXPECT_THAT(Patch(Key(Kind::kPolicy, "none"), {{"spec", {{"suspend", true}}}}),
              StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(Patch(Key(Kind::kPolicy, "none"), {{"status", {{"epoch", 1}}}}, true),
              StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(Patch(Key(Kind::kPolicy, "a"), {{"spec", {{"schedule", nullptr}}}}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(Patch(Key(Kind::kPolicy, "a"), {{"spec", {{"suspend", "yes"}}}}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(Patch(Key(Kind::kPolicy, "a"), {{"status", {{"epoch", -1}}}}, true),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(
      Patch(Key(Kind::kPolicy, "a"), {{"status", {{"recentRuns", {{{"state", "Lost"}}}}}}}, true),
      StatusIs(StatusCode::kInvalidArgument));
}

// --- deletes

TEST_P(KubeApiContract, ADeleteHitsOnlyTheVersionItNames) {
  const ObjectMeta first = Meta(Create(Kind::kLease, LeaseJson("a")));
  const ObjectMeta meta =
      Meta(Patch(Key(Kind::kLease, "a"), {{"spec", {{"holderIdentity", "two"}}}}));
  EXPECT_THAT(Delete(Key(Kind::kLease, "a"),
                     {"00000000-0000-0000-0000-000000000000", meta.resource_version}),
              StatusIs(StatusCode::kAborted));
  EXPECT_THAT(Delete(Key(Kind::kLease, "a"), Exactly(first)), StatusIs(StatusCode::kAborted));
  EXPECT_FALSE(Meta(Get(Key(Kind::kLease, "a"))).deleting);
  EXPECT_THAT(Delete(Key(Kind::kLease, "a"), Exactly(meta)), IsOk());
  EXPECT_THAT(Get(Key(Kind::kLease, "a")), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(Delete(Key(Kind::kLease, "a"), Exactly(meta)), StatusIs(StatusCode::kNotFound));
}

TEST_P(KubeApiContract, FinalizersHoldAnObjectThatIsBeingDeleted) {
  json object = PolicyJson("a");
  object["metadata"]["finalizers"] = {kFinalizer};
  const ObjectMeta created = Meta(Create(Kind::kPolicy, object));
  const absl::StatusOr<ListResult> before = List({Kind::kPolicy, ns_, "", ""});
  ASSERT_THAT(Delete(Key(Kind::kPolicy, "a"), Exactly(created)), IsOk());
  const ObjectMeta deleting = Meta(Get(Key(Kind::kPolicy, "a")));
  EXPECT_TRUE(deleting.deleting);
  EXPECT_EQ(deleting.uid, created.uid);
  EXPECT_NE(deleting.resource_version, created.resource_version);
  // It still has its name.
  EXPECT_THAT(Create(Kind::kPolicy, PolicyJson("a")), StatusIs(StatusCode::kAlreadyExists));
  // Once more is no error.
  EXPECT_THAT(Delete(Key(Kind::kPolicy, "a"), Exactly(deleting)), IsOk());
  EXPECT_THAT(Patch(Key(Kind::kPolicy, "a"), {{"metadata", {{"finalizers", nullptr}}}}), IsOk());
  EXPECT_THAT(Get(Key(Kind::kPolicy, "a")), StatusIs(StatusCode::kNotFound));
  auto watching = Watch({Kind::kPolicy, ns_, "", ""}, before->resource_version);
  EXPECT_THAT(ToldAfter(*watching, 2), ElementsAre("MODIFIED a", "DELETED a"));
  EXPECT_TRUE(MetaOf(*watching->events[0].object).deleting);
}

// --- watches

TEST_P(KubeApiContract, AWatchIsToldEveryLaterChangeInOrder) {
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("before")), IsOk());
  const absl::StatusOr<ListResult> list = List({Kind::kLease, ns_, "", ""});
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("a")), IsOk());  // before the watch has begun
  auto watching = Watch({Kind::kLease, ns_, "", ""}, list->resource_version);
  EXPECT_THAT(ToldAfter(*watching, 1), ElementsAre("ADDED a"));
  const ObjectMeta b = Meta(Create(Kind::kLease, LeaseJson("b")));
  const ObjectMeta b2 =
      Meta(Patch(Key(Kind::kLease, "b"), {{"spec", {{"holderIdentity", "two"}}}}));
  ASSERT_THAT(DeleteCurrent(Key(Kind::kLease, "before")), IsOk());
  ASSERT_THAT(Delete(Key(Kind::kLease, "b"), Exactly(b2)), IsOk());
  EXPECT_THAT(ToldAfter(*watching, 5),
              ElementsAre("ADDED a", "ADDED b", "MODIFIED b", "DELETED before", "DELETED b"));

  std::vector<WatchEvent> events = watching->events;
  std::erase_if(events, [](const WatchEvent& e) { return e.type == WatchEvent::kBookmark; });
  EXPECT_EQ(events[1].resource_version, b.resource_version);
  EXPECT_EQ(MetaOf(*events[1].object).resource_version, b.resource_version);
  EXPECT_EQ(events[2].resource_version, b2.resource_version);
  EXPECT_EQ(std::get<Lease>(*events[2].object).holder, "two");
  // A delete tells the last state, under a version of its own.
  EXPECT_EQ(std::get<Lease>(*events[4].object).holder, "two");
  EXPECT_EQ(MetaOf(*events[4].object).uid, b.uid);
  EXPECT_NE(events[4].resource_version, b2.resource_version);

  // Where it stopped, another one goes on.
  auto next = Watch({Kind::kLease, ns_, "", ""}, events[2].resource_version);
  EXPECT_THAT(ToldAfter(*next, 2), ElementsAre("DELETED before", "DELETED b"));
}

TEST_P(KubeApiContract, AWatchIsKnownToStandThoughNothingHappens) {
  const absl::StatusOr<ListResult> list = List({Kind::kLease, ns_, "", ""});
  auto watching = Watch({Kind::kLease, ns_, "", ""}, list->resource_version);
  EXPECT_FALSE(watching->accepted);  // never from within the call
  EXPECT_TRUE(world_->RunUntil([&watching] { return watching->accepted; }));
  EXPECT_FALSE(watching->ended);
}

TEST_P(KubeApiContract, AWatchIsOfItsNamespaceAndSelector) {
  const std::string other = ns_ + "-b";
  ASSERT_THAT(Create(Kind::kNamespace, {{"metadata", {{"name", other}}}}), IsOk());
  const std::string version = List({Kind::kLease, ns_, "", ""})->resource_version;
  auto here = Watch({Kind::kLease, ns_, "", ""}, version);
  auto everywhere = Watch({Kind::kLease, "", "contract-ns=" + ns_, ""}, version);
  auto labelled = Watch({Kind::kLease, ns_, "app=db", ""}, version);
  auto named = Watch({Kind::kLease, ns_, "", "metadata.name=b"}, version);
  json elsewhere = LeaseJson("elsewhere", {{"contract-ns", ns_}});
  elsewhere["metadata"]["namespace"] = other;
  ASSERT_THAT(Create(Kind::kLease, elsewhere), IsOk());
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("a", {{"app", "db"}, {"contract-ns", ns_}})), IsOk());
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("b", {{"app", "web"}})), IsOk());
  auto label = [this](const std::string& name, const json& value) {
    ASSERT_THAT(Patch(Key(Kind::kLease, name), {{"metadata", {{"labels", {{"app", value}}}}}}),
                IsOk());
  };
  label("b", "db");     // begins to match
  label("a", nullptr);  // matches no longer
  ASSERT_THAT(DeleteCurrent(Key(Kind::kLease, "b")), IsOk());
  EXPECT_THAT(ToldAfter(*here, 5),
              ElementsAre("ADDED a", "ADDED b", "MODIFIED b", "MODIFIED a", "DELETED b"));
  EXPECT_THAT(ToldAfter(*everywhere, 3), ElementsAre("ADDED elsewhere", "ADDED a", "MODIFIED a"));
  EXPECT_THAT(ToldAfter(*labelled, 4), ElementsAre("ADDED a", "ADDED b", "DELETED a", "DELETED b"));
  EXPECT_THAT(ToldAfter(*named, 3), ElementsAre("ADDED b", "MODIFIED b", "DELETED b"));
  EXPECT_THAT(DeleteCurrent({Kind::kNamespace, "", other}), IsOk());
}

TEST_P(KubeApiContract, AStatusChangeIsAnEventToo) {
  ASSERT_THAT(Create(Kind::kPolicy, PolicyJson("a")), IsOk());
  auto watching =
      Watch({Kind::kPolicy, ns_, "", ""}, List({Kind::kPolicy, ns_, "", ""})->resource_version);
  ASSERT_THAT(Patch(Key(Kind::kPolicy, "a"), {{"status", {{"epoch", 4}}}}, true), IsOk());
  EXPECT_THAT(ToldAfter(*watching, 1), ElementsAre("MODIFIED a"));
  EXPECT_EQ(std::get<Policy>(*watching->events.back().object).status.epoch, 4);
}

// As after a restore of etcd: nothing but its silence tells of it.
TEST_P(KubeApiContract, AWatchFromAVersionOfTheFutureStandsAndIsToldNothing) {
  const std::string version = List({Kind::kLease, ns_, "", ""})->resource_version;
  auto future =
      Watch({Kind::kLease, ns_, "", ""}, std::to_string(std::stoll(version) + 1'000'000'000));
  ASSERT_TRUE(world_->RunUntil([&future] { return future->accepted || future->ended; }));
  auto now = Watch({Kind::kLease, ns_, "", ""}, version);
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("a")), IsOk());
  EXPECT_THAT(ToldAfter(*now, 1), ElementsAre("ADDED a"));
  EXPECT_FALSE(future->ended) << *future->ended;
  EXPECT_THAT(future->events, IsEmpty());
}

TEST_P(KubeApiContract, AWatchFromAForgottenVersionIsOutOfRange) {
  ASSERT_THAT(Create(Kind::kPolicy, PolicyJson("a")), IsOk());
  auto watching = Watch({Kind::kPolicy, ns_, "", ""}, world_->ExpiredVersion());
  ASSERT_TRUE(world_->RunUntil([&watching] { return watching->ended.has_value(); }));
  EXPECT_TRUE(absl::IsOutOfRange(*watching->ended)) << *watching->ended;
  EXPECT_THAT(watching->events, IsEmpty());
}

TEST_P(KubeApiContract, NoCallbackRunsFromWithinTheCallOrAfterItsEnd) {
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("a")), IsOk());
  const std::string version = List({Kind::kLease, ns_, "", ""})->resource_version;
  int called = 0;
  {
    auto count = [&called](auto&&...) { ++called; };
    Call get = api_->Get(Key(Kind::kLease, "a"), count);
    Call none = api_->Get(Key(Kind::kLease, "none"), count);
    Call list = api_->List({Kind::kLease, ns_, "", ""}, count);
    Call watch = api_->Watch({Kind::kLease, ns_, "", ""}, version, count, count);
    Call patch =
        api_->Patch(Key(Kind::kLease, "a"), {{"spec", {{"holderIdentity", "two"}}}}, false, count);
    EXPECT_EQ(called, 0);
  }
  for (int i = 0; i < 3; ++i) EXPECT_THAT(Get(Key(Kind::kLease, "a")), IsOk());
  EXPECT_EQ(called, 0);
}

TEST_P(KubeApiContract, ACallMayBeEndedFromWithinItsCallback) {
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("a")), IsOk());
  const std::string version = List({Kind::kLease, ns_, "", ""})->resource_version;
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("b")), IsOk());
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("c")), IsOk());
  int events = 0, gets = 0;
  Call watch, get;
  watch = api_->Watch(
      {Kind::kLease, ns_, "", ""}, version,
      [&events, &watch](const WatchEvent& event) {
        if (event.type == WatchEvent::kBookmark) return;
        watch = Call();
        ++events;
      },
      [](const absl::Status&) { ADD_FAILURE() << "it had been ended"; });
  get = api_->Get(Key(Kind::kLease, "a"), [&gets, &get](const absl::StatusOr<ObjectPtr>&) {
    get = Call();
    ++gets;
  });
  EXPECT_TRUE(world_->RunUntil([&events, &gets] { return events > 0 && gets > 0; }));
  EXPECT_THAT(Get(Key(Kind::kLease, "a")), IsOk());
  EXPECT_EQ(events, 1);
  EXPECT_EQ(gets, 1);
}

// --- what is built on it

TEST_P(KubeApiContract, RepliesTellTheServersClock) {
  ASSERT_THAT(Get(Key(Kind::kLease, "none")), StatusIs(StatusCode::kNotFound));
  ASSERT_TRUE(api_->ClockOffset().has_value());
  EXPECT_LT(absl::AbsDuration(*api_->ClockOffset()), absl::Seconds(2));
}

TEST_P(KubeApiContract, EventsOfOursAreTaken) {
  NullLog log;
  EventRecorder recorder(world_->loop(), *api_, log, "snapkeeper-contract", "instance");
  const ObjectMeta policy = Meta(Create(Kind::kPolicy, PolicyJson("a")));
  const ObjectMeta ns = Meta(Get({Kind::kNamespace, "", ns_}));
  recorder.Record(Kind::kPolicy, policy, EventType::kWarning, "NotReadyInTime",
                  std::string(5000, 'x'));
  recorder.Record(Kind::kNamespace, ns, EventType::kNormal, "Contract", "cluster-scoped");
  EXPECT_TRUE(world_->RunUntil([&recorder] { return recorder.idle(); }));
  EXPECT_EQ(recorder.lost(), 0);
}

TEST_P(KubeApiContract, AReflectorFollows) {
  NullLog log;
  Rng rng(1);
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("a")), IsOk());
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("b")), IsOk());
  Reflector<Lease> leases(world_->loop(), *api_, rng, log, {.ns = ns_});
  leases.Start([](const auto&, const auto&) {});
  ASSERT_TRUE(world_->RunUntil([&leases] { return leases.synced(); }));
  EXPECT_EQ(leases.size(), 2u);
  ASSERT_THAT(DeleteCurrent(Key(Kind::kLease, "a")), IsOk());
  ASSERT_THAT(Create(Kind::kLease, LeaseJson("c")), IsOk());
  ASSERT_THAT(Patch(Key(Kind::kLease, "b"), {{"spec", {{"holderIdentity", "two"}}}}), IsOk());
  EXPECT_TRUE(world_->RunUntil([this, &leases] {
    return !leases.Find(ns_, "a") && leases.Find(ns_, "c") &&
           leases.Find(ns_, "b")->holder == "two";
  }));
  EXPECT_THAT(leases.health(), IsOk());
}

}  // namespace snapkeeper
