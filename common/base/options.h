#ifndef SNAPKEEPER_COMMON_BASE_OPTIONS_H_
#define SNAPKEEPER_COMMON_BASE_OPTIONS_H_

#include <absl/functional/any_invocable.h>
#include <absl/status/status.h>
#include <absl/time/time.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/log.h"

namespace snapkeeper {

// Fills a plain struct of options, whose initial values are the defaults, from the command line,
// the environment and a file, in this order of precedence. Each flag --some-flag is also
// SNAPKEEPER_SOME_FLAG in the environment, where lists are separated by commas and an empty text
// counts as unset, and the key some-flag of the YAML file that --config names.
//
//   ExecutorOptions o;
//   OptionParser parser("snapkeeper-executor", "Takes and prunes snapshots.");
//   parser.Add("capacity", &o.capacity, "jobs at a time before their snapshot exists");
//   const auto stop = parser.Parse(argc, argv, getenv, [&o] { return Validate(o); });
//   if (stop) return stop->Print();
//
// Unknown flags and keys, keys and flags given twice, and values of the wrong kind are refused.
// Unknown variables are not: Kubernetes puts SNAPKEEPER_…_PORT and the like into every pod beside a
// Service of such a name.
class OptionParser {
 public:
  // What main() is to do instead of running: print and exit.
  struct Stop {
    int exit_code;     // 0: --help, --version; 2: refused
    std::string text;  // ends in a newline; one line where refused
    // To stdout or, where refused, stderr; returns exit_code.
    int Print() const;
    bool operator==(const Stop&) const = default;
  };
  using GetEnv = std::function<const char*(const char*)>;

  OptionParser(std::string_view program, std::string_view description);

  // The pointers must stay valid until Parse returns. No text may be empty.
  void Add(std::string_view flag, std::string* value, std::string_view help);
  void Add(std::string_view flag, std::vector<std::string>* values,
           std::string_view help);  // repeatable
  void Add(std::string_view flag, bool* value, std::string_view help);
  void Add(std::string_view flag, int* value, std::string_view help);
  void Add(std::string_view flag, absl::Duration* value, std::string_view help);  // 30s, 5m, 1h30m
  void AddAddress(std::string_view flag, std::string* value, std::string_view help);  // HOST:PORT
  // Of others: port 0 is none.
  void AddAddresses(std::string_view flag, std::vector<std::string>* values, std::string_view help);
  void AddNamespaces(std::string_view flag, std::vector<std::string>* values,
                     std::string_view help);
  template <typename Enum>
  void AddChoice(std::string_view flag, Enum* value,
                 const std::vector<std::pair<std::string, Enum>>& choices, std::string_view help);

  // --log-format and --log-level.
  void AddLog(LogFormat* format, LogLevel* level);

  // Nullopt: go on. `validate` looks at the values as a whole, once all are set.
  std::optional<Stop> Parse(int argc, const char* const* argv, const GetEnv& getenv,
                            absl::AnyInvocable<absl::Status()> validate = nullptr);

 private:
  enum class Kind { kValue, kList, kSwitch };
  struct Flag {
    Kind kind;
    std::string type, help, initial;
    // Takes one text, or for lists any number; its message names the offending text, not the flag.
    absl::AnyInvocable<absl::Status(const std::vector<std::string>&)> set;
  };
  struct Given {
    std::vector<std::string> texts;
    std::string source;  // for messages
  };
  using Values = std::map<std::string, Given>;  // by flag

  void AddFlag(std::string_view name, Kind kind, std::string_view type, std::string_view help,
               std::string initial,
               absl::AnyInvocable<absl::Status(const std::vector<std::string>&)> set);
  void AddOneOf(std::string_view name, const std::vector<std::string>& words, size_t initial,
                std::string_view help, absl::AnyInvocable<void(size_t)> set);
  // Both leave alone what `values` already holds.
  void ReadEnvironment(const GetEnv& getenv, Values& values) const;
  absl::Status ReadConfig(const std::string& path, Values& values) const;

  const std::string program_, description_;
  std::string config_;
  std::map<std::string, Flag> flags_;
};

template <typename Enum>
void OptionParser::AddChoice(std::string_view flag, Enum* value,
                             const std::vector<std::pair<std::string, Enum>>& choices,
                             std::string_view help) {
  std::vector<std::string> words;
  size_t initial = 0;
  for (const auto& [word, meaning] : choices) {
    if (meaning == *value) initial = words.size();
    words.push_back(word);
  }
  AddOneOf(flag, words, initial, help, [value, choices](size_t i) { *value = choices[i].second; });
}

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_BASE_OPTIONS_H_
