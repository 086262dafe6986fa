#include "common/model/cron.h"

#include <absl/status/status.h>
#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/match.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <span>
#include <string>
#include <vector>

#include "common/model/duration.h"

namespace snapkeeper {
namespace {

// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59Z: what RFC 3339 can write.
constexpr std::int64_t kFirstSecond = -62167219200;
constexpr std::int64_t kLastSecond = 253402300799;

constexpr std::uint64_t kAllHours = (1 << 24) - 1;
constexpr std::string_view kBlank = " \t\n\v\f\r";

constexpr std::array<std::string_view, 12> kMonthNames = {"jan", "feb", "mar", "apr", "may", "jun",
                                                          "jul", "aug", "sep", "oct", "nov", "dec"};
constexpr std::array<std::string_view, 7> kDayNames = {"sun", "mon", "tue", "wed",
                                                       "thu", "fri", "sat"};

struct Field {
  std::string_view name;
  int min;
  int max;    // the end of `*` and of a/n
  int limit;  // the largest number
  std::span<const std::string_view> names;
  std::string_view allowed;
};

constexpr std::array<Field, 5> kFields = {{
    {"minute", 0, 59, 59, {}, "0-59"},
    {"hour", 0, 23, 23, {}, "0-23"},
    {"day of month", 1, 31, 31, {}, "1-31"},
    {"month", 1, 12, 12, kMonthNames, "1-12 or JAN-DEC"},
    {"day of week", 0, 6, 7, kDayNames, "0-7 (0 and 7 are Sunday) or SUN-SAT"},
}};

constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kMacros = {{
    {"@yearly", "0 0 1 1 *"},
    {"@annually", "0 0 1 1 *"},
    {"@monthly", "0 0 1 * *"},
    {"@weekly", "0 0 * * 0"},
    {"@daily", "0 0 * * *"},
    {"@midnight", "0 0 * * *"},
    {"@hourly", "0 * * * *"},
}};

absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

// For messages: one line, and no longer than a message may be.
std::string Quote(std::string_view text) {
  constexpr std::size_t kMax = 60;
  return fmt::format("\"{}{}\"", absl::CEscape(Absl(text.substr(0, kMax))),
                     text.size() > kMax ? "..." : "");
}

std::string_view Trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::vector<std::string_view> SplitWords(std::string_view text) {
  std::vector<std::string_view> words;
  for (text = Trim(text); !text.empty(); text = Trim(text)) {
    words.push_back(text.substr(0, text.find_first_of(kBlank)));
    text.remove_prefix(words.back().size());
  }
  return words;
}

// Digits only. Longer than any bound is cut to 1e9, which is as far out of range, and as large a
// step.
std::optional<int> ParseNumber(std::string_view text) {
  if (text.empty() || !std::all_of(text.begin(), text.end(), absl::ascii_isdigit)) return {};
  std::int64_t value = 0;
  for (char c : text) value = std::min<std::int64_t>(value * 10 + (c - '0'), 1'000'000'000);
  return static_cast<int>(value);
}

std::optional<int> ParseValue(const Field& field, std::string_view text) {
  for (std::size_t i = 0; i < field.names.size(); ++i) {
    if (absl::EqualsIgnoreCase(Absl(text), Absl(field.names[i]))) {
      return field.min + static_cast<int>(i);
    }
  }
  return ParseNumber(text);
}

// One item of a list. Sets `star` where the item is the whole range and written so.
absl::StatusOr<std::uint64_t> ParseItem(const Field& field, std::string_view item, bool& star) {
  const auto error = [&](std::string_view problem) {
    return absl::InvalidArgumentError(fmt::format("schedule: {} {}: {}; allowed are {}", field.name,
                                                  Quote(item), problem, field.allowed));
  };
  if (item.empty()) return error("a list has an empty item");
  const std::size_t slash = item.find('/');
  int step = 1;
  if (slash != item.npos) {
    const std::optional<int> number = ParseNumber(item.substr(slash + 1));
    if (!number || *number == 0) return error("a step is a number from 1 up");
    step = *number;
  }
  const std::string_view range = item.substr(0, slash);
  int low = field.min;
  int high = field.max;
  if (range == "*" || range == "?") {
    star |= step == 1;
  } else {
    const std::size_t dash = range.find('-');
    const std::optional<int> first = ParseValue(field, range.substr(0, dash));
    std::optional<int> last;
    if (dash != range.npos) {
      last = ParseValue(field, range.substr(dash + 1));
    } else if (first) {
      last = slash == item.npos ? *first : std::max(*first, field.max);
    }
    if (!first || !last) return error("not *, a value, a range a-b or one of them with a step /n");
    if (*first < field.min || std::max(*first, *last) > field.limit) return error("out of range");
    if (*first > *last) return error("a range goes from the smaller to the larger value");
    low = *first;
    high = *last;
  }
  std::uint64_t set = 0;
  for (int value = low; value <= high; value += step) set |= std::uint64_t{1} << value;
  return set;
}

absl::StatusOr<std::uint64_t> ParseField(const Field& field, std::string_view text, bool& star) {
  std::uint64_t set = 0;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const auto item = ParseItem(field, text.substr(begin, end - begin), star);
    if (!item.ok()) return item.status();
    set |= *item;
    begin = end + 1;
  }
  return set;
}

absl::StatusOr<std::int64_t> ParseEvery(std::string_view text) {
  const auto every = ParseGoDuration(text);
  if (!every.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("schedule: @every {}: not a duration such as 90s, 15m or 1h30m", Quote(text)));
  }
  if (*every < absl::Seconds(1) || *every > absl::Hours(8760)) {
    return absl::InvalidArgumentError(
        fmt::format("schedule: @every {}: allowed are 1s to 8760h", Quote(text)));
  }
  if (*every != absl::Trunc(*every, absl::Seconds(1))) {
    return absl::InvalidArgumentError(
        fmt::format("schedule: @every {}: allowed are whole seconds", Quote(text)));
  }
  return absl::ToInt64Seconds(*every);
}

// The member of `set` that is nearest to `bound`, itself included, going up or down.
std::optional<int> Nearest(std::uint64_t set, int bound, bool up) {
  if (bound < 0 || bound > 63) return std::nullopt;
  set &= up ? ~std::uint64_t{0} << bound : ~std::uint64_t{0} >> (63 - bound);
  if (set == 0) return std::nullopt;
  return up ? std::countr_zero(set) : 63 - std::countl_zero(set);
}

int DaysIn(absl::CivilMonth month) { return (absl::CivilDay(month + 1) - 1).day(); }

// The civil minute next to a change of offset, on its far side.
absl::CivilMinute Beyond(absl::Time transition, absl::TimeZone zone, bool forward) {
  return forward ? absl::CivilMinute(absl::ToCivilSecond(transition, zone) + 59)
                 : absl::CivilMinute(absl::ToCivilSecond(transition - absl::Seconds(1), zone));
}

}  // namespace

