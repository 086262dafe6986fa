#include "common/base/options.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>
#include <set>
#include <sstream>

#include "common/base/address.h"
#include "common/base/file.h"
#include "common/model/duration.h"

namespace snapkeeper {
namespace {

constexpr char kConfig[] = "config";

std::string VariableName(std::string_view flag) {
  std::string name = fmt::format("SNAPKEEPER_{}", flag);
  for (char& c : name) c = c == '-' ? '_' : absl::ascii_toupper(c);
  return name;
}

absl::Status Invalid(std::string_view text, std::string_view expected) {
  return absl::InvalidArgumentError(fmt::format("\"{}\" is not {}", text, expected));
}

// An unset variable is no value, and the same thing twice is a mistake.
absl::Status CheckList(std::vector<std::string> texts) {
  std::sort(texts.begin(), texts.end());
  if (!texts.empty() && texts[0].empty()) return absl::InvalidArgumentError("a value is empty");
  const auto twice = std::adjacent_find(texts.begin(), texts.end());
  if (twice == texts.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("\"{}\" is given twice", *twice));
}

absl::Status CheckAddress(const std::string& text) { return ParseHostPort(text).status(); }

absl::Status CheckPeer(const std::string& text) {
  const auto address = ParseHostPort(text);
  if (!address.ok() || address->port != 0) return address.status();
  return absl::InvalidArgumentError(fmt::format("\"{}\" has no port that can be reached", text));
}

// A DNS-1123 label: any other text would be asked for, and never found.
absl::Status CheckNamespace(const std::string& text) {
  const bool label = text.size() <= 63 && !text.starts_with('-') && !text.ends_with('-') &&
                     std::all_of(text.begin(), text.end(), [](char c) {
                       return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-';
                     });
  if (label) return absl::OkStatus();
  return Invalid(text, "a namespace's name: lower-case letters, digits and '-', at most 63");
}

class IgnoreEvents : public YAML::EventHandler {
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// YAML::LoadAll would tell, but finds documents without end where one is followed by what begins
// none.
bool HasMoreDocuments(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  IgnoreEvents ignore;
  return parser.HandleNextDocument(ignore) && parser.HandleNextDocument(ignore);
}

}  // namespace

int OptionParser::Stop::Print() const {
  std::fputs(text.c_str(), exit_code == 0 ? stdout : stderr);
  return exit_code;
}

OptionParser::OptionParser(std::string_view program, std::string_view description)
    : program_(program), description_(description) {
  Add(kConfig, &config_, "YAML file of flags, without their dashes");
}

void OptionParser::AddFlag(std::string_view name, Kind kind, std::string_view type,
                           std::string_view help, std::string initial,
                           absl::AnyInvocable<absl::Status(const std::vector<std::string>&)> set) {
  flags_.emplace(
      name, Flag{kind, std::string(type), std::string(help), std::move(initial), std::move(set)});
}

void OptionParser::Add(std::string_view flag, std::string* value, std::string_view help) {
  AddFlag(flag, Kind::kValue, "TEXT", help, *value, [value](const std::vector<std::string>& texts) {
    *value = texts[0];
    return value->empty() ? absl::InvalidArgumentError("the value is empty") : absl::OkStatus();
  });
}

void OptionParser::Add(std::string_view flag, std::vector<std::string>* values,
                       std::string_view help) {
  AddFlag(flag, Kind::kList, "TEXT", help, "", [values](const std::vector<std::string>& texts) {
    *values = texts;
    return absl::OkStatus();
  });
}

void OptionParser::Add(std::string_view flag, bool* value, std::string_view help) {
  AddFlag(flag, Kind::kSwitch, "", help, *value ? "true" : "",
          [value](const std::vector<std::string>& texts) {
            if (texts[0] != "true" && texts[0] != "false")
              return Invalid(texts[0], "true or false");
            *value = texts[0] == "true";
            return absl::OkStatus();
          });
}

void OptionParser::Add(std::string_view flag, int* value, std::string_view help) {
  AddFlag(flag, Kind::kValue, "NUMBER", help, std::to_string(*value),
          [value](const std::vector<std::string>& texts) {
            const std::string& text = texts[0];
            int number;
            const auto [end, error] =
                std::from_chars(text.data(), text.data() + text.size(), number);
            if (error != std::errc() || end != text.data() + text.size()) {
              return Invalid(
                  text, fmt::format("a whole number up to {}", std::numeric_limits<int>::max()));
            }
            *value = number;
            return absl::OkStatus();
          });
}

void OptionParser::Add(std::string_view flag, absl::Duration* value, std::string_view help) {
  AddFlag(flag, Kind::kValue, "DURATION", help, absl::FormatDuration(*value),
          [value](const std::vector<std::string>& texts) {
            const auto duration = ParseGoDuration(texts[0]);
            if (duration.ok()) *value = *duration;
            return duration.status();
          });
}

void OptionParser::AddAddress(std::string_view flag, std::string* value, std::string_view help) {
  AddFlag(flag, Kind::kValue, "HOST:PORT", help, *value,
          [value](const std::vector<std::string>& texts) {
            *value = texts[0];
            return CheckAddress(texts[0]);
          });
}

void OptionParser::AddAddresses(std::string_view flag, std::vector<std::string>* values,
                                std::string_view help) {
  AddFlag(flag, Kind::kList, "HOST:PORT", help, "",
          [values](const std::vector<std::string>& texts) {
            *values = texts;
            absl::Status status;
            for (const std::string& text : texts) status.Update(CheckPeer(text));
            return status;
          });
}

void OptionParser::AddNamespaces(std::string_view flag, std::vector<std::string>* values,
                                 std::string_view help) {
  AddFlag(flag, Kind::kList, "NAME", help, "", [values](const std::vector<std::string>& texts) {
    *values = texts;
    absl::Status status;
    for (const std::string& text : texts) status.Update(CheckNamespace(text));
    return status;
  });
}

void OptionParser::AddOneOf(std::string_view name, const std::vector<std::string>& words,
                            size_t initial, std::string_view help,
                            absl::AnyInvocable<void(size_t)> set) {
  AddFlag(name, Kind::kValue, fmt::format("{}", fmt::join(words, "|")), help, words[initial],
          [words, set = std::move(set)](const std::vector<std::string>& texts) mutable {
            for (size_t i = 0; i < words.size(); ++i) {
              if (words[i] != texts[0]) continue;
              set(i);
              return absl::OkStatus();
            }
            return Invalid(texts[0], fmt::format("one of {}", fmt::join(words, ", ")));
          });
}

void OptionParser::AddLog(LogFormat* format, LogLevel* level) {
  AddChoice<LogFormat>("log-format", format,
                       {{"text", LogFormat::kText}, {"json", LogFormat::kJson}},
                       "form of the log lines on stderr");
  AddChoice<LogLevel>("log-level", level,
                      {{"debug", LogLevel::kDebug},
                       {"info", LogLevel::kInfo},
                       {"warning", LogLevel::kWarning},
                       {"error", LogLevel::kError}},
                      "least level that is logged");
}

void OptionParser::ReadEnvironment(const GetEnv& getenv, Values& values) const {
  for (const auto& [name, flag] : flags_) {
    const std::string variable = VariableName(name);
    const char* text = getenv(variable.c_str());
    if (!text || *text == '\0') continue;
    std::vector<std::string> texts = {text};
    if (flag.kind == Kind::kList) texts = absl::StrSplit(text, ',');
    values.emplace(name, Given{std::move(texts), variable});
  }
}

// Scalars are taken as written: yaml-cpp's typed conversions would turn no into false and 010
// into 8.
absl::Status OptionParser::ReadConfig(const std::string& path, Values& values) const {
  const auto invalid = [&path](std::string_view what) {
    return absl::InvalidArgumentError(fmt::format("--config {}: {}", path, what));
  };
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok())
    return absl::InvalidArgumentError("--config: " + std::string(text.status().message()));
  YAML::Node root;
  try {
    root.reset(YAML::Load(*text));
    if (HasMoreDocuments(*text)) return invalid("holds more than one document");
  } catch (const YAML::Exception& e) {
    return invalid(fmt::format("line {}: {}", e.mark.line + 1, e.msg));
  }
  if (root.IsNull()) return absl::OkStatus();
  if (!root.IsMap()) return invalid("is not a map of flags to values");
  std::set<std::string> keys;
  for (const auto& entry : root) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    const auto flag = flags_.find(key);
    if (flag == flags_.end() || key == kConfig)
      return invalid(fmt::format("unknown key \"{}\"", key));
    if (!keys.insert(key).second) return invalid(fmt::format("\"{}\" is given twice", key));
    const bool list = flag->second.kind == Kind::kList;
    std::vector<std::string> texts;
    if (entry.second.IsScalar()) {
      texts.push_back(entry.second.Scalar());
    } else if (entry.second.IsSequence() && list) {
      for (const YAML::Node& item : entry.second) {
        if (!item.IsScalar())
          return invalid(fmt::format("{}: its items must be plain values", key));
        texts.push_back(item.Scalar());
      }
    } else {
      return invalid(
          fmt::format("{}: must be a {}", key, list ? "list of plain values" : "plain value"));
    }
    values.emplace(key, Given{std::move(texts), fmt::format("--config {}: {}", path, key)});
  }
  return absl::OkStatus();
}

