#include "executor/executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "common/model/clock.h"
#include "common/model/reason.h"
#include "executor/create_runner.h"
#include "executor/metrics.h"
#include "executor/prune_runner.h"
#include "executor/runner.h"

namespace snapkeeper {

class Executor::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(EventLoop& loop, KubeApi& api, const Reflector<Snapshot>& snapshots, Log& log,
       Metrics& metrics, ExecutorConfig config);

  std::unique_ptr<Session> Open(absl::AnyInvocable<void(ToScheduler)> send,
                                absl::AnyInvocable<void(absl::Status)> close);
  void SnapshotChanged(const std::shared_ptr<const Snapshot>& before,
                       const std::shared_ptr<const Snapshot>& after);
  void Drain(absl::AnyInvocable<void()> drained);

  // From the session handles.
  void OnMessage(uint64_t id, ToExecutor message);
  void OnGone(uint64_t id);

 private:
  class Handle;
  struct Peer {
    absl::AnyInvocable<void(ToScheduler)> send;
    absl::AnyInvocable<void(absl::Status)> close;
    std::optional<SchedulerHello> hello;
    Timer heartbeat, silence;
  };
  struct Entry {
    std::unique_ptr<Runner> runner;
    CreateRunner* create;  // the same one; null for a prune
    int attempt;
    bool parked;  // its object exists
  };

  void OnHello(uint64_t id, const SchedulerHello& hello);
  void OnJob(const SchedulerHello& from, Job job);
  absl::Status Refusal(const SchedulerHello& from, const Job& job, bool parked) const;
  void OnCancel(const CancelJob& cancel);
  void Tell(JobEvent event);
  void SendToOwner(ToScheduler message);
  void Beat(uint64_t id);
  void LookAtClock();
  void ExpectWithin(Peer& peer, uint64_t id);
  void Close(uint64_t id, absl::Status why);
  std::unique_ptr<Runner> Remove(const std::string& job_id);
  void DropJobs();
  void FinishDrain();

  EventLoop& loop_;
  Log& log_;
  const ExecutorConfig config_;
  const ExecutorMetrics metrics_;
  RunnerContext context_;

  uint64_t next_id_ = 1;
  std::map<uint64_t, Peer> peers_;
  uint64_t owner_ = 0;  // of peers_, whose jobs these are; 0: nobody
  // Of the highest hello so far, whether its session lives or not.
  int64_t epoch_ = std::numeric_limits<int64_t>::min();
  std::string owner_name_;

  absl::flat_hash_map<std::string, Entry> jobs_;
  int parked_ = 0;
  // By the UID of the object, which the runners hold. Two jobs may be about one object.
  std::unordered_multimap<std::string_view, CreateRunner*> by_uid_;

  bool draining_ = false;
  absl::AnyInvocable<void()> drained_;
  Timer drain_end_;
  bool asking_ = false;
  Call asked_;
  Timer clock_look_;
  Call collector_;
};

class Executor::Impl::Handle : public Session {
 public:
  Handle(std::weak_ptr<Impl> impl, uint64_t id) : impl_(std::move(impl)), id_(id) {}
  ~Handle() override {
    if (auto impl = impl_.lock()) impl->OnGone(id_);
  }
  void OnMessage(ToExecutor message) override {
    if (auto impl = impl_.lock()) impl->OnMessage(id_, std::move(message));
  }

 private:
  const std::weak_ptr<Impl> impl_;
  const uint64_t id_;
};

Executor::Impl::Impl(EventLoop& loop, KubeApi& api, const Reflector<Snapshot>& snapshots, Log& log,
                     Metrics& metrics, ExecutorConfig config)
    : loop_(loop),
      log_(log),
      config_(std::move(config)),
      metrics_(metrics),
      context_{loop, api,      snapshots,
               log,  metrics_, [this](JobEvent event) { Tell(std::move(event)); }} {
  collector_ = metrics.AddCollector([this] {
    const double slots = static_cast<double>(jobs_.size()) - parked_;
    return std::vector<StateGauge>{
        {"snapkeeper_executor_jobs",
         "Jobs under way: before CREATED (slots), and awaiting readiness (parked).",
         {"state"},
         {{{"slots"}, slots}, {{"parked"}, static_cast<double>(parked_)}}}};
  });
  LookAtClock();
}

