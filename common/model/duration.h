#ifndef SNAPKEEPER_COMMON_MODEL_DURATION_H_
#define SNAPKEEPER_COMMON_MODEL_DURATION_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <string_view>

namespace snapkeeper {

// A duration in the form of Go's time.ParseDuration ("5m", "1h30m", "1.5s", "250ms"), which
// Kubernetes uses, but without a sign and never without a unit. At most 2^63-1 ns, as in Go.
// absl::FormatDuration writes this form, but for 0. InvalidArgument otherwise.
absl::StatusOr<absl::Duration> ParseGoDuration(std::string_view text);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_MODEL_DURATION_H_
