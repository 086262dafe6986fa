#ifndef SNAPKEEPER_TESTS_COMMON_HTTP_LOOP_FIXTURE_H_
#define SNAPKEEPER_TESTS_COMMON_HTTP_LOOP_FIXTURE_H_

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "common/base/event_loop.h"
#include "common/http/curl_transport.h"

namespace snapkeeper {

// A real loop over a real transport; the test's thread is the loop's.
class LoopFixture : public ::testing::Test {
 protected:
  // Turns the loop until `condition` holds; fails the test where it does not within 20 s.
  void RunUntilTrue(const std::function<bool()>& condition) {
    const absl::Duration end = loop_.Elapsed() + absl::Seconds(20);
    while (!condition() && loop_.Elapsed() < end) {
      if (!loop_.Turn())
        transport_.Wait(std::min(absl::Milliseconds(20), loop_.NextTimer() - loop_.Elapsed()));
    }
    EXPECT_TRUE(condition()) << "nothing came of it within 20 s";
  }

  absl::StatusOr<HttpResponse> Fetch(HttpRequest request) {
    std::optional<absl::StatusOr<HttpResponse>> result;
    const Call call = transport_.Send(
        std::move(request), [&result](absl::StatusOr<HttpResponse> r) { result = std::move(r); });
    RunUntilTrue([&result] { return result.has_value(); });
    return result.value_or(absl::InternalError("no answer"));
  }
  absl::StatusOr<HttpResponse> Get(const std::string& url) { return Fetch({.url = url}); }

  CurlTransport transport_;
  EventLoop loop_{transport_};
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_COMMON_HTTP_LOOP_FIXTURE_H_
