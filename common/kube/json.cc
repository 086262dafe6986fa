#include "common/kube/json.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "common/kube/text.h"
#include "common/model/duration.h"
#include "common/model/names.h"
#include "common/model/reason.h"

namespace snapkeeper {
namespace {

using nlohmann::json;

constexpr std::string_view kSnapshotGroup = "snapshot.storage.k8s.io";
constexpr std::string_view kDefaultClassAnnotation =
    "snapshot.storage.kubernetes.io/is-default-class";

// Deeper than any object that we know; a copy or dump of a value recurses once a level.
constexpr int kMaxDepth = 128;
// Whoever owns a namespace can write its statuses: what we add to such numbers stays in range.
constexpr int kMaxCount = 100'000'000;
constexpr int64_t kMaxMissedRuns = int64_t{1} << 53;
// An object's annotations may be 256 KiB in all; the source claim is the only large one of ours.
constexpr size_t kMaxSourceClaim = 64 << 10;
constexpr absl::Duration kMaxRetryAfter = absl::Minutes(5);
constexpr size_t kMaxMessage = 2048;
constexpr size_t kMaxTenantText = 4096;
constexpr size_t kMaxExcerpt = 200;

absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

// Reads one JSON object. Absent and null are the same. The first field that is missing or of the
// wrong type is noted in `error`, and everything reads as absent from then on.
class Fields {
 public:
  Fields(const json& object, absl::Status& error) : Fields(&object, "", error) {
    if (!object.is_object()) Fail("the object", "is not a JSON object");
  }

  std::string String(std::string_view key) const {
    const json* value = Find(key, &json::is_string, "a string");
    return value ? value->get<std::string>() : "";
  }
  std::string RequiredString(std::string_view key) const {
    std::string value = String(key);
    if (value.empty()) Fail(key, "is missing");
    return value;
  }
  bool Bool(std::string_view key) const {
    const json* value = Find(key, &json::is_boolean, "a boolean");
    return value && value->get<bool>();
  }
  template <class T = int>
  std::optional<T> Int(std::string_view key) const {
    const json* value = Find(key, &json::is_number_integer, "an integer");
    if (!value) return std::nullopt;
    const bool fits = value->is_number_unsigned() ? std::in_range<T>(value->get<uint64_t>())
                                                  : std::in_range<T>(value->get<int64_t>());
    if (fits) return value->get<T>();
    Fail(key, "is out of range");
    return std::nullopt;
  }
  std::optional<absl::Time> Time(std::string_view key) const {
    const std::string text = String(key);
    if (text.empty()) return std::nullopt;
    const std::optional<absl::Time> time = ParseTime(text);
    if (!time) Fail(key, "is not an RFC 3339 time");
    return time;
  }
  std::optional<absl::Duration> Duration(std::string_view key) const {
    const std::string text = String(key);
    if (text.empty()) return std::nullopt;
    const absl::StatusOr<absl::Duration> duration = ParseGoDuration(text);
    if (duration.ok()) return *duration;
    Fail(key, fmt::format("is not a duration: {}", std::string(duration.status().message())));
    return std::nullopt;
  }
  std::optional<absl::Duration> Seconds(std::string_view key) const {
    const std::optional<int64_t> seconds = Int<int64_t>(key);
    return seconds ? std::optional(absl::Seconds(*seconds)) : std::nullopt;
  }
  // The value that `parse` finds for the word; it answers an optional.
  template <class Parse>
  auto Word(std::string_view key, Parse parse) const -> decltype(parse(std::string_view())) {
    const std::string word = String(key);
    if (word.empty()) return std::nullopt;
    auto value = parse(word);
    if (!value) Fail(key, "has a value that this version does not know");
    return value;
  }
  std::map<std::string, std::string> Strings(std::string_view key) const {
    std::map<std::string, std::string> strings;
    const json* object = Find(key, &json::is_object, "an object");
    if (!object) return strings;
    for (const auto& [name, value] : object->items()) {
      if (value.is_string()) {
        strings.emplace(name, value.get<std::string>());
      } else {
        Fail(key, "has a value that is not a string");
      }
    }
    return strings;
  }

  // Reads as empty where it is absent.
  Fields Object(std::string_view key) const {
    return Fields(Find(key, &json::is_object, "an object"), Path(key), *error_);
  }
  template <class F>
  void ForEach(std::string_view key, F f) const {
    const json* array = Find(key, &json::is_array, "a list");
    if (!array) return;
    for (size_t i = 0; i < array->size(); ++i) {
      if ((*array)[i].is_object()) {
        f(Fields(&(*array)[i], absl::StrCat(Path(key), "[", i, "]"), *error_));
      } else {
        Fail(key, "has an element that is not an object");
      }
    }
  }

