#include <absl/time/time.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/model/names.h"
#include "common/model/reason.h"
#include "tests/simulation/world.h"

namespace snapkeeper {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Each snapshot takes 33 seconds to be ready, and there is an instant every 20.
class OverlapTest : public ::testing::Test {
 protected:
  OverlapTest() : world_({.quarantine = absl::Seconds(5), .ready_after = absl::Seconds(33)}) {
    world_.simulator().AddClaim("default", "data", {{"app", "db"}});
    world_.StartExecutor("executor-0");
    world_.RunFor(absl::Seconds(3));
    world_.AddPolicy("dense", {{"schedule", "@every 20s"},
                               {"startingDeadlineSeconds", 15},
                               {"readyTimeoutSeconds", 50},
                               {"runHistoryLimit", 20}});
    world_.StartScheduler("scheduler-0");
    first_ = Every(absl::Seconds(20), world_.Now(), world_.Now() + absl::Seconds(20)).front();
  }
  // Up to `time` after the first instant.
  void RunUntil(absl::Duration time) { world_.RunFor(first_ + time - world_.Now()); }
  // "40+13": one that was asked for 13 seconds after the third instant.
  std::vector<std::string> Asked() {
    std::map<absl::Time, std::string> asked;
    for (const auto& snapshot : world_.SnapshotsOf("dense")) {
      const absl::Time instant = *ParseInstant(snapshot->instant);
      asked[instant] = fmt::format("{}+{}", absl::ToInt64Seconds(instant - first_),
                                   absl::ToInt64Seconds(snapshot->meta.created - instant));
    }
    std::vector<std::string> texts;
    for (const auto& [instant, text] : asked) texts.push_back(text);
    return texts;
  }

