#include "common/base/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

struct Options {
  std::string kubeconfig = "default.yaml";
  std::string listen = "127.0.0.1:7410";
  std::vector<std::string> executors;
  std::vector<std::string> namespaces;
  int capacity = 64;
  bool insecure = false;
  absl::Duration quarantine = absl::Minutes(5);
  LogFormat format = LogFormat::kText;
  LogLevel level = LogLevel::kInfo;
};

class OptionsTest : public ::testing::Test {
 protected:
  ~OptionsTest() override { std::filesystem::remove(file_); }

  std::optional<OptionParser::Stop> Parse(std::vector<std::string> arguments) {
    OptionParser parser("snapkeeper-test", "A test.");
    parser.Add("kubeconfig", &o_.kubeconfig, "a path");
    parser.AddAddress("listen", &o_.listen, "where to listen");
    parser.AddAddresses("executor", &o_.executors, "an executor");
    parser.AddNamespaces("watch-namespace", &o_.namespaces, "a namespace");
    parser.Add("capacity", &o_.capacity, "jobs at a time");
    parser.Add("insecure", &o_.insecure, "plaintext");
    parser.Add("prune-quarantine", &o_.quarantine, "how long");
    parser.AddLog(&o_.format, &o_.level);
    std::vector<const char*> argv = {"/usr/bin/snapkeeper-test"};
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    return parser.Parse(
        static_cast<int>(argv.size()), argv.data(),
        [this](const char* name) {
          const auto found = environment_.find(name);
          return found == environment_.end() ? nullptr : found->second.c_str();
        },
        [this] {
          return o_.capacity < 1 ? absl::InvalidArgumentError("--capacity must be\nat least 1")
                                 : absl::OkStatus();
        });
  }

  // The one line that a refusal prints.
  std::string Refusal(std::vector<std::string> arguments) {
    const auto stop = Parse(std::move(arguments));
    if (!stop) return "accepted";
    EXPECT_EQ(stop->exit_code, 2);
    EXPECT_EQ(stop->text.find('\n'), stop->text.size() - 1) << stop->text;
    EXPECT_THAT(stop->text, ::testing::StartsWith("snapkeeper-test: "));
    return stop->text;
  }

  std::string File(std::string_view text) {
    std::ofstream(file_) << text;
    return file_;
  }

  Options o_;
  std::map<std::string, std::string> environment_;
  const std::string file_ =
      ::testing::TempDir() + "options_test." + std::to_string(getpid()) + ".yaml";
};

TEST_F(OptionsTest, KeepsTheDefaultsWhenNothingIsGiven) {
  EXPECT_EQ(Parse({}), std::nullopt);
  EXPECT_EQ(o_.kubeconfig, "default.yaml");
  EXPECT_EQ(o_.quarantine, absl::Minutes(5));
  EXPECT_FALSE(o_.insecure);
}

TEST_F(OptionsTest, ReadsEveryKindOfValueFromFlags) {
  EXPECT_EQ(Parse({"--kubeconfig", "k", "--listen=[::1]:0", "--executor", "a:1", "--executor=b:2",
                   "--capacity", "7", "--watch-namespace", "team-0", "--watch-namespace",
                   std::string(63, 'a'), "--insecure", "--prune-quarantine", "1h30m",
                   "--log-format", "json", "--log-level=debug"}),
            std::nullopt);
  EXPECT_EQ(o_.kubeconfig, "k");
  EXPECT_EQ(o_.listen, "[::1]:0");
  EXPECT_THAT(o_.executors, ElementsAre("a:1", "b:2"));
  EXPECT_THAT(o_.namespaces, ElementsAre("team-0", std::string(63, 'a')));
  EXPECT_EQ(o_.capacity, 7);
  EXPECT_TRUE(o_.insecure);
  EXPECT_EQ(o_.quarantine, absl::Minutes(90));
  EXPECT_EQ(o_.format, LogFormat::kJson);
  EXPECT_EQ(o_.level, LogLevel::kDebug);
}

TEST_F(OptionsTest, ReadsEveryKindOfValueFromTheEnvironment) {
  environment_ = {{"SNAPKEEPER_KUBECONFIG", "k"},    {"SNAPKEEPER_EXECUTOR", "a:1,b:2"},
                  {"SNAPKEEPER_CAPACITY", "7"},      {"SNAPKEEPER_INSECURE", "true"},
                  {"SNAPKEEPER_LOG_FORMAT", "json"}, {"SNAPKEEPER_PRUNE_QUARANTINE", "5s"}};
  EXPECT_EQ(Parse({}), std::nullopt);
  EXPECT_EQ(o_.kubeconfig, "k");
  EXPECT_THAT(o_.executors, ElementsAre("a:1", "b:2"));
  EXPECT_EQ(o_.capacity, 7);
  EXPECT_TRUE(o_.insecure);
  EXPECT_EQ(o_.format, LogFormat::kJson);
  EXPECT_EQ(o_.quarantine, absl::Seconds(5));
}

