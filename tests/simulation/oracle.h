#ifndef SNAPKEEPER_TESTS_SIMULATION_ORACLE_H_
#define SNAPKEEPER_TESTS_SIMULATION_ORACLE_H_

#include <absl/time/time.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/model/policy.h"
#include "simulator/store.h"

namespace snapkeeper {

// Holds every write of the simulated cluster against the guarantees G1 to G4, from what the cluster
// shows alone. What it finds is a line in violations(); the seed replays it.
class Oracle {
 public:
  void OnWrite(const StoreWrite& write, absl::Time now);

  // This policy keeps its schedule and is not suspended: from now on each write of its status must
  // have a record of every instant up to its newest, or count it as missed.
  void ExpectAll(const Policy& policy);
  // At the end: it was accounted for up to `end`, and every run up to there is settled.
  void CheckAccounted(const Policy& policy, absl::Time end);
  // The newest settled run of this policy took every one of `claims` volumes.
  void CheckHealthy(const Policy& policy, size_t claims);
  // Every instant of `instants` has exactly one snapshot of each of `claims` volumes, that was
  // ready at some time.
  void CheckTaken(const std::string& policy_uid, const std::vector<absl::Time>& instants,
                  size_t claims);

  const std::vector<std::string>& violations() const { return violations_; }
  struct Counts {
    int64_t created = 0, deleted = 0, status_writes = 0;
  };
  const Counts& counts() const { return counts_; }
  // The instants of this policy that have a settled run.
  size_t Settled(const std::string& policy_uid) const;

 private:
  using SnapshotPtr = std::shared_ptr<const Snapshot>;
  using PolicyPtr = std::shared_ptr<const Policy>;
  struct Taken {
    std::string snapshot_uid;
    bool ever_ready = false;
  };
  // What the executors made for an instant of a policy, and what the policy's record says of it.
  struct Run {
    std::map<std::string, Taken> volumes;  // by claim UID
    std::optional<RunCounts> recorded;
    bool settled = false;
    size_t EverReady() const;
  };
  struct Expected {
    CompiledSchedule schedule;
    absl::Time up_to;
    std::set<absl::Time> unrecorded;  // instants up to there without a record
  };
  struct Known {
    PolicyPtr policy;  // as last seen; null: never
    std::map<absl::Time, Run> runs;
    std::optional<Expected> expected;
  };
  // A snapshot that an executor made: the oracle's own knowledge of what is ours.
  struct Made {
    std::string policy_uid, claim_uid;
    absl::Time instant;
  };

  void OnSnapshot(const SnapshotPtr& before, const SnapshotPtr& after, std::string_view user,
                  absl::Time now);
  void OnMade(const Snapshot& snapshot, absl::Time now);
  void OnOurDelete(const Snapshot& snapshot, absl::Time now);
  void OnPolicy(const PolicyPtr& before, const PolicyPtr& after, absl::Time now);
  void CheckRecord(const Policy& policy, const RunRecord& record, absl::Time now);
  void CheckMissed(const Policy& policy, absl::Time now);
  void Violation(absl::Time now, std::string text);

  std::map<std::string, Known> policies_;  // by UID
  // Those that are there:
  std::map<std::pair<std::string, std::string>, std::map<std::string, SnapshotPtr>>
      by_claim_;                      // (namespace, claim), UID
  std::map<std::string, Made> made_;  // by UID
  std::vector<std::string> violations_;
  Counts counts_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_SIMULATION_ORACLE_H_
