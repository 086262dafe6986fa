#ifndef SNAPKEEPER_SCHEDULER_SCHEDULER_H_
#define SNAPKEEPER_SCHEDULER_SCHEDULER_H_

#include <absl/functional/any_invocable.h>
#include <absl/status/status.h>
#include <absl/time/time.h>

#include <string>
#include <vector>

#include "common/base/backoff.h"
#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/kube/api.h"
#include "common/kube/events.h"
#include "scheduler/caches.h"
#include "scheduler/dispatcher.h"
#include "scheduler/epoch.h"
#include "scheduler/executor_client.h"
#include "scheduler/executor_pool.h"
#include "scheduler/metrics.h"
#include "scheduler/profiles.h"
#include "scheduler/pruner.h"
#include "scheduler/runs.h"
#include "scheduler/status_writer.h"

namespace snapkeeper {

struct SchedulerConfig {
  std::string id;  // unique per process: the Lease's holderIdentity
  std::string lease_namespace = "default";
  std::vector<std::string> watch_namespaces;  // empty: all
  DriverProfiles profiles;
  absl::Duration prune_quarantine = absl::Minutes(5);
  absl::Duration heartbeat = kHeartbeatEvery;
};

// The scheduler without its process: everything between the Kubernetes API and the executors.
// Simulation and main() make one each; destroying it is the end of the process. Loop thread only.
class Scheduler {
 public:
  Scheduler(EventLoop& loop, KubeApi& api, std::vector<ExecutorClient*> executors, Rng& rng,
            Log& log, Metrics& metrics, SchedulerConfig config);

  // Reads the cluster, takes the epoch, schedules. `deposed` runs at most once, when another
  // scheduler has taken a higher epoch: the process must end then (exit 3), and does nothing any
  // more meanwhile.
  void Start(absl::AnyInvocable<void(std::string why)> deposed);

  // SIGTERM: fires and dispatches nothing more, writes the record, then calls `drained` (within 5
  // s). What is under way at executors is taken up by the next scheduler.
  void Drain(absl::AnyInvocable<void()> drained);

  // For /readyz: caches and epoch; the clock is whoever serves /readyz's to look at.
  absl::Status Ready() const;

 private:
  void OnSynced();
  void OnEpoch(int64_t epoch);
  void OnDeposed(std::string why);
  bool CheckClock();
  void SetPaused(bool paused);
  // Nothing new is begun. What is under way ends, and is recorded, as long as we are there.
  void StopWork();
  void AwaitWrites(absl::Duration until);

  EventLoop& loop_;
  KubeApi& api_;
  Log& log_;
  const SchedulerConfig config_;
  SchedulerMetrics metrics_;
  Caches caches_;
  Epoch epoch_;
  ExecutorPool pool_;
  Dispatcher dispatcher_;
  EventRecorder events_;
  Runs runs_;
  StatusWriter writer_;
  Pruner pruner_;

  absl::AnyInvocable<void(std::string)> deposed_;
  absl::AnyInvocable<void()> drained_;
  int64_t current_epoch_ = 0;
  absl::Duration taking_since_;
  bool taking_ = false, pruning_ = false, paused_ = false, stopping_ = false, was_deposed_ = false;
  Timer clock_timer_, drain_timer_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_SCHEDULER_H_
