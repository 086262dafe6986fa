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

// What a server's replies tell of its clock. Each tells an interval; what the last ones agree on
// stands, until one contradicts it: then a clock was set.
class ServerClock {
 public:
  // `date` is the Date header, in whole seconds; sent and received are on our Elapsed() clock.
  void Hear(absl::Time date, absl::Duration sent, absl::Duration received);
  // By how much our wall clock is ahead of the server's at least; nullopt before the first reply.
  std::optional<absl::Duration> Offset(absl::Time now, absl::Duration elapsed) const;

 private:
  bool heard_ = false;
  // The server's clock minus Elapsed() is between these.
  absl::Time earliest_ = absl::InfinitePast(), latest_ = absl::InfiniteFuture();
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_MODEL_CLOCK_H_