absl::StatusOr<CronSchedule> CronSchedule::Parse(std::string_view expression) {
  CronSchedule schedule;
  std::vector<std::string_view> words = SplitWords(expression);
  if (words.empty()) return absl::InvalidArgumentError("schedule: empty");
  if (words[0].starts_with("TZ=") || words[0].starts_with("CRON_TZ=")) {
    return absl::InvalidArgumentError(
        fmt::format("schedule: {}: the zone belongs into timeZone (--time-zone)", Quote(words[0])));
  }
  if (words[0] == "@every") {
    const auto every = ParseEvery(words.size() == 2 ? words[1] : Trim(expression).substr(6));
    if (!every.ok()) return every.status();
    schedule.every_ = *every;
    return schedule;
  }
  if (words[0].starts_with('@')) {
    const auto macro = std::find_if(kMacros.begin(), kMacros.end(),
                                    [&](const auto& entry) { return entry.first == words[0]; });
    if (macro == kMacros.end() || words.size() > 1) {
      return absl::InvalidArgumentError(fmt::format(
          "schedule: {}: allowed are @yearly, @annually, @monthly, @weekly, @daily, @midnight, "
          "@hourly and @every with a duration",
          Quote(Trim(expression))));
    }
    words = SplitWords(macro->second);
  }
  if (words.size() != kFields.size()) {
    return absl::InvalidArgumentError(
        fmt::format("schedule: {} has {} field{}; allowed are 5: minute, hour, day of month, "
                    "month, day of week",
                    Quote(expression), words.size(), words.size() == 1 ? "" : "s"));
  }

  const std::array<std::uint64_t*, 5> sets = {&schedule.minutes_, &schedule.hours_, &schedule.days_,
                                              &schedule.months_, &schedule.weekdays_};
  std::array<bool, 5> star = {};
  for (std::size_t i = 0; i < kFields.size(); ++i) {
    const auto set = ParseField(kFields[i], words[i], star[i]);
    if (!set.ok()) return set.status();
    *sets[i] = *set;
  }
  if (schedule.weekdays_ >> 7) schedule.weekdays_ = (schedule.weekdays_ | 1) & 0x7f;
  schedule.either_day_ = !star[2] && !star[4];

  // With either_day_ a weekday is enough, and without it one of the two day sets is full: only days
  // of the month can fail to exist, and a leap year has them all.
  for (int month = 1; month <= 12; ++month) {
    const absl::CivilMonth in_leap_year(2000, month);
    if (schedule.months_ >> month & 1 && schedule.DaysOf(in_leap_year) != 0) return schedule;
  }
  return absl::InvalidArgumentError(
      fmt::format("schedule: never fires: day of month {} does not exist in month {}",
                  Quote(words[2]), Quote(words[3])));
}

