#include "simulator/selector.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <utility>

#include "simulator/api_error.h"
#include "simulator/validation.h"

namespace snapkeeper {
namespace {

std::string_view Trim(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())))
    text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())))
    text.remove_suffix(1);
  return text;
}

// At commas that stand in no parentheses.
std::vector<std::string_view> Split(std::string_view text) {
  std::vector<std::string_view> parts;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (text[i] == ',' && depth == 0)) {
      parts.push_back(Trim(text.substr(begin, i - begin)));
      begin = i + 1;
    } else {
      depth += text[i] == '(' ? 1 : text[i] == ')' ? -1 : 0;
    }
  }
  return parts;
}

bool IsKeyChar(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' ||
         c == '/';
}

bool IsValid(const LabelRequirement& requirement) {
  return IsQualifiedName(requirement.key) &&
         std::all_of(requirement.values.begin(), requirement.values.end(), IsLabelValue);
}

std::optional<LabelRequirement> ParseRequirement(std::string_view text) {
  const bool absent = text.starts_with('!');
  if (absent) text = Trim(text.substr(1));
  const size_t key_end = std::find_if_not(text.begin(), text.end(), IsKeyChar) - text.begin();
  LabelRequirement requirement{std::string(text.substr(0, key_end)), "", {}};
  std::string_view rest = Trim(text.substr(key_end));
  if (requirement.key.empty() || (absent && !rest.empty())) return std::nullopt;
  if (rest.empty()) {
    requirement.op = absent ? "DoesNotExist" : "Exists";
    return requirement;
  }
  for (const auto& [sign, op] : {std::pair{"!=", "NotIn"}, {"==", "In"}, {"=", "In"}}) {
    if (!rest.starts_with(sign)) continue;
    const std::string_view value = Trim(rest.substr(std::string_view(sign).size()));
    if (!std::all_of(value.begin(), value.end(), IsKeyChar)) return std::nullopt;
    requirement.op = op;
    requirement.values.emplace_back(value);
    return requirement;
  }
  for (const auto& [word, op] : {std::pair{"notin", "NotIn"}, {"in", "In"}}) {
    if (!rest.starts_with(word)) continue;
    rest = Trim(rest.substr(std::string_view(word).size()));
    if (!rest.starts_with('(') || !rest.ends_with(')')) return std::nullopt;
    requirement.op = op;
    for (std::string_view value : Split(rest.substr(1, rest.size() - 2)))
      requirement.values.emplace_back(value);
    return requirement;
  }
  return std::nullopt;
}

bool IsIndexed(Kind kind, std::string_view field) {
  if (field == "metadata.name" || field == "metadata.namespace") return true;
  return kind == Kind::kEvent &&
         (field.starts_with("involvedObject.") || field == "reason" || field == "type" ||
          field == "reportingComponent" || field == "source");
}

}  // namespace

bool Selector::Matches(const Tags& tags) const {
  if (!ns.empty() && ns != tags.ns) return false;
  if (!snapkeeper::Matches(labels, tags.labels)) return false;
  return std::all_of(fields.begin(), fields.end(), [&](const Field& field) {
    std::string_view value;
    if (field.name == "metadata.name") {
      value = tags.name;
    } else if (field.name == "metadata.namespace") {
      value = tags.ns;
    } else if (auto it = tags.fields.find(field.name); it != tags.fields.end()) {
      value = it->second;
    }
    return (value == field.value) == field.equal;
  });
}

absl::StatusOr<Selector> ParseSelector(const ListQuery& query) {
  Selector selector;
  selector.ns = query.ns;
  if (!query.label_selector.empty()) {
    for (std::string_view part : Split(query.label_selector)) {
      auto requirement = ParseRequirement(part);
      if (!requirement || !IsValid(*requirement))
        return BadRequest(fmt::format("unable to parse requirement: {}", part));
      if (requirement->op == "In" && requirement->values.size() == 1) {
        const auto [it, added] =
            selector.labels.match_labels.emplace(requirement->key, requirement->values[0]);
        if (added) continue;
      }
      selector.labels.match_expressions.push_back(*std::move(requirement));
    }
  }
  if (!query.field_selector.empty()) {
    for (std::string_view part : Split(query.field_selector)) {
      const size_t sign = part.find('=');
      if (sign == std::string_view::npos)
        return BadRequest(fmt::format("invalid selector: '{}'; can't understand '{}'",
                                      query.field_selector, part));
      const bool unequal = sign > 0 && part[sign - 1] == '!';
      std::string_view value = part.substr(sign + 1);
      if (value.starts_with('=')) value.remove_prefix(1);
      Selector::Field field{std::string(Trim(part.substr(0, sign - unequal))),
                            std::string(Trim(value)), !unequal};
      if (!IsIndexed(query.kind, field.name)) {
        return BadRequest(fmt::format(
            "Unable to find \"{}\" that match label selector \"{}\", field selector \"{}\": field "
            "label not supported: {}",
            QualifiedPlural(query.kind), query.label_selector, query.field_selector, field.name));
      }
      selector.fields.push_back(std::move(field));
    }
  }
  return selector;
}

}  // namespace snapkeeper
