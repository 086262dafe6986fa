#include "common/model/due.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/model/clock.h"

namespace snapkeeper {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

// Seconds after a whole day, so that `@every 10s` fires at 0, 10, 20 and so on.
absl::Time T(double seconds) { return absl::FromUnixSeconds(1800057600) + absl::Seconds(seconds); }

CronSchedule Schedule(const std::string& expression) {
  return CronSchedule::Parse(expression).value();
}

Due Ask(const CronSchedule& schedule, absl::Time since, absl::Time now,
        std::optional<absl::Duration> starting_deadline = absl::Seconds(60),
        bool run_latest = true) {
  return DueFires({.schedule = &schedule,
                   .zone = absl::UTCTimeZone(),
                   .since = since,
                   .now = now,
                   .starting_deadline = starting_deadline,
                   .run_latest = run_latest});
}

TEST(DueTest, TellsWhatRunsAndWhatWasMissed) {
  constexpr double kNone = -1;
  struct {
    const char* what;
    double since, now, deadline;
    bool run_latest;
    double run;
    std::vector<double> missed;
    double up_to, next;
  } const rows[] = {
      {"nothing yet", 0, 9.9, 60, true, kNone, {}, 0, 10},
      {"at its very moment", 0, 10, 60, true, 10, {}, 10, 20},
      {"milliseconds late", 0, 10.004, 60, true, 10, {}, 10, 20},
      {"just ran", 10, 10.004, 60, true, kNone, {}, 10, 20},
      {"first run of a policy made between two instants", 3, 10, 60, true, 10, {}, 10, 20},
      {"made at an instant: that one is not due", 10, 15, 60, true, kNone, {}, 10, 20},
      {"one missed", 0, 25, 60, true, 20, {10}, 20, 30},
      {"five missed, Latest", 0, 58, 60, true, 50, {40, 30, 20, 10}, 50, 60},
      {"five missed, Skip", 0, 58, 60, false, kNone, {50, 40, 30, 20, 10}, 50, 60},
      {"Skip, back on time for the newest", 0, 50.5, 60, false, 50, {40, 30, 20, 10}, 50, 60},
      {"Skip, at the end of the grace", 0, 11, 60, false, 10, {}, 10, 20},
      {"Skip, past the grace", 0, 11.001, 60, false, kNone, {10}, 10, 20},
      {"Skip, a deadline shorter than the grace", 0, 10.6, 0.5, false, kNone, {10}, 10, 20},
      {"at the starting deadline", 0, 15, 5, true, 10, {}, 10, 20},
      {"past the starting deadline", 0, 15.001, 5, true, kNone, {10}, 10, 20},
      {"all past it", 0, 39, 5, true, kNone, {30, 20, 10}, 30, 40},
      {"clock a little back: not again", 20, 19.5, 60, true, kNone, {}, 20, 30},
      {"clock a minute back: not again", 70, 10, 60, true, kNone, {}, 70, 80},
  };
  const CronSchedule schedule = Schedule("@every 10s");
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    const Due due =
        Ask(schedule, T(row.since), T(row.now), absl::Seconds(row.deadline), row.run_latest);
    EXPECT_EQ(due.run, row.run == kNone ? std::nullopt : std::optional(T(row.run)));
    std::vector<absl::Time> missed;
    for (double seconds : row.missed) missed.push_back(T(seconds));
    EXPECT_THAT(due.missed, ElementsAreArray(missed));
    EXPECT_EQ(due.up_to, T(row.up_to));
    EXPECT_EQ(due.next, T(row.next));
    EXPECT_FALSE(due.too_many);
    EXPECT_FALSE(due.since_ahead);
  }
}

TEST(DueTest, WithoutADeadlineTheNewestRunsUntilTheNextButNoLongerThanADay) {
  const CronSchedule daily = Schedule("0 12 * * *");
  const CronSchedule weekly = Schedule("0 12 * * SUN");
  const absl::Time sunday = absl::FromCivil(absl::CivilHour(2026, 11, 22, 12), absl::UTCTimeZone());
  const absl::Time before = sunday - absl::Hours(1);
  const auto ask = [&](const CronSchedule& schedule, absl::Duration late) {
    return Ask(schedule, before, sunday + late, std::nullopt);
  };
  EXPECT_EQ(ask(weekly, absl::Hours(24)).run, sunday);
  const Due too_late = ask(weekly, absl::Hours(24) + absl::Seconds(1));
  EXPECT_EQ(too_late.run, std::nullopt);
  EXPECT_THAT(too_late.missed, ElementsAre(sunday));
  EXPECT_EQ(ask(daily, absl::Hours(23)).run, sunday);
  const Due next_one = ask(daily, absl::Hours(24));
  EXPECT_EQ(next_one.run, sunday + absl::Hours(24));
  EXPECT_THAT(next_one.missed, ElementsAre(sunday));

  const absl::TimeZone utc = absl::UTCTimeZone();
  EXPECT_EQ(StartingDeadline(weekly, utc, sunday, std::nullopt), sunday + absl::Hours(24));
  EXPECT_EQ(StartingDeadline(Schedule("@hourly"), utc, sunday, std::nullopt),
            sunday + absl::Hours(1));
  EXPECT_EQ(StartingDeadline(Schedule("@hourly"), utc, sunday, absl::Hours(3)),
            sunday + absl::Hours(3));
}

