#ifndef SNAPKEEPER_COMMON_GRPC_TIME_H_
#define SNAPKEEPER_COMMON_GRPC_TIME_H_

#include <absl/time/time.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include <optional>

namespace snapkeeper {

// To the nanosecond, downwards. What the message cannot say (infinities) becomes the nearest that
// it can: the years 1 to 9999, and 10,000 years either way.
google::protobuf::Timestamp ToProto(absl::Time time);
google::protobuf::Duration ToProto(absl::Duration duration);

// nullopt where the message is outside its own bounds (google/protobuf/timestamp.proto,
// duration.proto).
std::optional<absl::Time> FromProto(const google::protobuf::Timestamp& time);
std::optional<absl::Duration> FromProto(const google::protobuf::Duration& duration);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_GRPC_TIME_H_
