#ifndef SNAPKEEPER_SCHEDULER_RUNS_H_
#define SNAPKEEPER_SCHEDULER_RUNS_H_

#include <absl/functional/function_ref.h>
#include <absl/time/time.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/kube/events.h"
#include "common/model/policy.h"
#include "scheduler/caches.h"
#include "scheduler/conditions.h"
#include "scheduler/dispatcher.h"
#include "scheduler/metrics.h"
#include "scheduler/profiles.h"
#include "scheduler/run.h"
#include "scheduler/ticker.h"

namespace snapkeeper {

// One policy and its record: what its status says, or will say at the next write.
struct PolicyState {
  std::shared_ptr<const Policy> policy;  // newest spec that was seen
  std::optional<CompiledSchedule> schedule;
  std::string schedule_error;  // of the Stalled condition, "" while `schedule` is set
  bool gone = false;           // deleted: kept until its open runs have settled
  bool recovered = false;  // what an earlier leader left was taken up; nothing is written before

  // What an earlier leader had accounted for when we took over, and the newest spec that it may
  // have run: its runs are gone on with only if that is the policy's still.
  absl::Time adopted_up_to;
  int64_t adopted_generation = 0;
  absl::Time fired_up_to;  // instants up to here were handed out or counted
  absl::Time next = absl::InfiniteFuture();

  std::optional<absl::Time> watermark;
  std::optional<absl::Time> schedule_since;
  std::string schedule_hash;
  std::optional<absl::Time> last_successful;
  int64_t missed_runs = 0;
  std::set<absl::Time>
      missed;  // counted as missed, lately; for snapshots that turn up all the same
  std::vector<absl::Time> unjudged;  // due while we were away; judged when the snapshots are known
  bool unjudged_too_many = false;
  std::map<absl::Time, Run> open;
  std::map<absl::Time, Run> history;                // settled
  absl::Time trimmed_up_to = absl::InfinitePast();  // the newest one that went from it
  std::vector<Condition> conditions;  // as last computed: they know their transition times
  int selected_volumes = 0;           // as last computed
  Timer look;                         // at the two again
};

// Which policies run when, and how each run ends: fires, gives jobs to the dispatcher, settles,
// keeps the record. The leader's memory of it; the StatusWriter makes it durable, and Recover
// builds it again from status and snapshots. Loop thread only.
class Runs {
 public:
  struct Handlers {
    // The record of this policy has changed and should be written within `delay`.
    std::function<void(const std::string& policy_uid, absl::Duration delay)> dirty;
    // Retention of this policy may have changed.
    std::function<void(const std::string& policy_uid)> series_changed;
    // Whether the clock is near enough to the server's to fire; if not, SetPaused follows before it
    // returns.
    std::function<bool()> clock_ok;
    // Our time by the API server's clock, which snapshots' ages are told by.
    std::function<absl::Time()> server_now;
    // A policy's status claims a higher epoch: nothing is written to it before OnEpochConfirmed.
    std::function<void()> outranked;
  };

  Runs(EventLoop& loop, const Caches& caches, Dispatcher& dispatcher,
       const DriverProfiles& profiles, EventRecorder& events, Log& log, SchedulerMetrics& metrics,
       Handlers handlers);

  // Leadership was won: from now on policies fire.
  void Start(int64_t epoch);
  // Caches gained what was missing: fires if they suffice for it, recovers once all of them are
  // there.
  void OnSynced();
  // The Lease shows no higher epoch than ours, whatever a status claims.
  void OnEpochConfirmed();
  // The clock is too far off (common/model/clock.h): nothing fires, no run is posted or settles,
  // and no deadline passes.
  void SetPaused(bool paused);
  // Nothing fires any more.
  void Stop() { stopped_ = true; }

  void PolicyChanged(const std::shared_ptr<const Policy>& before,
                     const std::shared_ptr<const Policy>& after);
  // A claim that is gone, or replaced by another of its name: what was not dispatched for it yet
  // has failed. Policies select others than before.
  void ClaimChanged(const std::shared_ptr<const Claim>& before,
                    const std::shared_ptr<const Claim>& after);
  void SnapshotChanged(const std::shared_ptr<const Snapshot>& before,
                       const std::shared_ptr<const Snapshot>& after);
  // A content changed or went: whether the snapshot it is bound to is ready in our eyes may have
  // changed with it.
  void ContentChanged(const Content& content);

