#ifndef SNAPKEEPER_EXECUTOR_DECIDE_H_
#define SNAPKEEPER_EXECUTOR_DECIDE_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <optional>
#include <string>

#include "common/model/job.h"
#include "common/model/objects.h"

namespace snapkeeper {

// What one attempt to take a snapshot has learnt so far.
struct Observed {
  enum class Object {
    kUnknown,  // the cache has none of this name, and the server was not asked
    kPresent,  // `snapshot`
    kAbsent,   // the server says that there is none, or it vanished from the cache
  } object = Object::kUnknown;
  std::shared_ptr<const Snapshot> snapshot;
  bool fresh = false;         // the server was asked for it just now
  bool posted_by_us = false;  // it is the server's answer to our own POST
  bool cache_synced = true;
  bool watching = true;    // our own watch of snapshots stands
  std::string last_error;  // the last `status.error` that was seen; it may be gone by the deadline
  absl::Status post;       // why our POST got no object; Ok before and without one
  absl::Status look;       // why a GET of the object got no answer
  // What a GET of `snapshot`'s bound content was answered; nullopt: not asked since it changed.
  std::optional<absl::StatusOr<std::shared_ptr<const Content>>> content;
};

struct Step {
  enum class Kind {
    kPost,
    kLookUp,  // GET the snapshot
    kVerify,  // GET its content
    kRemove,  // DELETE what our own POST created too late
    kAwait,   // a change of the snapshot, at most for `wait`
    kDone,    // `status`
  } kind;
  // The object exists, is ours and is not being deleted: CREATED, and CUT where it is, can be told.
  bool ours = false;
  absl::Duration wait = absl::InfiniteDuration();  // kAwait
  absl::Status status = absl::OkStatus();
};

// The next step of an attempt (docs/life_of_a_snapshot.md, steps 4 to 7); pure. On doubt it looks
// up, and creates nothing. `now` is our own clock. Errors that carry no Reason are the attempt's,
// not the job's: another attempt may succeed.
Step Decide(const CreateSnapshot& job, const Observed& observed, absl::Time now,
            std::optional<absl::Duration> clock_offset);

// What becomes of an object that our own POST created too late, once it was asked to be deleted:
// final, for the name had its object.
absl::Status CreatedTooLate(const CreateSnapshot& job, const Snapshot& late,
                            const absl::Status& removed);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_EXECUTOR_DECIDE_H_
