// The executor's service and the scheduler's client over real connections on loopback, with a
// session that the test plays.

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <snapkeeper/executor/v1/executor_service.grpc.pb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/address.h"
#include "common/base/log.h"
#include "common/grpc/convert.h"
#include "common/grpc/limits.h"
#include "common/grpc/send_queue.h"
#include "common/grpc/server.h"
#include "common/http/curl_transport.h"
#include "common/model/reason.h"
#include "executor/grpc/executor_service.h"
#include "scheduler/grpc/grpc_executor_client.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using executor::v1::ExecuteJobsRequest;
using executor::v1::ExecuteJobsResponse;
using executor::v1::ExecutorService;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A session as the executor would have it, and what it was told.
struct FakeSession {
  absl::AnyInvocable<void(ToScheduler)> send;
  absl::AnyInvocable<void(absl::Status)> close;
  std::vector<ToExecutor> received;
  std::function<void(const ToExecutor&)> on_message = [](const ToExecutor&) {};
  bool gone = false;
};

class FakeExecutor {
 public:
  OpenSession Opener() {
    return [this](auto send, auto close) { return Open(std::move(send), std::move(close)); };
  }
  // In the order of opening; they stay here when they are gone.
  std::deque<FakeSession> sessions;
  std::function<void(const ToExecutor&)> on_message = [](const ToExecutor&) {
  };  // of sessions to come

 private:
  struct Handle : Executor::Session {
    explicit Handle(FakeSession& session) : session(session) {}
    ~Handle() override { session.gone = true; }
    void OnMessage(ToExecutor message) override {
      session.received.push_back(std::move(message));
      session.on_message(session.received.back());
    }
    FakeSession& session;
  };
  std::unique_ptr<Executor::Session> Open(absl::AnyInvocable<void(ToScheduler)> send,
                                          absl::AnyInvocable<void(absl::Status)> close) {
    FakeSession& session = sessions.emplace_back();
    session.send = std::move(send);
    session.close = std::move(close);
    session.on_message = on_message;
    return std::make_unique<Handle>(session);
  }
};

// What one client stream has told.
struct Client {
  std::vector<ToScheduler> received;
  std::optional<absl::Status> closed;
  std::unique_ptr<ExecutorStream> stream;

  void Open(ExecutorClient& client) {
    closed.reset();
    stream = client.Open([this](ToScheduler message) { received.push_back(std::move(message)); },
                         [this](absl::Status status) {
                           EXPECT_FALSE(closed) << "closed twice";
                           closed = std::move(status);
                         });
  }
};

class StreamTest : public testing::Test {
 protected:
  // The server's side and the client's share a loop: this test's thread.
  void StartServer(const std::string& address = "127.0.0.1:0") {
    auto server = GrpcServer::Start(
        address, {{kExecutorServiceName, MakeExecutorService(loop_, log_, executor_.Opener())}},
        metrics_);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
  }
  void Connect() {
    client_ = MakeGrpcExecutorClient(loop_, server_->address());
    a_.Open(*client_);
    a_.stream->Send(Heartbeat{});
    ASSERT_TRUE(RunUntil([this] {
      return executor_.sessions.size() == 1 && executor_.sessions[0].received.size() == 1;
    }));
    executor_.sessions[0].received.clear();
  }
  FakeSession& session() { return executor_.sessions.at(0); }

  // Turns the loop until `done`; gives up after 30 s.
  bool RunUntil(const std::function<bool()>& done) {
    const absl::Duration end = loop_.Elapsed() + absl::Seconds(30);
    while (!done()) {
      if (loop_.Elapsed() > end) return false;
      if (!loop_.Turn()) transport_.Wait(absl::Milliseconds(200));
    }
    return true;
  }

  NullLog log_;
  Metrics metrics_{"test"};
  CurlTransport transport_;  // the waiter
  EventLoop loop_{transport_};
  FakeExecutor executor_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<ExecutorClient> client_;
  Client a_;
};

