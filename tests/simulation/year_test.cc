#include <absl/time/time.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/simulation/world.h"
#include "tests/support/environment.h"

namespace snapkeeper {
namespace {

using ::testing::IsEmpty;

// Days to simulate. A year, on demand: SNAPKEEPER_SIMULATION_DAYS=365 build/bin/simulation_test
// --gtest_filter=YearTest.*
int Days() { return FromEnvironment("SNAPKEEPER_SIMULATION_DAYS", 5); }

TEST(YearTest, FortyHourlyPoliciesKeepEveryGuarantee) {
  constexpr int kPolicies = 40;
  World world({.seed = 20260101,
               .cut_after = absl::Seconds(1),
               .ready_after = absl::Seconds(2),
               .heartbeat = absl::Hours(1),
               .bookmark_every = absl::InfiniteDuration()});
  world.StartExecutor("executor-0");
  world.StartExecutor("executor-1");
  for (int i = 0; i < kPolicies; ++i) {
    const std::string app = fmt::format("app-{}", i);
    world.simulator().AddClaim("default", "data-" + app, {{"app", app}});
    world.AddPolicy(app, {{"schedule", fmt::format("{} * * * *", i)},
                          {"timeZone", i % 2 ? "America/New_York" : "Australia/Lord_Howe"},
                          {"selector", {{"matchLabels", {{"app", app}}}}},
                          {"runHistoryLimit", 3},
                          {"retention", {{"keepLast", 3}}}});
    world.oracle().ExpectAll(*world.PolicyOf(app));
  }
  world.StartScheduler("scheduler-0");
  const absl::Time begin = world.Now();
  world.RunFor(absl::Hours(24) * Days() + absl::Minutes(59) + absl::Seconds(50));

  for (int i = 0; i < kPolicies; ++i) {
    const auto policy = world.PolicyOf(fmt::format("app-{}", i));
    const CompiledSchedule schedule = *CompileSchedule(policy->spec);
    std::vector<absl::Time> instants;
    for (auto next = schedule.cron.Next(begin, schedule.zone);
         next && *next < world.Now() - absl::Minutes(1);
         next = schedule.cron.Next(*next, schedule.zone)) {
      instants.push_back(*next);
    }
    // A shift of half an hour moves instants of an hourly schedule, it loses and doubles none that
    // the test would not see below.
    EXPECT_GE(instants.size(), 24u * static_cast<size_t>(Days()) - 1);
    world.oracle().CheckTaken(policy->meta.uid, instants, 1);
    world.oracle().CheckAccounted(*policy, world.Now() - absl::Minutes(1));
    EXPECT_THAT(world.SnapshotsOf(policy->meta.name),
                ::testing::SizeIs(::testing::AllOf(::testing::Ge(3u), ::testing::Le(5u))));
  }
  EXPECT_THAT(world.oracle().violations(), IsEmpty());
  std::printf("%d days, %lld snapshots made, %lld deleted, %lld status writes\n", Days(),
              static_cast<long long>(world.oracle().counts().created),
              static_cast<long long>(world.oracle().counts().deleted),
              static_cast<long long>(world.oracle().counts().status_writes));
}

}  // namespace
}  // namespace snapkeeper
