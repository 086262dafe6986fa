#include "common/model/duration.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_replace.h>
#include <fmt/format.h>

#include <cstdint>
#include <limits>
#include <string>

namespace snapkeeper {

absl::StatusOr<absl::Duration> ParseGoDuration(std::string_view text) {
  // Go takes both code points that look like a micro sign (U+00B5, U+03BC); abseil takes neither.
  const std::string ascii =
      absl::StrReplaceAll({text.data(), text.size()}, {{"\u00b5s", "us"}, {"\u03bcs", "us"}});
  absl::Duration duration;
  // The first and last characters rule out what only abseil takes: a sign, "inf", a bare 0.
  if (ascii.empty() || !(absl::ascii_isdigit(ascii.front()) || ascii.front() == '.') ||
      !absl::ascii_isalpha(ascii.back()) || !absl::ParseDuration(ascii, &duration) ||
      duration > absl::Nanoseconds(std::numeric_limits<int64_t>::max())) {
    return absl::InvalidArgumentError(fmt::format(
        "\"{}\" is not a duration: expected numbers with units, as in 30s or 1h30m", text));
  }
  return absl::Trunc(duration, absl::Nanoseconds(1));
}

}  // namespace snapkeeper
