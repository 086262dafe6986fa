#include "common/model/cron.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace snapkeeper {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

absl::Time At(const std::string& text) {
  absl::Time time;
  std::string error;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, text, &time, &error)) << text << ": " << error;
  return time;
}

std::string Text(std::optional<absl::Time> time) {
  return time ? absl::FormatTime("%E4Y-%m-%dT%H:%M:%SZ", *time, absl::UTCTimeZone()) : "none";
}

CronSchedule Schedule(const std::string& expression) {
  auto schedule = CronSchedule::Parse(expression);
  EXPECT_TRUE(schedule.ok()) << expression << ": " << schedule.status();
  return schedule.value();
}

absl::TimeZone Zone(const std::string& name) {
  const auto zone = LoadTimeZone(name);
  EXPECT_TRUE(zone.ok()) << zone.status();
  return zone.value();
}

struct Row {
  const char* schedule;
  const char* zone;
  const char* after;
  std::vector<std::string> instants;  // the next ones; a last "none": there are no more
};

// Checks that Next gives the row's instants, and that Prev gives them back.
void CheckRows(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    SCOPED_TRACE(fmt::format("{} in {} after {}", row.schedule, row.zone, row.after));
    const CronSchedule schedule = Schedule(row.schedule);
    const absl::TimeZone zone = Zone(row.zone);
    std::vector<std::string> instants;
    std::optional<absl::Time> instant = At(row.after);
    while (instant && instants.size() < row.instants.size()) {
      instant = schedule.Next(*instant, zone);
      instants.push_back(Text(instant));
    }
    EXPECT_THAT(instants, ElementsAreArray(row.instants));
    if (!instant) instants.pop_back();
    for (std::size_t i = 1; i < instants.size(); ++i) {
      EXPECT_EQ(Text(schedule.Prev(At(instants[i]), zone)), instants[i - 1]);
    }
  }
}

TEST(CronTest, FindsTheNextInstantsOfEverySyntax) {
  CheckRows({
      {"* * * * *",
       "UTC",
       "2026-11-22T14:59:58.5Z",
       {"2026-11-22T15:00:00Z", "2026-11-22T15:01:00Z"}},
      {"* * * * *", "UTC", "2026-11-22T15:00:00Z", {"2026-11-22T15:01:00Z"}},
      {"* * * * *", "UTC", "2026-12-31T23:59:59.999999999Z", {"2027-01-01T00:00:00Z"}},
      {" 0\t*  * * * ", "UTC", "2026-11-22T15:00:00Z", {"2026-11-22T16:00:00Z"}},
      {"*/20 * * * *",
       "UTC",
       "2026-11-22T23:20:00Z",
       {"2026-11-22T23:40:00Z", "2026-11-23T00:00:00Z", "2026-11-23T00:20:00Z"}},
      {"5/20 * * * *",
       "UTC",
       "2026-11-22T23:20:00Z",
       {"2026-11-22T23:25:00Z", "2026-11-22T23:45:00Z", "2026-11-23T00:05:00Z"}},
      {"*/61 * * * *", "UTC", "2026-11-22T23:20:00Z", {"2026-11-23T00:00:00Z"}},
      {"*/99999999999999999999 * * * *", "UTC", "2026-11-22T23:20:00Z", {"2026-11-23T00:00:00Z"}},
      {"10-30/15 * * * *",
       "UTC",
       "2026-11-22T23:20:00Z",
       {"2026-11-22T23:25:00Z", "2026-11-23T00:10:00Z"}},
      {"58,1-2,007 * * * *",
       "UTC",
       "2026-11-22T23:07:00Z",
       {"2026-11-22T23:58:00Z", "2026-11-23T00:01:00Z", "2026-11-23T00:02:00Z",
        "2026-11-23T00:07:00Z"}},
      {"0 0 1 1/4 *",
       "UTC",
       "2026-01-01T00:00:00Z",
       {"2026-05-01T00:00:00Z", "2026-09-01T00:00:00Z", "2027-01-01T00:00:00Z"}},
      {"0 0 1 jan,JUL-Aug ?",
       "UTC",
       "2026-01-01T00:00:00Z",
       {"2026-07-01T00:00:00Z", "2026-08-01T00:00:00Z", "2027-01-01T00:00:00Z"}},
      {"0 0 31 * *",
       "UTC",
       "2026-01-31T00:00:00Z",
       {"2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"}},
      // 2026-11-22 is a Sunday.
      {"0 12 * * 7", "UTC", "2026-11-20T00:00:00Z", {"2026-11-22T12:00:00Z"}},
      {"0 12 * * SUN", "UTC", "2026-11-20T00:00:00Z", {"2026-11-22T12:00:00Z"}},
      {"0 12 ? * 5-7",
       "UTC",
       "2026-11-19T13:00:00Z",
       {"2026-11-20T12:00:00Z", "2026-11-21T12:00:00Z", "2026-11-22T12:00:00Z",
        "2026-11-27T12:00:00Z"}},
      {"0 12 * * mon-Wed/2",
       "UTC",
       "2026-11-20T00:00:00Z",
       {"2026-11-23T12:00:00Z", "2026-11-25T12:00:00Z", "2026-11-30T12:00:00Z"}},
      // a/n ends with Saturday, as in robfig's: 1, 4, and not 7.
      {"0 12 * * 1/3",
       "UTC",
       "2026-11-20T00:00:00Z",
       {"2026-11-23T12:00:00Z", "2026-11-26T12:00:00Z", "2026-11-30T12:00:00Z"}},
      {"0 12 * * 7/3",
       "UTC",
       "2026-11-20T00:00:00Z",
       {"2026-11-22T12:00:00Z", "2026-11-29T12:00:00Z"}},
  });
}

