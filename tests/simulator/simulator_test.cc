#include "simulator/simulator.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>

#include "tests/simulator/world.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using absl::StatusCode;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Plan : public FaultPlan {
 public:
  std::function<Fault(Verb, const ObjectKey&)> request = [](Verb, const ObjectKey&) {
    return Fault();
  };
  std::function<EventFault()> event = [] { return EventFault(); };
  std::vector<std::string> users;

  Fault OnRequest(std::string_view user, Verb verb, const ObjectKey& key) override {
    users.emplace_back(user);
    return request(verb, key);
  }
  EventFault OnEvent(std::string_view, Kind) override { return event(); }
};

class SimulatorTest : public testing::Test {
 protected:
  SimulatorTest() { world_.simulator.SetFaultPlan(&plan_); }

  Call CreateLease(const std::string& name) {
    return api_->Create(
        Kind::kLease,
        {{"metadata", {{"namespace", "default"}, {"name", name}}}, {"spec", json::object()}},
        [this](absl::StatusOr<ObjectPtr> result) { replies_.push_back(result.status()); });
  }
  bool Exists(const std::string& name) {
    return world_.store().Find({Kind::kLease, "default", name}) != nullptr;
  }
  Call Watch() {
    return api_->Watch(
        {Kind::kLease, "default", "", ""}, std::to_string(world_.store().resource_version()),
        [this](WatchEvent event) {
          events_.push_back(event.object ? MetaOf(*event.object).name : "bookmark");
        },
        [this](absl::Status status) { ended_ = status; });
  }

  Plan plan_;
  World world_{{.store = {.bookmark_every = absl::InfiniteDuration()}}};
  std::unique_ptr<KubeApi> api_ = world_.simulator.Connect(world_.client_loop, "executor-0");
  std::vector<absl::Status> replies_;
  std::vector<std::string> events_;
  std::optional<absl::Status> ended_;
};

TEST_F(SimulatorTest, RepliesComeOnALaterTurnOfTheClientsLoop) {
  const Call call = CreateLease("a");
  EXPECT_TRUE(Exists("a"));
  EXPECT_THAT(replies_, IsEmpty());
  world_.loop.Turn();
  EXPECT_THAT(replies_, IsEmpty());
  world_.client_loop.Turn();
  EXPECT_THAT(replies_, ElementsAre(IsOk()));
  EXPECT_THAT(plan_.users, ElementsAre("executor-0"));
}

TEST_F(SimulatorTest, DelaysAreSpentBeforeAndAfterTheServerActs) {
  plan_.request = [](Verb, const ObjectKey&) {
    return Fault{.request_delay = absl::Seconds(1), .reply_delay = absl::Seconds(2)};
  };
  const Call call = CreateLease("a");
  world_.Run(absl::Milliseconds(999));
  EXPECT_FALSE(Exists("a"));
  world_.Run(absl::Milliseconds(1));
  EXPECT_TRUE(Exists("a"));
  world_.Run(absl::Milliseconds(1999));
  EXPECT_THAT(replies_, IsEmpty());
  world_.Run(absl::Milliseconds(1));
  EXPECT_THAT(replies_, ElementsAre(IsOk()));
}

TEST_F(SimulatorTest, AFaultMayActAndTellNothingOrTellAndDoNothing) {
  struct Case {
    Fault fault;
    StatusCode code;
    bool acted;
  };
  int i = 0;
  for (const Case& c : {
           Case{Fault::Fail(absl::UnavailableError("503")), StatusCode::kUnavailable, false},
           Case{Fault::LoseReply(), StatusCode::kDeadlineExceeded, true},
           Case{Fault::Hang(), StatusCode::kDeadlineExceeded, false},
           Case{{.reply = absl::UnavailableError("reset")}, StatusCode::kUnavailable, true},
           Case{{.request_delay = absl::Minutes(5)}, StatusCode::kDeadlineExceeded, false},
           Case{{.request_delay = absl::Seconds(10), .reply_delay = absl::Minutes(5)},
                StatusCode::kDeadlineExceeded,
                true},
       }) {
    plan_.request = [&c](Verb, const ObjectKey&) { return c.fault; };
    replies_.clear();
    const std::string name = fmt::format("lease-{}", ++i);
    const Call call = CreateLease(name);
    world_.Run(absl::Seconds(30));
    EXPECT_THAT(replies_, ElementsAre(StatusIs(c.code))) << name;
    EXPECT_EQ(Exists(name), c.acted) << name;
  }
}

TEST_F(SimulatorTest, ARequestMayArriveLongAfterItsSenderHasGivenUp) {
  plan_.request = [](Verb, const ObjectKey&) { return Fault{.request_delay = absl::Minutes(5)}; };
  const Call call = CreateLease("late");
  world_.Run(absl::Minutes(4));
  EXPECT_THAT(replies_, ElementsAre(StatusIs(StatusCode::kDeadlineExceeded)));
  EXPECT_FALSE(Exists("late"));
  world_.Run(absl::Minutes(1));
  EXPECT_TRUE(Exists("late"));
  EXPECT_THAT(replies_, testing::SizeIs(1));
}

TEST_F(SimulatorTest, ACancelledCallHasNoReplyThoughTheServerActs) {
  plan_.request = [](Verb, const ObjectKey&) { return Fault{.request_delay = absl::Seconds(1)}; };
  { const Call call = CreateLease("a"); }
  world_.Run(absl::Seconds(2));
  EXPECT_TRUE(Exists("a"));
  EXPECT_THAT(replies_, IsEmpty());
}