  const json* Find(std::string_view key, bool (json::*is)() const noexcept,
                   std::string_view type) const {
    if (!object_ || !error_->ok()) return nullptr;
    const auto it = object_->find(key);
    if (it == object_->end() || it->is_null()) return nullptr;
    if (((*it).*is)()) return &*it;
    Fail(key, fmt::format("is not {}", type));
    return nullptr;
  }
  void Fail(std::string_view key, std::string_view what) const {
    if (error_->ok()) *error_ = absl::InvalidArgumentError(fmt::format("{} {}", Path(key), what));
  }

 private:
  Fields(const json* object, std::string path, absl::Status& error)
      : object_(object && object->is_object() ? object : nullptr),
        path_(std::move(path)),
        error_(&error) {}

  std::string Path(std::string_view key) const {
    return path_.empty() ? std::string(key) : absl::StrCat(path_, ".", Absl(key));
  }

  const json* object_;
  std::string path_;
  absl::Status* error_;
};

ObjectMeta ReadMeta(const Fields& meta) {
  return {
      .ns = meta.String("namespace"),
      .name = meta.RequiredString("name"),
      .uid = meta.RequiredString("uid"),
      .resource_version = meta.RequiredString("resourceVersion"),
      .generation = meta.Int<int64_t>("generation").value_or(0),
      .created = meta.Time("creationTimestamp").value_or(absl::InfinitePast()),
      .deleting = !meta.String("deletionTimestamp").empty(),
  };
}

LabelSelector ReadSelector(const Fields& selector) {
  LabelSelector result{selector.Strings("matchLabels"), {}};
  selector.ForEach("matchExpressions", [&result](const Fields& fields) {
    LabelRequirement requirement{
        fields.RequiredString("key"), fields.RequiredString("operator"), {}};
    if (const json* values = fields.Find("values", &json::is_array, "a list")) {
      for (const json& value : *values) {
        if (!value.is_string()) return fields.Fail("values", "has an element that is not a string");
        requirement.values.push_back(value.get<std::string>());
      }
    }
    result.match_expressions.push_back(std::move(requirement));
  });
  return result;
}

PolicySpec ReadPolicySpec(const Fields& spec) {
  PolicySpec result;
  result.schedule = spec.RequiredString("schedule");
  if (std::string zone = spec.String("timeZone"); !zone.empty()) result.time_zone = std::move(zone);
  result.suspend = spec.Bool("suspend");
  result.starting_deadline = spec.Seconds("startingDeadlineSeconds");
  result.run_latest = spec.Word("missedRunPolicy",
                                [](std::string_view word) {
                                  if (word == "Latest") return std::optional(true);
                                  if (word == "Skip") return std::optional(false);
                                  return std::optional<bool>();
                                })
                          .value_or(result.run_latest);
  // Absent must not read as "every PVC".
  if (!spec.Find("selector", &json::is_object, "an object")) spec.Fail("selector", "is missing");
  result.selector = ReadSelector(spec.Object("selector"));
  result.snapshot_class = spec.String("snapshotClassName");
  result.ready_timeout = spec.Seconds("readyTimeoutSeconds");
  const Fields retention = spec.Object("retention");
  RetentionRule& rule = result.retention;
  rule.keep_last = retention.Int("keepLast");
  rule.max_age = retention.Duration("maxAge");
  rule.min_ready = retention.Int("minReady").value_or(rule.min_ready);
  rule.unready_ttl = retention.Duration("unreadyTtl").value_or(rule.unready_ttl);
  result.run_history_limit = spec.Int("runHistoryLimit").value_or(result.run_history_limit);
  return result;
}

RunRecord ReadRun(const Fields& run) {
  RunRecord result;
  const std::optional<absl::Time> instant = run.Time("scheduledTime");
  if (!instant) run.Fail("scheduledTime", "is missing");
  result.instant = instant.value_or(absl::InfinitePast());
  result.generation = run.Int<int64_t>("generation").value_or(0);
  result.state = run.Word("state", ParseRunState).value_or(result.state);
  result.start_time = run.Time("startTime");
  result.posted_time = run.Time("postedTime");
  result.completion_time = run.Time("completionTime");
  const Fields counts = run.Object("counts");
  auto count = [&counts](std::string_view key) {
    return std::clamp(counts.Int(key).value_or(0), 0, kMaxCount);
  };
  result.counts = {.selected = count("selected"),
                   .succeeded = count("succeeded"),
                   .succeeded_late = count("succeededLate"),
                   .failed = count("failed"),
                   .skipped = count("skipped"),
                   .cancelled = count("cancelled"),
                   .pending = count("pending")};
  run.ForEach("failures", [&result](const Fields& failure) {
    result.failures.push_back({
        .claim = failure.String("claim"),
        .claim_uid = failure.String("claimUID"),
        .snapshot = failure.String("snapshot"),
        .outcome = failure.Word("outcome", ParseOutcome).value_or(Outcome::kFailed),
        // A later version's word: the message still tells.
        .reason = ParseReason(failure.String("reason")).value_or(Reason::kNone),
        .message = failure.String("message"),
    });
  });
  result.failures_omitted = run.Int("failuresOmitted").value_or(0);
  return result;
}

PolicyStatus ReadPolicyStatus(const Fields& status) {
  PolicyStatus result{
      .observed_generation = status.Int<int64_t>("observedGeneration").value_or(0),
      .last_schedule_time = status.Time("lastScheduleTime"),
      .schedule_hash = status.String("scheduleHash"),
      .schedule_since = status.Time("scheduleSince"),
      .epoch = status.Int<int64_t>("epoch").value_or(0),
      .last_successful_time = status.Time("lastSuccessfulTime"),
      .next_schedule_time = status.Time("nextScheduleTime"),
      .selected_volumes = status.Int("selectedVolumes").value_or(0),
      .ready_snapshots = status.Int("readySnapshots").value_or(0),
      .missed_runs =
          std::clamp<int64_t>(status.Int<int64_t>("missedRuns").value_or(0), 0, kMaxMissedRuns),
      .recent_runs = {},
      .conditions = {},
  };
  status.ForEach("recentRuns",
                 [&result](const Fields& run) { result.recent_runs.push_back(ReadRun(run)); });
  status.ForEach("conditions", [&result](const Fields& condition) {
    result.conditions.push_back({
        .type = condition.RequiredString("type"),
        .status = condition.String("status") == "True",
        .reason = condition.String("reason"),
        .message = condition.String("message"),
        .observed_generation = condition.Int<int64_t>("observedGeneration").value_or(0),
        .last_transition = condition.Time("lastTransitionTime").value_or(absl::InfinitePast()),
    });
  });
  return result;
}

// The snapshot of this namespace that a PVC is made from.
std::string DataSourceSnapshot(const Fields& spec, const std::string& ns) {
  for (std::string_view key : {"dataSource", "dataSourceRef"}) {
    const Fields source = spec.Object(key);
    const std::string source_ns = source.String("namespace");
    if (source.String("apiGroup") == kSnapshotGroup && source.String("kind") == "VolumeSnapshot" &&
        (source_ns.empty() || source_ns == ns)) {
      return source.String("name");
    }
  }
  return "";
}

Claim ReadClaim(const Fields& root, const Fields& meta) {
  const Fields spec = root.Object("spec");
  Claim claim{
      .meta = ReadMeta(meta),
      .labels = meta.Strings("labels"),
      .exclude = meta.Object("annotations").String(kExcludeAnnotation),
      .phase = root.Object("status").String("phase"),
      .volume_name = spec.String("volumeName"),
      .storage_class = spec.String("storageClassName"),
      .data_source_snapshot = DataSourceSnapshot(spec, meta.String("namespace")),
      .source_json = {},
  };
  const json* spec_json = root.Find("spec", &json::is_object, "an object");
  claim.source_json =
      json{{"labels", claim.labels}, {"spec", spec_json ? *spec_json : json::object()}}.dump();
  if (claim.source_json.size() > kMaxSourceClaim) claim.source_json.clear();
  return claim;
}

Snapshot ReadSnapshot(const Fields& root, const Fields& meta) {
  const Fields labels = meta.Object("labels");
  const Fields annotations = meta.Object("annotations");
  const Fields spec = root.Object("spec");
  const Fields status = root.Object("status");
  // Either may hold; a label value cannot be a time.
  auto hold = [&labels, &annotations](std::string_view key) {
    const std::string label = labels.String(key);
    const std::string annotation = annotations.String(key);
    return label == "true" || annotation.empty() ? label : annotation;
  };
  // What any tenant may write; longer than any of ours it proves and names nothing.
  const auto bounded = [](std::string text) {
    return text.size() > kMaxTenantText ? Truncate(text, kMaxTenantText) : text;
  };
  Snapshot snapshot{
      .meta = ReadMeta(meta),
      .source_claim = spec.Object("source").String("persistentVolumeClaimName"),
      .class_name = spec.String("volumeSnapshotClassName"),
      .bound_content = status.String("boundVolumeSnapshotContentName"),
      .cut_time = status.Time("creationTime"),
      .ready_to_use = status.Bool("readyToUse"),
      .error = bounded(status.Object("error").String("message")),
      .group = status.String("volumeGroupSnapshotName"),
      .managed = labels.String(kManagedByLabel) == kManagedBy,
      .policy_uid = labels.String(kPolicyUidLabel),
      .claim_uid = labels.String(kClaimUidLabel),
      .instant = labels.String(kInstantLabel),
      .trigger = labels.String(kTriggerLabel),
      .identity = bounded(annotations.String(kIdentityAnnotation)),
      .policy = bounded(annotations.String(kPolicyAnnotation)),
      .claim = bounded(annotations.String(kClaimAnnotation)),
      .volume_handle = bounded(annotations.String(kVolumeHandleAnnotation)),
      .hold = bounded(hold(kHoldKey)),
      .hold_until = bounded(hold(kHoldUntilKey)),
  };
  meta.ForEach("ownerReferences", [&snapshot](const Fields& owner) {
    if (owner.String("kind") == "VolumeGroupSnapshot" && snapshot.group.empty()) {
      snapshot.group = owner.String("name");
    }
  });
  return snapshot;
}

Content ReadContent(const Fields& root, const Fields& meta) {
  const Fields spec = root.Object("spec");
  const Fields ref = spec.Object("volumeSnapshotRef");
  return {.meta = ReadMeta(meta),
          .driver = spec.String("driver"),
          .volume_handle = spec.Object("source").String("volumeHandle"),
          .snapshot_ns = ref.String("namespace"),
          .snapshot_name = ref.String("name"),
          .snapshot_uid = ref.String("uid"),
          .retained = spec.String("deletionPolicy") == "Retain"};
}

Object ReadObject(Kind kind, const Fields& root) {
  const Fields meta = root.Object("metadata");
  const Fields spec = root.Object("spec");
  switch (kind) {
    case Kind::kPolicy:
      return Policy{ReadMeta(meta), ReadPolicySpec(spec), ReadPolicyStatus(root.Object("status"))};
    case Kind::kClaim:
      return ReadClaim(root, meta);
    case Kind::kVolume:
      return Volume{.meta = ReadMeta(meta),
                    .claim_uid = spec.Object("claimRef").String("uid"),
                    .driver = spec.Object("csi").String("driver"),
                    .volume_handle = spec.Object("csi").String("volumeHandle")};
    case Kind::kSnapshot:
      return ReadSnapshot(root, meta);
    case Kind::kContent:
      return ReadContent(root, meta);
    case Kind::kSnapshotClass:
      return SnapshotClass{
          .meta = ReadMeta(meta),
          .driver = root.String("driver"),
          .is_default = meta.Object("annotations").String(kDefaultClassAnnotation) == "true"};
    case Kind::kNamespace:
      return Namespace{ReadMeta(meta)};
    case Kind::kLease:
      return Lease{.meta = ReadMeta(meta),
                   .holder = spec.String("holderIdentity"),
                   .transitions = spec.Int<int32_t>("leaseTransitions").value_or(0)};
    case Kind::kEvent:
      root.Fail("the object", "is an Event, which is never read");
      return {};
  }
  return {};
}

// Null where absent, which a merge patch deletes.
json TimeOrNull(const std::optional<absl::Time>& time) {
  return time ? json(FormatRfc3339(*time)) : json();
}

// Within a list nothing is deleted by null: absent fields are left out.
void PutTime(json& object, const char* key, const std::optional<absl::Time>& time) {
  if (time) object[key] = FormatRfc3339(*time);
}

// Member by member: an initializer list costs twice as much, and this is in every write of a
// status.
json RunToJson(const RunRecord& run) {
  json result;
  result["scheduledTime"] = FormatRfc3339(run.instant);
  result["generation"] = run.generation;
  result["state"] = ToString(run.state);
  const RunCounts& counts = run.counts;
  json& count = result["counts"];
  count["selected"] = counts.selected;
  count["succeeded"] = counts.succeeded;
  count["succeededLate"] = counts.succeeded_late;
  count["failed"] = counts.failed;
  count["skipped"] = counts.skipped;
  count["cancelled"] = counts.cancelled;
  count["pending"] = counts.pending;
  json& failures = result["failures"] = json::array();
  for (const RunFailure& failure : run.failures) {
    failures.push_back({{"claim", failure.claim},
                        {"claimUID", failure.claim_uid},
                        {"snapshot", failure.snapshot},
                        {"outcome", ToString(failure.outcome)},
                        {"reason", ToString(failure.reason)},
                        {"message", failure.message}});
  }
  result["failuresOmitted"] = run.failures_omitted;
  PutTime(result, "startTime", run.start_time);
  PutTime(result, "postedTime", run.posted_time);
  PutTime(result, "completionTime", run.completion_time);
  return result;
}

json ConditionToJson(const Condition& condition) {
  json result;
  result["type"] = condition.type;
  result["status"] = condition.status ? "True" : "False";
  result["reason"] = condition.reason;
  result["message"] = condition.message;
  result["observedGeneration"] = condition.observed_generation;
  result["lastTransitionTime"] = FormatRfc3339(condition.last_transition);
  return result;
}

// nlohmann's parse events, narrowed to what the two parsers here need: bounds the depth and leaves
// out metadata.managedFields, which is half of most objects.
class Filter {
 public:
  bool too_deep() const { return too_deep_; }
  // The key under which the root's current member is.
  const std::string& member() const { return member_; }

