#ifndef SNAPKEEPER_COMMON_MODEL_JOB_H_
#define SNAPKEEPER_COMMON_MODEL_JOB_H_

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/model/names.h"
#include "common/model/policy.h"
#include "common/model/select.h"

namespace snapkeeper {

// What the scheduler asks an executor for. Values; the gRPC form is proto/snapkeeper/executor/v1.

// Take one snapshot, or go on with one that exists, until it is ready.
struct CreateSnapshot {
  Identity identity;
  std::string name;    // SnapshotName(identity, target.claim)
  std::string policy;  // "namespace/name", for the annotation
  std::string
      run;  // name of the run, for the annotation: namespaces/{ns}/policies/{id}/runs/{instant}
  std::string trigger = "schedule";
  Target target;
  // The executor must not POST later than this, by the API server's clock: it looks just before,
  // and the object carries it, so that the shipped admission policy can refuse what is later.
  absl::Time post_before;
  // How long after the object's creationTimestamp the attempt ends with NotReadyInTime.
  absl::Duration ready_timeout;
  // Set once any attempt saw the object: then it is never POSTed again, and an object of another
  // UID is not it.
  std::string known_uid;
  bool operator==(const CreateSnapshot&) const = default;
};

// A snapshot the scheduler's plan is about, with what only the scheduler's caches know of it.
struct PruneMember {
  std::string name, uid;
  std::string bound_content;  // the content's name that `bound` was judged for; "" if none
  bool bound = false;     // content bound both ways, and its volume handle is the one preflight saw
  bool pinned = false;    // dataSource of a Pending PVC
  bool retained = false;  // the content's deletionPolicy is Retain
  bool posted_known = false;  // false: its run is not posted yet: quarantined
  absl::Time posted = absl::InfinitePast();
  bool operator==(const PruneMember&) const = default;
};

// Delete from the series of one policy in one namespace. The executor reads the policy and the
// snapshots afresh, plans again and deletes what both plans name.
struct PruneSnapshots {
  std::string ns, policy_name, policy_uid;
  bool policy_gone = false;  // orphans: the policy must still be gone (404 or another UID)
  int64_t policy_generation = 0;
  // This and the times of the members: by the API server's clock. Void 30 s later.
  absl::Time planned_at;
  absl::Duration quarantine;
  absl::Time leader_since;
  std::optional<absl::Time> second_newest_due;
  struct Series {
    std::string claim_uid;
    bool claim_exists = true;
    std::vector<PruneMember> members;     // candidates and the survivors that justify them
    std::vector<std::string> candidates;  // UIDs that the scheduler's plan prunes
    bool operator==(const Series&) const = default;
  };
  std::vector<Series> series;
  bool operator==(const PruneSnapshots&) const = default;
};

struct Job {
  std::string job_id;
  int attempt = 1;
  int64_t epoch = 0;
  std::variant<CreateSnapshot, PruneSnapshots> work;
  bool operator==(const Job&) const = default;
};

enum class Phase { kAccepted, kCreated, kCut, kReady, kDone };
std::string_view ToString(Phase phase);

// One step of a job as an executor tells it. Phases only go forward; kDone is the last and carries
// the status. For CreateSnapshot, Ok on kDone means: was ready, bound both ways and of the right
// volume when the executor looked.
struct JobEvent {
  std::string job_id;
  int attempt = 0;
  Phase phase = Phase::kAccepted;
  std::string snapshot_uid;           // from kCreated on
  std::optional<absl::Time> created;  // creationTimestamp, from kCreated on
  std::optional<absl::Time> cut;      // from kCut on
  std::vector<std::string> deleted;   // UIDs, on kDone of PruneSnapshots
  absl::Status status;                // on kDone; with ReasonOf
  bool operator==(const JobEvent&) const = default;
};

// The messages of one ExecuteJobs stream (proto/snapkeeper/executor/v1/executor_service.proto).
inline constexpr int kProtocolVersion = 1;
// Both ends of a stream send one this often, and take the other for dead after kDeadBeats without
// anything.
inline constexpr absl::Duration kHeartbeatEvery = absl::Seconds(5);
inline constexpr int kDeadBeats = 3;

// An epoch is leaseTransitions of the scheduler's Lease, which is an int32: nothing above is one.
inline constexpr int64_t kMaxEpoch = std::numeric_limits<int32_t>::max();

struct SchedulerHello {
  int min_protocol = kProtocolVersion, max_protocol = kProtocolVersion;
  int64_t epoch = 0;
  std::string id;
  bool operator==(const SchedulerHello&) const = default;
};
struct CancelJob {
  std::string job_id;
  int attempt = 0;
  bool operator==(const CancelJob&) const = default;
};
struct Heartbeat {
  bool operator==(const Heartbeat&) const = default;
};
struct ExecutorHello {
  int protocol = kProtocolVersion;
  std::string instance;
  int slots = 0;         // jobs before CREATED
  int parked_limit = 0;  // jobs after it
  std::vector<std::pair<std::string, int>>
      open_jobs;  // (job_id, attempt) that survived from an earlier stream: none today
  bool operator==(const ExecutorHello&) const = default;
};
struct Draining {
  bool operator==(const Draining&) const = default;
};

using ToExecutor = std::variant<SchedulerHello, Job, CancelJob, Heartbeat>;
using ToScheduler = std::variant<ExecutorHello, JobEvent, Draining, Heartbeat>;

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_MODEL_JOB_H_
