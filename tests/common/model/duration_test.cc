#include "common/model/duration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using ::testing::HasSubstr;

TEST(DurationTest, TakesWhatGoTakes) {
  const std::pair<const char*, absl::Duration> cases[] = {
      {"5m", absl::Minutes(5)},
      {"1h30m", absl::Minutes(90)},
      {"1h30m0s", absl::Minutes(90)},
      {"250ms", absl::Milliseconds(250)},
      {"1.5s", absl::Milliseconds(1500)},
      {".5s", absl::Milliseconds(500)},
      {"1.s", absl::Seconds(1)},
      {"1us", absl::Microseconds(1)},
      {"1\u00b5s", absl::Microseconds(1)},
      {"1\u03bcs", absl::Microseconds(1)},
      {"3ns", absl::Nanoseconds(3)},
      {"0s", absl::ZeroDuration()},
      {"0.9ns", absl::ZeroDuration()},
      {"1s1s", absl::Seconds(2)},
      {"1m1h", absl::Minutes(61)},
      {"2562047h47m16.854775807s", absl::Nanoseconds(INT64_MAX)},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_THAT(ParseGoDuration(text), IsOkAndHolds(expected)) << text;
  }
}

TEST(DurationTest, RefusesTheRestAndSaysWhatIsExpected) {
  for (const char* text : {"",
                           " ",
                           "0",
                           "5",
                           "1.5",
                           "-5m",
                           "+5m",
                           "inf",
                           "s",
                           ".s",
                           ".",
                           "5 m",
                           " 5m",
                           "5m ",
                           "1h-5m",
                           "5x",
                           "1d",
                           "1H",
                           "1e3s",
                           "5m3",
                           "2562047h47m16.854775808s",
                           "100000000000h",
                           "5m\n"}) {
    EXPECT_THAT(ParseGoDuration(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1h30m")))
        << text;
  }
}

}  // namespace
}  // namespace snapkeeper