  // Whether to keep it. `depth` is the number of containers around it.
  bool operator()(int depth, json::parse_event_t event, const json& parsed) {
    if (depth >= kMaxDepth) {
      too_deep_ = true;
      return false;
    }
    if (event != json::parse_event_t::key) return true;
    const std::string& key = parsed.get_ref<const std::string&>();
    if (depth == 1) member_ = key;
    in_metadata_[depth] = key == "metadata";
    return !(key == "managedFields" && in_metadata_[depth - 1]);
  }

 private:
  bool too_deep_ = false;
  std::string member_;
  std::array<bool, kMaxDepth> in_metadata_{};
};

absl::Status NotJson(std::string_view text, const Filter& filter) {
  if (filter.too_deep()) {
    return absl::InvalidArgumentError(fmt::format("JSON is nested over {} levels", kMaxDepth));
  }
  return absl::InvalidArgumentError(
      fmt::format("not JSON: {}", text.empty() ? "empty" : Excerpt(text, kMaxExcerpt)));
}

// What we use of a metav1.Status.
struct ServerStatus {
  explicit ServerStatus(const json& object) {
    absl::Status ignored;
    const Fields fields(object, ignored);
    reason = fields.String("reason");
    message = fields.String("message");
    const Fields details = fields.Object("details");
    names_object = !details.String("name").empty();
    retry_after = details.Int<int64_t>("retryAfterSeconds").value_or(0);
    details.ForEach("causes",
                    [this](const Fields& cause) { causes.insert(cause.String("reason")); });
  }
  ServerStatus() = default;

