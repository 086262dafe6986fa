#ifndef SNAPKEEPER_SIMULATOR_VOLUMES_H_
#define SNAPKEEPER_SIMULATOR_VOLUMES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "common/base/backoff.h"
#include "common/base/event_loop.h"
#include "simulator/behaviour.h"
#include "simulator/claim_binder.h"
#include "simulator/snapshot_controller.h"
#include "simulator/storage.h"
#include "simulator/store.h"

namespace snapkeeper {

// The storage behind the API: drivers, volumes, snapshots, and the controllers that make them of
// objects. Loop thread only.
class Volumes {
 public:
  // `storage_classes` maps StorageClass names to the driver that provisions for them; these drivers
  // run, others do not. `rng` spreads delays.
  Volumes(EventLoop& loop, Rng& rng, Store& store,
          std::map<std::string, std::string> storage_classes);

  // For classes without a behaviour of their own.
  void SetDefaultBehaviour(ClassBehaviour behaviour) {
    controller_.SetDefaultBehaviour(std::move(behaviour));
  }
  void SetBehaviour(const std::string& snapshot_class, ClassBehaviour behaviour) {
    controller_.SetBehaviour(snapshot_class, std::move(behaviour));
  }
  const ClassBehaviour& BehaviourOf(const std::string& snapshot_class) const {
    return controller_.BehaviourOf(snapshot_class);
  }

  // The content of a claim's volume as a number: 1 at first, one more with each write, the source's
  // where it was restored. nullopt where none is bound.
  std::optional<int64_t> DataOf(const std::string& ns, const std::string& claim) const;
  void WriteData(const std::string& ns, const std::string& claim);
  // Of the physical snapshot behind a VolumeSnapshot; nullopt before it is cut.
  std::optional<int64_t> SnapshotDataOf(const std::string& ns, const std::string& snapshot) const;

  const Storage& storage() const { return storage_; }

 private:
  std::string HandleOf(const std::string& ns, const std::string& claim) const;

  Store& store_;
  Storage storage_;
  ClaimBinder binder_;
  SnapshotController controller_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_VOLUMES_H_