// Whether a clock that was set has been set right: while nothing is asked of the server, nothing
// tells. Any answer does, and this one is short.
void Executor::Impl::LookAtClock() {
  KubeApi& api = context_.api;
  const std::optional<absl::Duration> offset = api.ClockOffset();
  if (offset && !CheckClock(offset).ok() && !std::exchange(asking_, true)) {
    asked_ = api.Get({Kind::kSnapshot, "default", "the-time"},
                     [this](const absl::StatusOr<ObjectPtr>&) { asking_ = false; });
  }
  clock_look_ = loop_.After(config_.heartbeat, [this] { LookAtClock(); });
}

std::unique_ptr<Executor::Session> Executor::Impl::Open(
    absl::AnyInvocable<void(ToScheduler)> send, absl::AnyInvocable<void(absl::Status)> close) {
  const uint64_t id = next_id_++;
  Peer& peer = peers_[id];
  peer.send = std::move(send);
  peer.close = std::move(close);
  ExpectWithin(peer, id);
  return std::make_unique<Handle>(weak_from_this(), id);
}

void Executor::Impl::ExpectWithin(Peer& peer, uint64_t id) {
  peer.silence = loop_.After(kDeadBeats * config_.heartbeat, [this, id] {
    Close(id, absl::UnavailableError(
                  fmt::format("the scheduler was silent for {}",
                              absl::FormatDuration(kDeadBeats * config_.heartbeat))));
  });
}

void Executor::Impl::OnMessage(uint64_t id, ToExecutor message) {
  const auto it = peers_.find(id);
  if (it == peers_.end()) return;  // closed by us; its transport has not noticed yet
  Peer& peer = it->second;
  ExpectWithin(peer, id);
  const auto* hello = std::get_if<SchedulerHello>(&message);
  if (!hello == !peer.hello) {
    return Close(id, absl::InvalidArgumentError(hello ? "a second hello"
                                                      : "the first message is not a hello"));
  }
  if (hello) {
    OnHello(id, *hello);
  } else if (auto* job = std::get_if<Job>(&message)) {
    OnJob(*peer.hello, std::move(*job));
  } else if (const auto* cancel = std::get_if<CancelJob>(&message)) {
    OnCancel(*cancel);
  }
}

void Executor::Impl::OnHello(uint64_t id, const SchedulerHello& hello) {
  if (hello.min_protocol > kProtocolVersion || hello.max_protocol < kProtocolVersion) {
    return Close(
        id,
        absl::UnimplementedError(fmt::format(
            "scheduler {} speaks protocol {} to {}, this executor speaks {}; upgrade the older one",
            hello.id, hello.min_protocol, hello.max_protocol, kProtocolVersion)));
  }
  if (draining_) return Close(id, ExecutorDraining());
  // An epoch has one scheduler: it was taken by compare-and-swap.
  if (hello.epoch < epoch_ || (hello.epoch == epoch_ && hello.id != owner_name_)) {
    return Close(id,
                 absl::FailedPreconditionError(fmt::format(
                     "this executor belongs to scheduler {} of epoch {}; scheduler {} has epoch {}",
                     owner_name_, epoch_, hello.id, hello.epoch)));
  }
  if (owner_ != 0) {
    Close(owner_, hello.epoch > epoch_
                      ? absl::FailedPreconditionError(fmt::format(
                            "scheduler {} of epoch {} took over", hello.id, hello.epoch))
                      : absl::UnavailableError("a newer stream of the same scheduler took over"));
  }
  owner_ = id;
  epoch_ = hello.epoch;
  owner_name_ = hello.id;
  peers_.at(id).hello = hello;
  log_.Info("scheduler connected", {{"scheduler", hello.id}, {"epoch", hello.epoch}});
  ExecutorHello answer;
  answer.instance = config_.instance;
  answer.slots = config_.slots;
  answer.parked_limit = config_.parked_limit;
  SendToOwner(std::move(answer));
  peers_.at(id).heartbeat = loop_.After(config_.heartbeat, [this, id] { Beat(id); });
}