TEST(CronTest, ExpandsMacros) {
  CheckRows({
      {"@yearly", "UTC", "2026-11-22T15:00:00Z", {"2027-01-01T00:00:00Z"}},
      {"@annually", "UTC", "2026-11-22T15:00:00Z", {"2027-01-01T00:00:00Z"}},
      {"@monthly", "UTC", "2026-11-22T15:00:00Z", {"2026-12-01T00:00:00Z"}},
      {"@weekly", "UTC", "2026-11-22T15:00:00Z", {"2026-11-29T00:00:00Z"}},
      {"@daily", "UTC", "2026-11-22T15:00:00Z", {"2026-11-23T00:00:00Z"}},
      {"@midnight", "UTC", "2026-11-22T15:00:00Z", {"2026-11-23T00:00:00Z"}},
      {" @hourly ", "UTC", "2026-11-22T15:00:00Z", {"2026-11-22T16:00:00Z"}},
  });
}

TEST(CronTest, MatchesEitherDayFieldWhereBothRestrictAndBothWhereOneDoesNot) {
  // Mondays of December 2026: 7, 14, 21, 28.
  CheckRows({
      // Both restrict: the 8th, the 15th, and Mondays.
      {"0 0 8,15 * MON",
       "UTC",
       "2026-12-01T00:00:00Z",
       {"2026-12-07T00:00:00Z", "2026-12-08T00:00:00Z", "2026-12-14T00:00:00Z",
        "2026-12-15T00:00:00Z", "2026-12-21T00:00:00Z"}},
      // `*/2` restricts: odd days or Mondays.
      {"0 0 */2 * MON",
       "UTC",
       "2026-12-05T00:00:00Z",
       {"2026-12-07T00:00:00Z", "2026-12-09T00:00:00Z", "2026-12-11T00:00:00Z",
        "2026-12-13T00:00:00Z", "2026-12-14T00:00:00Z"}},
      {"0 0 15 * */3",  // Sunday, Wednesday, Saturday
       "UTC",
       "2026-12-10T00:00:00Z",
       {"2026-12-12T00:00:00Z", "2026-12-13T00:00:00Z", "2026-12-15T00:00:00Z",
        "2026-12-16T00:00:00Z"}},
      // Written out, the whole range restricts too, and matches any day.
      {"0 0 1-31 * MON", "UTC", "2026-12-01T00:00:00Z", {"2026-12-02T00:00:00Z"}},
      {"0 0 15 * 0-6", "UTC", "2026-12-01T00:00:00Z", {"2026-12-02T00:00:00Z"}},
      // These do not restrict.
      {"0 0 * * MON", "UTC", "2026-12-01T00:00:00Z", {"2026-12-07T00:00:00Z"}},
      {"0 0 ? * MON", "UTC", "2026-12-01T00:00:00Z", {"2026-12-07T00:00:00Z"}},
      {"0 0 */1 * MON", "UTC", "2026-12-01T00:00:00Z", {"2026-12-07T00:00:00Z"}},
      {"0 0 5,* * MON", "UTC", "2026-12-01T00:00:00Z", {"2026-12-07T00:00:00Z"}},
      {"0 0 15 * *", "UTC", "2026-12-01T00:00:00Z", {"2026-12-15T00:00:00Z"}},
      {"0 0 15 * ?/1", "UTC", "2026-12-01T00:00:00Z", {"2026-12-15T00:00:00Z"}},
      {"0 0 */15 * ?",
       "UTC",
       "2026-12-01T00:00:00Z",
       {"2026-12-16T00:00:00Z", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"}},
      // A weekday makes up for a day that does not exist.
      {"0 0 31 2 MON", "UTC", "2026-02-24T00:00:00Z", {"2027-02-01T00:00:00Z"}},
  });
}

TEST(CronTest, FindsLeapDaysAcrossACenturyWithoutOne) {
  CheckRows({
      {"0 0 29 2 *", "UTC", "2025-01-01T00:00:00Z", {"2028-02-29T00:00:00Z"}},
      {"0 0 29 FEB ?",
       "UTC",
       "2096-02-28T00:00:00Z",
       {"2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"}},
      {"0 0 29,30 2 *", "UTC", "1997-03-01T00:00:00Z", {"2000-02-29T00:00:00Z"}},
  });
}

TEST(CronTest, EndsWithTheYear9999) {
  CheckRows({
      {"0 0 1 1 *",
       "UTC",
       "9997-06-01T00:00:00Z",
       {"9998-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "none"}},
      {"* * * * *", "UTC", "9999-12-31T23:58:00Z", {"9999-12-31T23:59:00Z", "none"}},
      // The limit is one of UTC.
      {"0 0 1 1 *", "Asia/Tokyo", "9998-12-31T15:00:00Z", {"9999-12-31T15:00:00Z", "none"}},
      {"0 22 31 12 *",
       "America/New_York",
       "9998-06-01T00:00:00Z",
       {"9999-01-01T03:00:00Z", "none"}},
      {"0 0 29 2 *", "UTC", "9996-02-29T00:00:00Z", {"none"}},
      {"@every 8760h", "UTC", "9999-06-01T00:00:00Z", {"9999-09-01T00:00:00Z", "none"}},
  });
  const CronSchedule yearly = Schedule("@yearly");
  const absl::TimeZone utc = absl::UTCTimeZone();
  EXPECT_EQ(Text(yearly.Next(absl::InfinitePast(), utc)), "0000-01-01T00:00:00Z");
  EXPECT_EQ(Text(yearly.Next(absl::InfiniteFuture(), utc)), "none");
  EXPECT_EQ(Text(yearly.Prev(absl::InfiniteFuture(), utc)), "9999-01-01T00:00:00Z");
  EXPECT_EQ(Text(yearly.Prev(absl::InfinitePast(), utc)), "none");
  EXPECT_EQ(Text(yearly.Prev(At("0000-01-01T00:00:00Z"), utc)), "none");
  EXPECT_EQ(Text(yearly.Prev(At("0000-01-01T00:00:00.000000001Z"), utc)), "0000-01-01T00:00:00Z");
}

TEST(CronTest, NextIsStrictlyAfterAndPrevStrictlyBeforeToTheNanosecond) {
  const CronSchedule hourly = Schedule("@hourly");
  const absl::TimeZone utc = absl::UTCTimeZone();
  const absl::Time instant = At("2026-11-22T15:00:00Z");
  const absl::Duration tick = absl::Nanoseconds(1);
  EXPECT_EQ(Text(hourly.Next(instant - tick, utc)), "2026-11-22T15:00:00Z");
  EXPECT_EQ(Text(hourly.Next(instant, utc)), "2026-11-22T16:00:00Z");
  EXPECT_EQ(Text(hourly.Prev(instant, utc)), "2026-11-22T14:00:00Z");
  EXPECT_EQ(Text(hourly.Prev(instant + tick, utc)), "2026-11-22T15:00:00Z");
}

TEST(CronTest, FixedHoursInAGapFireOnceAtTheFirstInstantAfterIt) {
  CheckRows({
      // 2024-03-10 02:00 EST becomes 03:00 EDT at 07:00Z.
      {"30 2 * * *",
       "America/New_York",
       "2024-03-09T00:00:00Z",
       {"2024-03-09T07:30:00Z", "2024-03-10T07:00:00Z", "2024-03-11T06:30:00Z"}},
      {"*/15 2 * * *",
       "America/New_York",
       "2024-03-09T07:45:00Z",
       {"2024-03-10T07:00:00Z", "2024-03-11T06:00:00Z"}},
      // 02:00 to 02:45 and the 03:00 that exists are one instant.
      {"*/15 2,3 * * *",
       "America/New_York",
       "2024-03-10T00:00:00Z",
       {"2024-03-10T07:00:00Z", "2024-03-10T07:15:00Z", "2024-03-10T07:30:00Z",
        "2024-03-10T07:45:00Z", "2024-03-11T06:00:00Z"}},
      {"0 1-3 * * *",
       "America/New_York",
       "2024-03-10T00:00:00Z",
       {"2024-03-10T06:00:00Z", "2024-03-10T07:00:00Z", "2024-03-11T05:00:00Z"}},
      // Europe: 2026-03-29 02:00 becomes 03:00 at 01:00Z.
      {"30 2 * * *",
       "Europe/Berlin",
       "2026-03-28T12:00:00Z",
       {"2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
      // Gaps at midnight. Sao Paulo 2018-11-04 00:00 becomes 01:00 at 03:00Z.
      {"0 0 * * *",
       "America/Sao_Paulo",
       "2018-11-03T03:00:00Z",
       {"2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"}},
      // Cairo 2024-04-26, a Friday, 00:00 becomes 01:00 at 22:00Z.
      {"0 0 * * *",
       "Africa/Cairo",
       "2024-04-24T22:00:00Z",
       {"2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z"}},
      {"0 9 26 4 *",
       "Africa/Cairo",
       "2024-04-25T07:00:00Z",
       {"2024-04-26T06:00:00Z", "2025-04-26T06:00:00Z"}},
      {"0 9 * * 5",
       "Africa/Cairo",
       "2024-04-25T07:00:00Z",
       {"2024-04-26T06:00:00Z", "2024-05-03T06:00:00Z"}},
      {"0 9 25 * *", "Africa/Cairo", "2024-04-25T07:00:00Z", {"2024-05-25T06:00:00Z"}},
      {"0 0 * * FRI",
       "Africa/Cairo",
       "2024-04-24T22:00:00Z",
       {"2024-04-25T22:00:00Z", "2024-05-02T21:00:00Z"}},
      // Beirut 2024-03-31 00:00 becomes 01:00 at 22:00Z of the 30th.
      {"0 0 31 3 *", "Asia/Beirut", "2024-03-01T00:00:00Z", {"2024-03-30T22:00:00Z"}},
      // Half an hour: Lord Howe 2024-10-06 02:00 becomes 02:30 at 15:30Z of the 5th.
      {"15 3 * * *", "Australia/Lord_Howe", "2024-10-05T00:00:00Z", {"2024-10-05T16:15:00Z"}},
      {"15 2 * * *", "Australia/Lord_Howe", "2024-10-05T00:00:00Z", {"2024-10-05T15:30:00Z"}},
      {"15,45 2 * * *",
       "Australia/Lord_Howe",
       "2024-10-05T00:00:00Z",
       {"2024-10-05T15:30:00Z", "2024-10-05T15:45:00Z", "2024-10-06T15:15:00Z"}},
      // A whole day: Apia has no 2011-12-30, a Friday; the 31st begins at 10:00Z.
      {"0 9 * * *",
       "Pacific/Apia",
       "2011-12-29T00:00:00Z",
       {"2011-12-29T19:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T19:00:00Z"}},
      {"0 9,17 30 12 *",
       "Pacific/Apia",
       "2011-01-01T00:00:00Z",
       {"2011-12-30T10:00:00Z", "2012-12-29T19:00:00Z"}},
      {"0 9 * * FRI",
       "Pacific/Apia",
       "2011-12-24T00:00:00Z",
       {"2011-12-30T10:00:00Z", "2012-01-05T19:00:00Z"}},
      // Kwajalein has no 1993-08-21.
      {"30 12 21 8 *",
       "Pacific/Kwajalein",
       "1993-01-01T00:00:00Z",
       {"1993-08-21T12:00:00Z", "1994-08-21T00:30:00Z"}},
      // A gap that does not end at a full minute: Monrovia left -00:44:30 at 1972-01-07T00:44:30Z.
      {"10 0 7 1 *",
       "Africa/Monrovia",
       "1971-06-01T00:00:00Z",
       {"1972-01-07T00:44:30Z", "1973-01-07T00:10:00Z"}},
  });
}

TEST(CronTest, FixedHoursInARepeatFireAtTheirFirstOccurrenceOnly) {
  CheckRows({
      // 2024-11-03 02:00 EDT becomes 01:00 EST at 06:00Z.
      {"30 1 * * *",
       "America/New_York",
       "2024-11-02T12:00:00Z",
       {"2024-11-03T05:30:00Z", "2024-11-04T06:30:00Z"}},
      {"*/20 1 * * *",
       "America/New_York",
       "2024-11-03T05:00:00Z",
       {"2024-11-03T05:20:00Z", "2024-11-03T05:40:00Z", "2024-11-04T06:00:00Z"}},
      // Asked from within the second pass.
      {"*/20 1-2 * * *",
       "America/New_York",
       "2024-11-03T06:10:00Z",
       {"2024-11-03T07:00:00Z", "2024-11-03T07:20:00Z"}},
      {"0 1,2 * * *",
       "America/New_York",
       "2024-11-03T04:00:00Z",
       {"2024-11-03T05:00:00Z", "2024-11-03T07:00:00Z", "2024-11-04T06:00:00Z"}},
      // Over midnight: Sao Paulo 2018-02-18 00:00 becomes 23:00 of the 17th, a Saturday, at 02:00Z.
      {"30 23 * * *",
       "America/Sao_Paulo",
       "2018-02-17T12:00:00Z",
       {"2018-02-18T01:30:00Z", "2018-02-19T02:30:00Z"}},
      {"0 0 * * *",
       "America/Sao_Paulo",
       "2018-02-17T12:00:00Z",
       {"2018-02-18T03:00:00Z", "2018-02-19T03:00:00Z"}},
      {"30 23 * * SAT",
       "America/Sao_Paulo",
       "2018-02-17T12:00:00Z",
       {"2018-02-18T01:30:00Z", "2018-02-25T02:30:00Z"}},
      // Half an hour: Lord Howe 2024-04-07 02:00 becomes 01:30 at 15:00Z of the 6th.
      {"*/15 1 * * *",
       "Australia/Lord_Howe",
       "2024-04-06T12:00:00Z",
       {"2024-04-06T14:00:00Z", "2024-04-06T14:15:00Z", "2024-04-06T14:30:00Z",
        "2024-04-06T14:45:00Z", "2024-04-07T14:30:00Z"}},
  });
  const CronSchedule schedule = Schedule("30 1 * * *");
  const absl::TimeZone zone = Zone("America/New_York");
  for (const char* second_pass : {"2024-11-03T06:00:00Z", "2024-11-03T06:30:00Z",
                                  "2024-11-03T06:30:01Z", "2024-11-03T06:59:59Z"}) {
    EXPECT_EQ(Text(schedule.Prev(At(second_pass), zone)), "2024-11-03T05:30:00Z");
    EXPECT_EQ(Text(schedule.Next(At(second_pass), zone)), "2024-11-04T06:30:00Z");
  }
}

TEST(CronTest, AllHoursFireAtEveryRealInstant) {
  CheckRows({
      {"@hourly",
       "America/New_York",
       "2024-03-10T05:00:00Z",
       {"2024-03-10T06:00:00Z", "2024-03-10T07:00:00Z", "2024-03-10T08:00:00Z"}},
      {"30 * * * *",
       "America/New_York",
       "2024-03-10T06:00:00Z",
       {"2024-03-10T06:30:00Z", "2024-03-10T07:30:00Z"}},
      {"30 * * * *",
       "America/New_York",
       "2024-11-03T05:00:00Z",
       {"2024-11-03T05:30:00Z", "2024-11-03T06:30:00Z", "2024-11-03T07:30:00Z"}},
      {"@hourly",
       "America/New_York",
       "2024-11-03T04:00:00Z",
       {"2024-11-03T05:00:00Z", "2024-11-03T06:00:00Z", "2024-11-03T07:00:00Z"}},
      // However the 24 hours are written.
      {"30 0-23 * * *",
       "America/New_York",
       "2024-11-03T05:00:00Z",
       {"2024-11-03T05:30:00Z", "2024-11-03T06:30:00Z"}},
      {"30 0-11,12/1 * * *",
       "America/New_York",
       "2024-11-03T05:00:00Z",
       {"2024-11-03T05:30:00Z", "2024-11-03T06:30:00Z"}},
      {"30 0-22 * * *",
       "America/New_York",
       "2024-11-03T05:00:00Z",
       {"2024-11-03T05:30:00Z", "2024-11-03T07:30:00Z"}},
      // Half hours. Gap 02:00-02:30, repeat 01:30-02:00.
      {"*/20 * * * *",
       "Australia/Lord_Howe",
       "2024-10-05T15:00:00Z",
       {"2024-10-05T15:10:00Z", "2024-10-05T15:40:00Z", "2024-10-05T16:00:00Z"}},
      {"*/20 * * * *",
       "Australia/Lord_Howe",
       "2024-04-06T14:30:00Z",
       {"2024-04-06T14:40:00Z", "2024-04-06T15:10:00Z", "2024-04-06T15:30:00Z"}},
      {"15 * * * *",
       "Australia/Lord_Howe",
       "2024-04-06T14:00:00Z",
       {"2024-04-06T14:15:00Z", "2024-04-06T15:45:00Z"}},
      // Days are those of the civil time: the 17th, a Saturday, has 25 hours in Sao Paulo.
      {"0 * 17 2 *",
       "America/Sao_Paulo",
       "2018-02-18T00:00:00Z",
       {"2018-02-18T01:00:00Z", "2018-02-18T02:00:00Z", "2019-02-17T03:00:00Z"}},
      {"0 * * * SUN",
       "America/Sao_Paulo",
       "2018-02-18T01:00:00Z",
       {"2018-02-18T03:00:00Z", "2018-02-18T04:00:00Z"}},
      // Apia has no 2011-12-30.
      {"0 * 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00Z", {"2012-12-29T10:00:00Z"}},
      {"0 * * * *",
       "Pacific/Apia",
       "2011-12-30T08:00:00Z",
       {"2011-12-30T09:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T11:00:00Z"}},
      // Minutes are civil ones: Kathmandu is at +05:45.
      {"@hourly", "Asia/Kathmandu", "2026-01-01T00:00:00Z", {"2026-01-01T00:15:00Z"}},
  });
}

TEST(CronTest, EveryCountsFromTheEpochInAnyZone) {
  for (const char* zone : {"UTC", "America/New_York"}) {
    CheckRows({
        {"@every 10s",
         zone,
         "2024-03-10T06:59:55Z",
         {"2024-03-10T07:00:00Z", "2024-03-10T07:00:10Z"}},
        {"@every 10s", zone, "2024-03-10T07:00:00Z", {"2024-03-10T07:00:10Z"}},
        {"@every 7s", zone, "1970-01-01T00:00:00Z", {"1970-01-01T00:00:07Z"}},
        {"@every 7s",
         zone,
         "1969-12-31T23:59:50Z",
         {"1969-12-31T23:59:53Z", "1970-01-01T00:00:00Z"}},
        {"@every 1s", zone, "2024-03-10T07:00:00.5Z", {"2024-03-10T07:00:01Z"}},
        {" @every\t1h30m ",
         zone,
         "2024-03-10T07:00:00Z",
         {"2024-03-10T07:30:00Z", "2024-03-10T09:00:00Z"}},
    });
  }
  EXPECT_EQ(Schedule("@every 1.5h"), Schedule("@every 90m"));
  EXPECT_EQ(Schedule("@every 1h0.5m1000ms"), Schedule("@every 3631s"));
  EXPECT_EQ(Schedule("@every 60000000us"), Schedule("@every 60000000000ns"));
  EXPECT_EQ(Schedule("@every 60000000\u00b5s"), Schedule("@every 1m"));
  EXPECT_EQ(Schedule("@every 8760h"), Schedule("@every 31536000s"));
}

TEST(CronTest, SchedulesAreEqualWhenTheirSetsAre) {
  EXPECT_EQ(Schedule("@hourly"), Schedule("0 */1 ? * *"));
  EXPECT_EQ(Schedule("0 0 * * 5-7"), Schedule("0 0 * * SUN,FRI,SAT"));
  EXPECT_NE(Schedule("0 0 * * MON"), Schedule("0 0 1-31 * MON"));
  EXPECT_NE(Schedule("@every 3600s"), Schedule("@hourly"));
}

TEST(CronTest, ErrorsNameFieldValueAndWhatIsAllowed) {
  struct {
    const char* expression;
    std::vector<std::string> parts;
  } const rows[] = {
      {"", {"empty"}},
      {" \t", {"empty"}},
      {"* * * *", {"\"* * * *\"", "4 fields", "5: minute, hour, day of month"}},
      {"*", {"1 field;"}},
      {"0 * * * * *", {"6 fields"}},
      {"60 * * * *", {"minute", "\"60\"", "out of range", "0-59"}},
      {"99999999999999999999 * * * *", {"minute", "out of range"}},
      {"0-60 * * * *", {"minute", "\"0-60\"", "out of range"}},
      {"0 24 * * *", {"hour", "\"24\"", "0-23"}},
      {"0 0 0 * *", {"day of month", "\"0\"", "1-31"}},
      {"0 0 32 * *", {"day of month", "\"32\"", "1-31"}},
      {"0 0 1 0 *", {"month", "\"0\"", "1-12 or JAN-DEC"}},
      {"0 0 1 13 *", {"month", "\"13\"", "1-12 or JAN-DEC"}},
      {"0 0 * * 8", {"day of week", "\"8\"", "0-7 (0 and 7 are Sunday) or SUN-SAT"}},
      {"0 0 * * 6-8", {"day of week", "\"6-8\"", "out of range"}},
      {"0 0 1 MON *", {"month", "\"MON\"", "not *, a value"}},
      {"0 0 * * JAN", {"day of week", "\"JAN\""}},
      {"0 0 * * MOND", {"day of week", "\"MOND\""}},
      {"JAN 0 * * *", {"minute", "\"JAN\""}},
      {"-1 * * * *", {"minute", "\"-1\""}},
      {"+1 * * * *", {"minute", "\"+1\""}},
      {"1.5 * * * *", {"minute", "\"1.5\""}},
      {"0x10 * * * *", {"minute", "\"0x10\""}},
      {"*-5 * * * *", {"minute", "\"*-5\""}},
      {"?-5 * * * *", {"minute", "\"?-5\""}},
      {"5-* * * * *", {"minute", "\"5-*\""}},
      {"** * * * *", {"minute", "\"**\""}},
      {"1-2-3 * * * *", {"minute", "\"1-2-3\""}},
      {"5- * * * *", {"minute", "\"5-\""}},
      {"- * * * *", {"minute", "\"-\""}},
      {"30-10 * * * *", {"minute", "\"30-10\"", "smaller to the larger"}},
      {"0 0 * * FRI-MON", {"day of week", "\"FRI-MON\"", "smaller to the larger"}},
      {"0 0 * * SAT-SUN", {"day of week", "\"SAT-SUN\"", "smaller to the larger"}},
      {", * * * *", {"minute", "empty item"}},
      {"1,,2 * * * *", {"minute", "empty item"}},
      {"1, * * * *", {"minute", "empty item"}},
      {",1 * * * *", {"minute", "empty item"}},
      {"*/0 * * * *", {"minute", "\"*/0\"", "step"}},
      {"*/ * * * *", {"minute", "\"*/\"", "step"}},
      {"*/-1 * * * *", {"minute", "\"*/-1\"", "step"}},
      {"*/2/2 * * * *", {"minute", "\"*/2/2\"", "step"}},
      {"/5 * * * *", {"minute", "\"/5\""}},
      {"0 0 L * *", {"day of month", "\"L\""}},
      {"0 0 15W * *", {"day of month", "\"15W\""}},
      {"0 0 * * 5#3", {"day of week", "\"5#3\""}},
      {"0 0 31 2 *", {"never fires", "\"31\"", "\"2\""}},
      {"0 0 30 2 ?", {"never fires"}},
      {"0 0 31 4,JUN,9,11 *", {"never fires"}},
      {"0 0 30-31 FEB */1", {"never fires"}},
      {"@reboot", {"\"@reboot\"", "@yearly"}},
      {"@Daily", {"\"@Daily\""}},
      {"@daily 5", {"\"@daily 5\""}},
      {"@", {"\"@\""}},
      {"TZ=UTC 0 0 * * *", {"\"TZ=UTC\"", "timeZone"}},
      {"TZ=UTC", {"timeZone"}},
      {"CRON_TZ=Asia/Tokyo @daily", {"timeZone"}},
      {"@every", {"@every", "not a duration"}},
      {"@every5s", {"\"@every5s\"", "@yearly"}},
      {"@every 5", {"\"5\"", "not a duration"}},
      {"@every 5x", {"not a duration"}},
      {"@every 5s 5s", {"not a duration"}},
      {"@every 1d", {"not a duration"}},
      {"@every 0s", {"\"0s\"", "1s to 8760h"}},
      {"@every 0", {"not a duration"}},
      {"@every -5s", {"\"-5s\"", "not a duration"}},
      {"@every 999ms", {"1s to 8760h"}},
      {"@every 8760h1s", {"1s to 8760h"}},
      {"@every inf", {"not a duration"}},
      {"@every 99999999999999999999h", {"@every"}},
      {"@every 1.5s", {"\"1.5s\"", "whole seconds"}},
      {"@every 1s1ns", {"whole seconds"}},
      {"@every 0.3333h1ms", {"whole seconds"}},
  };
  for (const auto& row : rows) {
    const auto schedule = CronSchedule::Parse(row.expression);
    ASSERT_FALSE(schedule.ok()) << row.expression;
    EXPECT_EQ(schedule.status().code(), absl::StatusCode::kInvalidArgument);
    for (const std::string& part : row.parts) {
      EXPECT_THAT(std::string(schedule.status().message()), HasSubstr(part)) << row.expression;
    }
  }
}

TEST(CronTest, ErrorsStayOneShortLineWhateverTheInput) {
  std::string expression(100000, '\n');
  expression += "\x1b\xff";
  expression.append(100000, 'x');
  const auto schedule = CronSchedule::Parse(expression);
  ASSERT_FALSE(schedule.ok());
  const std::string message(schedule.status().message());
  EXPECT_LT(message.size(), 500u);
  for (char c : message) EXPECT_TRUE(c >= ' ' && c <= '~') << message;
}

TEST(CronTest, LoadsIanaZonesAndNothingElse) {
  for (const char* name : {"UTC", "Etc/UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires",
                           "America/Port-au-Prince", "Etc/GMT+12", "EST5EDT", "W-SU"}) {
    const auto zone = LoadTimeZone(name);
    ASSERT_TRUE(zone.ok()) << zone.status();
    EXPECT_EQ(zone->name(), name);
  }
  EXPECT_EQ(LoadTimeZone("").value(), absl::UTCTimeZone());
  for (const char* name : {"Local",
                           "local",
                           "localtime",
                           "posixrules",
                           "Europe/Atlantis",
                           "europe/berlin",
                           "Europe",
                           "Europe/",
                           "/usr/share/zoneinfo/Europe/Berlin",
                           "../zoneinfo/Europe/Berlin",
                           "Europe/../Europe/Berlin",
                           "./UTC",
                           "Europe//Berlin",
                           "file:Europe/Berlin",
                           "libc:localtime",
                           "Fixed/UTC+01:00:00",
                           "right/Europe/Berlin",
                           "posix/Europe/Berlin",
                           "zone.tab",
                           "leapseconds",
                           " UTC",
                           "UTC ",
                           "UTC0",
                           "UTC\n",
                           "+01:00",
                           "Europe\\Berlin"}) {
    const auto zone = LoadTimeZone(name);
    ASSERT_FALSE(zone.ok()) << name;
    EXPECT_EQ(zone.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(zone.status().message()),
                AllOf(HasSubstr("time zone \""), HasSubstr("Europe/Berlin")));
  }
  EXPECT_FALSE(LoadTimeZone(std::string("UTC\0x", 5)).ok());
}

// Prev walks back over exactly the instants that Next walked over, from any point between them.
TEST(CronTest, PrevUndoesNextAroundEveryKindOfOffsetChange) {
  struct {
    const char* zone;
    const char* around;
  } const changes[] = {
      {"America/New_York", "2024-03-10T07:00:00Z"},
      {"America/New_York", "2024-11-03T06:00:00Z"},
      {"Europe/Dublin", "2024-10-27T01:00:00Z"},
      {"America/Sao_Paulo", "2018-11-04T03:00:00Z"},
      {"America/Sao_Paulo", "2018-02-18T02:00:00Z"},
      {"Africa/Cairo", "2024-04-25T22:00:00Z"},
      {"Africa/Cairo", "2024-10-31T21:00:00Z"},
      {"Asia/Beirut", "2024-03-30T22:00:00Z"},
      {"Australia/Lord_Howe", "2024-10-05T15:30:00Z"},
      {"Australia/Lord_Howe", "2024-04-06T15:00:00Z"},
      {"Pacific/Apia", "2011-12-30T10:00:00Z"},
      {"Pacific/Kwajalein", "1993-08-21T12:00:00Z"},
      {"Africa/Monrovia", "1972-01-07T00:44:30Z"},
      {"Antarctica/Troll", "2024-03-31T01:00:00Z"},
      {"Antarctica/Troll", "2024-10-27T01:00:00Z"},
      {"America/Caracas", "2007-12-09T07:00:00Z"},
      {"Asia/Pyongyang", "2018-05-04T15:00:00Z"},
      {"Africa/Casablanca", "2026-02-15T02:00:00Z"},
      {"America/New_York", "2500-11-07T06:00:00Z"},
      {"UTC", "2026-01-01T00:00:00Z"},
  };
  const std::vector<std::string> expressions = {
      "* * * * *",        "*/7 * * * *",       "30 * * * *",        "0 0 * * *",
      "30 1 * * *",       "*/15 1-3 * * *",    "0,30 2 * * *",      "59 23 * * *",
      "15 0-22 * * *",    "0 * * * SUN",       "*/10 0,23 * * 5-7", "0 12 */2 * MON",
      "0-5 0-2 1,30 * *", "30 2 10,31 3,10 *", "@every 37m",        "5 4 29 2 *",
  };
  std::mt19937 random(20261122);
  for (const auto& change : changes) {
    const absl::TimeZone zone = Zone(change.zone);
    const absl::Time begin = At(change.around) - absl::Hours(60);
    const absl::Time end = At(change.around) + absl::Hours(60);
    for (const std::string& expression : expressions) {
      SCOPED_TRACE(fmt::format("{} in {} around {}", expression, change.zone, change.around));
      const CronSchedule schedule = Schedule(expression);
      std::vector<absl::Time> forward;
      for (auto t = schedule.Next(begin, zone); t && *t < end; t = schedule.Next(*t, zone)) {
        ASSERT_LT(forward.empty() ? begin : forward.back(), *t);
        forward.push_back(*t);
      }
      std::vector<absl::Time> backward;
      for (auto t = schedule.Prev(end, zone); t && *t > begin; t = schedule.Prev(*t, zone)) {
        backward.insert(backward.begin(), *t);
      }
      ASSERT_EQ(forward, backward);
      for (int i = 0; i < 50; ++i) {
        const absl::Time now = begin + absl::Milliseconds(random() % 432'000'000);
        const auto after = std::upper_bound(forward.begin(), forward.end(), now);
        const auto at_or_after = std::lower_bound(forward.begin(), forward.end(), now);
        if (after != forward.end()) {
          ASSERT_EQ(schedule.Next(now, zone), *after) << now;
        }
        if (at_or_after != forward.begin()) {
          ASSERT_EQ(schedule.Prev(now, zone), *(at_or_after - 1)) << now;
        }
      }
    }
  }
}

}  // namespace
}  // namespace snapkeeper
