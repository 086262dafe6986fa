#ifndef SNAPKEEPER_EXECUTOR_CREATE_RUNNER_H_
#define SNAPKEEPER_EXECUTOR_CREATE_RUNNER_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <string>

#include "common/base/call.h"
#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/kube/api.h"
#include "common/model/job.h"
#include "executor/decide.h"
#include "executor/runner.h"

namespace snapkeeper {

// Takes one snapshot and waits until it is ready: carries out the steps of Decide(). While it waits
// it holds no request, and one timer that fires once a minute.
class CreateRunner : public Runner {
 public:
  CreateRunner(RunnerContext& context, std::string job_id, int attempt, CreateSnapshot job);

  void Start() override { Act(); }
  // What is posted settles.
  void Cancel() override { cancelled_ = true; }
  void Drain() override;

  // The snapshot of uid() in the cache is now `after`; null: it is not there any more.
  void OnChanged(std::shared_ptr<const Snapshot> after);

  // Of the object; "" until one is known.
  const std::string& uid() const { return job_.known_uid; }

 private:
  enum class Request { kNone, kPost, kLookUp, kVerify, kRemove };

  void Act();
  void Post();
  void LookUp();
  void Verify();
  void Remove();
  void Await(absl::Duration wait);
  void Finish(absl::Status status);

  void Observe(std::shared_ptr<const Snapshot> snapshot, bool fresh);
  void TellProgress();
  void EnterPhase(Phase phase);
  JobEvent Event(Phase phase) const;
  void Write(LogLevel level, std::string_view msg, const absl::Status& error) const;
  ObjectKey Key() const { return {Kind::kSnapshot, job_.target.ns, job_.name}; }

  RunnerContext& context_;
  const std::string job_id_;
  const int attempt_;
  CreateSnapshot job_;
  Observed observed_;
  Phase phase_ = Phase::kAccepted;
  absl::Duration began_;  // the attempt; from kCreated on, the object
  bool measured_ = true;  // and this attempt was there when it did
  absl::Time created_;    // from kCreated on
  absl::Time cut_;        // from kCut on
  bool draining_ = false, cancelled_ = false;
  Request request_ = Request::kNone;
  Call call_;
  Timer timer_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_EXECUTOR_CREATE_RUNNER_H_
