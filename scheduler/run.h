#ifndef SNAPKEEPER_SCHEDULER_RUN_H_
#define SNAPKEEPER_SCHEDULER_RUN_H_

#include <absl/time/time.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/event_loop.h"
#include "common/model/policy.h"

namespace snapkeeper {

// One volume in one run.
struct RunVolume {
  std::string claim, claim_uid;
  std::string snapshot;      // the object's name
  std::string snapshot_uid;  // once it was seen
  std::string driver;        // "" where preflight did not get that far
  std::string job_id;        // while the dispatcher has it
  bool posted = false;       // its snapshot was asked for
  Outcome outcome = Outcome::kPending;
  Reason reason = Reason::kNone;
  std::string message;

  bool final() const { return outcome != Outcome::kPending; }
};

// One instant of one policy, as long as it is under way and then as long as a late snapshot may
// still amend it.
struct Run {
  absl::Time instant;
  int64_t generation = 0;
  absl::Time start_time;
  absl::Time start_deadline;
  std::optional<absl::Time> posted_time, completion_time;
  std::map<std::string, RunVolume> volumes;  // by claim UID
  // Volumes of which only an earlier leader's record tells: counts without names (its failures list
  // holds ten).
  RunCounts carried;
  int recorded = 0;  // volumes that this record counts
  // Its outcome is in the status: from then on the history may forget it.
  bool written = false;
  // Other snapshots of it may turn up so long; on the Elapsed() clock.
  absl::Duration open_until = -absl::InfiniteDuration();
  Timer timer;  // while not all of it was asked for; until `open_until`

  // Null where it has no such volume.
  RunVolume* Find(const std::string& claim_uid);
  // Every volume's snapshot was asked for or given up.
  bool AllPosted() const;
  // Every volume has its outcome.
  bool AllFinal() const;
};

int& CountOf(RunCounts& counts, Outcome outcome);

inline constexpr size_t kMaxFailures = 10;
inline constexpr size_t kMaxMessage = 256;
inline constexpr size_t kMaxOpenRuns = 10;
// maxItems of status.recentRuns in deploy/crds: a status with more is refused as a whole. Room for
// the greatest runHistoryLimit (20), the open runs, and this many settled ones that are not written
// yet.
inline constexpr size_t kMaxRecords = 40;
inline constexpr ptrdiff_t kMaxUnwritten = 10;

// The entry of status.recentRuns; its failures are the first ten by claim name.
RunRecord ToRecord(const Run& run);

// A status has at most 32 KiB: what does not fit goes from the failures of the oldest entries, and
// is counted in failuresOmitted.
inline constexpr size_t kMaxStatusBytes = 32 << 10;
void FitFailures(std::vector<RunRecord>& newest_first);

// What an entry written by an earlier leader tells, as a run without jobs: its failures as final
// volumes, the rest of its counts carried, except pending and succeeded ones (in time or late),
// whose snapshots can be looked up. For an entry that is settled nothing is left out.
Run FromRecord(const RunRecord& record);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_RUN_H_