TEST(DueTest, CountsExactlyUpToAThousandAndLooksNoFurther) {
  const CronSchedule schedule = Schedule("* * * * *");
  const absl::Time now = T(5);
  const absl::Time newest = T(0);

  Due due = Ask(schedule, newest - absl::Minutes(1001), now);
  EXPECT_EQ(due.run, newest);
  EXPECT_EQ(due.missed.size(), kMaxMissed);
  EXPECT_EQ(due.missed.front(), newest - absl::Minutes(1));
  EXPECT_EQ(due.missed.back(), newest - absl::Minutes(1000));
  EXPECT_FALSE(due.too_many);

  due = Ask(schedule, newest - absl::Minutes(1002), now);
  EXPECT_EQ(due.missed.size(), kMaxMissed);
  EXPECT_TRUE(due.too_many);

  due = Ask(schedule, now - absl::Hours(24 * 365), now, absl::Seconds(60), /*run_latest=*/false);
  EXPECT_EQ(due.run, std::nullopt);
  EXPECT_EQ(due.missed.size(), kMaxMissed);
  EXPECT_EQ(due.missed.front(), newest);
  EXPECT_TRUE(due.too_many);
  EXPECT_EQ(due.up_to, newest);

  due = Ask(schedule, absl::InfinitePast(), now);
  EXPECT_EQ(due.run, newest);
  EXPECT_TRUE(due.too_many);
}

TEST(DueTest, DoesNotObeyAWatermarkFarInTheFuture) {
  EXPECT_EQ(kMaxClockStep, 2 * kMaxClockOffset);
  const CronSchedule schedule = Schedule("@every 10s");
  const Due ahead = Ask(schedule, T(400), T(25));
  EXPECT_TRUE(ahead.since_ahead);
  EXPECT_EQ(ahead.run, std::nullopt);
  EXPECT_THAT(ahead.missed, IsEmpty());
  EXPECT_EQ(ahead.up_to, T(25));
  EXPECT_EQ(ahead.next, T(30));

  const Due next = Ask(schedule, ahead.up_to, T(30));
  EXPECT_FALSE(next.since_ahead);
  EXPECT_EQ(next.run, T(30));
  EXPECT_THAT(next.missed, IsEmpty());
}

TEST(DueTest, AForwardStepOfTheClockIsAnOutage) {
  const CronSchedule schedule = Schedule("@every 10s");
  const Due due = Ask(schedule, T(10), T(3610), absl::Seconds(60));
  EXPECT_EQ(due.run, T(3610));
  EXPECT_EQ(due.missed.size(), 359u);
}

TEST(DueTest, AnsweringWithUpToNeverFiresAnInstantTwice) {
  const CronSchedule schedule = Schedule("*/15 1-3 * * *");
  absl::TimeZone zone = LoadTimeZone("America/New_York").value();
  const absl::Time begin = absl::FromCivil(absl::CivilHour(2024, 11, 3, 0), zone);
  DueInput input{.schedule = &schedule, .zone = zone, .since = begin, .now = begin};
  std::vector<absl::Time> fired;
  for (input.now = begin; input.now < begin + absl::Hours(24); input.now += absl::Seconds(97)) {
    const Due due = DueFires(input);
    EXPECT_THAT(due.missed, IsEmpty());
    if (due.run) fired.push_back(*due.run);
    EXPECT_GT(due.next, input.now);
    input.since = due.up_to;
  }
  std::vector<absl::Time> expected;
  for (auto t = schedule.Next(begin, zone); *t < begin + absl::Hours(24);
       t = schedule.Next(*t, zone)) {
    expected.push_back(*t);
  }
  EXPECT_EQ(expected.size(), 12u);
  EXPECT_EQ(fired, expected);
}

TEST(DueTest, AsksNeverAgainOnceTheYearsRunOut) {
  const CronSchedule schedule = Schedule("@yearly");
  const absl::Time last = absl::FromCivil(absl::CivilYear(9999), absl::UTCTimeZone());
  const Due due = Ask(schedule, last - absl::Seconds(1), last);
  EXPECT_EQ(due.run, last);
  EXPECT_EQ(due.next, absl::InfiniteFuture());
}

}  // namespace
}  // namespace snapkeeper
