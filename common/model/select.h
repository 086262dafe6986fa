#ifndef SNAPKEEPER_COMMON_MODEL_SELECT_H_
#define SNAPKEEPER_COMMON_MODEL_SELECT_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <string>
#include <vector>

#include "common/model/objects.h"
#include "common/model/policy.h"

namespace snapkeeper {

// Whether `policy` covers `claim` now: same namespace, the selector matches, not opted out by
// annotation.
bool Selects(const Policy& policy, const Claim& claim);

// The claims a run of `instant` is for: those that Selects() and that existed at the instant
// (creationTimestamp has whole seconds: created in the instant's own second counts as existing). By
// name.
std::vector<const Claim*> SelectVolumes(const Policy& policy, absl::Time instant,
                                        const std::vector<const Claim*>& claims_of_namespace);

// What preflight found out about one volume: what the job must carry.
struct Target {
  std::string ns, claim, claim_uid;
  std::string snapshot_class;
  std::string driver;
  std::string volume_handle;
  std::string source_json;
  bool operator==(const Target&) const = default;
};

// Judges from cached objects, so that it costs no request. `volume` and `ns` may be null where the
// cache has none. Errors carry a Reason (ClaimNotBound, ClaimTerminating, NotCSI, ClassNotFound,
// NoDefaultClass, MultipleDefaultClasses, DriverMismatch, NamespaceTerminating). Rules:
// external-snapshotter pkg/common-controller/snapshot_controller.go.
absl::StatusOr<Target> Preflight(const Policy& policy, const Claim& claim, const Volume* volume,
                                 const Namespace* ns,
                                 const std::vector<const SnapshotClass*>& classes);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_MODEL_SELECT_H_
