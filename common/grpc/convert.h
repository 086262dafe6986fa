#ifndef SNAPKEEPER_COMMON_GRPC_CONVERT_H_
#define SNAPKEEPER_COMMON_GRPC_CONVERT_H_

#include <absl/status/statusor.h>
#include <snapkeeper/executor/v1/executor_service.pb.h>

#include <string>

#include "common/model/job.h"

namespace snapkeeper {

// The messages of ExecuteJobs (common/model/job.h) to their gRPC form and back. Pure; any thread.
executor::v1::ExecuteJobsRequest ToProto(const ToExecutor& message);
executor::v1::ExecuteJobsResponse ToProto(const ToScheduler& message);

// InvalidArgument names the field that is missing or makes no sense; Unimplemented: a job of a kind
// that this release does not know.
absl::StatusOr<ToExecutor> FromProto(const executor::v1::ExecuteJobsRequest& message);
absl::StatusOr<ToScheduler> FromProto(const executor::v1::ExecuteJobsResponse& message);

// The event of an attempt that an adapter refuses.
JobEvent RefusedEvent(std::string job_id, int attempt, absl::Status why);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_GRPC_CONVERT_H_
