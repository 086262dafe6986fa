#ifndef SNAPKEEPER_COMMON_MODEL_RETENTION_H_
#define SNAPKEEPER_COMMON_MODEL_RETENTION_H_

#include <absl/time/time.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/model/job.h"
#include "common/model/objects.h"
#include "common/model/policy.h"

namespace snapkeeper {

// One snapshot as retention sees it. Scheduler and executor build it from what each of them knows,
// by MakeMember.
struct SeriesMember {
  std::string name, uid, resource_version;
  absl::Time created;      // creationTimestamp
  absl::Time cut;          // CutOf
  bool scheduled = false;  // proven ours (ProvenIdentity), of this series
  // ready_to_use, bound both ways to the content of the right volume, and not deleting.
  bool ready = false;
  bool was_cut = false;    // status.creationTime is set
  bool cut_ahead = false;  // and later than now: the driver's clock is ahead, or ours behind
  bool deleting = false;
  bool held = false;
  bool pinned = false;  // dataSource of a Pending PVC
  // Its content's deletionPolicy is Retain: content and data would stay, and nothing would lead to
  // them.
  bool retained = false;
  bool grouped = false;  // member of a group
  // Its run is not posted yet, as the scheduler knows, whatever the clock says.
  bool quarantined = false;
  absl::Time posted = absl::InfinitePast();  // when its run was posted, as far as is known
  // When `held` or `cut` changes by time alone: hold-until passes, or the clock reaches a cut that
  // is ahead of it.
  absl::Time stale_at = absl::InfiniteFuture();
  bool operator==(const SeriesMember&) const = default;
};

// The point in time of the data: status.creationTime; the object's creationTimestamp where that is
// absent, not after 1970, or implausible (more than 1 h before the object, or later than `now`).
absl::Time CutOf(const Snapshot& snapshot, absl::Time now);

// The hold label or annotation is "true" and hold-until, if set and valid, has not passed. An
// unreadable hold-until holds.
bool IsHeld(const Snapshot& snapshot, absl::Time now);

// `snapshot` in the series of (policy_uid, claim_uid). `known` is what the scheduler's caches say
// of this UID; a default one where they say nothing: the member is then neither ready nor past
// quarantine. A binding counts only for the content it was judged for.
SeriesMember MakeMember(const Snapshot& snapshot, const PruneMember& known,
                        std::string_view policy_uid, std::string_view claim_uid, absl::Time now);

struct RetentionContext {
  absl::Time now;
  absl::Duration quarantine;  // --prune-quarantine
  absl::Time leader_since;  // this leader began; nothing is pruned before leader_since + quarantine
  bool claim_exists = true;  // then the newest ready snapshot, of any origin, is always kept
  // Second-newest due instant of the policy (Prev of Prev of now); age limits pause while the
  // newest ready cut is earlier. nullopt: there is none (the policy is gone, or has had fewer than
  // two): age limits do not pause.
  std::optional<absl::Time> second_newest_due;
};

enum class Verdict { kKeep, kPrune, kIgnore };
struct Decision {
  std::string name, uid, resource_version;
  Verdict verdict = Verdict::kKeep;
  // The rules that decided, joined by ','.
  // kKeep: keepAll, keepLast, maxAge, agePaused, minReady, lastReady, held, pinned, retained,
  //   grouped, quarantine, policyGone, unreadyTtl (still inside it), newestCut (unready, and
  //   nothing that is ready has a newer cut), madeAhead (before every clock was set back, and its
  //   time has not come again).
  // kPrune: keepLast, maxAge, unreadyTtl.
  // kIgnore: deleting, otherOrigin.
  std::string rule;
  bool operator==(const Decision&) const = default;
};

struct RetentionPlan {
  std::vector<Decision> decisions;  // one a member, newest cut first
  // When the plan next changes by time alone (quarantine, age, unreadyTtl, stale_at):
  // InfiniteFuture if never.
  absl::Time next_change = absl::InfiniteFuture();
  std::vector<Decision> Pruned() const;
};

// The rules of docs/guarantees.md ("Retention"); pure, the same in the scheduler and in the
// executor. `members` are all snapshots of one PVC that are known: the series (scheduled = true)
// and any others of the same PVC (manual, foreign, other policies), which are never pruned here but
// count as "ready, of any origin" in rules 4 and 6. `rule` absent: the policy is gone; only rule 6
// prunes, with a 24 h ttl.
RetentionPlan PlanRetention(const std::vector<SeriesMember>& members,
                            const std::optional<RetentionRule>& rule,
                            const RetentionContext& context);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_MODEL_RETENTION_H_
