#include "tests/csi_driver/control.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

namespace snapkeeper {
namespace {

using nlohmann::json;

absl::StatusCode ParseCode(const std::string& name) {
  for (int code = 0; code <= static_cast<int>(absl::StatusCode::kUnauthenticated); ++code) {
    if (absl::StatusCodeToString(static_cast<absl::StatusCode>(code)) == name) {
      return static_cast<absl::StatusCode>(code);
    }
  }
  throw std::runtime_error("unknown code " + name);
}

Behaviour ParseBehaviour(const json& rule) {
  Behaviour behaviour;
  behaviour.delay = absl::Seconds(rule.value("delaySeconds", 0.0));
  if (rule.contains("code")) {
    behaviour.failure =
        absl::Status(ParseCode(rule.at("code")), rule.value("message", "told to fail"));
  }
  const double ready_after = rule.value("readyAfterSeconds", 0.0);
  behaviour.ready_after = ready_after < 0 ? absl::InfiniteDuration() : absl::Seconds(ready_after);
  behaviour.omit_creation_time = rule.value("omitCreationTime", false);
  return behaviour;
}

}  // namespace

Behaviour Control::Find(const std::string& method, const std::string& volume, bool count) {
  std::ostringstream text;
  if (std::ifstream file(file_); file) text << file.rdbuf();

  std::lock_guard lock(mutex_);
  if (text.str() != text_) {
    text_ = text.str();
    used_.clear();
  }
  if (text_.empty()) return {};
  try {
    const json rules = json::parse(text_).at("rules");
    for (size_t i = 0; i < rules.size(); ++i) {
      const json& rule = rules[i];
      if (rule.at("method") != method || rule.value("volume", volume) != volume) continue;
      if (rule.contains("times") && used_[i] >= rule.at("times")) continue;
      if (count) ++used_[i];
      return ParseBehaviour(rule);
    }
    return {};
  } catch (const std::exception& error) {
    Behaviour refuse;
    refuse.failure =
        absl::InvalidArgumentError(fmt::format("{}: {}", file_.string(), error.what()));
    return refuse;
  }
}

}  // namespace snapkeeper
