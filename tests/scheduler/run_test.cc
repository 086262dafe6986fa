#include "scheduler/run.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace snapkeeper {
namespace {

using ::testing::IsEmpty;
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

TEST(RunTest, AFailureBeforeThePostNamesNoSnapshot) {
  const RunRecord record =
      ToRecord(RunOf({Volume("a", Outcome::kFailed, Reason::kNotCsi, false)}, true));
  ASSERT_THAT(record.failures, SizeIs(1));
  EXPECT_THAT(record.failures[0].snapshot, IsEmpty());
}

}  // namespace
}  // namespace snapkeeper
