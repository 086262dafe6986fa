#include "scheduler/grpc/grpc_executor_client.h"

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <snapkeeper/executor/v1/executor_service.grpc.pb.h>

#include <string_view>
#include <utility>

#include "common/grpc/convert.h"
#include "common/grpc/limits.h"
#include "common/grpc/send_queue.h"
#include "common/grpc/status.h"

namespace snapkeeper {
namespace {

using executor::v1::ExecuteJobsRequest;
using executor::v1::ExecuteJobsResponse;
using executor::v1::ExecutorService;

// How many streams gRPC still holds.
class LiveStreams {
 public:
  void Add(int by) {
    absl::MutexLock lock(&mutex_);
    count_ += by;
  }
  void AwaitNone() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](int* count) { return *count == 0; }, &count_));
  }

 private:
  absl::Mutex mutex_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
};

// The loop's half of a stream: gone when the loop wants no more of it.
struct Callbacks {
  absl::AnyInvocable<void(ToScheduler)> message;
  absl::AnyInvocable<void(absl::Status)> closed;
};

// `status` as the stream's user shall see it.
absl::Status Describe(std::string_view address, const absl::Status& status) {
  // Cancelled means that the executor, or something between us, has reset the stream: we do not
  // listen any more when we do.
  const bool left = status.ok() || absl::IsCancelled(status);
  absl::Status out(left ? absl::StatusCode::kUnavailable : status.code(),
                   fmt::format("executor {}: {}", address,
                               status.ok() ? "ended the stream" : std::string(status.message())));
  status.ForEachPayload(
      [&out](absl::string_view type, const absl::Cord& payload) { out.SetPayload(type, payload); });
  return out;
}

// gRPC's half. Owns itself from Start to OnDone.
class Reactor : public grpc::ClientBidiReactor<ExecuteJobsRequest, ExecuteJobsResponse>,
                public std::enable_shared_from_this<Reactor> {
 public:
  Reactor(EventLoop& loop, std::string address, std::shared_ptr<LiveStreams> live,
          std::weak_ptr<Callbacks> callbacks)
      : loop_(loop),
        address_(std::move(address)),
        live_(std::move(live)),
        callbacks_(std::move(callbacks)) {}

  void Start(ExecutorService::Stub& stub) {
    self_ = shared_from_this();
    live_->Add(1);
    stub.async()->ExecuteJobs(&context_, this);
    AddHold();  // we write, and go on reading, from outside gRPC's reactions
    StartRead(&response_);
    StartCall();
  }

  // On the loop. They do nothing once the stream has ended.
  void Send(ExecuteJobsRequest message) {
    absl::MutexLock lock(&mutex_);
    if (ended_) return;
    if (queue_.full()) {
      Fail(absl::ResourceExhaustedError(fmt::format("has left {} messages unread", queue_.kLimit)));
    } else if (const auto* first = queue_.Push(std::move(message))) {
      StartWrite(first);
    }
  }
  void Read() {
    absl::MutexLock lock(&mutex_);
    if (!ended_) StartRead(&response_);
  }
  // Nobody listens any more: neither the loop nor the callbacks are touched again.
  void Abandon() {
    absl::MutexLock lock(&mutex_);
    abandoned_ = true;
    Fail(absl::CancelledError());
  }

  void OnReadDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    if (!ok) return End();
    absl::StatusOr<ToScheduler> message = FromProto(response_);
    if (!message.ok()) return Fail(message.status());
    // One message at a time is on the loop's queue: a flood waits in the executor's.
    Post([self = self_, message = *std::move(message)](Callbacks& callbacks) mutable {
      callbacks.message(std::move(message));
      self->Read();
    });
  }
  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    if (!ok || ended_) queue_.DropRest();
    if (const auto* next = queue_.Next()) StartWrite(next);
  }
  void OnDone(const grpc::Status& status) override {
    std::shared_ptr<Reactor> self = std::move(self_);
    const std::shared_ptr<LiveStreams> live = live_;
    {
      absl::MutexLock lock(&mutex_);
      Post([why = Describe(address_, failure_.ok() ? FromGrpc(status) : failure_)](
               Callbacks& callbacks) { callbacks.closed(why); });
    }
    // Our context holds the channel, and the last to let go of that waits for all of gRPC's
    // threads, so it must not be one of them: the client lets go after us.
    self.reset();
    live->Add(-1);
  }

 private:
  // Under the mutex: after Abandon has returned the loop may be gone.
  void Post(absl::AnyInvocable<void(Callbacks&)> task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (abandoned_) return;
    loop_.Post([callbacks = callbacks_, task = std::move(task)]() mutable {
      if (const auto alive = callbacks.lock()) task(*alive);
    });
  }
  void Fail(absl::Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ended_) return;
    failure_ = std::move(why);
    context_.TryCancel();
    End();
  }
  // No operation is started from here on; gRPC calls OnDone when the last one is over.
  void End() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (std::exchange(ended_, true)) return;
    RemoveHold();
  }

  EventLoop& loop_;
  const std::string address_;
  const std::shared_ptr<LiveStreams> live_;
  const std::weak_ptr<Callbacks> callbacks_;
  grpc::ClientContext context_;
  std::shared_ptr<Reactor> self_;
  ExecuteJobsResponse response_;  // gRPC's while a read is outstanding

  absl::Mutex mutex_;
  SendQueue<ExecuteJobsRequest> queue_ ABSL_GUARDED_BY(mutex_);
  bool abandoned_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_
      ABSL_GUARDED_BY(mutex_);  // ours, in place of the Cancelled that it brings about
};

