#ifndef SNAPKEEPER_TESTS_SIMULATION_CHAOS_H_
#define SNAPKEEPER_TESTS_SIMULATION_CHAOS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace snapkeeper {

// Half an hour of random kills, freezes, delays, duplicates, lost replies, broken watches, clock
// steps, failing drivers and second schedulers, then ten quiet minutes, all decided by the seed.
// Returns what the oracle found.
std::vector<std::string> ViolationsUnderTrouble(uint64_t seed);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_SIMULATION_CHAOS_H_
