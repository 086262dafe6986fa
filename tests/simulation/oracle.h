#ifndef SNAPKEEPER_TESTS_SIMULATION_ORACLE_H_
#define SNAPKEEPER_TESTS_SIMULATION_ORACLE_H_

#include <absl/time/time.h>

#include <map>
#include <set>
#include <string>
#include <tuple>
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
  using PolicyInstant = std::pair<std::string, absl::Time>;
  void OnSnapshot(const Snapshot* before, const Snapshot* after, std::string_view user,
                  absl::Time now);
  void OnOurDelete(const Snapshot& snapshot, absl::Time now);
  void OnPolicy(const Policy* before, const Policy& after, absl::Time now);
  void CheckMissed(const Policy& policy, absl::Time now);
  void Violation(absl::Time now, std::string text);

  std::map<std::pair<std::string, std::string>, std::map<std::string, Snapshot>>
      by_claim_;  // (namespace, claim), UID
  // What the executors made, by UID: the oracle's own knowledge of what is ours.
  struct Made {
    std::string policy_uid, claim_uid;
    absl::Time instant;
  };
  std::map<std::string, Made> made_;
  std::map<std::tuple<std::string, absl::Time, std::string>, std::string> uids_;  // of an identity
  std::map<PolicyInstant, std::set<std::string>> taken_, ever_ready_;             // claim UIDs
  std::map<std::string, Policy> policies_;                                        // by UID
  std::map<PolicyInstant, RunRecord> records_;
  struct Expected {
    CompiledSchedule schedule;
    absl::Time up_to;
    std::set<absl::Time> unrecorded;  // instants up to there without a record
  };
  std::map<std::string, Expected> expected_;  // by policy UID
  std::vector<std::string> violations_;
  Counts counts_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_SIMULATION_ORACLE_H_
