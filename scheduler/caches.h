#ifndef SNAPKEEPER_SCHEDULER_CACHES_H_
#define SNAPKEEPER_SCHEDULER_CACHES_H_

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/functional/function_ref.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/kube/reflector.h"

namespace snapkeeper {

// One kind of object over all namespaces, or over those that are watched (a reflector each). Loop
// thread only.
template <class T>
class Cache {
 public:
  using Ptr = std::shared_ptr<const T>;
  Cache(EventLoop& loop, KubeApi& api, Rng& rng, Log& log,
        const std::vector<std::string>& namespaces) {
    if (namespaces.empty()) {
      reflectors_.push_back(std::make_unique<Reflector<T>>(loop, api, rng, log));
    }
    for (const std::string& ns : namespaces) {
      reflectors_.push_back(std::make_unique<Reflector<T>>(
          loop, api, rng, log, ListQuery{.kind = KindOf<T>::kValue, .ns = ns}));
    }
  }

  template <class F>
  void Start(F changed, std::function<void()> synced) {
    for (auto& reflector : reflectors_) reflector->Start(changed, synced);
  }
  void Relist() {
    for (auto& reflector : reflectors_) reflector->Relist();
  }
  bool synced() const {
    for (const auto& reflector : reflectors_) {
      if (!reflector->synced()) return false;
    }
    return true;
  }
  absl::Status health() const {
    for (const auto& reflector : reflectors_) {
      if (!reflector->health().ok()) return reflector->health();
    }
    return absl::OkStatus();
  }
  Ptr Find(const std::string& ns, const std::string& name) const {
    for (const auto& reflector : reflectors_) {
      if (Ptr found = reflector->Find(ns, name)) return found;
    }
    return nullptr;
  }
  template <class F>
  void ForEach(F f) const {
    for (const auto& reflector : reflectors_) reflector->ForEach(f);
  }
  template <class F>
  void ForEachIn(const std::string& ns, F f) const {
    for (const auto& reflector : reflectors_) reflector->ForEachIn(ns, f);
  }

 private:
  std::vector<std::unique_ptr<Reflector<T>>> reflectors_;
};

// What the scheduler knows of the cluster, and the indexes that keep its decisions from scanning
// it.
class Caches {
 public:
  using SnapshotPtr = std::shared_ptr<const Snapshot>;
  template <class T>
  using Changed = std::function<void(const std::shared_ptr<const T>& before,
                                     const std::shared_ptr<const T>& after)>;

  // `namespaces` empty: all. Policies, claims and snapshots are kept of those alone.
  Caches(EventLoop& loop, KubeApi& api, Rng& rng, Log& log,
         const std::vector<std::string>& namespaces);

  struct Handlers {
    Changed<Policy> policy;
    Changed<Claim> claim;        // after the indexes were updated
    Changed<Snapshot> snapshot;  // after the indexes were updated
    Changed<Content> content;
    std::function<void()> synced;  // each time another cache has its first list
  };
  void Start(Handlers handlers);

  // Reads everything again; nothing is synced until it was.
  void Relist();

  // Everything that a fire needs: all but snapshots and contents.
  bool ready_to_fire() const;
  // Snapshots and contents too.
  bool synced() const;
  absl::Status health() const;

  const Cache<Policy>& policies() const { return policies_; }
  const Cache<Claim>& claims() const { return claims_; }
  const Cache<Volume>& volumes() const { return volumes_; }
  const Cache<Namespace>& namespaces() const { return namespaces_; }
  const Cache<Snapshot>& snapshots() const { return snapshots_; }

  std::vector<const SnapshotClass*> Classes() const;
  bool ClaimExists(const std::string& uid) const { return claim_uids_.contains(uid); }
  // Snapshots that are proven to be this policy's (ProvenIdentity), in any namespace.
  std::vector<SnapshotPtr> OfPolicy(const std::string& policy_uid) const;
  // Those of one instant ("20060102T150405Z").
  std::vector<SnapshotPtr> OfRun(const std::string& policy_uid, const std::string& instant) const;
  // Snapshots of any origin whose source is this claim.
  std::vector<SnapshotPtr> OfClaim(const std::string& ns, const std::string& claim) const;
  // Policies that have any.
  std::vector<std::string> PolicyUidsOfSnapshots() const;

  // The snapshot's content, if it refers back to it and its volume is the one that preflight saw
  // (where the snapshot says which); else null.
  std::shared_ptr<const Content> BoundContent(const Snapshot& snapshot) const;
  bool IsBound(const Snapshot& snapshot) const { return BoundContent(snapshot) != nullptr; }
  // Of its content or, before it is bound, of the PV of its claim; "" where there is neither.
  std::string DriverOf(const Snapshot& snapshot) const;
  bool IsRetained(const Snapshot& snapshot) const {
    const auto content = contents_.Find("", snapshot.bound_content);
    return content && content->retained;
  }
  // The content that it names belongs to another snapshot, or is of another volume than the
  // snapshot says: it is not what it seems to be.
  bool IsMisbound(const Snapshot& snapshot) const;
  // Its content is of this volume; "": of any.
  bool IsOfVolume(const Snapshot& snapshot, const std::string& volume_handle) const;
  // Restorable, and of the right volume.
  bool IsReady(const Snapshot& snapshot) const;
  // A PVC that is being made from it still waits for it.
  bool IsPinned(const Snapshot& snapshot) const {
    auto it = pins_.find(snapshot.meta.ns + "/" + snapshot.meta.name);
    return it != pins_.end();
  }
  // The ready snapshot of any origin of this claim's volume with the newest cut; null if there is
  // none. What another claim of its name left is none: of a claim without a known volume only what
  // names this claim, and proves it, counts.
  SnapshotPtr NewestReady(const Claim& claim, absl::Time now) const;
  // Its cut; InfinitePast() if there is none.
  absl::Time NewestReadyCut(const Claim& claim, absl::Time now) const;
  // Where the volume is known already; "": any.
  absl::Time NewestReadyCut(const std::string& ns, const std::string& claim,
                            const std::string& volume_handle, absl::Time now) const;

 private:
  // Instant, namespace, name: what one run took of thousands is a range.
  using SnapshotKey = std::tuple<std::string, std::string, std::string>;
  using Index = absl::flat_hash_map<std::string, std::map<SnapshotKey, SnapshotPtr>>;
  static void Move(Index& index, const std::string& from, const SnapshotPtr& before,
                   const std::string& to, const SnapshotPtr& after);
  static std::vector<SnapshotPtr> Values(const Index& index, const std::string& key);
  SnapshotPtr NewestReady(const std::string& ns, const std::string& claim, absl::Time now,
                          absl::FunctionRef<bool(const Snapshot&)> counts) const;

  Cache<Policy> policies_;
  Cache<Claim> claims_;
  Cache<Snapshot> snapshots_;
  Cache<Volume> volumes_;
  Cache<Content> contents_;
  Cache<SnapshotClass> classes_;
  Cache<Namespace> namespaces_;

  absl::flat_hash_set<std::string> claim_uids_;
  absl::flat_hash_map<std::string, int> pins_;  // "namespace/snapshot": Pending PVCs made from it
  Index by_policy_;                             // UID
  Index by_claim_;                              // "namespace/claim"
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_CACHES_H_
