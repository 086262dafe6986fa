#ifndef SNAPKEEPER_SCHEDULER_EXECUTOR_CLIENT_H_
#define SNAPKEEPER_SCHEDULER_EXECUTOR_CLIENT_H_

#include <absl/functional/any_invocable.h>
#include <absl/status/status.h>

#include <memory>
#include <string>

#include "common/model/job.h"

namespace snapkeeper {

// One ExecuteJobs stream. Destroying it ends the stream and its callbacks. Loop thread only.
class ExecutorStream {
 public:
  virtual ~ExecutorStream() = default;
  // Messages arrive in order or not at all.
  virtual void Send(ToExecutor message) = 0;
};

// How to reach one executor: gRPC in the daemon (scheduler/grpc), a function call with faults in
// simulation.
class ExecutorClient {
 public:
  virtual ~ExecutorClient() = default;
  virtual const std::string& address() const = 0;
  // Begins a stream; nothing is known of it until the first message. `closed` runs once, at its
  // end, with the reason (FailedPrecondition: the executor belongs to a higher epoch). Callbacks on
  // the loop, never from within Open or Send.
  virtual std::unique_ptr<ExecutorStream> Open(absl::AnyInvocable<void(ToScheduler)> message,
                                               absl::AnyInvocable<void(absl::Status)> closed) = 0;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_EXECUTOR_CLIENT_H_
