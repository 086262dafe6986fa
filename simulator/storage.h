#ifndef SNAPKEEPER_SIMULATOR_STORAGE_H_
#define SNAPKEEPER_SIMULATOR_STORAGE_H_

#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace snapkeeper {

inline constexpr std::string_view kSimDriver = "sim.snapkeeper.io";

// What the simulated CSI drivers hold. The content of a volume is a number that each write raises
// by one.
struct Storage {
  struct Disk {
    int64_t data = 1, bytes = 0;
  };
  struct Cut {
    std::string volume_handle;
    int64_t data = 0, bytes = 0;
    absl::Time at;
  };
  std::set<std::string> drivers;         // those that run
  std::map<std::string, Disk> volumes;   // by volume handle
  std::map<std::string, Cut> snapshots;  // by snapshot handle
};

// A resource.Quantity ("10Gi", "1.5G", "1e9", "500m") in bytes, rounded up; nullopt if it is none.
std::optional<int64_t> ParseQuantity(std::string_view text);
// In its canonical binary form: "10Gi".
std::string FormatQuantity(int64_t bytes);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_STORAGE_H_
