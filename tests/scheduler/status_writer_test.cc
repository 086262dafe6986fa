#include "scheduler/status_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "common/model/reason.h"
#include "tests/support/sim_waiter.h"

namespace snapkeeper {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Notes the patches and reads; the test answers them. Nothing else is asked here.
class Patches : public KubeApi {
 public:
  Call Get(const ObjectKey&, Done done) override {
    read.push_back(std::move(done));
    return Call();
  }
  Call List(const ListQuery&, Listed) override { return Call(); }
  Call Watch(const ListQuery&, const std::string&, OnEvent, Ended) override { return Call(); }
  Call Create(Kind, nlohmann::json, Done) override { return Call(); }
  Call Delete(const ObjectKey&, const Preconditions&,
              absl::AnyInvocable<void(absl::Status)>) override {
    return Call();
  }
  Call Patch(const ObjectKey&, nlohmann::json patch, bool, Done done) override {
    versions.push_back(patch["metadata"]["resourceVersion"]);
    sent.push_back(std::move(done));
    return Call();
  }
  std::optional<absl::Duration> ClockOffset() const override { return absl::ZeroDuration(); }

  std::vector<Done> sent, read;
  std::vector<std::string> versions;  // that the patches were based on
};

class StatusWriterTest : public testing::Test {
 protected:
  Policy ThePolicy(const std::string& uid, const std::string& version = "5") {
    Policy policy;
    policy.meta.ns = "shop";
    policy.meta.name = policy.meta.uid = uid;
    policy.meta.resource_version = version;
    return policy;
  }
  ObjectPtr Answer(const std::string& uid, const std::string& version) {
    return std::make_shared<const Object>(ThePolicy(uid, version));
  }
  void Dirty(const std::string& uid) { writer_.Request(uid, absl::ZeroDuration()); }
  void Run(absl::Duration time) { RunFor(clock_, {&loop_}, time); }

  SimClock clock_;
  SimWaiter waiter_{clock_};
  EventLoop loop_{waiter_};
  Rng rng_{1};
  NullLog log_;
  Patches api_;
  bool posting_ = false;
  std::vector<std::string> stale_;  // versions
  StatusWriter writer_{
      loop_,
      api_,
      rng_,
      log_,
      {.status = [](const std::string&) { return PolicyStatus(); },
       .written = [](const std::string&, const PolicyStatus&) {},
       .stale = [this](const Policy& policy) { stale_.push_back(policy.meta.resource_version); },
       .posting = [this] { return posting_; }}};
};

TEST_F(StatusWriterTest, ANewRequestDoesNotShortenTheServersRetryAfter) {
  writer_.Seen(ThePolicy("a"));
  Dirty("a");
  Run(absl::Milliseconds(1));
  ASSERT_THAT(api_.sent, SizeIs(1));
  api_.sent[0](WithRetryAfter(absl::ResourceExhaustedError("later"), absl::Seconds(5)));
  Dirty("a");
  Run(absl::Milliseconds(4999));
  EXPECT_THAT(api_.sent, SizeIs(1));
  Run(absl::Milliseconds(501));
  EXPECT_THAT(api_.sent, SizeIs(2));
}

TEST_F(StatusWriterTest, PoliciesThatGoWhileTheyAreWrittenMakeRoomForOthers) {
  for (int i = 0; i < 20; ++i) {
    const std::string uid = "gone-" + std::to_string(i);
    writer_.Seen(ThePolicy(uid));
    Dirty(uid);
    Run(absl::Milliseconds(1));
    EXPECT_THAT(api_.sent, SizeIs(i + 1));
    writer_.Forget(uid);
  }
}

TEST_F(StatusWriterTest, AWriteYieldsToPostsForNoMoreThanTenSeconds) {
  writer_.Seen(ThePolicy("a"));
  posting_ = true;
  Dirty("a");
  Run(absl::Milliseconds(9900));
  EXPECT_THAT(api_.sent, IsEmpty());
  Run(absl::Milliseconds(400));
  EXPECT_THAT(api_.sent, SizeIs(1));
  writer_.Seen(ThePolicy("b"));
  Dirty("b");
  Run(absl::Seconds(1));
  EXPECT_THAT(api_.sent, SizeIs(1));
  posting_ = false;
  Run(absl::Milliseconds(200));
  EXPECT_THAT(api_.sent, SizeIs(2));
}

TEST_F(StatusWriterTest, EightPoliciesAreWrittenAtOnceAndOneOnceASecond) {
  for (int i = 0; i < 10; ++i) {
    const std::string uid = "policy-" + std::to_string(i);
    writer_.Seen(ThePolicy(uid));
    Dirty(uid);
  }
  Run(absl::Milliseconds(300));
  EXPECT_THAT(api_.sent, SizeIs(8));
  api_.sent[0](Answer("policy-0", "6"));
  Dirty("policy-0");
  Run(absl::Milliseconds(300));
  EXPECT_THAT(api_.sent, SizeIs(9));
  for (int i = 1; i < 9; ++i) api_.sent[i](Answer("policy-" + std::to_string(i), "6"));
  Run(absl::Milliseconds(300));
  EXPECT_THAT(api_.sent, SizeIs(10));
  Run(absl::Milliseconds(300));
  EXPECT_THAT(api_.sent, SizeIs(11));
}

TEST_F(StatusWriterTest, AWriteIsBasedOnTheNewestVersionThoughOlderOnesComeBy) {
  writer_.Seen(ThePolicy("a", "5"));
  Dirty("a");
  Run(absl::Milliseconds(1));
  api_.sent[0](Answer("a", "7"));
  writer_.Seen(ThePolicy("a", "6"));  // what the cache shows lags
  Dirty("a");
  Run(absl::Seconds(1));
  api_.sent[1](Answer("a", "8"));
  writer_.Seen(ThePolicy("a", "7"));
  writer_.Seen(ThePolicy("a", "8"));
  writer_.Seen(ThePolicy("a", "9"));
  Dirty("a");
  Run(absl::Seconds(1));
  EXPECT_THAT(api_.versions, ElementsAre("5", "7", "9"));
}

TEST_F(StatusWriterTest, AStaleWriteIsReadAgainToldAndWrittenAnew) {
  writer_.Seen(ThePolicy("a"));
  Dirty("a");
  Run(absl::Milliseconds(1));
  api_.sent[0](absl::AbortedError("conflict"));
  ASSERT_THAT(api_.read, SizeIs(1));
  api_.read[0](Answer("a", "6"));
  EXPECT_THAT(stale_, ElementsAre("6"));
  Run(absl::Milliseconds(1));
  EXPECT_THAT(api_.versions, ElementsAre("5", "6"));
}

TEST_F(StatusWriterTest, APolicyMadeAnewUnderTheNameDoesNotGetTheOldOnesStatus) {
  writer_.Seen(ThePolicy("a"));
  Dirty("a");
  Run(absl::Milliseconds(1));
  api_.sent[0](absl::AbortedError("conflict"));
  ASSERT_THAT(api_.read, SizeIs(1));
  api_.read[0](Answer("another", "6"));
  Run(absl::Minutes(1));
  EXPECT_THAT(stale_, IsEmpty());
  EXPECT_THAT(api_.sent, SizeIs(1));
}

}  // namespace
}  // namespace snapkeeper
