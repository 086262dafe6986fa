#ifndef SNAPKEEPER_COMMON_GRPC_SERVER_METRICS_H_
#define SNAPKEEPER_COMMON_GRPC_SERVER_METRICS_H_

#include <grpcpp/support/server_interceptor.h>

#include <memory>

#include "common/base/metrics.h"

namespace snapkeeper {

// Counts the calls of a gRPC server and their messages: grpc_server_started_total,
// grpc_server_handled_total, grpc_server_msg_received_total and grpc_server_msg_sent_total, with
// the names and labels of go-grpc-middleware's Prometheus provider. Methods that nobody serves,
// which callers name as they like, are all counted as "unknown". Any thread.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> CountCalls(Metrics& metrics);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_GRPC_SERVER_METRICS_H_
