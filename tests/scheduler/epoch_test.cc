#include "scheduler/epoch.h"

#include <gtest/gtest.h>

namespace snapkeeper {
namespace {

TEST(EpochTest, WhatNoLeaseCanHoldIsNoEpoch) {
  EXPECT_EQ(EpochOf({.epoch = 0}), 0);
  EXPECT_EQ(EpochOf({.epoch = 7}), 7);
  EXPECT_EQ(EpochOf({.epoch = 2147483647}), 2147483647);
  EXPECT_EQ(EpochOf({.epoch = int64_t{1} << 31}), 0);
  EXPECT_EQ(EpochOf({.epoch = int64_t{1} << 40}), 0);
}

}  // namespace
}  // namespace snapkeeper
