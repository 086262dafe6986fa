#ifndef SNAPKEEPER_EXECUTOR_PRUNE_PLAN_H_
#define SNAPKEEPER_EXECUTOR_PRUNE_PLAN_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/model/job.h"
#include "common/model/objects.h"
#include "common/model/policy.h"
#include "common/model/retention.h"

namespace snapkeeper {

// The live check before deleting (docs/life_of_a_snapshot.md, step 9), as pure functions. Errors
// end the job; the scheduler plans anew.

// How long the scheduler's plan may be acted upon. `server_now`: by the API server's clock, which
// both agree on.
inline constexpr absl::Duration kPlanValid = absl::Seconds(30);
absl::Status CheckPlanAge(const PruneSnapshots& job, absl::Time server_now);

// The rule to plan with, from what a GET of the policy was answered just now; nullopt: the policy
// is gone, as the job says. `epoch` is the scheduler's: a policy whose status a later one has
// written is none of its business.
absl::StatusOr<std::optional<RetentionRule>> CheckPolicy(
    const PruneSnapshots& job, int64_t epoch,
    const absl::StatusOr<std::shared_ptr<const Policy>>& answer);

using Snapshots = std::vector<std::shared_ptr<const Snapshot>>;

// Names of snapshots that the job counts as ready but that are not in the list of the policy's own:
// of another origin, or gone.
std::vector<std::string> MissingSurvivors(const PruneSnapshots& job, const Snapshots& fresh);

// What both the job and a plan made of `fresh` prune; resource versions are those of `fresh`.
// Oldest cut of each series first.
std::vector<Decision> ConfirmedPrunes(const PruneSnapshots& job,
                                      const std::optional<RetentionRule>& rule,
                                      const Snapshots& fresh, absl::Time now);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_EXECUTOR_PRUNE_PLAN_H_
