#include "common/grpc/time.h"

#include <algorithm>

namespace snapkeeper {
namespace {

constexpr int64_t kMinSecond = -62'135'596'800;  // 0001-01-01T00:00:00Z
constexpr int64_t kMaxSecond = 253'402'300'799;  // 9999-12-31T23:59:59Z
constexpr int64_t kMaxDuration = 315'576'000'000;
constexpr int32_t kMaxNanos = 999'999'999;

}  // namespace

google::protobuf::Timestamp ToProto(absl::Time time) {
  time = std::clamp(time, absl::FromUnixSeconds(kMinSecond),
                    absl::FromUnixSeconds(kMaxSecond) + absl::Nanoseconds(kMaxNanos));
  google::protobuf::Timestamp out;
  out.set_seconds(absl::ToUnixSeconds(time));
  out.set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(out.seconds()))));
  return out;
}

google::protobuf::Duration ToProto(absl::Duration duration) {
  duration = std::clamp(duration, -absl::Seconds(kMaxDuration), absl::Seconds(kMaxDuration));
  google::protobuf::Duration out;
  absl::Duration rest;
  out.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  out.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  return out;
}

std::optional<absl::Time> FromProto(const google::protobuf::Timestamp& time) {
  if (time.seconds() < kMinSecond || time.seconds() > kMaxSecond || time.nanos() < 0 ||
      time.nanos() > kMaxNanos)
    return std::nullopt;
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

std::optional<absl::Duration> FromProto(const google::protobuf::Duration& duration) {
  const int64_t s = duration.seconds();
  const int32_t n = duration.nanos();
  if (s < -kMaxDuration || s > kMaxDuration || n < -kMaxNanos || n > kMaxNanos ||
      (s < 0 && n > 0) || (s > 0 && n < 0))
    return std::nullopt;
  return absl::Seconds(s) + absl::Nanoseconds(n);
}

}  // namespace snapkeeper
