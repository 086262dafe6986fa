#include "common/http/admin_port.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <vector>

#include "common/base/address.h"
#include "tests/common/http/loop_fixture.h"
#include "tests/common/http/raw_client.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using ::testing::HasSubstr;

class AdminPortTest : public LoopFixture {
 protected:
  void SetUp() override {
    auto port = AdminPort::Listen("127.0.0.1:0", loop_, metrics_, "1.2.3");
    ASSERT_THAT(port, IsOk());
    port_ = *std::move(port);
  }
  absl::StatusOr<HttpResponse> Get(const std::string& path) {
    return LoopFixture::Get("http://" + port_->address() + path);
  }

  Metrics metrics_{"1.2.3"};
  std::unique_ptr<AdminPort> port_;
};

TEST_F(AdminPortTest, ServesMetricsWithTheStateOfTheLoop) {
  int snapshots = 3;
  const Call collector = metrics_.AddCollector([this, &snapshots] {
    EXPECT_TRUE(loop_.InLoop());
    return std::vector<StateGauge>{
        {"snapkeeper_snapshots", "x", {}, {{{}, static_cast<double>(snapshots)}}}};
  });
  const auto response = Get("/metrics");
  ASSERT_THAT(response, IsOk());
  EXPECT_EQ(response->code, 200);
  EXPECT_EQ(response->headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(response->body, HasSubstr("\nsnapkeeper_snapshots 3\n"));
  snapshots = 4;
  EXPECT_THAT(Get("/metrics?name=x")->body, HasSubstr("\nsnapkeeper_snapshots 4\n"));
}

TEST_F(AdminPortTest, IsReadyOnceEveryCheckIsOkAndSaysWhichIsNot) {
  absl::Status clock = absl::FailedPreconditionError("the clock is 31s ahead of the API server's");
  absl::Status caches = absl::UnavailableError("claims are not listed yet");
  EXPECT_EQ(Get("/readyz")->code, 200);
  port_->AddReadyCheck("clock", [this, &clock] {
    EXPECT_TRUE(loop_.InLoop());
    return clock;
  });
  port_->AddReadyCheck("caches", [&caches] { return caches; });
  EXPECT_EQ(Get("/readyz")->code, 503);
  EXPECT_EQ(
      Get("/readyz")->body,
      "caches: claims are not listed yet\nclock: the clock is 31s ahead of the API server's\n");
  caches = absl::OkStatus();
  EXPECT_EQ(Get("/readyz")->body, "clock: the clock is 31s ahead of the API server's\n");
  clock = absl::OkStatus();
  const auto response = Get("/readyz");
  EXPECT_EQ(response->code, 200);
  EXPECT_EQ(response->body, "ok\n");
}

TEST_F(AdminPortTest, LivesVersionsAndRefusesTheRest) {
  EXPECT_EQ(Get("/livez")->code, 200);
  const auto version = Get("/version");
  EXPECT_EQ(version->body, "{\"version\":\"1.2.3\"}\n");
  EXPECT_EQ(version->headers.at("content-type"), "application/json");
  EXPECT_EQ(Get("/")->code, 404);
  EXPECT_EQ(Get("/metrics/x")->code, 404);
  EXPECT_EQ(Fetch({.method = "HEAD", .url = "http://" + port_->address() + "/livez"})->code, 200);
  const auto post =
      Fetch({.method = "POST", .url = "http://" + port_->address() + "/metrics", .body = "x"});
  EXPECT_EQ(post->code, 405);
  EXPECT_EQ(post->headers.at("allow"), "GET, HEAD");
}

TEST_F(AdminPortTest, SaysWhenItCannotListen) {
  EXPECT_THAT(AdminPort::Listen(port_->address(), loop_, metrics_, "1.2.3"),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(port_->address())));
}

// The port of another loop, which the test turns or leaves stuck.
class AdminPortOfAStuckLoopTest : public LoopFixture {
 protected:
  // A clock that the server's thread may read while the test sets it.
  class Clock : public Waiter {
   public:
    absl::Time Now() const override { return absl::UnixEpoch() + Elapsed(); }
    absl::Duration Elapsed() const override { return absl::Seconds(seconds.load()); }
    void Wait(absl::Duration) override {}
    void Wake() override {}
    std::atomic<int> seconds = 0;
  };

  absl::StatusOr<HttpResponse> Get(const std::string& path) {
    return LoopFixture::Get("http://" + port_->address() + path);
  }

  Clock clock_;
  EventLoop stuck_{clock_};
  Metrics metrics_{"1.2.3"};
  std::unique_ptr<AdminPort> port_ =
      *AdminPort::Listen("127.0.0.1:0", stuck_, metrics_, "1.2.3", absl::Seconds(15));
};

TEST_F(AdminPortOfAStuckLoopTest, IsAliveUntilTheLoopHasNotTurnedForAWhile) {
  clock_.seconds = 14;
  EXPECT_EQ(Get("/livez")->code, 200);
  clock_.seconds = 15;
  EXPECT_EQ(Get("/livez")->code, 503);
  stuck_.Turn();  // the heartbeat
  EXPECT_EQ(Get("/livez")->code, 200);
}

TEST_F(AdminPortOfAStuckLoopTest, IsAliveAfterAFreezeIfTheLoopAnswers) {
  clock_.seconds = 1000;
  std::optional<absl::StatusOr<HttpResponse>> result;
  const Call call = transport_.Send({.url = "http://" + port_->address() + "/livez"},
                                    [&result](auto r) { result = std::move(r); });
  RunUntilTrue([this, &result] {
    if (!result) stuck_.Turn();
    return result.has_value();
  });
  EXPECT_EQ((*result)->code, 200);
}

TEST_F(AdminPortOfAStuckLoopTest, GivesUpOnItAfterASecondButStillTellsTheVersion) {
  for (const char* path : {"/readyz", "/metrics"}) {
    const auto response = Get(path);
    EXPECT_EQ(response->code, 503);
    EXPECT_EQ(response->body, "loop: no answer within 1s\n");
  }
  EXPECT_EQ(Get("/version")->code, 200);
}

TEST_F(AdminPortOfAStuckLoopTest, QuestionsThatComeAfterItsEndDoNothing) {
  port_->AddReadyCheck("never", [] {
    ADD_FAILURE() << "called after the end";
    return absl::OkStatus();
  });
  EXPECT_EQ(Get("/readyz")->code, 503);
  port_.reset();
  stuck_.Turn();
}

TEST_F(AdminPortTest, AnswersHoweverManyConnectionsAskNothing) {
  std::vector<std::unique_ptr<RawClient>> idle;
  for (int i = 0; i < 200; ++i) {
    idle.push_back(std::make_unique<RawClient>(ParseHostPort(port_->address())->port));
    if (i % 2 == 0) idle.back()->Write("GET /livez HT");
  }
  EXPECT_THAT(Get("/livez"), IsOk());
  EXPECT_THAT(Get("/metrics"), IsOk());
}

TEST_F(AdminPortTest, TakesNoLargeBodies) {
  const auto post = Fetch({.method = "POST",
                           .url = "http://" + port_->address() + "/metrics",
                           .body = std::string(1 << 20, 'x')});
  ASSERT_THAT(post, IsOk());
  EXPECT_EQ(post->code, 413);
}

}  // namespace
}  // namespace snapkeeper
