#include "simulator/selector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

TEST(SelectorTest, LabelsAndFieldsMatchAsInKubernetes) {
  const Tags tags{"default", "data-0", {{"app", "db"}, {"tier", "gold"}, {"empty", ""}}, {}};
  struct Case {
    const char *labels, *fields;
    bool matches;
  };
  for (const Case& c : {
           Case{"", "", true},
           Case{"app=db", "", true},
           Case{"app==db", "", true},
           Case{"app = db , tier=gold", "", true},
           Case{"app=web", "", false},
           Case{"app=db,app=web", "", false},
           Case{"app!=web", "", true},
           Case{"none!=x", "", true},
           Case{"app!=db", "", false},
           Case{"app in (web, db)", "", true},
           Case{"app in (web)", "", false},
           Case{"app notin (web)", "", true},
           Case{"app notin (db,web)", "", false},
           Case{"none notin (x)", "", true},
           Case{"app", "", true},
           Case{"none", "", false},
           Case{"!none", "", true},
           Case{"!app", "", false},
           Case{"empty=", "", true},
           Case{"app=", "", false},
           Case{"", "metadata.name=data-0", true},
           Case{"", "metadata.name==data-0", true},
           Case{"", "metadata.name!=data-0", false},
           Case{"", "metadata.namespace=default,metadata.name=x", false},
           Case{"app=db", "metadata.name=data-0", true},
       }) {
    const auto selector = ParseSelector({Kind::kClaim, "", c.labels, c.fields});
    ASSERT_THAT(selector, IsOk()) << c.labels << c.fields;
    EXPECT_EQ(selector->Matches(tags), c.matches) << c.labels << " " << c.fields;
  }
  EXPECT_FALSE(ParseSelector({Kind::kClaim, "other", "", ""})->Matches(tags));
}

TEST(SelectorTest, WhatIsNoSelectorIsRefused) {
  for (const char* labels : {"=x", "a=b=c", "a in x", "a in (x", "a b", "!a=b", "a=b,,c", "a>1",
                             "-a=b", "a=b/c", "a/b/c=d", "/a=b", "a/=b", "a=-b"}) {
    EXPECT_THAT(ParseSelector({Kind::kClaim, "", labels, ""}),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << labels;
  }
  for (const char* fields : {"spec.volumeName=x", "metadata.name", "involvedObject.name=x"}) {
    EXPECT_THAT(ParseSelector({Kind::kClaim, "", "", fields}),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << fields;
  }
}

}  // namespace
}  // namespace snapkeeper
