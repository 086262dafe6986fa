#ifndef SNAPKEEPER_TESTS_SIMULATION_ORACLE_H_
#define SNAPKEEPER_TESTS_SIMULATION_ORACLE_H_

#include <absl/time/time.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "simulator/store.h"

namespace snapkeeper {

// Holds every write of the simulated cluster against the guarantees G1 to G4, from what the cluster
// shows alone. What it finds is a line in violations(); the seed replays it.
class Oracle {
 public:
  void OnWrite(const StoreWrite& write, absl::Time now);

  // G2 for one policy: every instant has one settled run in the record, or is one of missedRuns.
  void CheckAccounted(const std::string& policy_uid, const std::vector<absl::Time>& instants);
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
  void Violation(absl::Time now, std::string text);

  std::map<std::pair<std::string, std::string>, std::map<std::string, Snapshot>>
      by_claim_;                                                       // (namespace, claim), UID
  std::map<std::string, std::string> identities_;                      // identity to UID
  std::map<PolicyInstant, std::set<std::string>> taken_, ever_ready_;  // claim UIDs
  std::map<std::string, Policy> policies_;                             // by UID
  std::map<PolicyInstant, RunRecord> records_;
  std::vector<std::string> violations_;
  Counts counts_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_SIMULATION_ORACLE_H_