// Bit n: the n-th of the month matches.
std::uint64_t CronSchedule::DaysOf(absl::CivilMonth month) const {
  constexpr std::uint64_t kSixWeeks = 0x810204081;  // the multiplier that repeats 7 bits 6 times
  const int monday_based = static_cast<int>(absl::GetWeekday(absl::CivilDay(month)));
  const int first = (monday_based + 1) % 7;
  const std::uint64_t by_weekday = (weekdays_ * kSixWeeks >> first) << 1;
  const std::uint64_t existing = (std::uint64_t{2} << DaysIn(month)) - 2;
  return existing & (either_day_ ? days_ | by_weekday : days_ & by_weekday);
}

// The matching civil minute nearest to `from`, itself included. One look at a month, a day, an hour
// and a minute each; at most eight years of months.
std::optional<absl::CivilMinute> CronSchedule::Search(absl::CivilMinute from, bool forward) const {
  const int step = forward ? 1 : -1;
  const auto outermost = [&](std::uint64_t set) {
    return *Nearest(set, forward ? 0 : 63, forward);
  };
  const absl::CivilMonth start(from);
  for (absl::CivilMonth month = start; month.year() >= -1 && month.year() <= 10000; month += step) {
    if ((months_ >> month.month() & 1) == 0) continue;
    std::uint64_t days = DaysOf(month);
    if (month == start) {
      if (days >> from.day() & 1) {
        const absl::CivilHour day(absl::CivilDay(month) + (from.day() - 1));
        if (hours_ >> from.hour() & 1) {
          if (const auto minute = Nearest(minutes_, from.minute(), forward)) {
            return absl::CivilMinute(day + from.hour()) + *minute;
          }
        }
        if (const auto hour = Nearest(hours_, from.hour() + step, forward)) {
          return absl::CivilMinute(day + *hour) + outermost(minutes_);
        }
      }
      const auto day = Nearest(days, from.day() + step, forward);
      days = day ? std::uint64_t{1} << *day : 0;
    }
    if (days == 0) continue;
    const absl::CivilDay day = absl::CivilDay(month) + (outermost(days) - 1);
    return absl::CivilMinute(absl::CivilHour(day) + outermost(hours_)) + outermost(minutes_);
  }
  return std::nullopt;
}

