#ifndef SNAPKEEPER_COMMON_MODEL_DUE_H_
#define SNAPKEEPER_COMMON_MODEL_DUE_H_

#include <absl/time/time.h>

#include <cstddef>
#include <optional>
#include <vector>

#include "common/model/cron.h"

namespace snapkeeper {

// Missed instants are counted exactly up to this many an outage.
inline constexpr std::size_t kMaxMissed = 1000;

// A `since` up to this far after now is a clock that was set right: those instants were handled,
// and are not handled again. It is twice kMaxClockOffset (clock.h): clocks fire while they are no
// further off than that, to either side.
inline constexpr absl::Duration kMaxClockStep = absl::Minutes(1);

struct DueInput {
  const CronSchedule* schedule;  // not null
  absl::TimeZone zone;
  // Every instant up to here is dealt with. At first the latest of watermark, scheduleSince and
  // creation; from then on `up_to` of the last answer.
  absl::Time since;
  absl::Time now;
  std::optional<absl::Duration> starting_deadline =
      std::nullopt;        // absent: until the next instant, at most 24 h
  bool run_latest = true;  // missedRunPolicy Latest; false: Skip
  // Skip alone: an instant this old counts as missed. A healthy loop wakes within milliseconds.
  absl::Duration grace = absl::Seconds(1);
};

struct Due {
  // The newest due instant, if it is to run: with Latest until its starting deadline, with Skip
  // while it is on time too.
  std::optional<absl::Time> run;
  // The other due instants, newest first, at most kMaxMissed: to be counted as missed, those apart
  // that turn out to have snapshots. Without `run` the first one is the newest due instant.
  std::vector<absl::Time> missed;
  bool too_many = false;  // there were more than `missed` holds
  absl::Time up_to;       // the next call's `since`
  absl::Time next;  // the first instant after `up_to` and now, when to ask again; InfiniteFuture if
                    // there is none
  bool since_ahead =
      false;  // `since` was in the future by more than kMaxClockStep: to be reported. It is not
              // obeyed: `up_to` is now, so that the past does not fire and the next instant does.
};

// What a policy owes at `now`. Looks at no more than kMaxMissed + 3 instants, however long the
// outage.
Due DueFires(const DueInput& input);

// Until when (inclusive) the instant's snapshots may be asked for.
absl::Time StartingDeadline(const CronSchedule& schedule, absl::TimeZone zone, absl::Time instant,
                            std::optional<absl::Duration> starting_deadline);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_MODEL_DUE_H_
