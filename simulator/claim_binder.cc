#include "simulator/claim_binder.h"

#include <absl/time/time.h>

#include <optional>

#include "common/kube/json.h"

namespace snapkeeper {
namespace {

using nlohmann::json;

constexpr std::string_view kUser = "system:serviceaccount:kube-system:persistent-volume-binder";

}  // namespace

ClaimBinder::ClaimBinder(EventLoop& loop, Store& store, Storage& storage,
                         std::map<std::string, std::string> storage_classes)
    : loop_(loop), store_(store), storage_(storage), storage_classes_(std::move(storage_classes)) {
  for (const auto& [name, driver] : storage_classes_) storage_.drivers.insert(driver);
  store_.OnWrite([this](const StoreWrite& write) { OnWrite(write); });
}

bool ClaimBinder::IsAwaited(const std::string& ns, const std::string& snapshot) const {
  for (auto it = pending_.lower_bound({ns, ""}); it != pending_.end() && it->first == ns; ++it) {
    const auto claim = store_.Find<Claim>(it->first, it->second);
    if (claim != nullptr && claim->data_source_snapshot == snapshot) return true;
  }
  return false;
}

void ClaimBinder::OnWrite(const StoreWrite& write) {
  if (write.kind == Kind::kClaim) {
    if (write.after == nullptr) {
      const Claim& claim = std::get<Claim>(*write.before->value);
      pending_.erase({claim.meta.ns, claim.meta.name});
      if (!claim.volume_name.empty()) released_.push_back(claim.volume_name);
    } else if (const Claim& claim = std::get<Claim>(*write.after->value);
               claim.phase == "Pending") {
      pending_.insert({claim.meta.ns, claim.meta.name});
    } else {
      pending_.erase({claim.meta.ns, claim.meta.name});
    }
  } else if (write.kind != Kind::kVolume && write.kind != Kind::kSnapshot) {
    return;
  }
  if (!pending_.empty() || !released_.empty())
    sync_ = loop_.After(absl::ZeroDuration(), [this] { Sync(); });
}

void ClaimBinder::Sync() {
  for (const std::string& volume : std::exchange(released_, {})) Release(volume);
  for (const Key& key : std::set<Key>(pending_)) {
    const auto claim = store_.Find<Claim>(key.first, key.second);
    if (claim != nullptr && !claim->meta.deleting) Bind(*claim);
  }
}

void ClaimBinder::Bind(const Claim& claim) {
  if (!claim.volume_name.empty()) {
    BindExisting(claim);
    return;
  }
  const auto driver = storage_classes_.find(claim.storage_class);
  if (driver == storage_classes_.end()) return;
  const json& spec = store_.JsonOf({Kind::kClaim, claim.meta.ns, claim.meta.name})->at("spec");
  const json& request = spec["resources"]["requests"]["storage"];
  const int64_t bytes =
      ParseQuantity(request.is_string() ? request.get<std::string>() : request.dump()).value_or(0);
  const std::optional<int64_t> data = InitialData(claim, driver->second, bytes);
  if (!data) return;
  const std::string handle = "vol-" + claim.meta.uid, name = "pvc-" + claim.meta.uid;
  storage_.volumes[handle] = {*data, bytes};
  const json volume = {{"metadata", {{"name", name}}},
                       {"spec",
                        {{"accessModes", spec["accessModes"]},
                         {"capacity", {{"storage", request}}},
                         {"claimRef",
                          {{"apiVersion", "v1"},
                           {"kind", "PersistentVolumeClaim"},
                           {"namespace", claim.meta.ns},
                           {"name", claim.meta.name},
                           {"uid", claim.meta.uid}}},
                         {"csi", {{"driver", driver->second}, {"volumeHandle", handle}}},
                         {"persistentVolumeReclaimPolicy", "Delete"},
                         {"storageClassName", claim.storage_class},
                         {"volumeMode", spec.value("volumeMode", "Filesystem")}}}};
  if (store_.Create(Kind::kVolume, volume, kUser).ok()) MarkBound(claim, name);
}

// A PV that somebody made for this claim, or for whoever names it.
void ClaimBinder::BindExisting(const Claim& claim) {
  const ObjectKey key{Kind::kVolume, "", claim.volume_name};
  const json* volume = store_.JsonOf(key);
  if (volume == nullptr) return;
  if (const json ref = (*volume)["spec"].value("claimRef", json()); ref.is_object()) {
    const std::string uid = ref.value("uid", "");
    if (ref.value("namespace", "") != claim.meta.ns || ref.value("name", "") != claim.meta.name ||
        (!uid.empty() && uid != claim.meta.uid))
      return;
  }
  if (const auto value = store_.Find<Volume>("", claim.volume_name);
      storage_.drivers.contains(value->driver)) {
    const std::string size =
        (*volume)["spec"].value("capacity", json::object()).value("storage", "0");
    storage_.volumes.try_emplace(value->volume_handle,
                                 Storage::Disk{.bytes = ParseQuantity(size).value_or(0)});
  }
  MarkBound(claim, claim.volume_name);
}

std::optional<int64_t> ClaimBinder::InitialData(const Claim& claim, const std::string& driver,
                                                int64_t bytes) const {
  if (!claim.data_source_snapshot.empty()) {
    const auto snapshot = store_.Find<Snapshot>(claim.meta.ns, claim.data_source_snapshot);
    if (snapshot == nullptr || snapshot->meta.deleting || !snapshot->ready_to_use)
      return std::nullopt;
    const json* content = store_.JsonOf({Kind::kContent, "", snapshot->bound_content});
    if (content == nullptr || (*content)["spec"]["driver"] != driver) return std::nullopt;
    if ((*content)["spec"]["volumeSnapshotRef"].value("uid", "") != snapshot->meta.uid)
      return std::nullopt;
    const auto cut = storage_.snapshots.find(
        content->value("status", json::object()).value("snapshotHandle", ""));
    if (cut == storage_.snapshots.end() || bytes < cut->second.bytes) return std::nullopt;
    return cut->second.data;
  }
  const json& spec = store_.JsonOf({Kind::kClaim, claim.meta.ns, claim.meta.name})->at("spec");
  const auto source = spec.find("dataSourceRef");
  if (source == spec.end()) return Storage::Disk().data;
  if (source->value("kind", "") != "PersistentVolumeClaim")
    return std::nullopt;  // nobody here populates others
  const auto other = store_.Find<Claim>(claim.meta.ns, source->value("name", ""));
  if (other == nullptr || other->phase != "Bound" || other->storage_class != claim.storage_class)
    return std::nullopt;
  const auto volume = store_.Find<Volume>("", other->volume_name);
  if (volume == nullptr) return std::nullopt;
  const auto disk = storage_.volumes.find(volume->volume_handle);
  if (disk == storage_.volumes.end() || bytes < disk->second.bytes) return std::nullopt;
  return disk->second.data;
}

void ClaimBinder::MarkBound(const Claim& claim, const std::string& volume) {
  json modes, capacity;
  store_.Edit({Kind::kVolume, "", volume}, kUser, [&](json& object) {
    modes = object["spec"].value("accessModes", json::array());
    capacity = object["spec"].value("capacity", json::object());
    object["spec"]["claimRef"] = {{"apiVersion", "v1"},
                                  {"kind", "PersistentVolumeClaim"},
                                  {"namespace", claim.meta.ns},
                                  {"name", claim.meta.name},
                                  {"uid", claim.meta.uid}};
    object["status"]["phase"] = "Bound";
    return true;
  });
  store_.Edit({Kind::kClaim, claim.meta.ns, claim.meta.name}, kUser, [&](json& object) {
    object["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = "yes";
    object["spec"]["volumeName"] = volume;
    object["status"] = {{"phase", "Bound"}, {"accessModes", modes}, {"capacity", capacity}};
    return true;
  });
}

void ClaimBinder::Release(const std::string& volume) {
  const ObjectKey key{Kind::kVolume, "", volume};
  const json* object = store_.JsonOf(key);
  if (object == nullptr) return;
  if ((*object)["spec"].value("persistentVolumeReclaimPolicy", "Retain") != "Delete") {
    store_.Edit(key, kUser, [](json& json) {
      json["status"]["phase"] = "Released";
      return true;
    });
    return;
  }
  if (const auto value = store_.Find<Volume>("", volume))
    storage_.volumes.erase(value->volume_handle);
  (void)store_.Delete(key, {}, kUser).status();
}

}  // namespace snapkeeper
