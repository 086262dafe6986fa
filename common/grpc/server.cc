#include "common/grpc/server.h"

#include <fmt/format.h>
#include <grpc/health/v1/health.pb.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <chrono>
#include <utility>
#include <vector>

#include "common/grpc/limits.h"
#include "common/grpc/server_metrics.h"

namespace snapkeeper {

// Answers the calls that nobody serves with Unimplemented. gRPC would do so itself, but does not
// start without any service.
GrpcServer::GrpcServer() : others_(std::make_unique<grpc::CallbackGenericService>()) {}

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(std::string_view address,
                                                              Services services, Metrics& metrics) {
  // The library answers health checks without the descriptor of what it answers; naming it here
  // links it, for reflection clients.
  static_cast<void>(grpc::health::v1::HealthCheckRequest::descriptor());
  grpc::EnableDefaultHealthCheckService(true);

  auto out = std::unique_ptr<GrpcServer>(new GrpcServer);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(std::string(address), grpc::InsecureServerCredentials(), &port);
  for (const auto& [name, service] : services) builder.RegisterService(service.get());
  builder.RegisterCallbackGenericService(out->others_.get());
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(CountCalls(metrics));
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetResourceQuota(grpc::ResourceQuota("snapkeeper").Resize(64 << 20));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT,
                             0);  // or a second process would get half of our connections
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 16);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                             static_cast<int>(absl::ToInt64Milliseconds(kPingEvery)));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             static_cast<int>(absl::ToInt64Milliseconds(kPingTimeout)));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             static_cast<int>(absl::ToInt64Milliseconds(kPingAllowedEvery)));

  out->server_ = builder.BuildAndStart();
  if (!out->server_ || port == 0) {
    return absl::UnavailableError(
        fmt::format("cannot listen on {}: it is in use or no address of this machine", address));
  }
  out->address_ = fmt::format("{}:{}", address.substr(0, address.rfind(':')), port);
  out->services_ = std::move(services);
  out->SetServing(false);
  return out;
}

GrpcServer::~GrpcServer() {
  if (server_) Shutdown(absl::ZeroDuration());
}

void GrpcServer::SetServing(bool serving) {
  auto* health = server_->GetHealthCheckService();
  health->SetServingStatus(serving);  // what is registered so far: ""
  for (const auto& [name, service] : services_) health->SetServingStatus(name, serving);
}

void GrpcServer::Shutdown(absl::Duration grace) {
  server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoNanoseconds(grace));
}

}  // namespace snapkeeper
