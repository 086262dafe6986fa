#include "scheduler/runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/kube/text.h"
#include "common/model/due.h"
#include "common/model/names.h"
#include "common/model/reason.h"
#include "common/model/retention.h"
#include "scheduler/epoch.h"

namespace snapkeeper {
namespace {

// As a delay of a status write: it does not yield to POSTs either.
constexpr absl::Duration kBeforePosts = -absl::InfiniteDuration();
// Claims and snapshots that come and go without a run are in the status this much later.
constexpr absl::Duration kLookAfter = absl::Seconds(10);
constexpr absl::Duration kRecoverSoon = absl::Seconds(1);
// The clocks may be set.
constexpr absl::Duration kHeldAgain = absl::Minutes(1);

// An earlier run of the policy has not concluded this volume, or may not have: which volumes the
// open runs of an earlier leader have is known with the snapshots.
bool Overlaps(const PolicyState& state, absl::Time instant, const std::string& claim_uid) {
  const std::vector<RunRecord>& records = state.policy->status.recent_runs;
  if (!state.recovered &&
      std::any_of(records.begin(), records.end(), [instant](const RunRecord& r) {
        return !r.completion_time && r.instant < instant;
      })) {
    return true;
  }
  return std::any_of(state.open.begin(), state.open.lower_bound(instant),
                     [&claim_uid](const auto& earlier) {
                       auto it = earlier.second.volumes.find(claim_uid);
                       return it != earlier.second.volumes.end() && !it->second.final();
                     });
}

// One of ours of this very volume that is not ready yet. Proving it is dear, and comes last: this
// is asked of all that are kept, at each instant.
bool IsPending(const Snapshot& snapshot, const Target& target) {
  return !snapshot.ready_to_use && !snapshot.meta.deleting &&
         snapshot.claim_uid == target.claim_uid && ProvenIdentity(snapshot);
}

// As the status says.
bool IsProtected(const PolicyState& state) {
  return std::any_of(state.conditions.begin(), state.conditions.end(),
                     [](const Condition& c) { return c.type == kProtected && c.status; });
}

}  // namespace

Runs::Runs(EventLoop& loop, const Caches& caches, Dispatcher& dispatcher,
           const DriverProfiles& profiles, EventRecorder& events, Log& log,
           SchedulerMetrics& metrics, Handlers handlers)
    : loop_(loop),
      caches_(caches),
      dispatcher_(dispatcher),
      profiles_(profiles),
      events_(events),
      log_(log),
      metrics_(metrics),
      handlers_(std::move(handlers)),
      ticker_(loop, [this](const std::string& uid) { OnDue(uid); }) {}

void Runs::Start(int64_t epoch) {
  epoch_ = epoch;
  OnSynced();
}

void Runs::OnSynced() {
  if (epoch_ == 0) return;
  if (!started_ && caches_.ready_to_fire()) {
    started_ = true;
    caches_.policies().ForEach([this](const Policy& policy) {
      Adopt(caches_.policies().Find(policy.meta.ns, policy.meta.name));
    });
  }
  if (started_ && !recovered_ && caches_.synced()) {
    recovered_ = true;
    std::map<std::string, TakenUp> taken_up;
    for (auto& [uid, state] : states_) taken_up[uid] = TakeUpOpen(state);
    for (const auto& [uid, runs] : taken_up) {
      if (auto it = states_.find(uid); it != states_.end()) CompleteOpen(it->second, runs);
    }
  }
}

void Runs::OnEpochConfirmed() {
  for (const auto& [ns, name] : std::exchange(outranked_, {})) {
    const auto policy = caches_.policies().Find(ns, name);
    if (!policy) continue;
    log_.Warning("status claims an epoch that is none",
                 {{"policy", ns + "/" + name}, {"epoch", policy->status.epoch}});
    refuted_ = EpochOf(policy->status);
    const auto it = states_.find(policy->meta.uid);
    PolicyChanged(it == states_.end() ? nullptr : it->second.policy, policy);
    handlers_.dirty(policy->meta.uid, absl::ZeroDuration());
  }
}

void Runs::SetPaused(bool paused) {
  if (!std::exchange(paused_, paused) || paused) return;
  std::vector<std::pair<std::string, absl::Time>> open;
  for (const auto& [uid, state] : states_) {
    for (const auto& [instant, run] : state.open) open.emplace_back(uid, instant);
  }
  // What ended meanwhile.
  for (const auto& [uid, instant] : open) {
    if (const auto [state, run] = FindOpen(uid, instant); run) CheckRun(*state, instant);
  }
  std::vector<BlockedKey> waiting;
  for (const auto& [key, blocked] : blocked_) waiting.push_back(key);
  for (const BlockedKey& key : waiting) {
    const auto& [uid, claim_uid, instant] = key;
    const auto [state, run] = FindOpen(uid, instant);
    const auto blocked = blocked_.find(key);
    if (!run || blocked == blocked_.end()) continue;
    blocked->second.deadline =
        loop_.After(run->start_deadline - loop_.Now(), [this, key] { OnOverlap(key); });
    Unblock(*state, claim_uid);
  }
  for (auto& [uid, state] : states_) {
    if (!state.gone && ScheduleHash(state.policy->spec) != state.schedule_hash) {
      Compile(state);
      handlers_.dirty(uid, kBeforePosts);
    }
    Fire(state);
  }
}

// ---- policies

void Runs::PolicyChanged(const std::shared_ptr<const Policy>& before,
                         const std::shared_ptr<const Policy>& after) {
  if (!started_) return;
  if (before && (!after || after->meta.uid != before->meta.uid || after->meta.deleting)) {
    if (auto it = states_.find(before->meta.uid); it != states_.end() && !it->second.gone) {
      it->second.gone = true;
      ticker_.Set(before->meta.uid, absl::InfiniteFuture());
      WithdrawAll(it->second);
      Forget(before->meta.uid);
    }
    handlers_.series_changed(before->meta.uid);
  }
  if (!after || after->meta.deleting) return;
  auto it = states_.find(after->meta.uid);
  if (it == states_.end()) return Adopt(after);
  PolicyState& state = it->second;
  if (Outranked(*after)) return;
  // Not our own write coming by.
  if (EpochOf(after->status) != epoch_ && !(before && before->status == after->status))
    Absorb(*after);
  // A list may have left it out while its last runs were open.
  const bool back = std::exchange(state.gone, false);
  const bool edited = back || after->meta.generation != state.policy->meta.generation;
  state.policy = after;
  if (!edited) return;
  Compile(state);
  if (after->spec.suspend) WithdrawAll(state);
  Fire(state);
  if (back && recovered_) Recover(state);
  handlers_.series_changed(after->meta.uid);
  // Until the edit is in the status, the next leader would take it for one that just happened.
  handlers_.dirty(after->meta.uid, kBeforePosts);
}

void Runs::Compile(PolicyState& state) {
  const PolicySpec& spec = state.policy->spec;
  absl::StatusOr<CompiledSchedule> schedule = CompileSchedule(spec);
  state.schedule.reset();
  state.schedule_error.clear();
  if (schedule.ok()) {
    state.schedule = *std::move(schedule);
  } else {
    state.schedule_error = MessageOf(schedule.status());
    Warn(state, "InvalidSchedule", state.schedule_error);
  }
  const std::string hash = ScheduleHash(spec);
  const bool clock_ok = handlers_.clock_ok();
  if (hash == state.schedule_hash) return;
  if (!state.schedule_hash.empty()) {
    // Since when it is so can be said once the clock is right (SetPaused); until then the record
    // does not know it, even if it is as before by then.
    if (!clock_ok) {
      state.schedule_hash = kUnknownSchedule;
      return;
    }
    state.schedule_since = loop_.Now();
    state.fired_up_to = std::max(state.fired_up_to, loop_.Now());
  }
  state.schedule_hash = hash;
}

const PolicyState* Runs::Find(const std::string& policy_uid) const {
  auto it = states_.find(policy_uid);
  return it == states_.end() ? nullptr : &it->second;
}

void Runs::TrimHistory(PolicyState& state) {
  // The oldest go, and what is not written yet stays beyond the limit until it is: ForgottenUpTo
  // relies on it. But where no status is taken for long, the oldest outcomes stay in log and events
  // only.
  ptrdiff_t over = std::ssize(state.history) - state.policy->spec.run_history_limit;
  for (auto it = state.history.begin(); it != state.history.end(); --over) {
    // One that settled after newer ones had gone goes too: the record has no holes.
    const bool too_many = over > 0 && (it->second.written || over > kMaxUnwritten);
    const bool before_hole = it->second.written && it->first < state.trimmed_up_to;
    if (too_many) state.trimmed_up_to = std::max(state.trimmed_up_to, it->first);
    it = too_many || before_hole ? state.history.erase(it) : std::next(it);
  }
}

void Runs::Written(const std::string& policy_uid, const PolicyStatus& status) {
  auto it = states_.find(policy_uid);
  if (it == states_.end()) return;
  bool news = false;
  for (const RunRecord& record : status.recent_runs) {
    if (auto run = it->second.history.find(record.instant);
        run != it->second.history.end() && record.completion_time) {
      news |= !std::exchange(run->second.written, true);
    }
  }
  TrimHistory(it->second);
  if (news) handlers_.series_changed(policy_uid);
}

void Runs::Forget(const std::string& policy_uid) {
  auto it = states_.find(policy_uid);
  if (it != states_.end() && it->second.gone && it->second.open.empty()) states_.erase(it);
}

// ---- firing

void Runs::OnDue(const std::string& policy_uid) {
  if (auto it = states_.find(policy_uid); it != states_.end()) Fire(it->second);
}

absl::Time Runs::StartDeadline(const PolicyState& state, absl::Time instant) const {
  return StartingDeadline(state.schedule->cron, state.schedule->zone, instant,
                          state.policy->spec.starting_deadline);
}

void Runs::Fire(PolicyState& state) {
  if (state.gone || paused_ || stopped_ || !started_) return;
  // Edited since an earlier leader wrote: which instants were begun before that only the snapshots
  // tell.
  if (!state.recovered && state.adopted_generation != state.policy->meta.generation) return;
  if (!state.schedule || state.policy->spec.suspend) {
    state.next = absl::InfiniteFuture();
    ticker_.Set(state.policy->meta.uid, state.next);
    return;
  }
  if (!handlers_.clock_ok()) return;
  const PolicySpec& spec = state.policy->spec;
  const Due due = DueFires({.schedule = &state.schedule->cron,
                            .zone = state.schedule->zone,
                            .since = state.fired_up_to,
                            .now = loop_.Now(),
                            .starting_deadline = spec.starting_deadline,
                            .run_latest = spec.run_latest});
  if (due.since_ahead)
    Warn(state, "WatermarkInFuture",
         fmt::format(
             "{}, up to which instants are accounted for, is in the future: it is not obeyed",
             FormatInstant(state.fired_up_to)));
  state.fired_up_to = due.up_to;
  state.next = due.next;
  ticker_.Set(state.policy->meta.uid, state.next);
  if (!due.missed.empty()) {
    state.unjudged.insert(state.unjudged.end(), due.missed.begin(), due.missed.end());
    state.unjudged_too_many |= due.too_many;
  }
  if (due.run) StartRun(state, *due.run);
  if (state.recovered) JudgeMissed(state);
}

void Runs::StartRun(PolicyState& state, absl::Time instant) {
  metrics_.ObserveSkew(loop_.Now() - instant);
  // Where clocks were set back, an instant comes again.
  if (state.open.contains(instant)) return;
  state.missed_runs -= static_cast<int64_t>(state.missed.erase(instant));
  if (state.open.size() >= kMaxOpenRuns) {
    return RecordSkipped(state, instant, Reason::kTooManyOpen,
                         fmt::format("{} earlier runs have not settled yet", state.open.size()));
  }
  state.history.erase(instant);
  Run& run = state.open[instant];
  run.instant = instant;
  run.generation = state.policy->meta.generation;
  run.start_time = loop_.Now();
  run.start_deadline = StartDeadline(state, instant);
  run.timer = loop_.After(
      kPostingSoon, [this, uid = state.policy->meta.uid] { handlers_.dirty(uid, kBeforePosts); });
  TakeUpSnapshots(state, run);
  SelectInto(state, run);
  log_.Info("run", {{"policy", state.policy->meta.ns + "/" + state.policy->meta.name},
                    {"instant", FormatInstant(instant)},
                    {"volumes", run.volumes.size()}});
  CheckRun(state, instant);
}

std::vector<const Claim*> Runs::SelectedAt(const PolicyState& state, absl::Time instant) const {
  std::vector<const Claim*> claims;
  caches_.claims().ForEachIn(state.policy->meta.ns,
                             [&claims](const Claim& claim) { claims.push_back(&claim); });
  return SelectVolumes(*state.policy, instant, claims);
}

void Runs::SelectInto(PolicyState& state, Run& run) {
  const Policy& policy = *state.policy;
  // Those that were protected longest ago go first: the dispatcher sends at once what it can.
  std::vector<std::pair<absl::Time, const Claim*>> selected;
  for (const Claim* claim : SelectedAt(state, run.instant)) {
    if (!run.volumes.contains(claim->meta.uid))
      selected.emplace_back(caches_.NewestReadyCut(*claim, loop_.Now()), claim);
  }
  std::stable_sort(selected.begin(), selected.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  const std::vector<const SnapshotClass*> classes = caches_.Classes();
  const auto ns = caches_.namespaces().Find("", policy.meta.ns);
  for (const auto& [newest_cut, claim] : selected) {
    const Identity identity{policy.meta.uid, FormatInstant(run.instant), claim->meta.uid};
    RunVolume& volume = run.volumes[claim->meta.uid];
    volume.claim = claim->meta.name;
    volume.claim_uid = claim->meta.uid;
    volume.snapshot = SnapshotName(identity, claim->meta.name);
    const auto pv = caches_.volumes().Find("", claim->volume_name);
    absl::StatusOr<Target> target = Preflight(policy, *claim, pv.get(), ns.get(), classes);
    if (target.ok()) {
      AskOrBlock(state, run, volume, *std::move(target));
    } else {
      if (pv) volume.driver = pv->driver;
      Conclude(state, run, volume, Outcome::kFailed, FailureReasonOf(target.status()),
               MessageOf(target.status()));
    }
  }
}

void Runs::TakeUpSnapshots(PolicyState& state, Run& run) {
  for (const auto& snapshot : TakenAt(state, run.instant)) {
    run.start_time = std::min(run.start_time, snapshot->meta.created);
    RunVolume& volume = run.volumes[snapshot->claim_uid];
    if (!volume.job_id.empty() || volume.final()) continue;
    blocked_.erase({state.policy->meta.uid, snapshot->claim_uid, run.instant});
    volume.claim = snapshot->source_claim;
    volume.claim_uid = snapshot->claim_uid;
    volume.snapshot = snapshot->meta.name;
    volume.snapshot_uid = snapshot->meta.uid;
    volume.posted = true;
    volume.driver = caches_.DriverOf(*snapshot);
    if (snapshot->meta.deleting) {
      Conclude(state, run, volume, Outcome::kFailed, Reason::kDeleted,
               "the snapshot is being deleted");
    } else if (caches_.IsReady(*snapshot)) {
      Conclude(state, run, volume, Outcome::kSucceeded, Reason::kNone, "");
    } else {
      Target target{.ns = snapshot->meta.ns,
                    .claim = snapshot->source_claim,
                    .claim_uid = snapshot->claim_uid,
                    .snapshot_class = snapshot->class_name,
                    .driver = volume.driver,
                    .volume_handle = snapshot->volume_handle};
      Ask(state, run, volume, target, snapshot->meta.uid);
    }
  }
}

absl::Duration Runs::HeldFor(const PolicyState& state, absl::Time instant,
                             const Target& target) const {
  if (paused_ || Overlaps(state, instant, target.claim_uid)) return absl::InfiniteDuration();
  const Policy& policy = *state.policy;
  absl::Time until = absl::InfinitePast();
  // Of a run that had failed without it, and saw it only then.
  for (const auto& snapshot : caches_.OfClaim(policy.meta.ns, target.claim)) {
    if (snapshot->policy_uid != policy.meta.uid || !IsPending(*snapshot, target)) continue;
    if (const auto taken = ParseInstant(snapshot->instant); taken && *taken < instant)
      until = std::max(until, snapshot->meta.created + ReadyTimeout(policy, target));
  }
  return until - handlers_.server_now();
}

bool Runs::IsStuck(const Policy& policy, const Target& target) const {
  const auto snapshots = caches_.OfClaim(target.ns, target.claim);
  return std::any_of(snapshots.begin(), snapshots.end(), [&](const auto& snapshot) {
    return !snapshot->cut_time && IsPending(*snapshot, target) &&
           snapshot->meta.created + ReadyTimeout(policy, target) <= handlers_.server_now();
  });
}

absl::Duration Runs::ReadyTimeout(const Policy& policy, const Target& target) const {
  return policy.spec.ready_timeout.value_or(profiles_.Of(target.driver).ready_timeout);
}

void Runs::AskOrBlock(PolicyState& state, Run& run, RunVolume& volume, Target target) {
  volume.driver = target.driver;
  if (HeldFor(state, run.instant, target) <= absl::ZeroDuration())
    return Ask(state, run, volume, target, "");
  const BlockedKey key(state.policy->meta.uid, volume.claim_uid, run.instant);
  blocked_.insert_or_assign(key, Blocked{.target = std::move(target),
                                         .deadline = loop_.After(run.start_deadline - loop_.Now(),
                                                                 [this, key] { OnOverlap(key); })});
  Unblock(state, volume.claim_uid);  // when the time has come
}

void Runs::OnOverlap(const BlockedKey& key) {
  const auto& [policy_uid, claim_uid, instant] = key;
  const auto [state, run] = FindOpen(policy_uid, instant);
  if (paused_) return;  // SetPaused arms it again
  if (state && !state->recovered) {
    // What it waits for, and whether it exists, is not known yet.
    blocked_.at(key).deadline = loop_.After(kRecoverSoon, [this, key] { OnOverlap(key); });
    return;
  }
  blocked_.erase(key);
  RunVolume* const volume = run ? run->Find(claim_uid) : nullptr;
  if (!volume || volume->final()) return;
  Conclude(*state, *run, *volume, Outcome::kSkipped, Reason::kOverlap,
           "an earlier snapshot of the volume was still under way at the starting deadline");
  CheckRun(*state, instant);
}

void Runs::Unblock(PolicyState& state, const std::string& claim_uid) {
  // The oldest one that waits for this volume; the next waits for it in turn.
  const std::string& uid = state.policy->meta.uid;
  const auto oldest = blocked_.lower_bound({uid, claim_uid, absl::InfinitePast()});
  if (oldest == blocked_.end() || std::get<0>(oldest->first) != uid ||
      std::get<1>(oldest->first) != claim_uid) {
    return;
  }
  const absl::Time instant = std::get<2>(oldest->first);
  Blocked& blocked = oldest->second;
  const absl::Duration held = HeldFor(state, instant, blocked.target);
  if (held > absl::ZeroDuration()) {
    blocked.again = held == absl::InfiniteDuration()
                        ? Timer()
                        : loop_.After(std::min(held, kHeldAgain), [this, uid, claim_uid] {
                            if (auto it = states_.find(uid); it != states_.end())
                              Unblock(it->second, claim_uid);
                          });
    return;
  }
  const Blocked owned = std::move(blocked);
  blocked_.erase(oldest);
  const auto run = state.open.find(instant);
  RunVolume* const volume = run == state.open.end() ? nullptr : run->second.Find(claim_uid);
  if (!volume || volume->final()) return Unblock(state, claim_uid);
  Ask(state, run->second, *volume, owned.target, "");
}

void Runs::Ask(PolicyState& state, Run& run, RunVolume& volume, const Target& target,
               const std::string& known_uid) {
  const Policy& policy = *state.policy;
  volume.driver = target.driver;
  Dispatcher::Create create;
  create.work = {.identity = {policy.meta.uid, FormatInstant(run.instant), volume.claim_uid},
                 .name = volume.snapshot,
                 .policy = policy.meta.ns + "/" + policy.meta.name,
                 .run = fmt::format("namespaces/{}/policies/{}/runs/{}", policy.meta.ns,
                                    policy.meta.name, FormatInstant(run.instant)),
                 .target = target,
                 .ready_timeout = ReadyTimeout(policy, target),
                 .known_uid = known_uid};
  create.start_deadline = run.start_deadline;
  create.order =
      IsStuck(policy, target)
          ? absl::InfiniteFuture()
          : caches_.NewestReadyCut(target.ns, target.claim, target.volume_handle, loop_.Now());
  create.progress = [this, uid = policy.meta.uid, instant = run.instant, claim = volume.claim_uid](
                        const JobEvent& event) { OnProgress(uid, instant, claim, event); };
  create.done = [this, uid = policy.meta.uid, instant = run.instant, claim = volume.claim_uid](
                    const absl::Status& status) { OnDone(uid, instant, claim, status); };
  volume.job_id = dispatcher_.Submit(std::move(create));
}

std::pair<PolicyState*, Run*> Runs::FindOpen(const std::string& policy_uid, absl::Time instant) {
  auto state = states_.find(policy_uid);
  if (state == states_.end()) return {nullptr, nullptr};
  auto run = state->second.open.find(instant);
  if (run == state->second.open.end()) return {nullptr, nullptr};
  return {&state->second, &run->second};
}

void Runs::OnProgress(const std::string& policy_uid, absl::Time instant,
                      const std::string& claim_uid, const JobEvent& event) {
  const auto [state, run] = FindOpen(policy_uid, instant);
  RunVolume* const asked = run ? run->Find(claim_uid) : nullptr;
  if (!asked) return;  // another leader has settled it
  RunVolume& volume = *asked;
  volume.snapshot_uid = event.snapshot_uid;
  volume.posted = true;
  CheckRun(*state, instant);
}

void Runs::OnDone(const std::string& policy_uid, absl::Time instant, const std::string& claim_uid,
                  const absl::Status& status) {
  const auto [state, run] = FindOpen(policy_uid, instant);
  RunVolume* const asked = run ? run->Find(claim_uid) : nullptr;
  if (!asked) return;  // another leader has settled it
  RunVolume& volume = *asked;
  volume.job_id.clear();
  if (status.ok()) {
    Conclude(*state, *run, volume, Outcome::kSucceeded, Reason::kNone, "");
  } else if (absl::IsCancelled(status)) {
    Conclude(*state, *run, volume, Outcome::kCancelled, Reason::kNone, MessageOf(status));
  } else {
    Conclude(*state, *run, volume, Outcome::kFailed, FailureReasonOf(status), MessageOf(status));
    // What became ready while the verdict was on its way changes no more.
    if (const auto known = caches_.snapshots().Find(state->policy->meta.ns, volume.snapshot);
        known && ProvenIdentity(*known)) {
      AmendLate(*state, instant, *known);
    }
  }
  CheckRun(*state, instant);
}

void Runs::Conclude(PolicyState& state, Run& run, RunVolume& volume, Outcome outcome, Reason reason,
                    const std::string& message) {
  volume.outcome = outcome;
  volume.reason = reason;
  volume.message = Truncate(message, kMaxMessage);
  TellOutcome(state, run, volume);
  if ((outcome == Outcome::kFailed || outcome == Outcome::kSkipped) && !state.gone) {
    // Without the instant: what fails the same way again is told once (EventRecorder).
    Warn(state, ToString(reason), fmt::format("{}: {}", volume.claim, volume.message));
  }
  Unblock(state, volume.claim_uid);
}

void Runs::TellOutcome(const PolicyState& state, const Run& run, const RunVolume& volume) {
  metrics_.CountOutcome(volume.driver, volume.outcome, volume.reason);
  const std::string policy = state.policy->meta.ns + "/" + state.policy->meta.name;
  const auto fields = {LogField{"policy", policy},
                       LogField{"instant", FormatInstant(run.instant)},
                       LogField{"claim", volume.claim},
                       LogField{"snapshot", volume.snapshot},
                       LogField{"uid", volume.snapshot_uid},
                       LogField{"outcome", ToString(volume.outcome)},
                       LogField{"reason", ToString(volume.reason)},
                       LogField{"message", volume.message}};
  if (volume.outcome == Outcome::kFailed) {
    log_.Warning("outcome", fields);
  } else {
    log_.Info("outcome", fields);
  }
}

void Runs::CheckRun(PolicyState& state, absl::Time instant) {
  auto it = state.open.find(instant);
  if (it == state.open.end() || paused_) return;  // SetPaused looks again
  Run& run = it->second;
  const std::string uid = state.policy->meta.uid;
  const bool closed = loop_.Elapsed() >= run.open_until;  // no volume comes into it any more
  if (!run.posted_time && run.AllPosted() && closed) {
    run.posted_time = loop_.Now();
    if (run.open_until == -absl::InfiniteDuration()) run.timer.Cancel();
    // The watermark passes a run only when all before it were posted too.
    for (const auto& [when, earlier] : state.open) {
      if (!earlier.posted_time) break;
      state.watermark = std::max(state.watermark.value_or(absl::InfinitePast()), when);
    }
    if (!run.AllFinal()) handlers_.dirty(uid, kSettleSoon);
    if (state.recovered) JudgeMissed(state);
  }
  if (!run.posted_time || !run.AllFinal()) return;
  run.completion_time = loop_.Now();
  const RunRecord record = ToRecord(run);
  if (record.state == RunState::kSucceeded) state.last_successful = run.completion_time;
  log_.Info("run settled", {{"policy", state.policy->meta.ns + "/" + state.policy->meta.name},
                            {"instant", FormatInstant(instant)},
                            {"state", ToString(record.state)},
                            {"selected", record.counts.selected},
                            {"succeeded", record.counts.succeeded},
                            {"failed", record.counts.failed}});
  state.history[instant] = std::move(run);
  state.open.erase(it);
  TrimHistory(state);
  handlers_.dirty(uid, absl::ZeroDuration());
  handlers_.series_changed(uid);
  Forget(uid);
}

void Runs::WithdrawAll(PolicyState& state) {
  std::vector<std::string> jobs;
  for (const auto& [instant, run] : state.open) {
    for (const auto& [claim, volume] : run.volumes) {
      if (!volume.job_id.empty() && !volume.posted) jobs.push_back(volume.job_id);
    }
  }
  ConcludeBlocked(state, "", Outcome::kCancelled, Reason::kNone, kEndedBefore);
  dispatcher_.Withdraw(std::move(jobs));
}

std::vector<Runs::BlockedKey> Runs::BlockedOf(const PolicyState& state,
                                              const std::string& claim_uid) const {
  const std::string& uid = state.policy->meta.uid;
  std::vector<BlockedKey> keys;
  for (auto it = blocked_.lower_bound({uid, claim_uid, absl::InfinitePast()});
       it != blocked_.end() && std::get<0>(it->first) == uid &&
       (claim_uid.empty() || std::get<1>(it->first) == claim_uid);
       ++it) {
    keys.push_back(it->first);
  }
  return keys;
}

void Runs::ConcludeBlocked(PolicyState& state, const std::string& claim_uid, Outcome outcome,
                           Reason reason, const std::string& message) {
  const std::vector<BlockedKey> keys = BlockedOf(state, claim_uid);
  for (const BlockedKey& key : keys) blocked_.erase(key);  // the end of one asks for no other
  for (const BlockedKey& key : keys) {
    const auto& [policy_uid, blocked_claim, instant] = key;
    const auto run = state.open.find(instant);
    RunVolume* const volume = run == state.open.end() ? nullptr : run->second.Find(blocked_claim);
    if (!volume) continue;
    Conclude(state, run->second, *volume, outcome, reason, message);
    CheckRun(state, instant);
  }
}

void Runs::ForEachIn(const std::string& ns, absl::FunctionRef<void(PolicyState&)> f) {
  caches_.policies().ForEachIn(ns, [&](const Policy& policy) {
    const auto it = states_.find(policy.meta.uid);
    if (it != states_.end() && !it->second.gone) f(it->second);
  });
}

void Runs::ClaimChanged(const std::shared_ptr<const Claim>& before,
                        const std::shared_ptr<const Claim>& after) {
  const auto selects = [](const PolicyState& state, const std::shared_ptr<const Claim>& claim) {
    return claim && Selects(*state.policy, *claim);
  };
  const bool replaced = before && after && before->meta.uid != after->meta.uid;
  ForEachIn((before ? before : after)->meta.ns, [&](PolicyState& state) {
    if (selects(state, before) != selects(state, after) || (replaced && selects(state, after)))
      LookAgain(state);
  });
  ClaimFreed(before, after);
  if (!before || (after && after->meta.uid == before->meta.uid)) return;
  const Reason reason = after ? Reason::kClaimReplaced : Reason::kClaimNotFound;
  const std::string message =
      fmt::format("PersistentVolumeClaim {}/{} was {} before its snapshot was asked for",
                  before->meta.ns, before->meta.name, after ? "replaced" : "deleted");
  std::vector<std::string> jobs;
  ForEachIn(before->meta.ns, [&](PolicyState& state) {
    ConcludeBlocked(state, before->meta.uid, Outcome::kFailed, reason, message);
    for (const auto& [instant, run] : state.open) {
      auto volume = run.volumes.find(before->meta.uid);
      if (volume != run.volumes.end() && !volume->second.job_id.empty())
        jobs.push_back(volume->second.job_id);
    }
  });
  for (const std::string& job : jobs)
    dispatcher_.GiveUp(job, WithReason(absl::FailedPreconditionError(message), reason));
}

void Runs::ClaimFreed(const std::shared_ptr<const Claim>& before,
                      const std::shared_ptr<const Claim>& after) {
  if (!before || !recovered_) return;
  const bool gone = !after || after->meta.uid != before->meta.uid;
  std::vector<Caches::SnapshotPtr> freed;
  if (gone) freed = caches_.OfClaim(before->meta.ns, before->meta.name);
  if (!before->data_source_snapshot.empty() && (gone || after->phase != before->phase))
    freed.push_back(caches_.snapshots().Find(before->meta.ns, before->data_source_snapshot));
  for (const auto& snapshot : freed) {
    if (snapshot && !snapshot->policy_uid.empty()) handlers_.series_changed(snapshot->policy_uid);
  }
}

std::vector<Caches::SnapshotPtr> Runs::TakenAt(const PolicyState& state, absl::Time instant) const {
  const ObjectMeta& policy = state.policy->meta;
  auto taken = caches_.OfRun(policy.uid, FormatInstant(instant));
  std::erase_if(taken, [&](const auto& snapshot) { return snapshot->meta.ns != policy.ns; });
  return taken;
}

std::vector<std::pair<absl::Time, Caches::SnapshotPtr>> Runs::Taken(
    const PolicyState& state) const {
  std::vector<std::pair<absl::Time, Caches::SnapshotPtr>> taken;
  for (auto& snapshot : caches_.OfPolicy(state.policy->meta.uid)) {
    const auto instant = ParseInstant(snapshot->instant);
    if (instant && snapshot->meta.ns == state.policy->meta.ns)
      taken.emplace_back(*instant, std::move(snapshot));
  }
  return taken;
}

void Runs::RecordSkipped(PolicyState& state, absl::Time instant, Reason reason,
                         const std::string& message) {
  Run run{.instant = instant,
          .generation = state.policy->meta.generation,
          .start_time = loop_.Now(),
          .posted_time = loop_.Now(),
          .completion_time = loop_.Now()};
  for (const Claim* claim : SelectedAt(state, instant)) {
    RunVolume& volume = run.volumes[claim->meta.uid];
    volume.claim = claim->meta.name;
    volume.claim_uid = claim->meta.uid;
    volume.outcome = Outcome::kSkipped;
    volume.reason = reason;
    volume.message = message;
    TellOutcome(state, run, volume);
  }
  Warn(state, ToString(reason), message);
  state.history[instant] = std::move(run);
  TrimHistory(state);
  handlers_.dirty(state.policy->meta.uid, absl::ZeroDuration());
}

// ---- the record

std::optional<PolicyStatus> Runs::Status(const std::string& policy_uid) {
  auto it = states_.find(policy_uid);
  if (it == states_.end() || it->second.gone || !it->second.recovered) return std::nullopt;
  PolicyState& state = it->second;
  if (outranked_.contains({state.policy->meta.ns, state.policy->meta.name})) return std::nullopt;
  const ConditionFacts facts = FactsOf(state);
  state.selected_volumes = facts.selected;
  state.conditions = Conditions(facts, state.conditions, loop_.Now());
  PolicyStatus status{.observed_generation = state.policy->meta.generation,
                      .last_schedule_time = state.watermark,
                      .schedule_hash = state.schedule_hash,
                      .schedule_since = state.schedule_since,
                      .epoch = epoch_,
                      .last_successful_time = state.last_successful,
                      .selected_volumes = facts.selected,
                      .missed_runs = std::max<int64_t>(0, state.missed_runs),
                      .conditions = state.conditions};
  if (state.next != absl::InfiniteFuture()) status.next_schedule_time = state.next;
  for (const auto& [instant, snapshot] : Taken(state))
    status.ready_snapshots += caches_.IsReady(*snapshot);
  for (const auto* runs : {&state.open, &state.history}) {
    for (const auto& [instant, run] : *runs) status.recent_runs.push_back(ToRecord(run));
  }
  std::sort(status.recent_runs.begin(), status.recent_runs.end(),
            [](const RunRecord& a, const RunRecord& b) { return a.instant > b.instant; });
  if (status.recent_runs.size() > kMaxRecords) status.recent_runs.resize(kMaxRecords);
  FitFailures(status.recent_runs);
  return status;
}

ConditionFacts Runs::FactsOf(const PolicyState& state) const {
  ConditionFacts facts{.generation = state.policy->meta.generation,
                       .suspended = state.policy->spec.suspend,
                       .schedule_error = state.schedule_error};
  caches_.claims().ForEachIn(state.policy->meta.ns, [&](const Claim& claim) {
    if (!Selects(*state.policy, claim)) return;
    ++facts.selected;
    if (caches_.NewestReadyCut(claim, loop_.Now()) != absl::InfinitePast()) return;
    if (++facts.unprotected == 1) facts.first_unprotected = claim.meta.name;
  });
  return facts;
}

void Runs::LookAgain(PolicyState& state) {
  if (state.look.active()) return;
  state.look = loop_.After(kLookAfter, [this, uid = state.policy->meta.uid] {
    auto it = states_.find(uid);
    if (it == states_.end() || it->second.gone) return;
    const ConditionFacts facts = FactsOf(it->second);
    const std::vector<Condition> fresh = Conditions(facts, {}, loop_.Now());
    const bool same =
        std::equal(fresh.begin(), fresh.end(), it->second.conditions.begin(),
                   it->second.conditions.end(), [](const Condition& a, const Condition& b) {
                     return a.type == b.type && a.status == b.status && a.reason == b.reason &&
                            a.message == b.message;
                   });
    if (!same || facts.selected != it->second.selected_volumes)
      handlers_.dirty(uid, absl::ZeroDuration());
  });
}

void Runs::ProtectionChanged(const std::shared_ptr<const Snapshot>& before,
                             const std::shared_ptr<const Snapshot>& after) {
  const bool ready = after && caches_.IsReady(*after);
  if (!ready && !(before && before->ready_to_use)) return;  // on its way
  const Snapshot& any = after ? *after : *before;
  const auto claim = caches_.claims().Find(any.meta.ns, any.source_claim);
  if (!claim) return;
  const bool is_protected = caches_.NewestReadyCut(*claim, loop_.Now()) != absl::InfinitePast();
  ForEachIn(claim->meta.ns, [&](PolicyState& state) {
    if (Selects(*state.policy, *claim) && IsProtected(state) != is_protected) LookAgain(state);
  });
}

std::optional<absl::Time> Runs::PostedAt(const std::string& policy_uid,
                                         const std::string& instant_text) const {
  const auto instant = ParseInstant(instant_text);
  auto it = states_.find(policy_uid);
  if (!instant) return std::nullopt;
  // The policy is gone, and its record with it.
  if (it == states_.end() || it->second.gone) return absl::InfinitePast();
  const PolicyState& state = it->second;
  if (!state.recovered || state.open.contains(*instant)) return std::nullopt;
  if (auto settled = state.history.find(*instant); settled != state.history.end())
    return settled->second.written ? settled->second.posted_time : std::nullopt;
  // Older than the history: whoever wrote the watermark past it had posted it.
  const std::optional<absl::Time>& written = state.policy->status.last_schedule_time;
  if (written && *instant <= *written) return absl::InfinitePast();
  return std::nullopt;
}

bool Runs::Unsettled(const std::string& policy_uid) const {
  const PolicyState* state = Find(policy_uid);
  if (!state) return false;
  return std::any_of(state->open.begin(), state->open.end(), [now = loop_.Now()](const auto& run) {
    return now - run.second.start_time < kSettleSoon;
  });
}

void Runs::Warn(const PolicyState& state, std::string_view reason, const std::string& message) {
  events_.Record(Kind::kPolicy, state.policy->meta, EventType::kWarning, reason, message);
}

}  // namespace snapkeeper
