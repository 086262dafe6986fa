#ifndef SNAPKEEPER_COMMON_MODEL_OBJECTS_H_
#define SNAPKEEPER_COMMON_MODEL_OBJECTS_H_

#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace snapkeeper {

// What we read of Kubernetes' objects, as values: no more than decisions need, because caches hold
// thousands of them. Field names are those of the API. An absent optional field stays absent:
// absent is not false and not "".

struct ObjectMeta {
  std::string ns;  // "" for cluster-scoped objects
  std::string name;
  std::string uid;
  std::string resource_version;  // opaque: compared for equality only
  int64_t generation = 0;
  absl::Time created =
      absl::InfinitePast();  // creationTimestamp, whole seconds, set by the API server
  bool deleting = false;     // deletionTimestamp is set

  bool operator==(const ObjectMeta&) const = default;
};

// PersistentVolumeClaim
struct Claim {
  ObjectMeta meta;
  std::map<std::string, std::string> labels;
  std::string exclude;               // annotation snapkeeper.io/exclude
  std::string phase;                 // Pending, Bound, Lost
  std::string volume_name;           // spec.volumeName
  std::string storage_class;         // spec.storageClassName
  std::string data_source_snapshot;  // name of the VolumeSnapshot in this namespace that
                                     // spec.dataSource(Ref) names, or ""
  std::string
      source_json;  // {"labels":…,"spec":…} as put into the snapshot's source-claim annotation

  bool operator==(const Claim&) const = default;
};

// PersistentVolume
struct Volume {
  ObjectMeta meta;
  std::string claim_uid;              // spec.claimRef.uid
  std::string driver, volume_handle;  // spec.csi; driver "" where the volume is not CSI

  bool operator==(const Volume&) const = default;
};

// VolumeSnapshotClass
struct SnapshotClass {
  ObjectMeta meta;
  std::string driver;
  bool is_default = false;  // annotation snapshot.storage.kubernetes.io/is-default-class

  bool operator==(const SnapshotClass&) const = default;
};

struct Namespace {
  ObjectMeta meta;
  bool operator==(const Namespace&) const = default;
};

// VolumeSnapshotContent
struct Content {
  ObjectMeta meta;
  std::string driver;
  std::string volume_handle;  // spec.source.volumeHandle; "" where pre-provisioned
  std::string snapshot_ns, snapshot_name, snapshot_uid;  // spec.volumeSnapshotRef
  bool retained = false;                                 // spec.deletionPolicy: Retain

  bool operator==(const Content&) const = default;
};

// VolumeSnapshot
struct Snapshot {
  ObjectMeta meta;
  std::string
      source_claim;  // spec.source.persistentVolumeClaimName; "" where the source is not a PVC
  std::string class_name;              // spec.volumeSnapshotClassName
  std::string bound_content;           // status.boundVolumeSnapshotContentName
  std::optional<absl::Time> cut_time;  // status.creationTime
  bool ready_to_use = false;
  std::string error;  // status.error.message, "" if none
  std::string group;  // status.volumeGroupSnapshotName, or an owner of kind VolumeGroupSnapshot
  // Ours, as found on the object: they prove nothing by themselves (see names.h).
  bool managed = false;  // label app.kubernetes.io/managed-by: snapkeeper
  std::string policy_uid, claim_uid, instant, trigger;  // labels snapkeeper.io/…
  std::string identity, policy, claim, volume_handle;   // annotations snapkeeper.io/…
  std::string hold, hold_until;  // label (or annotation) snapkeeper.io/hold, hold-until

  bool operator==(const Snapshot&) const = default;
};

// coordination.k8s.io Lease
struct Lease {
  ObjectMeta meta;
  std::string holder;       // spec.holderIdentity
  int32_t transitions = 0;  // spec.leaseTransitions

  bool operator==(const Lease&) const = default;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_MODEL_OBJECTS_H_
