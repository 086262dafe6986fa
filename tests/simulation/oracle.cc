#include "tests/simulation/oracle.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/model/clock.h"
#include "common/model/names.h"

namespace snapkeeper {
namespace {

bool IsReady(const Snapshot& s) { return s.ready_to_use && !s.meta.deleting; }
absl::Time Cut(const Snapshot& s) { return s.cut_time.value_or(s.meta.created); }
bool IsSettled(const RunRecord& r) { return r.completion_time.has_value(); }

}  // namespace

void Oracle::Violation(absl::Time now, std::string text) {
  if (violations_.size() < 20)
    violations_.push_back(fmt::format("{}: {}", absl::FormatTime(now, absl::UTCTimeZone()), text));
}

void Oracle::OnWrite(const StoreWrite& write, absl::Time now) {
  if (write.kind == Kind::kSnapshot) {
    OnSnapshot(write.before ? &std::get<Snapshot>(*write.before->value) : nullptr,
               write.after ? &std::get<Snapshot>(*write.after->value) : nullptr, write.user, now);
  } else if (write.kind == Kind::kPolicy && write.after) {
    OnPolicy(write.before ? &std::get<Policy>(*write.before->value) : nullptr,
             std::get<Policy>(*write.after->value), now);
  }
}

void Oracle::OnSnapshot(const Snapshot* before, const Snapshot* after, std::string_view user,
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
    return;
  }
  siblings[after->meta.uid] = *after;
  if (!before && ours) {
    ++counts_.created;
    const auto instant = ParseInstant(after->instant);
    if (!instant)
      return Violation(now, fmt::format("{} was made for no instant", after->meta.name));
    made_[after->meta.uid] = {after->policy_uid, after->claim_uid, *instant};
    const auto [it, inserted] = uids_.try_emplace(
        std::tuple(after->policy_uid, *instant, after->claim_uid), after->meta.uid);
    if (!inserted) {
      Violation(now, fmt::format("G1: {} of {} was taken a second time, as {}", after->instant,
                                 after->source_claim, after->meta.name));
    }
    if (*instant > now + kMaxClockOffset)
      Violation(now, fmt::format("{} was made before its instant", after->meta.name));
    taken_[{after->policy_uid, *instant}].insert(after->claim_uid);
  }
  if (const auto made = made_.find(after->meta.uid); made != made_.end() && IsReady(*after))
    ever_ready_[{made->second.policy_uid, made->second.instant}].insert(made->second.claim_uid);
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
    if (uid == gone.meta.uid || !IsReady(other)) continue;
    newer |= Cut(other) >= Cut(gone);
    const auto own = made_.find(uid);
    ready_of_policy += own != made_.end() && own->second.policy_uid == made->second.policy_uid &&
                       own->second.claim_uid == made->second.claim_uid;
  }
  if (!newer)
    Violation(now, fmt::format("G3: {} was the newest ready snapshot of {} and was deleted",
                               gone.meta.name, gone.source_claim));
  auto policy = policies_.find(made->second.policy_uid);
  if (policy == policies_.end()) return;
  const RetentionRule& rule = policy->second.spec.retention;
  const int floor = std::max(rule.min_ready, rule.max_age ? 0 : rule.keep_last.value_or(0));
  if (ready_of_policy < floor) {
    Violation(now, fmt::format("G3: {} ready snapshots of {} are left, {} are to be kept",
                               ready_of_policy, gone.source_claim, floor));
  }
}