Job SomeJob(std::string id, std::string source = "{}") {
  CreateSnapshot create;
  create.identity = {"policy", "20251122T120000Z", "claim"};
  create.name = SnapshotName(create.identity, "data-0");
  create.target = {.ns = "shop",
                   .claim = "data-0",
                   .claim_uid = "claim",
                   .snapshot_class = "c",
                   .driver = "d",
                   .volume_handle = "v",
                   .source_json = std::move(source)};
  create.post_before = absl::FromUnixSeconds(1'763'812'800);
  create.ready_timeout = absl::Minutes(10);
  return {.job_id = std::move(id), .attempt = 1, .epoch = 3, .work = std::move(create)};
}

JobEvent Accepted(std::string id) {
  JobEvent event;
  event.job_id = std::move(id);
  event.attempt = 1;
  return event;
}

TEST_F(StreamTest, CarriesAWholeConversation) {
  StartServer();
  client_ = MakeGrpcExecutorClient(loop_, server_->address());
  EXPECT_EQ(client_->address(), server_->address());
  a_.Open(*client_);
  const SchedulerHello hello{.min_protocol = 1, .max_protocol = 2, .epoch = 3, .id = "s"};
  a_.stream->Send(hello);
  EXPECT_THAT(executor_.sessions, IsEmpty()) << "nothing happens within a call";
  ASSERT_TRUE(RunUntil(
      [this] { return executor_.sessions.size() == 1 && session().received.size() == 1; }));
  ExecutorHello answer;
  answer.instance = "e";
  answer.slots = 64;
  session().send(answer);
  session().send(Heartbeat{});
  ASSERT_TRUE(RunUntil([this] { return a_.received.size() == 2; }));
  const CancelJob cancel{.job_id = "1", .attempt = 1};
  a_.stream->Send(SomeJob("1"));
  a_.stream->Send(cancel);
  a_.stream->Send(Heartbeat{});
  ASSERT_TRUE(RunUntil([this] { return session().received.size() == 4; }));
  EXPECT_THAT(session().received, ElementsAre(hello, SomeJob("1"), cancel, Heartbeat{}));
  const JobEvent done =
      RefusedEvent("1", 1,
                   WithRetryAfter(WithReason(absl::UnavailableError("x"), Reason::kThrottled),
                                  absl::Seconds(2)));
  session().send(Accepted("1"));
  session().send(done);
  session().send(Draining{});
  ASSERT_TRUE(RunUntil([this] { return a_.received.size() == 5; }));
  EXPECT_THAT(a_.received, ElementsAre(answer, Heartbeat{}, Accepted("1"), done, Draining{}));
  EXPECT_FALSE(a_.closed);
}

TEST_F(StreamTest, TenThousandMessagesArriveInOrderEitherWay) {
  StartServer();
  Connect();
  constexpr int kMany = 10'000;
  for (int i = 1; i <= kMany; ++i) {
    a_.stream->Send(CancelJob{.job_id = "x", .attempt = i});
    session().send(Accepted(fmt::to_string(i)));
  }
  ASSERT_TRUE(RunUntil(
      [this] { return session().received.size() == kMany && a_.received.size() == kMany; }));
  for (int i = 1; i <= kMany; ++i) {
    ASSERT_EQ(std::get<CancelJob>(session().received[i - 1]).attempt, i);
    ASSERT_EQ(std::get<JobEvent>(a_.received[i - 1]).job_id, fmt::to_string(i));
  }
}

TEST_F(StreamTest, DestroyingTheClientsStreamDestroysTheSession) {
  StartServer();
  Connect();
  session().send(Heartbeat{});
  a_.stream.reset();
  ASSERT_TRUE(RunUntil([this] { return session().gone; }));
  EXPECT_THAT(a_.received, IsEmpty());
  EXPECT_FALSE(a_.closed) << "it ended its callbacks too";
}

TEST_F(StreamTest, AStreamMayBeDestroyedByItsOwnCallbacks) {
  StartServer();
  client_ = MakeGrpcExecutorClient(loop_, server_->address());
  bool first = false, second = false;
  std::unique_ptr<ExecutorStream> stream;
  stream = client_->Open(
      [&stream, &first, big = std::string(100, 'x')](const ToScheduler&) {
        stream.reset();
        first = big.size() == 100;
      },
      [](const absl::Status& status) { ADD_FAILURE() << status; });
  ASSERT_TRUE(RunUntil([this] { return executor_.sessions.size() == 1; }));
  session().send(Heartbeat{});
  session().send(Heartbeat{});
  ASSERT_TRUE(RunUntil([this] { return session().gone; }));
  EXPECT_TRUE(first);

  stream = client_->Open([](const ToScheduler&) {},
                         [&stream, &second, big = std::string(100, 'x')](const absl::Status&) {
                           stream.reset();
                           second = big.size() == 100;
                         });
  ASSERT_TRUE(RunUntil([this] { return executor_.sessions.size() == 2; }));
  executor_.sessions[1].close(absl::UnavailableError("draining"));
  ASSERT_TRUE(RunUntil([&second] { return second; }));
}

TEST_F(StreamTest, AClosingStatusArrivesWholeAndAfterWhatWasSent) {
  StartServer();
  Connect();
  for (int i = 0; i < 500; ++i) session().send(Accepted(fmt::to_string(i)));
  session().close(
      WithReason(absl::FailedPreconditionError("belongs to epoch 4"), Reason::kNoExecutor));
  session().send(Heartbeat{});
  a_.stream->Send(Heartbeat{});
  ASSERT_TRUE(RunUntil([this] { return a_.closed && session().gone; }));
  EXPECT_THAT(*a_.closed,
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       fmt::format("executor {}: belongs to epoch 4", client_->address())));
  EXPECT_EQ(ReasonOf(*a_.closed), Reason::kNoExecutor);
  EXPECT_EQ(a_.received.size(), 500u);
  EXPECT_THAT(session().received, IsEmpty());
  a_.stream->Send(Heartbeat{});  // into the void
}

