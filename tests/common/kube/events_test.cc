#include "common/kube/events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/sim_waiter.h"

namespace snapkeeper {
namespace {

using nlohmann::json;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class CreatingApi : public KubeApi {
 public:
  Call Create(Kind kind, json body, Done done) override {
    EXPECT_EQ(kind, Kind::kEvent);
    created.push_back(std::move(body));
    pending.push_back(std::move(done));
    return Call();
  }
  Call List(const ListQuery&, Listed) override { return Call(); }
  Call Watch(const ListQuery&, const std::string&, OnEvent, Ended) override { return Call(); }
  Call Get(const ObjectKey&, Done) override { return Call(); }
  Call Delete(const ObjectKey&, const Preconditions&,
              absl::AnyInvocable<void(absl::Status)>) override {
    return Call();
  }
  Call Patch(const ObjectKey&, json, bool, Done) override { return Call(); }
  std::optional<absl::Duration> ClockOffset() const override { return std::nullopt; }

  void Answer(absl::StatusOr<ObjectPtr> result) {
    ASSERT_FALSE(pending.empty());
    Done done = std::move(pending.back());
    pending.pop_back();
    done(std::move(result));
  }
  void AnswerAll() {
    while (!pending.empty()) Answer(ObjectPtr());
  }

  std::vector<json> created;
  std::vector<Done> pending;
};

class EventRecorderTest : public testing::Test {
 protected:
  ObjectMeta About(const std::string& name) {
    ObjectMeta meta;
    meta.ns = "shop";
    meta.name = name;
    meta.uid = "uid-" + name;
    return meta;
  }
  void Record(const std::string& name, const std::string& message = "m",
              const std::string& reason = "NotReadyInTime") {
    events_.Record(Kind::kClaim, About(name), EventType::kWarning, reason, message);
  }

  // What waits is sent, and what is sent is answered.
  void SendAll() {
    RunFor(clock_, {&loop_}, absl::Seconds(1));
    api_.AnswerAll();
  }

