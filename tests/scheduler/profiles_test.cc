#include "scheduler/profiles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using ::testing::HasSubstr;

TEST(ProfilesTest, AFileOverridesTheDefaultsPerDriver) {
  const auto profiles = DriverProfiles::Parse(
      "drivers: {default: {maxCreating: 5}, a.example: {maxCreating: 1000, readyTimeout: 1h30m}}");
  ASSERT_TRUE(profiles.ok()) << profiles.status();
  EXPECT_EQ(profiles->Of("a.example").max_creating, 1000);
  EXPECT_EQ(profiles->Of("a.example").ready_timeout, absl::Minutes(90));
  EXPECT_EQ(profiles->Of("b.example").max_creating, 5);
  EXPECT_EQ(profiles->Of("b.example").ready_timeout, absl::Minutes(10));
}

TEST(ProfilesTest, EbsGetsTwoHoursUntilAFileSaysOtherwise) {
  EXPECT_EQ(DriverProfiles().Of("ebs.csi.aws.com").ready_timeout, absl::Hours(2));
  EXPECT_EQ(DriverProfiles().Of("ebs.csi.aws.com").max_creating, 32);
}

TEST(ProfilesTest, WhatIsWrongIsRefusedByName) {
  const struct {
    const char *yaml, *message;
  } cases[] = {
      {"", "one map 'drivers'"},
      {"[]", "one map 'drivers'"},
      {"drivers: 3", "one map 'drivers'"},
      {"drivers: {}\nother: {}", "one map 'drivers'"},
      {"drivers: {x: 1}", "x: must be a map"},
      {"drivers: {x: {maxCreating: 0}}", "x: maxCreating must be a whole number from 1"},
      {"drivers: {x: {maxCreating: 3.5}}", "not '3.5'"},
      {"drivers: {x: {maxCreating: []}}", "x: maxCreating"},
      {"drivers: {x: {readyTimeout: 10}}", "x: readyTimeout must be a duration"},
      {"drivers: {x: {readyTimeout: 1ms}}", "x: readyTimeout"},
      {"drivers: {x: {maxcreating: 3}}", "unknown key 'maxcreating'"},
      {"drivers: {x: {maxCreating: 3, maxCreating: 4}}", "maxCreating is given twice"},
      {"drivers: {x: {}, x: {}}", "x: is given twice"},
      {"drivers: {x: {", "line 1"},
      {"drivers: {'': {}}", "'' is not the name of a CSI driver"},
      {"drivers: {~: {}}", "'' is not the name of a CSI driver"},
      {"drivers: {[x]: {}}", "'' is not the name of a CSI driver"},
      {"drivers: {'a b': {}}", "'a b' is not the name of a CSI driver"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(DriverProfiles::Parse(c.yaml).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.message)))
        << c.yaml;
  }
}

}  // namespace
}  // namespace snapkeeper
