#include "common/model/select.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "common/model/reason.h"

namespace snapkeeper {
namespace {

absl::Status Refused(Reason reason, std::string_view message) {
  return WithReason(absl::FailedPreconditionError(fmt::to_string(message)), reason);
}

// `object` names the claim, for messages.
absl::Status CheckClaim(std::string_view object, const Claim& claim, const Volume* volume,
                        const Namespace* ns) {
  if (ns != nullptr && ns->meta.deleting) {
    return Refused(Reason::kNamespaceTerminating,
                   fmt::format("{}: its namespace is being deleted; delete the policy, or "
                               "recreate the namespace once it is gone",
                               object));
  }
  if (claim.meta.deleting) {
    return Refused(Reason::kClaimTerminating,
                   fmt::format("{} is being deleted; exclude it from the policy's selector, or "
                               "recreate it once it is gone",
                               object));
  }
  if (claim.phase != "Bound") {
    return Refused(Reason::kClaimNotBound,
                   fmt::format("{} has phase {}, not Bound; see its events for what binding "
                               "waits for (kubectl describe pvc)",
                               object, claim.phase.empty() ? "none" : claim.phase));
  }
  if (volume == nullptr) {
    return Refused(Reason::kClaimNotBound,
                   fmt::format("{}: its PersistentVolume \"{}\" does not exist; restore the "
                               "volume, or recreate the claim",
                               object, claim.volume_name));
  }
  if (volume->claim_uid != claim.meta.uid) {
    return Refused(Reason::kClaimNotBound,
                   fmt::format("{}: its PersistentVolume {} is not bound to it (claimRef has "
                               "UID \"{}\", the claim {}); bind the claim to a volume of its own",
                               object, volume->meta.name, volume->claim_uid, claim.meta.uid));
  }
  if (volume->driver.empty()) {
    return Refused(Reason::kNotCsi,
                   fmt::format("{}: its PersistentVolume {} is not a CSI volume and cannot be "
                               "snapshotted; exclude the claim, or move its data to a CSI volume",
                               object, volume->meta.name));
  }
  return absl::OkStatus();
}

absl::StatusOr<const SnapshotClass*> NamedClass(std::string_view object, const std::string& name,
                                                const Volume& volume,
                                                const std::vector<const SnapshotClass*>& classes) {
  auto named = std::find_if(classes.begin(), classes.end(), [&name](const auto* candidate) {
    return candidate->meta.name == name;
  });
  if (named == classes.end()) {
    return Refused(Reason::kClassNotFound,
                   fmt::format("{}: VolumeSnapshotClass {} does not exist; create it, or name "
                               "another in the policy's snapshotClassName",
                               object, name));
  }
  if ((*named)->driver != volume.driver) {
    return Refused(Reason::kDriverMismatch,
                   fmt::format("{}: VolumeSnapshotClass {} is for driver {}, its volume {} is of "
                               "driver {}; name a class of that driver in the policy's "
                               "snapshotClassName",
                               object, name, (*named)->driver, volume.meta.name, volume.driver));
  }
  return *named;
}

absl::StatusOr<const SnapshotClass*> DefaultClass(
    std::string_view object, const Volume& volume,
    const std::vector<const SnapshotClass*>& classes) {
  std::vector<const SnapshotClass*> defaults;
  std::copy_if(classes.begin(), classes.end(), std::back_inserter(defaults),
               [&volume](const auto* candidate) {
                 return candidate->is_default && candidate->driver == volume.driver;
               });
  if (defaults.empty()) {
    return Refused(Reason::kNoDefaultClass,
                   fmt::format("{}: no VolumeSnapshotClass is the default of driver {}; annotate "
                               "one with snapshot.storage.kubernetes.io/is-default-class: "
                               "\"true\", or set the policy's snapshotClassName",
                               object, volume.driver));
  }
  if (defaults.size() > 1) {
    std::vector<std::string_view> names;
    names.reserve(defaults.size());
    for (const auto* candidate : defaults) names.push_back(candidate->meta.name);
    std::sort(names.begin(), names.end());
    return Refused(Reason::kMultipleDefaultClasses,
                   fmt::format("{}: driver {} has {} default VolumeSnapshotClasses ({}); leave "
                               "the default annotation on one, or set the policy's "
                               "snapshotClassName",
                               object, volume.driver, names.size(), fmt::join(names, ", ")));
  }
  return defaults.front();
}

}  // namespace

bool Selects(const Policy& policy, const Claim& claim) {
  return claim.meta.ns == policy.meta.ns && claim.exclude != "true" &&
         Matches(policy.spec.selector, claim.labels);
}

std::vector<const Claim*> SelectVolumes(const Policy& policy, absl::Time instant,
                                        const std::vector<const Claim*>& claims_of_namespace) {
  std::vector<const Claim*> selected;
  std::copy_if(claims_of_namespace.begin(), claims_of_namespace.end(), std::back_inserter(selected),
               [&policy, instant](const Claim* claim) {
                 return claim->meta.created <= instant && Selects(policy, *claim);
               });
  std::sort(selected.begin(), selected.end(),
            [](const Claim* a, const Claim* b) { return a->meta.name < b->meta.name; });
  return selected;
}

absl::StatusOr<Target> Preflight(const Policy& policy, const Claim& claim, const Volume* volume,
                                 const Namespace* ns,
                                 const std::vector<const SnapshotClass*>& classes) {
  const std::string object =
      fmt::format("PersistentVolumeClaim {}/{}", claim.meta.ns, claim.meta.name);
  if (absl::Status status = CheckClaim(object, claim, volume, ns); !status.ok()) return status;
  const std::string& named = policy.spec.snapshot_class;
  auto snapshot_class = named.empty() ? DefaultClass(object, *volume, classes)
                                      : NamedClass(object, named, *volume, classes);
  if (!snapshot_class.ok()) return snapshot_class.status();
  return Target{
      claim.meta.ns,  claim.meta.name,       claim.meta.uid,   (*snapshot_class)->meta.name,
      volume->driver, volume->volume_handle, claim.source_json};
}

}  // namespace snapkeeper
