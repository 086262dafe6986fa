#ifndef SNAPKEEPER_EXECUTOR_RUNNER_H_
#define SNAPKEEPER_EXECUTOR_RUNNER_H_

#include <absl/status/status.h>

#include <cstddef>
#include <functional>

#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/kube/api.h"
#include "common/kube/reflector.h"
#include "common/model/job.h"
#include "common/model/reason.h"
#include "executor/metrics.h"

namespace snapkeeper {

// What every runner works with. Owned by the executor.
struct RunnerContext {
  EventLoop& loop;
  KubeApi& api;
  const Reflector<Snapshot>& snapshots;
  Log& log;
  const ExecutorMetrics& metrics;
  // Told every phase but ACCEPTED, each at most once and in order. With DONE the runner is
  // destroyed from within.
  std::function<void(JobEvent)> tell;
  size_t deletes = 0;  // under way, of all prunes
};

// One attempt of one job: observes, decides and acts until it has told DONE. Never retries.
// Destroying it ends its requests; what the server has already got, the server does. Loop thread
// only.
class Runner {
 public:
  virtual ~Runner() = default;
  virtual void Start() = 0;
  // The scheduler takes the job back: ends with Cancelled if nothing was asked of the API server
  // that cannot be taken back.
  virtual void Cancel() = 0;
  // The process is about to end: lets a request under way finish, and what came of it be read or
  // taken back; asks for nothing new and does not wait, but ends with Unavailable.
  virtual void Drain() = 0;
};

// How Drain() ends a job: another executor takes it.
inline absl::Status ExecutorDraining() {
  return WithReason(absl::UnavailableError("the executor is draining"), Reason::kNoExecutor);
}

}  // namespace snapkeeper

#endif  // SNAPKEEPER_EXECUTOR_RUNNER_H_
