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

using ::testing::SizeIs;

// Notes the patches; the test answers them. Nothing else is asked here.
class Patches : public KubeApi {
 public:
  Call Get(const ObjectKey&, Done) override { return Call(); }
  Call List(const ListQuery&, Listed) override { return Call(); }
  Call Watch(const ListQuery&, const std::string&, OnEvent, Ended) override { return Call(); }
  Call Create(Kind, const nlohmann::json&, Done) override { return Call(); }
  Call Delete(const ObjectKey&, const Preconditions&,
              absl::AnyInvocable<void(absl::Status)>) override {
    return Call();
  }
  Call Patch(const ObjectKey&, const nlohmann::json&, bool, Done done) override {
    sent.push_back(std::move(done));
    return Call();
  }
  std::optional<absl::Duration> ClockOffset() const override { return absl::ZeroDuration(); }

  std::vector<Done> sent;
};

class NoLog : public Log {
  void Write(LogLevel, std::string_view, std::initializer_list<LogField>) override {}
};

class StatusWriterTest : public testing::Test {
 protected:
  Policy ThePolicy(const std::string& uid) {
    Policy policy;
    policy.meta.ns = "shop";
    policy.meta.name = policy.meta.uid = uid;
    policy.meta.resource_version = "5";
    return policy;
  }
  void Dirty(const std::string& uid) { writer_.Request(uid, absl::ZeroDuration()); }
  void Run(absl::Duration time) { RunFor(clock_, {&loop_}, time); }

  SimClock clock_;
  SimWaiter waiter_{clock_};
  EventLoop loop_{waiter_};
  Rng rng_{1};
  NoLog log_;
  Patches api_;
  StatusWriter writer_{loop_,
                       api_,
                       rng_,
                       log_,
                       {.status = [](const std::string&) { return PolicyStatus(); },
                        .written = [](const std::string&, const PolicyStatus&) {},
                        .stale = [](const Policy&) {},
                        .posting = [] { return false; }}};
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

}  // namespace
}  // namespace snapkeeper
