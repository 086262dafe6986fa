#include "common/kube/json_splitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace snapkeeper {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Splitter {
  bool Feed(std::string_view piece) {
    return splitter.Feed(piece, [this](std::string_view object) {
      objects.emplace_back(object);
      return true;
    });
  }
  JsonSplitter splitter;
  std::vector<std::string> objects;
};

const std::vector<std::string> kObjects = {
    R"({"type":"ADDED","object":{"a":[{"b":1},[]],"text":"} ] \" \\"}})",
    R"({})",
    R"({"type":"MODIFIED","object":{"x":"é{[\"{"}})",
    R"({"a":"\\\\"})",
};

std::string Stream() {
  std::string stream = "\n";
  for (const std::string& object : kObjects) stream += object + " \r\n\t";
  return stream;
}

TEST(JsonSplitterTest, CutsAStreamInOnePiece) {
  Splitter splitter;
  EXPECT_TRUE(splitter.Feed(Stream()));
  EXPECT_EQ(splitter.objects, kObjects);
}

TEST(JsonSplitterTest, CutsAStreamSplitAnywhere) {
  const std::string stream = Stream();
  for (size_t i = 0; i <= stream.size(); ++i) {
    for (size_t j = i; j <= stream.size(); ++j) {
      Splitter splitter;
      EXPECT_TRUE(splitter.Feed(stream.substr(0, i)));
      EXPECT_TRUE(splitter.Feed(stream.substr(i, j - i)));
      EXPECT_TRUE(splitter.Feed(stream.substr(j)));
      ASSERT_EQ(splitter.objects, kObjects) << i << " " << j;
    }
  }
}

TEST(JsonSplitterTest, CutsAStreamThatComesByteByByte) {
  Splitter splitter;
  for (char c : Stream()) EXPECT_TRUE(splitter.Feed({&c, 1}));
  EXPECT_EQ(splitter.objects, kObjects);
}

TEST(JsonSplitterTest, HandsAnObjectOverAsSoonAsItIsComplete) {
  Splitter splitter;
  EXPECT_TRUE(splitter.Feed(R"({"a":{})"));
  EXPECT_THAT(splitter.objects, IsEmpty());
  EXPECT_TRUE(splitter.Feed("}"));
  EXPECT_THAT(splitter.objects, ElementsAre(R"({"a":{}})"));
}

TEST(JsonSplitterTest, TakesALargeObject) {
  const std::string large = R"({"x":")" + std::string(5 << 20, 'x') + R"("})";
  Splitter splitter;
  for (size_t i = 0; i < large.size(); i += 16'384)
    EXPECT_TRUE(splitter.Feed(large.substr(i, 16'384)));
  EXPECT_THAT(splitter.objects, ElementsAre(large));
}

TEST(JsonSplitterTest, RefusesAnEndlessObject) {
  Splitter splitter;
  const std::string piece(1 << 20, 'x');
  ASSERT_TRUE(splitter.Feed("{\""));
  int pieces = 0;
  while (splitter.Feed(piece)) ASSERT_LT(++pieces, 17);
  EXPECT_EQ(pieces, 15);
  EXPECT_THAT(splitter.objects, IsEmpty());
}

TEST(JsonSplitterTest, RefusesWhatIsNoObject) {
  for (std::string_view text : {"x", "[1]", "\"{}\"", "}", "1 {}"}) {
    Splitter splitter;
    EXPECT_FALSE(splitter.Feed(text)) << text;
    EXPECT_THAT(splitter.objects, IsEmpty()) << text;
  }
  Splitter splitter;
  EXPECT_FALSE(splitter.Feed("{} oops"));
  EXPECT_THAT(splitter.objects, ElementsAre("{}"));
}

TEST(JsonSplitterTest, StopsWhenItIsTold) {
  JsonSplitter splitter;
  int seen = 0;
  EXPECT_FALSE(splitter.Feed("{}{}{}", [&seen](std::string_view) { return ++seen < 2; }));
  EXPECT_EQ(seen, 2);
}

}  // namespace
}  // namespace snapkeeper
