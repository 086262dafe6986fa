#include "simulator/behaviour.h"

#include <absl/strings/numbers.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/model/duration.h"

namespace snapkeeper {
namespace {

using nlohmann::json;

// Calls `f(name, member)` for each field: what there is to name is here only.
template <class Behaviour, class F>
void ForEachField(Behaviour& b, F f) {
  f("bindAfter", b.bind_after);
  f("cutAfter", b.cut_after);
  f("readyAfter", b.ready_after);
  f("spread", b.spread);
  f("neverBound", b.never_bound);
  f("neverCut", b.never_cut);
  f("neverReady", b.never_ready);
  f("failCreates", b.fail_creates);
  f("errorText", b.error_text);
  f("noCutTime", b.no_cut_time);
  f("cutClockSkew", b.cut_clock_skew);
  f("deleteAfter", b.delete_after);
  f("failDeletes", b.fail_deletes);
}

bool Read(const json& value, absl::Duration& to) {
  if (!value.is_string()) return false;
  std::string text = value;
  const bool negative = text.starts_with('-');
  const auto duration = ParseGoDuration(negative ? text.substr(1) : text);
  if (duration.ok()) to = negative ? -*duration : *duration;
  return duration.ok();
}
bool Read(const json& value, double& to) {
  if (value.is_number()) to = value;
  return value.is_number() && to >= 0;
}
bool Read(const json& value, bool& to) {
  if (value.is_boolean()) to = value;
  return value.is_boolean();
}
bool Read(const json& value, int& to) {
  if (value.is_number_integer()) to = value;
  return value.is_number_integer() && to >= -1;
}
bool Read(const json& value, std::string& to) {
  if (value.is_string()) to = value;
  return value.is_string();
}

json Write(absl::Duration duration) { return absl::FormatDuration(duration); }
template <class T>
json Write(const T& value) {
  return value;
}

}  // namespace

absl::Status UpdateBehaviour(const json& fields, ClassBehaviour& behaviour) {
  if (!fields.is_object()) return absl::InvalidArgumentError("a behaviour is a JSON object");
  ClassBehaviour result = behaviour;
  std::string wrong;
  size_t known = 0;
  ForEachField(result, [&](const char* name, auto& member) {
    const auto it = fields.find(name);
    if (it == fields.end()) return;
    ++known;
    if (!Read(*it, member)) wrong = fmt::format("{} is not a value of {}", it->dump(), name);
  });
  if (wrong.empty() && known < fields.size()) {
    for (const auto& given : fields.items()) {
      bool found = false;
      ForEachField(result, [&](const char* field, auto&) { found |= given.key() == field; });
      if (!found) wrong = fmt::format("there is no field {}", given.key());
    }
  }
  if (!wrong.empty()) return absl::InvalidArgumentError(wrong);
  behaviour = std::move(result);
  return absl::OkStatus();
}

json BehaviourToJson(const ClassBehaviour& behaviour) {
  json result;
  ForEachField(behaviour,
               [&](const char* name, const auto& member) { result[name] = Write(member); });
  return result;
}

}  // namespace snapkeeper
