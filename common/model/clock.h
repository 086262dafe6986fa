#ifndef SNAPKEEPER_COMMON_MODEL_CLOCK_H_
#define SNAPKEEPER_COMMON_MODEL_CLOCK_H_

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <optional>

namespace snapkeeper {

// With a clock further off the API server's than this, a process neither fires, posts nor prunes,
// and is not ready; beyond kWarnClockOffset it warns.
inline constexpr absl::Duration kMaxClockOffset = absl::Seconds(30);
inline constexpr absl::Duration kWarnClockOffset = absl::Seconds(5);

// Unavailable unless our clock is known to agree with the API server's (KubeApi::ClockOffset).
absl::Status CheckClock(std::optional<absl::Duration> clock_offset);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_MODEL_CLOCK_H_
