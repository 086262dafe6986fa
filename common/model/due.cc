#include "common/model/due.h"

#include <algorithm>

namespace snapkeeper {

Due DueFires(const DueInput& input) {
  const CronSchedule& schedule = *input.schedule;
  Due due;
  due.since_ahead = input.since > input.now + kMaxClockStep;
  due.up_to = due.since_ahead ? input.now : input.since;
  const absl::Time since = due.up_to;

  // Prev is strict, and an instant is due at its very moment.
  std::optional<absl::Time> instant = schedule.Prev(input.now + absl::Nanoseconds(1), input.zone);
  if (instant && *instant > since) {
    due.up_to = *instant;
    absl::Time last_start =
        StartingDeadline(schedule, input.zone, *instant, input.starting_deadline);
    if (!input.run_latest) last_start = std::min(last_start, *instant + input.grace);
    if (input.now <= last_start) {
      due.run = instant;
      instant = schedule.Prev(*instant, input.zone);
    }
  }
  for (; instant && *instant > since; instant = schedule.Prev(*instant, input.zone)) {
    if (due.missed.size() == kMaxMissed) {
      due.too_many = true;
      break;
    }
    due.missed.push_back(*instant);
  }
  due.next =
      schedule.Next(std::max(input.now, due.up_to), input.zone).value_or(absl::InfiniteFuture());
  return due;
}

absl::Time StartingDeadline(const CronSchedule& schedule, absl::TimeZone zone, absl::Time instant,
                            std::optional<absl::Duration> starting_deadline) {
  if (starting_deadline) return instant + *starting_deadline;
  const absl::Time next = schedule.Next(instant, zone).value_or(absl::InfiniteFuture());
  return std::min(next, instant + absl::Hours(24));
}

}  // namespace snapkeeper
