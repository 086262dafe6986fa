#ifndef SNAPKEEPER_SCHEDULER_PROFILES_H_
#define SNAPKEEPER_SCHEDULER_PROFILES_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <map>
#include <string>
#include <string_view>

namespace snapkeeper {

// What one CSI driver bears.
struct DriverProfile {
  int max_creating = 32;  // snapshots between POST sent and the cut, or ready_timeout after it
  absl::Duration ready_timeout = absl::Minutes(10);  // for the policy that does not say
};

// By driver name, from the file of --driver-profiles: `drivers: {NAME or default: {maxCreating: 32,
// readyTimeout: 10m}}`.
class DriverProfiles {
 public:
  // InvalidArgument names the driver and the key: unknown keys and values out of range are refused.
  static absl::StatusOr<DriverProfiles> Parse(std::string_view yaml);

  DriverProfiles();
  const DriverProfile& Of(const std::string& driver) const;

 private:
  std::map<std::string, DriverProfile> profiles_;
  DriverProfile default_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_PROFILES_H_
