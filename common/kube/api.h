#ifndef SNAPKEEPER_COMMON_KUBE_API_H_
#define SNAPKEEPER_COMMON_KUBE_API_H_

#include <absl/functional/any_invocable.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/call.h"
#include "common/model/objects.h"
#include "common/model/policy.h"

namespace snapkeeper {

// The kinds that we read, as values of common/model. One version of one object, shared and
// immutable.
using Object =
    std::variant<Policy, Claim, Volume, Snapshot, Content, SnapshotClass, Namespace, Lease>;
using ObjectPtr = std::shared_ptr<const Object>;

// Index into Object for the kinds that we read; Events are only written.
enum class Kind {
  kPolicy,
  kClaim,
  kVolume,
  kSnapshot,
  kContent,
  kSnapshotClass,
  kNamespace,
  kLease,
  kEvent
};

template <class T>
struct KindOf;
template <>
struct KindOf<Policy> {
  static constexpr Kind kValue = Kind::kPolicy;
};
template <>
struct KindOf<Claim> {
  static constexpr Kind kValue = Kind::kClaim;
};
template <>
struct KindOf<Volume> {
  static constexpr Kind kValue = Kind::kVolume;
};
template <>
struct KindOf<Snapshot> {
  static constexpr Kind kValue = Kind::kSnapshot;
};
template <>
struct KindOf<Content> {
  static constexpr Kind kValue = Kind::kContent;
};
template <>
struct KindOf<SnapshotClass> {
  static constexpr Kind kValue = Kind::kSnapshotClass;
};
template <>
struct KindOf<Namespace> {
  static constexpr Kind kValue = Kind::kNamespace;
};
template <>
struct KindOf<Lease> {
  static constexpr Kind kValue = Kind::kLease;
};

// Shares ownership of the whole object.
template <class T>
std::shared_ptr<const T> As(const ObjectPtr& object) {
  return std::shared_ptr<const T>(object, &std::get<T>(*object));
}
const ObjectMeta& MetaOf(const Object& object);

struct ObjectKey {
  Kind kind;
  std::string ns;  // "" for cluster-scoped kinds
  std::string name;
};

struct ListQuery {
  Kind kind;
  std::string ns;              // "": all namespaces
  std::string label_selector;  // "" or e.g. "app=db,snapkeeper.io/policy-uid=…"
  std::string field_selector;  // "" or "metadata.name=x"
};

struct ListResult {
  std::vector<ObjectPtr> items;
  std::string resource_version;  // of the list: where a watch starts
};

struct WatchEvent {
  enum Type { kAdded, kModified, kDeleted, kBookmark } type;
  ObjectPtr object;              // null for kBookmark; for kDeleted the last state
  std::string resource_version;  // where a new watch would go on
};

struct Preconditions {
  std::string uid;               // always sent
  std::string resource_version;  // sent unless empty: whatever version, but this object
};

// What we rely on of the Kubernetes API; two implementations (KubeClient over HTTP, the simulator
// in process) pass one contract suite (tests/contract). Tries once; retry is the caller's. Loop
// thread only; callbacks never run from within the call; destroying the Call cancels (the server
// may have acted all the same).
//
// Errors are absl codes by what the caller should do, with ReasonOf/RetryAfterOf
// (common/model/reason.h):
//   NotFound (the object; a POST into a missing namespace too), AlreadyExists, Aborted (409
//   Conflict: re-read), Unauthenticated (401), PermissionDenied (403: Forbidden, QuotaExceeded,
//   NamespaceTerminating), InvalidArgument (400, 422), FailedPrecondition (404 of a kind that is
//   not installed), ResourceExhausted (429), OutOfRange (410 Expired: list again), Unavailable
//   (connect, 5xx), DeadlineExceeded (ours, and 504: the outcome is unknown: look by name before
//   trying again).
class KubeApi {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<ObjectPtr>)>;
  using Listed = absl::AnyInvocable<void(absl::StatusOr<ListResult>)>;
  using OnEvent = absl::AnyInvocable<void(WatchEvent)>;
  using Ended = absl::AnyInvocable<void(absl::Status)>;  // Ok: the server ended the watch, as it
                                                         // does every few minutes

  virtual ~KubeApi() = default;

  virtual Call Get(const ObjectKey& key, Done done) = 0;
  // Most recent (no resourceVersion is sent), whole or not at all: paged inside, started again when
  // a page has expired.
  virtual Call List(const ListQuery& query, Listed done) = 0;
  // Events after `resource_version`, the first of them a kBookmark at `resource_version` itself:
  // the server has accepted the watch. Ends with OutOfRange when that is too old, DeadlineExceeded
  // when the stream fell silent for longer than bookmarks allow (as it does from a version that an
  // API server whose etcd was restored has not reached), Internal when it cannot be read.
  virtual Call Watch(const ListQuery& query, const std::string& resource_version, OnEvent on_event,
                     Ended ended) = 0;

  // `body` is the whole object; it names its namespace itself. Answers the object as created (null
  // for kEvent).
  virtual Call Create(Kind kind, nlohmann::json body, Done done) = 0;
  // Answers Ok when the object is gone or is now being deleted. A precondition that fails is
  // Aborted; NotFound if there is none.
  virtual Call Delete(const ObjectKey& key, const Preconditions& preconditions,
                      absl::AnyInvocable<void(absl::Status)> done) = 0;
  // JSON merge patch of the object, or of its status subresource. With metadata.resourceVersion in
  // the patch, a stale one is Aborted.
  virtual Call Patch(const ObjectKey& key, nlohmann::json merge_patch, bool status, Done done) = 0;

  // By how much our clock is ahead of the server's at least, by what the Date headers of its newest
  // replies agree on (ServerClock in common/model/clock.h); nullopt before the first.
  virtual std::optional<absl::Duration> ClockOffset() const = 0;
  // A time of our clock by the server's, as far as that is known: creationTimestamp is the
  // server's.
  absl::Time ServerTime(absl::Time ours) const {
    return ours - ClockOffset().value_or(absl::ZeroDuration());
  }
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_KUBE_API_H_
