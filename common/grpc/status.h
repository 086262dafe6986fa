#ifndef SNAPKEEPER_COMMON_GRPC_STATUS_H_
#define SNAPKEEPER_COMMON_GRPC_STATUS_H_

#include <absl/status/status.h>
#include <google/rpc/status.pb.h>
#include <grpcpp/support/status.h>

namespace snapkeeper {

// A status on the wire: the code, the message, ReasonOf as google.rpc.ErrorInfo of the domain
// "snapkeeper.io" and RetryAfterOf as google.rpc.RetryInfo. Other payloads stay behind. Messages
// quote drivers and servers: they are made valid UTF-8 (a protobuf string that is not ends the
// stream) and cut at 1 KiB (trailing metadata ends at 8 KiB).
google::rpc::Status ToProto(const absl::Status& status);
grpc::Status ToGrpc(const absl::Status& status);

// Back. A code that is none becomes Unknown; reasons that we do not know (of a newer peer) and
// details of other domains are ignored. A call's message, which may be any bytes, is mended and cut
// likewise.
absl::Status FromProto(const google::rpc::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_GRPC_STATUS_H_
