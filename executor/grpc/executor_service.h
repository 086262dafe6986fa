#ifndef SNAPKEEPER_EXECUTOR_GRPC_EXECUTOR_SERVICE_H_
#define SNAPKEEPER_EXECUTOR_GRPC_EXECUTOR_SERVICE_H_

#include <absl/functional/any_invocable.h>
#include <absl/status/status.h>

#include <functional>
#include <memory>

#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "executor/executor.h"

namespace grpc {
class Service;
}

namespace snapkeeper {

inline constexpr char kExecutorServiceName[] = "snapkeeper.executor.v1.ExecutorService";

// Executor::Open, or a test's.
using OpenSession = std::function<std::unique_ptr<Executor::Session>(
    absl::AnyInvocable<void(ToScheduler)> send, absl::AnyInvocable<void(absl::Status)> close)>;

// Serves ExecuteJobs: each stream is a session, opened, used and destroyed on the loop. A job that
// cannot be read is answered with its error (Unimplemented: of an unknown kind); any other message
// that cannot be read ends the stream with InvalidArgument; bytes that are no message end it with
// OK, once one was read. A scheduler that does not read what it
// is sent is cut off.
//
// The sessions end with it. Destroy it, with its server, on the loop's thread (the loop need not
// run any more) and before what `open` uses.
std::shared_ptr<grpc::Service> MakeExecutorService(EventLoop& loop, Log& log, OpenSession open);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_EXECUTOR_GRPC_EXECUTOR_SERVICE_H_
