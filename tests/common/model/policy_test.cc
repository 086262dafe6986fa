#include "common/model/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace snapkeeper {
namespace {

using Labels = std::map<std::string, std::string>;

TEST(PolicyTest, SelectorsMatchAsKubernetesDoes) {
  const Labels db = {{"app", "db"}, {"tier", "gold"}, {"empty", ""}};
  const struct {
    const char* what;
    LabelSelector selector;
    Labels labels;
    bool matches;
  } cases[] = {
      {"an empty selector matches everything", {}, db, true},
      {"an empty selector matches no labels at all", {}, {}, true},
      {"a label", {{{"app", "db"}}, {}}, db, true},
      {"another value", {{{"app", "web"}}, {}}, db, false},
      {"an absent key", {{{"zone", "a"}}, {}}, db, false},
      {"an empty value wants the key", {{{"zone", ""}}, {}}, db, false},
      {"an empty value", {{{"empty", ""}}, {}}, db, true},
      {"all labels are needed", {{{"app", "db"}, {"tier", "silver"}}, {}}, db, false},
      {"In", {{}, {{"app", "In", {"web", "db"}}}}, db, true},
      {"In, other values", {{}, {{"app", "In", {"web"}}}}, db, false},
      {"In, absent key", {{}, {{"zone", "In", {"a"}}}}, db, false},
      {"In, absent key and the empty value", {{}, {{"zone", "In", {""}}}}, db, false},
      {"NotIn", {{}, {{"app", "NotIn", {"web"}}}}, db, true},
      {"NotIn, listed", {{}, {{"app", "NotIn", {"web", "db"}}}}, db, false},
      {"NotIn, absent key", {{}, {{"zone", "NotIn", {"a"}}}}, db, true},
      {"Exists", {{}, {{"app", "Exists", {}}}}, db, true},
      {"Exists, empty value", {{}, {{"empty", "Exists", {}}}}, db, true},
      {"Exists, absent key", {{}, {{"zone", "Exists", {}}}}, db, false},
      {"DoesNotExist", {{}, {{"app", "DoesNotExist", {}}}}, db, false},
      {"DoesNotExist, absent key", {{}, {{"zone", "DoesNotExist", {}}}}, db, true},
      {"labels and expressions are both needed",
       {{{"app", "db"}}, {{"tier", "NotIn", {"gold"}}}},
       db,
       false},
      {"all expressions are needed",
       {{}, {{"app", "Exists", {}}, {"tier", "In", {"gold"}}, {"zone", "Exists", {}}}},
       db,
       false},
      {"all expressions hold",
       {{{"app", "db"}}, {{"tier", "In", {"gold"}}, {"zone", "DoesNotExist", {}}}},
       db,
       true},
      {"keys and values have their case", {{{"App", "db"}}, {}}, db, false},
      {"not valid: In without values", {{}, {{"app", "In", {}}}}, db, false},
      {"not valid: NotIn without values", {{}, {{"app", "NotIn", {}}}}, db, false},
      {"not valid: Exists with values", {{}, {{"app", "Exists", {"db"}}}}, db, false},
      {"not valid: DoesNotExist with values", {{}, {{"z", "DoesNotExist", {"a"}}}}, db, false},
      {"not valid: unknown operator", {{}, {{"app", "Gt", {"1"}}}}, db, false},
      {"not valid: operators have their case", {{}, {{"app", "in", {"db"}}}}, db, false},
  };
  for (const auto& c : cases) EXPECT_EQ(Matches(c.selector, c.labels), c.matches) << c.what;
}

TEST(PolicyTest, RunStatesGoThereAndBack) {
  const std::map<RunState, std::string_view> words = {
      {RunState::kPosting, "Posting"},     {RunState::kSettling, "Settling"},
      {RunState::kSucceeded, "Succeeded"}, {RunState::kPartiallySucceeded, "PartiallySucceeded"},
      {RunState::kFailed, "Failed"},       {RunState::kSkipped, "Skipped"},
  };
  for (const auto& [state, word] : words) {
    EXPECT_EQ(ToString(state), word);
    EXPECT_EQ(ParseRunState(word), state);
  }
  for (const char* word : {"", "posting", "Pending", "Posting "}) {
    EXPECT_EQ(ParseRunState(word), std::nullopt) << word;
  }
}

TEST(PolicyTest, OutcomesGoThereAndBack) {
  const std::map<Outcome, std::string_view> words = {
      {Outcome::kPending, "Pending"}, {Outcome::kSucceeded, "Succeeded"},
      {Outcome::kFailed, "Failed"},   {Outcome::kSucceededLate, "SucceededLate"},
      {Outcome::kSkipped, "Skipped"}, {Outcome::kCancelled, "Cancelled"},
  };
  for (const auto& [outcome, word] : words) {
    EXPECT_EQ(ToString(outcome), word);
    EXPECT_EQ(ParseOutcome(word), outcome);
  }
  for (const char* word : {"", "failed", "Posting", "Canceled"}) {
    EXPECT_EQ(ParseOutcome(word), std::nullopt) << word;
  }
}

TEST(PolicyTest, ValidSchedulesCompile) {
  PolicySpec spec;
  spec.schedule = "30 2 * * *";
  spec.time_zone = "Europe/Berlin";
  auto compiled = CompileSchedule(spec);
  ASSERT_TRUE(compiled.ok()) << compiled.status();
  EXPECT_EQ(compiled->zone.name(), "Europe/Berlin");
  // 2026-01-05T00:00:00Z; 02:30 in Berlin is 01:30 UTC in winter.
  const absl::Time after = absl::FromUnixSeconds(1767571200);
  EXPECT_EQ(compiled->cron.Next(after, compiled->zone), after + absl::Minutes(90));
}

TEST(PolicyTest, WhatTheSchemaCannotJudgeIsRefusedWithItsName) {
  const struct {
    const char *schedule, *zone, *named;
  } cases[] = {
      {"61 * * * *", "UTC", "schedule"},
      {"", "UTC", "schedule"},
      {"0 0 31 2 *", "UTC", "schedule"},
      {"TZ=UTC 0 * * * *", "UTC", "schedule"},
      {"0 * * * *", "Local", "time zone"},
      {"0 * * * *", "Mars/Olympus", "Mars/Olympus"},
      {"@every 10s", "../etc/passwd", "time zone"},
  };
  for (const auto& c : cases) {
    PolicySpec spec;
    spec.schedule = c.schedule;
    spec.time_zone = c.zone;
    const absl::Status status = CompileSchedule(spec).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.schedule << " " << c.zone;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(c.named));
  }
}