TEST_F(StreamTest, ASessionMayCloseFromWithinAMessage) {
  executor_.on_message = [this](const ToExecutor&) {
    session().close(absl::InvalidArgumentError("no hello"));
  };
  StartServer();
  client_ = MakeGrpcExecutorClient(loop_, server_->address());
  a_.Open(*client_);
  for (int i = 0; i < 3; ++i) a_.stream->Send(Heartbeat{});
  ASSERT_TRUE(RunUntil([this] { return a_.closed && session().gone; }));
  EXPECT_THAT(*a_.closed, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no hello")));
  EXPECT_EQ(session().received.size(), 1u);
}

TEST_F(StreamTest, AnEndWithoutErrorIsUnavailableToTheScheduler) {
  StartServer();
  Connect();
  session().close(absl::OkStatus());
  ASSERT_TRUE(RunUntil([this] { return a_.closed.has_value(); }));
  EXPECT_THAT(*a_.closed,
              StatusIs(absl::StatusCode::kUnavailable,
                       fmt::format("executor {}: ended the stream", client_->address())));
}

TEST_F(StreamTest, AServerThatDiesClosesTheStreamAndComesBack) {
  StartServer();
  Connect();
  const std::string address = server_->address();
  server_.reset();
  ASSERT_TRUE(RunUntil([this] { return a_.closed && session().gone; }));
  EXPECT_THAT(*a_.closed, StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));

  a_.Open(*client_);
  ASSERT_TRUE(RunUntil([this] { return a_.closed.has_value(); }));
  EXPECT_THAT(*a_.closed, StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));

  StartServer(address);
  int tries = 0;
  const absl::Duration start = loop_.Elapsed();
  ASSERT_TRUE(RunUntil([&] {
    if (a_.closed) {
      ++tries;
      a_.Open(*client_);
      a_.stream->Send(Heartbeat{});
    }
    return executor_.sessions.size() == 2 && executor_.sessions[1].received.size() == 1;
  }));
  EXPECT_LT(loop_.Elapsed() - start, absl::Seconds(5)) << tries << " tries";
}

TEST_F(StreamTest, TwoStreamsOfOneClientAreApart) {
  StartServer();
  Connect();
  Client b;
  b.Open(*client_);
  ASSERT_TRUE(RunUntil([this] { return executor_.sessions.size() == 2; }));
  executor_.sessions[1].close(absl::AbortedError("b"));
  session().send(Accepted("a"));
  ASSERT_TRUE(RunUntil([&] { return b.closed && !a_.received.empty(); }));
  EXPECT_FALSE(a_.closed);
  EXPECT_THAT(b.received, IsEmpty());
}

