#include "tests/simulation/oracle.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/model/clock.h"
#include "common/model/names.h"

namespace snapkeeper {
namespace {

bool IsReady(const Snapshot& s) { return s.ready_to_use && !s.meta.deleting; }
absl::Time Cut(const Snapshot& s) { return s.cut_time.value_or(s.meta.created); }

}  // namespace

void Oracle::Violation(absl::Time now, std::string text) {
  if (violations_.size() < 20)
    violations_.push_back(fmt::format("{}: {}", absl::FormatTime(now, absl::UTCTimeZone()), text));
}

size_t Oracle::Run::EverReady() const {
  return static_cast<size_t>(std::count_if(
      volumes.begin(), volumes.end(), [](const auto& taken) { return taken.second.ever_ready; }));
}

void Oracle::OnWrite(const StoreWrite& write, absl::Time now) {
  if (write.kind == Kind::kSnapshot) {
    OnSnapshot(write.before ? As<Snapshot>(write.before->value) : nullptr,
               write.after ? As<Snapshot>(write.after->value) : nullptr, write.user, now);
  } else if (write.kind == Kind::kPolicy && write.after) {
    OnPolicy(write.before ? As<Policy>(write.before->value) : nullptr,
             As<Policy>(write.after->value), now);
  }
}

void Oracle::OnSnapshot(const SnapshotPtr& before, const SnapshotPtr& after, std::string_view user,
                        absl::Time now) {
  const Snapshot& any = after ? *after : *before;
  auto& siblings = by_claim_[{any.meta.ns, any.source_claim}];
  const bool ours = user.substr(0, 8) == "executor";
  if (before && ours && !before->meta.deleting && (!after || after->meta.deleting)) {
    ++counts_.deleted;
    OnOurDelete(*before, now);
  }
  if (!after) {
    siblings.erase(any.meta.uid);
    made_.erase(any.meta.uid);
    return;
  }
  siblings[after->meta.uid] = after;
  if (!before && ours) OnMade(*after, now);
  if (!IsReady(*after)) return;
  if (const auto made = made_.find(after->meta.uid); made != made_.end()) {
    const auto& [policy_uid, claim_uid, instant] = made->second;
    policies_[policy_uid].runs[instant].volumes[claim_uid].ever_ready = true;
  }
}

void Oracle::OnMade(const Snapshot& snapshot, absl::Time now) {
  ++counts_.created;
  const auto instant = ParseInstant(snapshot.instant);
  if (!instant)
    return Violation(now, fmt::format("{} was made for no instant", snapshot.meta.name));
  made_[snapshot.meta.uid] = {snapshot.policy_uid, snapshot.claim_uid, *instant};
  std::string& taken =
      policies_[snapshot.policy_uid].runs[*instant].volumes[snapshot.claim_uid].snapshot_uid;
  if (!taken.empty()) {
    Violation(now, fmt::format("G1: {} of {} was taken a second time, as {}", snapshot.instant,
                               snapshot.source_claim, snapshot.meta.name));
  }
  taken = snapshot.meta.uid;
  if (*instant > now + kMaxClockOffset)
    Violation(now, fmt::format("{} was made before its instant", snapshot.meta.name));
}

void Oracle::OnOurDelete(const Snapshot& gone, absl::Time now) {
  const auto made = made_.find(gone.meta.uid);
  if (made == made_.end())
    return Violation(now, fmt::format("G3: {} is not ours and was deleted", gone.meta.name));
  if (gone.hold == "true")
    Violation(now, fmt::format("G3: {} is held and was deleted", gone.meta.name));
  if (!IsReady(gone)) return;
  int ready_of_policy = 0;
  bool newer = false;
  for (const auto& [uid, other] : by_claim_.at({gone.meta.ns, gone.source_claim})) {
    if (uid == gone.meta.uid || !IsReady(*other)) continue;
    newer |= Cut(*other) >= Cut(gone);
    const auto own = made_.find(uid);
    ready_of_policy += own != made_.end() && own->second.policy_uid == made->second.policy_uid &&
                       own->second.claim_uid == made->second.claim_uid;
  }
  if (!newer)
    Violation(now, fmt::format("G3: {} was the newest ready snapshot of {} and was deleted",
                               gone.meta.name, gone.source_claim));
  const PolicyPtr& policy = policies_[made->second.policy_uid].policy;
  if (!policy) return;
  const RetentionRule& rule = policy->spec.retention;
  const int floor = std::max(rule.min_ready, rule.max_age ? 0 : rule.keep_last.value_or(0));
  if (ready_of_policy < floor) {
    Violation(now, fmt::format("G3: {} ready snapshots of {} are left, {} are to be kept",
                               ready_of_policy, gone.source_claim, floor));
  }
}

void Oracle::OnPolicy(const PolicyPtr& before, const PolicyPtr& after, absl::Time now) {
  policies_[after->meta.uid].policy = after;
  if (!before || before->status == after->status) return;
  ++counts_.status_writes;
  const PolicyStatus &old = before->status, &fresh = after->status;
  if (fresh.last_schedule_time < old.last_schedule_time) Violation(now, "the watermark went back");
  if (fresh.epoch < old.epoch) Violation(now, "the epoch went back");
  for (const RunRecord& record : fresh.recent_runs) CheckRecord(*after, record, now);
  CheckMissed(*after, now);
}

void Oracle::CheckRecord(const Policy& policy, const RunRecord& record, absl::Time now) {
  const RunCounts& c = record.counts;
  Run& run = policies_.at(policy.meta.uid).runs[record.instant];
  const bool settled = record.completion_time.has_value();
  const auto violation = [&](std::string_view guarantee, std::string_view what) {
    Violation(now, fmt::format("{}: run {} of {} {}", guarantee, FormatInstant(record.instant),
                               policy.meta.name, what));
  };
  if (c.selected !=
      c.succeeded + c.succeeded_late + c.failed + c.skipped + c.cancelled + c.pending) {
    violation("G2", "has counts that do not add up");
  }
  if (settled && c.pending > 0) violation("G2", fmt::format("settled with {} pending", c.pending));
  if (static_cast<size_t>(c.succeeded + c.succeeded_late) > run.EverReady()) {
    violation("G4", fmt::format("reports {} ready snapshots, {} ever were",
                                c.succeeded + c.succeeded_late, run.EverReady()));
  }
  if (run.settled && !settled) violation("G2", "was settled and is not any more");
  if (run.settled && (c.failed > run.recorded->failed || c.succeeded < run.recorded->succeeded))
    violation("G2", "went from success to failure");
  run.recorded = c;
  run.settled = settled;
}

void Oracle::ExpectAll(const Policy& policy) {
  std::optional<Expected>& expected = policies_[policy.meta.uid].expected;
  if (!expected) expected = Expected{*CompileSchedule(policy.spec), policy.meta.created, {}};
}

void Oracle::CheckMissed(const Policy& policy, absl::Time now) {
  Known& known = policies_.at(policy.meta.uid);
  if (!known.expected) return;
  auto& [schedule, up_to, unrecorded] = *known.expected;
  absl::Time end = policy.status.last_schedule_time.value_or(absl::InfinitePast());
  for (const RunRecord& r : policy.status.recent_runs) {
    end = std::max(end, r.instant);
    unrecorded.erase(r.instant);
  }
  for (auto next = schedule.cron.Next(up_to, schedule.zone); next && *next <= end;
       next = schedule.cron.Next(*next, schedule.zone)) {
    up_to = *next;
    const auto run = known.runs.find(*next);
    if (run == known.runs.end() || !run->second.recorded) unrecorded.insert(*next);
  }
  if (static_cast<int64_t>(unrecorded.size()) == policy.status.missed_runs) return;
  std::string which;
  for (const absl::Time instant : unrecorded) which += " " + FormatInstant(instant);
  Violation(now,
            fmt::format("G2: {} instants of {} have no record, {} are counted as missed:{}",
                        unrecorded.size(), policy.meta.name, policy.status.missed_runs, which));
}

void Oracle::CheckAccounted(const Policy& policy, absl::Time end) {
  const Known& known = policies_.at(policy.meta.uid);
  const Expected& expected = known.expected.value();
  const auto next = expected.schedule.cron.Next(expected.up_to, expected.schedule.zone);
  if (next && *next <= end) {
    Violation(end, fmt::format("G2: {} of {} is not accounted for", FormatInstant(*next),
                               policy.meta.name));
  }
  for (const auto& [instant, run] : known.runs) {
    if (expected.unrecorded.contains(instant) && !run.volumes.empty()) {
      Violation(end, fmt::format("G2: {} of {} has snapshots and no record", FormatInstant(instant),
                                 policy.meta.name));
    }
    if (run.recorded && instant <= end && !run.settled) {
      Violation(
          end, fmt::format("G2: {} of {} never settled", FormatInstant(instant), policy.meta.name));
    }
  }
}

void Oracle::CheckHealthy(const Policy& policy, size_t claims) {
  for (const RunRecord& r : policy.status.recent_runs) {
    if (!r.completion_time) continue;
    if (static_cast<size_t>(r.counts.succeeded) != claims) {
      Violation(r.instant, fmt::format("{} of {} took {} of {} volumes, long after the trouble",
                                       FormatInstant(r.instant), policy.meta.name,
                                       r.counts.succeeded, claims));
    }
    return;
  }
}

void Oracle::CheckTaken(const std::string& policy_uid, const std::vector<absl::Time>& instants,
                        size_t claims) {
  for (const absl::Time instant : instants) {
    const size_t ready = policies_.at(policy_uid).runs[instant].EverReady();
    if (ready != claims)
      Violation(instant, fmt::format("{} has {} ready snapshots of {} volumes",
                                     FormatInstant(instant), ready, claims));
  }
}

size_t Oracle::Settled(const std::string& policy_uid) const {
  const std::map<absl::Time, Run>& runs = policies_.at(policy_uid).runs;
  return static_cast<size_t>(
      std::count_if(runs.begin(), runs.end(), [](const auto& run) { return run.second.settled; }));
}

}  // namespace snapkeeper
