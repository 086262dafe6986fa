#ifndef SNAPKEEPER_SIMULATOR_TABLE_H_
#define SNAPKEEPER_SIMULATOR_TABLE_H_

#include <absl/time/time.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "simulator/served.h"

namespace snapkeeper {

// A list or an object for a terminal (meta.k8s.io/v1 Table), in the columns of the real API server.
// `include` is the query parameter includeObject: Metadata, Object or None.
nlohmann::json TableOf(const Served& served, const std::vector<nlohmann::json>& objects,
                       const std::string& include, absl::Time now);

// As `kubectl get` shows an age: "5m2s", "3h", "<invalid>" in the future (apimachinery
// pkg/util/duration).
std::string HumanDuration(absl::Duration age);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_TABLE_H_
