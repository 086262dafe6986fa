#include "executor/grpc/executor_service.h"

#include <absl/base/thread_annotations.h>
#include <absl/container/flat_hash_map.h>
#include <absl/synchronization/mutex.h>
#include <grpcpp/grpcpp.h>
#include <snapkeeper/executor/v1/executor_service.grpc.pb.h>

#include <utility>

#include "common/grpc/convert.h"
#include "common/grpc/send_queue.h"
#include "common/grpc/status.h"

namespace snapkeeper {
namespace {

using executor::v1::ExecuteJobsRequest;
using executor::v1::ExecuteJobsResponse;

class Service;

// One stream, between gRPC's threads and the loop. Ends by itself, with the loop or without:
// whatever happens, gRPC calls OnCancel or we finish, then OnDone.
class Stream : public grpc::ServerBidiReactor<ExecuteJobsRequest, ExecuteJobsResponse>,
               public std::enable_shared_from_this<Stream> {
 public:
  Stream(Service& service, grpc::CallbackServerContext* context, Log& log)
      : service_(service), context_(context), log_(log) {}
  void Begin();

  // Any thread. All of them do nothing once the stream is closed.
  void Read();
  void Send(ExecuteJobsResponse message);
  // After what was sent.
  void Close(const absl::Status& status);
  bool closed();

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  void FinishIfWritten() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Service& service_;
  grpc::CallbackServerContext* const context_;  // gRPC's, until OnDone
  Log& log_;
  std::shared_ptr<Stream> self_;  // gRPC's reference, from Begin to OnDone
  ExecuteJobsRequest request_;    // gRPC's while a read is outstanding
  bool read_any_ = false;         // OnReadDone's

  absl::Mutex mutex_;
  SendQueue<ExecuteJobsResponse> queue_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status status_ ABSL_GUARDED_BY(mutex_) = grpc::Status::CANCELLED;  // unless by Close
};

class Service : public executor::v1::ExecutorService::CallbackService {
 public:
  Service(EventLoop& loop, Log& log, OpenSession open)
      : loop_(loop), log_(log), open_(std::move(open)) {}

  grpc::ServerBidiReactor<ExecuteJobsRequest, ExecuteJobsResponse>* ExecuteJobs(
      grpc::CallbackServerContext* context) override {
    auto stream = std::make_shared<Stream>(*this, context, log_);
    stream->Begin();
    return stream.get();
  }

  // Runs `task` on the loop while this service lives. Any thread.
  void Post(absl::AnyInvocable<void()> task) {
    loop_.Post([alive = std::weak_ptr<bool>(alive_), task = std::move(task)]() mutable {
      if (!alive.expired()) task();
    });
  }

  // The rest on the loop.
  void Begin(const std::shared_ptr<Stream>& stream) {
    sessions_[stream.get()] =
        open_([stream](const ToScheduler& message) { stream->Send(ToProto(message)); },
              [stream](const absl::Status& status) { stream->Close(status); });
    stream->Read();
  }
  void Deliver(Stream& stream, ToExecutor message) {
    if (stream.closed()) return;
    sessions_.at(&stream)->OnMessage(std::move(message));
    stream.Read();
  }
  void End(Stream& stream) { sessions_.erase(&stream); }

 private:
  EventLoop& loop_;
  Log& log_;
  OpenSession open_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>();
  absl::flat_hash_map<Stream*, std::unique_ptr<Executor::Session>> sessions_;
};

void Stream::Begin() {
  self_ = shared_from_this();
  service_.Post([this, self = self_] { service_.Begin(self); });
}

void Stream::Read() {
  absl::MutexLock lock(&mutex_);
  if (!closed_) StartRead(&request_);
}

void Stream::Send(ExecuteJobsResponse message) {
  absl::MutexLock lock(&mutex_);
  if (closed_) return;
  if (queue_.full()) {
    // A status would wait behind the messages that nobody reads.
    log_.Warning("scheduler does not read: stream cut off",
                 {{"peer", context_->peer()}, {"unread", queue_.kLimit}});
    closed_ = true;
    context_->TryCancel();
  } else if (const auto* first = queue_.Push(std::move(message))) {
    StartWrite(first);
  }
}

void Stream::Close(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (closed_) return;
  closed_ = true;
  status_ = ToGrpc(status);
  FinishIfWritten();
}

bool Stream::closed() {
  absl::MutexLock lock(&mutex_);
  return closed_;
}

void Stream::FinishIfWritten() {
  if (finished_ || !queue_.empty()) return;
  finished_ = true;
  Finish(status_);
}

void Stream::OnReadDone(bool ok) {
  // The scheduler is done, or gone. Or it sent what cannot be parsed, which gRPC does not tell
  // apart: an end before anything else is such a peer's.
  if (!ok) {
    return Close(read_any_ ? absl::OkStatus()
                           : absl::InvalidArgumentError(
                                 "the stream ended before a SchedulerHello that can be read"));
  }
  absl::StatusOr<ToExecutor> message = FromProto(request_);
  read_any_ = read_any_ || message.ok();
  if (message.ok()) {
    // One message at a time is on the loop's queue: a flood waits in the scheduler's.
    service_.Post([this, self = self_, message = *std::move(message)]() mutable {
      service_.Deliver(*this, std::move(message));
    });
  } else if (const auto& job = request_.snapshot_job(); !job.job_id().empty()) {
    Send(ToProto(RefusedEvent(job.job_id(), job.attempt(), message.status())));
    Read();
  } else {
    Close(message.status());
  }
}

void Stream::OnWriteDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  if (!ok) {
    closed_ = true;
    queue_.DropRest();
  }
  if (const auto* next = queue_.Next()) StartWrite(next);
  if (closed_) FinishIfWritten();
}

void Stream::OnCancel() {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  queue_.DropRest();  // OnWriteDone follows for what is being written
  FinishIfWritten();
}

void Stream::OnDone() {
  service_.Post([this, self = std::move(self_)] { service_.End(*this); });
}

}  // namespace

std::shared_ptr<grpc::Service> MakeExecutorService(EventLoop& loop, Log& log, OpenSession open) {
  return std::make_shared<Service>(loop, log, std::move(open));
}

}  // namespace snapkeeper
