#include "common/base/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using ::testing::HasSubstr;

TEST(AddressTest, ParsesAndFormatsHostAndPort) {
  const std::pair<const char*, HostPort> cases[] = {
      {"127.0.0.1:7400", {"127.0.0.1", 7400}}, {"localhost:0", {"localhost", 0}},
      {"[::1]:65535", {"::1", 65535}},         {"[::]:80", {"::", 80}},
      {"a.b.svc:443", {"a.b.svc", 443}},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_THAT(ParseHostPort(text), IsOkAndHolds(expected)) << text;
    EXPECT_EQ(FormatHostPort(expected), text);
  }
}

TEST(AddressTest, RefusesWhatIsNotHostAndPort) {
  for (const char* text :
       {"", "localhost", ":80", "localhost:", "localhost:x", "localhost:65536", "localhost:-1",
        "::1", "::1:80", "[::1]", "[]:80", "[::1:80", "[localhost]:80", "http://localhost:80",
        "a b:80", "localhost:80 ", "localhost:+80"}) {
    EXPECT_THAT(ParseHostPort(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("HOST:PORT")))
        << text;
  }
}

TEST(AddressTest, KnowsWhatStaysOnThisMachine) {
  for (const char* text : {"127.0.0.1:1", "127.255.0.9:1", "[::1]:1", "localhost:1"})
    EXPECT_TRUE(IsLoopback(text)) << text;
  for (const char* text :
       {"0.0.0.0:1", "[::]:1", "128.0.0.1:1", "10.0.0.1:1", "localhost.example.com:1", "127.0.0.1",
        "127.0.0.1.example.com:1", "[::ffff:10.0.0.1]:1", ""}) {
    EXPECT_FALSE(IsLoopback(text)) << text;
  }
}

}  // namespace
}  // namespace snapkeeper
