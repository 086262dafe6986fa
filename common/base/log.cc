#include "common/base/log.h"

#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <cstdint>

namespace snapkeeper {
namespace {

std::string FormatTime(absl::Time time, const char* seconds) {
  if (time == absl::InfiniteFuture() || time == absl::InfinitePast()) return absl::FormatTime(time);
  return absl::FormatTime(fmt::format("%Y-%m-%dT%H:%M:{}Z", seconds), time, absl::UTCTimeZone());
}

struct CodePoint {
  uint32_t value;
  size_t length;  // bytes read
};

// The first code point of `text`, which is not empty; U+FFFD and one byte where it is not UTF-8.
CodePoint Decode(std::string_view text) {
  constexpr CodePoint kInvalid = {0xFFFD, 1};
  const auto byte = [text](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return kInvalid;
  uint32_t value = lead & (0xFF >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return kInvalid;
    value = value << 6 | (byte(i) & 0x3F);
  }
  const bool overlong = value < (length == 4 ? 0x10000u : length == 3 ? 0x800u : 0x80u);
  if (overlong || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return kInvalid;
  return {value, length};
}

// Characters that could end a line, move a terminal's cursor, or reorder what is shown.
bool MustEscape(uint32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x200E && c <= 0x200F) ||
         (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

// A string literal that is valid both in JSON and in logfmt.
std::string Quote(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const auto [c, length] = Decode(text);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (MustEscape(c)) {
      out += fmt::format("\\u{:04x}", c);
    } else if (c == 0xFFFD) {
      out += "\uFFFD";
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out += '"';
}

std::string QuoteIfNeeded(std::string_view text) {
  bool plain = !text.empty();
  for (const char c : text)
    plain = plain && c > ' ' && c < 0x7F && c != '"' && c != '=' && c != '\\';
  return plain ? std::string(text) : Quote(text);
}

std::string_view Name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "";
}

class StderrLog : public Log {
 public:
  StderrLog(LogFormat format, LogLevel level)
      : format_(format),
        level_(level),
        logger_("snapkeeper", std::make_shared<spdlog::sinks::stderr_sink_mt>()) {
    logger_.set_pattern("%v");
  }

  void Write(LogLevel level, std::string_view msg,
             std::initializer_list<LogField> fields) override {
    if (level < level_) return;
    const std::string line = FormatLogLine(format_, absl::Now(), level, msg, fields);
    logger_.log(spdlog::level::critical, spdlog::string_view_t(line.data(), line.size()));
  }

 private:
  const LogFormat format_;
  const LogLevel level_;
  spdlog::logger logger_;  // used as a locked writer of whole lines: levels and formats are ours
};

}  // namespace

LogField::LogField(std::string_view k, const absl::Status& status)
    : key(k), value(status.ToString(absl::StatusToStringMode::kWithNoExtraData)) {}
LogField::LogField(std::string_view k, absl::Time time) : key(k), value(FormatTime(time, "%E*S")) {}
LogField::LogField(std::string_view k, absl::Duration duration)
    : key(k), value(absl::FormatDuration(duration)) {}

std::string FormatLogLine(LogFormat format, absl::Time now, LogLevel level, std::string_view msg,
                          std::initializer_list<LogField> fields) {
  const std::string time = FormatTime(now, "%E3S");
  std::string out;
  if (format == LogFormat::kJson) {
    out = fmt::format(R"({{"time":"{}","level":"{}","msg":{})", time, Name(level), Quote(msg));
    for (const LogField& f : fields) {
      out += fmt::format(",{}:{}", Quote(f.key), f.bare ? f.value : Quote(f.value));
    }
    return out += '}';
  }
  out = fmt::format("time={} level={} msg={}", time, Name(level), QuoteIfNeeded(msg));
  for (const LogField& f : fields) out += fmt::format(" {}={}", f.key, QuoteIfNeeded(f.value));
  return out;
}

std::unique_ptr<Log> MakeStderrLog(LogFormat format, LogLevel level) {
  return std::make_unique<StderrLog>(format, level);
}

}  // namespace snapkeeper
