#include "executor/create_runner.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/kube/json.h"
#include "common/model/reason.h"
#include "common/model/retention.h"

namespace snapkeeper {
namespace {

// The wall clock may step: a deadline on it is looked at again at least this often.
constexpr absl::Duration kRecheckWallClock = absl::Minutes(1);

}  // namespace

CreateRunner::CreateRunner(RunnerContext& context, std::string job_id, int attempt,
                           CreateSnapshot job)
    : context_(context),
      job_id_(std::move(job_id)),
      attempt_(attempt),
      job_(std::move(job)),
      began_(context.loop.Elapsed()) {
  Observe(context_.snapshots.Find(job_.target.ns, job_.name), /*fresh=*/false);
}

void CreateRunner::Drain() {
  draining_ = true;
  if (request_ == Request::kNone) Act();
}

void CreateRunner::Act() {
  timer_.Cancel();
  observed_.cache_synced = context_.snapshots.synced();
  observed_.watching = context_.snapshots.health().ok();
  const Step step = Decide(job_, observed_, context_.loop.Now(), context_.api.ClockOffset());
  if (step.ours) TellProgress();
  switch (step.kind) {
    case Step::Kind::kPost:
      if (cancelled_) return Finish(absl::CancelledError("it was taken back before it was posted"));
      return draining_ ? Finish(ExecutorDraining()) : Post();
    case Step::Kind::kLookUp:
      return LookUp();
    case Step::Kind::kVerify:
      return Verify();
    case Step::Kind::kRemove:
      return Remove();
    case Step::Kind::kAwait:
      return draining_ ? Finish(ExecutorDraining()) : Await(step.wait);
    case Step::Kind::kDone:
      return Finish(step.status);
  }
}

void CreateRunner::Post() {
  request_ = Request::kPost;
  call_ = context_.api.Create(Kind::kSnapshot, SnapshotToJson(job_),
                              [this](absl::StatusOr<ObjectPtr> answer) {
                                request_ = Request::kNone;
                                if (answer.ok()) {
                                  Observe(As<Snapshot>(*answer), /*fresh=*/true);
                                  observed_.posted_by_us = true;
                                } else {
                                  observed_.post = answer.status();
                                }
                                Act();
                              });
}

void CreateRunner::LookUp() {
  request_ = Request::kLookUp;
  call_ = context_.api.Get(Key(), [this](absl::StatusOr<ObjectPtr> answer) {
    request_ = Request::kNone;
    if (answer.ok()) {
      Observe(As<Snapshot>(*answer), /*fresh=*/true);
    } else if (absl::IsNotFound(answer.status())) {
      observed_.object = Observed::Object::kAbsent;
    } else {
      observed_.look = answer.status();
    }
    Act();
  });
}

void CreateRunner::Verify() {
  request_ = Request::kVerify;
  const ObjectKey content = {Kind::kContent, "", observed_.snapshot->bound_content};
  call_ = context_.api.Get(content, [this](absl::StatusOr<ObjectPtr> answer) {
    request_ = Request::kNone;
    if (answer.ok()) {
      observed_.content = As<Content>(*answer);
    } else {
      observed_.content = answer.status();
    }
    Act();
  });
}

void CreateRunner::Remove() {
  request_ = Request::kRemove;
  // Whatever its version: controllers write to a new snapshot at once.
  const Preconditions this_object = {.uid = observed_.snapshot->meta.uid, .resource_version = ""};
  call_ = context_.api.Delete(Key(), this_object, [this](const absl::Status& removed) {
    request_ = Request::kNone;
    Finish(CreatedTooLate(job_, *observed_.snapshot,
                          absl::IsNotFound(removed) ? absl::OkStatus() : removed));
  });
}

void CreateRunner::Await(absl::Duration wait) {
  // The watch may have outrun the answer that told us the UID.
  const auto cached = context_.snapshots.Find(job_.target.ns, job_.name);
  if (observed_.watching && cached && cached != observed_.snapshot &&
      cached->meta.uid == job_.known_uid) {
    Observe(cached, /*fresh=*/false);
    return Act();
  }
  observed_.fresh = false;
  timer_ = context_.loop.After(std::min(wait, kRecheckWallClock), [this] { Act(); });
}

void CreateRunner::OnChanged(std::shared_ptr<const Snapshot> after) {
  // The answer under way will be newer still, or Await finds this version in the cache.
  if (after && request_ == Request::kLookUp) return;
  if (after && request_ == Request::kVerify && after->ready_to_use && !after->meta.deleting &&
      after->bound_content == observed_.snapshot->bound_content) {
    observed_.snapshot = std::move(after);
    return;
  }
  call_ = {};
  request_ = Request::kNone;
  Observe(std::move(after), /*fresh=*/false);
  Act();
}

void CreateRunner::Observe(std::shared_ptr<const Snapshot> snapshot, bool fresh) {
  observed_.object = snapshot ? Observed::Object::kPresent : Observed::Object::kUnknown;
  if (snapshot) observed_.post = absl::OkStatus();  // whatever became of it
  if (snapshot && !snapshot->error.empty()) observed_.last_error = snapshot->error;
  observed_.snapshot = std::move(snapshot);
  observed_.fresh = fresh;
  observed_.posted_by_us = false;
  observed_.content.reset();
}

void CreateRunner::TellProgress() {
  const Snapshot& snapshot = *observed_.snapshot;
  if (phase_ < Phase::kCreated) {
    measured_ = observed_.posted_by_us;
    if (job_.known_uid.empty())
      job_.known_uid = snapshot.meta.uid;  // else equal, and others refer to it
    created_ = snapshot.meta.created;
    std::string().swap(job_.target.source_json);  // thousands of jobs may wait now
    EnterPhase(Phase::kCreated);
    Write(LogLevel::kInfo, measured_ ? "created" : "adopted", absl::OkStatus());
  }
  if (phase_ < Phase::kCut && snapshot.cut_time) EnterPhase(Phase::kCut);
}

void CreateRunner::EnterPhase(Phase phase) {
  if (measured_) {
    context_.metrics.ObservePhase(phase, job_.target.driver, absl::OkStatus(),
                                  context_.loop.Elapsed() - began_);
  }
  phase_ = phase;
  if (phase == Phase::kCreated) began_ = context_.loop.Elapsed();
  if (phase == Phase::kCut) {
    cut_ = CutOf(*observed_.snapshot, context_.loop.Now());
    Write(LogLevel::kDebug, "cut", absl::OkStatus());
  }
  context_.tell(Event(phase));
}

void CreateRunner::Finish(absl::Status status) {
  if (status.ok()) {
    if (phase_ < Phase::kCut) EnterPhase(Phase::kCut);  // the driver did not say when
    EnterPhase(Phase::kReady);
    Write(LogLevel::kInfo, "ready", status);
  } else {
    if (measured_) {
      const Phase missed = phase_ == Phase::kAccepted  ? Phase::kCreated
                           : phase_ == Phase::kCreated ? Phase::kCut
                                                       : Phase::kReady;
      context_.metrics.ObservePhase(missed, job_.target.driver, status,
                                    context_.loop.Elapsed() - began_);
    }
    Write(LogLevel::kInfo, "failed", status);
  }
  context_.metrics.CountAttempt("create", status);
  JobEvent done = Event(Phase::kDone);
  done.status = std::move(status);
  context_.tell(std::move(done));  // destroys this
}

JobEvent CreateRunner::Event(Phase phase) const {
  JobEvent event;
  event.job_id = job_id_;
  event.attempt = attempt_;
  event.phase = phase;
  if (phase_ >= Phase::kCreated) {
    event.snapshot_uid = job_.known_uid;
    event.created = created_;
  }
  if (phase_ >= Phase::kCut) event.cut = cut_;
  return event;
}

void CreateRunner::Write(LogLevel level, std::string_view msg, const absl::Status& error) const {
  const LogField job("job", job_id_), attempt("attempt", attempt_), policy("policy", job_.policy),
      claim("claim", job_.target.claim), snapshot("snapshot", job_.name),
      uid("uid", job_.known_uid);
  if (error.ok()) {
    context_.log.Write(level, msg, {job, attempt, policy, claim, snapshot, uid});
  } else {
    context_.log.Write(level, msg,
                       {job,
                        attempt,
                        policy,
                        claim,
                        snapshot,
                        uid,
                        {"reason", ToString(ReasonOf(error))},
                        {"error", error}});
  }
}

}  // namespace snapkeeper