TEST_F(StreamTest, AJobTooLargeForTheWireIsRefusedHere) {
  StartServer();
  Connect();
  a_.stream->Send(SomeJob("big", std::string(kMaxMessageBytes, 'x')));
  a_.stream->Send(SomeJob("most", std::string(kMaxMessageBytes - 1000, 'x')));
  EXPECT_THAT(a_.received, IsEmpty());
  ASSERT_TRUE(
      RunUntil([this] { return a_.received.size() == 1 && session().received.size() == 1; }));
  const auto& event = std::get<JobEvent>(a_.received[0]);
  EXPECT_EQ(event.job_id, "big");
  EXPECT_EQ(event.phase, Phase::kDone);
  EXPECT_THAT(event.status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4194304")));
  EXPECT_EQ(std::get<Job>(session().received[0]).job_id, "most");
  EXPECT_FALSE(a_.closed);
}

TEST_F(StreamTest, ShutdownReturnsWithOpenStreamsThoughTheLoopStandsStill) {
  StartServer();
  Connect();
  Client b;
  b.Open(*client_);
  ASSERT_TRUE(RunUntil([this] { return executor_.sessions.size() == 2; }));
  for (int i = 0; i < 1000; ++i) session().send(Accepted(fmt::to_string(i)));
  server_->Shutdown(absl::ZeroDuration());
  EXPECT_FALSE(session().gone) << "sessions belong to the loop";
  server_.reset();
  EXPECT_TRUE(session().gone);
  EXPECT_TRUE(executor_.sessions[1].gone);
  ASSERT_TRUE(RunUntil(
      [&] { return a_.closed && b.closed; }));  // and what was posted for the service does no harm
}

TEST_F(StreamTest, ShutdownLetsClosingStatusesOut) {
  StartServer();
  Connect();
  session().close(absl::UnavailableError("draining"));
  server_->Shutdown(absl::Seconds(20));
  ASSERT_TRUE(RunUntil([this] { return a_.closed.has_value(); }));
  EXPECT_THAT(*a_.closed, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("draining")));
}

TEST_F(StreamTest, EverythingMayEndWhileMessagesAreUnderWay) {
  for (int round = 0; round < 20; ++round) {
    StartServer();
    Connect();
    for (int i = 0; i < 100; ++i) {
      a_.stream->Send(SomeJob(fmt::to_string(i)));
      session().send(Accepted(fmt::to_string(i)));
    }
    for (int turn = 0; turn < round; ++turn) loop_.Turn();
    if (round % 2 == 0) {
      a_ = Client();
      client_.reset();
      server_.reset();
    } else {
      server_.reset();
      a_ = Client();
      client_.reset();
    }
    executor_.sessions.clear();
  }
}

// Peers that are not ours.

class Socket {
 public:
  Socket() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
    socklen_t size = sizeof(name);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&name), &size), 0);
    port_ = ntohs(name.sin_port);
  }
  ~Socket() { close(fd_); }
  int fd() const { return fd_; }
  std::string address() const { return FormatHostPort({"127.0.0.1", port_}); }

 private:
  const int fd_;
  uint16_t port_ = 0;
};

TEST_F(StreamTest, NobodyListeningIsUnavailableAtOnce) {
  Socket bound;  // the port is ours, and nobody listens
  client_ = MakeGrpcExecutorClient(loop_, bound.address());
  const absl::Duration start = loop_.Elapsed();
  for (int i = 0; i < 3; ++i) {
    a_.Open(*client_);
    a_.stream->Send(Heartbeat{});
    EXPECT_FALSE(a_.closed) << "not from within";
    ASSERT_TRUE(RunUntil([this] { return a_.closed.has_value(); }));
    EXPECT_THAT(*a_.closed, StatusIs(absl::StatusCode::kUnavailable,
                                     AllOf(HasSubstr(bound.address()), HasSubstr("refused"))));
  }
  EXPECT_LT(loop_.Elapsed() - start, absl::Seconds(5));
}

