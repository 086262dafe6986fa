#include <absl/strings/numbers.h>
#include <absl/time/time.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/simulation/world.h"
#include "tests/support/sim_waiter.h"

namespace snapkeeper {
namespace {

using ::testing::Eq;
using ::testing::Ge;
using ::testing::Optional;

constexpr std::string_view kData =
    R"({namespace="default",persistentvolumeclaim="data",policy="p"})";
constexpr std::string_view kPolicyP = R"({namespace="default",policy="p"})";

const absl::Time kStart = SimClock().Now();

// One claim, "data", of one policy, "p".
class MetricsTest : public ::testing::Test {
 protected:
  MetricsTest() : world_({}) {
    world_.simulator().AddClaim("default", "data", {{"app", "db"}});
    world_.StartExecutor("executor-0");
    world_.RunFor(absl::Seconds(3));
  }
  void Start(nlohmann::json spec) {
    world_.AddPolicy("p", std::move(spec));
    world_.StartScheduler("scheduler-0");
    world_.RunFor(absl::Seconds(10));
  }
  void ReplaceClaim(const std::string& storage_class) {
    world_.DeleteClaim("data");
    world_.simulator().AddClaim("default", "data", {{"app", "db"}}, storage_class);
    world_.RunFor(absl::Minutes(1));
  }
  std::optional<double> Sample(std::string_view name, std::string_view labels,
                               const std::string& process = "scheduler-0") {
    const std::string metrics = world_.MetricsOf(process);
    const std::string series = fmt::format("\n{}{} ", name, labels);
    const size_t at = metrics.find(series);
    double value = 0;
    if (at == std::string::npos) return std::nullopt;
    const size_t begin = at + series.size();
    EXPECT_TRUE(absl::SimpleAtod(metrics.substr(begin, metrics.find('\n', begin) - begin), &value));
    return value;
  }
  std::optional<double> Snapshots(std::string_view ready) {
    return Sample(
        "snapkeeper_snapshots",
        fmt::format(R"({{namespace="default",persistentvolumeclaim="data",policy="p",ready="{}"}})",
                    ready));
  }
  std::optional<double> LastReady() {
    return Sample("snapkeeper_last_ready_timestamp_seconds", kData);
  }
  // Since the world began.
  std::optional<absl::Duration> Deadline(const std::string& process = "scheduler-0") {
    const auto deadline = Sample("snapkeeper_rpo_deadline_timestamp_seconds", kData, process);
    if (!deadline) return std::nullopt;
    return absl::Seconds(*deadline) - (kStart - absl::UnixEpoch());
  }
  std::optional<double> Unprotected() {
    return Sample("snapkeeper_policy_unprotected_volumes", kPolicyP);
  }
  bool IsProtected() {
    const std::vector<Condition> conditions = world_.StatusOf("p").conditions;
    return std::any_of(conditions.begin(), conditions.end(),
                       [](const Condition& c) { return c.type == kProtected && c.status; });
  }

