#ifndef SNAPKEEPER_SIMULATOR_SNAPSHOT_CONTROLLER_H_
#define SNAPKEEPER_SIMULATOR_SNAPSHOT_CONTROLLER_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/backoff.h"
#include "common/base/event_loop.h"
#include "simulator/behaviour.h"
#include "simulator/claim_binder.h"
#include "simulator/storage.h"
#include "simulator/store.h"

namespace snapkeeper {

// snapshot-controller and csi-snapshotter with the driver behind them, as far as the API tells them
// apart (external-snapshotter v8.7 pkg/common-controller, pkg/sidecar-controller; messages word for
// word). A year of simulation makes hundreds of thousands of snapshots, so the number of writes is
// less than theirs:
//  - the finalizer pvc-as-source-protection is put on a PVC only when it is deleted while a
//  snapshot of it is unready;
//  - what happens at one moment is one write: finalizers and binding, cut and ready, a delete that
//  takes no time;
//  - no Events, no annotation being-created.
// Nothing is terminal: what fails is tried again after 1 s, doubling to 5 min. Level-triggered:
// Sync looks at the objects, does the next step and arms a timer for the one after. Loop thread
// only.
class SnapshotController {
 public:
  SnapshotController(EventLoop& loop, Rng& rng, Store& store, Storage& storage,
                     const ClaimBinder& binder);

  void SetDefaultBehaviour(ClassBehaviour behaviour);
  void SetBehaviour(const std::string& snapshot_class, ClassBehaviour behaviour);
  const ClassBehaviour& BehaviourOf(const std::string& snapshot_class) const;

  // The finalizers that an object has by the time it is deleted (Store::SetFinalizersOnDelete).
  std::vector<std::string> FinalizersOnDelete(Kind kind, const Version& version) const;

 private:
  using Key = std::pair<std::string, std::string>;  // namespace, name
  // A VolumeSnapshot that is not ready yet, or is being deleted.
  struct Work {
    absl::Duration seen, bound;  // on the Elapsed clock
    std::optional<absl::Duration> cut;
    absl::Duration retry = absl::ZeroDuration();  // not before
    double stretch = 0;                           // [0, 1)
    int failures = 0;                             // in a row
    int failed_creates = 0;
    bool protects_claim = false;
    Timer timer;
  };
  // A VolumeSnapshotContent that is being deleted.
  struct Purge {
    absl::Duration due;
    int failures = 0;
    Timer timer;
  };

  void OnWrite(const StoreWrite& write);
  void OnSnapshotWrite(const StoreWrite& write);
  void OnContentWrite(const StoreWrite& write);
  void SyncAfter(const Key& key, absl::Duration delay);
  void SyncAll();

  void Sync(const Key& key);
  bool Due(const Key& key, const Work& work, absl::Duration when);
  absl::Duration Stretched(absl::Duration time, const ClassBehaviour& behaviour,
                           const Work& work) const;
  void Fail(const Key& key, Work& work, const std::string& message, bool unready);

  bool Bind(const Key& key, Work& work);
  void BindExisting(const Key& key, Work& work);
  absl::StatusOr<std::string> DefaultClass(const Snapshot& snapshot) const;
  absl::StatusOr<std::shared_ptr<const Volume>> SourceOf(const Snapshot& snapshot,
                                                         Work& work) const;
  std::string CreateContent(const Snapshot& snapshot, const SnapshotClass& snapshot_class,
                            const Volume& volume);

  void Drive(const Key& key, Work& work);
  void FailCreate(const Key& key, Work& work, const Content& content, const std::string& error);
  void WriteStatus(const Snapshot& snapshot, const std::string& handle, bool ready,
                   const std::string& error);

  void Delete(const Key& key, Work& work, const Snapshot& snapshot);
  void LetGo(const Key& key);
  void PurgeContent(const std::string& name);
  void FinishContent(const std::string& name);
  void ReleaseClaims();

  EventLoop& loop_;
  Rng& rng_;
  Store& store_;
  Storage& storage_;
  const ClaimBinder& binder_;
  ClassBehaviour default_behaviour_;
  std::map<std::string, ClassBehaviour> behaviours_;
  std::map<Key, Work> work_;
  std::map<std::string, Purge> purges_;
  std::set<Key> claims_to_release_;
  Timer release_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_SNAPSHOT_CONTROLLER_H_
