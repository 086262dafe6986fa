// The part of Runs that takes up what earlier leaders left, what nobody did, and what came late.

#include <absl/time/time.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/model/due.h"
#include "common/model/names.h"
#include "common/model/reason.h"
#include "scheduler/epoch.h"
#include "scheduler/runs.h"

namespace snapkeeper {
namespace {

constexpr size_t kMaxMissedKept = 1000;

// Every instant up to here has its record in this status, or had it, or is one of its missedRuns:
// an entry and everything before it were accounted for in the write that made it.
absl::Time AccountedUpTo(const PolicyStatus& status) {
  absl::Time up_to = status.last_schedule_time.value_or(absl::InfinitePast());
  for (const RunRecord& record : status.recent_runs) up_to = std::max(up_to, record.instant);
  return up_to;
}

// Runs of instants up to here may have been dropped from the record; a later one that is not in it
// was never recorded.
absl::Time ForgottenUpTo(std::vector<absl::Time> settled, const PolicySpec& spec) {
  if (settled.empty()) return absl::InfinitePast();
  std::sort(settled.begin(), settled.end(), std::greater<>());
  return settled[std::min(settled.size(), static_cast<size_t>(spec.run_history_limit)) - 1];
}

absl::Time ForgottenUpTo(const PolicyStatus& status, const PolicySpec& spec) {
  std::vector<absl::Time> settled;
  for (const RunRecord& record : status.recent_runs) {
    if (record.completion_time) settled.push_back(record.instant);
  }
  return ForgottenUpTo(std::move(settled), spec);
}

absl::Time ForgottenUpTo(const PolicyState& state) {
  std::vector<absl::Time> settled;
  for (const auto& [instant, run] : state.history) settled.push_back(instant);
  return std::max(state.trimmed_up_to, ForgottenUpTo(std::move(settled), state.policy->spec));
}

// As many as there are of those that got no snapshot, at most `count`. How many it took.
int TakeFromBad(RunCounts& counts, int count) {
  int taken = 0;
  for (int* bad : {&counts.failed, &counts.skipped, &counts.cancelled}) {
    const int some = std::clamp(count - taken, 0, *bad);
    *bad -= some;
    taken += some;
  }
  return taken;
}

}  // namespace

bool Runs::Outranked(const Policy& policy) {
  const int64_t epoch = EpochOf(policy.status);
  if (epoch <= epoch_ || epoch == refuted_) return false;
  if (outranked_.insert({policy.meta.ns, policy.meta.name}).second) handlers_.outranked();
  return true;
}

void Runs::Adopt(const std::shared_ptr<const Policy>& policy) {
  if (policy->meta.deleting || Outranked(*policy)) return;
  PolicyState& state = states_[policy->meta.uid];
  state.policy = policy;
  const PolicyStatus& status = policy->status;
  state.watermark = status.last_schedule_time;
  state.schedule_since = status.schedule_since;
  state.schedule_hash = status.schedule_hash;
  state.last_successful = status.last_successful_time;
  state.missed_runs = status.missed_runs;
  state.conditions = status.conditions;
  state.selected_volumes = status.selected_volumes;
  TakeOverSettled(state, status);
  // Nobody has edited the first one.
  state.adopted_generation = policy->meta.generation == 1 ? 1 : status.observed_generation;
  state.adopted_up_to = std::max(policy->meta.created, AccountedUpTo(status));
  // Edited before anyone saw it, or more than once since: it may have been suspended, or another
  // schedule's, for a while. Its past is not fired.
  if (policy->meta.generation - 1 > status.observed_generation)
    state.schedule_hash = kUnknownSchedule;
  state.fired_up_to =
      std::max(state.adopted_up_to, state.schedule_since.value_or(absl::InfinitePast()));
  Compile(state);
  Fire(state);
  if (recovered_) Recover(state);
}

std::set<absl::Time> Runs::InstantsWithSnapshots(const PolicyState& state) const {
  std::set<absl::Time> instants;
  for (const auto& [instant, snapshot] : Taken(state)) instants.insert(instant);
  return instants;
}

void Runs::Recover(PolicyState& state) { CompleteOpen(state, TakeUpOpen(state)); }

Runs::TakenUp Runs::TakeUpRecords(PolicyState& state, const PolicyStatus& status) {
  TakenUp taken_up;
  for (const RunRecord& record : status.recent_runs) {
    if (record.completion_time || state.open.contains(record.instant) ||
        state.history.contains(record.instant)) {
      continue;
    }
    TakeUpRun(state, FromRecord(record));
    taken_up[record.instant] = !record.posted_time;
  }
  return taken_up;
}

Runs::TakenUp Runs::TakeUpOpen(PolicyState& state) {
  if (state.recovered || state.gone) return {};
  // What was fired before the snapshots were known.
  for (auto& [instant, run] : state.open) TakeUpSnapshots(state, run);
  TakenUp taken_up = TakeUpRecords(state, state.policy->status);
  // Snapshots whose run was never written.
  for (const absl::Time instant : InstantsWithSnapshots(state)) {
    if (state.open.contains(instant) || state.history.contains(instant) ||
        instant <= ForgottenUpTo(state)) {
      continue;
    }
    if (instant <= state.adopted_up_to) {
      // It was counted as missed, and then an executor's request that was under way came through;
      // or it was recorded once.
      if (state.missed_runs == 0) continue;
      --state.missed_runs;
    }
    if (state.schedule && !state.policy->spec.suspend && instant > state.fired_up_to) {
      // The clock is off, and nothing fires; but this instant and those before it have been.
      const Due due = DueFires({.schedule = &state.schedule->cron,
                                .zone = state.schedule->zone,
                                .since = state.fired_up_to,
                                .now = instant});
      state.unjudged.insert(state.unjudged.end(), due.missed.begin(), due.missed.end());
      state.unjudged_too_many |= due.too_many;
      state.fired_up_to = instant;
    }
    std::erase(state.unjudged, instant);
    TakeUpRun(
        state,
        Run{.instant = instant, .generation = state.adopted_generation, .start_time = loop_.Now()});
    taken_up[instant] = true;
  }
  return taken_up;
}

void Runs::CompleteOpen(PolicyState& state, const TakenUp& taken_up) {
  if (state.recovered || state.gone) return;
  const std::string uid = state.policy->meta.uid;
  for (const auto& [instant, complete] : taken_up) CompleteRun(state, instant, complete);
  state.recovered = true;  // until here none that is later overtakes one that is not complete
  std::vector<absl::Time> fired_before;
  for (const auto& [instant, run] : state.open) fired_before.push_back(instant);
  for (const absl::Time instant : fired_before) CheckRun(state, instant);
  std::set<std::string> waiting;
  for (const BlockedKey& key : BlockedOf(state, "")) waiting.insert(std::get<1>(key));
  for (const std::string& claim_uid : waiting) Unblock(state, claim_uid);
  Fire(state);
  JudgeMissed(state);
  AmendLate(state);
  handlers_.series_changed(uid);
  LookAgain(state);
  // What came about before this was not written; and a policy that nobody has written to yet is
  // told that it was seen.
  const bool unwritten = std::any_of(state.history.begin(), state.history.end(),
                                     [](const auto& settled) { return !settled.second.written; });
  if (unwritten || state.policy->status.observed_generation != state.policy->meta.generation) {
    handlers_.dirty(uid, absl::ZeroDuration());
  } else if (!state.open.empty()) {
    handlers_.dirty(uid, kPostingSoon);
  }
}

void Runs::RecoverRun(PolicyState& state, Run run, bool complete) {
  const absl::Time instant = run.instant;
  TakeUpRun(state, std::move(run));
  CompleteRun(state, instant, complete);
}

void Runs::TakeUpRun(PolicyState& state, Run run) {
  const absl::Time instant = run.instant;
  run.start_deadline = state.schedule ? StartDeadline(state, instant) : instant;
  Run& open = state.open[instant] = std::move(run);
  TakeUpSnapshots(state, open);
}

void Runs::CompleteRun(PolicyState& state, absl::Time instant, bool complete) {
  const auto it = state.open.find(instant);
  if (it == state.open.end()) return;
  Run& open = it->second;
  const bool edited = open.generation != state.policy->meta.generation;
  const bool ended = state.gone || state.policy->spec.suspend;
  // Nothing of it was written, or it was still posting: what is not asked for yet still can be,
  // until the starting deadline.
  if (complete && !edited && !ended && state.schedule) {
    SelectInto(state, open);
  } else if (complete && (edited || ended)) {
    SkipRest(state, open);
  }
  if (const int rest = open.recorded - ToRecord(open).counts.selected; rest > 0) {
    if (!complete) {
      CountUnnamed(state, open, Outcome::kFailed, Reason::kDeleted, rest);
    } else if (ended) {
      CountUnnamed(state, open, Outcome::kCancelled, Reason::kNone, rest);
    } else if (edited) {
      CountUnnamed(state, open, Outcome::kSkipped, Reason::kPolicyChanged, rest);
    } else {
      CountUnnamed(state, open, Outcome::kFailed, Reason::kClaimNotFound, rest);
    }
  } else {
    UncountUnnamed(open);
  }
  CheckRun(state, instant);
}

void Runs::SkipRest(PolicyState& state, Run& run) {
  std::vector<const Claim*> rest = SelectedAt(state, run.instant);
  std::erase_if(rest, [&run](const Claim* claim) { return run.volumes.contains(claim->meta.uid); });
  // What the record counted may have been others, that the policy selects no more.
  const int recorded = run.recorded - ToRecord(run).counts.selected;
  if (run.recorded > 0 && static_cast<int>(rest.size()) > recorded) return;
  const bool ended = state.gone || state.policy->spec.suspend;
  for (const Claim* claim : rest) {
    RunVolume& volume = run.volumes[claim->meta.uid];
    volume.claim = claim->meta.name;
    volume.claim_uid = claim->meta.uid;
    if (ended) {
      Conclude(state, run, volume, Outcome::kCancelled, Reason::kNone, kEndedBefore);
    } else {
      Conclude(state, run, volume, Outcome::kSkipped, Reason::kPolicyChanged,
               "the policy was edited before the snapshot was asked for");
    }
  }
}

void Runs::UncountUnnamed(Run& run) {
  if (run.recorded > 0) TakeFromBad(run.carried, ToRecord(run).counts.selected - run.recorded);
}

void Runs::CountUnnamed(PolicyState& state, Run& run, Outcome outcome, Reason reason, int count) {
  CountOf(run.carried, outcome) += count;
  metrics_.CountOutcome("", outcome, reason, count);
  log_.Warning("volumes of run not finished",
               {{"policy", state.policy->meta.ns + "/" + state.policy->meta.name},
                {"instant", FormatInstant(run.instant)},
                {"volumes", count},
                {"outcome", ToString(outcome)},
                {"reason", ToString(reason)}});
  if (reason != Reason::kNone)
    Warn(state, ToString(reason),
         fmt::format("{} volumes of the run of {} were not finished", count,
                     FormatInstant(run.instant)));
}

void Runs::JudgeMissed(PolicyState& state) {
  if (state.unjudged.empty()) return;
  // A write that shows a run accounts for everything up to it; and one that counts them must show
  // so: by a later run, or by the watermark, which passes no run that still posts.
  absl::Time up_to = absl::InfinitePast();
  for (const auto* runs : {&state.open, &state.history}) {
    if (!runs->empty()) up_to = std::max(up_to, runs->rbegin()->first);
  }
  const bool all_posted = std::all_of(state.open.begin(), state.open.end(),
                                      [](const auto& run) { return run.second.posted_time; });
  if (all_posted) up_to = absl::InfiniteFuture();
  std::sort(state.unjudged.begin(), state.unjudged.end());
  const auto later = std::upper_bound(state.unjudged.begin(), state.unjudged.end(), up_to);
  const std::vector<absl::Time> missed(state.unjudged.begin(), later);
  state.unjudged.erase(state.unjudged.begin(), later);
  if (missed.empty()) return;
  const absl::Time newest = missed.back();
  const std::set<absl::Time> with_snapshots = InstantsWithSnapshots(state);
  int counted = 0;
  for (const absl::Time instant : missed) {
    if (state.open.contains(instant) || state.history.contains(instant)) continue;
    if (with_snapshots.contains(instant)) {
      RecoverRun(state,
                 Run{.instant = instant,
                     .generation = state.adopted_generation,
                     .start_time = loop_.Now()},
                 true);
    } else {
      CountMissed(state, instant);
      ++counted;
    }
  }
  if (all_posted)
    state.watermark = std::max(state.watermark.value_or(absl::InfinitePast()), newest);
  if (counted == 0) return;
  metrics_.CountMissed(counted);
  log_.Warning("missed", {{"policy", state.policy->meta.ns + "/" + state.policy->meta.name},
                          {"instants", counted},
                          {"newest", FormatInstant(newest)}});
  if (std::exchange(state.unjudged_too_many, false)) {
    Warn(state, "TooManyMissed",
         fmt::format("more than {} instants were missed; {} are counted", kMaxMissed, kMaxMissed));
  } else {
    Warn(state, "MissedRuns",
         fmt::format("{} instants were missed, the newest at {}", counted, FormatInstant(newest)));
  }
  handlers_.dirty(state.policy->meta.uid, absl::ZeroDuration());
}

void Runs::CountMissed(PolicyState& state, absl::Time instant) {
  ++state.missed_runs;
  state.missed.insert(instant);
  if (state.missed.size() > kMaxMissedKept) state.missed.erase(state.missed.begin());
}

void Runs::SnapshotChanged(const std::shared_ptr<const Snapshot>& before,
                           const std::shared_ptr<const Snapshot>& after) {
  if (recovered_) ProtectionChanged(before, after);
  const Snapshot& any = after ? *after : *before;
  // What retention looks at; a snapshot on its way to readiness is none of it.
  const bool matters =
      !before || !after || before == after || before->ready_to_use != after->ready_to_use ||
      before->meta.deleting != after->meta.deleting || before->hold != after->hold ||
      before->hold_until != after->hold_until || before->group != after->group;
  if (recovered_ && matters) {
    if (!any.policy_uid.empty()) handlers_.series_changed(any.policy_uid);
    // A ready one of any origin may make an orphan superfluous, which no run looks at.
    for (const auto& other : caches_.OfClaim(any.meta.ns, any.source_claim)) {
      if (!other->policy_uid.empty() && !states_.contains(other->policy_uid))
        handlers_.series_changed(other->policy_uid);
    }
  }
  auto it = states_.find(any.policy_uid);
  if (it != states_.end() && matters) Unblock(it->second, any.claim_uid);
  if (!after || it == states_.end() || !it->second.recovered || it->second.gone) return;
  PolicyState& state = it->second;
  if (after->meta.ns != state.policy->meta.ns) return;  // a copy, whatever it proves
  const std::optional<Identity> identity = ProvenIdentity(*after);
  const std::optional<absl::Time> instant = ParseInstant(after->instant);
  if (!identity || !instant) return;
  const bool known = state.open.contains(*instant) || state.history.contains(*instant);
  const bool counted = !known && state.missed.erase(*instant) > 0;
  const bool judged =
      *instant <= state.fired_up_to &&
      std::find(state.unjudged.begin(), state.unjudged.end(), *instant) == state.unjudged.end();
  const bool adopted = *instant <= state.adopted_up_to;
  const bool unrecorded =
      !known && judged && *instant > ForgottenUpTo(state) && (!adopted || state.missed_runs > 0);
  if (counted || unrecorded) {
    // An executor was still asking for it when the leader before us died.
    if (counted || adopted) --state.missed_runs;
    RecoverRun(state,
               Run{.instant = *instant,
                   .generation = state.adopted_generation,
                   .start_time = loop_.Now(),
                   .open_until = loop_.Elapsed() + kSettleSoon,
                   .timer = loop_.After(kSettleSoon,
                                        [this, uid = state.policy->meta.uid, instant = *instant] {
                                          if (const auto [found, run] = FindOpen(uid, instant); run)
                                            CompleteRun(*found, instant, true);
                                        })},
               false);
    return;
  }
  if (auto open = state.open.find(*instant);
      open != state.open.end() && !open->second.volumes.contains(identity->claim_uid)) {
    TakeUpSnapshots(state, open->second);
    UncountUnnamed(open->second);
    return CheckRun(state, *instant);
  }
  AmendLate(state, *instant, *after);
}

void Runs::ContentChanged(const Content& content) {
  const auto snapshot = caches_.snapshots().Find(content.snapshot_ns, content.snapshot_name);
  if (snapshot) SnapshotChanged(snapshot, snapshot);
}

void Runs::AmendLate(PolicyState& state) {
  for (const auto& [instant, snapshot] : Taken(state)) AmendNamed(state, instant, *snapshot);
  for (auto* runs : {&state.history, &state.open}) {
    for (auto& [instant, run] : *runs) AmendUnnamed(state, run);
  }
}

void Runs::AmendLate(PolicyState& state, absl::Time instant, const Snapshot& snapshot) {
  AmendNamed(state, instant, snapshot);
  for (auto* runs : {&state.history, &state.open}) {
    const auto it = runs->find(instant);
    if (it != runs->end() && !it->second.volumes.contains(snapshot.claim_uid))
      AmendUnnamed(state, it->second);
  }
}

void Runs::AmendNamed(PolicyState& state, absl::Time instant, const Snapshot& snapshot) {
  for (auto* runs : {&state.history, &state.open}) {
    auto it = runs->find(instant);
    if (it == runs->end()) continue;
    auto found = it->second.volumes.find(snapshot.claim_uid);
    if (found == it->second.volumes.end()) return;
    RunVolume& volume = found->second;
    // Of most reasons: its POST was carried out, and nobody could see it. The record names no
    // snapshot then. What was deleted is not what somebody may have made of that name since.
    const bool late = volume.final() && volume.outcome != Outcome::kSucceeded &&
                      volume.outcome != Outcome::kSucceededLate &&
                      volume.reason != Reason::kDeleted;
    if (!late || (!volume.snapshot.empty() && volume.snapshot != snapshot.meta.name) ||
        !caches_.IsReady(snapshot)) {
      return;
    }
    volume.posted = true;
    volume.driver = caches_.DriverOf(snapshot);
    volume.snapshot = snapshot.meta.name;
    volume.snapshot_uid = snapshot.meta.uid;
    Conclude(state, it->second, volume, Outcome::kSucceededLate, Reason::kNone, "");
    return Amended(state, it->second);
  }
}

void Runs::AmendUnnamed(PolicyState& state, Run& run) {
  if (run.carried.failed + run.carried.skipped + run.carried.cancelled == 0) return;
  int ready = 0;
  for (const auto& snapshot : TakenAt(state, run.instant))
    ready += !run.volumes.contains(snapshot->claim_uid) && caches_.IsReady(*snapshot);
  const int late =
      TakeFromBad(run.carried, ready - run.carried.succeeded - run.carried.succeeded_late);
  if (late == 0) return;
  CountUnnamed(state, run, Outcome::kSucceededLate, Reason::kNone, late);
  Amended(state, run);
}

void Runs::Amended(PolicyState& state, const Run& run) {
  if (!paused_ && run.completion_time && ToRecord(run).state == RunState::kSucceeded)
    state.last_successful = std::max(state.last_successful.value_or(loop_.Now()), loop_.Now());
  handlers_.dirty(state.policy->meta.uid, absl::ZeroDuration());
}

void Runs::TakeOverSettled(PolicyState& state, const PolicyStatus& status) {
  std::vector<absl::Time> settled;
  for (const RunRecord& record : status.recent_runs) {
    if (record.completion_time) settled.push_back(record.instant);
  }
  Abandon(state, settled);
  for (const RunRecord& record : status.recent_runs) {
    if (!record.completion_time) continue;
    Run& run = state.history[record.instant] = FromRecord(record);
    run.written = true;
  }
}

void Runs::Abandon(PolicyState& state, const std::vector<absl::Time>& instants) {
  std::vector<std::string> jobs, claims;
  for (const absl::Time instant : instants) {
    const auto run = state.open.extract(instant);
    if (run.empty()) continue;
    for (const auto& [claim_uid, volume] : run.mapped().volumes) {
      blocked_.erase({state.policy->meta.uid, claim_uid, instant});
      claims.push_back(claim_uid);
      // One that was posted runs to its end, and nobody listens.
      if (!volume.job_id.empty() && !volume.posted) jobs.push_back(volume.job_id);
    }
  }
  dispatcher_.Withdraw(std::move(jobs));
  for (const std::string& claim_uid : claims) Unblock(state, claim_uid);
}

void Runs::Absorb(const Policy& policy) {
  const PolicyStatus& status = policy.status;
  auto it = states_.find(policy.meta.uid);
  if (it == states_.end() || EpochOf(status) == epoch_ || Outranked(policy)) return;
  PolicyState& state = it->second;
  if (status.last_schedule_time) {
    state.watermark =
        std::max(state.watermark.value_or(absl::InfinitePast()), *status.last_schedule_time);
  }
  if (status.last_successful_time) {
    state.last_successful = std::max(state.last_successful.value_or(absl::InfinitePast()),
                                     *status.last_successful_time);
  }
  // Of the instants since we took over, it has counted as missed what it has no record of. We may
  // have run some of those, and have counted others after them.
  const absl::Time up_to = AccountedUpTo(status);
  std::erase_if(state.unjudged, [up_to](absl::Time instant) { return instant <= up_to; });
  state.fired_up_to = std::max(state.fired_up_to, up_to);
  TakeOverSettled(state, status);
  state.missed_runs = status.missed_runs;
  for (const RunRecord& record : status.recent_runs) state.missed.erase(record.instant);
  for (const absl::Time instant : state.missed) state.missed_runs += instant > up_to;
  std::vector<absl::Time> ours;
  for (const auto* runs : {&state.open, &state.history}) {
    for (const auto& [instant, run] : *runs) {
      if (instant > state.adopted_up_to && instant <= up_to) ours.push_back(instant);
    }
  }
  std::vector<absl::Time> forgotten;
  for (const absl::Time instant : ours) {
    const bool recorded =
        std::any_of(status.recent_runs.begin(), status.recent_runs.end(),
                    [instant](const RunRecord& r) { return r.instant == instant; });
    if (recorded) continue;
    if (instant > ForgottenUpTo(status, state.policy->spec)) {
      --state.missed_runs;
    } else {
      // It had settled long ago: we started with what we had seen before that.
      forgotten.push_back(instant);
      state.history.erase(instant);
    }
  }
  Abandon(state, forgotten);
  if (!state.recovered) return;  // Recover reads the rest from the newest status
  for (const auto& [instant, complete] : TakeUpRecords(state, status))
    CompleteRun(state, instant, complete);
  AmendLate(state);
  TrimHistory(state);
}

}  // namespace snapkeeper
