#ifndef SNAPKEEPER_SCHEDULER_GRPC_GRPC_EXECUTOR_CLIENT_H_
#define SNAPKEEPER_SCHEDULER_GRPC_GRPC_EXECUTOR_CLIENT_H_

#include <memory>
#include <string>

#include "common/base/event_loop.h"
#include "scheduler/executor_client.h"

namespace snapkeeper {

// Reaches the executor at HOST:PORT in plaintext. Connects when a stream is opened and nothing is
// connected; never waits for the executor to come up: refused, or not answered within 2 s, closes
// the stream with Unavailable. gRPC tries nothing twice, and leaves at most 1 s between connecting,
// so that the caller's own reconnecting decides. Every close names the address; a stream that the
// executor ended without an error closes with Unavailable.
//
// A job of more than 4 MiB is not sent: its event is Done with InvalidArgument.
//
// Loop thread only. The destructor, after that of its streams, waits for gRPC to let go of them
// (milliseconds).
std::unique_ptr<ExecutorClient> MakeGrpcExecutorClient(EventLoop& loop, std::string address);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_GRPC_GRPC_EXECUTOR_CLIENT_H_
