#include "scheduler/conditions.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace snapkeeper {
namespace {

Condition Ready(const ConditionFacts& facts) {
  const std::string type = "Ready";
  if (!facts.schedule_error.empty())
    return {.type = type, .reason = "InvalidSchedule", .message = facts.schedule_error};
  if (facts.suspended)
    return {.type = type, .reason = "Suspended", .message = "no new runs and no pruning"};
  return {.type = type, .status = true, .reason = "Scheduled"};
}

Condition Stalled(const ConditionFacts& facts) {
  const bool stalled = !facts.schedule_error.empty();
  return {.type = "Stalled",
          .status = stalled,
          .reason = stalled ? "InvalidSchedule" : "NotStalled",
          .message = facts.schedule_error};
}

Condition Protected(const ConditionFacts& facts) {
  const std::string type = kProtected;
  if (facts.selected == 0) {
    return {.type = type,
            .reason = "NoVolumes",
            .message = "the selector matches no PersistentVolumeClaim"};
  }
  if (facts.unprotected == 0) return {.type = type, .status = true, .reason = "AllVolumes"};
  return {.type = type,
          .reason = "NoReadySnapshot",
          .message = fmt::format("{} of {} volumes have no ready snapshot, {} among them",
                                 facts.unprotected, facts.selected, facts.first_unprotected)};
}

}  // namespace

std::vector<Condition> Conditions(const ConditionFacts& facts, const std::vector<Condition>& before,
                                  absl::Time now) {
  std::vector<Condition> conditions = {
      Ready(facts),
      {.type = "Reconciling", .status = false, .reason = "Reconciled"},
      Stalled(facts),
      Protected(facts),
  };
  for (Condition& condition : conditions) {
    condition.observed_generation = facts.generation;
    const auto same = std::find_if(before.begin(), before.end(), [&condition](const Condition& c) {
      return c.type == condition.type && c.status == condition.status;
    });
    condition.last_transition = same == before.end() ? now : same->last_transition;
  }
  return conditions;
}

}  // namespace snapkeeper