class Stream : public ExecutorStream {
 public:
  Stream(EventLoop& loop, std::shared_ptr<Callbacks> callbacks, std::shared_ptr<Reactor> reactor)
      : loop_(loop), callbacks_(std::move(callbacks)), reactor_(std::move(reactor)) {}
  ~Stream() override { reactor_->Abandon(); }

  void Send(ToExecutor message) override {
    ExecuteJobsRequest request = ToProto(message);
    const size_t bytes = request.ByteSizeLong();
    if (const Job* job = std::get_if<Job>(&message); job && bytes > kMaxMessageBytes) {
      // The executor would end the stream, and with it everybody else's jobs.
      auto why = absl::InvalidArgumentError(
          fmt::format("the job has {} bytes; an executor takes {}", bytes, kMaxMessageBytes));
      loop_.Post([callbacks = std::weak_ptr<Callbacks>(callbacks_),
                  event = RefusedEvent(job->job_id, job->attempt, std::move(why))]() mutable {
        if (const auto alive = callbacks.lock()) alive->message(std::move(event));
      });
      return;
    }
    reactor_->Send(std::move(request));
  }

 private:
  EventLoop& loop_;
  const std::shared_ptr<Callbacks> callbacks_;
  const std::shared_ptr<Reactor> reactor_;
};

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments args;
  const auto set = [&args](const char* name, absl::Duration value) {
    args.SetInt(name, static_cast<int>(absl::ToInt64Milliseconds(value)));
  };
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  args.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  set(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, absl::Milliseconds(100));
  set(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, absl::Seconds(1));
  set(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
      absl::Seconds(2));  // in spite of its name: how long one try may take
  set(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS,
      absl::Seconds(1));  // an executor that moved would be missed for 30 s
  set(GRPC_ARG_KEEPALIVE_TIME_MS, kPingEvery);
  set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeout);
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  args.SetMaxReceiveMessageSize(kMaxMessageBytes);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), args);
}

class Client : public ExecutorClient {
 public:
  Client(EventLoop& loop, std::string address)
      : loop_(loop),
        address_(std::move(address)),
        stub_(ExecutorService::NewStub(MakeChannel(address_))) {}
  ~Client() override { live_->AwaitNone(); }

  const std::string& address() const override { return address_; }

  std::unique_ptr<ExecutorStream> Open(absl::AnyInvocable<void(ToScheduler)> message,
                                       absl::AnyInvocable<void(absl::Status)> closed) override {
    auto callbacks = std::make_shared<Callbacks>(Callbacks{std::move(message), std::move(closed)});
    auto reactor = std::make_shared<Reactor>(loop_, address_, live_, callbacks);
    reactor->Start(*stub_);
    return std::make_unique<Stream>(loop_, std::move(callbacks), std::move(reactor));
  }

 private:
  EventLoop& loop_;
  const std::string address_;
  const std::unique_ptr<ExecutorService::Stub> stub_;
  const std::shared_ptr<LiveStreams> live_ = std::make_shared<LiveStreams>();
};

}  // namespace

std::unique_ptr<ExecutorClient> MakeGrpcExecutorClient(EventLoop& loop, std::string address) {
  return std::make_unique<Client>(loop, std::move(address));
}

}  // namespace snapkeeper
