#include "common/model/clock.h"

#include <fmt/format.h>

#include <algorithm>

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

void ServerClock::Hear(absl::Time date, absl::Duration sent, absl::Duration received) {
  const absl::Time earliest = date - received, latest = date + absl::Seconds(1) - sent;
  heard_ = true;
  earliest_ = std::max(earliest_, earliest);
  latest_ = std::min(latest_, latest);
  if (earliest_ <= latest_) return;
  earliest_ = earliest;
  latest_ = latest;
}

std::optional<absl::Duration> ServerClock::Offset(absl::Time now, absl::Duration elapsed) const {
  if (!heard_) return std::nullopt;
  const absl::Time ours = now - elapsed;
  if (ours < earliest_) return ours - earliest_;
  return ours > latest_ ? ours - latest_ : absl::ZeroDuration();
}

}  // namespace snapkeeper
