#ifndef SNAPKEEPER_EXECUTOR_PRUNE_RUNNER_H_
#define SNAPKEEPER_EXECUTOR_PRUNE_RUNNER_H_

#include <absl/status/statusor.h>

#include <deque>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "common/base/call.h"
#include "common/base/event_loop.h"
#include "common/kube/api.h"
#include "common/model/job.h"
#include "executor/prune_plan.h"
#include "executor/runner.h"

namespace snapkeeper {

// Deletes of all prunes, beyond one of each: those that hang leave connections to creates.
inline constexpr size_t kDeletesAtOnce = 16;

// Deletes what the scheduler's plan and a plan of its own, made of the policy and the snapshots as
// they are now, both prune. A snapshot that has changed in between is left alone. A claim whose
// deletes fail or hang holds up no other for long. Its DONE names what was deleted, whatever else
// went wrong.
class PruneRunner : public Runner {
 public:
  PruneRunner(RunnerContext& context, std::string job_id, int attempt, int64_t epoch,
              PruneSnapshots job);
  ~PruneRunner() override;

  void Start() override;
  // Both let deletes under way finish and send no more.
  void Cancel() override { Stop(absl::CancelledError("the prune was cancelled")); }
  void Drain() override { Stop(ExecutorDraining()); }

 private:
  absl::Time ServerNow() const { return context_.api.ServerTime(context_.loop.Now()); }
  void OnPolicy(absl::StatusOr<ObjectPtr> answer);
  void OnListed(absl::StatusOr<ListResult> answer);
  void LookUpNext();
  void OnLookedUp(absl::StatusOr<ObjectPtr> answer);
  void Plan();
  void DeleteNext();
  struct Delete {
    Decision decision;
    const Snapshot* snapshot;  // in fresh_
  };
  using Series = std::deque<Delete>;  // of one claim, oldest first; not empty
  void OnDeleted(Series series, const absl::Status& status);
  absl::Status CheckClockAndPlan() const;
  void Stop(absl::Status why);
  void Finish();

  RunnerContext& context_;
  const std::string job_id_;
  const int attempt_;
  const int64_t epoch_;
  const PruneSnapshots job_;
  std::optional<RetentionRule> rule_;
  Snapshots fresh_;
  std::vector<std::string> missing_;  // names still to look up
  std::deque<Series> waiting_;        // still to delete; nothing of them is under way
  std::list<Call> deletes_;           // under way
  std::vector<std::string> deleted_;
  absl::Status status_;  // of the job; not Ok: nothing more is begun
  absl::Status failed_;  // of single deletes
  int failures_ = 0;     // of those, one after another
  Call read_;            // of the policy, of the list
  std::list<Call> lookups_;
  Timer again_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_EXECUTOR_PRUNE_RUNNER_H_