void Executor::Impl::Beat(uint64_t id) {
  SendToOwner(Heartbeat());
  peers_.at(id).heartbeat = loop_.After(config_.heartbeat, [this, id] { Beat(id); });
}

absl::Status Executor::Impl::Refusal(const SchedulerHello& from, const Job& job,
                                     bool parked) const {
  if (job.epoch != from.epoch) {
    return absl::FailedPreconditionError(
        fmt::format("a job of epoch {} on a stream of epoch {}", job.epoch, from.epoch));
  }
  if (draining_) return ExecutorDraining();
  const bool creates = std::holds_alternative<CreateSnapshot>(job.work);
  std::string full;
  if (creates && parked_ >= config_.parked_limit)
    full = fmt::format("{} jobs await readiness", parked_);
  const int in_slots = static_cast<int>(jobs_.size()) - parked_;
  if (!parked && in_slots >= config_.slots)
    full = fmt::format("all of {} slots are taken", config_.slots);
  if (full.empty()) return absl::OkStatus();
  return WithReason(
      absl::ResourceExhaustedError(fmt::format("executor {} is full: {}", config_.instance, full)),
      Reason::kNoExecutor);
}

void Executor::Impl::OnJob(const SchedulerHello& from, Job job) {
  auto* create = std::get_if<CreateSnapshot>(&job.work);
  if (const auto open = jobs_.find(job.job_id); open != jobs_.end()) {
    if (job.attempt <= open->second.attempt) return;
    // The new attempt finds the object by its name; only that there was one must not be forgotten.
    if (create && open->second.create && create->known_uid.empty())
      create->known_uid = open->second.create->uid();
    Remove(job.job_id);
  }
  auto* prune = std::get_if<PruneSnapshots>(&job.work);
  const std::string policy =
      create ? create->policy : fmt::format("{}/{}", prune->ns, prune->policy_name);
  const std::string claim = create ? create->target.claim : "", name = create ? create->name : "";
  const bool parked = create && !create->known_uid.empty();
  JobEvent event;
  event.job_id = job.job_id;
  event.attempt = job.attempt;
  if (absl::Status refused = Refusal(from, job, parked); !refused.ok()) {
    log_.Info("refused", {{"job", job.job_id},
                          {"attempt", job.attempt},
                          {"policy", policy},
                          {"claim", claim},
                          {"snapshot", name},
                          {"error", refused}});
    metrics_.CountAttempt(create ? "create" : "prune", refused);
    event.phase = Phase::kDone;
    event.status = std::move(refused);
    return SendToOwner(std::move(event));
  }

  log_.Debug("accepted", {{"job", job.job_id},
                          {"attempt", job.attempt},
                          {"policy", policy},
                          {"claim", claim},
                          {"snapshot", name}});
  Entry entry{.runner = nullptr, .create = nullptr, .attempt = job.attempt, .parked = parked};
  if (create) {
    auto runner =
        std::make_unique<CreateRunner>(context_, job.job_id, job.attempt, std::move(*create));
    entry.create = runner.get();
    entry.runner = std::move(runner);
    if (parked) by_uid_.emplace(entry.create->uid(), entry.create);
  } else {
    entry.runner = std::make_unique<PruneRunner>(context_, job.job_id, job.attempt, job.epoch,
                                                 std::move(*prune));
  }
  if (parked) ++parked_;
  Runner& runner = *entry.runner;
  jobs_[job.job_id] = std::move(entry);
  event.phase = Phase::kAccepted;
  SendToOwner(std::move(event));
  runner.Start();
}

void Executor::Impl::OnCancel(const CancelJob& cancel) {
  const auto it = jobs_.find(cancel.job_id);
  if (it != jobs_.end() && it->second.attempt == cancel.attempt) it->second.runner->Cancel();
}

void Executor::Impl::Tell(JobEvent event) {
  std::unique_ptr<Runner> done;  // the caller: destroyed last
  if (event.phase == Phase::kCreated) {
    Entry& entry = jobs_.at(event.job_id);
    if (!std::exchange(entry.parked, true)) {
      ++parked_;
      by_uid_.emplace(entry.create->uid(), entry.create);
    }
  } else if (event.phase == Phase::kDone) {
    done = Remove(event.job_id);
  }
  SendToOwner(std::move(event));
  if (draining_) FinishDrain();
}