TEST_F(StreamTest, AListenerThatNeverAnswersIsUnavailableSoon) {
  Socket silent;
  ASSERT_EQ(listen(silent.fd(), 5), 0);
  client_ = MakeGrpcExecutorClient(loop_, silent.address());
  const absl::Duration start = loop_.Elapsed();
  a_.Open(*client_);
  ASSERT_TRUE(RunUntil([this] { return a_.closed.has_value(); }));
  EXPECT_THAT(*a_.closed, StatusIs(absl::StatusCode::kUnavailable, HasSubstr(silent.address())));
  EXPECT_LT(loop_.Elapsed() - start, absl::Seconds(10));
}

TEST_F(StreamTest, AClientMayGoWhileItConnects) {
  Socket silent;
  ASSERT_EQ(listen(silent.fd(), 5), 0);
  client_ = MakeGrpcExecutorClient(loop_, silent.address());
  const absl::Duration start = loop_.Elapsed();
  a_.Open(*client_);
  a_.stream->Send(Heartbeat{});
  a_.stream.reset();
  client_.reset();
  EXPECT_LT(loop_.Elapsed() - start, absl::Seconds(2));
}

// A scheduler that speaks the protocol by hand, on a thread of its own.
class RawClientTest : public StreamTest {
 protected:
  using Conversation =
      std::function<void(grpc::ClientReaderWriter<ExecuteJobsRequest, ExecuteJobsResponse>&)>;

  grpc::Status Talk(const Conversation& talk) {
    StartServer();
    auto stub = ExecutorService::NewStub(
        grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    grpc::Status status;
    std::atomic<bool> done = false;
    std::thread thread([&] {
      const auto stream = stub->ExecuteJobs(&context);
      talk(*stream);
      status = stream->Finish();
      done = true;
      transport_.Wake();
    });
    EXPECT_TRUE(RunUntil([&done] { return done.load(); }));
    context.TryCancel();
    thread.join();
    EXPECT_TRUE(RunUntil([this] { return executor_.sessions.size() == 1 && session().gone; }));
    return status;
  }
};

TEST_F(RawClientTest, AJobOfAnUnknownKindIsAnsweredAndTheStreamLives) {
  std::vector<ExecuteJobsResponse> answers;
  executor_.on_message = [this](const ToExecutor&) { session().send(Heartbeat{}); };
  const grpc::Status status = Talk([&answers](auto& stream) {
    ExecuteJobsRequest request;
    request.mutable_snapshot_job()->set_job_id("7");
    request.mutable_snapshot_job()->set_attempt(4);
    stream.Write(request);
    request.mutable_snapshot_job()->mutable_create_snapshot();
    stream.Write(request);
    request.mutable_heartbeat();
    stream.Write(request);
    ExecuteJobsResponse response;
    while (answers.size() < 3 && stream.Read(&response)) answers.push_back(response);
    stream.WritesDone();
  });
  EXPECT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0].job_event().job_id(), "7");
  EXPECT_EQ(answers[0].job_event().attempt(), 4);
  EXPECT_EQ(answers[0].job_event().phase(), executor::v1::JOB_PHASE_DONE);
  EXPECT_EQ(answers[0].job_event().status().code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(answers[1].job_event().status().code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(answers[1].job_event().status().message(),
              HasSubstr("create_snapshot.identity.policy_uid"));
  EXPECT_TRUE(answers[2].has_heartbeat());
}

TEST_F(RawClientTest, AnyOtherBadMessageEndsTheStream) {
  const grpc::Status status = Talk([](auto& stream) {
    ExecuteJobsRequest request;
    request.mutable_cancel_job();
    stream.Write(request);
    ExecuteJobsResponse response;
    EXPECT_FALSE(stream.Read(&response));
  });
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("cancel_job.job_id"));
  EXPECT_THAT(session().received, IsEmpty());
}

TEST_F(RawClientTest, AnEndBeforeAnyMessageThatCanBeReadIsTheSchedulersMistake) {
  const grpc::Status status = Talk([](auto& stream) {
    ExecuteJobsRequest request;
    request.mutable_scheduler_hello()->set_id("\xff");  // no UTF-8: cannot be parsed
    stream.Write(request);
    ExecuteJobsResponse response;
    EXPECT_FALSE(stream.Read(&response));
  });
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("SchedulerHello"));
  EXPECT_THAT(session().received, IsEmpty());
}

