#include "common/model/clock.h"

#include <fmt/format.h>

namespace snapkeeper {

absl::Status CheckClock(std::optional<absl::Duration> clock_offset) {
  if (!clock_offset) {
    return absl::UnavailableError(
        "the API server has not told its time yet: nothing is posted or deleted");
  }
  if (absl::AbsDuration(*clock_offset) <= kMaxClockOffset) return absl::OkStatus();
  return absl::UnavailableError(fmt::format(
      "the clock of this host is {} {} the API server's: nothing is posted or deleted until it is "
      "set right",
      absl::FormatDuration(absl::Trunc(absl::AbsDuration(*clock_offset), absl::Seconds(1))),
      *clock_offset > absl::ZeroDuration() ? "ahead of" : "behind"));
}

}  // namespace snapkeeper
