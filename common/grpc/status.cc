#include "common/grpc/status.h"

#include <google/rpc/error_details.pb.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "common/grpc/time.h"
#include "common/kube/text.h"
#include "common/model/reason.h"

namespace snapkeeper {
namespace {

constexpr char kDomain[] = "snapkeeper.io";
constexpr size_t kMaxMessage = 1024;

std::string WireText(absl::string_view text) {
  using nlohmann::json;
  const json quoted = std::string(text);
  const auto valid = json::parse(quoted.dump(-1, ' ', false, json::error_handler_t::replace));
  return Truncate(valid.get_ref<const std::string&>(), kMaxMessage);
}

}  // namespace

google::rpc::Status ToProto(const absl::Status& status) {
  google::rpc::Status out;
  out.set_code(static_cast<int>(status.code()));
  out.set_message(WireText(status.message()));
  if (const Reason reason = ReasonOf(status); reason != Reason::kNone) {
    google::rpc::ErrorInfo info;
    info.set_reason(std::string(ToString(reason)));
    info.set_domain(kDomain);
    out.add_details()->PackFrom(info);
  }
  if (const absl::Duration delay = RetryAfterOf(status); delay > absl::ZeroDuration()) {
    google::rpc::RetryInfo info;
    *info.mutable_retry_delay() = ToProto(delay);
    out.add_details()->PackFrom(info);
  }
  return out;
}

grpc::Status ToGrpc(const absl::Status& status) {
  const google::rpc::Status proto = ToProto(status);
  return grpc::Status(static_cast<grpc::StatusCode>(proto.code()), proto.message(),
                      proto.details().empty() ? "" : proto.SerializeAsString());
}

absl::Status FromProto(const google::rpc::Status& status) {
  // absl's numbers are google.rpc.Code's.
  const bool known =
      status.code() >= 0 && status.code() <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  absl::Status out(
      known ? static_cast<absl::StatusCode>(status.code()) : absl::StatusCode::kUnknown,
      status.message());
  for (const auto& detail : status.details()) {
    google::rpc::ErrorInfo error;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&error) && error.domain() == kDomain) {
      if (const auto reason = ParseReason(error.reason()))
        out = WithReason(std::move(out), *reason);
    } else if (detail.UnpackTo(&retry)) {
      const auto delay = FromProto(retry.retry_delay());
      if (delay && *delay > absl::ZeroDuration()) out = WithRetryAfter(std::move(out), *delay);
    }
  }
  return out;
}

absl::Status FromGrpc(const grpc::Status& status) {
  google::rpc::Status proto;
  if (!proto.ParseFromString(status.error_details()) ||
      proto.code() != static_cast<int>(status.error_code()))
    proto.Clear();
  proto.set_code(status.error_code());
  // Of a call that failed only gRPC has looked at it, and that takes any bytes.
  proto.set_message(WireText(status.error_message()));
  return FromProto(proto);
}

}  // namespace snapkeeper