TEST_F(OptionsTest, ReadsEveryKindOfValueFromTheFile) {
  EXPECT_EQ(Parse({"--config", File("# a comment\n"
                                    "kubeconfig: \"k: quoted\"\n"
                                    "executor: [a:1, 'b:2']\n"
                                    "watch-namespace: one\n"
                                    "capacity: 007\n"
                                    "insecure: true\n"
                                    "prune-quarantine: 5s\n"
                                    "log-level: error\n")}),
            std::nullopt);
  EXPECT_EQ(o_.kubeconfig, "k: quoted");
  EXPECT_THAT(o_.executors, ElementsAre("a:1", "b:2"));
  EXPECT_THAT(o_.namespaces, ElementsAre("one"));
  EXPECT_EQ(o_.capacity, 7);
  EXPECT_TRUE(o_.insecure);
  EXPECT_EQ(o_.quarantine, absl::Seconds(5));
  EXPECT_EQ(o_.level, LogLevel::kError);
}

TEST_F(OptionsTest, PrefersFlagThenEnvironmentThenFileThenDefault) {
  for (int given = 0; given < 8; ++given) {
    const bool flag = given & 1, variable = given & 2, file = given & 4;
    o_ = {};
    environment_ = {{"SNAPKEEPER_CONFIG", File(file ? "capacity: 3\nexecutor: [f:1, f:2]\n" : "")}};
    if (variable)
      environment_.insert({{"SNAPKEEPER_CAPACITY", "2"}, {"SNAPKEEPER_EXECUTOR", "e:1"}});
    std::vector<std::string> arguments;
    if (flag) arguments = {"--capacity", "1", "--executor", "c:1", "--executor", "c:2"};
    ASSERT_EQ(Parse(arguments), std::nullopt);
    EXPECT_EQ(o_.capacity, flag ? 1 : variable ? 2 : file ? 3 : 64) << given;
    // A list replaces, and is not added to, one of lower rank.
    EXPECT_EQ(o_.executors.size(), flag ? 2u : variable ? 1u : file ? 2u : 0u) << given;
  }
}

TEST_F(OptionsTest, AFlagNamesTheConfigFileInPreferenceToTheEnvironment) {
  environment_ = {{"SNAPKEEPER_CONFIG", "/nonexistent"}};
  EXPECT_EQ(Parse({"--config", File("capacity: 3\n")}), std::nullopt);
  EXPECT_EQ(o_.capacity, 3);
}

TEST_F(OptionsTest, ASwitchCanBeSwitchedOff) {
  environment_ = {{"SNAPKEEPER_INSECURE", "true"}};
  EXPECT_EQ(Parse({"--insecure=false"}), std::nullopt);
  EXPECT_FALSE(o_.insecure);
}

TEST_F(OptionsTest, TakesAnEmptyVariableForUnsetAndIgnoresForeignOnes) {
  environment_ = {{"SNAPKEEPER_CAPACITY", ""},
                  {"SNAPKEEPER_SCHEDULER_PORT", "tcp://10.0.0.1:7400"}};
  EXPECT_EQ(Parse({}), std::nullopt);
  EXPECT_EQ(o_.capacity, 64);
}

TEST_F(OptionsTest, TakesAnEmptyFile) {
  for (const char* text : {"", "# nothing\n", "---\n", "{}\n"}) {
    EXPECT_EQ(Parse({"--config", File(text)}), std::nullopt) << text;
  }
}

