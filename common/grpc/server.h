#ifndef SNAPKEEPER_COMMON_GRPC_SERVER_H_
#define SNAPKEEPER_COMMON_GRPC_SERVER_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "common/base/metrics.h"

namespace grpc {
class CallbackGenericService;
class Server;
class Service;
}  // namespace grpc

namespace snapkeeper {

// A gRPC server in plaintext: our services and grpc.health.v1.Health, on one address, with bounds
// on messages, streams and memory.
class GrpcServer {
 public:
  using Services = std::map<std::string, std::shared_ptr<grpc::Service>>;  // by full name

  // `address` is HOST:PORT; port 0 takes a free one. Begins as not serving. Unavailable if the
  // address cannot be bound. Calls are counted (server_metrics.h); `metrics` outlives the server.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(std::string_view address,
                                                           Services services, Metrics& metrics);
  // Shuts down with no grace, then lets go of the services.
  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  // HOST:PORT as bound.
  const std::string& address() const { return address_; }

  // What the health service says, of each service and of "". Any thread.
  void SetServing(bool serving);

  // Takes no new calls, gives open ones `grace` to end, then cancels them. Blocks until all are
  // gone; services may need no loop for that.
  void Shutdown(absl::Duration grace);

 private:
  GrpcServer();

  const std::unique_ptr<grpc::CallbackGenericService> others_;
  std::string address_;
  Services services_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_GRPC_SERVER_H_
