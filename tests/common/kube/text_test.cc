#include "common/kube/text.h"

#include <gtest/gtest.h>

#include <string>

namespace snapkeeper {
namespace {

TEST(PercentEncodeTest, KeepsOnlyUnreservedCharacters) {
  EXPECT_EQ(PercentEncode("aZ09-._~"), "aZ09-._~");
  EXPECT_EQ(PercentEncode("a=b,c in (d)/%"), "a%3Db%2Cc%20in%20%28d%29%2F%25");
  EXPECT_EQ(PercentEncode("é\n"), "%C3%A9%0A");
}

TEST(TruncateTest, CutsBetweenCharacters) {
  EXPECT_EQ(Truncate("short", 5), "short");
  EXPECT_EQ(Truncate("longer text", 9), "lo…text");
  EXPECT_EQ(Truncate("ééé", 5), "…é");
  EXPECT_EQ(Truncate("éé", 3), "…");
  EXPECT_EQ(Truncate("éé", 2), "é");
  EXPECT_EQ(Truncate("éé", 1), "");
}

TEST(TruncateTest, NeverExceedsTheLimitNorSplitsASequence) {
  const std::string text = "aé€😀aé€😀";
  for (size_t max = 0; max <= text.size() + 1; ++max) {
    const std::string cut = Truncate(text, max);
    EXPECT_LE(cut.size(), max);
    // Valid UTF-8: each lead byte is followed by as many continuation bytes as it says.
    for (size_t i = 0; i < cut.size();) {
      const auto lead = static_cast<unsigned char>(cut[i]);
      const size_t length = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
      ASSERT_GE(lead & 0xC0, lead < 0x80 ? 0 : 0xC0) << max;
      ASSERT_LE(i + length, cut.size()) << max;
      i += length;
    }
  }
}

TEST(ExcerptTest, IsOnePrintableLine) {
  EXPECT_EQ(Excerpt("", 10), "");
  EXPECT_EQ(Excerpt("\r\n <html>\n\t<h1>502</h1>\x01\xff\n", 100), "<html> <h1>502</h1>");
  EXPECT_EQ(Excerpt(std::string(1000, 'x'), 20).size(), 20u);
}

TEST(ExcerptTest, LeavesCredentialsOut) {
  EXPECT_EQ(Excerpt("your header Authorization: Bearer abc.def was bad", 100),
            "your header Authorization: Bearer (left out) was bad");
  EXPECT_EQ(Excerpt("authorization:basic dXNlcg==", 100), "authorization:basic (left out)");
}

}  // namespace
}  // namespace snapkeeper
