#include "common/model/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "common/model/names.h"

namespace snapkeeper {
namespace {

// The words of an enum, in its order.
constexpr std::array<std::string_view, 6> kRunStates = {
    "Posting", "Settling", "Succeeded", "PartiallySucceeded", "Failed", "Skipped"};
constexpr std::array<std::string_view, 6> kOutcomes = {"Pending", "Succeeded", "SucceededLate",
                                                       "Failed",  "Skipped",   "Cancelled"};

template <class Enum, size_t n>
std::optional<Enum> ParseWord(const std::array<std::string_view, n>& words, std::string_view word) {
  auto it = std::find(words.begin(), words.end(), word);
  if (it == words.end()) return std::nullopt;
  return static_cast<Enum>(it - words.begin());
}

bool Matches(const LabelRequirement& requirement,
             const std::map<std::string, std::string>& labels) {
  const auto& values = requirement.values;
  const auto label = labels.find(requirement.key);
  const bool present = label != labels.end();
  const bool listed =
      present && std::find(values.begin(), values.end(), label->second) != values.end();
  if (requirement.op == "In") return listed;
  if (requirement.op == "NotIn") return !values.empty() && !listed;
  if (requirement.op == "Exists") return values.empty() && present;
  if (requirement.op == "DoesNotExist") return values.empty() && !present;
  return false;
}

}  // namespace

bool Matches(const LabelSelector& selector, const std::map<std::string, std::string>& labels) {
  return std::all_of(selector.match_labels.begin(), selector.match_labels.end(),
                     [&labels](const auto& wanted) {
                       auto label = labels.find(wanted.first);
                       return label != labels.end() && label->second == wanted.second;
                     }) &&
         std::all_of(selector.match_expressions.begin(), selector.match_expressions.end(),
                     [&labels](const auto& requirement) { return Matches(requirement, labels); });
}

std::string_view ToString(RunState state) { return kRunStates[static_cast<size_t>(state)]; }

std::optional<RunState> ParseRunState(std::string_view word) {
  return ParseWord<RunState>(kRunStates, word);
}

std::string_view ToString(Outcome outcome) { return kOutcomes[static_cast<size_t>(outcome)]; }

std::optional<Outcome> ParseOutcome(std::string_view word) {
  return ParseWord<Outcome>(kOutcomes, word);
}

absl::StatusOr<CompiledSchedule> CompileSchedule(const PolicySpec& spec) {
  auto cron = CronSchedule::Parse(spec.schedule);
  if (!cron.ok()) return cron.status();
  auto zone = LoadTimeZone(spec.time_zone);
  if (!zone.ok()) return zone.status();
  return CompiledSchedule{*std::move(cron), *zone};
}

std::string ScheduleHash(const PolicySpec& spec) {
  return ShortHash(fmt::format("{}\n{}\n{}\n", spec.schedule, spec.time_zone, spec.suspend));
}

}  // namespace snapkeeper