TEST_F(RawClientTest, AMessageBeyondTheLimitEndsTheStream) {
  const grpc::Status status = Talk([](auto& stream) {
    ExecuteJobsRequest request;
    request.mutable_scheduler_hello()->set_id(std::string(kMaxMessageBytes, 'x'));
    stream.Write(request);
    ExecuteJobsResponse response;
    EXPECT_FALSE(stream.Read(&response));
  });
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(session().received, IsEmpty());
}

TEST_F(RawClientTest, ASchedulerThatDoesNotReadIsCutOff) {
  executor_.on_message = [this](const ToExecutor&) {
    for (size_t i = 0; i < SendQueue<int>::kLimit + 10'000; ++i)
      session().send(Accepted(std::string(500, 'x')));
  };
  const grpc::Status status = Talk([](auto& stream) {
    ExecuteJobsRequest request;
    request.mutable_heartbeat();
    stream.Write(request);
    while (stream.Write(request)) std::this_thread::yield();  // until the stream is gone
    ExecuteJobsResponse response;
    while (stream.Read(&response)) {  // for the status comes after what did arrive
    }
  });
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
}

// An executor that speaks the protocol by hand.
class RawService : public ExecutorService::Service {
 public:
  using Talk = std::function<grpc::Status(
      grpc::ServerReaderWriter<ExecuteJobsResponse, ExecuteJobsRequest>&)>;
  explicit RawService(Talk talk) : talk_(std::move(talk)) {}
  grpc::Status ExecuteJobs(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<ExecuteJobsResponse, ExecuteJobsRequest>* stream) override {
    return talk_(*stream);
  }

 private:
  const Talk talk_;
};

class RawServerTest : public StreamTest {
 protected:
  void Start(RawService::Talk talk) {
    auto server = GrpcServer::Start(
        "127.0.0.1:0", {{kExecutorServiceName, std::make_shared<RawService>(std::move(talk))}},
        metrics_);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
    client_ = MakeGrpcExecutorClient(loop_, server_->address());
    a_.Open(*client_);
    a_.stream->Send(Heartbeat{});
  }
  absl::Status Closed() {
    EXPECT_TRUE(RunUntil([this] { return a_.closed.has_value(); }));
    return a_.closed.value_or(absl::OkStatus());
  }
};

TEST_F(RawServerTest, AnAnswerThatMakesNoSenseClosesTheStream) {
  Start([](auto& stream) {
    ExecuteJobsResponse response;
    response.mutable_heartbeat();
    stream.Write(response);
    response.mutable_job_event();
    stream.Write(response);
    ExecuteJobsRequest request;
    while (stream.Read(&request)) {
    }
    return grpc::Status::OK;
  });
  EXPECT_THAT(Closed(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(client_->address()), HasSubstr("job_event.job_id"))));
  EXPECT_EQ(a_.received.size(), 1u);
}

TEST_F(RawServerTest, AResetByThePeerIsUnavailable) {
  Start([](auto&) { return grpc::Status::CANCELLED; });
  EXPECT_THAT(Closed(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr(client_->address())));
}

TEST_F(RawServerTest, AnotherServiceAtTheAddressIsUnimplemented) {
  auto server = GrpcServer::Start("127.0.0.1:0", {}, metrics_);
  ASSERT_THAT(server, IsOk());
  client_ = MakeGrpcExecutorClient(loop_, (*server)->address());
  a_.Open(*client_);
  EXPECT_THAT(Closed(),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr((*server)->address())));
}

TEST_F(RawServerTest, AnExecutorThatDoesNotReadIsGivenUp) {
  Start([](auto& stream) {
    // Reads nothing; Write fails once the stream is gone.
    ExecuteJobsResponse response;
    response.mutable_heartbeat();
    while (stream.Write(response)) std::this_thread::yield();
    return grpc::Status::OK;
  });
  ASSERT_TRUE(RunUntil([this] { return !a_.received.empty(); }));
  for (size_t i = 0; i < SendQueue<int>::kLimit + 10'000; ++i)
    a_.stream->Send(CancelJob{.job_id = std::string(500, 'x'), .attempt = 1});
  EXPECT_THAT(Closed(), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("unread")));
}

}  // namespace
}  // namespace snapkeeper
