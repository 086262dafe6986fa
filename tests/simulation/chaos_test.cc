// SNAPKEEPER_SIMULATION_SEED=17 replays one seed, SNAPKEEPER_SIMULATION_SEEDS=2000 runs so many.
#include "tests/simulation/chaos.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/environment.h"

namespace snapkeeper {
namespace {

TEST(ChaosTest, NoGuaranteeBreaksUnderRandomTrouble) {
  const int only = FromEnvironment("SNAPKEEPER_SIMULATION_SEED", -1, 0);
  const int seeds = FromEnvironment("SNAPKEEPER_SIMULATION_SEEDS", 100);
  int bad = 0;
  for (int seed = std::max(only, 0); seed < (only < 0 ? seeds : only + 1) && bad < 5; ++seed) {
    SCOPED_TRACE(fmt::format("SNAPKEEPER_SIMULATION_SEED={}", seed));
    const std::vector<std::string> violations = ViolationsUnderTrouble(static_cast<uint64_t>(seed));
    EXPECT_THAT(violations, ::testing::IsEmpty());
    bad += !violations.empty();
  }
}

}  // namespace
}  // namespace snapkeeper
