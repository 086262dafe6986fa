#include "scheduler/run.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/kube/json.h"

namespace snapkeeper {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

const absl::Time kInstant = absl::FromUnixSeconds(1'800'000'000);

RunVolume Volume(const std::string& name, Outcome outcome, Reason reason = Reason::kNone,
                 bool posted = true) {
  return {.claim = name,
          .claim_uid = "uid-" + name,
          .snapshot = name + "-hash",
          .posted = posted,
          .outcome = outcome,
          .reason = reason,
          .message = "why"};
}

Run RunOf(std::initializer_list<RunVolume> volumes, bool settled) {
  struct Run run {
    .instant = kInstant, .generation = 3, .start_time = kInstant
  };
  for (const RunVolume& volume : volumes) run.volumes[volume.claim_uid] = volume;
  if (run.AllPosted()) run.posted_time = kInstant + absl::Seconds(1);
  if (settled) run.completion_time = kInstant + absl::Seconds(5);
  return run;
}

TEST(RunTest, StateFollowsFromTheOutcomes) {
  struct Case {
    const char* name;
    std::initializer_list<RunVolume> volumes;
    bool settled;
    RunState state;
  } const cases[] = {
      {"nothing asked for yet",
       {Volume("a", Outcome::kPending, Reason::kNone, false)},
       false,
       RunState::kPosting},
      {"asked for, not ready", {Volume("a", Outcome::kPending)}, false, RunState::kSettling},
      {"all ready",
       {Volume("a", Outcome::kSucceeded), Volume("b", Outcome::kSucceeded)},
       true,
       RunState::kSucceeded},
      {"late is success too", {Volume("a", Outcome::kSucceededLate)}, true, RunState::kSucceeded},
      {"some failed",
       {Volume("a", Outcome::kSucceeded), Volume("b", Outcome::kFailed)},
       true,
       RunState::kPartiallySucceeded},
      {"some skipped",
       {Volume("a", Outcome::kSucceeded), Volume("b", Outcome::kSkipped)},
       true,
       RunState::kPartiallySucceeded},
      {"all failed",
       {Volume("a", Outcome::kFailed), Volume("b", Outcome::kSkipped)},
       true,
       RunState::kFailed},
      {"all skipped",
       {Volume("a", Outcome::kSkipped), Volume("b", Outcome::kCancelled)},
       true,
       RunState::kSkipped},
      {"no volumes", {}, true, RunState::kSkipped},
  };
  for (const Case& c : cases)
    EXPECT_EQ(ToRecord(RunOf(c.volumes, c.settled)).state, c.state) << c.name;
}

TEST(RunTest, TenFailuresAreNamedAndTheRestAreCounted) {
  struct Run run {
    .instant = kInstant, .posted_time = kInstant, .completion_time = kInstant
  };
  for (int i = 0; i < 25; ++i) {
    const RunVolume volume =
        Volume(fmt::format("data-{:02}", i), i < 5 ? Outcome::kSucceeded : Outcome::kFailed,
               Reason::kClaimNotBound);
    run.volumes[volume.claim_uid] = volume;
  }
  const RunRecord record = ToRecord(run);
  EXPECT_THAT(record.failures, SizeIs(10));
  EXPECT_EQ(record.failures.front().claim, "data-05");
  EXPECT_EQ(record.failures_omitted, 10);
  EXPECT_EQ(record.counts.selected, 25);
  EXPECT_EQ(record.counts.failed, 20);
}

TEST(RunTest, ASettledRecordSurvivesARestart) {
  struct Run run {
    .instant = kInstant, .start_time = kInstant, .posted_time = kInstant,
    .completion_time = kInstant
  };
  for (int i = 0; i < 25; ++i) {
    const RunVolume volume =
        Volume(fmt::format("data-{:02}", i), i % 2 ? Outcome::kSucceeded : Outcome::kFailed,
               Reason::kNotReadyInTime);
    run.volumes[volume.claim_uid] = volume;
  }
  const RunRecord record = ToRecord(run);
  EXPECT_EQ(ToRecord(FromRecord(record)), record);
}

TEST(RunTest, OfAnUnsettledRecordOnlyWhatCannotBeLookedUpIsCarried) {
  const RunRecord record =
      ToRecord(RunOf({Volume("a", Outcome::kSucceeded), Volume("b", Outcome::kFailed),
                      Volume("c", Outcome::kPending)},
                     false));
  const struct Run run = FromRecord(record);
  EXPECT_THAT(run.volumes, SizeIs(1));
  EXPECT_TRUE(run.volumes.at("uid-b").final());
  EXPECT_EQ(run.carried, RunCounts());
}

TEST(RunTest, MessagesAreBounded) {
  RunVolume volume = Volume("a", Outcome::kFailed);
  volume.message = std::string(1000, 'x');
  const RunRecord record = ToRecord(RunOf({volume}, true));
  ASSERT_THAT(record.failures, SizeIs(1));
  EXPECT_LE(record.failures[0].message.size(), kMaxMessage);
}

TEST(RunTest, AStatusHasRoomForTheNewestFailures) {
  std::vector<RunRecord> records;
  for (size_t i = 0; i < kMaxRecords; ++i) {
    struct Run run = RunOf({}, true);
    run.generation = std::numeric_limits<int32_t>::max();
    for (int volume = 0; volume < 1000; ++volume) {
      const std::string name = fmt::format("{}{:03}", std::string(250, 'c'), volume);
      run.volumes[name] = Volume(name, Outcome::kFailed, Reason::kMultipleDefaultClasses);
      run.volumes[name].message = std::string(kMaxMessage, '"');
    }
    records.push_back(ToRecord(run));
  }
  FitFailures(records);
  EXPECT_THAT(records.front().failures, Not(IsEmpty()));
  EXPECT_THAT(records.back().failures, IsEmpty());
  for (const RunRecord& record : records)
    EXPECT_EQ(std::ssize(record.failures) + record.failures_omitted, record.counts.failed);
  const std::string long_text(1024, '"');
  const PolicyStatus status{
      .last_schedule_time = kInstant,
      .schedule_hash = std::string(32, 'h'),
      .schedule_since = kInstant,
      .epoch = std::numeric_limits<int64_t>::max(),
      .last_successful_time = kInstant,
      .next_schedule_time = kInstant,
      .recent_runs = records,
      .conditions = {{.type = "Ready", .reason = "InvalidSchedule", .message = long_text},
                     {.type = "Reconciling", .reason = "Reconciled"},
                     {.type = "Stalled", .reason = "InvalidSchedule", .message = long_text},
                     {.type = "Protected", .message = std::string(400, 'm')}}};
  const std::string text = StatusPatch(status, "")["status"].dump();
  EXPECT_LE(text.size(), kMaxStatusBytes);
  EXPECT_GT(text.size(), kMaxStatusBytes / 2);
}

TEST(RunTest, FailuresThatFitAreLeftAlone) {
  std::vector<RunRecord> records(15, ToRecord(RunOf({Volume("a", Outcome::kFailed)}, true)));
  const std::vector<RunRecord> before = records;
  FitFailures(records);
  EXPECT_EQ(records, before);
}

TEST(RunTest, AMessageThatIsNotUtf8HasRoomAsItIsWritten) {
  RunVolume volume = Volume("a", Outcome::kFailed);
  volume.message = "peer says \xff\xc3";
  std::vector<RunRecord> records = {ToRecord(RunOf({volume}, true))};
  FitFailures(records);
  EXPECT_THAT(records[0].failures, SizeIs(1));
}

TEST(RunTest, AFailureBeforeThePostNamesNoSnapshot) {
  const RunRecord record =
      ToRecord(RunOf({Volume("a", Outcome::kFailed, Reason::kNotCsi, false)}, true));
  ASSERT_THAT(record.failures, SizeIs(1));
  EXPECT_THAT(record.failures[0].snapshot, IsEmpty());
}

}  // namespace
}  // namespace snapkeeper
