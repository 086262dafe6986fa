#include "cli/preview.h"

#include <absl/status/status.h>
#include <absl/strings/ascii.h>
#include <fmt/format.h>

#include <istream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <ostream>

#include "common/model/cron.h"

namespace snapkeeper {
namespace {

// absl::ParseTime takes more than RFC 3339: years of any length, blanks, "infinite-future".
bool LooksLikeRfc3339(std::string_view text) {
  constexpr std::string_view kShape = "0000-00-00T00:00:00";
  constexpr std::string_view kOffset = "00:00";
  const auto matches = [](std::string_view text, std::string_view shape) {
    if (text.size() != shape.size()) return false;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] == '0' ? !absl::ascii_isdigit(text[i]) : text[i] != shape[i]) return false;
    }
    return true;
  };
  if (!matches(text.substr(0, kShape.size()), kShape)) return false;
  text.remove_prefix(kShape.size());
  if (text.starts_with('.')) {
    const std::size_t end = text.find_first_not_of("0123456789", 1);
    if (end == 1 || end == text.npos) return false;
    text.remove_prefix(end);
  }
  if (text == "Z") return true;
  return (text.starts_with('+') || text.starts_with('-')) && matches(text.substr(1), kOffset);
}

std::optional<absl::Time> ParseAfter(const std::string& text) {
  absl::Time time;
  std::string error;
  if (!LooksLikeRfc3339(text) || !absl::ParseTime(absl::RFC3339_full, text, &time, &error)) {
    return std::nullopt;
  }
  return time;
}

void AppendUtc(std::string& out, absl::Time instant) {
  const absl::CivilSecond utc = absl::ToCivilSecond(instant, absl::UTCTimeZone());
  fmt::format_to(std::back_inserter(out), "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", utc.year(),
                 utc.month(), utc.day(), utc.hour(), utc.minute(), utc.second());
}

absl::Status BadCount(std::string_view given) {
  return absl::InvalidArgumentError(fmt::format("count {}: allowed are 1 to 10000", given));
}

absl::StatusOr<PreviewRequest> ParseRequest(const std::string& line) {
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        "not a JSON object with schedule, timeZone, after and count on one line");
  }
  PreviewRequest request;
  for (const auto& [key, value] : json.items()) {
    if (key == "schedule" && value.is_string()) {
      request.schedule = value.get<std::string>();
    } else if (key == "timeZone" && value.is_string()) {
      request.time_zone = value.get<std::string>();
    } else if (key == "after" && value.is_string()) {
      request.after = value.get<std::string>();
    } else if (key == "count" && value.is_number_integer()) {
      request.count = value.get<std::int64_t>();
      if (value.is_number_unsigned() && request.count < 0) return BadCount(value.dump());
    } else {
      return absl::InvalidArgumentError(fmt::format(
          "{}: allowed are schedule, timeZone and after as strings and count as a whole number",
          nlohmann::json(key).dump()));
    }
  }
  return request;
}

}  // namespace

absl::StatusOr<Preview> PreviewSchedule(const PreviewRequest& request, absl::Time now) {
  const auto schedule = CronSchedule::Parse(request.schedule);
  if (!schedule.ok()) return schedule.status();
  const auto zone = LoadTimeZone(request.time_zone);
  if (!zone.ok()) return zone.status();
  std::optional<absl::Time> instant = request.after ? ParseAfter(*request.after) : now;
  if (!instant) {
    return absl::InvalidArgumentError(
        "after: not an RFC 3339 time such as 2026-03-08T07:00:00Z or 2026-03-08T08:00:00+01:00");
  }
  if (request.count < 1 || request.count > 10'000) return BadCount(std::to_string(request.count));
  Preview preview{.instants = {}, .zone = *zone};
  while (std::ssize(preview.instants) < request.count) {
    instant = schedule->Next(*instant, *zone);
    if (!instant) break;
    preview.instants.push_back(*instant);
  }
  return preview;
}

std::string PreviewJson(const Preview& preview) {
  std::string json = R"({"instants":[)";
  std::string_view separator = "\"";
  for (const absl::Time instant : preview.instants) {
    json += separator;
    AppendUtc(json, instant);
    separator = "\",\"";
  }
  json += preview.instants.empty() ? "]}" : "\"]}";
  return json;
}

std::string PreviewTable(const Preview& preview) {
  std::string table = fmt::format("{:<20}  {}\n", "UTC", preview.zone.name());
  for (const absl::Time instant : preview.instants) {
    AppendUtc(table, instant);
    table += "  ";
    table += absl::FormatTime("%a %E4Y-%m-%d %H:%M:%S %Ez", instant, preview.zone);
    table += '\n';
  }
  return table;
}

void PreviewBatch(std::istream& in, std::ostream& out, absl::Time now) {
  std::string line;
  while (out && std::getline(in, line)) {
    const auto request = ParseRequest(line);
    const auto preview = request.ok() ? PreviewSchedule(*request, now) : request.status();
    if (preview.ok()) {
      out << PreviewJson(*preview) << '\n';
    } else {
      out << nlohmann::json{{"error", std::string(preview.status().message())}}.dump() << '\n';
    }
  }
  out.flush();
}

}  // namespace snapkeeper
