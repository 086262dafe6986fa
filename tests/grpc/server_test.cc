#include "common/grpc/server.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <grpc/health/v1/health.grpc.pb.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <snapkeeper/executor/v1/executor_service.grpc.pb.h>

#include <string>
#include <thread>

#include "common/base/address.h"
#include "executor/grpc/executor_service.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using testing::HasSubstr;

// What the health service says of `name`, or the error.
std::string Check(const GrpcServer& server, const std::string& name) {
  auto stub =
      Health::NewStub(grpc::CreateChannel(server.address(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  HealthCheckRequest request;
  request.set_service(name);
  HealthCheckResponse response;
  const grpc::Status status = stub->Check(&context, request, &response);
  return status.ok() ? HealthCheckResponse::ServingStatus_Name(response.status())
                     : absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code()));
}

TEST(GrpcServerTest, TheServicesNameIsTheProtos) {
  EXPECT_STREQ(kExecutorServiceName, executor::v1::ExecutorService::service_full_name());
}

TEST(GrpcServerTest, TellsItsPortAndHealthOfEachService) {
  auto server = GrpcServer::Start(
      "127.0.0.1:0",
      {{kExecutorServiceName, std::make_shared<executor::v1::ExecutorService::Service>()}});
  ASSERT_THAT(server, IsOk());
  const auto address = ParseHostPort((*server)->address());
  ASSERT_THAT(address, IsOk());
  EXPECT_EQ(address->host, "127.0.0.1");
  EXPECT_NE(address->port, 0);

  EXPECT_EQ(Check(**server, ""), "NOT_SERVING") << "until told otherwise";
  EXPECT_EQ(Check(**server, kExecutorServiceName), "NOT_SERVING");
  (*server)->SetServing(true);
  EXPECT_EQ(Check(**server, ""), "SERVING");
  EXPECT_EQ(Check(**server, kExecutorServiceName), "SERVING");
  EXPECT_EQ(Check(**server, "some.other.Service"), "NOT_FOUND");
  (*server)->SetServing(false);
  EXPECT_EQ(Check(**server, ""), "NOT_SERVING");
  EXPECT_EQ(Check(**server, kExecutorServiceName), "NOT_SERVING");
}

TEST(GrpcServerTest, ServesHealthWithoutServices) {
  auto server = GrpcServer::Start("127.0.0.1:0", {});
  ASSERT_THAT(server, IsOk());
  (*server)->SetServing(true);
  EXPECT_EQ(Check(**server, ""), "SERVING");
}

TEST(GrpcServerTest, TheHealthServiceHasItsDescriptor) {
  EXPECT_NE(google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(
                "grpc.health.v1.Health"),
            nullptr);
}

TEST(GrpcServerTest, AnAddressInUseIsRefused) {
  auto first = GrpcServer::Start("127.0.0.1:0", {});
  ASSERT_THAT(first, IsOk());
  EXPECT_THAT(GrpcServer::Start((*first)->address(), {}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr((*first)->address())));
  const std::string address = (*first)->address();
  first->reset();
  EXPECT_THAT(GrpcServer::Start(address, {}), IsOk()) << "and free again at once";
}

TEST(GrpcServerTest, AForeignAddressIsRefused) {
  EXPECT_THAT(GrpcServer::Start("192.0.2.1:0", {}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("192.0.2.1:0")));
}

}  // namespace
}  // namespace snapkeeper