TEST_F(OptionsTest, RefusesWhatItDoesNotUnderstandInOneLineThatNamesTheSource) {
  const struct {
    std::vector<std::string> arguments;
    std::map<std::string, std::string> environment;
    const char* message;
  } cases[] = {
      {{"--nonsense"}, {}, "--nonsense"},
      {{"--capacit", "1"}, {}, "--capacit"},
      {{"stray"}, {}, "stray"},
      {{"--capacity"}, {}, "--capacity"},
      {{"--capacity", "x"}, {}, "--capacity: \"x\" is not a whole number"},
      {{"--capacity", "1.5"}, {}, "is not a whole number"},
      {{"--capacity", "99999999999"}, {}, "is not a whole number"},
      {{"--capacity", ""}, {}, "\"\" is not a whole number"},
      {{"--capacity", "1", "--capacity", "2"}, {}, "--capacity"},
      {{"--capacity", "0"}, {}, "--capacity must be at least 1"},
      {{"--insecure=maybe"}, {}, "--insecure"},
      {{"--prune-quarantine", "5"}, {}, "--prune-quarantine: \"5\" is not a duration"},
      {{"--listen", "7410"}, {}, "--listen: \"7410\" is not HOST:PORT"},
      {{"--executor", "a:1", "--executor", "b"}, {}, "--executor: \"b\" is not HOST:PORT"},
      {{"--executor", "a:1", "b:2"}, {}, "b:2"},
      {{"--log-format", "xml"}, {}, "--log-format: \"xml\" is not one of text, json"},
      {{}, {{"SNAPKEEPER_CAPACITY", "x"}}, "SNAPKEEPER_CAPACITY: \"x\" is not a whole number"},
      {{}, {{"SNAPKEEPER_INSECURE", "yes"}}, "SNAPKEEPER_INSECURE: \"yes\" is not true or false"},
      {{}, {{"SNAPKEEPER_EXECUTOR", "a:1,,b:2"}}, "SNAPKEEPER_EXECUTOR: a value is empty"},
      {{"--config", "/nonexistent/file"},
       {},
       "--config: cannot read /nonexistent/file: No such file or directory"},
      {{"--config", "/tmp"}, {}, "--config: cannot read /tmp: Is a directory"},
      {{"--executor", "a:1", "--executor", "a:1"}, {}, "--executor: \"a:1\" is given twice"},
      {{"--executor", ""}, {}, "--executor: a value is empty"},
      {{"--executor", "a:0"}, {}, "--executor: \"a:0\" has no port that can be reached"},
      {{"--kubeconfig", ""}, {}, "--kubeconfig: the value is empty"},
      {{"--watch-namespace", "Shop"}, {}, "--watch-namespace: \"Shop\" is not a namespace's name"},
      {{"--watch-namespace", "a b"}, {}, "\"a b\" is not a namespace's name"},
      {{"--watch-namespace", "a.b"}, {}, "\"a.b\" is not a namespace's name"},
      {{"--watch-namespace", "-a"}, {}, "\"-a\" is not a namespace's name"},
      {{"--watch-namespace", "a-"}, {}, "\"a-\" is not a namespace's name"},
      {{"--watch-namespace", "shop", "--watch-namespace", std::string(64, 'a')},
       {},
       "is not a namespace's name"},
  };
  for (const auto& c : cases) {
    o_ = {};
    environment_ = c.environment;
    EXPECT_THAT(Refusal(c.arguments), HasSubstr(c.message));
  }
}

TEST_F(OptionsTest, RefusesFilesItDoesNotUnderstand) {
  const std::pair<const char*, const char*> cases[] = {
      {"capacit: 1\n", "unknown key \"capacit\""},
      {"config: other.yaml\n", "unknown key \"config\""},
      {"capacity: 1\ncapacity: 2\n", "\"capacity\" is given twice"},
      {"capacity: [1]\n", "capacity: must be a plain value"},
      {"capacity: {a: 1}\n", "capacity: must be a plain value"},
      {"capacity:\n", "capacity: must be a plain value"},
      {"executor:\n", "executor: must be a list of plain values"},
      {"executor: {a: 1}\n", "executor: must be a list of plain values"},
      {"executor: [[a:1]]\n", "executor: its items must be plain values"},
      {"capacity: many\n", "capacity: \"many\" is not a whole number"},
      {"insecure: no\n", "insecure: \"no\" is not true or false"},
      {"- capacity\n", "is not a map"},
      {"capacity: 1\n---\ncapacity: 2\n", "more than one document"},
      {", capacity: 1}\n  listen\n", "more than one document"},
      {"capacity: 1\n  listen: [\n", "line "},
      {"? [a]\n: 1\n", "unknown key"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_THAT(Refusal({"--config", File(text)}),
                AllOf(HasSubstr("--config " + file_ + ": "), HasSubstr(message)))
        << text;
  }
}

TEST_F(OptionsTest, PrintsHelpAndVersionAndSucceeds) {
  const auto version = Parse({"--version"});
  ASSERT_TRUE(version);
  EXPECT_EQ(version->exit_code, 0);
  EXPECT_THAT(version->text, MatchesRegex("snapkeeper-test [0-9.]+\n"));
  const auto help = Parse({"--help", "--capacity", "3"});
  ASSERT_TRUE(help);
  EXPECT_EQ(help->exit_code, 0);
  EXPECT_THAT(help->text, AllOf(HasSubstr("--capacity NUMBER"), HasSubstr("64"),
                                HasSubstr("--listen HOST:PORT"), HasSubstr("text|json"),
                                HasSubstr("--insecure"), HasSubstr("SNAPKEEPER_"),
                                HasSubstr("--config"), HasSubstr("5m")));
}

TEST_F(OptionsTest, PrintsARefusalToStderrAndHelpToStdout) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(Parse({"--nonsense"})->Print(), 2);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("--nonsense"));
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(Parse({"--help"})->Print(), 0);
  EXPECT_THAT(::testing::internal::GetCapturedStdout(), HasSubstr("--capacity"));
}

}  // namespace
}  // namespace snapkeeper
