#include "scheduler/conditions.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace snapkeeper {
namespace {

using ::testing::ElementsAre;

const absl::Time kNow = absl::FromUnixSeconds(1'767'225'600);

std::vector<std::string> Told(const ConditionFacts& facts) {
  std::vector<std::string> told;
  for (const Condition& c : Conditions(facts, {}, kNow))
    told.push_back(fmt::format("{}={} {}: {}", c.type, c.status, c.reason, c.message));
  return told;
}

TEST(ConditionsTest, SayWhetherThePolicyWorksAndEveryVolumeCanBeRestored) {
  EXPECT_THAT(Told({.selected = 2}),
              ElementsAre("Ready=true Scheduled: ", "Reconciling=false Reconciled: ",
                          "Stalled=false NotStalled: ", "Protected=true AllVolumes: "));
  EXPECT_THAT(Told({.suspended = true, .selected = 2}),
              ElementsAre("Ready=false Suspended: no new runs and no pruning",
                          "Reconciling=false Reconciled: ", "Stalled=false NotStalled: ",
                          "Protected=true AllVolumes: "));
  EXPECT_THAT(
      Told({.suspended = true, .schedule_error = "no such zone", .selected = 2}),
      ElementsAre("Ready=false InvalidSchedule: no such zone", "Reconciling=false Reconciled: ",
                  "Stalled=true InvalidSchedule: no such zone", "Protected=true AllVolumes: "));
  EXPECT_THAT(Told({}).back(),
              "Protected=false NoVolumes: the selector matches no PersistentVolumeClaim");
  EXPECT_THAT(Told({.selected = 3, .unprotected = 2, .first_unprotected = "data-1"}).back(),
              "Protected=false NoReadySnapshot: 2 of 3 volumes have no ready snapshot, data-1 "
              "among them");
}

TEST(ConditionsTest, KnowSinceWhenTheirStatusIsWhatItIs) {
  const std::vector<Condition> before =
      Conditions({.generation = 1, .selected = 1, .unprotected = 1}, {}, kNow);
  const absl::Time later = kNow + absl::Hours(1);
  const std::vector<Condition> after =
      Conditions({.generation = 2, .suspended = true, .selected = 1}, before, later);
  std::vector<absl::Time> since;
  for (const Condition& c : after) {
    since.push_back(c.last_transition);
    EXPECT_EQ(c.observed_generation, 2);
  }
  EXPECT_THAT(since, ElementsAre(later, kNow, kNow, later));
}

}  // namespace
}  // namespace snapkeeper