  // The status to write now; nullopt where nothing may be written (policy gone, not recovered).
  std::optional<PolicyStatus> Status(const std::string& policy_uid);
  // That status is durable now.
  void Written(const std::string& policy_uid, const PolicyStatus& status);
  // A status that an earlier leader wrote since we took over: what it settled and counted stands.
  void Absorb(const Policy& policy);

  const PolicyState* Find(const std::string& policy_uid) const;
  const std::map<std::string, PolicyState>& policies() const { return states_; }
  // When the run of an instant was posted, once its outcome is in the status: until then its
  // snapshots are what the next leader would know of it. InfinitePast() for long ago, nullopt for
  // not yet or unknown.
  std::optional<absl::Time> PostedAt(const std::string& policy_uid,
                                     const std::string& instant) const;
  // A run that is likely to change soon: pruning can wait for it.
  bool Unsettled(const std::string& policy_uid) const;

 private:
  // Watermark and outcomes go into one write if the run settles this soon after it was posted.
  static constexpr absl::Duration kSettleSoon = absl::Seconds(10);
  // A run that could not be posted so soon is told in the status: the next leader takes it up then.
  static constexpr absl::Duration kPostingSoon = absl::Seconds(5);
  // As a schedule's hash: what the spec says now began at no time that is known.
  static constexpr char kUnknownSchedule[] = "unknown";
  static constexpr char kEndedBefore[] =
      "the policy was suspended or deleted before the snapshot was asked for";

  // By policy UID, claim UID and instant.
  using BlockedKey = std::tuple<std::string, std::string, absl::Time>;

  // The Lease alone tells who schedules: any status can be written by who owns its namespace.
  bool Outranked(const Policy& policy);
  void Adopt(const std::shared_ptr<const Policy>& policy);
  void Compile(PolicyState& state);
  void OnDue(const std::string& policy_uid);
  void Fire(PolicyState& state);
  void StartRun(PolicyState& state, absl::Time instant);
  void Recover(PolicyState& state);
  // Runs that were taken up, and whether more of each may be asked for. Oldest first: a later run
  // waits for what an earlier one has not concluded.
  using TakenUp = std::map<absl::Time, bool>;
  // Recover in two steps: what exists of all policies counts against the limits before anything new
  // is asked for.
  TakenUp TakeUpOpen(PolicyState& state);
  void CompleteOpen(PolicyState& state, const TakenUp& taken_up);
  // The unsettled entries of a status that are not known here.
  TakenUp TakeUpRecords(PolicyState& state, const PolicyStatus& status);
  void RecoverRun(PolicyState& state, Run run, bool complete);
  void TakeUpRun(PolicyState& state, Run run);
  void CompleteRun(PolicyState& state, absl::Time instant, bool complete);
  // What was not asked for, of a policy that was edited or ended meanwhile.
  void SkipRest(PolicyState& state, Run& run);
  // Some that were counted without a name have one now.
  static void UncountUnnamed(Run& run);
  void CountUnnamed(PolicyState& state, Run& run, Outcome outcome, Reason reason, int count);
  void JudgeMissed(PolicyState& state);
  void CountMissed(PolicyState& state, absl::Time instant);
  void RecordSkipped(PolicyState& state, absl::Time instant, Reason reason,
                     const std::string& message);
  // Policies of a namespace that are not gone.
  void ForEachIn(const std::string& ns, absl::FunctionRef<void(PolicyState&)> f);
  std::vector<Caches::SnapshotPtr> TakenAt(const PolicyState& state, absl::Time instant) const;
  // The snapshots of its schedule, with their instants.
  std::vector<std::pair<absl::Time, Caches::SnapshotPtr>> Taken(const PolicyState& state) const;
  std::set<absl::Time> InstantsWithSnapshots(const PolicyState& state) const;
  void TakeUpSnapshots(PolicyState& state, Run& run);
  void TakeOverSettled(PolicyState& state, const PolicyStatus& status);
  // Another leader has settled these runs: what is under way for them here does not count.
  void Abandon(PolicyState& state, const std::vector<absl::Time>& instants);
  std::vector<const Claim*> SelectedAt(const PolicyState& state, absl::Time instant) const;
  void SelectInto(PolicyState& state, Run& run);

