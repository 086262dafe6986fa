#ifndef SNAPKEEPER_SIMULATOR_CLAIM_BINDER_H_
#define SNAPKEEPER_SIMULATOR_CLAIM_BINDER_H_

#include <absl/status/statusor.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/event_loop.h"
#include "simulator/storage.h"
#include "simulator/store.h"

namespace snapkeeper {

// The volume binder and the provisioner: PVCs get their PV, empty, cloned or restored; deleted PVCs
// lose it. A PVC that cannot be bound stays Pending and is looked at again when a PV or a
// VolumeSnapshot changes: kubernetes/pkg/controller/volume/persistentvolume, external-provisioner
// v6 pkg/controller, without their Events.
class ClaimBinder {
 public:
  ClaimBinder(EventLoop& loop, Store& store, Storage& storage,
              std::map<std::string, std::string> storage_classes);

  // A PVC that is still Pending in `ns` is to be made from the snapshot.
  bool IsAwaited(const std::string& ns, const std::string& snapshot) const;

 private:
  using Key = std::pair<std::string, std::string>;  // namespace, name

  void OnWrite(const StoreWrite& write);
  void Sync();
  void Bind(const Claim& claim);
  void BindExisting(const Claim& claim);
  // What a new volume of `driver` holds; nullopt: the claim must wait.
  std::optional<int64_t> InitialData(const Claim& claim, const std::string& driver,
                                     int64_t bytes) const;
  void MarkBound(const Claim& claim, const std::string& volume);
  void Release(const std::string& volume);

  EventLoop& loop_;
  Store& store_;
  Storage& storage_;
  const std::map<std::string, std::string> storage_classes_;  // to the driver
  std::set<Key> pending_;
  std::vector<std::string> released_;  // PVs
  Timer sync_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_CLAIM_BINDER_H_
