#ifndef SNAPKEEPER_TESTS_SUPPORT_RECORDING_LOG_H_
#define SNAPKEEPER_TESTS_SUPPORT_RECORDING_LOG_H_

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/log.h"

namespace snapkeeper {

// Keeps every line as text.
class RecordingLog : public Log {
 public:
  void Write(LogLevel level, std::string_view msg,
             std::initializer_list<LogField> fields) override {
    lines.push_back(FormatLogLine(LogFormat::kText, absl::UnixEpoch(), level, msg, fields));
  }
  std::vector<std::string> lines;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_SUPPORT_RECORDING_LOG_H_