  std::string reason, message;
  bool names_object = false;
  std::set<std::string> causes;
  int64_t retry_after = 0;
};

absl::Status Forbidden(const ServerStatus& server, std::string message) {
  // A quota that has just been made: nobody has counted yet. An API server that has just started:
  // its admission has not read its objects yet.
  if (absl::StrContains(server.message, "status unknown for quota") ||
      absl::StrContains(server.message, "not yet ready to handle request")) {
    return absl::UnavailableError(message);
  }
  Reason reason = Reason::kForbidden;
  if (absl::StrContains(server.message, "exceeded quota")) {
    reason = Reason::kQuotaExceeded;
  } else if (server.causes.contains("NamespaceTerminating")) {
    reason = Reason::kNamespaceTerminating;
  } else if (absl::StrContains(server.message, "system:anonymous")) {
    message += ": our requests carry no credentials; check the user of the kubeconfig";
  }
  return WithReason(absl::PermissionDeniedError(message), reason);
}

absl::Status MapStatus(int code, const ServerStatus& server, const std::string& message) {
  switch (code) {
    case 400:
    case 406:
    case 413:
    case 415:
    case 422:
      return absl::InvalidArgumentError(message);
    case 401:
      return absl::UnauthenticatedError(message +
                                        ": the API server does not accept our credentials");
    case 403:
      return Forbidden(server, message);
    case 404:
      if (server.names_object) return absl::NotFoundError(message);
      return absl::FailedPreconditionError(message +
                                           ": the API server does not serve this kind; are the "
                                           "CustomResourceDefinitions installed?");
    case 405:
      return absl::FailedPreconditionError(message);
    case 409:
      if (server.reason == "AlreadyExists") return absl::AlreadyExistsError(message);
      return absl::AbortedError(message);
    case 410:
      return absl::OutOfRangeError(message);
    case 429:
      return absl::ResourceExhaustedError(message);
    case 504:
      return absl::DeadlineExceededError(message);
    default:
      return absl::UnavailableError(message);
  }
}

absl::Status ErrorOf(int code, const ServerStatus& server, std::string_view shown,
                     int64_t retry_after) {
  const std::string message =
      fmt::format("{} (HTTP {})", shown.empty() ? "no message" : shown, code);
  absl::Status status = MapStatus(code, server, message);
  if (retry_after > 0) {
    status =
        WithRetryAfter(std::move(status), std::min(absl::Seconds(retry_after), kMaxRetryAfter));
  }
  return status;
}

// Of an ERROR event.
absl::Status StatusFromStatusObject(const json& object) {
  absl::Status ignored;
  const ServerStatus server(object);
  return ErrorOf(Fields(object, ignored).Int("code").value_or(500), server,
                 Truncate(server.message, kMaxMessage), server.retry_after);
}

template <size_t kIndex = 0>
Object EmptyObject(Kind kind) {
  if constexpr (kIndex + 1 < std::variant_size_v<Object>) {
    if (static_cast<size_t>(kind) != kIndex) return EmptyObject<kIndex + 1>(kind);
  }
  return Object(std::in_place_index<kIndex>);
}

// Which object it is, of one that cannot be read; nothing else of it.
ObjectMeta NameplateOf(const json& object) {
  absl::Status ignored;
  const Fields meta = Fields(object, ignored).Object("metadata");
  ObjectMeta plate;
  plate.ns = meta.String("namespace");
  plate.name = meta.String("name");
  plate.uid = meta.String("uid");
  plate.resource_version = meta.String("resourceVersion");
  return plate;
}

Unreadable MakeUnreadable(const json& object, absl::Status status) {
  const ObjectMeta meta = NameplateOf(object);
  const std::string text =
      fmt::format("{}/{} {} {}", meta.ns, meta.name, meta.uid, meta.resource_version);
  return {Excerpt(text, kMaxMessage), std::move(status)};
}

}  // namespace

const Resource& ResourceOf(Kind kind) {
  static constexpr std::array<Resource, 9> kResources = {{
      {"snapkeeper.io/v1alpha1", "SnapshotPolicy", "snapshotpolicies", true},
      {"v1", "PersistentVolumeClaim", "persistentvolumeclaims", true},
      {"v1", "PersistentVolume", "persistentvolumes", false},
      {"snapshot.storage.k8s.io/v1", "VolumeSnapshot", "volumesnapshots", true},
      {"snapshot.storage.k8s.io/v1", "VolumeSnapshotContent", "volumesnapshotcontents", false},
      {"snapshot.storage.k8s.io/v1", "VolumeSnapshotClass", "volumesnapshotclasses", false},
      {"v1", "Namespace", "namespaces", false},
      {"coordination.k8s.io/v1", "Lease", "leases", true},
      {"v1", "Event", "events", true},
  }};
  return kResources[static_cast<size_t>(kind)];
}

std::string PathOf(Kind kind, std::string_view ns, std::string_view name) {
  const Resource& resource = ResourceOf(kind);
  const bool core = resource.api_version.find('/') == std::string_view::npos;
  std::string path = fmt::format("/{}/{}", core ? "api" : "apis", resource.api_version);
  if (resource.namespaced && !ns.empty()) path += "/namespaces/" + PercentEncode(ns);
  path += fmt::format("/{}", resource.plural);
  if (!name.empty()) path += "/" + PercentEncode(name);
  return path;
}

const ObjectMeta& MetaOf(const Object& object) {
  return std::visit([](const auto& value) -> const ObjectMeta& { return value.meta; }, object);
}

absl::StatusOr<ObjectPtr> ObjectFromJson(Kind kind, const json& object) {
  absl::Status error;
  const Fields root(object, error);
  auto value = std::make_shared<const Object>(ReadObject(kind, root));
  if (!error.ok()) return error;
  return value;
}

json SnapshotToJson(const CreateSnapshot& job) {
  const Resource& resource = ResourceOf(Kind::kSnapshot);
  const Target& target = job.target;
  json object;
  object["apiVersion"] = resource.api_version;
  object["kind"] = resource.kind;
  json& meta = object["metadata"];
  meta["name"] = job.name;
  meta["namespace"] = target.ns;
  json& labels = meta["labels"];
  labels[kManagedByLabel] = kManagedBy;
  labels[kPolicyUidLabel] = job.identity.policy_uid;
  labels[kClaimUidLabel] = job.identity.claim_uid;
  labels[kInstantLabel] = job.identity.instant;
  labels[kTriggerLabel] = job.trigger;
  json& annotations = meta["annotations"];
  annotations[kIdentityAnnotation] = job.identity.Annotation();
  annotations[kPolicyAnnotation] = job.policy;
  annotations[kClaimAnnotation] = target.claim;
  annotations[kRunAnnotation] = job.run;
  annotations[kPostBeforeAnnotation] = FormatRfc3339(job.post_before);
  annotations[kVolumeHandleAnnotation] = target.volume_handle;
  if (!target.source_json.empty()) annotations[kSourceClaimAnnotation] = target.source_json;
  json& spec = object["spec"];
  spec["source"]["persistentVolumeClaimName"] = target.claim;
  if (!target.snapshot_class.empty()) spec["volumeSnapshotClassName"] = target.snapshot_class;
  return object;
}

json StatusPatch(const PolicyStatus& status, std::string_view resource_version) {
  json patch;
  patch["metadata"]["resourceVersion"] = resource_version;
  json& to = patch["status"];
  to["observedGeneration"] = status.observed_generation;
  to["lastScheduleTime"] = TimeOrNull(status.last_schedule_time);
  to["scheduleHash"] = status.schedule_hash;
  to["scheduleSince"] = TimeOrNull(status.schedule_since);
  to["epoch"] = status.epoch;
  to["lastSuccessfulTime"] = TimeOrNull(status.last_successful_time);
  to["nextScheduleTime"] = TimeOrNull(status.next_schedule_time);
  to["selectedVolumes"] = status.selected_volumes;
  to["readySnapshots"] = status.ready_snapshots;
  to["missedRuns"] = status.missed_runs;
  json& conditions = to["conditions"] = json::array();
  for (const Condition& condition : status.conditions)
    conditions.push_back(ConditionToJson(condition));
  // kubectl wait takes an index into an empty list for an error, and waits where there is none.
  for (const RunRecord& run : status.recent_runs) to["recentRuns"].push_back(RunToJson(run));
  return patch;
}

// absl's own take microseconds, which is a tenth of a simulated year.
std::string FormatRfc3339(absl::Time time) {
  // What a tenant wrote with an offset may be of another millennium in UTC, which the API server
  // would refuse with all that is beside it.
  const absl::CivilSecond civil =
      std::clamp(absl::CivilSecond(1970) + absl::ToUnixSeconds(time), absl::CivilSecond(0),
                 absl::CivilSecond(9999, 12, 31, 23, 59, 59));
  std::string text = "0000-00-00T00:00:00Z";
  const auto put = [&text](size_t end, int64_t number) {
    for (; number > 0; number /= 10) text[end--] = static_cast<char>('0' + number % 10);
  };
  put(3, civil.year());
  put(6, civil.month());
  put(9, civil.day());
  put(12, civil.hour());
  put(15, civil.minute());
  put(18, civil.second());
  return text;
}

std::string FormatMicroTime(absl::Time time) {
  return absl::FormatTime("%E4Y-%m-%dT%H:%M:%E6SZ", time, absl::UTCTimeZone());
}

namespace {

// Of the one form that Kubernetes writes, "2006-01-02T15:04:05Z"; nullopt for any other.
std::optional<absl::Time> ParseUtcSeconds(std::string_view text) {
  constexpr std::string_view kForm = "0000-00-00T00:00:00Z";
  if (text.size() != kForm.size()) return std::nullopt;
  for (size_t i = 0; i < kForm.size(); ++i) {
    const bool is_digit = text[i] >= '0' && text[i] <= '9';
    if (kForm[i] == '0' ? !is_digit : text[i] != kForm[i]) return std::nullopt;
  }
  const auto number = [text](size_t begin, size_t length) {
    int value = 0;
    for (const char c : text.substr(begin, length)) value = value * 10 + (c - '0');
    return value;
  };
  const int month = number(5, 2), day = number(8, 2), hour = number(11, 2), minute = number(14, 2),
            second = number(17, 2);
  const absl::CivilSecond civil(number(0, 4), month, day, hour, minute, second);
  // Civil times carry over: 25:00 is 01:00 of the next day.
  if (civil.month() != month || civil.day() != day || civil.hour() != hour ||
      civil.minute() != minute || civil.second() != second) {
    return std::nullopt;
  }
  return absl::FromUnixSeconds(civil - absl::CivilSecond(1970));
}

}  // namespace

std::optional<absl::Time> ParseTime(std::string_view text) {
  if (const auto time = ParseUtcSeconds(text)) return time;
  absl::Time time;
  // The parser also takes surrounding spaces, signs and "infinite-future".
  if (text.empty() || text.front() < '0' || text.front() > '9' || text.back() == ' ' ||
      !absl::ParseTime(absl::RFC3339_full, Absl(text), &time, nullptr)) {
    return std::nullopt;
  }
  return time;
}

std::string Dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

absl::StatusOr<json> ParseJson(std::string_view text) {
  Filter filter;
  json value = json::parse(
      text,
      [&filter](int depth, json::parse_event_t event, json& parsed) {
        return filter(depth, event, parsed);
      },
      /*allow_exceptions=*/false);
  if (value.is_discarded() || filter.too_deep()) return NotJson(text, filter);
  return value;
}

absl::StatusOr<ListPage> ParsePage(Kind kind, std::string_view text) {
  constexpr int kItemDepth = 2;
  ListPage page;
  Filter filter;
  const json root = json::parse(
      text,
      [&page, &filter, kind](int depth, json::parse_event_t event, json& parsed) {
        if (!filter(depth, event, parsed)) return false;
        if (depth != kItemDepth || event != json::parse_event_t::object_end ||
            filter.member() != "items") {
          return true;
        }
        absl::StatusOr<ObjectPtr> object = ObjectFromJson(kind, parsed);
        if (object.ok()) {
          page.items.push_back(*std::move(object));
        } else {
          page.unreadable.push_back(MakeUnreadable(parsed, object.status()));
        }
        return false;
      },
      /*allow_exceptions=*/false);
  if (root.is_discarded() || filter.too_deep()) return NotJson(text, filter);
  absl::Status error;
  const Fields fields(root, error);
  const Fields meta = fields.Object("metadata");
  page.resource_version = meta.RequiredString("resourceVersion");
  page.next = meta.String("continue");
  if (!error.ok()) return error;
  return page;
}

absl::StatusOr<WatchFrame> ParseFrame(Kind kind, std::string_view text) {
  static const std::map<std::string, WatchEvent::Type> kTypes = {
      {"ADDED", WatchEvent::kAdded},
      {"MODIFIED", WatchEvent::kModified},
      {"DELETED", WatchEvent::kDeleted},
      {"BOOKMARK", WatchEvent::kBookmark}};
  const auto unreadable = [](const absl::Status& status) {
    return absl::InternalError(
        fmt::format("a watch event cannot be read: {}", std::string(status.message())));
  };
  const absl::StatusOr<json> root = ParseJson(text);
  if (!root.ok()) return unreadable(root.status());
  absl::Status error;
  const Fields frame(*root, error);
  const std::string type = frame.RequiredString("type");
  const json* object = frame.Find("object", &json::is_object, "an object");
  if (object && type == "ERROR") return StatusFromStatusObject(*object);
  std::string version = frame.Object("object").Object("metadata").RequiredString("resourceVersion");
  const auto known = kTypes.find(type);
  if (known == kTypes.end()) frame.Fail("type", "is unknown");
  if (!error.ok()) return unreadable(error);

  WatchFrame result{{known->second, nullptr, std::move(version)}, std::nullopt};
  if (result.event.type == WatchEvent::kBookmark) return result;
  absl::StatusOr<ObjectPtr> value = ObjectFromJson(kind, *object);
  if (value.ok()) {
    result.event.object = *std::move(value);
  } else {
    // Out of the caches, as after a LIST: what they hold is not true any more.
    result.event.type = WatchEvent::kDeleted;
    Object plate = EmptyObject(kind);
    std::visit([&object](auto& value) { value.meta = NameplateOf(*object); }, plate);
    result.event.object = std::make_shared<const Object>(std::move(plate));
    result.unreadable = MakeUnreadable(*object, value.status());
  }
  return result;
}

absl::Status StatusFromHttp(int code, std::string_view body, std::string_view retry_after) {
  int64_t seconds = 0;
  if (!absl::SimpleAtoi(Absl(retry_after), &seconds)) seconds = 0;  // proxies may send a date
  const absl::StatusOr<json> object = ParseJson(body);
  if (!object.ok() || !object->is_object() || !object->contains("message")) {
    return ErrorOf(code, ServerStatus(), Excerpt(body, kMaxExcerpt), seconds);
  }
  const ServerStatus server(*object);
  return ErrorOf(code, server, Truncate(server.message, kMaxMessage),
                 seconds ? seconds : server.retry_after);
}

}  // namespace snapkeeper