std::unique_ptr<Runner> Executor::Impl::Remove(const std::string& job_id) {
  const auto it = jobs_.find(job_id);
  Entry entry = std::move(it->second);
  jobs_.erase(it);
  if (entry.parked) {
    --parked_;
    const auto [first, last] = by_uid_.equal_range(entry.create->uid());
    by_uid_.erase(std::find_if(
        first, last, [&entry](const auto& other) { return other.second == entry.create; }));
  }
  return std::move(entry.runner);
}

void Executor::Impl::SendToOwner(ToScheduler message) {
  peers_.at(owner_).send(std::move(message));
}

void Executor::Impl::SnapshotChanged(const std::shared_ptr<const Snapshot>& before,
                                     const std::shared_ptr<const Snapshot>& after) {
  // A runner may end, and with it its entry, when it is told.
  const auto tell = [this](const std::string& uid, const std::shared_ptr<const Snapshot>& now) {
    const auto [first, last] = by_uid_.equal_range(uid);
    std::vector<CreateRunner*> runners;
    std::transform(first, last, std::back_inserter(runners),
                   [](const auto& entry) { return entry.second; });
    for (CreateRunner* runner : runners) runner->OnChanged(now);
  };
  if (before && (!after || after->meta.uid != before->meta.uid)) tell(before->meta.uid, nullptr);
  if (after) tell(after->meta.uid, after);
}

void Executor::Impl::OnGone(uint64_t id) {
  const auto node = peers_.extract(id);
  if (node.empty() || id != owner_) return;
  owner_ = 0;
  log_.Info("scheduler gone",
            {{"scheduler", owner_name_}, {"epoch", epoch_}, {"jobs", jobs_.size()}});
  DropJobs();
}

void Executor::Impl::Close(uint64_t id, absl::Status why) {
  auto node = peers_.extract(id);
  log_.Info("stream closed", {{"scheduler", node.mapped().hello ? node.mapped().hello->id : ""},
                              {"jobs", id == owner_ ? jobs_.size() : 0},
                              {"error", why}});
  if (id == owner_) {
    owner_ = 0;
    DropJobs();
  }
  node.mapped().close(std::move(why));
}

void Executor::Impl::DropJobs() {
  for (const auto& [job_id, entry] : jobs_)
    metrics_.CountAttempt(entry.create ? "create" : "prune", absl::CancelledError());
  by_uid_.clear();
  jobs_.clear();
  parked_ = 0;
  if (draining_) FinishDrain();
}

void Executor::Impl::Drain(absl::AnyInvocable<void()> drained) {
  draining_ = true;
  drained_ = std::move(drained);
  if (owner_ != 0) SendToOwner(Draining());
  std::vector<Runner*> runners;
  for (const auto& [job_id, entry] : jobs_) runners.push_back(entry.runner.get());
  for (Runner* runner : runners) runner->Drain();
  FinishDrain();
}

void Executor::Impl::FinishDrain() {
  if (!drained_ || !jobs_.empty()) return;
  drain_end_ = loop_.After(absl::ZeroDuration(),
                           [this, drained = std::exchange(drained_, nullptr)]() mutable {
                             while (!peers_.empty())
                               Close(peers_.begin()->first, ExecutorDraining());
                             drained();
                           });
}

Executor::Executor(EventLoop& loop, KubeApi& api, const Reflector<Snapshot>& snapshots, Log& log,
                   Metrics& metrics, ExecutorConfig config)
    : impl_(std::make_shared<Impl>(loop, api, snapshots, log, metrics, std::move(config))) {}

Executor::~Executor() = default;

std::unique_ptr<Executor::Session> Executor::Open(absl::AnyInvocable<void(ToScheduler)> send,
                                                  absl::AnyInvocable<void(absl::Status)> close) {
  return impl_->Open(std::move(send), std::move(close));
}

void Executor::SnapshotChanged(const std::shared_ptr<const Snapshot>& before,
                               const std::shared_ptr<const Snapshot>& after) {
  impl_->SnapshotChanged(before, after);
}

void Executor::Drain(absl::AnyInvocable<void()> drained) { impl_->Drain(std::move(drained)); }

}  // namespace snapkeeper
