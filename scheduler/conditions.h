#ifndef SNAPKEEPER_SCHEDULER_CONDITIONS_H_
#define SNAPKEEPER_SCHEDULER_CONDITIONS_H_

#include <absl/time/time.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/model/policy.h"

namespace snapkeeper {

inline constexpr char kProtected[] = "Protected";

// What the conditions of a policy follow from.
struct ConditionFacts {
  int64_t generation = 0;
  bool suspended = false;
  std::string schedule_error;  // "": it is valid
  int selected = 0;            // volumes
  int unprotected = 0;         // those without a ready snapshot of any origin
  std::string first_unprotected;
};

// status.conditions: Ready, Reconciling and Stalled as kstatus reads them
// (kubernetes-sigs/cli-utils pkg/kstatus), Protected: a snapshot of every selected volume can be
// restored. One that has the status it had in `before` keeps the time of its last transition. Pure.
std::vector<Condition> Conditions(const ConditionFacts& facts, const std::vector<Condition>& before,
                                  absl::Time now);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_CONDITIONS_H_
