#include "simulator/snapshot_controller.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/kube/json.h"
#include "common/model/names.h"
#include "simulator/validation.h"

namespace snapkeeper {
namespace {

using nlohmann::json;

constexpr std::string_view kUser = "system:serviceaccount:kube-system:snapshot-controller";
constexpr char kAsSource[] = "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection";
constexpr char kBoundSnapshot[] = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection";
constexpr char kBoundContent[] =
    "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
constexpr char kClaimFinalizer[] = "snapshot.storage.kubernetes.io/pvc-as-source-protection";
constexpr char kBeingDeleted[] = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
constexpr char kMissing[] = "VolumeSnapshotContent is missing";

absl::Duration RetryDelay(int failures) {
  return absl::Seconds(std::min(1 << std::min(failures, 9), 300));
}

// True if that changed something.
template <class T>
bool Put(json& object, const char* field, const T& value) {
  json& member = object[field];
  if (!member.is_null() && member == value) return false;
  member = value;
  return true;
}

void AddFinalizers(json& object, std::initializer_list<const char*> finalizers) {
  json& list = object["metadata"]["finalizers"];
  for (const char* finalizer : finalizers) {
    if (!list.is_array() || std::find(list.begin(), list.end(), finalizer) == list.end())
      list.push_back(finalizer);
  }
}

// Those of the snapshot controllers; others stay.
bool RemoveFinalizers(json& object) {
  const auto it = object["metadata"].find("finalizers");
  if (it == object["metadata"].end()) return false;
  json rest = json::array();
  for (const json& finalizer : *it) {
    if (!finalizer.get_ref<const std::string&>().starts_with("snapshot.storage.kubernetes.io/"))
      rest.push_back(finalizer);
  }
  const bool changed = rest.size() != it->size();
  *it = std::move(rest);
  return changed;
}

}  // namespace

SnapshotController::SnapshotController(EventLoop& loop, Rng& rng, Store& store, Storage& storage,
                                       const ClaimBinder& binder)
    : loop_(loop), rng_(rng), store_(store), storage_(storage), binder_(binder) {
  store_.OnWrite([this](const StoreWrite& write) { OnWrite(write); });
}

void SnapshotController::SetDefaultBehaviour(ClassBehaviour behaviour) {
  default_behaviour_ = std::move(behaviour);
  SyncAll();
}

void SnapshotController::SetBehaviour(const std::string& snapshot_class, ClassBehaviour behaviour) {
  behaviours_[snapshot_class] = std::move(behaviour);
  SyncAll();
}

const ClassBehaviour& SnapshotController::BehaviourOf(const std::string& snapshot_class) const {
  const auto it = behaviours_.find(snapshot_class);
  return it == behaviours_.end() ? default_behaviour_ : it->second;
}

std::vector<std::string> SnapshotController::FinalizersOnDelete(Kind kind,
                                                                const Version& version) const {
  if (kind != Kind::kClaim) return {};
  for (auto it = work_.lower_bound({version.tags->ns, ""});
       it != work_.end() && it->first.first == version.tags->ns; ++it) {
    if (!it->second.protects_claim) continue;
    const auto snapshot = store_.Find<Snapshot>(it->first.first, it->first.second);
    if (snapshot != nullptr && snapshot->source_claim == version.tags->name)
      return {kClaimFinalizer};
  }
  return {};
}

void SnapshotController::OnWrite(const StoreWrite& write) {
  if (write.kind == Kind::kSnapshot) {
    OnSnapshotWrite(write);
  } else if (write.kind == Kind::kContent) {
    OnContentWrite(write);
  } else if (write.kind == Kind::kClaim && write.before != nullptr) {
    const Claim& claim = std::get<Claim>(*write.before->value);
    if (claim.phase != "Pending" || claim.data_source_snapshot.empty()) return;
    const Key key{claim.meta.ns, claim.data_source_snapshot};
    if (work_.contains(key)) SyncAfter(key, absl::ZeroDuration());  // it may hold up a delete
  }
}

void SnapshotController::OnSnapshotWrite(const StoreWrite& write) {
  const Snapshot& snapshot = std::get<Snapshot>(*(write.after ? write.after : write.before)->value);
  const Key key{snapshot.meta.ns, snapshot.meta.name};
  if (write.after == nullptr || snapshot.ready_to_use) {
    const auto claim = store_.Find<Claim>(snapshot.meta.ns, snapshot.source_claim);
    if (claim != nullptr && claim->meta.deleting) {
      claims_to_release_.insert({snapshot.meta.ns, snapshot.source_claim});
      release_ = loop_.After(absl::ZeroDuration(), [this] { ReleaseClaims(); });
    }
  }
  if (write.after == nullptr) {
    work_.erase(key);
  } else if (write.before == nullptr) {
    Work& work = work_[key];
    work.seen = loop_.Elapsed();
    work.stretch = static_cast<double>(rng_() >> 11) * 0x1p-53;
    SyncAfter(key, absl::ZeroDuration());
  } else if (write.user != kUser && (snapshot.meta.deleting || !snapshot.ready_to_use)) {
    SyncAfter(key, absl::ZeroDuration());
  }
}

void SnapshotController::OnContentWrite(const StoreWrite& write) {
  const Content& content = std::get<Content>(*(write.after ? write.after : write.before)->value);
  if (write.after == nullptr) {
    purges_.erase(content.meta.name);
    const auto snapshot = store_.Find<Snapshot>(content.snapshot_ns, content.snapshot_name);
    if (snapshot != nullptr && snapshot->bound_content == content.meta.name)
      SyncAfter({content.snapshot_ns, content.snapshot_name}, absl::ZeroDuration());
  } else if (content.meta.deleting && !purges_.contains(content.meta.name)) {
    Purge& purge = purges_[content.meta.name];
    purge.due = loop_.Elapsed();
    purge.timer =
        loop_.After(absl::ZeroDuration(), [this, name = content.meta.name] { PurgeContent(name); });
  }
}

void SnapshotController::SyncAfter(const Key& key, absl::Duration delay) {
  work_[key].timer = loop_.After(delay, [this, key] { Sync(key); });
}

void SnapshotController::SyncAll() {
  for (auto& [key, work] : work_) SyncAfter(key, absl::ZeroDuration());
  for (auto& [name, purge] : purges_) {
    purge.timer = loop_.After(absl::ZeroDuration(), [this, name = name] { PurgeContent(name); });
  }
}

void SnapshotController::Sync(const Key& key) {
  const auto it = work_.find(key);
  const auto snapshot = store_.Find<Snapshot>(key.first, key.second);
  if (it == work_.end()) return;
  if (snapshot == nullptr) {
    work_.erase(it);
    return;
  }
  Work& work = it->second;
  if (snapshot->meta.deleting) return Delete(key, work, *snapshot);
  const bool has_content = !snapshot->bound_content.empty() &&
                           store_.Find({Kind::kContent, "", snapshot->bound_content}) != nullptr;
  if (snapshot->ready_to_use) {
    if (has_content)
      work_.erase(it);
    else
      Fail(key, work, kMissing, true);
    return;
  }
  if (has_content || Bind(key, work)) Drive(key, work);
}

bool SnapshotController::Due(const Key& key, const Work& work, absl::Duration when) {
  const absl::Duration wait = std::max(when, work.retry) - loop_.Elapsed();
  if (wait <= absl::ZeroDuration()) return true;
  SyncAfter(key, wait);
  return false;
}

absl::Duration SnapshotController::Stretched(absl::Duration time, const ClassBehaviour& behaviour,
                                             const Work& work) const {
  return behaviour.spread == 0 ? time : time * (1 + behaviour.spread * work.stretch);
}

// The same message is not written again, so that its time is that of its first occurrence.
void SnapshotController::Fail(const Key& key, Work& work, const std::string& message,
                              bool unready) {
  store_.Edit({Kind::kSnapshot, key.first, key.second}, kUser, [&](json& object) {
    json& status = object["status"];
    if (status.is_object() && TextAt(status, {"error", "message"}) == message) return false;
    status["error"] = {{"message", message}, {"time", FormatRfc3339(loop_.Now())}};
    if (unready) status["readyToUse"] = false;
    return true;
  });
  const absl::Duration delay = RetryDelay(work.failures++);
  work.retry = loop_.Elapsed() + delay;
  SyncAfter(key, delay);
}

bool SnapshotController::Bind(const Key& key, Work& work) {
  auto snapshot = store_.Find<Snapshot>(key.first, key.second);
  const ClassBehaviour& behaviour = BehaviourOf(
      snapshot->class_name.empty() ? DefaultClass(*snapshot).value_or("") : snapshot->class_name);
  if (behaviour.never_bound) return false;
  if (!Due(key, work, work.seen + Stretched(behaviour.bind_after, behaviour, work))) return false;
  if (snapshot->source_claim.empty()) {
    BindExisting(key, work);
    return false;
  }
  const ObjectKey object_key{Kind::kSnapshot, key.first, key.second};
  if (snapshot->class_name.empty()) {
    const absl::StatusOr<std::string> name = DefaultClass(*snapshot);
    if (!name.ok()) {
      Fail(key, work,
           fmt::format("Failed to set default snapshot class with error {}",
                       std::string(name.status().message())),
           false);
      return false;
    }
    (void)store_.Patch(object_key, {{"spec", {{"volumeSnapshotClassName", *name}}}}, false, kUser)
        .status();
    snapshot = store_.Find<Snapshot>(key.first, key.second);
  }
  const auto snapshot_class = store_.Find<SnapshotClass>("", snapshot->class_name);
  if (snapshot_class == nullptr) {
    Fail(key, work,
         fmt::format("Failed to get snapshot class with error "
                     "volumesnapshotclass.snapshot.storage.k8s.io \"{}\" not found",
                     snapshot->class_name),
         false);
    return false;
  }
  const auto volume = SourceOf(*snapshot, work);
  if (!volume.ok()) {
    Fail(key, work,
         fmt::format("Failed to create snapshot content with error {}",
                     std::string(volume.status().message())),
         true);
    return false;
  }
  const std::string content = CreateContent(*snapshot, *snapshot_class, **volume);
  const bool deletes = store_.JsonOf({Kind::kSnapshotClass, "", snapshot_class->meta.name})
                           ->value("deletionPolicy", "") == "Delete";
  store_.Edit(object_key, kUser, [&](json& object) {
    AddFinalizers(object, {kAsSource});
    if (deletes) AddFinalizers(object, {kBoundSnapshot});
    json& status = object["status"];
    status["boundVolumeSnapshotContentName"] = content;
    status["readyToUse"] = false;
    status.erase("error");
    return true;
  });
  work.bound = loop_.Elapsed();
  work.failures = 0;
  return true;
}

absl::StatusOr<std::string> SnapshotController::DefaultClass(const Snapshot& snapshot) const {
  const auto claim = store_.Find<Claim>(snapshot.meta.ns, snapshot.source_claim);
  if (claim == nullptr) {
    return absl::NotFoundError(
        fmt::format("failed to retrieve PVC {0} from the lister: \"persistentvolumeclaim "
                    "\\\"{0}\\\" not found\"",
                    snapshot.source_claim));
  }
  const auto volume = store_.Find<Volume>("", claim->volume_name);
  if (claim->phase != "Bound" || volume == nullptr) {
    return absl::FailedPreconditionError(
        fmt::format("the PVC {} is not yet bound to a PV, will not attempt to take a snapshot",
                    claim->meta.name));
  }
  if (volume->driver.empty()) {
    return absl::FailedPreconditionError(
        fmt::format("snapshotting non-CSI volumes is not supported, snapshot:{}/{}",
                    snapshot.meta.ns, snapshot.meta.name));
  }
  std::vector<std::string> defaults;
  store_.ForEach<SnapshotClass>([&](const SnapshotClass& c) {
    if (c.is_default && c.driver == volume->driver) defaults.push_back(c.meta.name);
  });
  if (defaults.empty()) return absl::NotFoundError("cannot find default snapshot class");
  if (defaults.size() > 1)
    return absl::FailedPreconditionError(
        fmt::format("{} default snapshot classes were found", defaults.size()));
  return defaults[0];
}

absl::StatusOr<std::shared_ptr<const Volume>> SnapshotController::SourceOf(const Snapshot& snapshot,
                                                                           Work& work) const {
  static constexpr char kCannotUpdate[] =
      "snapshot controller failed to update {} on API server: {}";
  const auto claim = store_.Find<Claim>(snapshot.meta.ns, snapshot.source_claim);
  if (claim == nullptr)
    return absl::NotFoundError(
        fmt::format(kCannotUpdate, snapshot.meta.name, "cannot get claim from snapshot"));
  if (claim->meta.deleting) {
    const json& meta =
        store_.JsonOf({Kind::kClaim, claim->meta.ns, claim->meta.name})->at("metadata");
    const auto finalizers = meta.find("finalizers");
    if (finalizers == meta.end() ||
        std::find(finalizers->begin(), finalizers->end(), kClaimFinalizer) == finalizers->end()) {
      return absl::FailedPreconditionError(
          fmt::format(kCannotUpdate, claim->meta.name,
                      "cannot add finalizer on claim because it is being deleted"));
    }
  }
  work.protects_claim = true;
  const auto no_input = [&](const std::string& why) {
    return absl::FailedPreconditionError(fmt::format(
        "failed to get input parameters to create snapshot {}: \"{}\"", snapshot.meta.name, why));
  };
  if (claim->phase != "Bound")
    return no_input(
        fmt::format("the PVC {} is not yet bound to a PV, will not attempt to take a snapshot",
                    claim->meta.name));
  auto volume = store_.Find<Volume>("", claim->volume_name);
  if (volume == nullptr) {
    return no_input(
        fmt::format("failed to retrieve PV {0} from the API server: \\\"persistentvolumes "
                    "\\\\\\\"{0}\\\\\\\" not found\\\"",
                    claim->volume_name));
  }
  if (volume->claim_uid != claim->meta.uid)
    return no_input("claim in dataSource not bound or invalid");
  if (volume->driver.empty())
    return absl::FailedPreconditionError(
        fmt::format("cannot find CSI PersistentVolumeSource for volume {}", volume->meta.name));
  return volume;
}

std::string SnapshotController::CreateContent(const Snapshot& snapshot,
                                              const SnapshotClass& snapshot_class,
                                              const Volume& volume) {
  const std::string name = "snapcontent-" + snapshot.meta.uid;
  // Member by member: an initializer list costs twice as much, and this is on the path of every
  // snapshot.
  json content;
  content["metadata"]["name"] = name;
  content["metadata"]["finalizers"].push_back(kBoundContent);
  json& spec = content["spec"];
  spec["deletionPolicy"] =
      store_.JsonOf({Kind::kSnapshotClass, "", snapshot_class.meta.name})->at("deletionPolicy");
  spec["driver"] = snapshot_class.driver;
  spec["source"]["volumeHandle"] = volume.volume_handle;
  spec["volumeSnapshotClassName"] = snapshot_class.meta.name;
  const json& volume_spec = store_.JsonOf({Kind::kVolume, "", volume.meta.name})->at("spec");
  if (auto mode = volume_spec.find("volumeMode"); mode != volume_spec.end())
    spec["sourceVolumeMode"] = *mode;
  json& ref = spec["volumeSnapshotRef"];
  ref["apiVersion"] = ResourceOf(Kind::kSnapshot).api_version;
  ref["kind"] = ResourceOf(Kind::kSnapshot).kind;
  ref["namespace"] = snapshot.meta.ns;
  ref["name"] = snapshot.meta.name;
  ref["uid"] = snapshot.meta.uid;
  ref["resourceVersion"] = snapshot.meta.resource_version;
  (void)store_.Create(Kind::kContent, std::move(content), kUser)
      .status();  // one that exists is this one
  return name;
}

// A snapshot of a content that somebody made for it.
void SnapshotController::BindExisting(const Key& key, Work& work) {
  const auto snapshot = store_.Find<Snapshot>(key.first, key.second);
  const json& source =
      store_.JsonOf({Kind::kSnapshot, key.first, key.second})->at("spec").at("source");
  const std::string name = source.value("volumeSnapshotContentName", "");
  const auto content = store_.Find<Content>("", name);
  if (content == nullptr) return Fail(key, work, kMissing, true);
  if (content->snapshot_ns != key.first || content->snapshot_name != key.second ||
      (!content->snapshot_uid.empty() && content->snapshot_uid != snapshot->meta.uid)) {
    return Fail(key, work,
                fmt::format("Snapshot failed to bind VolumeSnapshotContent, Could not bind "
                            "snapshot {} and content {}, the VolumeSnapshotRef does not match",
                            key.second, name),
                true);
  }
  if (!storage_.drivers.contains(content->driver)) return;
  std::string handle;
  bool deletes = false;
  store_.Edit({Kind::kContent, "", name}, kUser, [&](json& object) {
    AddFinalizers(object, {kBoundContent});
    object["spec"]["volumeSnapshotRef"]["uid"] = snapshot->meta.uid;
    handle = TextAt(object["spec"], {"source", "snapshotHandle"});
    deletes = object["spec"]["deletionPolicy"] == "Delete";
    return true;
  });
  store_.Edit({Kind::kSnapshot, key.first, key.second}, kUser, [&](json& object) {
    AddFinalizers(object, {kAsSource});
    if (deletes) AddFinalizers(object, {kBoundSnapshot});
    object["status"] = {{"boundVolumeSnapshotContentName", name}, {"readyToUse", false}};
    return true;
  });
  storage_.snapshots.try_emplace(handle, Storage::Cut{.volume_handle = "", .at = loop_.Now()});
  WriteStatus(*store_.Find<Snapshot>(key.first, key.second), handle, true, "");
  work_.erase(key);
}

void SnapshotController::Drive(const Key& key, Work& work) {
  const auto snapshot = store_.Find<Snapshot>(key.first, key.second);
  const auto content = store_.Find<Content>("", snapshot->bound_content);
  const ClassBehaviour& behaviour = BehaviourOf(snapshot->class_name);
  if (!storage_.drivers.contains(content->driver))
    return;  // no sidecar: bound, and nothing more, for ever
  const std::string handle = "snap-" + snapshot->meta.uid;
  if (!work.cut) {
    if (behaviour.never_cut) return;
    if (!Due(key, work, work.bound + Stretched(behaviour.cut_after, behaviour, work))) return;
    const auto volume = storage_.volumes.find(content->volume_handle);
    if (volume == storage_.volumes.end()) {
      return FailCreate(key, work, *content,
                        fmt::format("rpc error: code = NotFound desc = volume {} does not exist",
                                    content->volume_handle));
    }
    if (behaviour.fail_creates < 0 || work.failed_creates < behaviour.fail_creates) {
      return FailCreate(key, work, *content,
                        behaviour.error_text.empty()
                            ? "rpc error: code = Internal desc = the simulated driver fails"
                            : behaviour.error_text);
    }
    work.cut = loop_.Elapsed();
    work.retry = absl::ZeroDuration();
    storage_.snapshots[handle] = {
        content->volume_handle, volume->second.data, volume->second.bytes,
        behaviour.no_cut_time ? absl::UnixEpoch() : loop_.Now() + behaviour.cut_clock_skew};
  }
  const absl::Duration ready_at = *work.cut + Stretched(behaviour.ready_after, behaviour, work);
  if (behaviour.never_ready || ready_at > loop_.Elapsed()) {
    WriteStatus(*snapshot, handle, false,
                behaviour.error_text.empty()
                    ? ""
                    : fmt::format("Failed to check and update snapshot content: failed to take "
                                  "snapshot of the volume {}: \"{}\"",
                                  content->volume_handle, behaviour.error_text));
    if (!behaviour.never_ready) Due(key, work, ready_at);
    return;
  }
  WriteStatus(*snapshot, handle, true, "");
  work_.erase(key);
}

void SnapshotController::FailCreate(const Key& key, Work& work, const Content& content,
                                    const std::string& error) {
  const std::string message = fmt::format(
      "Failed to {}: failed to take snapshot of the volume {}: {}",
      work.failed_creates == 0 ? "create snapshot" : "check and update snapshot content",
      content.volume_handle, json(error).dump());
  ++work.failed_creates;
  store_.Edit({Kind::kContent, "", content.meta.name}, kUser, [&](json& object) {
    if (TextAt(object, {"status", "error", "message"}) == message) return false;
    object["status"] = {{"error", {{"message", message}, {"time", FormatRfc3339(loop_.Now())}}},
                        {"readyToUse", false}};
    return true;
  });
  Fail(key, work, message, true);
}

// Content first, as the sidecar does it; the controller copies.
void SnapshotController::WriteStatus(const Snapshot& snapshot, const std::string& handle,
                                     bool ready, const std::string& error) {
  const Storage::Cut& cut = storage_.snapshots.at(handle);
  const auto put_error = [&](json& status) {
    if (error.empty()) return status.erase("error") > 0;
    if (TextAt(status, {"error", "message"}) == error) return false;
    status["error"] = {{"message", error}, {"time", FormatRfc3339(loop_.Now())}};
    return true;
  };
  store_.Edit({Kind::kContent, "", snapshot.bound_content}, kUser, [&](json& object) {
    json& status = object["status"];
    bool changed = Put(status, "snapshotHandle", handle);
    changed |= Put(status, "creationTime", absl::ToUnixNanos(cut.at));
    changed |= Put(status, "restoreSize", cut.bytes);
    changed |= Put(status, "readyToUse", ready);
    return put_error(status) || changed;
  });
  store_.Edit({Kind::kSnapshot, snapshot.meta.ns, snapshot.meta.name}, kUser, [&](json& object) {
    json& status = object["status"];
    // Set once, even where the data was cut again (external-snapshotter
    // pkg/common-controller/snapshot_controller.go updateSnapshotStatus).
    bool changed =
        !status.contains("creationTime") && Put(status, "creationTime", FormatRfc3339(cut.at));
    if (cut.bytes > 0) changed |= Put(status, "restoreSize", FormatQuantity(cut.bytes));
    changed |= Put(status, "readyToUse", ready);
    return put_error(status) || changed;
  });
}

void SnapshotController::Delete(const Key& key, Work& work, const Snapshot& snapshot) {
  if (!snapshot.group.empty()) return;  // goes with its group only
  if (binder_.IsAwaited(key.first, key.second)) return;
  const auto content = store_.Find<Content>("", snapshot.bound_content);
  if (content == nullptr || !RefersTo(*content, snapshot)) return LetGo(key);
  const json& object = *store_.JsonOf({Kind::kContent, "", content->meta.name});
  if (object["spec"]["deletionPolicy"] == "Retain") return LetGo(key);
  const bool runs = storage_.drivers.contains(content->driver);
  const ClassBehaviour& behaviour = BehaviourOf(snapshot.class_name);
  // The driver must answer CreateSnapshot first.
  if (runs && !work.cut && !snapshot.cut_time && work.failed_creates == 0 &&
      !content->volume_handle.empty()) {
    if (behaviour.never_cut ||
        !Due(key, work, work.bound + Stretched(behaviour.cut_after, behaviour, work)))
      return;
  }
  if (content->meta.deleting) {
    if (!object["metadata"].value("annotations", json::object()).contains(kBeingDeleted)) {
      store_.Edit({Kind::kContent, "", content->meta.name}, kUser, [](json& edited) {
        edited["metadata"]["annotations"][kBeingDeleted] = "yes";
        return true;
      });
      purges_[content->meta.name].due = loop_.Elapsed() + behaviour.delete_after;
      PurgeContent(content->meta.name);
    }
    return;  // goes on when the content is gone
  }
  if (runs && behaviour.delete_after <= absl::ZeroDuration() && behaviour.fail_deletes == 0) {
    FinishContent(content->meta.name);
    return LetGo(key);
  }
  Purge& purge = purges_[content->meta.name];
  purge.due = loop_.Elapsed() + behaviour.delete_after;
  store_.Edit({Kind::kContent, "", content->meta.name}, kUser, [](json& edited) {
    edited["metadata"]["annotations"][kBeingDeleted] = "yes";
    return true;
  });
  (void)store_.Delete({Kind::kContent, "", content->meta.name}, {}, kUser).status();
  PurgeContent(content->meta.name);
}

void SnapshotController::LetGo(const Key& key) {
  store_.Edit({Kind::kSnapshot, key.first, key.second}, kUser, RemoveFinalizers);
  if (const auto it = work_.find(key); it != work_.end())
    it->second.timer.Cancel();  // held by others' finalizers
}

// The sidecar: asks the driver to delete, and lets the content go.
void SnapshotController::PurgeContent(const std::string& name) {
  const auto content = store_.Find<Content>("", name);
  const auto it = purges_.find(name);
  if (content == nullptr || it == purges_.end()) return;
  Purge& purge = it->second;
  const json& object = *store_.JsonOf({Kind::kContent, "", name});
  const auto snapshot = store_.Find<Snapshot>(content->snapshot_ns, content->snapshot_name);
  const bool has_owner = snapshot != nullptr && RefersTo(*content, *snapshot);
  // Deleted by hand while its snapshot exists: waits for that.
  if (has_owner && !object["metadata"].value("annotations", json::object()).contains(kBeingDeleted))
    return;
  if (object["spec"]["deletionPolicy"] == "Delete") {
    if (!storage_.drivers.contains(content->driver)) return;
    const ClassBehaviour& behaviour =
        BehaviourOf(TextAt(object, {"spec", "volumeSnapshotClassName"}));
    absl::Duration wait = purge.due - loop_.Elapsed();
    if (wait <= absl::ZeroDuration() &&
        (behaviour.fail_deletes < 0 || purge.failures < behaviour.fail_deletes)) {
      wait = RetryDelay(purge.failures++);
      purge.due = loop_.Elapsed() + wait;
    }
    if (wait > absl::ZeroDuration()) {
      purge.timer = loop_.After(wait, [this, name] { PurgeContent(name); });
      return;
    }
  }
  FinishContent(name);
}

// In one write where it was not marked as being deleted before.
void SnapshotController::FinishContent(const std::string& name) {
  store_.Edit({Kind::kContent, "", name}, kUser, [&](json& object) {
    if (object["spec"]["deletionPolicy"] == "Delete")
      storage_.snapshots.erase(TextAt(object, {"status", "snapshotHandle"}));
    RemoveFinalizers(object);
    json& deleted = object["metadata"]["deletionTimestamp"];
    if (deleted.is_null()) deleted = FormatRfc3339(loop_.Now());
    return true;
  });
}

void SnapshotController::ReleaseClaims() {
  for (const auto& [ns, name] : std::exchange(claims_to_release_, {})) {
    bool in_use = false;
    store_.ForEach<Snapshot>([&, &ns = ns, &name = name](const Snapshot& s) {
      in_use |= s.meta.ns == ns && s.source_claim == name && !s.ready_to_use;
    });
    const ObjectKey key{Kind::kClaim, ns, name};
    if (!in_use && store_.Find(key) != nullptr) store_.Edit(key, kUser, RemoveFinalizers);
  }
}

}  // namespace snapkeeper
