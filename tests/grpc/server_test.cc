#include "common/grpc/server.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <grpc/health/v1/health.grpc.pb.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <snapkeeper/executor/v1/executor_service.grpc.pb.h>

#include <latch>
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
using testing::Not;

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

class GrpcServerTest : public testing::Test {
 protected:
  Metrics metrics_{"test"};
};

TEST_F(GrpcServerTest, TheServicesNameIsTheProtos) {
  EXPECT_STREQ(kExecutorServiceName, executor::v1::ExecutorService::service_full_name());
}

TEST_F(GrpcServerTest, TellsItsPortAndHealthOfEachService) {
  auto server = GrpcServer::Start(
      "127.0.0.1:0",
      {{kExecutorServiceName, std::make_shared<executor::v1::ExecutorService::Service>()}},
      metrics_);
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

TEST_F(GrpcServerTest, ServesHealthWithoutServices) {
  auto server = GrpcServer::Start("127.0.0.1:0", {}, metrics_);
  ASSERT_THAT(server, IsOk());
  (*server)->SetServing(true);
  EXPECT_EQ(Check(**server, ""), "SERVING");
}

TEST_F(GrpcServerTest, CountsCallsAsGoDoesAndThoseThatNobodyServesAsUnknown) {
  auto server = GrpcServer::Start(
      "127.0.0.1:0",
      {{kExecutorServiceName, std::make_shared<executor::v1::ExecutorService::Service>()}},
      metrics_);
  ASSERT_THAT(server, IsOk());
  EXPECT_EQ(Check(**server, "some.other.Service"), "NOT_FOUND");
  const auto channel =
      grpc::CreateChannel((*server)->address(), grpc::InsecureChannelCredentials());
  executor::v1::ExecuteJobsResponse response;
  grpc::ClientContext known, unknown;
  executor::v1::ExecutorService::Stub stub(channel);
  auto stream = stub.ExecuteJobs(&known);
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
  grpc::TemplatedGenericStub<HealthCheckRequest, HealthCheckResponse> others(channel);
  std::latch answered(1);
  HealthCheckRequest request;
  HealthCheckResponse ignored;
  others.UnaryCall(&unknown, "/made.up/Name", {}, &request, &ignored,
                   [&](const grpc::Status& status) {
                     EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
                     answered.count_down();
                   });
  answered.wait();
  server->reset();  // whoever has an answer may be ahead of its count

  const std::string text = metrics_.Serialize({});
  const std::string health =
      R"({grpc_method="Check",grpc_service="grpc.health.v1.Health",grpc_type="unary"})";
  EXPECT_THAT(text, HasSubstr("grpc_server_started_total" + health + " 1"));
  EXPECT_THAT(text, HasSubstr("grpc_server_msg_received_total" + health + " 1"));
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(grpc_server_handled_total{grpc_code="NotFound",grpc_method="Check",grpc_service="grpc.health.v1.Health",grpc_type="unary"} 1)"));
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(grpc_server_started_total{grpc_method="ExecuteJobs",)"
          R"(grpc_service="snapkeeper.executor.v1.ExecutorService",grpc_type="bidi_stream"} 1)"));
  EXPECT_THAT(
      text,
      HasSubstr(R"(grpc_server_started_total{grpc_method="unknown",grpc_service="unknown",)"));
  EXPECT_THAT(text, Not(HasSubstr("made")));
}

TEST_F(GrpcServerTest, TheHealthServiceHasItsDescriptor) {
  EXPECT_NE(google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(
                "grpc.health.v1.Health"),
            nullptr);
}

TEST_F(GrpcServerTest, AnAddressInUseIsRefused) {
  auto first = GrpcServer::Start("127.0.0.1:0", {}, metrics_);
  ASSERT_THAT(first, IsOk());
  EXPECT_THAT(GrpcServer::Start((*first)->address(), {}, metrics_),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr((*first)->address())));
  const std::string address = (*first)->address();
  first->reset();
  EXPECT_THAT(GrpcServer::Start(address, {}, metrics_), IsOk()) << "and free again at once";
}

TEST_F(GrpcServerTest, AForeignAddressIsRefused) {
  EXPECT_THAT(GrpcServer::Start("192.0.2.1:0", {}, metrics_),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("192.0.2.1:0")));
}

}  // namespace
}  // namespace snapkeeper
