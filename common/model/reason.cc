#include "common/model/reason.h"

#include <absl/strings/cord.h>
#include <fmt/format.h>

#include <array>
#include <string>
#include <utility>

namespace snapkeeper {
namespace {

constexpr std::array<std::pair<Reason, std::string_view>, 26> kWords = {{
    {Reason::kNone, ""},
    {Reason::kClaimNotFound, "ClaimNotFound"},
    {Reason::kClaimNotBound, "ClaimNotBound"},
    {Reason::kClaimTerminating, "ClaimTerminating"},
    {Reason::kClaimReplaced, "ClaimReplaced"},
    {Reason::kNotCsi, "NotCSI"},
    {Reason::kClassNotFound, "ClassNotFound"},
    {Reason::kNoDefaultClass, "NoDefaultClass"},
    {Reason::kMultipleDefaultClasses, "MultipleDefaultClasses"},
    {Reason::kDriverMismatch, "DriverMismatch"},
    {Reason::kQuotaExceeded, "QuotaExceeded"},
    {Reason::kForbidden, "Forbidden"},
    {Reason::kNamespaceTerminating, "NamespaceTerminating"},
    {Reason::kNameConflict, "NameConflict"},
    {Reason::kDeleted, "Deleted"},
    {Reason::kWrongVolume, "WrongVolume"},
    {Reason::kNotReadyInTime, "NotReadyInTime"},
    {Reason::kDeadlineExceeded, "DeadlineExceeded"},
    {Reason::kOverlap, "Overlap"},
    {Reason::kTooManyOpen, "TooManyOpen"},
    {Reason::kPolicyChanged, "PolicyChanged"},
    {Reason::kBudget, "Budget"},
    {Reason::kThrottled, "Throttled"},
    {Reason::kDriverUnhealthy, "DriverUnhealthy"},
    {Reason::kNoExecutor, "NoExecutor"},
    {Reason::kApiUnavailable, "ApiUnavailable"},
}};

constexpr char kReasonPayload[] = "snapkeeper.io/reason";
constexpr char kRetryAfterPayload[] = "snapkeeper.io/retry-after";

std::string Payload(const absl::Status& status, absl::string_view key) {
  const auto payload = status.GetPayload(key);
  return payload ? std::string(*payload) : std::string();
}

}  // namespace

std::string_view ToString(Reason reason) {
  for (const auto& [value, word] : kWords) {
    if (value == reason) return word;
  }
  return "";
}

std::optional<Reason> ParseReason(std::string_view word) {
  for (const auto& [value, text] : kWords) {
    if (text == word) return value;
  }
  return std::nullopt;
}

absl::Status WithReason(absl::Status status, Reason reason) {
  const std::string_view word = ToString(reason);
  status.SetPayload(kReasonPayload, absl::Cord(absl::string_view(word.data(), word.size())));
  return status;
}

Reason ReasonOf(const absl::Status& status) {
  return ParseReason(Payload(status, kReasonPayload)).value_or(Reason::kNone);
}

Reason FailureReasonOf(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  return reason == Reason::kNone ? Reason::kApiUnavailable : reason;
}

std::string ResultOf(const absl::Status& status) {
  if (status.ok()) return "Ok";
  const std::string_view reason = ToString(ReasonOf(status));
  return reason.empty() ? absl::StatusCodeToString(status.code()) : std::string(reason);
}

absl::Status WithRetryAfter(absl::Status status, absl::Duration delay) {
  status.SetPayload(kRetryAfterPayload, absl::Cord(absl::FormatDuration(delay)));
  return status;
}

absl::Duration RetryAfterOf(const absl::Status& status) {
  absl::Duration delay;
  return absl::ParseDuration(Payload(status, kRetryAfterPayload), &delay) ? delay
                                                                          : absl::ZeroDuration();
}

std::string MessageOf(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

absl::Status NotReadyInTime(absl::Duration ready_timeout, std::string_view cause) {
  return WithReason(absl::DeadlineExceededError(
                        fmt::format("not ready within {}: {}", absl::FormatDuration(ready_timeout),
                                    cause.empty() ? "no error was reported" : cause)),
                    Reason::kNotReadyInTime);
}

bool IsRetryable(const absl::Status& status) {
  switch (ReasonOf(status)) {
    case Reason::kNone:
    case Reason::kThrottled:
    case Reason::kDriverUnhealthy:
    case Reason::kNoExecutor:
    case Reason::kApiUnavailable:
      break;
    default:
      return false;  // a verdict on the job: only the user, or nobody, can change it
  }
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kUnimplemented:
      return true;
    case absl::StatusCode::kFailedPrecondition:
      // A 404 of no object: of a proxy before the API server, as far as anybody can tell.
      return ReasonOf(status) == Reason::kDriverUnhealthy;
    default:
      return false;
  }
}

}  // namespace snapkeeper