std::optional<OptionParser::Stop> OptionParser::Parse(int argc, const char* const* argv,
                                                      const GetEnv& getenv,
                                                      absl::AnyInvocable<absl::Status()> validate) {
  const auto refuse = [this](std::string_view why) {
    std::string line = fmt::format("{}: {}", program_, why);
    for (char& c : line) c = c == '\n' ? ' ' : c;
    return Stop{2, line + "\n"};
  };
  std::map<std::string, std::vector<std::string>> texts;
  std::map<std::string, CLI::Option*> command_line;
  CLI::App app(description_, program_);
  try {
    app.set_version_flag("--version", fmt::format("{} {}", program_, SNAPKEEPER_VERSION));
    app.footer(
        "Each flag --some-flag is also SNAPKEEPER_SOME_FLAG in the environment and some-flag in "
        "the file of\n"
        "--config; a flag wins over the environment, and that over the file.");
    for (const auto& [name, flag] : flags_) {
      CLI::Option* option = nullptr;
      if (flag.kind == Kind::kSwitch) {
        option = app.add_flag("--" + name, texts[name], flag.help);
      } else {
        option = app.add_option("--" + name, texts[name], flag.help)->type_name(flag.type);
        option->expected(1)->allow_extra_args(false);
      }
      option->multi_option_policy(flag.kind == Kind::kList ? CLI::MultiOptionPolicy::TakeAll
                                                           : CLI::MultiOptionPolicy::Throw);
      if (!flag.initial.empty()) option->default_str(flag.initial);
      command_line[name] = option;
    }
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return Stop{0, app.help()};
  } catch (const CLI::CallForVersion& version) {
    return Stop{0, fmt::format("{}\n", version.what())};
  } catch (const CLI::ParseError& error) {
    return refuse(error.what());
  }

  Values values;
  for (const auto& [name, option] : command_line) {
    if (option->count() > 0) values.emplace(name, Given{texts[name], "--" + name});
  }
  ReadEnvironment(getenv, values);
  if (const auto config = values.find(kConfig); config != values.end()) {
    const absl::Status status = ReadConfig(config->second.texts[0], values);
    if (!status.ok()) return refuse(std::string(status.message()));
  }
  for (const auto& [name, given] : values) {
    Flag& flag = flags_.at(name);
    absl::Status status = flag.kind == Kind::kList ? CheckList(given.texts) : absl::OkStatus();
    if (status.ok()) status = flag.set(given.texts);
    if (!status.ok())
      return refuse(fmt::format("{}: {}", given.source, std::string(status.message())));
  }
  const absl::Status status = validate ? validate() : absl::OkStatus();
  if (!status.ok()) return refuse(std::string(status.message()));
  return std::nullopt;
}

}  // namespace snapkeeper
