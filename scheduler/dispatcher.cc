#include "scheduler/dispatcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/model/clock.h"
#include "common/model/reason.h"

namespace snapkeeper {
namespace {

// Queue classes, first to last.
constexpr int kExisting = 0;  // the snapshot exists: only its end must be learnt
constexpr int kScheduled = 1;
constexpr int kAgain = 2;  // what failed before lets others go first
constexpr int kPruning = 3;

// An executor's own verdict at the ready deadline is the better one (it is told with the driver's
// last error); ours is for when none answers.
constexpr absl::Duration kReadyGrace = absl::Seconds(5);
constexpr absl::Duration kLastTry = absl::Milliseconds(200);  // before the starting deadline
constexpr absl::Duration kAttemptLimit = absl::Seconds(60);
constexpr absl::Duration kRecheckWallClock = absl::Minutes(1);
constexpr absl::Duration kRecheckPaused = absl::Seconds(1);
// An executor that says nothing of a job so long after it could do anything new for it has lost it.
constexpr absl::Duration kAnswerAfterPost = absl::Minutes(1);
constexpr absl::Duration kAnswerOfPrune = absl::Minutes(5);

}  // namespace

Dispatcher::Dispatcher(EventLoop& loop, Rng& rng, Log& log, SchedulerMetrics& metrics,
                       ExecutorPool& pool, const DriverProfiles& profiles,
                       absl::Duration quarantine, Find find, ServerNow server_now)
    : loop_(loop),
      rng_(rng),
      log_(log),
      metrics_(metrics),
      pool_(pool),
      profiles_(profiles),
      quarantine_(quarantine),
      find_(std::move(find)),
      server_now_(std::move(server_now)) {}

void Dispatcher::SetPaused(bool paused) {
  if (std::exchange(paused_, paused) && !paused) Pump();
}

std::string Dispatcher::Submit(Create create) {
  const uint64_t seq = next_seq_++;
  auto owned = std::make_unique<Entry>(
      Entry{.id = fmt::format("{}-{}", epoch_, seq), .seq = seq, .body = std::move(create)});
  Entry& entry = *owned;
  entries_[entry.id] = std::move(owned);
  CreateSnapshot& work = CreateOf(entry).work;
  entry.created = !work.known_uid.empty();
  if (entry.created) {
    // Its age is not known yet: the executor tells it when it finds the object.
    entry.created_time = server_now_();
  }
  EnterLane(entry);
  ArmDeadline(entry);
  return entry.id;
}

std::string Dispatcher::Submit(PruneSnapshots prune, Pruned done) {
  const uint64_t seq = next_seq_++;
  auto owned = std::make_unique<Entry>(Entry{.id = fmt::format("{}-{}", epoch_, seq),
                                             .seq = seq,
                                             .body = std::move(prune),
                                             .pruned = std::move(done)});
  Entry& entry = *owned;
  entries_[entry.id] = std::move(owned);
  Enqueue(entry);
  return entry.id;
}

bool Dispatcher::IsPosting(const Entry& entry) {
  return std::holds_alternative<Create>(entry.body) && !entry.created &&
         (entry.state == State::kQueued || entry.state == State::kSent);
}

void Dispatcher::Move(Entry& entry, State state) {
  posting_ -= IsPosting(entry);
  if (entry.state == State::kSent) entry.timer.Cancel();
  entry.state = state;
  posting_ += IsPosting(entry);
}

void Dispatcher::EnterLane(Entry& entry) {
  Lane& lane = lanes_[CreateOf(entry).work.identity.claim_uid];
  if (entry.created) {
    // It was asked for already; it waits for nobody, and if it is not cut yet the next one of the
    // volume waits for it.
    if (!lane.holder) {
      lane.holder = &entry;
      entry.in_lane = true;
    }
    EnterCap(entry);
  } else if (lane.holder) {
    Move(entry, State::kLane);
    lane.waiting.push_back(&entry);
  } else {
    lane.holder = &entry;
    entry.in_lane = true;
    EnterCap(entry);
  }
}

void Dispatcher::EnterCap(Entry& entry) {
  const std::string& driver = CreateOf(entry).work.target.driver;
  Cap& cap = caps_[driver];
  if (entry.created || cap.creating < profiles_.Of(driver).max_creating) {
    ++cap.creating;
    entry.in_cap = true;
    Enqueue(entry);
  } else {
    Move(entry, State::kCap);
    entry.key = KeyOf(entry);
    cap.waiting[entry.key] = &entry;
  }
}

Dispatcher::QueueKey Dispatcher::KeyOf(Entry& entry) {
  if (std::holds_alternative<PruneSnapshots>(entry.body))
    return {kPruning, absl::InfinitePast(), entry.seq};
  const int kind = entry.created ? kExisting : entry.failures == 0 ? kScheduled : kAgain;
  return {kind, CreateOf(entry).order, entry.seq};
}

void Dispatcher::Enqueue(Entry& entry) {
  Move(entry, State::kQueued);
  entry.key = KeyOf(entry);
  queue_[entry.key] = &entry;
  Pump();
}

void Dispatcher::Pump() {
  // What is to be pruned needs no parking place: it does not wait behind what does.
  for (const int first : {kExisting, kPruning}) {
    const QueueKey from(first, absl::InfinitePast(), 0);
    for (auto it = queue_.lower_bound(from); it != queue_.end() && !paused_;
         it = queue_.lower_bound(from)) {
      Entry& entry = *it->second;
      if (!Send(entry)) break;
      queue_.erase(entry.key);
    }
  }
}

bool Dispatcher::Send(Entry& entry) {
  // Before the job is made: a prune may name ten thousand snapshots.
  if (!pool_.HasRoom(entry.created, std::holds_alternative<PruneSnapshots>(entry.body)))
    return false;
  Job job{.job_id = entry.id, .attempt = entry.attempt + 1, .epoch = epoch_};
  absl::Duration answer_within = kAnswerOfPrune;
  if (auto* create = std::get_if<Create>(&entry.body)) {
    const absl::Duration left =
        std::min(create->start_deadline - loop_.Now(), std::min(kAttemptLimit, quarantine_ / 2));
    // All clocks may have been set back since the server told its time.
    create->work.post_before = std::min(server_now_(), loop_.Now() + kMaxClockOffset) + left;
    job.work = create->work;
    answer_within = std::max(left, absl::ZeroDuration()) + kAnswerAfterPost;
  } else {
    job.work = std::get<PruneSnapshots>(entry.body);
  }
  if (!pool_.TrySend(job, entry.created)) return false;
  ++entry.attempt;
  Move(entry, State::kSent);
  if (entry.created) return true;  // it has its ready deadline
  entry.timer = loop_.After(answer_within, [this, id = entry.id] {
    pool_.Abandon(id);
    OnLost(id, absl::UnavailableError("the executor gave no answer"));
  });
  return true;
}

void Dispatcher::OnEvent(const JobEvent& event) {
  auto it = entries_.find(event.job_id);
  if (it == entries_.end()) return;
  Entry& entry = *it->second;
  if (std::holds_alternative<PruneSnapshots>(entry.body)) {
    if (event.phase != Phase::kDone) return;
    auto done = std::move(entry.pruned);
    entries_.erase(it);
    return done(event.status, event.deleted.size());
  }
  if (event.phase >= Phase::kCreated && !event.snapshot_uid.empty() && event.created) {
    MarkCreated(entry, event.snapshot_uid, *event.created);
  }
  if (event.phase == Phase::kCut || event.phase == Phase::kReady) {
    if (!std::exchange(entry.cut, true)) {
      CreateOf(entry).progress(event);
      ReleaseCut(entry);
    }
  }
  if (event.phase != Phase::kDone) return;
  if (event.status.ok() && CreateOf(entry).work.known_uid.empty()) {
    Failed(entry, absl::InternalError("the executor reported success and no snapshot"));
  } else if (event.status.ok()) {
    Finish(entry, absl::OkStatus());
  } else {
    Failed(entry, event.status);
  }
}

void Dispatcher::MarkCreated(Entry& entry, const std::string& uid, absl::Time created) {
  entry.created_time = created;
  if (std::exchange(entry.created_told, true)) return;
  CreateSnapshot& work = CreateOf(entry).work;
  posting_ -= IsPosting(entry);
  entry.created = true;
  entry.timer.Cancel();
  work.known_uid = uid;
  entry.failures = 0;
  ArmDeadline(entry);
  CreateOf(entry).progress(JobEvent{.job_id = entry.id,
                                    .attempt = entry.attempt,
                                    .phase = Phase::kCreated,
                                    .snapshot_uid = uid,
                                    .created = created});
}

void Dispatcher::LeaveCap(Entry& entry) {
  if (!std::exchange(entry.in_cap, false)) return;
  const std::string& driver = CreateOf(entry).work.target.driver;
  Cap& cap = caps_[driver];
  --cap.creating;
  if (!cap.waiting.empty() && cap.creating < profiles_.Of(driver).max_creating) {
    Entry& next = *cap.waiting.begin()->second;
    cap.waiting.erase(cap.waiting.begin());
    EnterCap(next);
  }
}

void Dispatcher::ReleaseCut(Entry& entry) {
  const CreateSnapshot& work = CreateOf(entry).work;
  LeaveCap(entry);
  if (std::exchange(entry.in_lane, false)) {
    auto it = lanes_.find(work.identity.claim_uid);
    it->second.holder = nullptr;
    if (it->second.waiting.empty()) {
      lanes_.erase(it);
    } else {
      Entry& next = *it->second.waiting.front();
      it->second.waiting.pop_front();
      it->second.holder = &next;
      next.in_lane = true;
      // Where the one before it was not cut, it would take a place of its driver in vain as well.
      const bool waited = CreateOf(entry).order == absl::InfiniteFuture();
      if (!entry.cut && (entry.created || waited)) CreateOf(next).order = absl::InfiniteFuture();
      EnterCap(next);
    }
  }
}

void Dispatcher::OnLost(const std::string& job_id, const absl::Status& why) {
  auto it = entries_.find(job_id);
  if (it == entries_.end()) return;
  Entry& entry = *it->second;
  if (std::holds_alternative<PruneSnapshots>(entry.body)) {
    auto done = std::move(entry.pruned);
    entries_.erase(it);
    return done(why, 0);
  }
  // Not a failure of the job: another executor takes it over at once.
  entry.last_error = WithReason(why, Reason::kNoExecutor);
  metrics_.CountRetry(Reason::kNoExecutor);
  const bool late = !paused_ && loop_.Now() >= CreateOf(entry).start_deadline;
  if (!entry.created && (entry.withdrawn || late)) {
    Failed(entry, entry.last_error);
  } else {
    Enqueue(entry);
  }
}

void Dispatcher::Failed(Entry& entry, const absl::Status& status) {
  Create& create = CreateOf(entry);
  if (entry.withdrawn && !entry.created && absl::IsCancelled(status)) return Finish(entry, status);
  if (!IsRetryable(status) && !(absl::IsCancelled(status) && !entry.withdrawn))
    return Finish(entry, status);
  entry.last_error = status;
  const absl::Duration at_least = RetryAfterOf(status);
  absl::Duration delay = Backoff{}.Delay(++entry.failures, rng_, at_least);
  // A clock that is wrong tells of no deadline.
  const absl::Duration left =
      paused_ ? absl::InfiniteDuration() : create.start_deadline - loop_.Now();
  // It may well be taken before its deadline still.
  if (!entry.created && delay >= left && left >= kLastTry && at_least == absl::ZeroDuration())
    delay = Backoff{left / 4, left / 2}.Delay(1, rng_);
  if (!entry.created && (entry.withdrawn || delay >= left)) {
    // A POST whose reply was lost may have been carried out all the same.
    if (const auto known = find_(create.work)) return TakeUp(entry, *known);
    if (entry.withdrawn) return Finish(entry, absl::CancelledError(status.message()));
    return Finish(entry,
                  WithReason(absl::DeadlineExceededError(fmt::format(
                                 "not asked for before its starting deadline; last cause: {}",
                                 MessageOf(status))),
                             Reason::kDeadlineExceeded));
  }
  metrics_.CountRetry(FailureReasonOf(status));
  log_.Info("retry", {{"job", entry.id},
                      {"policy", create.work.policy},
                      {"instant", create.work.identity.instant},
                      {"claim", create.work.target.claim},
                      {"snapshot", create.work.name},
                      {"attempt", entry.attempt},
                      {"delay", delay},
                      {"error", status}});
  Move(entry, State::kBackoff);
  entry.timer = loop_.After(delay, [this, &entry] {
    const auto known = entry.created ? nullptr : find_(CreateOf(entry).work);
    if (known) return TakeUp(entry, *known);
    if (!entry.created && absl::IsDeadlineExceeded(entry.last_error)) LeaveCap(entry);
    entry.in_cap || entry.created ? Enqueue(entry) : EnterCap(entry);
  });
  // One that is known not to be there takes no place of its driver meanwhile, however long it is
  // refused; but where the server refuses everybody, others are not sent in its stead.
  const bool all_refused = absl::IsResourceExhausted(status) || absl::IsUnauthenticated(status);
  // A POST that ran into its deadline may be carried out until the server's own.
  const bool under_way = absl::IsDeadlineExceeded(status);
  if (!entry.created && !absl::IsUnknown(status) && !all_refused && !under_way) LeaveCap(entry);
}

void Dispatcher::TakeUp(Entry& entry, const Snapshot& known) {
  // Whoever looks at it has its whole time from now on, and tells how old it is.
  MarkCreated(entry, known.meta.uid, server_now_());
  Unlink(entry);
  // It counts against the limits from now on, if it did not before.
  if (entry.in_cap) {
    Enqueue(entry);
  } else {
    entry.in_lane ? EnterCap(entry) : EnterLane(entry);
  }
  ArmDeadline(entry);
}

absl::Time Dispatcher::HoldsUntil(Entry& entry) {
  return entry.created_time + profiles_.Of(CreateOf(entry).work.target.driver).ready_timeout;
}

void Dispatcher::ArmDeadline(Entry& entry) {
  absl::Duration left = CreateOf(entry).start_deadline - loop_.Now();
  if (entry.created) {
    absl::Time due = entry.created_time + CreateOf(entry).work.ready_timeout + kReadyGrace;
    if (entry.in_cap || entry.in_lane) due = std::min(due, HoldsUntil(entry));
    left = due - server_now_();
  }
  const absl::Duration delay = std::clamp(left, absl::Milliseconds(1), kRecheckWallClock);
  entry.deadline = loop_.After(delay, [this, id = entry.id] { OnDeadline(id); });
}

void Dispatcher::OnDeadline(const std::string& id) {
  auto it = entries_.find(id);
  if (it == entries_.end()) return;
  Entry& entry = *it->second;
  Create& create = CreateOf(entry);
  // The clock is wrong, or the server's was for one answer: they tell nobody's age.
  if (paused_ || absl::AbsDuration(server_now_() - loop_.Now()) > kMaxClockOffset) {
    entry.deadline = loop_.After(kRecheckPaused, [this, id] { OnDeadline(id); });
    return;
  }
  if (entry.created) {
    const absl::Time now = server_now_();
    if (now >= HoldsUntil(entry)) ReleaseCut(entry);
    if (now < entry.created_time + create.work.ready_timeout + kReadyGrace)
      return ArmDeadline(entry);
    const auto known = find_(create.work);
    // No executor was there to say it.
    return Finish(entry,
                  NotReadyInTime(create.work.ready_timeout, known && !known->error.empty()
                                                                ? known->error
                                                                : MessageOf(entry.last_error)));
  }
  if (loop_.Now() < create.start_deadline) return ArmDeadline(entry);
  // A sent attempt cannot POST any more (post_before): its answer, or its loss, ends the job,
  // unless the clock is set back meanwhile.
  if (entry.state == State::kSent) {
    entry.deadline = loop_.After(kRecheckWallClock, [this, id] { OnDeadline(id); });
    return;
  }
  Failed(entry, entry.last_error.ok() ? WaitsFor(entry) : entry.last_error);
}

absl::Status Dispatcher::WaitsFor(const Entry& entry) const {
  if (pool_.connected() == 0)
    return WithReason(absl::UnavailableError("no executor is connected"), Reason::kNoExecutor);
  const Target& target = std::get<Create>(entry.body).work.target;
  switch (entry.state) {
    case State::kLane:
      return absl::UnavailableError(fmt::format(
          "another snapshot of PersistentVolumeClaim {}/{} was being taken all the time", target.ns,
          target.claim));
    case State::kCap:
      return absl::UnavailableError(
          fmt::format("{} snapshots of driver {} were being taken all the time, its maxCreating",
                      profiles_.Of(target.driver).max_creating, target.driver));
    default:
      return WithReason(
          absl::UnavailableError("no executor has a free slot: start more, or raise --capacity"),
          Reason::kNoExecutor);
  }
}

void Dispatcher::Withdraw(std::vector<std::string> job_ids) {
  std::erase_if(job_ids, [this](const std::string& id) { return !entries_.contains(id); });
  // What waits ends first: it would be sent in the stead of one that ends before it.
  std::stable_sort(job_ids.begin(), job_ids.end(), [this](const auto& a, const auto& b) {
    return entries_.at(a)->state < entries_.at(b)->state;
  });
  for (const std::string& id : job_ids) {
    auto it = entries_.find(id);
    if (it == entries_.end() || it->second->created) continue;
    Entry& entry = *it->second;
    entry.withdrawn = true;
    if (entry.state == State::kSent) {
      pool_.Cancel(id);
    } else if (std::holds_alternative<Create>(entry.body)) {
      Failed(entry, absl::UnavailableError("withdrawn before it was asked for"));
    }
  }
}

void Dispatcher::GiveUp(const std::string& job_id, absl::Status why) {
  auto it = entries_.find(job_id);
  if (it == entries_.end() || it->second->created || it->second->attempt > 0) return;
  Finish(*it->second, std::move(why));
}

void Dispatcher::Unlink(Entry& entry) {
  switch (entry.state) {
    case State::kLane: {
      auto& waiting = lanes_[CreateOf(entry).work.identity.claim_uid].waiting;
      waiting.erase(std::find(waiting.begin(), waiting.end(), &entry));
      break;
    }
    case State::kCap:
      caps_[CreateOf(entry).work.target.driver].waiting.erase(entry.key);
      break;
    case State::kQueued:
      queue_.erase(entry.key);
      break;
    case State::kSent:
      pool_.Cancel(entry.id);
      break;
    case State::kBackoff:
      entry.timer.Cancel();
      break;
  }
}

void Dispatcher::Finish(Entry& entry, absl::Status status) {
  Create& create = CreateOf(entry);
  Unlink(entry);
  posting_ -= IsPosting(entry);
  auto it = entries_.find(entry.id);
  const std::unique_ptr<Entry> owned = std::move(it->second);
  entries_.erase(it);
  ReleaseCut(*owned);
  create.done(std::move(status));
}

}  // namespace snapkeeper
