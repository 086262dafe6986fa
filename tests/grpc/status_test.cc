#include "common/grpc/status.h"

#include <gmock/gmock.h>
#include <google/rpc/error_details.pb.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/grpc/time.h"
#include "common/model/reason.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

std::vector<absl::Status> Statuses() {
  std::vector<absl::Status> all = {absl::OkStatus()};
  for (int code = 1; code <= static_cast<int>(absl::StatusCode::kUnauthenticated); ++code) {
    all.emplace_back(static_cast<absl::StatusCode>(code), "claim default/data-0: because; do this");
  }
  for (int reason = 1; reason <= static_cast<int>(Reason::kApiUnavailable); ++reason) {
    all.push_back(WithReason(absl::FailedPreconditionError("x"), static_cast<Reason>(reason)));
  }
  all.push_back(
      WithRetryAfter(absl::ResourceExhaustedError("slow down"), absl::Milliseconds(1500)));
  all.push_back(
      WithRetryAfter(WithReason(absl::UnavailableError("x"), Reason::kThrottled), absl::Hours(1)));
  all.push_back(absl::UnavailableError(""));
  all.push_back(absl::UnavailableError("größer als 100 €"));
  return all;
}

TEST(StatusTest, EveryCodeReasonAndRetryAfterSurvivesBothForms) {
  for (const absl::Status& status : Statuses()) {
    EXPECT_EQ(FromProto(ToProto(status)), status);
    EXPECT_EQ(FromGrpc(ToGrpc(status)), status);
  }
}

TEST(StatusTest, TheWireCarriesTheStandardDetails) {
  const auto proto = ToProto(WithRetryAfter(
      WithReason(absl::PermissionDeniedError("no"), Reason::kQuotaExceeded), absl::Seconds(3)));
  EXPECT_EQ(proto.code(), 7);
  EXPECT_EQ(proto.message(), "no");
  ASSERT_EQ(proto.details_size(), 2);
  EXPECT_EQ(proto.details(0).type_url(), "type.googleapis.com/google.rpc.ErrorInfo");
  google::rpc::ErrorInfo error;
  ASSERT_TRUE(proto.details(0).UnpackTo(&error));
  EXPECT_EQ(error.reason(), "QuotaExceeded");
  EXPECT_EQ(error.domain(), "snapkeeper.io");
  EXPECT_EQ(proto.details(1).type_url(), "type.googleapis.com/google.rpc.RetryInfo");
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(proto.details(1).UnpackTo(&retry));
  EXPECT_EQ(retry.retry_delay().seconds(), 3);
}

TEST(StatusTest, AMessageThatIsNotUtf8IsMendedForProtobufRefusesIt) {
  const auto proto = ToProto(absl::UnknownError("driver says \xff\xc3"));
  EXPECT_EQ(proto.message(), "driver says \uFFFD\uFFFD");
  google::rpc::Status parsed;
  EXPECT_TRUE(parsed.ParseFromString(proto.SerializeAsString()));
}

TEST(StatusTest, AMessageThatIsNotUtf8IsMendedOnArrivalForGrpcDoesNot) {
  EXPECT_EQ(FromGrpc(grpc::Status(grpc::StatusCode::UNAVAILABLE, "peer says \xff\xc3")),
            absl::UnavailableError("peer says \uFFFD\uFFFD"));
}

TEST(StatusTest, ALongMessageIsCutWhereACharacterBegins) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "€";
  const absl::Status back = FromGrpc(ToGrpc(absl::UnknownError(text)));
  EXPECT_LE(back.message().size(), 1024u);
  EXPECT_GE(back.message().size(), 1020u);
  EXPECT_EQ(ToProto(back).message(), std::string(back.message())) << "valid UTF-8 stays as it is";
}

TEST(StatusTest, WhatANewerOrForeignPeerSendsIsTakenWithoutItsDetails) {
  google::rpc::Status proto;
  proto.set_code(99);
  proto.set_message("from the future");
  EXPECT_EQ(FromProto(proto), absl::UnknownError("from the future"));
  proto.set_code(-1);
  EXPECT_EQ(FromProto(proto), absl::UnknownError("from the future"));

  proto.set_code(9);
  google::rpc::ErrorInfo error;
  error.set_reason("NotInventedYet");
  error.set_domain("snapkeeper.io");
  proto.add_details()->PackFrom(error);
  error.set_reason("NameConflict");
  error.set_domain("example.com");
  proto.add_details()->PackFrom(error);
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(-5);
  proto.add_details()->PackFrom(retry);
  proto.add_details()->set_type_url("type.googleapis.com/google.rpc.ErrorInfo");
  proto.mutable_details(3)->set_value("\x0a\xff garbage");
  EXPECT_EQ(FromProto(proto), absl::FailedPreconditionError("from the future"));
}

