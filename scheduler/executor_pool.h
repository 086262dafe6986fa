#ifndef SNAPKEEPER_SCHEDULER_EXECUTOR_POOL_H_
#define SNAPKEEPER_SCHEDULER_EXECUTOR_POOL_H_

#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/backoff.h"
#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/model/job.h"
#include "scheduler/executor_client.h"

namespace snapkeeper {

// The streams to all executors: hello, heartbeats, reconnecting after 100 ms to 1 s, and which job
// is where. An executor that two addresses lead to has one stream. It neither queues nor retries:
// what is lost is told. Loop thread only.
class ExecutorPool {
 public:
  struct Handlers {
    std::function<void()> capacity;  // a slot may have become free
    std::function<void(const JobEvent&)>
        event;  // of the current attempt of a job, in order of phases
    std::function<void(const std::string& job_id, absl::Status why)>
        lost;                                      // the executor went away with it
    std::function<void(std::string why)> deposed;  // an executor belongs to a higher epoch
  };

  ExecutorPool(EventLoop& loop, Rng& rng, Log& log, std::vector<ExecutorClient*> clients,
               absl::Duration heartbeat);
  ~ExecutorPool();

  void Start(SchedulerHello hello, Handlers handlers);

  // Gives the job to the executor with the fewest jobs that has a free slot (for one that was
  // created already: a free parking place). One that could not do what it was given last (its clock
  // is wrong, it does not reach the API server) gets it only if no other has room. Prunes have half
  // of the slots at most: creates do not wait behind deletes that hang. False: nobody has room.
  bool TrySend(const Job& job, bool created);
  // Whether it would find one.
  bool HasRoom(bool created, bool prunes) { return Roomiest(created, prunes) != nullptr; }
  // Asks the executor to end a job that it has not POSTed yet, or a prune before its next
  // delete; the answer comes as its event.
  // False: the job is nowhere.
  bool Cancel(const std::string& job_id);
  // Cancels it, and hears nothing of it any more: its executor has not answered for too long.
  void Abandon(const std::string& job_id);

  int connected() const;
  int outstanding() const { return static_cast<int>(where_.size()); }

 private:
  struct Connection {
    ExecutorClient* client;
    std::unique_ptr<ExecutorStream> stream;
    bool ready = false;  // hello received, not draining
    ExecutorHello hello;
    int in_slots = 0, parked = 0;
    int pruning = 0;  // of those in slots
    int failures = 0;
    bool has_twin = false;  // told
    // When its last attempt failed; in the past once one went well.
    absl::Duration failed_at = -absl::InfiniteDuration();
    Timer heartbeat, silence, reconnect;
  };
  struct Place {
    size_t connection;
    int attempt;
    bool parked, prunes;
    Phase phase = Phase::kAccepted;
  };

  void Open(size_t index);
  // The same process is connected under another address.
  bool HasTwin(size_t index) const;
  void OnMessage(size_t index, ToScheduler message);
  void OnClosed(size_t index, const absl::Status& status);
  void ExpectWithin(size_t index);
  void Beat(size_t index);
  void OnEvent(size_t index, const JobEvent& event);
  void Leave(const std::string& job_id);
  bool Distrusted(const Connection& connection) const;
  // Null where none has room.
  Connection* Roomiest(bool created, bool prunes);

  EventLoop& loop_;
  Rng& rng_;
  Log& log_;
  const absl::Duration heartbeat_;
  SchedulerHello hello_;
  Handlers handlers_;
  std::vector<Connection> connections_;
  absl::flat_hash_map<std::string, Place> where_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_EXECUTOR_POOL_H_
