#include "common/base/call.h"

#include <gtest/gtest.h>

namespace snapkeeper {
namespace {

TEST(CallTest, CancelsOnceWhenDestroyed) {
  int cancelled = 0;
  {
    Call call([&cancelled] { ++cancelled; });
    const Call moved = std::move(call);
    EXPECT_EQ(cancelled, 0);
  }
  EXPECT_EQ(cancelled, 1);
}

TEST(CallTest, CancelsWhatItHeldWhenMovedOver) {
  std::string order;
  Call call([&order] { order += "first"; });
  call = Call([&order] { order += " second"; });
  EXPECT_EQ(order, "first");
  call = Call();
  EXPECT_EQ(order, "first second");
}

TEST(CallTest, DoesNothingWhenEmpty) {
  Call call;
  call = Call();
}

}  // namespace
}  // namespace snapkeeper
