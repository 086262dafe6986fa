#ifndef SNAPKEEPER_COMMON_MODEL_NAMES_H_
#define SNAPKEEPER_COMMON_MODEL_NAMES_H_

#include <absl/time/time.h>

#include <optional>
#include <string>
#include <string_view>

#include "common/model/objects.h"

namespace snapkeeper {

// Labels and annotations of our snapshots. Never the policy's own labels: a GitOps tool would prune
// our backups with them.
inline constexpr std::string_view kManagedByLabel = "app.kubernetes.io/managed-by";
inline constexpr std::string_view kManagedBy = "snapkeeper";
inline constexpr std::string_view kPolicyUidLabel = "snapkeeper.io/policy-uid";
inline constexpr std::string_view kClaimUidLabel = "snapkeeper.io/pvc-uid";
inline constexpr std::string_view kInstantLabel = "snapkeeper.io/instant";
inline constexpr std::string_view kTriggerLabel = "snapkeeper.io/trigger";
inline constexpr std::string_view kHoldKey = "snapkeeper.io/hold";
inline constexpr std::string_view kHoldUntilKey = "snapkeeper.io/hold-until";
inline constexpr std::string_view kIdentityAnnotation = "snapkeeper.io/identity";
inline constexpr std::string_view kPolicyAnnotation = "snapkeeper.io/policy";
inline constexpr std::string_view kClaimAnnotation = "snapkeeper.io/claim";
inline constexpr std::string_view kRunAnnotation = "snapkeeper.io/run";
inline constexpr std::string_view kPostBeforeAnnotation = "snapkeeper.io/post-before";
inline constexpr std::string_view kVolumeHandleAnnotation = "snapkeeper.io/volume-handle";
inline constexpr std::string_view kSourceClaimAnnotation = "snapkeeper.io/source-claim";
inline constexpr std::string_view kExcludeAnnotation = "snapkeeper.io/exclude";

// "20261122T150000Z", and back; nullopt for anything else.
std::string FormatInstant(absl::Time instant);
std::optional<absl::Time> ParseInstant(std::string_view text);

// Lower-case unpadded base32 of the first 16 bytes of SHA-256: 26 characters, each allowed in a
// DNS-1123 label.
std::string ShortHash(std::string_view text);

// Who a snapshot is: at most one object may ever exist for it. The name below is the lock that
// makes it so.
struct Identity {
  std::string policy_uid;
  std::string instant;  // FormatInstant, or "manual" with the run's own UID as policy_uid
  std::string claim_uid;
  bool operator==(const Identity&) const = default;

  // `snapkeeper/v1/POLICY/INSTANT/PVC`: the identity annotation.
  std::string Annotation() const;
};

// "schedule" or "manual", as an identity's instant has it; nullopt where it is none.
std::optional<std::string_view> TriggerOf(std::string_view instant);

// The object's name: the claim's first 36 characters ('.' to '-', trailing '-' cut), '-', and the
// lower-case unpadded base32 of the first 16 bytes of SHA-256 of
// "snapkeeper/v1\nPOLICY\nINSTANT\nPVC\n".
std::string SnapshotName(const Identity& identity, std::string_view claim_name);

// The content names this snapshot as its own; whether the snapshot names the content is for the
// caller to know (external-snapshotter pkg/utils/util.go IsVolumeSnapshotRefSet).
bool RefersTo(const Content& content, const Snapshot& snapshot);

// The identity that `snapshot` claims to have and its name proves: name, labels and annotation
// agree, and the source is the claim named. nullopt for foreign objects, also with our labels and
// annotations copied onto them.
std::optional<Identity> ProvenIdentity(const Snapshot& snapshot);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_MODEL_NAMES_H_
