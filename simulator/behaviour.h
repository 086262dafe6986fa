#ifndef SNAPKEEPER_SIMULATOR_BEHAVIOUR_H_
#define SNAPKEEPER_SIMULATOR_BEHAVIOUR_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace snapkeeper {

// How snapshots of one VolumeSnapshotClass go. May be changed at any time; what is pending follows
// the new values.
struct ClassBehaviour {
  absl::Duration bind_after =
      absl::ZeroDuration();  // from the object's creation until the controller has bound a content
  absl::Duration cut_after = absl::ZeroDuration();    // from then to the cut
  absl::Duration ready_after = absl::ZeroDuration();  // from the cut until it is ready
  double spread = 0;  // each of these times is stretched by a random factor in [1, 1 + spread]
  bool never_bound = false;  // the snapshot controller is down
  bool never_cut = false;    // the driver hangs; so do deletes of such a snapshot
  bool never_ready = false;
  int fail_creates = 0;    // so many CreateSnapshot calls of each snapshot fail; -1: all
  std::string error_text;  // what failed calls say; where set, also shown from the cut until ready
  bool no_cut_time = false;  // the driver does not tell when it cut: 1970
  absl::Duration cut_clock_skew = absl::ZeroDuration();  // of the driver's clock
  absl::Duration delete_after = absl::ZeroDuration();
  int fail_deletes = 0;  // so many DeleteSnapshot calls of each snapshot fail; -1: all

  bool operator==(const ClassBehaviour&) const = default;
};

// `--fault` and PUT /simulator/classes/NAME: {"readyAfter": "30s", "neverReady": true,
// "failCreates": 2, "errorText": "…", …}, the fields above in camel case; those not named keep
// their value in `behaviour`. InvalidArgument names the field.
absl::Status UpdateBehaviour(const nlohmann::json& fields, ClassBehaviour& behaviour);
nlohmann::json BehaviourToJson(const ClassBehaviour& behaviour);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_BEHAVIOUR_H_
