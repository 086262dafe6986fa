#include "executor/prune_runner.h"

#include <absl/container/flat_hash_map.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "common/model/clock.h"
#include "common/model/names.h"
#include "common/model/reason.h"

namespace snapkeeper {
namespace {

// Each delete sets the snapshot controller and the driver to work, and creates should not queue
// behind them: a burst stays below the controller's own default burst of 10 requests. Reads have no
// reason to be more.
constexpr size_t kRequestsAtOnce = 4;
constexpr absl::Duration kLookAgain = absl::Seconds(1);

}  // namespace

PruneRunner::PruneRunner(RunnerContext& context, std::string job_id, int attempt, int64_t epoch,
                         PruneSnapshots job)
    : context_(context),
      job_id_(std::move(job_id)),
      attempt_(attempt),
      epoch_(epoch),
      job_(std::move(job)) {}

PruneRunner::~PruneRunner() { context_.deletes -= deletes_.size(); }

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
  while (!missing_.empty() && lookups_.size() < kRequestsAtOnce) {
    const auto call = lookups_.emplace(lookups_.end());
    *call = context_.api.Get({Kind::kSnapshot, job_.ns, missing_.back()},
                             [this, call](absl::StatusOr<ObjectPtr> answer) {
                               lookups_.erase(call);
                               OnLookedUp(std::move(answer));
                             });
    missing_.pop_back();
  }
  if (lookups_.empty()) Plan();
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
  absl::flat_hash_map<std::string, const Snapshot*> by_uid;
  for (const auto& snapshot : fresh_) by_uid[snapshot->meta.uid] = snapshot.get();
  for (Decision& decision : ConfirmedPrunes(job_, rule_, fresh_, ServerNow())) {
    const Snapshot* snapshot = by_uid.at(decision.uid);
    if (waiting_.empty() || waiting_.back().front().snapshot->claim_uid != snapshot->claim_uid)
      waiting_.emplace_back();
    waiting_.back().push_back({std::move(decision), snapshot});
  }
  // Claims whose deletes hang may take all places for as long as the plan is valid: plans begin
  // with different ones.
  if (!waiting_.empty()) {
    const auto first = std::hash<std::string>()(job_id_) % waiting_.size();
    std::rotate(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(first), waiting_.end());
  }
  DeleteNext();
}

void PruneRunner::DeleteNext() {
  while (status_.ok() && !waiting_.empty() &&
         (deletes_.empty() ||
          (deletes_.size() < kRequestsAtOnce && context_.deletes < kDeletesAtOnce))) {
    // Just before each one: this process may have been frozen for any time.
    if (status_ = CheckClockAndPlan(); !status_.ok()) break;
    Series series = std::move(waiting_.front());
    waiting_.pop_front();
    const Decision next = series.front().decision;
    const auto call = deletes_.emplace(deletes_.end());
    ++context_.deletes;
    *call = context_.api.Delete(
        {Kind::kSnapshot, job_.ns, next.name},
        {.uid = next.uid, .resource_version = next.resource_version},
        [this, call, series = std::move(series)](const absl::Status& status) mutable {
          deletes_.erase(call);
          --context_.deletes;
          OnDeleted(std::move(series), status);
        });
  }
  if (deletes_.empty()) return Finish();
  // Other prunes have the places, and do not tell when they are through.
  if (!waiting_.empty() && deletes_.size() < kRequestsAtOnce)
    again_ = context_.loop.After(kLookAgain, [this] { DeleteNext(); });
}

void PruneRunner::OnDeleted(Series series, const absl::Status& status) {
  const auto [decision, snapshot] = std::move(series.front());
  series.pop_front();
  context_.metrics.CountDelete(status);
  if (status.ok()) {
    deleted_.push_back(decision.uid);
    context_.log.Info("deleted", {{"job", job_id_},
                                  {"policy", fmt::format("{}/{}", job_.ns, job_.policy_name)},
                                  {"claim", snapshot->source_claim},
                                  {"snapshot", decision.name},
                                  {"uid", decision.uid},
                                  {"rule", decision.rule}});
  }
  // NotFound, Aborted: it is gone, or has changed; the next plan knows better.
  const bool failed = !status.ok() && !absl::IsNotFound(status) && !absl::IsAborted(status);
  if (failed) {
    // For this claim alone, by a webhook perhaps, unless the server has enough or is down.
    series.clear();
    if (failed_.ok() || RetryAfterOf(status) > RetryAfterOf(failed_)) failed_ = status;
    if (absl::IsResourceExhausted(status) || absl::IsUnauthenticated(status) ||
        (IsRetryable(status) && ++failures_ > 1)) {
      if (status_.ok()) status_ = failed_;
    }
  } else {
    failures_ = 0;
  }
  if (!series.empty()) waiting_.push_back(std::move(series));
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
  // It tells more than that the plan has become void meanwhile.
  if (!failed_.ok()) status_ = failed_;
  if (!status_.ok()) {
    context_.log.Info("prune failed", {{"job", job_id_},
                                       {"attempt", attempt_},
                                       {"policy", fmt::format("{}/{}", job_.ns, job_.policy_name)},
                                       {"deleted", deleted_.size()},
                                       {"reason", ToString(ReasonOf(status_))},
                                       {"error", status_}});
  }
  context_.metrics.CountAttempt("prune", status_);
  JobEvent done;
  done.job_id = job_id_;
  done.attempt = attempt_;
  done.phase = Phase::kDone;
  done.deleted = std::move(deleted_);
  done.status = status_;
  context_.tell(std::move(done));  // destroys this
}

}  // namespace snapkeeper
