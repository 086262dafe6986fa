#include "simulator/schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "common/kube/json.h"

namespace snapkeeper {
namespace {

// Longer than any text that a pattern of ours is for. libstdc++ recurses for each character.
constexpr size_t kMaxMatched = 4096;
// 2^53 - 1. Beyond it the real server takes no number with a fraction or an exponent for an integer
// (go-openapi/swag IsFloat64AJSONInteger).
constexpr double kMaxExact = 9007199254740991;

const char* TypeName(const nlohmann::json& value) {
  return value.is_number_integer() ? "integer" : value.is_number() ? "number" : value.type_name();
}

}  // namespace

struct Schema::Path {
  const Path* parent;      // null for the root
  std::string_view field;  // "" for the root, and for an element of a list
  size_t index = 0;

  bool is_root() const { return parent == nullptr && field.empty(); }
  std::string Text() const {
    const std::string before = parent == nullptr ? "" : parent->Text();
    if (field.empty()) return parent == nullptr ? "" : fmt::format("{}[{}]", before, index);
    return before.empty() ? std::string(field) : fmt::format("{}.{}", before, field);
  }
};

Schema::Schema(const nlohmann::json& s)
    : type_(s.value("type", "")),
      int_or_string_(s.value("x-kubernetes-int-or-string", false)),
      keeps_unknown_(s.value("x-kubernetes-preserve-unknown-fields", false)),
      required_(s.value("required", std::vector<std::string>())),
      map_keys_(s.value("x-kubernetes-list-map-keys", std::vector<std::string>())),
      pattern_text_(s.value("pattern", "")),
      date_time_(s.value("format", "") == "date-time"),
      int32_(s.value("format", "") == "int32") {
  if (auto it = s.find("properties"); it != s.end()) {
    for (const auto& [name, property] : it->items()) properties_.emplace(name, Schema(property));
  }
  if (auto it = s.find("additionalProperties"); it != s.end()) {
    if (it->is_object())
      additional_ = std::make_unique<Schema>(*it);
    else
      keeps_unknown_ = keeps_unknown_ || it->get<bool>();
  }
  if (auto it = s.find("items"); it != s.end()) items_ = std::make_unique<Schema>(*it);
  if (auto it = s.find("default"); it != s.end()) default_ = *it;
  if (auto it = s.find("enum"); it != s.end()) enum_ = *it;
  if (auto it = s.find("minimum"); it != s.end()) minimum_ = it->get<double>();
  if (auto it = s.find("maximum"); it != s.end()) maximum_ = it->get<double>();
  for (const char* key : {"minLength", "minItems", "minProperties"}) {
    if (auto it = s.find(key); it != s.end()) min_size_ = it->get<uint64_t>();
  }
  for (const char* key : {"maxLength", "maxItems", "maxProperties"}) {
    if (auto it = s.find(key); it != s.end()) max_size_ = it->get<uint64_t>();
  }
  if (!pattern_text_.empty())
    pattern_.emplace(pattern_text_, std::regex::ECMAScript | std::regex::optimize);
}

const Schema* Schema::Property(const std::string& name) const {
  const auto it = properties_.find(name);
  return it == properties_.end() ? nullptr : &it->second;
}

bool Schema::HasType(const nlohmann::json& value) const {
  if (int_or_string_) return value.is_string() || value.is_number_integer();
  if (type_ == "object") return value.is_object();
  if (type_ == "array") return value.is_array();
  if (type_ == "string") return value.is_string();
  if (type_ == "boolean") return value.is_boolean();
  if (type_ == "integer") return value.is_number_integer();
  if (type_ == "number") return value.is_number();
  return true;
}

void Schema::Complete(nlohmann::json& value, std::string_view field, Findings& findings) const {
  Complete(value, Path{nullptr, field}, findings);
}

void Schema::Complete(nlohmann::json& value, const Path& path, Findings& findings) const {
  if (type_ == "integer" && value.is_number_float() && std::abs(value.get<double>()) <= kMaxExact &&
      value.get<double>() == std::trunc(value.get<double>()))
    value = value.get<int64_t>();
  if (!HasType(value)) {
    findings.causes.push_back(
        {"FieldValueTypeInvalid",
         fmt::format("Invalid value: \"{0}\": {1} in body must be of type {2}: \"{0}\"",
                     TypeName(value), path.Text(), int_or_string_ ? "integer or string" : type_),
         path.Text()});
  } else if (value.is_object()) {
    CompleteObject(value, path, findings);
  } else if (value.is_array()) {
    if (items_) {
      for (size_t i = 0; i < value.size(); ++i)
        items_->Complete(value[i], Path{&path, "", i}, findings);
    }
    CheckKeys(value, path, findings);
    CheckSize(value.size(), "items", path, findings);
  } else {
    CheckScalar(value, path, findings);
  }
}

void Schema::CompleteObject(nlohmann::json& value, const Path& path, Findings& findings) const {
  auto& fields = value.get_ref<nlohmann::json::object_t&>();
  // Both maps are in order of their keys, so that one walk does without lookups.
  auto known = properties_.begin();
  for (auto it = fields.begin(); it != fields.end();) {
    while (known != properties_.end() && known->first < it->first) ++known;
    const Schema* schema = known != properties_.end() && known->first == it->first
                               ? &known->second
                               : additional_.get();
    const bool is_meta = path.is_root() && it->first == "metadata";  // checked elsewhere
    const bool unknown = schema == nullptr && !keeps_unknown_ && !is_meta;
    if (unknown && !it->second.is_null()) findings.unknown.push_back(Path{&path, it->first}.Text());
    if (unknown || it->second.is_null()) {
      it = fields.erase(it);
      continue;
    }
    if (schema != nullptr && !is_meta)
      schema->Complete(it->second, Path{&path, it->first}, findings);
    ++it;
  }
  for (const auto& [name, schema] : properties_) {
    if (schema.default_.is_null() || fields.contains(name)) continue;
    schema.Complete(fields[name] = schema.default_, Path{&path, name}, findings);
  }
  for (const std::string& name : required_) {
    if (!fields.contains(name))
      findings.causes.push_back({"FieldValueRequired", "Required value", Path{&path, name}.Text()});
  }
  CheckSize(fields.size(), "properties", path, findings);
}

void Schema::CheckKeys(const nlohmann::json& list, const Path& path, Findings& findings) const {
  if (map_keys_.empty()) return;
  std::set<nlohmann::json> seen;
  for (size_t i = 0; i < list.size(); ++i) {
    nlohmann::json keys;
    for (const std::string& key : map_keys_) keys[key] = list[i].value(key, nlohmann::json());
    if (seen.insert(keys).second) continue;
    findings.causes.push_back({"FieldValueDuplicate",
                               fmt::format("Duplicate value: {}", keys.dump()),
                               Path{&path, "", i}.Text()});
  }
}

void Schema::CheckSize(size_t size, const char* what, const Path& path, Findings& findings) const {
  if (max_size_ && size > *max_size_) {
    findings.causes.push_back(
        {"FieldValueTooMany",
         fmt::format("Too many: {}: must have at most {} items", size, *max_size_), path.Text()});
  } else if (min_size_ && size < *min_size_) {
    findings.causes.push_back(
        {"FieldValueInvalid",
         fmt::format("Invalid value: {}: {} in body should have at least {} {}", size, path.Text(),
                     *min_size_, what),
         path.Text()});
  }
}

void Schema::CheckScalar(const nlohmann::json& value, const Path& path, Findings& findings) const {
  const auto invalid = [&](const std::string& why) {
    const std::string at = path.Text();
    findings.causes.push_back(
        {"FieldValueInvalid",
         fmt::format("Invalid value: {}: {} in body {}", value.dump(), at, why), at});
  };
  if (enum_.is_array() && std::find(enum_.begin(), enum_.end(), value) == enum_.end()) {
    std::string allowed;
    for (const auto& word : enum_) allowed += (allowed.empty() ? "" : ", ") + word.dump();
    findings.causes.push_back(
        {"FieldValueNotSupported",
         fmt::format("Unsupported value: {}: supported values: {}", value.dump(), allowed),
         path.Text()});
  }
  if (value.is_number_integer() && type_ == "integer") {
    const int64_t max = int32_ ? INT32_MAX : INT64_MAX;
    const bool fits = value.is_number_unsigned()
                          ? value.get<uint64_t>() <= static_cast<uint64_t>(max)
                          : value.get<int64_t>() <= max && value.get<int64_t>() >= -max - 1;
    if (!fits)
      invalid(fmt::format("must be of type integer with format {}", int32_ ? "int32" : "int64"));
  }
  if (value.is_number()) {
    if (minimum_ && value.get<double>() < *minimum_)
      invalid(fmt::format("should be greater than or equal to {}", *minimum_));
    if (maximum_ && value.get<double>() > *maximum_)
      invalid(fmt::format("should be less than or equal to {}", *maximum_));
  } else if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const uint64_t size =
        std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
    if (max_size_ && size > *max_size_) {
      findings.causes.push_back({"FieldValueTooLong",
                                 fmt::format("Too long: may not be more than {} bytes", *max_size_),
                                 path.Text()});
    }
    if (min_size_ && size < *min_size_)
      invalid(fmt::format("should be at least {} chars long", *min_size_));
    if (pattern_ && (text.size() > kMaxMatched || !std::regex_search(text, *pattern_)))
      invalid(fmt::format("should match '{}'", pattern_text_));
    if (date_time_ && !ParseTime(text)) invalid("must be of type date-time: " + value.dump());
  }
}

}  // namespace snapkeeper
