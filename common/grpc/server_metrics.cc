#include "common/grpc/server_metrics.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <utility>

namespace snapkeeper {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::ServerRpcInfo;

// grpc-go codes.Code.String(), by number.
constexpr std::array<const char*, 17> kCodes = {
    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"};

struct Counters {
  explicit Counters(Metrics& metrics)
      : started(metrics.AddCounter("grpc_server_started_total", "Calls that began.")),
        handled(metrics.AddCounter("grpc_server_handled_total", "Calls that ended, by code.")),
        received(metrics.AddCounter("grpc_server_msg_received_total", "Messages of callers.")),
        sent(metrics.AddCounter("grpc_server_msg_sent_total", "Messages to callers.")) {}
  const Counter started, handled, received, sent;
};

const char* TypeOf(const ServerRpcInfo& info) {
  switch (info.type()) {
    case ServerRpcInfo::Type::UNARY:
      return "unary";
    case ServerRpcInfo::Type::CLIENT_STREAMING:
      return "client_stream";
    case ServerRpcInfo::Type::SERVER_STREAMING:
      return "server_stream";
    case ServerRpcInfo::Type::BIDI_STREAMING:
      break;
  }
  return "bidi_stream";
}

MetricLabels LabelsOf(const ServerRpcInfo& info) {
  std::string name = info.method();  // "/PACKAGE.SERVICE/METHOD"
  name.erase(0, 1);
  const size_t slash = std::min(name.find('/'), name.size());
  std::string service = name.substr(0, slash),
              method = name.substr(std::min(slash + 1, name.size()));
  const auto* known =
      google::protobuf::DescriptorPool::generated_pool()->FindMethodByName(service + "." + method);
  if (known == nullptr) service = method = "unknown";
  return {{"grpc_type", TypeOf(info)}, {"grpc_service", service}, {"grpc_method", method}};
}

class CallCounter : public grpc::experimental::Interceptor {
 public:
  CallCounter(const Counters& counters, MetricLabels labels)
      : counters_(counters), labels_(std::move(labels)) {
    counters_.started.Add(labels_);
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_MESSAGE) &&
        methods->GetRecvMessage() != nullptr) {
      counters_.received.Add(labels_);
    }
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_MESSAGE))
      counters_.sent.Add(labels_);
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      MetricLabels labels = labels_;
      const auto code = static_cast<size_t>(methods->GetSendStatus().error_code());
      labels["grpc_code"] = kCodes.at(std::min(code, kCodes.size() - 1));
      counters_.handled.Add(labels);
    }
    methods->Proceed();
  }

 private:
  const Counters& counters_;
  const MetricLabels labels_;
};

class CallCounters : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit CallCounters(Metrics& metrics) : counters_(metrics) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    return new CallCounter(counters_, LabelsOf(*info));  // gRPC's, until the call has ended
  }

 private:
  const Counters counters_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> CountCalls(
    Metrics& metrics) {
  return std::make_unique<CallCounters>(metrics);
}

}  // namespace snapkeeper