// Forward: the first instant after `second`; backward: the last one not after it.
std::optional<std::int64_t> CronSchedule::SearchInstants(std::int64_t second, absl::TimeZone zone,
                                                         bool forward) const {
  if (every_ > 0) {
    const std::int64_t phase = (second % every_ + every_) % every_;
    return second - phase + (forward ? every_ : 0);
  }
  using TimeInfo = absl::TimeZone::TimeInfo;
  const absl::Time at = absl::FromUnixSeconds(second);
  absl::CivilSecond civil = absl::ToCivilSecond(at, zone);
  const TimeInfo here = zone.At(civil);
  const bool repeated = here.kind == TimeInfo::REPEATED;
  const bool every_hour = hours_ == kAllHours;
  // The other pass of the repeat that we stand in counts for itself if every hour fires. Otherwise
  // the second pass is nothing: from there we search as from the end of the first.
  bool other_pass_ahead = every_hour && repeated && forward == (at < here.trans);
  if (!every_hour && repeated && at >= here.trans) {
    civil = absl::ToCivilSecond(here.trans - absl::Seconds(1), zone);
  }
  absl::CivilMinute from = absl::CivilMinute(civil) + (forward ? 1 : 0);
  while (const std::optional<absl::CivilMinute> match = Search(from, forward)) {
    const TimeInfo info = zone.At(absl::CivilSecond(*match));
    const bool skipped = info.kind == TimeInfo::SKIPPED;
    if (other_pass_ahead && (info.kind != TimeInfo::REPEATED || info.trans != here.trans)) {
      other_pass_ahead = false;
      from = Beyond(here.trans, zone, forward);
    } else if (!every_hour) {
      return absl::ToUnixSeconds(skipped ? info.trans : info.pre);
    } else if (skipped) {
      from = Beyond(info.trans, zone, forward);
    } else if (forward) {
      return absl::ToUnixSeconds(info.pre > at ? info.pre : info.post);
    } else {
      return absl::ToUnixSeconds(info.post <= at ? info.post : info.pre);
    }
  }
  return std::nullopt;
}

std::optional<absl::Time> CronSchedule::Next(absl::Time after, absl::TimeZone zone) const {
  const std::int64_t second = std::max(absl::ToUnixSeconds(after), kFirstSecond - 1);
  if (second >= kLastSecond) return std::nullopt;
  const std::optional<std::int64_t> found = SearchInstants(second, zone, /*forward=*/true);
  if (!found || *found > kLastSecond) return std::nullopt;
  return absl::FromUnixSeconds(*found);
}

std::optional<absl::Time> CronSchedule::Prev(absl::Time before, absl::TimeZone zone) const {
  std::int64_t second = std::min(absl::ToUnixSeconds(before), kLastSecond + 1);
  if (second < kFirstSecond) return std::nullopt;
  if (absl::FromUnixSeconds(second) >= before) --second;
  const std::optional<std::int64_t> found =
      SearchInstants(std::min(second, kLastSecond), zone, /*forward=*/false);
  if (!found || *found < kFirstSecond) return std::nullopt;
  return absl::FromUnixSeconds(*found);
}

absl::StatusOr<absl::TimeZone> LoadTimeZone(std::string_view name) {
  if (name.empty() || name == "UTC") return absl::UTCTimeZone();
  const std::string lower = absl::AsciiStrToLower(Absl(name));
  if (lower == "local" || lower == "localtime" || lower == "posixrules") {
    return absl::InvalidArgumentError(
        fmt::format("time zone {} means another zone on each machine: use an IANA name such as "
                    "Europe/Berlin, or UTC",
                    Quote(name)));
  }
  // Letters of IANA names only: neither a path (`.`) nor a notation of the loader (`:`, UTC0).
  // right/ counts leap seconds.
  const bool well_formed =
      std::all_of(name.begin(), name.end(),
                  [](char c) {
                    return absl::ascii_isalnum(c) || c == '/' || c == '_' || c == '-' || c == '+';
                  }) &&
      !name.starts_with('/') && name.find("//") == name.npos && !name.starts_with("right/") &&
      !name.starts_with("posix/") && name != "UTC0";
  absl::TimeZone zone;
  if (!well_formed || !absl::LoadTimeZone(Absl(name), &zone)) {
    return absl::InvalidArgumentError(
        fmt::format("time zone {} is unknown: use an IANA name such as Europe/Berlin, or UTC "
                    "(names come from the tzdata package of this machine)",
                    Quote(name)));
  }
  return zone;
}

}  // namespace snapkeeper
