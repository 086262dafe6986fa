#ifndef SNAPKEEPER_COMMON_MODEL_CRON_H_
#define SNAPKEEPER_COMMON_MODEL_CRON_H_

#include <absl/status/statusor.h>
#include <absl/time/civil_time.h>
#include <absl/time/time.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace snapkeeper {

// When a policy fires: a value, cheap to copy, safe on any thread.
//
// Syntax (robfig/cron v3 ParseStandard without its quirks): minute, hour, day of month, month, day
// of week; `*` or `?`, numbers, names (JAN, MON; any case), lists, ranges a-b, steps */n, a-b/n,
// and a/n = from a to the end. Day of week 0-6 or SUN-SAT, and 7 for Sunday, so that a range can
// end in it (5-7); `*` and a/n end with Saturday. Where both day fields are restricted a day need
// match only one of them; a field that holds `*` or `?`, alone or with /1, does not restrict (*/2
// and 1-31 do). Or @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, or `@every
// d`.
//
// Days and hours are civil ones of the zone. Around a change of offset: if the hours are all 24,
// the schedule fires at every real instant that matches: none in a gap, both in a repeat. Otherwise
// civil times in a gap fire once, together, at the first instant after it, and repeated civil times
// at their first occurrence only. No instant fires twice.
//
// `@every d`, d a Go duration of whole seconds from 1s to 8760h, fires at Unix epoch + k*d in any
// zone, so that every replica and every restart agrees.
class CronSchedule {
 public:
  // InvalidArgument names the field, the value and what is allowed. Refused too: TZ= and CRON_TZ=
  // prefixes, and an expression whose days never exist (`0 0 31 2 *`); any other fires within eight
  // years from any moment (Feb 29 across 2100).
  static absl::StatusOr<CronSchedule> Parse(std::string_view expression);

  // The first instant strictly after `after`; a whole second. nullopt past the year 9999. Infinite
  // times are allowed.
  std::optional<absl::Time> Next(absl::Time after, absl::TimeZone zone) const;
  // The last instant strictly before `before`. nullopt before the year 0.
  std::optional<absl::Time> Prev(absl::Time before, absl::TimeZone zone) const;

  // Equal schedules fire alike; schedules that fire alike may differ (`1-31` is not `*`).
  bool operator==(const CronSchedule&) const = default;

 private:
  CronSchedule() = default;

  std::uint64_t DaysOf(absl::CivilMonth month) const;
  std::optional<absl::CivilMinute> Search(absl::CivilMinute from, bool forward) const;
  std::optional<std::int64_t> SearchInstants(std::int64_t second, absl::TimeZone zone,
                                             bool forward) const;

  // Bit n: value n is in the set.
  std::uint64_t minutes_ = 0;
  std::uint64_t hours_ = 0;
  std::uint64_t days_ = 0;
  std::uint64_t months_ = 0;
  std::uint64_t weekdays_ = 0;
  bool either_day_ = false;  // both day fields restrict: one of them is enough
  std::int64_t every_ = 0;   // seconds of `@every`; then the sets are empty
};

// The zone of an IANA name ("Europe/Berlin"); "" is UTC. InvalidArgument for an unknown name,
// "Local", and whatever is not a name: paths, and the loader's own notations. Blocks on a file the
// first time a name is asked for; the process keeps it then.
absl::StatusOr<absl::TimeZone> LoadTimeZone(std::string_view name);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_MODEL_CRON_H_
