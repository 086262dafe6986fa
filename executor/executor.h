#ifndef SNAPKEEPER_EXECUTOR_EXECUTOR_H_
#define SNAPKEEPER_EXECUTOR_EXECUTOR_H_

#include <absl/container/flat_hash_map.h>
#include <absl/functional/any_invocable.h>
#include <absl/status/status.h>

#include <cstdint>
#include <memory>
#include <string>

#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/kube/api.h"
#include "common/kube/reflector.h"
#include "common/model/job.h"

namespace snapkeeper {

struct ExecutorConfig {
  std::string instance;      // unique per process
  int slots = 64;            // --capacity: jobs before CREATED
  int parked_limit = 20000;  // jobs that await readiness
  absl::Duration heartbeat = kHeartbeatEvery;
};

// The executor without its transport: sessions with schedulers, and the jobs they sent. Tries each
// attempt once and tells every phase; keeps nothing that is worth saving. The session of the
// highest epoch owns the executor: opening it closes those of lower epochs, and their jobs with
// them; a hello of a lower epoch is refused with FailedPrecondition. Loop thread only.
class Executor {
 public:
  // `snapshots` is the LIST+WATCH of the managed VolumeSnapshots, started by whoever owns it:
  // SnapshotChanged() must be called for its changes. All references must outlive the executor;
  // sessions need not end before it.
  Executor(EventLoop& loop, KubeApi& api, const Reflector<Snapshot>& snapshots, Log& log,
           Metrics& metrics, ExecutorConfig config);
  ~Executor();

  // One stream from a scheduler. Destroying it is how its transport says that the stream is gone:
  // jobs that were not POSTed yet end; others too, for the scheduler gives them to whoever is
  // there, and the name says what was done.
  class Session {
   public:
    virtual ~Session() = default;
    virtual void OnMessage(ToExecutor message) = 0;
  };
  // `send` and `close` are called on the loop, possibly from within OnMessage, never from within
  // Open; after `close` nothing more is sent. They must not call the executor nor destroy a session
  // before they return. A session without hello for kDeadBeats heartbeats is closed.
  std::unique_ptr<Session> Open(absl::AnyInvocable<void(ToScheduler)> send,
                                absl::AnyInvocable<void(absl::Status)> close);

  // A snapshot in the reflector has changed or vanished.
  void SnapshotChanged(const std::shared_ptr<const Snapshot>& before,
                       const std::shared_ptr<const Snapshot>& after);

  // SIGTERM: tells every scheduler Draining, takes no new jobs, lets requests under way finish and
  // hands back every job that they do not end (Unavailable), then closes the streams and calls
  // `drained`. Never from within.
  void Drain(absl::AnyInvocable<void()> drained);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_EXECUTOR_EXECUTOR_H_
