#ifndef SNAPKEEPER_CLI_PREVIEW_H_
#define SNAPKEEPER_CLI_PREVIEW_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace snapkeeper {

struct PreviewRequest {
  std::string schedule;
  std::string time_zone = "UTC";
  std::optional<std::string> after;  // RFC 3339; absent: now
  std::int64_t count = 10;
};

struct Preview {
  std::vector<absl::Time> instants;  // fewer than asked for where the years run out
  absl::TimeZone zone;
};

// The instants strictly after request.after. InvalidArgument for anything that is not valid, count
// outside 1 to 10,000 included.
absl::StatusOr<Preview> PreviewSchedule(const PreviewRequest& request, absl::Time now);

// {"instants":["2026-03-08T07:00:00Z",…]}, without a line end.
std::string PreviewJson(const Preview& preview);
// A heading and a line per instant: in UTC, and in the zone with weekday and offset.
std::string PreviewTable(const Preview& preview);

// For every line of `in`, a JSON object {schedule, timeZone, after, count} with the defaults of
// PreviewRequest, one line to `out`: PreviewJson, or {"error":"…"}. Stops at the end of `in` or
// when `out` fails; the streams tell which.
void PreviewBatch(std::istream& in, std::ostream& out, absl::Time now);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_CLI_PREVIEW_H_