  World world_;
  absl::Time first_;
};

TEST_F(OverlapTest, AVolumeWaitsForItsEarlierSnapshotAndIsSkippedAtTheStartingDeadline) {
  RunUntil(absl::Seconds(105));
  EXPECT_THAT(Asked(), ElementsAre("0+0", "20+13", "60+6", "100+0"));
  EXPECT_THAT(Outcomes(world_.StatusOf("dense")),
              ElementsAre("1 succeeded", "1 succeeded", "1 skipped (Overlap)", "1 succeeded",
                          "1 skipped (Overlap)"));
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(OverlapTest, ASnapshotPastItsReadyTimeoutBlocksNoLonger) {
  world_.simulator().volumes().SetDefaultBehaviour({.never_ready = true});
  RunUntil(absl::Seconds(65));
  EXPECT_THAT(Asked(), ElementsAre("0+0", "40+10"));
}

TEST_F(OverlapTest, WhatWaitsIsCancelledWhenThePolicyIsSuspendedAndWhatIsPostedSettles) {
  RunUntil(absl::Seconds(22));
  world_.PatchPolicy("dense", {{"spec", {{"suspend", true}}}});
  RunUntil(absl::Seconds(60));
  EXPECT_THAT(Asked(), ElementsAre("0+0"));
  EXPECT_THAT(Outcomes(world_.StatusOf("dense")), ElementsAre("1 succeeded", "1 cancelled"));
}

TEST_F(OverlapTest, WhatWaitsForgoesItsSnapshotWhenThePolicyIsDeleted) {
  RunUntil(absl::Seconds(22));
  world_.DeletePolicy("dense");
  RunUntil(absl::Seconds(60));
  EXPECT_EQ(world_.oracle().counts().created, 1);
}

TEST_F(OverlapTest, WhatWaitsFailsAtOnceWhenItsClaimIsGone) {
  RunUntil(absl::Seconds(22));
  world_.DeleteClaim("data");
  RunUntil(absl::Seconds(24));
  EXPECT_THAT(Outcomes(world_.StatusOf("dense")),
              ElementsAre("1 pending", "1 failed (ClaimNotFound)"));
}

TEST_F(OverlapTest, OneThatIsReadyAfterItsDeadlineTurnsFromFailedToSucceededLate) {
  world_.PatchPolicy("dense",
                     {{"spec", {{"readyTimeoutSeconds", 25}, {"startingDeadlineSeconds", 1}}}});
  RunUntil(absl::Seconds(27));
  EXPECT_THAT(Outcomes(world_.StatusOf("dense")),
              ElementsAre("1 failed (NotReadyInTime)", "1 skipped (Overlap)"));
  EXPECT_FALSE(world_.StatusOf("dense").last_successful_time.has_value());
  RunUntil(absl::Seconds(36));
  EXPECT_THAT(Outcomes(world_.StatusOf("dense")),
              ElementsAre("1 succeeded late", "1 skipped (Overlap)"));
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(OverlapTest, NoDeadlinePassesByAClockThatIsWrong) {
  RunUntil(absl::Seconds(27));
  ASSERT_THAT(Asked(), ElementsAre("0+0"));
  world_.Kill("scheduler-0");
  world_.StartScheduler("scheduler-1");
  world_.SetClockOffset("scheduler-1", absl::Hours(24 * 365));
  world_.RunFor(absl::Seconds(3));
  world_.SetClockOffset("scheduler-1", absl::ZeroDuration());
  RunUntil(absl::Seconds(59));
  EXPECT_THAT(Asked(), ElementsAre("0+0", "20+13"));
  EXPECT_THAT(world_.oracle().violations(), IsEmpty());
}

TEST_F(OverlapTest, NoDeadlineIsLateByAClockThatWasBehind) {
  RunUntil(absl::Seconds(85));  // the fifth waits for the fourth
  world_.Kill("scheduler-0");
  world_.StartScheduler("scheduler-1");
  world_.SetClockOffset("scheduler-1", -absl::Hours(24 * 365));
  world_.RunFor(absl::Seconds(3));
  world_.SetClockOffset("scheduler-1", absl::ZeroDuration());
  RunUntil(absl::Seconds(97));
  EXPECT_THAT(Outcomes(world_.StatusOf("dense")), Contains("1 skipped (Overlap)").Times(2));
}

TEST_F(OverlapTest, APostedOneThatVanishedWhileNobodyScheduledHasFailed) {
  RunUntil(absl::Seconds(12));
  world_.Kill("scheduler-0");
  const auto taken = world_.SnapshotsOf("dense");
  ASSERT_THAT(taken, SizeIs(1));
  ASSERT_TRUE(world_.simulator()
                  .store()
                  .Delete({Kind::kSnapshot, "default", taken[0]->meta.name}, {}, "admin")
                  .ok());
  world_.RunFor(absl::Seconds(2));
  world_.StartScheduler("scheduler-1");
  RunUntil(absl::Seconds(19));
  EXPECT_THAT(Outcomes(world_.StatusOf("dense")), ElementsAre("1 failed"));
  EXPECT_EQ(world_.oracle().counts().created, 1);
}

// No executor is there, so that nothing is posted until a test starts one.
class UnpostedTest : public ::testing::Test {
 protected:
  UnpostedTest() {
    for (const char* claim : {"data-0", "data-1", "data-2"})
      world_.simulator().AddClaim("default", claim, {{"app", "db"}});
    world_.RunFor(absl::Seconds(3));
    world_.AddPolicy("waits", {{"schedule", "@every 60s"}, {"startingDeadlineSeconds", 1200}});
    world_.StartScheduler("scheduler-0");
    const absl::Time now = world_.Now();
    world_.RunFor(Every(absl::Seconds(60), now, now + absl::Minutes(1)).front() - now +
                  absl::Seconds(5));
  }
  std::vector<std::string> OutcomesOfTheNextScheduler() {
    world_.StartExecutor("executor-0");
    world_.StartScheduler("scheduler-1");
    world_.RunFor(absl::Seconds(30));
    EXPECT_THAT(world_.oracle().violations(), IsEmpty());
    return Outcomes(world_.StatusOf("waits"));
  }

  World world_{World::Options{}};
};

TEST_F(UnpostedTest, SuspendingThePolicyCancelsWhatIsNotPosted) {
  world_.PatchPolicy("waits", {{"spec", {{"suspend", true}}}});
  world_.RunFor(absl::Seconds(5));
  world_.StartExecutor("executor-0");
  world_.RunFor(absl::Seconds(30));
  EXPECT_EQ(world_.oracle().counts().created, 0);
  EXPECT_THAT(Outcomes(world_.StatusOf("waits")), ElementsAre("3 cancelled"));
}

TEST_F(UnpostedTest, DeletingThePolicyEndsWhatIsNotPosted) {
  world_.DeletePolicy("waits");
  world_.RunFor(absl::Seconds(5));
  world_.StartExecutor("executor-0");
  world_.RunFor(absl::Seconds(30));
  EXPECT_EQ(world_.oracle().counts().created, 0);
}

TEST_F(UnpostedTest, APolicyThatIsBeingDeletedPostsNothing) {
  world_.PatchPolicy("waits", {{"metadata", {{"finalizers", {"example.com/slow"}}}}});
  world_.DeletePolicy("waits");
  ASSERT_TRUE(world_.PolicyOf("waits")->meta.deleting);
  world_.RunFor(absl::Seconds(5));
  world_.StartExecutor("executor-0");
  world_.RunFor(absl::Minutes(3));
  EXPECT_EQ(world_.oracle().counts().created, 0);
}

TEST_F(UnpostedTest, AfterAnEditTheNextSchedulerSkipsTheRestOfTheRun) {
  world_.Kill("scheduler-0");
  world_.PatchPolicy("waits", {{"spec", {{"readyTimeoutSeconds", 300}}}});
  EXPECT_THAT(OutcomesOfTheNextScheduler(), ElementsAre("3 skipped (PolicyChanged)"));
  EXPECT_EQ(world_.oracle().counts().created, 0);
}

TEST_F(UnpostedTest, OfAPolicySuspendedMeanwhileTheNextSchedulerCancelsTheRestOfTheRun) {
  world_.Kill("scheduler-0");
  world_.PatchPolicy("waits", {{"spec", {{"suspend", true}}}});
  EXPECT_THAT(OutcomesOfTheNextScheduler(), ElementsAre("3 cancelled"));
  EXPECT_EQ(world_.oracle().counts().created, 0);
  EXPECT_THAT(world_.StatusOf("waits").recent_runs.at(0).failures, SizeIs(3));
}

TEST_F(UnpostedTest, OfAnEditedSelectorTheNextSchedulerSkipsWhatTheRecordCounted) {
  world_.Kill("scheduler-0");
  world_.PatchPolicy("waits", {{"spec", {{"selector", {{"matchLabels", {{"app", "other"}}}}}}}});
  EXPECT_THAT(OutcomesOfTheNextScheduler(), ElementsAre("3 skipped"));
  EXPECT_EQ(world_.oracle().counts().created, 0);
}

TEST_F(UnpostedTest, AClaimThatIsGoneMeanwhileHasFailed) {
  world_.Kill("scheduler-0");
  ASSERT_TRUE(
      world_.simulator().store().Delete({Kind::kClaim, "default", "data-1"}, {}, "admin").ok());
  EXPECT_THAT(OutcomesOfTheNextScheduler(), ElementsAre("2 succeeded, 1 failed"));
  EXPECT_THAT(world_.MetricsOf("scheduler-1"),
              HasSubstr(R"(outcome="Failed",reason="ClaimNotFound"} 1)"));
}

TEST_F(UnpostedTest, MoreThanTenOpenRunsAreSkipped) {
  world_.RunFor(absl::Minutes(11) + absl::Seconds(15));
  EXPECT_THAT(Outcomes(world_.StatusOf("waits")),
              AllOf(SizeIs(12), Contains("3 pending").Times(10),
                    Contains("3 skipped (TooManyOpen)").Times(2)));
}

// More than the driver takes at a time, so many that their timeouts fill the interval.
TEST(StuckTest, VolumesThatAreNeverCutStarveNoOther) {
  World world({});
  world.simulator().AddSnapshotClass("broken", kSimDriver, false);
  world.simulator().volumes().SetBehaviour("broken", {.never_cut = true});
  for (int i = 0; i < 70; ++i)
    world.simulator().AddClaim("default", fmt::format("bad-{}", i), {{"app", "bad"}});
  world.simulator().AddClaim("default", "good", {{"app", "db"}});
  world.StartExecutor("executor-0");
  world.StartExecutor("executor-1");
  world.AddPolicy("bad", {{"schedule", "@every 120s"},
                          {"selector", {{"matchLabels", {{"app", "bad"}}}}},
                          {"snapshotClassName", "broken"},
                          {"startingDeadlineSeconds", 100},
                          {"readyTimeoutSeconds", 60}});
  world.AddPolicy("good", {{"schedule", "@every 120s"},
                           {"snapshotClassName", "sim"},
                           {"startingDeadlineSeconds", 100},
                           {"runHistoryLimit", 20}});
  world.StartScheduler("scheduler-0");
  world.RunFor(absl::Minutes(21));
  const std::vector<std::string> outcomes = Outcomes(world.StatusOf("good"));
  EXPECT_GE(outcomes.size(), 9u);
  EXPECT_GE(std::count(outcomes.begin(), outcomes.end(), "1 succeeded"),
            static_cast<ptrdiff_t>(outcomes.size()) - 1)
      << ::testing::PrintToString(outcomes);
}

}  // namespace
}  // namespace snapkeeper
