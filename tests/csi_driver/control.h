#ifndef SNAPKEEPER_TESTS_CSI_DRIVER_CONTROL_H_
#define SNAPKEEPER_TESTS_CSI_DRIVER_CONTROL_H_

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <filesystem>
#include <map>
#include <mutex>
#include <string>

namespace snapkeeper {

// How one call is to behave.
struct Behaviour {
  absl::Duration delay;  // before anything is done; a call that is cancelled meanwhile does nothing
  absl::Status failure;  // returned instead of doing anything, unless OK
  absl::Duration ready_after;  // CreateSnapshot: from the cut; infinite = never
  bool omit_creation_time = false;
};

// The switches of the driver: a JSON file, read again at every call, written by tests with a
// rename. Without the file, or where no rule matches, calls simply succeed. The first matching rule
// decides:
//
// clang-format off
//   {"rules": [{"method": "CreateSnapshot",         CreateVolume, DeleteVolume, DeleteSnapshot
//               "volume": "pvc-…",                  its volume handle; default: every volume
//               "times": 2,                         since the last change of the file; default: always
//               "delaySeconds": 1.5,                a hang is a long delay
//               "code": "RESOURCE_EXHAUSTED", "message": "rate exceeded",
//               "readyAfterSeconds": -1,            negative: never
//               "omitCreationTime": true}]}
// clang-format on
//
// A snapshot's readiness is judged by the rule that matches when someone asks (CreateSnapshot
// again, or ListSnapshots), so taking a rule away makes ready what never was. Thread-safe.
class Control {
 public:
  explicit Control(std::filesystem::path file) : file_(std::move(file)) {}

  // InvalidArgument as `failure` if the file cannot be understood. `count`: the call uses up one of
  // a rule's `times`.
  Behaviour Find(const std::string& method, const std::string& volume, bool count = true);

 private:
  const std::filesystem::path file_;
  std::mutex mutex_;
  std::string text_;            // guarded by mutex_: the file as last read
  std::map<size_t, int> used_;  // guarded by mutex_: by index of the rule, since text_ changed
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_CSI_DRIVER_CONTROL_H_
