#include "common/model/reason.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using absl::StatusCode;

TEST(ReasonTest, EveryReasonHasAWordThatParsesBack) {
  for (int i = static_cast<int>(Reason::kNone) + 1; i <= static_cast<int>(Reason::kApiUnavailable);
       ++i) {
    const auto reason = static_cast<Reason>(i);
    EXPECT_FALSE(ToString(reason).empty()) << i;
    EXPECT_EQ(ParseReason(ToString(reason)), reason) << i;
  }
  EXPECT_EQ(ToString(Reason::kNotCsi), "NotCSI");
  EXPECT_EQ(ToString(Reason::kNone), "");
  EXPECT_EQ(ParseReason("Nonsense"), std::nullopt);
}

TEST(ReasonTest, TravelsWithTheStatusAndKeepsItsCodeAndMessage) {
  const absl::Status status =
      WithRetryAfter(WithReason(absl::NotFoundError("no class \"fast\""), Reason::kClassNotFound),
                     absl::Seconds(7));
  EXPECT_THAT(status, StatusIs(StatusCode::kNotFound, "no class \"fast\""));
  EXPECT_EQ(ReasonOf(status), Reason::kClassNotFound);
  EXPECT_EQ(RetryAfterOf(status), absl::Seconds(7));
}

TEST(ReasonTest, IsNoneAndZeroWhereNothingWasAttached) {
  EXPECT_EQ(ReasonOf(absl::OkStatus()), Reason::kNone);
  EXPECT_EQ(ReasonOf(absl::AbortedError("x")), Reason::kNone);
  EXPECT_EQ(RetryAfterOf(absl::AbortedError("x")), absl::ZeroDuration());
}

TEST(ReasonTest, RetryGoesByCodeUnlessTheReasonIsAVerdict) {
  const struct {
    StatusCode code;
    Reason reason;
    bool retryable;
  } cases[] = {
      {StatusCode::kOk, Reason::kNone, false},
      {StatusCode::kUnavailable, Reason::kNone, true},
      {StatusCode::kUnavailable, Reason::kApiUnavailable, true},
      {StatusCode::kUnavailable, Reason::kNoExecutor, true},
      {StatusCode::kUnavailable, Reason::kDriverUnhealthy, true},
      {StatusCode::kResourceExhausted, Reason::kNone, true},
      {StatusCode::kResourceExhausted, Reason::kThrottled, true},
      {StatusCode::kAborted, Reason::kNone, true},
      {StatusCode::kUnauthenticated, Reason::kNone, true},
      {StatusCode::kInternal, Reason::kNone, true},
      {StatusCode::kUnknown, Reason::kNone, true},
      {StatusCode::kDeadlineExceeded, Reason::kNone, true},
      {StatusCode::kCancelled, Reason::kNone, false},
      {StatusCode::kInvalidArgument, Reason::kNone, false},
      {StatusCode::kNotFound, Reason::kNone, false},
      {StatusCode::kAlreadyExists, Reason::kNone, false},
      {StatusCode::kPermissionDenied, Reason::kNone, false},
      {StatusCode::kFailedPrecondition, Reason::kNone, false},
      {StatusCode::kFailedPrecondition, Reason::kThrottled, false},
      {StatusCode::kFailedPrecondition, Reason::kDriverUnhealthy, true},
      {StatusCode::kOutOfRange, Reason::kNone, false},
      {StatusCode::kUnimplemented, Reason::kNone, true},
      {StatusCode::kResourceExhausted, Reason::kQuotaExceeded, false},
      {StatusCode::kUnavailable, Reason::kClaimNotBound, false},
      {StatusCode::kUnavailable, Reason::kForbidden, false},
      {StatusCode::kDeadlineExceeded, Reason::kNotReadyInTime, false},
      {StatusCode::kAborted, Reason::kNameConflict, false},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(IsRetryable(WithReason(absl::Status(c.code, "x"), c.reason)), c.retryable)
        << absl::StatusCodeToString(c.code) << " " << ToString(c.reason);
  }
}

}  // namespace
}  // namespace snapkeeper
