#ifndef SNAPKEEPER_SCHEDULER_DISPATCHER_H_
#define SNAPKEEPER_SCHEDULER_DISPATCHER_H_

#include <absl/container/flat_hash_map.h>
#include <absl/functional/any_invocable.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "common/base/backoff.h"
#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/model/job.h"
#include "scheduler/executor_pool.h"
#include "scheduler/metrics.h"
#include "scheduler/profiles.h"

namespace snapkeeper {

// The queue, the limits and the one retry loop. A job to create goes through: its volume's lane
// (one snapshot of a volume is asked for at a time), its driver's cap (maxCreating, from being sent
// on), an executor's slot. Lane and cap are freed at the cut, or after the driver's readyTimeout. A
// failed attempt is tried again with backoff until the starting deadline; once the object exists,
// until its ready deadline. Loop thread only.
class Dispatcher {
 public:
  struct Create {
    CreateSnapshot work;        // post_before is set at each send
    absl::Time start_deadline;  // of the POST
    absl::Time order;  // smaller goes first: the cut of the volume's newest ready snapshot;
                       // InfiniteFuture() where an earlier one was not cut in its time
    // kCreated, kCut, kReady, each at most once and in this order.
    absl::AnyInvocable<void(const JobEvent&)> progress;
    // Once, at the end; the job is forgotten before. Reasons: see model/reason.h. Cancelled:
    // Withdraw came in time.
    absl::AnyInvocable<void(absl::Status)> done;
  };

  // The object of this name and identity as it is known here, which costs the executors nothing;
  // null if there is none.
  using Find = std::function<std::shared_ptr<const Snapshot>(const CreateSnapshot& work)>;

  // Our time by the API server's clock, which snapshots' ages and post_before are told by.
  using ServerNow = std::function<absl::Time()>;

  Dispatcher(EventLoop& loop, Rng& rng, Log& log, SchedulerMetrics& metrics, ExecutorPool& pool,
             const DriverProfiles& profiles, absl::Duration quarantine, Find find,
             ServerNow server_now);

  void Start(int64_t epoch) { epoch_ = epoch; }
  // The clock is too far off to act (common/model/clock.h): nothing new is sent until it is right
  // again.
  void SetPaused(bool paused);

  std::string Submit(Create create);
  // Tried once: a plan is void soon, and whoever made it makes another. Answers how it ended, and
  // how many snapshots were deleted until then.
  using Pruned = absl::AnyInvocable<void(const absl::Status& status, size_t deleted)>;
  std::string Submit(PruneSnapshots prune, Pruned done);
  // Ends jobs whose snapshots were not asked for yet, with `done(Cancelled)`; where one was,
  // nothing changes. A prune that was sent deletes nothing more; one that was not finds its policy
  // changed.
  void Withdraw(std::vector<std::string> job_ids);
  // Ends a job of which no attempt was sent yet, with `done(why)`; another goes on.
  void GiveUp(const std::string& job_id, absl::Status why);

  // From the pool.
  void OnCapacity() { Pump(); }
  void OnEvent(const JobEvent& event);
  void OnLost(const std::string& job_id, const absl::Status& why);

  // Jobs whose POST is under way, or leaves as soon as an executor has a slot: not those that wait
  // for another snapshot or for their next attempt.
  int posting() const { return posting_; }
  int queued() const { return static_cast<int>(queue_.size()); }

 private:
  enum class State { kLane, kCap, kQueued, kSent, kBackoff };  // in the order of a first attempt
  using QueueKey = std::tuple<int, absl::Time, uint64_t>;
  struct Entry {
    std::string id;
    uint64_t seq;
    State state = State::kLane;
    std::variant<Create, PruneSnapshots> body;
    Pruned pruned;
    int attempt = 0;
    int failures = 0;
    bool created = false, created_told = false, cut = false, withdrawn = false;
    bool in_lane = false, in_cap = false;
    absl::Time created_time;  // by the server's clock
    absl::Status last_error;
    QueueKey key;
    Timer timer;     // backoff; while it is sent, the wait for an answer
    Timer deadline;  // start deadline, then ready deadline
  };

  Create& CreateOf(Entry& entry) { return std::get<Create>(entry.body); }
  static bool IsPosting(const Entry& entry);
  void Move(Entry& entry, State state);
  void EnterLane(Entry& entry);
  void EnterCap(Entry& entry);
  QueueKey KeyOf(Entry& entry);
  void Enqueue(Entry& entry);
  void Pump();
  bool Send(Entry& entry);
  void LeaveCap(Entry& entry);
  void ReleaseCut(Entry& entry);
  void MarkCreated(Entry& entry, const std::string& uid, absl::Time created);
  void Failed(Entry& entry, const absl::Status& status);
  // It was asked for unseen, and is there: only its end must be learnt.
  void TakeUp(Entry& entry, const Snapshot& known);
  // How long one that is not cut holds its volume's lane and its driver's place, by the server's
  // clock. Not its policy's own timeout: that would let one policy decide how long others wait.
  absl::Time HoldsUntil(Entry& entry);
  void ArmDeadline(Entry& entry);
  void OnDeadline(const std::string& id);
  // What holds up one that has not been sent.
  absl::Status WaitsFor(const Entry& entry) const;
  // Takes it out of whatever it waits in; an attempt under way is called off.
  void Unlink(Entry& entry);
  void Finish(Entry& entry, absl::Status status);

  EventLoop& loop_;
  Rng& rng_;
  Log& log_;
  SchedulerMetrics& metrics_;
  ExecutorPool& pool_;
  const DriverProfiles& profiles_;
  const absl::Duration quarantine_;
  const Find find_;
  const ServerNow server_now_;
  int64_t epoch_ = 0;
  bool paused_ = false;
  uint64_t next_seq_ = 0;
  int posting_ = 0;
  absl::flat_hash_map<std::string, std::unique_ptr<Entry>> entries_;
  std::map<QueueKey, Entry*> queue_;  // only what waits for a slot
  struct Lane {
    Entry* holder = nullptr;
    std::deque<Entry*> waiting;
  };
  absl::flat_hash_map<std::string, Lane> lanes_;  // by claim UID
  struct Cap {
    int creating = 0;
    std::map<QueueKey, Entry*> waiting;
  };
  absl::flat_hash_map<std::string, Cap> caps_;  // by driver
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_DISPATCHER_H_
