#ifndef SNAPKEEPER_COMMON_BASE_LOG_H_
#define SNAPKEEPER_COMMON_BASE_LOG_H_

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <concepts>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

namespace snapkeeper {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// One key=value pair of a log line. Times are written as RFC 3339 UTC, durations in Go's form.
struct LogField {
  LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
  LogField(std::string_view k, const char* v) : key(k), value(v) {}
  LogField(std::string_view k, const std::string& v) : key(k), value(v) {}
  LogField(std::string_view k, const absl::Status& status);
  LogField(std::string_view k, absl::Time time);
  LogField(std::string_view k, absl::Duration duration);
  LogField(std::string_view k, bool v) : key(k), value(v ? "true" : "false"), bare(true) {}
  LogField(std::string_view k, std::integral auto v)
      : key(k), value(std::to_string(v)), bare(true) {}

  std::string_view key;
  std::string value;
  bool bare = false;  // a JSON number or boolean
};

// Writes structured lines to stderr: a constant message and pairs, escaped so that no value can
// forge a line or a field. Text: `time=… level=info msg=listening grpc=…`, values quoted where
// needed; JSON: one object a line. Any thread. Owned by main() (or the test) and passed by
// reference.
class Log {
 public:
  virtual ~Log() = default;
  virtual void Write(LogLevel level, std::string_view msg,
                     std::initializer_list<LogField> fields) = 0;

  void Debug(std::string_view msg, std::initializer_list<LogField> f) {
    Write(LogLevel::kDebug, msg, f);
  }
  void Info(std::string_view msg, std::initializer_list<LogField> f) {
    Write(LogLevel::kInfo, msg, f);
  }
  void Warning(std::string_view msg, std::initializer_list<LogField> f) {
    Write(LogLevel::kWarning, msg, f);
  }
  void Error(std::string_view msg, std::initializer_list<LogField> f) {
    Write(LogLevel::kError, msg, f);
  }
};

// The line without its newline; pure, so that escaping has tables.
std::string FormatLogLine(LogFormat format, absl::Time now, LogLevel level, std::string_view msg,
                          std::initializer_list<LogField> fields);

// Drops everything: for simulation and tests.
class NullLog : public Log {
 public:
  void Write(LogLevel, std::string_view, std::initializer_list<LogField>) override {}
};

// stderr through spdlog. Lines below `level` are dropped.
std::unique_ptr<Log> MakeStderrLog(LogFormat format, LogLevel level);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_BASE_LOG_H_
