#ifndef SNAPKEEPER_COMMON_MODEL_POLICY_H_
#define SNAPKEEPER_COMMON_MODEL_POLICY_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/model/cron.h"
#include "common/model/objects.h"
#include "common/model/reason.h"

namespace snapkeeper {

struct LabelRequirement {
  std::string key;
  std::string op;  // In, NotIn, Exists, DoesNotExist
  std::vector<std::string> values;
  bool operator==(const LabelRequirement&) const = default;
};

// metav1.LabelSelector: every part must match; an empty one matches everything.
struct LabelSelector {
  std::map<std::string, std::string> match_labels;
  std::vector<LabelRequirement> match_expressions;
  bool operator==(const LabelSelector&) const = default;
};

// Kubernetes' rule (apimachinery labels.Requirement.Matches): NotIn and DoesNotExist match an
// absent key too. A requirement that is not valid there (unknown operator, values missing or too
// many) matches nothing.
bool Matches(const LabelSelector& selector, const std::map<std::string, std::string>& labels);

struct RetentionRule {
  std::optional<int> keep_last;
  std::optional<absl::Duration> max_age;
  int min_ready = 1;
  absl::Duration unready_ttl = absl::Hours(24);
  bool operator==(const RetentionRule&) const = default;
};

struct PolicySpec {
  std::string schedule;
  std::string time_zone = "UTC";
  bool suspend = false;
  std::optional<absl::Duration> starting_deadline;  // absent: until the next instant, at most 24 h
  bool run_latest = true;                           // missedRunPolicy: Latest or Skip
  LabelSelector selector;
  std::string snapshot_class;                   // "": the default class of the volume's driver
  std::optional<absl::Duration> ready_timeout;  // absent: the driver's profile decides
  RetentionRule retention;
  int run_history_limit = 5;
  bool operator==(const PolicySpec&) const = default;
};

enum class RunState { kPosting, kSettling, kSucceeded, kPartiallySucceeded, kFailed, kSkipped };
std::string_view ToString(RunState state);
std::optional<RunState> ParseRunState(std::string_view word);

enum class Outcome { kPending, kSucceeded, kSucceededLate, kFailed, kSkipped, kCancelled };
std::string_view ToString(Outcome outcome);  // "Succeeded", ...
std::optional<Outcome> ParseOutcome(std::string_view word);

struct RunCounts {
  int selected = 0, succeeded = 0, succeeded_late = 0, failed = 0, skipped = 0, cancelled = 0,
      pending = 0;
  bool operator==(const RunCounts&) const = default;
};

struct RunFailure {
  std::string claim, claim_uid, snapshot;
  Outcome outcome = Outcome::kFailed;
  Reason reason = Reason::kNone;
  std::string message;  // at most 256 bytes
  bool operator==(const RunFailure&) const = default;
};

// One entry of status.recentRuns.
struct RunRecord {
  absl::Time instant;  // scheduledTime
  int64_t generation = 0;
  RunState state = RunState::kPosting;
  std::optional<absl::Time> start_time, posted_time, completion_time;
  RunCounts counts;
  std::vector<RunFailure> failures;  // at most 10
  int failures_omitted = 0;
  bool operator==(const RunRecord&) const = default;
};

// metav1.Condition
struct Condition {
  std::string type;
  bool status = false;
  std::string reason, message;
  int64_t observed_generation = 0;
  absl::Time last_transition;
  bool operator==(const Condition&) const = default;
};

struct PolicyStatus {
  int64_t observed_generation = 0;
  // The watermark: every instant up to it was posted or accounted for.
  std::optional<absl::Time> last_schedule_time;
  std::string schedule_hash;
  std::optional<absl::Time> schedule_since;
  int64_t epoch = 0;
  std::optional<absl::Time> last_successful_time, next_schedule_time;
  int selected_volumes = 0, ready_snapshots = 0;
  int64_t missed_runs = 0;
  std::vector<RunRecord> recent_runs;  // newest first
  std::vector<Condition> conditions;
  bool operator==(const PolicyStatus&) const = default;
};

// SnapshotPolicy
struct Policy {
  ObjectMeta meta;
  PolicySpec spec;
  PolicyStatus status;
  bool operator==(const Policy&) const = default;
};

// What a valid spec compiles to.
struct CompiledSchedule {
  CronSchedule cron;
  absl::TimeZone zone;
};
// InvalidArgument with a message for the Stalled condition where CEL could not judge: cron and
// zone.
absl::StatusOr<CompiledSchedule> CompileSchedule(const PolicySpec& spec);

// Of schedule, time zone and suspend: when it differs from status.scheduleHash, the past is not
// fired (docs/life_of_a_snapshot.md, step 1).
std::string ScheduleHash(const PolicySpec& spec);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_MODEL_POLICY_H_
