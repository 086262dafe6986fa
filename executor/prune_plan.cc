#include "executor/prune_plan.h"

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <fmt/format.h>

#include <string_view>

#include "common/kube/json.h"
#include "common/model/reason.h"

namespace snapkeeper {
namespace {

absl::Status PolicyChanged(const PruneSnapshots& job, std::string_view how) {
  return WithReason(
      absl::FailedPreconditionError(fmt::format(
          "SnapshotPolicy {}/{} (UID {}) {} since the plan was made; nothing is deleted", job.ns,
          job.policy_name, job.policy_uid, how)),
      Reason::kPolicyChanged);
}

}  // namespace

absl::Status CheckPlanAge(const PruneSnapshots& job, absl::Time server_now) {
  // Both ways: the server's clock may have been set.
  if (absl::AbsDuration(server_now - job.planned_at) <= kPlanValid) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("the plan of {} is void: it is acted upon for {} only",
                  FormatRfc3339(job.planned_at), absl::FormatDuration(kPlanValid)));
}

absl::StatusOr<std::optional<RetentionRule>> CheckPolicy(
    const PruneSnapshots& job, int64_t epoch,
    const absl::StatusOr<std::shared_ptr<const Policy>>& answer) {
  const bool gone =
      absl::IsNotFound(answer.status()) || (answer.ok() && (*answer)->meta.uid != job.policy_uid);
  if (!gone && !answer.ok()) return answer.status();
  if (job.policy_gone) {
    if (gone) return std::optional<RetentionRule>();
    return PolicyChanged(job, "has turned out to exist");
  }
  if (gone) return PolicyChanged(job, "was deleted");
  const Policy& policy = **answer;
  if (policy.meta.deleting) return PolicyChanged(job, "began to be deleted");
  if (policy.meta.generation != job.policy_generation) return PolicyChanged(job, "was edited");
  if (policy.spec.suspend) return PolicyChanged(job, "was suspended");
  if (policy.status.epoch > epoch) return PolicyChanged(job, "came under a later scheduler");
  return policy.spec.retention;
}

std::vector<std::string> MissingSurvivors(const PruneSnapshots& job, const Snapshots& fresh) {
  absl::flat_hash_set<std::string_view> listed;
  for (const auto& snapshot : fresh) listed.insert(snapshot->meta.uid);
  std::vector<std::string> missing;
  for (const PruneSnapshots::Series& series : job.series) {
    for (const PruneMember& member : series.members) {
      if (member.bound && !listed.contains(member.uid)) missing.push_back(member.name);
    }
  }
  return missing;
}

std::vector<Decision> ConfirmedPrunes(const PruneSnapshots& job,
                                      const std::optional<RetentionRule>& rule,
                                      const Snapshots& fresh, absl::Time now) {
  absl::flat_hash_map<std::string_view, const Snapshot*> by_uid;
  absl::flat_hash_map<std::string_view, std::vector<const Snapshot*>> by_claim;
  for (const auto& snapshot : fresh) {
    by_uid[snapshot->meta.uid] = snapshot.get();
    by_claim[snapshot->claim_uid].push_back(snapshot.get());
  }
  std::vector<Decision> confirmed;
  for (const PruneSnapshots::Series& series : job.series) {
    std::vector<SeriesMember> members;
    auto add = [&](const Snapshot& snapshot, const PruneMember& known) {
      members.push_back(MakeMember(snapshot, known, job.policy_uid, series.claim_uid, now));
    };
    absl::flat_hash_set<std::string_view> known, changed;
    for (const PruneMember& member : series.members) {
      const auto it = by_uid.find(member.uid);
      if (it == by_uid.end() || !known.insert(member.uid).second) continue;
      add(*it->second, member);
      // What is known of its content is of another one.
      if (it->second->bound_content != member.bound_content) changed.insert(member.uid);
    }
    // What the scheduler did not know of when it planned.
    for (const Snapshot* snapshot : by_claim[series.claim_uid]) {
      if (!known.contains(snapshot->meta.uid)) add(*snapshot, PruneMember());
    }
    const RetentionPlan plan = PlanRetention(members, rule,
                                             {.now = now,
                                              .quarantine = job.quarantine,
                                              .leader_since = job.leader_since,
                                              .claim_exists = series.claim_exists,
                                              .second_newest_due = job.second_newest_due});
    const absl::flat_hash_set<std::string_view> candidates(series.candidates.begin(),
                                                           series.candidates.end());
    const std::vector<Decision> pruned = plan.Pruned();
    for (auto decision = pruned.rbegin(); decision != pruned.rend(); ++decision) {
      if (candidates.contains(decision->uid) && !changed.contains(decision->uid))
        confirmed.push_back(*decision);
    }
  }
  return confirmed;
}

}  // namespace snapkeeper
