#ifndef SNAPKEEPER_SCHEDULER_PRUNER_H_
#define SNAPKEEPER_SCHEDULER_PRUNER_H_

#include <absl/container/flat_hash_map.h>
#include <absl/time/time.h>

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/backoff.h"
#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/kube/events.h"
#include "common/model/job.h"
#include "common/model/retention.h"
#include "scheduler/caches.h"
#include "scheduler/dispatcher.h"
#include "scheduler/metrics.h"
#include "scheduler/runs.h"

namespace snapkeeper {

// How many snapshots a prune job may be about: its message is to fit (common/grpc/limits.h).
inline constexpr size_t kMaxPruneMembers = 10'000;

// Leaves of a plan as much as one job may carry, at least one candidate; the next plan finds the
// rest. Where one series alone is too large its oldest candidates stay, and all survivors.
// `series[i].candidates` are newest first, as PlanRetention has them.
void FitOneJob(std::vector<PruneSnapshots::Series>& series, size_t max_members = kMaxPruneMembers);

// Plans retention of each policy's series when something changed or its time has come, and gives
// what is to go to an executor, which plans again on fresh reads. One prune job per policy at a
// time; waits a little while a run is being taken, so that one job serves all of its volumes. Also
// looks after managed snapshots of policies that are gone. Loop thread only.
class Pruner {
 public:
  // `api` tells the server's time alone.
  Pruner(EventLoop& loop, const KubeApi& api, Rng& rng, Log& log, const Caches& caches,
         const Runs& runs, Dispatcher& dispatcher, EventRecorder& events, SchedulerMetrics& metrics,
         absl::Duration quarantine);

  // Nothing is pruned before; the leader's time begins now. Needs all caches.
  void Start();
  void SetPaused(bool paused);
  // Something that retention of this policy depends on has changed.
  void Changed(const std::string& policy_uid);

 private:
  struct Deleting {
    absl::Duration since;  // seen to be, on the Elapsed() clock
    bool told = false;
  };
  struct Entry {
    Timer timer;
    std::optional<absl::Duration> due;                      // on the Elapsed() clock
    std::optional<absl::Duration> waits_since;              // for a run
    absl::Duration not_before = -absl::InfiniteDuration();  // after a failure
    bool running = false;
    std::string job_id, policy;  // of the job that was given last
    int64_t generation = 0;      // of its policy
    int failures = 0;
    bool retained_told = false;
    std::map<std::string, Deleting> deleting;  // by UID
    Timer hanging;
  };
  void Arm(const std::string& policy_uid, absl::Duration delay);
  void Evaluate(const std::string& policy_uid);
  // Tells of snapshots that are being deleted and do not go, once.
  void TellHanging(const std::string& policy_uid, Entry& entry, const PolicyState* state,
                   const std::vector<Caches::SnapshotPtr>& snapshots);
  // Plans all series of the policy in one namespace; the job where there are candidates. `retained`
  // becomes true where a content's deletionPolicy alone keeps one.
  std::optional<PruneSnapshots> Plan(const std::string& policy_uid, const PolicyState* state,
                                     const std::string& ns,
                                     const std::vector<Caches::SnapshotPtr>& snapshots,
                                     absl::Time& next_change, bool& retained) const;
  PruneMember KnownOf(const Snapshot& snapshot) const;

  EventLoop& loop_;
  const KubeApi& api_;
  Rng& rng_;
  Log& log_;
  const Caches& caches_;
  const Runs& runs_;
  Dispatcher& dispatcher_;
  EventRecorder& events_;
  SchedulerMetrics& metrics_;
  const absl::Duration quarantine_;
  bool started_ = false, paused_ = false;
  absl::Duration leader_since_;                                       // on the Elapsed() clock
  absl::flat_hash_map<std::string, std::unique_ptr<Entry>> entries_;  // by policy UID
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_PRUNER_H_