void Oracle::OnPolicy(const Policy* before, const Policy& after, absl::Time now) {
  policies_[after.meta.uid] = after;
  if (!before || before->status == after.status) return;
  ++counts_.status_writes;
  const PolicyStatus &old = before->status, &fresh = after.status;
  if (fresh.last_schedule_time < old.last_schedule_time) Violation(now, "the watermark went back");
  if (fresh.epoch < old.epoch) Violation(now, "the epoch went back");
  for (const RunRecord& r : fresh.recent_runs) {
    const PolicyInstant key(after.meta.uid, r.instant);
    const RunCounts& c = r.counts;
    const std::string name = fmt::format("run {} of {}", FormatInstant(r.instant), after.meta.name);
    if (c.selected !=
        c.succeeded + c.succeeded_late + c.failed + c.skipped + c.cancelled + c.pending) {
      Violation(now, fmt::format("G2: the counts of {} do not add up", name));
    }
    if (IsSettled(r) && c.pending > 0)
      Violation(now, fmt::format("G2: {} settled with {} pending", name, c.pending));
    if (static_cast<size_t>(c.succeeded + c.succeeded_late) > ever_ready_[key].size()) {
      Violation(now, fmt::format("G4: {} reports {} ready snapshots, {} ever were", name,
                                 c.succeeded + c.succeeded_late, ever_ready_[key].size()));
    }
    auto [it, inserted] = records_.try_emplace(key, r);
    if (!inserted) {
      const RunRecord& was = it->second;
      if (IsSettled(was) && !IsSettled(r))
        Violation(now, fmt::format("G2: {} was settled and is not any more", name));
      if (IsSettled(was) && (c.failed > was.counts.failed || c.succeeded < was.counts.succeeded)) {
        Violation(now, fmt::format("G2: {} went from success to failure", name));
      }
      it->second = r;
    }
  }
  CheckMissed(after, now);
}

void Oracle::ExpectAll(const Policy& policy) {
  expected_.try_emplace(policy.meta.uid,
                        Expected{*CompileSchedule(policy.spec), policy.meta.created, {}});
}

void Oracle::CheckMissed(const Policy& policy, absl::Time now) {
  auto it = expected_.find(policy.meta.uid);
  if (it == expected_.end()) return;
  auto& [schedule, up_to, unrecorded] = it->second;
  absl::Time end = policy.status.last_schedule_time.value_or(absl::InfinitePast());
  for (const RunRecord& r : policy.status.recent_runs) {
    end = std::max(end, r.instant);
    unrecorded.erase(r.instant);
  }
  for (auto next = schedule.cron.Next(up_to, schedule.zone); next && *next <= end;
       next = schedule.cron.Next(*next, schedule.zone)) {
    up_to = *next;
    if (!records_.contains({policy.meta.uid, *next})) unrecorded.insert(*next);
  }
  if (static_cast<int64_t>(unrecorded.size()) == policy.status.missed_runs) return;
  std::string which;
  for (const absl::Time instant : unrecorded) which += " " + FormatInstant(instant);
  Violation(now,
            fmt::format("G2: {} instants of {} have no record, {} are counted as missed:{}",
                        unrecorded.size(), policy.meta.name, policy.status.missed_runs, which));
}

void Oracle::CheckAccounted(const Policy& policy, absl::Time end) {
  const Expected& expected = expected_.at(policy.meta.uid);
  const auto next = expected.schedule.cron.Next(expected.up_to, expected.schedule.zone);
  if (next && *next <= end) {
    Violation(end, fmt::format("G2: {} of {} is not accounted for", FormatInstant(*next),
                               policy.meta.name));
  }
  for (const absl::Time instant : expected.unrecorded) {
    if (taken_.contains({policy.meta.uid, instant})) {
      Violation(end, fmt::format("G2: {} of {} has snapshots and no record", FormatInstant(instant),
                                 policy.meta.name));
    }
  }
  for (const auto& [key, record] : records_) {
    if (key.first == policy.meta.uid && key.second <= end && !IsSettled(record)) {
      Violation(end, fmt::format("G2: {} of {} never settled", FormatInstant(key.second),
                                 policy.meta.name));
    }
  }
}

void Oracle::CheckHealthy(const Policy& policy, size_t claims) {
  for (const RunRecord& r : policy.status.recent_runs) {
    if (!IsSettled(r)) continue;
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
    const size_t ready = ever_ready_[{policy_uid, instant}].size();
    if (ready != claims)
      Violation(instant, fmt::format("{} has {} ready snapshots of {} volumes",
                                     FormatInstant(instant), ready, claims));
  }
}

size_t Oracle::Settled(const std::string& policy_uid) const {
  return static_cast<size_t>(std::count_if(
      records_.begin(), records_.end(),
      [&policy_uid](const auto& r) { return r.first.first == policy_uid && IsSettled(r.second); }));
}

}  // namespace snapkeeper
