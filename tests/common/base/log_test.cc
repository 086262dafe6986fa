#include "common/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace snapkeeper {
namespace {

const absl::Time kTime = absl::FromUnixMillis(1'772'953'200'250);  // 2026-03-08T07:00:00.25Z

std::string Text(std::string_view value) {
  return FormatLogLine(LogFormat::kText, kTime, LogLevel::kInfo, "m", {{"k", value}});
}
std::string Json(std::string_view value) {
  return FormatLogLine(LogFormat::kJson, kTime, LogLevel::kInfo, "m", {{"k", value}});
}

TEST(LogTest, WritesTimeLevelMessageAndPairs) {
  const std::initializer_list<LogField> fields = {
      {"policy", "default/hourly"},
      {"n", 3},
      {"big", uint64_t{18446744073709551615u}},
      {"ok", true},
      {"at", absl::FromUnixSeconds(1'772'953'200)},
      {"never", absl::InfiniteFuture()},
      {"took", absl::Milliseconds(1500)},
      {"error", absl::NotFoundError("no such \"claim\"")}};
  EXPECT_EQ(
      FormatLogLine(LogFormat::kText, kTime, LogLevel::kWarning, "run settled", fields),
      "time=2026-03-08T07:00:00.250Z level=warning msg=\"run settled\" policy=default/hourly n=3 "
      "big=18446744073709551615 ok=true at=2026-03-08T07:00:00Z never=infinite-future took=1.5s "
      R"(error="NOT_FOUND: no such \"claim\"")");
  EXPECT_EQ(
      FormatLogLine(LogFormat::kJson, kTime, LogLevel::kWarning, "run settled", fields),
      R"({"time":"2026-03-08T07:00:00.250Z","level":"warning","msg":"run settled","policy":"default/hourly",)"
      R"("n":3,"big":18446744073709551615,"ok":true,"at":"2026-03-08T07:00:00Z","never":"infinite-future",)"
      R"("took":"1.5s","error":"NOT_FOUND: no such \"claim\""})");
}

TEST(LogTest, NamesEveryLevel) {
  const std::pair<LogLevel, const char*> cases[] = {{LogLevel::kDebug, "level=debug "},
                                                    {LogLevel::kInfo, "level=info "},
                                                    {LogLevel::kWarning, "level=warning "},
                                                    {LogLevel::kError, "level=error "}};
  for (const auto& [level, expected] : cases) {
    EXPECT_THAT(FormatLogLine(LogFormat::kText, kTime, level, "m", {}),
                ::testing::HasSubstr(expected));
  }
}

TEST(LogTest, QuotesInTextOnlyWhatCouldBeMisread) {
  const std::pair<const char*, const char*> cases[] = {
      {"plain", "plain"},
      {"a/b:c,d-e.f_{g}", "a/b:c,d-e.f_{g}"},
      {"", R"("")"},
      {"two words", R"("two words")"},
      {"k=v", R"("k=v")"},
      {"say \"hi\"", R"("say \"hi\"")"},
      {R"(back\slash)", R"("back\\slash")"},
      {"ünï", "\"ünï\""},
  };
  for (const auto& [value, expected] : cases) {
    EXPECT_EQ(Text(value),
              std::string("time=2026-03-08T07:00:00.250Z level=info msg=m k=") + expected);
  }
}

TEST(LogTest, EscapesWhatCouldForgeALineOrDriveATerminal) {
  const std::pair<std::string, const char*> cases[] = {
      {"a\nlevel=error", R"("a\nlevel=error")"},
      {"a\r\n\tb", R"("a\r\n\tb")"},
      {"\x1b[31mred", R"("\u001b[31mred")"},
      {std::string("nul\0!", 5), R"("nul\u0000!")"},
      {"\x7f", R"("\u007f")"},
      {"\u009b31m", R"("\u009b31m")"},  // the one-character form of ESC [
      {"line\u2028break", R"("line\u2028break")"},
      {"\u202etxt.exe", R"("\u202etxt.exe")"},  // right-to-left override
      {"\u2066x\u2069", R"("\u2066x\u2069")"},
  };
  for (const auto& [value, expected] : cases) {
    EXPECT_EQ(Text(value),
              std::string("time=2026-03-08T07:00:00.250Z level=info msg=m k=") + expected);
    EXPECT_EQ(Json(value),
              std::string(R"({"time":"2026-03-08T07:00:00.250Z","level":"info","msg":"m","k":)") +
                  expected + "}");
  }
}

TEST(LogTest, ReplacesBytesThatAreNotUtf8) {
  const std::pair<const char*, const char*> cases[] = {
      {"\x80", "\uFFFD"},  // a continuation alone
      {"a\xff"
       "b",
       "a\uFFFDb"},
      {"\xc3", "\uFFFD"},  // cut short
      {"\xe2\x82", "\uFFFD\uFFFD"},
      {"\xc0\xaf", "\uFFFD\uFFFD"},  // overlong
      {"\xe0\x80\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"},            // a surrogate
      {"\xf4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},  // beyond U+10FFFF
      {"\xc3(", "\uFFFD("},
      {"\xf0\x9f\x93\xb7", "\xf0\x9f\x93\xb7"},  // well-formed
  };
  for (const auto& [value, expected] : cases) {
    const auto parsed = nlohmann::json::parse(Json(value));
    EXPECT_EQ(parsed["k"], expected);
    EXPECT_THAT(Text(value), ::testing::HasSubstr(expected));
  }
}

TEST(LogTest, JsonLinesParseBackToWhatWasLogged) {
  std::string every;
  for (char c = 0; c < 0x7f; ++c) every += c;
  for (const std::string& value :
       {every, std::string("\u2028\u202e\u009b"), std::string("{\"a\":1}")}) {
    const std::string line = Json(value);
    EXPECT_EQ(line.find('\n'), line.npos);
    EXPECT_EQ(nlohmann::json::parse(line)["k"], value);
  }
}

TEST(LogTest, WritesToStderrAtOrAboveItsLevel) {
  const auto log = MakeStderrLog(LogFormat::kText, LogLevel::kInfo);
  ::testing::internal::CaptureStderr();
  log->Debug("dropped", {});
  log->Info("kept {}", {{"format", "{not} %v a pattern"}});
  log->Error("kept too", {});
  const std::string out = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(out,
              ::testing::MatchesRegex(
                  "time=[^ ]+ level=info msg=\"kept \\{\\}\" format=\"\\{not\\} %v a pattern\"\n"
                  "time=[^ ]+ level=error msg=\"kept too\"\n"));
}

}  // namespace
}  // namespace snapkeeper
