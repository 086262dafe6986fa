#ifndef SNAPKEEPER_SIMULATOR_SCHEMA_H_
#define SNAPKEEPER_SIMULATOR_SCHEMA_H_

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "simulator/api_error.h"

namespace snapkeeper {

// A structural schema (openAPIV3Schema of a CustomResourceDefinition), compiled. Rules in CEL are
// not part of it: those that matter are in validation.cc.
class Schema {
 public:
  explicit Schema(const nlohmann::json& open_api);

  // What came of it.
  struct Findings {
    std::vector<Cause> causes;         // what is wrong
    std::vector<std::string> unknown;  // the fields that were dropped
  };
  // What the API server does with a custom resource: drops nulls and unknown fields, fills in
  // defaults, and checks. `field` is the member of the object that `value` is; "" for the whole
  // object.
  void Complete(nlohmann::json& value, std::string_view field, Findings& findings) const;

  // Whether a field of an object is kept.
  bool Keeps(const std::string& name) const { return keeps_unknown_ || properties_.contains(name); }
  // Of a field of an object; null if there is none.
  const Schema* Property(const std::string& name) const;

 private:
  struct Path;  // where a value stands; put into words only where something is wrong

  void Complete(nlohmann::json& value, const Path& path, Findings& findings) const;
  void CompleteObject(nlohmann::json& value, const Path& path, Findings& findings) const;
  void CheckKeys(const nlohmann::json& list, const Path& path, Findings& findings) const;
  void CheckSize(size_t size, const char* what, const Path& path, Findings& findings) const;
  void CheckScalar(const nlohmann::json& value, const Path& path, Findings& findings) const;
  bool HasType(const nlohmann::json& value) const;

  std::string type_;
  bool int_or_string_ = false;
  bool keeps_unknown_ = false;
  std::map<std::string, Schema> properties_;
  std::unique_ptr<Schema> additional_, items_;
  std::vector<std::string> required_, map_keys_;  // of a list that is a map
  nlohmann::json default_, enum_;
  std::optional<double> minimum_, maximum_;
  std::optional<uint64_t> min_size_, max_size_;  // of strings, arrays or maps
  std::string pattern_text_;
  std::optional<std::regex> pattern_;
  bool date_time_ = false, int32_ = false;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_SCHEMA_H_