  World world_;
};

TEST_F(MetricsTest, WhatAClaimLeavesIsNotCountedAsItsSuccessors) {
  Start({{"schedule", "@every 1h"}});
  for (const char* storage_class : {"sim", "one that nobody provisions"}) {
    SCOPED_TRACE(storage_class);
    world_.RunFor(absl::Hours(1));
    ASSERT_THAT(Snapshots("true"), Optional(Eq(1)));
    ASSERT_TRUE(IsProtected());
    ReplaceClaim(storage_class);
    EXPECT_THAT(Snapshots("true"), Optional(Eq(0)));
    EXPECT_THAT(Snapshots("false"), Optional(Eq(0)));
    EXPECT_THAT(LastReady(), Optional(Eq(0)));
    EXPECT_FALSE(IsProtected());
    EXPECT_THAT(Unprotected(), Optional(Eq(1)));
  }
}

TEST_F(MetricsTest, WhatWasTakenOfAClaimWhoseVolumeIsGoneIsItsOwnStill) {
  Start({{"schedule", "@every 1h"}});
  world_.RunFor(absl::Hours(1));
  const std::optional<double> before = LastReady();
  ASSERT_THAT(before, Optional(testing::Gt(0)));
  const auto claim = world_.simulator().store().Find<Claim>("default", "data");
  const ObjectKey volume{Kind::kVolume, "", claim->volume_name};
  ASSERT_TRUE(world_.simulator()
                  .store()
                  .Patch(volume, {{"metadata", {{"finalizers", nullptr}}}}, false, "admin")
                  .ok());
  ASSERT_TRUE(world_.simulator().store().Delete(volume, {}, "admin").ok());
  world_.RunFor(absl::Seconds(10));
  ASSERT_EQ(world_.simulator().store().JsonOf(volume), nullptr);
  EXPECT_EQ(LastReady(), before);
}

TEST_F(MetricsTest, ANewerSnapshotIsDueByTheFirstInstantAfterTheNewestCut) {
  Start({{"schedule", "@every 1h"}});
  EXPECT_THAT(Deadline(), Optional(absl::Hours(1)));
  world_.RunFor(absl::Hours(1));
  EXPECT_THAT(Deadline(), Optional(absl::Hours(2)));
  world_.Kill("executor-0");
  world_.RunFor(absl::Minutes(150));  // 3:30
  EXPECT_THAT(Deadline(), Optional(absl::Hours(2)));
  world_.StartExecutor("executor-0");
  world_.RunFor(absl::Minutes(10));
  EXPECT_THAT(Deadline(), Optional(absl::Hours(4)));
}

TEST_F(MetricsTest, ADriverWhoseClockIsALittleBehindIsNotOverdue) {
  world_.simulator().volumes().SetDefaultBehaviour({.cut_clock_skew = -absl::Seconds(2)});
  Start({{"schedule", "@every 1h"}});
  world_.RunFor(absl::Hours(1));
  ASSERT_THAT(LastReady(), Optional(testing::Lt(absl::ToUnixSeconds(kStart + absl::Hours(1)))));
  EXPECT_THAT(Deadline(), Optional(absl::Hours(2)));
}

TEST_F(MetricsTest, NoSnapshotIsDueBeforeThereWasTheScheduleOrTheClaim) {
  world_.RunFor(absl::Hours(5));
  Start({{"schedule", "@every 1h"}});
  EXPECT_THAT(Deadline(), Optional(absl::Hours(6)));
  world_.Kill("executor-0");
  world_.RunFor(absl::Minutes(70));  // 6:10
  world_.PatchPolicy("p", {{"spec", {{"schedule", "@every 4h"}}}});
  world_.RunFor(absl::Minutes(1));
  EXPECT_THAT(Deadline(), Optional(absl::Hours(8)));
  world_.Kill("scheduler-0");
  world_.StartScheduler("scheduler-1");
  world_.RunFor(absl::Hours(4));
  EXPECT_THAT(Deadline("scheduler-1"), Optional(absl::Hours(8)));
  world_.DeleteClaim("data");
  world_.RunFor(absl::Seconds(1));
  EXPECT_EQ(Deadline("scheduler-1"), std::nullopt);
  world_.simulator().AddClaim("default", "data", {{"app", "db"}});
  world_.RunFor(absl::Seconds(1));
  EXPECT_THAT(Deadline("scheduler-1"), Optional(absl::Hours(12)));
}

TEST_F(MetricsTest, NoSnapshotIsDueOfAPolicyThatIsSuspendedOrNeverFires) {
  Start({{"schedule", "@every 1h"}});
  for (const nlohmann::json& spec :
       {nlohmann::json({{"suspend", true}}), nlohmann::json({{"schedule", "0 0 31 2 *"}})}) {
    EXPECT_THAT(Deadline(), Optional(absl::Hours(1)));
    world_.PatchPolicy("p", {{"spec", spec}});
    world_.RunFor(absl::Minutes(1));
    EXPECT_EQ(Deadline(), std::nullopt) << spec;
    EXPECT_THAT(Unprotected(), Optional(Eq(1))) << spec;
    world_.PatchPolicy("p", {{"spec", {{"suspend", false}, {"schedule", "@every 1h"}}}});
    world_.RunFor(absl::Minutes(1));
  }
}

TEST_F(MetricsTest, AVolumeIsUnprotectedUntilItHasAReadySnapshot) {
  Start({{"schedule", "@every 1h"}});
  EXPECT_THAT(Unprotected(), Optional(Eq(1)));
  world_.RunFor(absl::Hours(1));
  EXPECT_THAT(Unprotected(), Optional(Eq(0)));
  world_.simulator().AddClaim("default", "young", {{"app", "db"}});
  world_.simulator().AddClaim("default", "other", {{"app", "web"}});
  world_.RunFor(absl::Minutes(1));
  EXPECT_THAT(Unprotected(), Optional(Eq(1)));
}

TEST_F(MetricsTest, PrunesAreTimedByDriverAndResult) {
  Start({{"schedule", "@every 1m"}, {"retention", {{"keepLast", 1}}}});
  const auto prunes = [this] {
    return Sample("snapkeeper_prune_seconds_count",
                  fmt::format(R"({{driver="{}",result="Ok"}})", kSimDriver));
  };
  EXPECT_EQ(prunes(), std::nullopt);
  world_.RunFor(absl::Minutes(10));
  EXPECT_THAT(prunes(), Optional(Ge(2)));
}

TEST_F(MetricsTest, TheLeaderIsWhoHasTheEpoch) {
  const auto leads = [this](const char* process) {
    return Sample("snapkeeper_leader", "", process);
  };
  world_.StartScheduler("scheduler-0");
  EXPECT_THAT(leads("scheduler-0"), Optional(Eq(0)));
  world_.RunFor(absl::Seconds(10));
  EXPECT_THAT(leads("scheduler-0"), Optional(Eq(1)));
  world_.StartScheduler("scheduler-1");
  EXPECT_THAT(leads("scheduler-1"), Optional(Eq(0)));
  world_.RunFor(absl::Minutes(1));
  EXPECT_THAT(leads("scheduler-0"), Optional(Eq(0)));
  EXPECT_THAT(leads("scheduler-1"), Optional(Eq(1)));
}

}  // namespace
}  // namespace snapkeeper
