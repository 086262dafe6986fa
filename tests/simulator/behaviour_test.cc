#include "simulator/behaviour.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

TEST(BehaviourTest, GoesThroughJsonAndBack) {
  const ClassBehaviour behaviour{.bind_after = absl::Seconds(1),
                                 .cut_after = absl::Milliseconds(1500),
                                 .ready_after = absl::Hours(1),
                                 .spread = 0.5,
                                 .never_bound = true,
                                 .never_cut = true,
                                 .never_ready = true,
                                 .fail_creates = -1,
                                 .error_text = "x",
                                 .no_cut_time = true,
                                 .cut_clock_skew = -absl::Minutes(1),
                                 .delete_after = absl::Seconds(2),
                                 .fail_deletes = 3};
  ClassBehaviour read;
  ASSERT_THAT(UpdateBehaviour(BehaviourToJson(behaviour), read), IsOk());
  EXPECT_EQ(read, behaviour);
}

TEST(BehaviourTest, ChangesOnlyWhatIsNamedAndNothingWhereAnythingIsWrong) {
  ClassBehaviour behaviour{.ready_after = absl::Seconds(5)};
  ASSERT_THAT(UpdateBehaviour({{"failCreates", 2}}, behaviour), IsOk());
  EXPECT_EQ(behaviour, (ClassBehaviour{.ready_after = absl::Seconds(5), .fail_creates = 2}));
  const ClassBehaviour before = behaviour;
  for (const auto& [fields, word] :
       {std::pair<json, const char*>{{{"neverReady", true}, {"readyAfter", "soon"}}, "readyAfter"},
        {{{"neverReady", true}, {"unknown", 1}}, "unknown"},
        {{{"failCreates", -2}}, "failCreates"},
        {{{"spread", -1}}, "spread"},
        {{{"neverReady", "yes"}}, "neverReady"},
        {json::array(), "object"}}) {
    EXPECT_THAT(UpdateBehaviour(fields, behaviour),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(word)))
        << fields;
    EXPECT_EQ(behaviour, before);
  }
}

}  // namespace
}  // namespace snapkeeper
