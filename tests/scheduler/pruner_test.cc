#include "scheduler/pruner.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace snapkeeper {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Members "NAME-0" (the newest) to "NAME-n", of which all but the newest `kept` are candidates.
PruneSnapshots::Series Series(const std::string& name, int size, int kept) {
  PruneSnapshots::Series series{.claim_uid = name};
  for (int i = 0; i < size; ++i) {
    const std::string uid = fmt::format("{}-{}", name, i);
    series.members.push_back({.name = uid, .uid = uid});
    if (i >= kept) series.candidates.push_back(uid);
  }
  return series;
}

// "CLAIM MEMBERS/CANDIDATES"
std::vector<std::string> Fitted(std::vector<PruneSnapshots::Series> series, size_t max_members) {
  FitOneJob(series, max_members);
  std::vector<std::string> result;
  for (const auto& s : series)
    result.push_back(fmt::format("{} {}/{}", s.claim_uid, s.members.size(), s.candidates.size()));
  return result;
}

TEST(FitOneJobTest, TakesWholeSeriesAsLongAsTheyFit) {
  const std::vector<PruneSnapshots::Series> all = {Series("a", 4, 2), Series("b", 3, 2),
                                                   Series("c", 2, 1)};
  EXPECT_THAT(Fitted(all, 9), ElementsAre("a 4/2", "b 3/1", "c 2/1"));
  EXPECT_THAT(Fitted(all, 8), ElementsAre("a 4/2", "b 3/1"));
  EXPECT_THAT(Fitted(all, 4), ElementsAre("a 4/2"));
  EXPECT_THAT(Fitted({}, 4), IsEmpty());
}

TEST(FitOneJobTest, OfOneSeriesThatIsTooLargeTakesTheOldestAndWhatJustifiesThem) {
  std::vector<PruneSnapshots::Series> series = {Series("a", 10, 3), Series("b", 1, 0)};
  FitOneJob(series, 5);
  ASSERT_EQ(series.size(), 1u);
  EXPECT_THAT(series[0].candidates, ElementsAre("a-8", "a-9"));
  std::vector<std::string> members;
  for (const PruneMember& member : series[0].members) members.push_back(member.uid);
  EXPECT_THAT(members, ElementsAre("a-0", "a-1", "a-2", "a-8", "a-9"));
}

TEST(FitOneJobTest, AlwaysLeavesACandidate) {
  EXPECT_THAT(Fitted({Series("a", 10, 8)}, 5), ElementsAre("a 9/1"));
}

}  // namespace
}  // namespace snapkeeper
