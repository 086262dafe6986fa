#ifndef SNAPKEEPER_COMMON_MODEL_REASON_H_
#define SNAPKEEPER_COMMON_MODEL_REASON_H_

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <optional>
#include <string>
#include <string_view>

namespace snapkeeper {

// Why a snapshot was not taken or is not good. One closed set: the same word in status, event,
// metric and log.
enum class Reason {
  kNone,  // succeeded
  kClaimNotFound,
  kClaimNotBound,
  kClaimTerminating,
  kClaimReplaced,
  kNotCsi,
  kClassNotFound,
  kNoDefaultClass,
  kMultipleDefaultClasses,
  kDriverMismatch,
  kQuotaExceeded,
  kForbidden,
  kNamespaceTerminating,
  kNameConflict,
  kDeleted,
  kWrongVolume,
  kNotReadyInTime,
  kDeadlineExceeded,
  kOverlap,
  kTooManyOpen,
  kPolicyChanged,
  kBudget,
  kThrottled,
  kDriverUnhealthy,
  kNoExecutor,
  kApiUnavailable,
};

// "ClaimNotFound", ...; "" for kNone.
std::string_view ToString(Reason reason);
std::optional<Reason> ParseReason(std::string_view word);

// A status that carries its Reason (and a server's Retry-After) through every layer, gRPC included.
absl::Status WithReason(absl::Status status, Reason reason);
// kNone where none was attached.
Reason ReasonOf(const absl::Status& status);
// Of a failure that is to be told: ApiUnavailable where none was attached.
Reason FailureReasonOf(const absl::Status& status);
absl::Status WithRetryAfter(absl::Status status, absl::Duration delay);
// Zero where none was attached.
absl::Duration RetryAfterOf(const absl::Status& status);

// As a metric's label "result", a closed set: "Ok", the Reason, or without one the code.
std::string ResultOf(const absl::Status& status);

// Its message: absl::string_view is a type of its own where absl was built for C++14, as Debian's
// is.
std::string MessageOf(const absl::Status& status);

// How an attempt ends whose snapshot is older than `ready_timeout`: `cause` is what was last heard
// of it, "" for nothing.
absl::Status NotReadyInTime(absl::Duration ready_timeout, std::string_view cause);

// Whether the same attempt may succeed later, or elsewhere: Unavailable, ResourceExhausted,
// Aborted, Unauthenticated (tokens rotate), Internal, Unknown, DeadlineExceeded, Unimplemented (an
// older executor), and FailedPrecondition with DriverUnhealthy (a 404 of no object); never when a
// Reason says that only the user can mend it.
bool IsRetryable(const absl::Status& status);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_MODEL_REASON_H_