TEST_F(SimulatorTest, ADeadProcessHearsNothingAndItsRequestsStillArrive) {
  plan_.request = [](Verb, const ObjectKey&) { return Fault{.request_delay = absl::Seconds(1)}; };
  const Call call = CreateLease("a");
  const Call watch = Watch();
  api_.reset();
  world_.Run(absl::Seconds(2));
  EXPECT_TRUE(Exists("a"));
  EXPECT_THAT(replies_, IsEmpty());
  EXPECT_THAT(events_, IsEmpty());
  EXPECT_EQ(ended_, std::nullopt);
}

TEST_F(SimulatorTest, AFrozenProcessFindsEverythingWaiting) {
  const Call watch = Watch();
  world_.Settle();
  events_.clear();
  const Call call = CreateLease("a");
  RunFor(world_.clock, {&world_.loop}, absl::Hours(1));
  EXPECT_THAT(replies_, IsEmpty());
  world_.Settle();
  EXPECT_THAT(replies_, ElementsAre(IsOk()));
  EXPECT_THAT(events_, ElementsAre("a"));
}

TEST_F(SimulatorTest, AHandleMayOutliveTheSimulator) {
  SimClock clock;
  SimWaiter waiter(clock);
  EventLoop loop(waiter);
  Rng rng(1);
  auto simulator = std::make_unique<Simulator>(loop, rng);
  const auto api = simulator->Connect(world_.client_loop, "x");
  const Call watch = api->Watch(
      {Kind::kLease, "", "", ""}, "1", [](WatchEvent) {}, [](absl::Status) {});
  simulator.reset();
  world_.Settle();
}

TEST_F(SimulatorTest, AWatchIsAcceptedWithABookmarkThenTellsEvents) {
  const Call watch = Watch();
  const Call a = CreateLease("a"), b = CreateLease("b");
  world_.Settle();
  EXPECT_THAT(events_, ElementsAre("bookmark", "a", "b"));
}

TEST_F(SimulatorTest, EventsMayBeDoubledAndLateButKeepTheirOrder) {
  const Call watch = Watch();
  world_.Settle();
  events_.clear();
  plan_.event = [] { return EventFault{.delay = absl::Seconds(5), .copies = 2}; };
  const Call a = CreateLease("a");
  world_.Run(absl::Seconds(1));
  plan_.event = [] { return EventFault(); };
  const Call b = CreateLease("b");
  world_.Run(absl::Milliseconds(3999));
  EXPECT_THAT(events_, IsEmpty());
  world_.Run(absl::Milliseconds(1));
  EXPECT_THAT(events_, ElementsAre("a", "a", "b"));
}

TEST_F(SimulatorTest, AWatchBreaksAsToldAndOnlyOnce) {
  const std::pair<WatchBreak, StatusCode> kCases[] = {
      {WatchBreak::kEnd, StatusCode::kOk},
      {WatchBreak::kReset, StatusCode::kUnavailable},
      {WatchBreak::kExpired, StatusCode::kOutOfRange},
      {WatchBreak::kStall, StatusCode::kDeadlineExceeded}};
  for (const auto& [how, code] : kCases) {
    ended_.reset();
    const Call watch = Watch();
    world_.Settle();
    events_.clear();
    world_.simulator.BreakWatches("somebody else", how);
    world_.Settle();
    EXPECT_EQ(ended_, std::nullopt);
    world_.simulator.BreakWatches("executor-0", how);
    world_.simulator.BreakWatches("", how);
    const Call unseen = CreateLease(fmt::format("lease-{}", static_cast<int>(how)));
    world_.Run(kSilenceLimit);
    ASSERT_TRUE(ended_.has_value());
    EXPECT_EQ(ended_->code(), code);
    EXPECT_THAT(events_, IsEmpty());
  }
}

TEST_F(SimulatorTest, AWatchFromTheForgottenPastEndsWithOutOfRange) {
  world_.simulator.AddNamespace("shop");
  world_.store().ExpireHistory();
  const Call watch = api_->Watch(
      {Kind::kLease, "", "", ""}, "1", [this](WatchEvent) { events_.push_back("event"); },
      [this](absl::Status status) { ended_ = status; });
  world_.Settle();
  ASSERT_TRUE(ended_.has_value());
  EXPECT_THAT(*ended_, StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(events_, IsEmpty());
}

TEST_F(SimulatorTest, ACallbackMayEndItsWatch) {
  std::optional<Call> watch;
  watch = api_->Watch(
      {Kind::kLease, "", "", ""}, std::to_string(world_.store().resource_version()),
      [&](WatchEvent event) {
        if (event.type == WatchEvent::kBookmark) return;
        events_.push_back("event");
        watch.reset();
      },
      [](absl::Status) {});
  const Call a = CreateLease("a"), b = CreateLease("b");
  world_.Settle();
  EXPECT_THAT(events_, ElementsAre("event"));
}

TEST_F(SimulatorTest, TheClockOffsetIsThatOfTheClientsClock) {
  EXPECT_EQ(api_->ClockOffset(), std::nullopt);
  const Call call = CreateLease("a");
  world_.Settle();
  EXPECT_EQ(api_->ClockOffset(), absl::ZeroDuration());
  world_.client_waiter.set_offset(absl::Hours(1));  // a step shows at once
  EXPECT_GE(*api_->ClockOffset(), absl::Hours(1) - absl::Seconds(1));
  EXPECT_LE(*api_->ClockOffset(), absl::Hours(1));
}

TEST_F(SimulatorTest, TheSameSeedMakesTheSameWorld) {
  World other({.store = {.bookmark_every = absl::InfiniteDuration()}});
  EXPECT_EQ(*other.store().JsonOf({Kind::kClaim, "default", "data-0"}),
            *world_.store().JsonOf({Kind::kClaim, "default", "data-0"}));
}

}  // namespace
}  // namespace snapkeeper
