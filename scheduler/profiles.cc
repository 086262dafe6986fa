#include "scheduler/profiles.h"

#include <absl/strings/ascii.h>
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "common/model/duration.h"

namespace snapkeeper {
namespace {

absl::Status Refuse(std::string_view driver, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", driver, what));
}

absl::StatusOr<DriverProfile> ParseProfile(const std::string& driver, const YAML::Node& node,
                                           DriverProfile profile) {
  if (!node.IsMap()) return Refuse(driver, "must be a map of maxCreating and readyTimeout");
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const std::string key = entry.first.Scalar();
    if (!seen.insert(key).second) return Refuse(driver, fmt::format("{} is given twice", key));
    const std::string value = entry.second.IsScalar() ? entry.second.Scalar() : "";
    if (key == "maxCreating") {
      const auto [end, error] =
          std::from_chars(value.data(), value.data() + value.size(), profile.max_creating);
      if (error != std::errc() || end != value.data() + value.size() || profile.max_creating < 1) {
        return Refuse(driver,
                      fmt::format("maxCreating must be a whole number from 1, not '{}'", value));
      }
    } else if (key == "readyTimeout") {
      const absl::StatusOr<absl::Duration> timeout = ParseGoDuration(value);
      if (!timeout.ok() || *timeout < absl::Seconds(1)) {
        return Refuse(
            driver,
            fmt::format("readyTimeout must be a duration from 1s such as 10m, not '{}'", value));
      }
      profile.ready_timeout = *timeout;
    } else {
      return Refuse(driver,
                    fmt::format("unknown key '{}' (maxCreating and readyTimeout are known)", key));
    }
  }
  return profile;
}

// The CSI specification's rule (GetPluginInfoResponse.name), its length aside.
bool IsDriverName(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '.';
  });
}

}  // namespace

DriverProfiles::DriverProfiles() {
  // EBS copies to S3 before a snapshot is ready: hours for a large first one.
  profiles_["ebs.csi.aws.com"].ready_timeout = absl::Hours(2);
}

absl::StatusOr<DriverProfiles> DriverProfiles::Parse(std::string_view yaml) {
  DriverProfiles profiles;
  try {
    const YAML::Node root = YAML::Load(std::string(yaml));
    if (!root.IsMap() || root.size() != 1 || !root["drivers"] || !root["drivers"].IsMap()) {
      return absl::InvalidArgumentError("the file must hold one map 'drivers'");
    }
    const YAML::Node drivers = root["drivers"];
    std::set<std::string> seen;
    for (const auto& entry : drivers) {
      const std::string driver = entry.first.Scalar();  // "" where it is none
      if (!IsDriverName(driver))
        return Refuse("drivers", fmt::format("'{}' is not the name of a CSI driver", driver));
      if (!seen.insert(driver).second) return Refuse(driver, "is given twice");
      DriverProfile& slot = driver == "default" ? profiles.default_ : profiles.profiles_[driver];
      absl::StatusOr<DriverProfile> profile = ParseProfile(driver, entry.second, slot);
      if (!profile.ok()) return profile.status();
      slot = *profile;
    }
  } catch (const YAML::Exception& e) {
    return absl::InvalidArgumentError(e.what());
  }
  return profiles;
}

const DriverProfile& DriverProfiles::Of(const std::string& driver) const {
  auto it = profiles_.find(driver);
  return it == profiles_.end() ? default_ : it->second;
}

}  // namespace snapkeeper