TEST(StatusTest, DetailsThatContradictTheCallsCodeAreIgnored) {
  const auto details =
      ToProto(WithReason(absl::UnavailableError("x"), Reason::kThrottled)).SerializeAsString();
  EXPECT_EQ(ReasonOf(FromGrpc(grpc::Status(grpc::StatusCode::UNAVAILABLE, "y", details))),
            Reason::kThrottled);
  EXPECT_EQ(FromGrpc(grpc::Status(grpc::StatusCode::INTERNAL, "y", details)),
            absl::InternalError("y"));
  EXPECT_EQ(FromGrpc(grpc::Status(grpc::StatusCode::INTERNAL, "y", "not a proto \xff")),
            absl::InternalError("y"));
}

TEST(TimeTest, TimesKeepTheirNanosecondsAndDurationsTheirSign) {
  for (const absl::Time time :
       {absl::UnixEpoch(), absl::FromUnixNanos(1'763'823'600'123'456'789), absl::FromUnixNanos(-1),
        absl::FromUnixSeconds(-62'135'596'800),
        absl::FromUnixSeconds(253'402'300'799) + absl::Nanoseconds(999'999'999)}) {
    EXPECT_EQ(FromProto(ToProto(time)), time);
  }
  for (const absl::Duration d :
       {absl::ZeroDuration(), absl::Milliseconds(1500), absl::Milliseconds(-1500),
        absl::Nanoseconds(-1), absl::Seconds(315'576'000'000), -absl::Seconds(315'576'000'000)}) {
    EXPECT_EQ(FromProto(ToProto(d)), d);
  }
}

TEST(TimeTest, WhatTheMessagesCannotSayBecomesTheNearestThatTheyCan) {
  EXPECT_EQ(ToProto(absl::InfinitePast()).seconds(), -62'135'596'800);
  EXPECT_EQ(ToProto(absl::InfiniteFuture()).seconds(), 253'402'300'799);
  EXPECT_EQ(ToProto(absl::InfiniteFuture()).nanos(), 999'999'999);
  EXPECT_EQ(ToProto(absl::InfiniteDuration()).seconds(), 315'576'000'000);
  EXPECT_EQ(ToProto(-absl::InfiniteDuration()).seconds(), -315'576'000'000);
  EXPECT_EQ(ToProto(absl::FromUnixSeconds(7) - absl::Nanoseconds(1) / 4).seconds(), 6)
      << "never later than it was";
}

TEST(TimeTest, MessagesOutsideTheirOwnBoundsAreRefused) {
  struct Case {
    int64_t seconds;
    int32_t nanos;
    bool time, duration;
  };
  for (const Case& c : std::vector<Case>{
           {0, 0, true, true},
           {0, 999'999'999, true, true},
           {0, 1'000'000'000, false, false},
           {0, -1, false, true},
           {1, -1, false, false},
           {-1, 1, true, false},
           {-62'135'596'800, 0, true, true},
           {-62'135'596'801, 0, false, true},
           {253'402'300'799, 0, true, true},
           {253'402'300'800, 0, false, true},
           {315'576'000'001, 0, false, false},
           {-315'576'000'001, 0, false, false},
           {0, -1'000'000'000, false, false},
       }) {
    SCOPED_TRACE(testing::Message() << c.seconds << "s " << c.nanos << "ns");
    google::protobuf::Timestamp time;
    time.set_seconds(c.seconds);
    time.set_nanos(c.nanos);
    EXPECT_EQ(FromProto(time).has_value(), c.time);
    google::protobuf::Duration duration;
    duration.set_seconds(c.seconds);
    duration.set_nanos(c.nanos);
    EXPECT_EQ(FromProto(duration).has_value(), c.duration);
  }
}

}  // namespace
}  // namespace snapkeeper
