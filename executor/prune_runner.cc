#include "executor/prune_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/model/clock.h"
#include "common/model/names.h"
#include "common/model/reason.h"

namespace snapkeeper {
namespace {

// Each delete sets the snapshot controller and the driver to work, and creates should not queue
// behind them: a whole series goes in little more time than one by one, and a burst stays below the
// controller's own default burst of 10 requests.
constexpr size_t kDeletesAtOnce = 4;

}  // namespace

PruneRunner::PruneRunner(RunnerContext& context, std::string job_id, int attempt, int64_t epoch,
                         PruneSnapshots job)
    : context_(context),
      job_id_(std::move(job_id)),
      attempt_(attempt),
      epoch_(epoch),
      job_(std::move(job)),
      began_(context.loop.Elapsed()) {}

void PruneRunner::Start() {
  if (status_ = CheckPlanAge(job_, ServerNow()); !status_.ok()) return Finish();
  read_ =
      context_.api.Get({Kind::kPolicy, job_.ns, job_.policy_name},
                       [this](absl::StatusOr<ObjectPtr> answer) { OnPolicy(std::move(answer)); });
}

void PruneRunner::OnPolicy(absl::StatusOr<ObjectPtr> answer) {
  using Answer = absl::StatusOr<std::shared_ptr<const Policy>>;
  const Answer policy = answer.ok() ? Answer(As<Policy>(*answer)) : Answer(answer.status());
  auto rule = CheckPolicy(job_, epoch_, policy);
  if (!rule.ok()) {
    status_ = rule.status();
    return Finish();
  }
  rule_ = *rule;
  read_ =
      context_.api.List({.kind = Kind::kSnapshot,
                         .ns = job_.ns,
                         .label_selector = fmt::format("{}={}", kPolicyUidLabel, job_.policy_uid),
                         .field_selector = ""},
                        [this](absl::StatusOr<ListResult> answer) { OnListed(std::move(answer)); });
}

void PruneRunner::OnListed(absl::StatusOr<ListResult> answer) {
  if (!answer.ok()) {
    status_ = answer.status();
    return Finish();
  }
  for (const ObjectPtr& object : answer->items) fresh_.push_back(As<Snapshot>(object));
  missing_ = MissingSurvivors(job_, fresh_);
  LookUpNext();
}

void PruneRunner::LookUpNext() {
  if (missing_.empty()) return Plan();
  read_ =
      context_.api.Get({Kind::kSnapshot, job_.ns, missing_.back()},
                       [this](absl::StatusOr<ObjectPtr> answer) { OnLookedUp(std::move(answer)); });
  missing_.pop_back();
}

void PruneRunner::OnLookedUp(absl::StatusOr<ObjectPtr> answer) {
  if (answer.ok()) {
    fresh_.push_back(As<Snapshot>(*answer));
  } else if (!absl::IsNotFound(answer.status())) {
    status_ = answer.status();
    return Finish();
  }
  LookUpNext();
}

void PruneRunner::Plan() {
  for (Decision& decision : ConfirmedPrunes(job_, rule_, fresh_, context_.loop.Now())) {
    waiting_.push_back(std::move(decision));
  }
  DeleteNext();
}

void PruneRunner::DeleteNext() {
  while (status_.ok() && !waiting_.empty() && deletes_.size() < kDeletesAtOnce) {
    // Just before each one: this process may have been frozen for any time.
    if (status_ = CheckClockAndPlan(); !status_.ok()) break;
    const Decision decision = std::move(waiting_.front());
    waiting_.pop_front();
    const auto call = deletes_.emplace(deletes_.end());
    *call =
        context_.api.Delete({Kind::kSnapshot, job_.ns, decision.name},
                            {.uid = decision.uid, .resource_version = decision.resource_version},
                            [this, call, decision](const absl::Status& status) {
                              deletes_.erase(call);
                              OnDeleted(decision, status);
                            });
  }
  if (deletes_.empty()) Finish();
}

void PruneRunner::OnDeleted(const Decision& decision, const absl::Status& status) {
  context_.metrics.CountDelete(status);
  if (status.ok()) {
    deleted_.push_back(decision.uid);
    const auto snapshot =
        std::find_if(fresh_.begin(), fresh_.end(),
                     [&decision](const auto& fresh) { return fresh->meta.uid == decision.uid; });
    context_.log.Info("deleted", {{"job", job_id_},
                                  {"policy", fmt::format("{}/{}", job_.ns, job_.policy_name)},
                                  {"claim", (*snapshot)->source_claim},
                                  {"snapshot", decision.name},
                                  {"uid", decision.uid},
                                  {"rule", decision.rule}});
  } else if (!absl::IsNotFound(status) && !absl::IsAborted(status) &&
             (status_.ok() || RetryAfterOf(status) > RetryAfterOf(status_))) {
    status_ = status;
  }
  DeleteNext();
}

absl::Status PruneRunner::CheckClockAndPlan() const {
  const absl::Status plan = CheckPlanAge(job_, ServerNow());
  return plan.ok() ? CheckClock(context_.api.ClockOffset()) : plan;
}

void PruneRunner::Stop(absl::Status why) {
  if (status_.ok()) status_ = std::move(why);
  if (deletes_.empty()) Finish();
}

void PruneRunner::Finish() {
  if (!status_.ok()) {
    context_.log.Info("prune failed", {{"job", job_id_},
                                       {"attempt", attempt_},
                                       {"policy", fmt::format("{}/{}", job_.ns, job_.policy_name)},
                                       {"deleted", deleted_.size()},
                                       {"reason", ToString(ReasonOf(status_))},
                                       {"error", status_}});
  }
  context_.metrics.CountAttempt("prune", status_);
  context_.metrics.ObservePrune(status_, context_.loop.Elapsed() - began_);
  JobEvent done;
  done.job_id = job_id_;
  done.attempt = attempt_;
  done.phase = Phase::kDone;
  done.deleted = std::move(deleted_);
  done.status = status_;
  context_.tell(std::move(done));  // destroys this
}

}  // namespace snapkeeper