  void Ask(PolicyState& state, Run& run, RunVolume& volume, const Target& target,
           const std::string& known_uid);
  // For how long what an earlier run took of this volume, or may have taken, holds a later run of
  // it: InfiniteDuration() where that is not known yet, not more than zero where nothing does.
  absl::Duration HeldFor(const PolicyState& state, absl::Time instant, const Target& target) const;
  // An earlier snapshot of the volume was not even cut in its time. Others go first: volumes that
  // take a place of their driver in vain would else, being protected longest ago, take it each
  // time.
  bool IsStuck(const Policy& policy, const Target& target) const;
  absl::Duration ReadyTimeout(const Policy& policy, const Target& target) const;
  void AskOrBlock(PolicyState& state, Run& run, RunVolume& volume, Target target);
  void OnOverlap(const BlockedKey& key);
  void Unblock(PolicyState& state, const std::string& claim_uid);
  std::pair<PolicyState*, Run*> FindOpen(const std::string& policy_uid, absl::Time instant);
  void OnProgress(const std::string& policy_uid, absl::Time instant, const std::string& claim_uid,
                  const JobEvent& event);
  void OnDone(const std::string& policy_uid, absl::Time instant, const std::string& claim_uid,
              const absl::Status& status);
  void Conclude(PolicyState& state, Run& run, RunVolume& volume, Outcome outcome, Reason reason,
                const std::string& message);
  void TellOutcome(const PolicyState& state, const Run& run, const RunVolume& volume);
  void CheckRun(PolicyState& state, absl::Time instant);
  void WithdrawAll(PolicyState& state);
  // Snapshots that retention keeps for a claim: as its last, or as its source.
  void ClaimFreed(const std::shared_ptr<const Claim>& before,
                  const std::shared_ptr<const Claim>& after);
  // Of all its claims where `claim_uid` is "".
  std::vector<BlockedKey> BlockedOf(const PolicyState& state, const std::string& claim_uid) const;
  void ConcludeBlocked(PolicyState& state, const std::string& claim_uid, Outcome outcome,
                       Reason reason, const std::string& message);
  void AmendLate(PolicyState& state);
  void AmendLate(PolicyState& state, absl::Time instant, const Snapshot& snapshot);
  void AmendNamed(PolicyState& state, absl::Time instant, const Snapshot& snapshot);
  // Volumes of a run that only its counts know: as many are late as there are more ready ones.
  void AmendUnnamed(PolicyState& state, Run& run);
  void Amended(PolicyState& state, const Run& run);
  void TrimHistory(PolicyState& state);
  void Forget(const std::string& policy_uid);
  ConditionFacts FactsOf(const PolicyState& state) const;
  // What the status says may be true no longer, though nothing was run.
  void LookAgain(PolicyState& state);
  void ProtectionChanged(const std::shared_ptr<const Snapshot>& before,
                         const std::shared_ptr<const Snapshot>& after);
  absl::Time StartDeadline(const PolicyState& state, absl::Time instant) const;
  void Warn(const PolicyState& state, std::string_view reason, const std::string& message);

  struct Blocked {
    Target target;
    Timer deadline, again = {};
  };

  EventLoop& loop_;
  const Caches& caches_;
  Dispatcher& dispatcher_;
  const DriverProfiles& profiles_;
  EventRecorder& events_;
  Log& log_;
  SchedulerMetrics& metrics_;
  const Handlers handlers_;
  Ticker ticker_;
  int64_t epoch_ = 0;
  bool started_ = false, recovered_ = false, paused_ = false, stopped_ = false;
  std::map<std::string, PolicyState> states_;  // by policy UID
  std::map<BlockedKey, Blocked> blocked_;      // waiting for an earlier snapshot of the volume
  std::set<std::pair<std::string, std::string>> outranked_;  // namespace and name of policies
  int64_t refuted_ = 0;                                      // the higher epoch that is none
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_RUNS_H_
