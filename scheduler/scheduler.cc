#include "scheduler/scheduler.h"

#include <algorithm>
#include <utility>

#include "common/model/clock.h"
#include "common/model/names.h"

namespace snapkeeper {
namespace {

// Each fire looks at the clock; between fires a wrong one only has to show in /readyz, and a right
// one to end the pause.
constexpr absl::Duration kClockEvery = absl::Minutes(1);
constexpr absl::Duration kClockEveryPaused = absl::Seconds(1);
constexpr absl::Duration kDrainWithin = absl::Seconds(5);
// What was read longer ago when the epoch is won is read again: an earlier leader has gone on
// since.
constexpr absl::Duration kFreshView = absl::Seconds(5);

}  // namespace

Scheduler::Scheduler(EventLoop& loop, KubeApi& api, std::vector<ExecutorClient*> executors,
                     Rng& rng, Log& log, Metrics& metrics, SchedulerConfig config)
    : loop_(loop),
      api_(api),
      log_(log),
      config_(std::move(config)),
      metrics_(metrics),
      caches_(loop, api, rng, log, config_.watch_namespaces),
      epoch_(loop, api, rng, log, config_.lease_namespace, config_.id),
      pool_(loop, rng, log, std::move(executors), config_.heartbeat),
      dispatcher_(
          loop, rng, log, metrics_, pool_, config_.profiles, config_.prune_quarantine,
          [this](const CreateSnapshot& work) {
            auto snapshot = caches_.snapshots().Find(work.target.ns, work.name);
            return snapshot && ProvenIdentity(*snapshot) == work.identity ? snapshot : nullptr;
          },
          [this] { return api_.ServerTime(loop_.Now()); }),
      events_(loop, api, log, "snapkeeper-scheduler", config_.id),
      runs_(loop, caches_, dispatcher_, config_.profiles, events_, log, metrics_,
            {.dirty = [this](const std::string& uid,
                             absl::Duration delay) { writer_.Request(uid, delay); },
             .series_changed = [this](const std::string& uid) { pruner_.Changed(uid); },
             .clock_ok = [this] { return CheckClock(); },
             .server_now =
                 [this] {
                   // One answer may tell a time that is far off; CheckClock judges that.
                   const absl::Time now = loop_.Now();
                   return std::clamp(api_.ServerTime(now), now - kMaxClockOffset,
                                     now + kMaxClockOffset);
                 },
             .outranked = [this] { epoch_.Check(); }}),
      writer_(loop, api, rng, log,
              {.status =
                   [this](const std::string& uid) {
                     return was_deposed_ ? std::nullopt : runs_.Status(uid);
                   },
               .written = [this](const std::string& uid,
                                 const PolicyStatus& status) { runs_.Written(uid, status); },
               .stale = [this](const Policy& policy) { runs_.Absorb(policy); },
               .posting = [this] { return !stopping_ && dispatcher_.posting() > 0; }}),
      pruner_(loop, api, rng, log, caches_, runs_, dispatcher_, events_, metrics_,
              config_.prune_quarantine) {}

void Scheduler::Start(absl::AnyInvocable<void(std::string)> deposed) {
  deposed_ = std::move(deposed);
  metrics_.Collect(caches_, runs_, pool_, dispatcher_, loop_,
                   [this] { return current_epoch_ != 0 && !was_deposed_; });
  caches_.Start({.policy =
                     [this](const std::shared_ptr<const Policy>& before,
                            const std::shared_ptr<const Policy>& after) {
                       if (before && (!after || after->meta.uid != before->meta.uid))
                         writer_.Forget(before->meta.uid);
                       if (after) writer_.Seen(*after);
                       runs_.PolicyChanged(before, after);
                     },
                 .claim = [this](const auto& before,
                                 const auto& after) { runs_.ClaimChanged(before, after); },
                 .snapshot = [this](const auto& before,
                                    const auto& after) { runs_.SnapshotChanged(before, after); },
                 .content =
                     [this](const std::shared_ptr<const Content>& before,
                            const std::shared_ptr<const Content>& after) {
                       runs_.ContentChanged(after ? *after : *before);
                     },
                 .synced = [this] { OnSynced(); }});
  clock_timer_ = loop_.After(kClockEvery, [this] { CheckClock(); });
}

void Scheduler::OnSynced() {
  if (stopping_) return;
  if (!taking_ && caches_.policies().synced()) {
    taking_ = true;
    taking_since_ = loop_.Elapsed();
    int64_t floor = 0;
    caches_.policies().ForEach(
        [&floor](const Policy& policy) { floor = std::max(floor, EpochOf(policy.status)); });
    epoch_.Take(floor, {.taken = [this](int64_t epoch) { OnEpoch(epoch); },
                        .deposed = [this](std::string why) { OnDeposed(std::move(why)); },
                        .confirmed = [this] { runs_.OnEpochConfirmed(); }});
  }
  if (current_epoch_ == 0) return;
  runs_.OnSynced();
  if (!pruning_ && caches_.synced()) {
    pruning_ = true;
    pruner_.Start();
  }
}

void Scheduler::OnEpoch(int64_t epoch) {
  if (stopping_) return;
  current_epoch_ = epoch;
  if (loop_.Elapsed() - taking_since_ > kFreshView) caches_.Relist();
  dispatcher_.Start(epoch);
  pool_.Start({.epoch = epoch, .id = config_.id},
              {.capacity = [this] { dispatcher_.OnCapacity(); },
               .event = [this](const JobEvent& event) { dispatcher_.OnEvent(event); },
               .lost = [this](const std::string& job,
                              const absl::Status& why) { dispatcher_.OnLost(job, why); },
               .deposed = [this](std::string why) { OnDeposed(std::move(why)); }});
  runs_.Start(epoch);
  OnSynced();
}

void Scheduler::OnDeposed(std::string why) {
  if (std::exchange(was_deposed_, true)) return;
  StopWork();
  log_.Error("deposed", {{"reason", why}});
  // Not from within whoever told us: the end of the process destroys them.
  loop_.Post(
      [deposed = std::move(deposed_), why = std::move(why)]() mutable { deposed(std::move(why)); });
}

bool Scheduler::CheckClock() {
  const absl::Status clock = snapkeeper::CheckClock(api_.ClockOffset());
  if (!stopping_ && clock.ok() == paused_) {
    if (clock.ok()) {
      log_.Info("clock is right again", {});
    } else {
      log_.Error("clock", {{"error", clock}});
    }
    SetPaused(!clock.ok());
  }
  // It may be the server's that was set right: while nothing is asked of it, nothing tells.
  if (!clock.ok()) epoch_.AskTheTime();
  clock_timer_ = loop_.After(paused_ ? kClockEveryPaused : kClockEvery, [this] { CheckClock(); });
  return clock.ok();
}

void Scheduler::SetPaused(bool paused) {
  paused_ = paused;
  dispatcher_.SetPaused(paused);
  pruner_.SetPaused(paused);
  runs_.SetPaused(paused);
}

void Scheduler::StopWork() {
  stopping_ = true;
  dispatcher_.SetPaused(true);
  pruner_.SetPaused(true);
  runs_.Stop();
}

void Scheduler::Drain(absl::AnyInvocable<void()> drained) {
  drained_ = std::move(drained);
  StopWork();
  for (const auto& [uid, state] : runs_.policies()) {
    if (!state.open.empty()) writer_.Request(uid, absl::ZeroDuration());
  }
  AwaitWrites(loop_.Elapsed() + kDrainWithin);
}

void Scheduler::AwaitWrites(absl::Duration until) {
  if ((writer_.idle() && events_.idle()) || loop_.Elapsed() >= until) return drained_();
  drain_timer_ = loop_.After(absl::Milliseconds(50), [this, until] { AwaitWrites(until); });
}

absl::Status Scheduler::Ready() const {
  if (stopping_) return absl::UnavailableError("stopping");
  if (!caches_.ready_to_fire())
    return absl::UnavailableError("reading the cluster for the first time");
  if (current_epoch_ == 0) return absl::UnavailableError("the epoch is not taken yet");
  return caches_.health();
}

}  // namespace snapkeeper
