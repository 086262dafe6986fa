#include "scheduler/executor_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/model/reason.h"

namespace snapkeeper {
namespace {

// Then an executor that failed is tried again.
constexpr absl::Duration kDistrust = absl::Seconds(30);
constexpr absl::Duration kRecheckTwin = absl::Minutes(1);

}  // namespace

ExecutorPool::ExecutorPool(EventLoop& loop, Rng& rng, Log& log,
                           std::vector<ExecutorClient*> clients, absl::Duration heartbeat)
    : loop_(loop), rng_(rng), log_(log), heartbeat_(heartbeat) {
  for (ExecutorClient* client : clients) connections_.push_back({.client = client});
}

ExecutorPool::~ExecutorPool() = default;

void ExecutorPool::Start(SchedulerHello hello, Handlers handlers) {
  hello_ = std::move(hello);
  handlers_ = std::move(handlers);
  for (size_t i = 0; i < connections_.size(); ++i) Open(i);
}

bool ExecutorPool::HasTwin(size_t index) const {
  const Connection& c = connections_[index];
  return std::any_of(connections_.begin(), connections_.end(), [&c](const Connection& other) {
    return &other != &c && other.ready && other.hello.instance == c.hello.instance;
  });
}

void ExecutorPool::Open(size_t index) {
  Connection& c = connections_[index];
  if (HasTwin(index)) {
    // It serves the newest stream of a scheduler only: a second one would take over the first, and
    // so on for ever.
    if (!std::exchange(c.has_twin, true)) {
      log_.Warning("executor is connected under another address too",
                   {{"executor", c.client->address()}, {"instance", c.hello.instance}});
    }
    c.reconnect = loop_.After(kRecheckTwin, [this, index] { Open(index); });
    return;
  }
  c.has_twin = false;
  ExpectWithin(index);
  c.stream =
      c.client->Open([this, index](ToScheduler message) { OnMessage(index, std::move(message)); },
                     [this, index](absl::Status status) { OnClosed(index, status); });
  c.stream->Send(hello_);
  c.heartbeat = loop_.After(heartbeat_, [this, index] { Beat(index); });
}

void ExecutorPool::ExpectWithin(size_t index) {
  connections_[index].silence = loop_.After(kDeadBeats * heartbeat_, [this, index] {
    OnClosed(index, absl::UnavailableError(fmt::format(
                        "executor {} was silent for {}", connections_[index].client->address(),
                        absl::FormatDuration(kDeadBeats * heartbeat_))));
  });
}

void ExecutorPool::Beat(size_t index) {
  Connection& c = connections_[index];
  c.stream->Send(Heartbeat{});
  c.heartbeat = loop_.After(heartbeat_, [this, index] { Beat(index); });
}

void ExecutorPool::OnMessage(size_t index, ToScheduler message) {
  Connection& c = connections_[index];
  ExpectWithin(index);
  if (const auto* hello = std::get_if<ExecutorHello>(&message)) {
    c.hello = *hello;
    c.ready = true;
    c.failures = 0;
    log_.Info("executor connected", {{"executor", c.client->address()},
                                     {"instance", hello->instance},
                                     {"slots", hello->slots}});
    handlers_.capacity();
  } else if (const auto* event = std::get_if<JobEvent>(&message)) {
    OnEvent(index, *event);
  } else if (std::holds_alternative<Draining>(message)) {
    c.ready = false;
    log_.Info("executor draining", {{"executor", c.client->address()}});
  }
}

void ExecutorPool::OnEvent(size_t index, const JobEvent& event) {
  auto it = where_.find(event.job_id);
  if (it == where_.end() || it->second.connection != index || it->second.attempt != event.attempt)
    return;  // a stale attempt
  Place& place = it->second;
  if (event.phase < place.phase) return;
  place.phase = event.phase;
  Connection& c = connections_[index];
  if (place.prunes) {
    // May have failed for a single volume.
  } else if (event.phase == Phase::kDone && IsRetryable(event.status)) {
    if (!Distrusted(c)) {
      log_.Warning("others are asked first",
                   {{"executor", c.client->address()}, {"error", event.status}});
    }
    c.failed_at = loop_.Elapsed();
  } else if (event.phase >= Phase::kCreated) {
    c.failed_at = -absl::InfiniteDuration();
  }
  bool freed = false;
  if (event.phase == Phase::kDone) {
    Leave(event.job_id);
    freed = true;
  } else if (event.phase >= Phase::kCreated && !place.parked) {
    place.parked = true;
    --c.in_slots;
    ++c.parked;
    freed = true;
  }
  handlers_.event(event);
  if (freed) handlers_.capacity();
}

void ExecutorPool::Leave(const std::string& job_id) {
  auto it = where_.find(job_id);
  Connection& c = connections_[it->second.connection];
  --(it->second.parked ? c.parked : c.in_slots);
  c.pruning -= it->second.prunes;
  where_.erase(it);
}

void ExecutorPool::OnClosed(size_t index, const absl::Status& status) {
  Connection& c = connections_[index];
  const bool was_ready = std::exchange(c.ready, false);
  c.stream.reset();
  c.heartbeat.Cancel();
  c.silence.Cancel();
  if (absl::IsFailedPrecondition(status)) {
    handlers_.deposed(fmt::format("executor {}: {}", c.client->address(), status.message().data()));
    return;
  }
  if (was_ready || ++c.failures == 1) {
    log_.Warning("executor disconnected", {{"executor", c.client->address()}, {"error", status}});
  }
  c.reconnect =
      loop_.After(Backoff{absl::Milliseconds(100), absl::Seconds(1)}.Delay(1 + c.failures, rng_),
                  [this, index] { Open(index); });
  std::vector<std::string> lost;
  for (const auto& [job_id, place] : where_) {
    if (place.connection == index) lost.push_back(job_id);
  }
  std::sort(lost.begin(), lost.end());
  for (const std::string& job_id : lost) {
    Leave(job_id);
    handlers_.lost(job_id, status.ok() ? absl::UnavailableError(
                                             fmt::format("executor {} left", c.client->address()))
                                       : status);
  }
}

bool ExecutorPool::Distrusted(const Connection& connection) const {
  return loop_.Elapsed() - connection.failed_at < kDistrust;
}

ExecutorPool::Connection* ExecutorPool::Roomiest(bool created, bool prunes) {
  Connection* best = nullptr;
  const auto burden = [this](const Connection& c) {
    return std::pair(Distrusted(c), c.in_slots + c.parked);
  };
  for (Connection& c : connections_) {
    const bool room =
        (created || c.in_slots < c.hello.slots) &&
        (prunes ? c.pruning < std::max(1, c.hello.slots / 2) : c.parked < c.hello.parked_limit);
    if (!c.ready || !room) continue;
    if (!best || burden(c) < burden(*best)) best = &c;
  }
  return best;
}

bool ExecutorPool::TrySend(const Job& job, bool created) {
  const bool prunes = std::holds_alternative<PruneSnapshots>(job.work);
  Connection* const best = Roomiest(created, prunes);
  if (!best) return false;
  ++(created ? best->parked : best->in_slots);
  best->pruning += prunes;
  where_[job.job_id] = {.connection = static_cast<size_t>(best - connections_.data()),
                        .attempt = job.attempt,
                        .parked = created,
                        .prunes = prunes};
  best->stream->Send(job);
  return true;
}

bool ExecutorPool::Cancel(const std::string& job_id) {
  auto it = where_.find(job_id);
  // Without a stream: its loss is about to be told.
  if (it == where_.end() || !connections_[it->second.connection].stream) return false;
  connections_[it->second.connection].stream->Send(
      CancelJob{.job_id = job_id, .attempt = it->second.attempt});
  return true;
}

void ExecutorPool::Abandon(const std::string& job_id) {
  if (!Cancel(job_id)) return;
  connections_[where_.at(job_id).connection].failed_at = loop_.Elapsed();
  Leave(job_id);
}

int ExecutorPool::connected() const {
  return static_cast<int>(std::count_if(connections_.begin(), connections_.end(),
                                        [](const Connection& c) { return c.ready; }));
}

}  // namespace snapkeeper
