#ifndef SNAPKEEPER_TESTS_SIMULATION_WORLD_H_
#define SNAPKEEPER_TESTS_SIMULATION_WORLD_H_

#include <absl/time/time.h>

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/base/backoff.h"
#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/kube/reflector.h"
#include "executor/executor.h"
#include "scheduler/scheduler.h"
#include "simulator/simulator.h"
#include "tests/simulation/oracle.h"
#include "tests/support/sim_waiter.h"

namespace snapkeeper {

// The network between schedulers and executors: how long a message takes, and how often it comes.
// Messages of one direction of one stream stay in order.
struct Network {
  std::function<absl::Duration()> delay;  // null: none
  std::function<bool()> duplicate_job;    // null: never
};

// The whole system in one thread: a simulated cluster, and any number of schedulers and executors
// that are the real cores, each with a loop and a wall clock of its own. Deterministic: the seed
// replays it.
class World {
 public:
  struct Options {
    uint64_t seed = 1;
    absl::Duration quarantine = absl::Minutes(5);
    absl::Duration cut_after = absl::Milliseconds(200);
    absl::Duration ready_after = absl::Seconds(2);
    // Idle chatter, which a year has no time for.
    absl::Duration heartbeat = kHeartbeatEvery;
    absl::Duration bookmark_every = absl::Minutes(1);
  };
  explicit World(Options options);
  ~World();

  // A process by its name ("scheduler-1", "executor-0"). Killing it loses everything that it had in
  // memory.
  void StartScheduler(const std::string& name);
  void StartExecutor(const std::string& name);
  void Kill(const std::string& name);
  bool Running(const std::string& name) const;
  // SIGSTOP and SIGCONT: its loop does not turn; what is sent to it piles up.
  void Freeze(const std::string& name, bool frozen);
  bool Frozen(const std::string& name) const { return processes_.at(name)->frozen; }
  // How far the process's wall clock is ahead.
  void SetClockOffset(const std::string& name, absl::Duration offset) {
    processes_.at(name)->waiter.set_offset(offset);
  }
  // Everybody's wall clock, the cluster's too, is set to another time.
  void StepClocks(absl::Duration by) { clock_.Step(by); }
  // Of schedulers: it was told that another one has taken over.
  bool Deposed(const std::string& name) const { return processes_.at(name)->deposed; }
  const Scheduler* SchedulerOf(const std::string& name) const {
    return processes_.at(name)->scheduler.get();
  }

  // What its /metrics says now.
  std::string MetricsOf(const std::string& name);

  // Executors that schedulers started from now on know.
  void KnowExecutors(std::vector<std::string> names) { known_executors_ = std::move(names); }
  void SetNetwork(Network network) { network_ = std::move(network); }

  // `spec` is the policy's spec in JSON; selector {"matchLabels":{"app":"db"}} where it has none.
  void AddPolicy(const std::string& name, nlohmann::json spec, const std::string& ns = "default");
  void PatchPolicy(const std::string& name, const nlohmann::json& patch,
                   const std::string& ns = "default");
  void DeletePolicy(const std::string& name, const std::string& ns = "default");
  // At once, although a snapshot that is not ready holds it.
  void DeleteClaim(const std::string& name, const std::string& ns = "default");
  // A request of an executor that an earlier leader had asked comes through.
  void PostAsAnother(const std::string& policy, const std::string& claim, absl::Time instant);
  // As a user does who copies one of "default" with its labels and annotations; `changes` is merged
  // into the copy.
  struct CopyName {
    std::string ns, name;
  };
  void CopySnapshot(const std::string& name, const CopyName& copy_name,
                    const nlohmann::json& changes = nlohmann::json::object());
  std::shared_ptr<const Policy> PolicyOf(const std::string& name,
                                         const std::string& ns = "default");
  PolicyStatus StatusOf(const std::string& name, const std::string& ns = "default");
  std::vector<std::shared_ptr<const Snapshot>> SnapshotsOf(const std::string& policy,
                                                           const std::string& ns = "default");

  void RunFor(absl::Duration time);
  absl::Time Now() const { return clock_.Now(); }

  Simulator& simulator() { return simulator_; }
  Oracle& oracle() { return oracle_; }
  Rng& rng() { return rng_; }

 private:
  struct Wire;
  struct Process;
  // Says nothing unless SNAPKEEPER_SIMULATION_LOG is set: then all, on stderr, in simulated time.
  class ProcessLog : public Log {
   public:
    explicit ProcessLog(const Process& process) : process_(process) {}
    void Write(LogLevel level, std::string_view msg,
               std::initializer_list<LogField> fields) override;

   private:
    const Process& process_;
  };
  struct Process {
    Process(World& world, std::string name);
    ~Process();
    std::string name;
    SimWaiter waiter;
    EventLoop loop;
    std::unique_ptr<KubeApi> api;
    Rng rng;
    ProcessLog log;
    Metrics metrics;
    std::shared_ptr<bool> alive = std::make_shared<bool>(true);
    bool frozen = false, deposed = false;
    // A scheduler:
    std::vector<std::unique_ptr<ExecutorClient>> clients;
    std::unique_ptr<Scheduler> scheduler;
    // An executor:
    std::unique_ptr<Reflector<Snapshot>> snapshots;
    std::unique_ptr<Executor> executor;
    std::vector<std::weak_ptr<Wire>> wires;
  };
  class Client;
  class Stream;

  // Runs `task` on the process's loop after the network's delay, if it still lives then.
  void Deliver(const std::weak_ptr<bool>& alive, EventLoop& loop, absl::Duration& last,
               EventLoop::Task task);
  std::vector<EventLoop*> Loops();

  SimClock clock_;
  SimWaiter server_waiter_;
  EventLoop server_loop_;
  Rng rng_;
  Options options_;
  Simulator simulator_;
  Oracle oracle_;
  Network network_;
  std::vector<std::string> known_executors_ = {"executor-0", "executor-1"};
  std::map<std::string, std::unique_ptr<Process>> processes_;
  std::map<uint64_t, Timer> in_transit_;
  uint64_t next_transit_ = 0;
};

// Instants of `@every period` in (after, until].
std::vector<absl::Time> Every(absl::Duration period, absl::Time after, absl::Time until);

// "3 succeeded", "1 skipped (Overlap)": what became of the volumes of the policy's runs, oldest
// first.
std::vector<std::string> Outcomes(const PolicyStatus& status);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_SIMULATION_WORLD_H_
