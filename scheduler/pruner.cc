#include "scheduler/pruner.h"

#include <absl/container/flat_hash_set.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/model/names.h"
#include "common/model/reason.h"

namespace snapkeeper {
namespace {

constexpr absl::Duration kGather = absl::Milliseconds(200);  // changes come in bursts
constexpr absl::Duration kAfterTime =
    absl::Seconds(1);  // volumes of one run come of age within a second of each other
constexpr absl::Duration kMaxWait =
    absl::Seconds(10);  // for runs: where one begins before the last has settled there is no end
// The executor's fresh reads spared something; or a cache is not to be trusted.
constexpr absl::Duration kPlanAgain = absl::Seconds(30);
constexpr absl::Duration kHangs = absl::Minutes(15);

}  // namespace

void FitOneJob(std::vector<PruneSnapshots::Series>& series, size_t max_members) {
  size_t room = max_members, fitting = 0;
  while (fitting < series.size() && series[fitting].members.size() <= room)
    room -= series[fitting++].members.size();
  if (fitting > 0 || series.empty()) return series.resize(fitting);
  series.resize(1);
  auto& [claim_uid, claim_exists, members, candidates] = series.front();
  const size_t excess = std::min(members.size() - max_members, candidates.size() - 1);
  const absl::flat_hash_set<std::string> later(candidates.begin(), candidates.begin() + excess);
  std::erase_if(members,
                [&later](const PruneMember& member) { return later.contains(member.uid); });
  candidates.erase(candidates.begin(), candidates.begin() + excess);
}

Pruner::Pruner(EventLoop& loop, const KubeApi& api, Rng& rng, Log& log, const Caches& caches,
               const Runs& runs, Dispatcher& dispatcher, EventRecorder& events,
               SchedulerMetrics& metrics, absl::Duration quarantine)
    : loop_(loop),
      api_(api),
      rng_(rng),
      log_(log),
      caches_(caches),
      runs_(runs),
      dispatcher_(dispatcher),
      events_(events),
      metrics_(metrics),
      quarantine_(quarantine) {}

void Pruner::Start() {
  started_ = true;
  leader_since_ = loop_.Elapsed();
  for (const std::string& uid : caches_.PolicyUidsOfSnapshots()) Changed(uid);
}

void Pruner::SetPaused(bool paused) {
  if (!std::exchange(paused_, paused) || paused) return;
  for (auto& [uid, entry] : entries_) Arm(uid, kGather);
}

void Pruner::Changed(const std::string& policy_uid) {
  if (!started_) return;
  Arm(policy_uid, kGather);
}

void Pruner::Arm(const std::string& policy_uid, absl::Duration delay) {
  std::unique_ptr<Entry>& slot = entries_[policy_uid];
  if (!slot) slot = std::make_unique<Entry>();
  Entry& entry = *slot;
  const absl::Duration due = std::max(loop_.Elapsed() + delay, entry.not_before);
  if (entry.due && *entry.due <= due) return;
  entry.due = due;
  entry.timer = loop_.After(due - loop_.Elapsed(), [this, policy_uid] { Evaluate(policy_uid); });
}

PruneMember Pruner::KnownOf(const Snapshot& snapshot) const {
  const std::optional<absl::Time> posted = runs_.PostedAt(snapshot.policy_uid, snapshot.instant);
  return {.name = snapshot.meta.name,
          .uid = snapshot.meta.uid,
          .bound_content = snapshot.bound_content,
          .bound = caches_.IsBound(snapshot),
          .pinned = caches_.IsPinned(snapshot),
          .retained = caches_.IsRetained(snapshot),
          .posted_known = posted.has_value(),
          .posted = api_.ServerTime(posted.value_or(absl::InfinitePast()))};
}

std::optional<PruneSnapshots> Pruner::Plan(const std::string& policy_uid, const PolicyState* state,
                                           const std::string& ns,
                                           const std::vector<Caches::SnapshotPtr>& snapshots,
                                           absl::Time& next_change, bool& retained) const {
  const absl::Time now = api_.ServerTime(loop_.Now());
  PruneSnapshots job{.ns = ns,
                     .policy_uid = policy_uid,
                     .policy_gone = state == nullptr,
                     .planned_at = now,
                     .quarantine = quarantine_,
                     .leader_since = now - (loop_.Elapsed() - leader_since_)};
  std::optional<RetentionRule> rule;
  if (state) {
    job.policy_name = state->policy->meta.name;
    job.policy_generation = state->policy->meta.generation;
    rule = state->policy->spec.retention;
    if (state->schedule) {
      if (auto newest =
              state->schedule->cron.Prev(now + absl::Nanoseconds(1), state->schedule->zone)) {
        job.second_newest_due = state->schedule->cron.Prev(*newest, state->schedule->zone);
      }
    } else {
      job.second_newest_due = now;  // nothing fires: age limits pause
    }
  } else {
    // Only the annotation, "namespace/name", tells which namespace was its scope.
    const auto own = std::find_if(snapshots.begin(), snapshots.end(), [&ns](const auto& snapshot) {
      return snapshot->meta.ns == ns && snapshot->policy.starts_with(ns + "/");
    });
    if (own == snapshots.end()) return std::nullopt;
    job.policy_name = (*own)->policy.substr(ns.size() + 1);
    // It waits for finalizers: the executor would find it, and delete nothing.
    const auto ending = caches_.policies().Find(ns, job.policy_name);
    if (ending && ending->meta.uid == policy_uid) return std::nullopt;
  }

  std::map<std::string, std::vector<Caches::SnapshotPtr>> series;  // by claim UID
  for (const auto& snapshot : snapshots) {
    if (snapshot->meta.ns == ns && !caches_.IsMisbound(*snapshot) &&
        (state || snapshot->policy == ns + "/" + job.policy_name))
      series[snapshot->claim_uid].push_back(snapshot);
  }
  for (const auto& [claim_uid, own] : series) {
    PruneSnapshots::Series entry{.claim_uid = claim_uid,
                                 .claim_exists = caches_.ClaimExists(claim_uid)};
    std::vector<SeriesMember> members;
    std::set<std::string> own_names;
    for (const auto& snapshot : own) {
      entry.members.push_back(KnownOf(*snapshot));
      own_names.insert(snapshot->meta.name);
      members.push_back(MakeMember(*snapshot, entry.members.back(), policy_uid, claim_uid, now));
    }
    std::optional<PruneMember>
        newest_other;  // what justifies a prune besides the series: the executor reads it too
    absl::Time newest_cut = absl::InfinitePast();
    for (const SeriesMember& member : members) {
      if (member.ready) newest_cut = std::max(newest_cut, member.cut);
    }
    for (const auto& other : caches_.OfClaim(ns, own.front()->source_claim)) {
      if (own_names.contains(other->meta.name)) continue;
      // What another PVC of the same name left says nothing of this one; nor does what somebody
      // took of it.
      if (other->claim_uid != claim_uid && ProvenIdentity(*other)) continue;
      if (!caches_.IsOfVolume(*other, own.front()->volume_handle)) continue;
      const PruneMember known = KnownOf(*other);
      members.push_back(MakeMember(*other, known, policy_uid, claim_uid, now));
      if (members.back().ready && members.back().cut >= newest_cut) {
        newest_cut = members.back().cut;
        newest_other = known;
      }
    }
    if (newest_other) entry.members.push_back(*std::move(newest_other));
    const RetentionPlan plan = PlanRetention(members, rule,
                                             {.now = now,
                                              .quarantine = quarantine_,
                                              .leader_since = job.leader_since,
                                              .claim_exists = entry.claim_exists,
                                              .second_newest_due = job.second_newest_due});
    next_change = std::min(next_change, plan.next_change);
    for (const Decision& decision : plan.decisions) {
      if (!own_names.contains(decision.name)) continue;
      if (decision.verdict == Verdict::kPrune) entry.candidates.push_back(decision.uid);
      retained |= decision.rule == "retained";
    }
    if (!entry.candidates.empty()) job.series.push_back(std::move(entry));
  }
  if (job.series.empty()) return std::nullopt;
  FitOneJob(job.series);
  return job;
}

void Pruner::TellHanging(const std::string& policy_uid, Entry& entry, const PolicyState* state,
                         const std::vector<Caches::SnapshotPtr>& snapshots) {
  const absl::Duration now = loop_.Elapsed();
  absl::Duration next = absl::InfiniteDuration();
  std::map<std::string, Deleting> deleting;
  for (const auto& snapshot : snapshots) {
    if (!snapshot->meta.deleting) continue;
    const auto known = entry.deleting.find(snapshot->meta.uid);
    Deleting& one = deleting[snapshot->meta.uid] =
        known == entry.deleting.end() ? Deleting{.since = now} : known->second;
    if (now < one.since + kHangs) {
      next = std::min(next, one.since + kHangs);
    } else if (!std::exchange(one.told, true)) {
      log_.Warning("delete hangs", {{"policy", snapshot->policy},
                                    {"claim", snapshot->source_claim},
                                    {"snapshot", snapshot->meta.name},
                                    {"uid", snapshot->meta.uid}});
      if (state) {
        events_.Record(Kind::kPolicy, state->policy->meta, EventType::kWarning, "DeleteHangs",
                       fmt::format("VolumeSnapshot {} is still there {} after its deletion: its "
                                   "finalizers and the CSI driver's log tell why",
                                   snapshot->meta.name, absl::FormatDuration(kHangs)));
      }
    }
  }
  entry.deleting = std::move(deleting);
  entry.hanging = next == absl::InfiniteDuration()
                      ? Timer()
                      : loop_.After(next - now, [this, policy_uid] { Changed(policy_uid); });
}

void Pruner::Evaluate(const std::string& policy_uid) {
  Entry& entry = *entries_.at(policy_uid);
  entry.due.reset();
  const PolicyState* state = runs_.Find(policy_uid);
  if (state && state->gone) state = nullptr;
  const std::vector<Caches::SnapshotPtr> snapshots = caches_.OfPolicy(policy_uid);
  TellHanging(policy_uid, entry, state, snapshots);
  if (entry.running) {  // done asks again
    if (entry.generation != (state ? state->policy->meta.generation : 0))
      dispatcher_.Withdraw({entry.job_id});
    return;
  }
  if (paused_) return;  // SetPaused asks again
  if (!caches_.health().ok()) return Arm(policy_uid, kPlanAgain);
  if (loop_.Elapsed() < entry.not_before) return Arm(policy_uid, absl::ZeroDuration());
  if (runs_.Unsettled(policy_uid)) {
    if (!entry.waits_since) entry.waits_since = loop_.Elapsed();
    if (loop_.Elapsed() - *entry.waits_since < kMaxWait) return Arm(policy_uid, kAfterTime);
  }
  entry.waits_since.reset();
  if (snapshots.empty()) {
    entries_.erase(policy_uid);
    return;
  }
  if (state && (!state->recovered || state->policy->spec.suspend)) return;

  std::set<std::string> namespaces;
  for (const auto& snapshot : snapshots) namespaces.insert(snapshot->meta.ns);
  absl::Time next_change = absl::InfiniteFuture();
  bool retained = false;
  for (const std::string& ns : namespaces) {
    // A policy takes snapshots in its own namespace alone; others that carry its UID are not its.
    if (state && ns != state->policy->meta.ns) continue;
    std::optional<PruneSnapshots> job =
        Plan(policy_uid, state, ns, snapshots, next_change, retained);
    if (!job) continue;
    absl::flat_hash_set<std::string> wanted;
    for (const auto& series : job->series)
      wanted.insert(series.candidates.begin(), series.candidates.end());
    std::set<std::string> drivers;
    for (const auto& snapshot : snapshots) {
      if (wanted.contains(snapshot->meta.uid)) drivers.insert(caches_.DriverOf(*snapshot));
    }
    entry.running = true;
    entry.policy = fmt::format("{}/{}", ns, job->policy_name);
    entry.generation = job->policy_generation;
    entry.job_id = dispatcher_.Submit(
        *std::move(job), [this, policy_uid, wanted = wanted.size(), drivers = std::move(drivers),
                          began = loop_.Elapsed()](const absl::Status& status, size_t deleted) {
          Entry& done = *entries_.at(policy_uid);
          done.running = false;
          metrics_.CountPruned(static_cast<int>(deleted), drivers, status, loop_.Elapsed() - began);
          if (status.ok() || deleted > 0) done.failures = 0;
          if (status.ok()) return Arm(policy_uid, deleted < wanted ? kPlanAgain : kAfterTime);
          log_.Warning("prune failed", {{"job", done.job_id},
                                        {"policy", done.policy},
                                        {"deleted", deleted},
                                        {"error", status}});
          const absl::Duration pause = Backoff{absl::Seconds(1), absl::Minutes(1)}.Delay(
              ++done.failures, rng_, RetryAfterOf(status));
          done.not_before = loop_.Elapsed() + pause;
          Arm(policy_uid, pause);
        });
    break;
  }
  if (retained && !entry.retained_told && state) {
    events_.Record(Kind::kPolicy, state->policy->meta, EventType::kWarning, "Retained",
                   "snapshots that retention would let go stay: the deletionPolicy of their "
                   "VolumeSnapshotContents is Retain, and their data would stay without them; set "
                   "it to Delete to have them pruned");
  }
  entry.retained_told = retained;
  if (!entry.running && next_change != absl::InfiniteFuture()) {
    Arm(policy_uid, std::clamp(next_change - api_.ServerTime(loop_.Now()), absl::ZeroDuration(),
                               absl::Hours(1)) +
                        kAfterTime);
  }
}

}  // namespace snapkeeper