  SimClock clock_;
  SimWaiter waiter_{clock_};
  EventLoop loop_{waiter_};
  NullLog log_;
  CreatingApi api_;
  EventRecorder events_{loop_, api_, log_, "snapkeeper-scheduler", "host-1"};
};

TEST_F(EventRecorderTest, WritesWhatDescribeShows) {
  Record("data-0", "why");
  EXPECT_FALSE(events_.idle());
  SendAll();
  EXPECT_TRUE(events_.idle());
  ASSERT_THAT(api_.created, SizeIs(1));
  json event = api_.created[0];
  const std::string name = event["metadata"]["name"];
  EXPECT_TRUE(name.starts_with("data-0.")) << name;
  event["metadata"].erase("name");
  EXPECT_EQ(event, json::parse(R"({
    "apiVersion": "v1", "kind": "Event",
    "metadata": {"namespace": "shop"},
    "involvedObject": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "shop",
                       "name": "data-0", "uid": "uid-data-0"},
    "type": "Warning", "reason": "NotReadyInTime", "message": "why",
    "source": {"component": "snapkeeper-scheduler"},
    "reportingComponent": "snapkeeper-scheduler", "reportingInstance": "host-1",
    "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "count": 1
  })"));
}

TEST_F(EventRecorderTest, PutsEventsOfClusterScopedObjectsIntoDefault) {
  ObjectMeta about = About("cls");
  about.ns.clear();
  events_.Record(Kind::kSnapshotClass, about, EventType::kNormal, "R", "m");
  SendAll();
  EXPECT_EQ(api_.created.at(0)["metadata"]["namespace"], "default");
  EXPECT_EQ(api_.created.at(0)["involvedObject"]["namespace"], "");
  EXPECT_EQ(api_.created.at(0)["type"], "Normal");
}

TEST_F(EventRecorderTest, NamesAreUniqueAndValidHoweverLongTheObjectsName) {
  for (const std::string& name :
       {std::string(253, 'a'), std::string(236, 'a') + "-b", std::string("a")}) {
    for (const char* message : {"1", "2"}) {
      Record(name, message);
      SendAll();
    }
  }
  std::vector<std::string> names;
  for (const json& event : api_.created) {
    const std::string name = event["metadata"]["name"];
    EXPECT_LE(name.size(), 253u);
    EXPECT_THAT(name, testing::MatchesRegex("[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]+)"));
    EXPECT_THAT(names, testing::Not(testing::Contains(name)));
    names.push_back(name);
  }
  EXPECT_THAT(names, SizeIs(6));
}

TEST_F(EventRecorderTest, CutsLongMessagesBetweenCharacters) {
  std::string message;
  for (int i = 0; i < 600; ++i) message += "é";
  Record("a", message);
  SendAll();
  const std::string written = api_.created.at(0)["message"];
  EXPECT_LE(written.size(), 1024u);
  EXPECT_GE(written.size(), 1020u);
  EXPECT_NO_THROW(api_.created[0].dump());
}

TEST_F(EventRecorderTest, GivesWayToWhatHappensBesides) {
  Record("a");
  RunFor(clock_, {&loop_}, absl::Milliseconds(999));
  EXPECT_THAT(api_.created, IsEmpty());
  Record("b");
  RunFor(clock_, {&loop_}, absl::Milliseconds(1));
  EXPECT_THAT(api_.created, SizeIs(1));
  api_.AnswerAll();
  EXPECT_THAT(api_.created, SizeIs(2));
}

TEST_F(EventRecorderTest, DoesNotRepeatItselfWithinTenMinutes) {
  for (int i = 0; i < 5; ++i) Record("a");
  SendAll();
  EXPECT_THAT(api_.created, SizeIs(1));
  Record("b");
  Record("a", "another message");
  Record("a", "m", "Forbidden");
  SendAll();
  EXPECT_THAT(api_.created, SizeIs(4));
  clock_.Advance(absl::Minutes(10) - absl::Seconds(3));
  Record("a");
  SendAll();
  EXPECT_THAT(api_.created, SizeIs(4));
  Record("a");
  SendAll();
  EXPECT_THAT(api_.created, SizeIs(5));
}

TEST_F(EventRecorderTest, LimitsWhatOneObjectMaySay) {
  auto burst = [this](const std::string& prefix) {
    const size_t before = api_.created.size();
    for (int i = 0; i < 100; ++i) Record("a", prefix + std::to_string(i));
    SendAll();
    return api_.created.size() - before;
  };
  EXPECT_EQ(burst("first "), 25u);
  clock_.Advance(absl::Minutes(3));
  EXPECT_EQ(burst("second "), 3u);
  clock_.Advance(absl::Hours(24));
  EXPECT_EQ(burst("third "), 25u);
  Record("b");  // others are not affected
  SendAll();
  EXPECT_EQ(api_.created.back()["involvedObject"]["name"], "b");
}

TEST_F(EventRecorderTest, SendsOneAfterTheOtherAndGoesOnAfterAnError) {
  Record("a");
  Record("b");
  Record("c");
  RunFor(clock_, {&loop_}, absl::Seconds(1));
  EXPECT_THAT(api_.created, SizeIs(1));
  api_.Answer(absl::PermissionDeniedError("namespace terminating"));
  EXPECT_THAT(api_.created, SizeIs(2));
  api_.Answer(ObjectPtr());
  EXPECT_THAT(api_.created, SizeIs(3));
  api_.Answer(ObjectPtr());
  EXPECT_EQ(events_.lost(), 1);
}

TEST_F(EventRecorderTest, DropsWhatPilesUp) {
  for (int i = 0; i < 3000; ++i) Record("x" + std::to_string(i));
  EXPECT_EQ(events_.lost(), 3000 - 1000);
  SendAll();
  EXPECT_THAT(api_.created, SizeIs(1000));
}

TEST_F(EventRecorderTest, RemembersNoMoreThanItNeeds) {
  for (int i = 0; i < 20'000; ++i) {
    Record("x" + std::to_string(i));
    SendAll();
  }
  EXPECT_THAT(api_.created, SizeIs(20'000));
}

}  // namespace
}  // namespace snapkeeper