TEST(PolicyTest, ScheduleHashIsTheSameInEveryRelease) {
  // It is stored in the status: another value would drop the runs that were missed across an
  // upgrade. printf '0 * * * *\nUTC\nfalse\n' | sha256sum | cut -c1-32 | xxd -r -p | base32
  PolicySpec spec;
  spec.schedule = "0 * * * *";
  EXPECT_EQ(ScheduleHash(spec), "64jru3rdfd2f5mzt2ukwz3ocyi");
}

TEST(PolicyTest, ScheduleHashTellsScheduleZoneAndSuspendOnly) {
  PolicySpec base;
  base.schedule = "0 * * * *";
  std::set<std::string> hashes = {ScheduleHash(base)};
  PolicySpec changed = base;
  changed.schedule = "1 * * * *";
  EXPECT_TRUE(hashes.insert(ScheduleHash(changed)).second);
  changed = base;
  changed.time_zone = "Europe/Berlin";
  EXPECT_TRUE(hashes.insert(ScheduleHash(changed)).second);
  changed = base;
  changed.suspend = true;
  EXPECT_TRUE(hashes.insert(ScheduleHash(changed)).second);

  changed = base;
  changed.starting_deadline = absl::Seconds(5);
  changed.run_latest = false;
  changed.selector.match_labels = {{"app", "db"}};
  changed.snapshot_class = "fast";
  changed.ready_timeout = absl::Minutes(1);
  changed.retention = {3, absl::Hours(1), 2, absl::Hours(1)};
  changed.run_history_limit = 20;
  EXPECT_EQ(ScheduleHash(changed), ScheduleHash(base));
}

}  // namespace
}  // namespace snapkeeper
