#include "common/http/curl_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <latch>
#include <mutex>
#include <semaphore>
#include <thread>

#include "common/http/server.h"
#include "tests/common/http/loop_fixture.h"
#include "tests/common/http/raw_server.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using absl::StatusCode;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class CurlTransportTest : public LoopFixture {
 protected:
  // A well-behaved server: answers with what it was sent.
  static void Echo(RawConnection& connection) {
    for (std::string request; !(request = connection.ReadRequest()).empty();)
      connection.Answer(request);
  }
};

TEST_F(CurlTransportTest, SendsMethodPathHeadersAndBody) {
  RawServer server(Echo);
  for (const char* method : {"POST", "PUT", "PATCH", "DELETE"}) {
    const auto response =
        Fetch({.method = method,
               .url = server.url("/apis/x?limit=5&a=%20b"),
               .headers = {"Content-Type: application/json", "Authorization: Bearer t"},
               .body = "{\"a\":1}"});
    ASSERT_THAT(response, IsOk());
    EXPECT_EQ(response->code, 200);
    EXPECT_THAT(response->body,
                AllOf(StartsWith(std::string(method) + " /apis/x?limit=5&a=%20b HTTP/1.1\r\n"),
                      HasSubstr("\r\nHost: " + server.host_port() + "\r\n"),
                      HasSubstr("Content-Type: application/json\r\n"),
                      HasSubstr("Authorization: Bearer t\r\n"), HasSubstr("Content-Length: 7\r\n"),
                      EndsWith("\r\n\r\n{\"a\":1}"), Not(HasSubstr("Expect")),
                      Not(HasSubstr("Accept-Encoding"))));
  }
}

TEST_F(CurlTransportTest, SendsNoBodyWhereThereIsNone) {
  RawServer server(Echo);
  EXPECT_THAT(Get(server.url())->body,
              AllOf(StartsWith("GET / HTTP/1.1\r\n"), Not(HasSubstr("Content-Length"))));
  EXPECT_THAT(Fetch({.method = "DELETE", .url = server.url()})->body,
              AllOf(StartsWith("DELETE / HTTP/1.1\r\n"), Not(HasSubstr("Content-Length"))));
  EXPECT_THAT(Fetch({.method = "POST", .url = server.url()})->body,
              AllOf(StartsWith("POST / HTTP/1.1\r\n"), HasSubstr("Content-Length: 0\r\n")));
}

TEST_F(CurlTransportTest, SendsALargeBodyWithoutAskingFirst) {
  RawServer server([](RawConnection& connection) {
    const std::string request = connection.ReadRequest();
    connection.Answer(request.find("Expect:") == request.npos ? std::to_string(request.size())
                                                              : "asked");
  });
  const auto response =
      Fetch({.method = "POST", .url = server.url(), .body = std::string(2 << 20, 'x')});
  ASSERT_THAT(response, IsOk());
  EXPECT_GT(std::stoi(response->body), 2 << 20);
}

TEST_F(CurlTransportTest, GivesTheAnswerWhateverItsCode) {
  RawServer server([](RawConnection& connection) {
    connection.ReadRequest();
    connection.Write(
        "HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n"
        "HTTP/1.1 429 Too Many Requests\r\nRETRY-After:  7 \r\nWarning: a\r\nWarning: "
        "b\r\nEmpty:\r\n"
        "Content-Length: 4\r\n\r\nslow");
    connection.ReadToEnd();
  });
  const auto response = Get(server.url());
  ASSERT_THAT(response, IsOk());
  EXPECT_EQ(response->code, 429);
  EXPECT_EQ(response->body, "slow");
  const std::map<std::string, std::string> headers = {
      {"content-length", "4"}, {"empty", ""}, {"retry-after", "7"}, {"warning", "a, b"}};
  EXPECT_EQ(response->headers, headers);
}

TEST_F(CurlTransportTest, AnswersHeadWithoutABody) {
  RawServer server([](RawConnection& connection) {
    while (!connection.ReadRequest().empty())
      connection.Write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
  });
  const auto response = Fetch({.method = "HEAD", .url = server.url()});
  ASSERT_THAT(response, IsOk());
  EXPECT_EQ(response->body, "");
  EXPECT_THAT(Fetch({.method = "HEAD", .url = server.url()}), IsOk());
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(CurlTransportTest, DoesNotFollowRedirects) {
  RawServer server([](RawConnection& connection) {
    connection.ReadRequest();
    connection.Write("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n");
    connection.ReadToEnd();
  });
  EXPECT_EQ(Get(server.url())->code, 302);
}

TEST_F(CurlTransportTest, ReusesItsConnection) {
  RawServer server(Echo);
  for (int i = 0; i < 5; ++i)
    EXPECT_THAT(Fetch({.method = "POST", .url = server.url(), .body = "x"}), IsOk());
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(CurlTransportTest, KeepsReusingWhileManyStreamsAreOpen) {
  RawServer server([](RawConnection& connection) {
    const std::string request = connection.ReadRequest();
    if (request.find("GET /watch") == 0) {
      connection.Write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
      return connection.ReadToEnd();
    }
    connection.Answer(request);
    Echo(connection);
  });
  constexpr int kStreams = 100;
  int begun = 0;
  std::vector<Call> streams;
  for (int i = 0; i < kStreams; ++i) {
    streams.push_back(transport_.Send(
        {.url = server.url("/watch"), .deadline = absl::InfiniteDuration()},
        [&begun](std::string_view) { ++begun; }, [](auto) {}));
  }
  RunUntilTrue([&begun] { return begun == kStreams; });
  for (int i = 0; i < 5; ++i) EXPECT_THAT(Get(server.url()), IsOk());
  EXPECT_EQ(server.connections(), kStreams + 1);
}

TEST_F(CurlTransportTest, QueuesBeyondItsLimitInOrder) {
  for (const int limit : {1, 2}) {
    CurlTransport narrow(static_cast<size_t>(limit));
    RawServer server(Echo);
    std::vector<Call> calls;
    std::vector<int> done;
    for (int i = 0; i < 20; ++i) {
      calls.push_back(narrow.Send({.url = server.url("/" + std::to_string(i))}, [&done, i](auto r) {
        EXPECT_THAT(r, IsOk());
        done.push_back(i);
      }));
    }
    while (done.size() < 20) narrow.Wait(absl::Seconds(20));
    EXPECT_EQ(server.connections(), limit);
    // Two connections may overtake each other; one cannot.
    EXPECT_TRUE(limit > 1 || std::is_sorted(done.begin(), done.end()));
  }
}

TEST_F(CurlTransportTest, CancellingAQueuedOrBegunRequestLetsTheNextOneBegin) {
  CurlTransport narrow(1);
  std::latch arrived{1};
  RawServer server([&arrived](RawConnection& connection) {
    const std::string request = connection.ReadRequest();
    if (request.find("GET /stuck") != 0) {
      connection.Answer("ok");
    } else {
      arrived.count_down();
    }
    connection.ReadToEnd();
  });
  bool done = false;
  auto fail = [](auto) { ADD_FAILURE() << "called though cancelled"; };
  Call stuck = narrow.Send({.url = server.url("/stuck")}, fail);
  Call queued = narrow.Send({.url = server.url("/queued")}, fail);
  const Call last = narrow.Send({.url = server.url("/last")}, [&done](auto r) {
    EXPECT_THAT(r, IsOk());
    done = true;
  });
  while (!arrived.try_wait()) narrow.Wait(absl::Milliseconds(1));
  queued = Call();
  stuck = Call();
  while (!done) narrow.Wait(absl::Seconds(20));
  EXPECT_EQ(server.connections(), 2);
}

// --- What goes wrong.

TEST_F(CurlTransportTest, ARefusedConnectionIsUnavailableAndNamesTheServer) {
  int port;
  { port = RawServer(Echo).port(); }
  EXPECT_THAT(Get("http://user:secret@127.0.0.1:" + std::to_string(port) + "/api"),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(StartsWith("http://127.0.0.1:" + std::to_string(port) + ": "),
                             HasSubstr("connect"), Not(HasSubstr("secret")))));
}

TEST_F(CurlTransportTest, WhatIsNotAnHttpUrlIsAnInvalidArgument) {
  for (const char* url : {"", "ftp://127.0.0.1/", "file:///etc/passwd", "http://",
                          "http://127.0.0.1:99999/", "/path"}) {
    EXPECT_THAT(Get(url), StatusIs(StatusCode::kInvalidArgument)) << url;
  }
}

TEST_F(CurlTransportTest, NeverCallsDoneFromWithinSend) {
  bool sending = true, done = false;
  const Call call = transport_.Send({.url = "http://"}, [&sending, &done](auto) {
    EXPECT_FALSE(sending);
    done = true;
  });
  sending = false;
  RunUntilTrue([&done] { return done; });
}

TEST_F(CurlTransportTest, BrokenAnswersAreUnavailable) {
  const char* cases[] = {
      "",                                                         // closed without a word
      "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",  // closed within the body
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",  // closed before the
                                                                              // last chunk
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
      "HTTP/1.1 200 OK\r\nContent-Le",
      "HTTP/1.1 200 OK\r\n",
      "HTTP/1.1 100 Continue\r\n\r\n",
      "HTTP/1.1 xyz OK\r\n\r\n",
      "SSH-2.0-OpenSSH_9.2\r\n",
  };
  for (const char* answer : cases) {
    RawServer server([answer](RawConnection& connection) {
      connection.ReadRequest();
      connection.Write(answer);
    });
    EXPECT_THAT(Get(server.url()), StatusIs(StatusCode::kUnavailable,
                                            StartsWith("http://" + server.host_port() + ": ")))
        << answer;
    EXPECT_THAT(Fetch({.method = "POST", .url = server.url(), .body = "x"}),
                StatusIs(StatusCode::kUnavailable))
        << answer;
  }
}

TEST_F(CurlTransportTest, AnAnswerOfMoreThan64MiBIsRefused) {
  RawServer server([](RawConnection& connection) {
    connection.ReadRequest();
    connection.Write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    const std::string chunk = "100000\r\n" + std::string(1 << 20, 'x') + "\r\n";
    while (connection.Write(chunk)) {
    }
  });
  EXPECT_THAT(Get(server.url()), StatusIs(StatusCode::kDataLoss, HasSubstr("64 MiB")));
}

TEST_F(CurlTransportTest, TheDeadlineCoversTheWholeExchange) {
  // The first never answers; the second does not end.
  for (const char* answer : {"", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"}) {
    RawServer server([answer](RawConnection& connection) {
      connection.ReadRequest();
      connection.Write(answer);
      connection.ReadToEnd();
    });
    const absl::Duration start = transport_.Elapsed();
    EXPECT_THAT(Fetch({.url = server.url(), .deadline = absl::Milliseconds(50)}),
                StatusIs(StatusCode::kDeadlineExceeded,
                         AllOf(HasSubstr(server.host_port()), HasSubstr("50ms"))));
    EXPECT_GE(transport_.Elapsed() - start, absl::Milliseconds(50));
  }
}

TEST_F(CurlTransportTest, TheDeadlineRunsWhileARequestIsQueued) {
  CurlTransport narrow(1);
  RawServer server([](RawConnection& connection) { connection.ReadToEnd(); });
  const Call stuck = narrow.Send({.url = server.url()}, [](auto) {});
  bool done = false;
  const Call queued =
      narrow.Send({.url = server.url(), .deadline = absl::Milliseconds(20)}, [&done](auto r) {
        EXPECT_THAT(
            r, StatusIs(StatusCode::kDeadlineExceeded, HasSubstr("waiting for a free connection")));
        done = true;
      });
  while (!done) narrow.Wait(absl::Seconds(20));
}

TEST_F(CurlTransportTest, AnAnswerThatCameWhileTheProcessWasFrozenCounts) {
  std::latch asked{1}, answered{1};
  RawServer server([&asked, &answered](RawConnection& connection) {
    connection.ReadRequest();
    asked.count_down();
    connection.Answer("in time");
    answered.count_down();
    connection.ReadToEnd();
  });
  std::optional<absl::StatusOr<HttpResponse>> result;
  const absl::Duration deadline = absl::Milliseconds(200);
  const absl::Duration start = transport_.Elapsed();
  const Call call = transport_.Send({.url = server.url(), .deadline = deadline},
                                    [&result](auto r) { result = std::move(r); });
  while (!asked.try_wait()) transport_.Wait(absl::ZeroDuration());
  answered.wait();
  while (transport_.Elapsed() < start + 2 * deadline) {
  }
  RunUntilTrue([&result] { return result.has_value(); });
  ASSERT_THAT(*result, IsOk());
  EXPECT_EQ((*result)->body, "in time");
}

// --- Never twice, unless it is harmless.

// Answers the first request of the first connection; then takes the second one and closes without a
// byte.
class DyingConnection {
 public:
  void operator()(RawConnection& connection) {
    for (int i = 1;; ++i) {
      const std::string request = connection.ReadRequest();
      if (request.empty()) return;
      const std::lock_guard lock(mutex_);
      seen_.push_back(std::to_string(connection.number()) + " " +
                      request.substr(0, request.find(' ')));
      if (connection.number() == 1 && i == 2) return;
      connection.Answer("ok");
    }
  }
  std::vector<std::string> seen() {
    const std::lock_guard lock(mutex_);
    return seen_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> seen_;
};

TEST_F(CurlTransportTest, DoesNotRepeatAWriteWhenTheConnectionDies) {
  for (const char* method : {"POST", "PATCH", "PUT", "DELETE"}) {
    for (const char* body : {"", "{}"}) {
      DyingConnection script;
      RawServer server(std::ref(script));
      ASSERT_THAT(Get(server.url()), IsOk());
      EXPECT_THAT(Fetch({.method = method, .url = server.url(), .body = body}),
                  StatusIs(StatusCode::kUnavailable, HasSubstr("may or may not have acted")));
      EXPECT_THAT(Get(server.url()), IsOk());
      EXPECT_THAT(script.seen(),
                  ElementsAre("1 GET", std::string("1 ") + method, EndsWith(" GET")));
    }
  }
}

TEST_F(CurlTransportTest, RepeatsAGetOnAFreshConnection) {
  DyingConnection script;
  RawServer server(std::ref(script));
  ASSERT_THAT(Get(server.url()), IsOk());
  EXPECT_THAT(Get(server.url()), IsOk());
  EXPECT_THAT(script.seen(), ElementsAre("1 GET", "1 GET", "2 GET"));
}

TEST_F(CurlTransportTest, AWriteAfterTheServerHasClosedAnIdleConnectionGoesThrough) {
  RawServer server([](RawConnection& connection) {
    connection.Answer(connection.ReadRequest());
    if (connection.number() > 1) connection.ReadToEnd();
  });
  ASSERT_THAT(Get(server.url()), IsOk());
  // The closing is on its way: libcurl looks at an idle connection before it reuses it. One that is
  // not seen yet is the case above.
  bool ok = false;
  for (int i = 0; i < 100 && !ok; ++i)
    ok = Fetch({.method = "POST", .url = server.url(), .body = "x"}).ok();
  EXPECT_TRUE(ok);
}

// --- Streams.

TEST_F(CurlTransportTest, HandsAStreamOverAsItComes) {
  std::latch first_seen{1};
  RawServer server([&first_seen](RawConnection& connection) {
    connection.ReadRequest();
    connection.Write(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n5\r\nhello\r\n");
    first_seen.wait();
    connection.Write("6\r\n world\r\n0\r\n\r\n");
    connection.ReadToEnd();
  });
  std::vector<std::string> pieces;
  std::optional<absl::StatusOr<HttpResponse>> result;
  const Call call = transport_.Send(
      {.url = server.url(), .deadline = absl::InfiniteDuration()},
      [&pieces, &first_seen](std::string_view data) {
        pieces.emplace_back(data);
        if (pieces.size() == 1) first_seen.count_down();
      },
      [&result](auto r) { result = std::move(r); });
  RunUntilTrue([&result] { return result.has_value(); });
  EXPECT_THAT(pieces, ElementsAre("hello", " world"));
  ASSERT_THAT(*result, IsOk());
  EXPECT_EQ((*result)->code, 200);
  EXPECT_EQ((*result)->headers.at("x-a"), "b");
  EXPECT_EQ((*result)->body, "");
}

TEST_F(CurlTransportTest, TellsThatAStreamWasAcceptedBeforeItSaysAnything) {
  std::latch accepted{1};
  RawServer server([&accepted](RawConnection& connection) {
    connection.ReadRequest();
    connection.Write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    accepted.wait();
    connection.Write("5\r\nhello\r\n0\r\n\r\n");
    connection.ReadToEnd();
  });
  std::vector<std::string> pieces;
  std::optional<absl::StatusOr<HttpResponse>> result;
  const Call call = transport_.Send(
      {.url = server.url()},
      [&pieces, &accepted](std::string_view data) {
        pieces.emplace_back(data);
        if (pieces.size() == 1) accepted.count_down();
      },
      [&result](auto r) { result = std::move(r); });
  RunUntilTrue([&result] { return result.has_value(); });
  EXPECT_THAT(pieces, ElementsAre("", "hello"));
}

TEST_F(CurlTransportTest, CollectsTheBodyOfAStreamThatWasRefused) {
  RawServer server([](RawConnection& connection) {
    connection.ReadRequest();
    connection.Write("HTTP/1.1 410 Gone\r\nContent-Length: 7\r\n\r\nexpired");
    connection.ReadToEnd();
  });
  std::optional<absl::StatusOr<HttpResponse>> result;
  const Call call = transport_.Send(
      {.url = server.url()}, [](std::string_view) { ADD_FAILURE(); },
      [&result](auto r) { result = std::move(r); });
  RunUntilTrue([&result] { return result.has_value(); });
  ASSERT_THAT(*result, IsOk());
  EXPECT_EQ((*result)->code, 410);
  EXPECT_EQ((*result)->body, "expired");
}

TEST_F(CurlTransportTest, DeliversWhatCameBeforeAStreamBroke) {
  RawServer server([](RawConnection& connection) {
    connection.ReadRequest();
    connection.Write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
  });
  std::string data;
  std::optional<absl::StatusOr<HttpResponse>> result;
  const Call call = transport_.Send(
      {.url = server.url()}, [&data](std::string_view piece) { data += piece; },
      [&result](auto r) { result = std::move(r); });
  RunUntilTrue([&result] { return result.has_value(); });
  EXPECT_EQ(data, "hello");
  EXPECT_THAT(*result, StatusIs(StatusCode::kUnavailable));
}

TEST_F(CurlTransportTest, AStreamThatStallsEndsAfterItsIdleDeadline) {
  RawServer server([](RawConnection& connection) {
    connection.ReadRequest();
    connection.Write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    connection.ReadToEnd();
  });
  std::optional<absl::StatusOr<HttpResponse>> result;
  absl::Duration last_byte;
  const Call call = transport_.Send(
      {.url = server.url(),
       .deadline = absl::InfiniteDuration(),
       .idle_deadline = absl::Milliseconds(60)},
      [this, &last_byte](std::string_view) { last_byte = transport_.Elapsed(); },
      [&result](auto r) { result = std::move(r); });
  RunUntilTrue([&result] { return result.has_value(); });
  EXPECT_THAT(*result, StatusIs(StatusCode::kDeadlineExceeded, HasSubstr("no byte within 60ms")));
  EXPECT_GE(transport_.Elapsed() - last_byte, absl::Milliseconds(59));
}

TEST_F(CurlTransportTest, EachByteOfAStreamPutsItsIdleDeadlineOff) {
  constexpr absl::Duration kIdle = absl::Milliseconds(1000), kGap = absl::Milliseconds(300);
  std::counting_semaphore<> allowed{0};
  RawServer server([&allowed](RawConnection& connection) {
    connection.ReadRequest();
    connection.Write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 5; ++i) {
      allowed.acquire();
      connection.Write("1\r\nx\r\n");
    }
    connection.Write("0\r\n\r\n");
    connection.ReadToEnd();
  });
  Timer next;
  int sent = 0;
  std::function<void()> allow_one = [&] {
    allowed.release();
    if (++sent < 5) next = loop_.After(kGap, allow_one);
  };
  next = loop_.After(kGap, allow_one);
  std::optional<absl::StatusOr<HttpResponse>> result;
  const absl::Duration start = transport_.Elapsed();
  const Call call = transport_.Send(
      {.url = server.url(), .deadline = absl::InfiniteDuration(), .idle_deadline = kIdle},
      [](std::string_view) {}, [&result](auto r) { result = std::move(r); });
  RunUntilTrue([&result] { return result.has_value(); });
  EXPECT_THAT(*result, IsOk());
  EXPECT_GT(transport_.Elapsed() - start, kIdle);
}

// --- Cancelling.

TEST_F(CurlTransportTest, DestroyingTheCallEndsTheExchangeAndTheServerSeesIt) {
  std::latch asked{1}, gone{1};
  RawServer server([&asked, &gone](RawConnection& connection) {
    connection.ReadRequest();
    asked.count_down();
    connection.ReadToEnd();
    gone.count_down();
  });
  Call call = transport_.Send({.url = server.url()}, [](auto) { ADD_FAILURE(); });
  RunUntilTrue([&asked] { return asked.try_wait(); });
  call = Call();
  gone.wait();
  transport_.Wait(absl::ZeroDuration());
}

TEST_F(CurlTransportTest, ACallMayBeDestroyedFromWithinItsOwnCallbacks) {
  RawServer server([](RawConnection& connection) {
    connection.ReadRequest();
    connection.Write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    connection.ReadToEnd();
  });
  const auto held = std::make_shared<int>();
  bool from_done = false, from_data = false;
  Call by_done, by_data;
  by_done = transport_.Send({.url = server.url()}, [&by_done, &from_done, held](auto) {
    by_done = Call();
    from_done = held != nullptr;
  });
  by_data = transport_.Send(
      {.url = server.url()},
      [&by_data, &from_data, held](std::string_view) {
        by_data = Call();
        from_data = held != nullptr;
      },
      [held](auto) { ADD_FAILURE() << "called though cancelled"; });
  RunUntilTrue([&] { return from_done && from_data; });
  for (int i = 0; i < 3; ++i) transport_.Wait(absl::Milliseconds(1));
  EXPECT_EQ(held.use_count(), 1);
}

TEST_F(CurlTransportTest, ACallbackMayCancelAnotherCallAndSendANewOne) {
  RawServer server(Echo);
  Call first, second, third;
  int done = 0;
  bool ended = false;
  // Both answers may be there in the same turn; whichever comes first cancels the other.
  first = transport_.Send({.url = server.url()}, [&](auto) {
    second = Call();
    ++done;
    third = transport_.Send({.url = server.url()}, [&ended](auto) { ended = true; });
  });
  second = transport_.Send({.url = server.url()}, [&](auto) {
    first = Call();
    ++done;
    third = transport_.Send({.url = server.url()}, [&ended](auto) { ended = true; });
  });
  RunUntilTrue([&ended] { return ended; });
  EXPECT_EQ(done, 1);
}

TEST_F(CurlTransportTest, CallsMayOutliveTheTransport) {
  RawServer server([](RawConnection& connection) { connection.ReadToEnd(); });
  const auto held = std::make_shared<int>();
  auto transport = std::make_unique<CurlTransport>(1);
  std::vector<Call> calls;
  for (int i = 0; i < 3; ++i) {
    calls.push_back(transport->Send({.url = server.url()}, [held](auto) { ADD_FAILURE(); }));
  }
  // One that nobody but another one's callback holds.
  auto inner = std::make_shared<Call>(
      transport->Send({.url = server.url()}, [held](auto) { ADD_FAILURE(); }));
  calls.push_back(transport->Send({.url = server.url()}, [inner, held](auto) { ADD_FAILURE(); }));
  inner.reset();
  transport->Wait(absl::ZeroDuration());
  transport.reset();
  EXPECT_EQ(held.use_count(), 1);
}

// --- Waiting.

TEST_F(CurlTransportTest, WaitEndsSoonAfterItsTime) {
  // The least of several: a machine under load may be late, a wait that rounds up to milliseconds
  // always is.
  absl::Duration least_late = absl::InfiniteDuration();
  for (int i = 0; i < 30; ++i) {
    const absl::Duration due = transport_.Elapsed() + absl::Microseconds(2300);
    while (transport_.Elapsed() < due) transport_.Wait(due - transport_.Elapsed());
    least_late = std::min(least_late, transport_.Elapsed() - due);
  }
  EXPECT_LT(least_late, absl::Microseconds(400));
}

TEST_F(CurlTransportTest, WakeEndsTheWaitOfAnotherThreadOrTheNextOne) {
  transport_.Wake();
  transport_.Wait(absl::InfiniteDuration());
  std::thread thread([this] { transport_.Wake(); });
  transport_.Wait(absl::InfiniteDuration());
  thread.join();
}

TEST_F(CurlTransportTest, TasksPostedFromOtherThreadsReachTheLoop) {
  int left = 3000;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([this, &left] {
      for (int i = 0; i < 1000; ++i) {
        loop_.Post([this, &left] {
          if (--left == 0) loop_.Stop();
        });
      }
    });
  }
  loop_.Run();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(left, 0);
}

// --- Proxies.

TEST_F(CurlTransportTest, IgnoresTheProxiesOfTheEnvironment) {
  RawServer server(Echo);
  for (const char* name : {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"})
    setenv(name, "http://127.0.0.1:1", 1);
  EXPECT_THAT(Get(server.url()), IsOk());
  for (const char* name : {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"}) unsetenv(name);
}

TEST_F(CurlTransportTest, UsesTheProxyItIsGivenWhateverTheEnvironmentExempts) {
  RawServer proxy(Echo);
  setenv("no_proxy", "*", 1);
  const auto response =
      Fetch({.url = "http://kubernetes.example/api", .proxy = "http://" + proxy.host_port()});
  unsetenv("no_proxy");
  ASSERT_THAT(response, IsOk());
  EXPECT_THAT(
      response->body,
      StartsWith("GET http://kubernetes.example/api HTTP/1.1\r\nHost: kubernetes.example\r\n"));
}

// --- TLS.

class CurlTransportTlsTest : public CurlTransportTest {
 protected:
  absl::StatusOr<HttpResponse> GetTls(const std::string& url, TlsSettings tls) {
    return Fetch({.url = url, .tls = std::make_shared<const TlsSettings>(std::move(tls))});
  }
  static void TellPeer(RawConnection& connection) {
    while (!connection.ReadRequest().empty()) {
      connection.Answer(std::to_string(connection.number()) + " sni=" + connection.server_name() +
                        " client=" + connection.peer_name());
    }
  }

  const TestCert ca_ = MakeCert("ca", "");
  const TestCert other_ca_ = MakeCert("other ca", "");
  const RawServerTls local_ = {.cert = MakeCert("server", "IP:127.0.0.1", &ca_),
                               .client_ca_pem = ""};
};

TEST_F(CurlTransportTlsTest, TrustsTheAuthorityItIsGiven) {
  RawServer server(TellPeer, &local_);
  const auto response = GetTls(server.url(), {.ca_pem = ca_.cert_pem});
  ASSERT_THAT(response, IsOk());
  EXPECT_EQ(response->body, "1 sni= client=");
}

TEST_F(CurlTransportTlsTest, TakesABundleOfAuthorities) {
  RawServer server(TellPeer, &local_);
  EXPECT_THAT(GetTls(server.url(), {.ca_pem = other_ca_.cert_pem + ca_.cert_pem}), IsOk());
}

TEST_F(CurlTransportTlsTest, RefusesAServerOfAnotherAuthorityAndOfTheSystemsRoots) {
  RawServer server(TellPeer, &local_);
  const auto refused = StatusIs(StatusCode::kUnavailable,
                                AllOf(StartsWith(server.url("") + ": "), HasSubstr("certificate")));
  EXPECT_THAT(GetTls(server.url(), {.ca_pem = other_ca_.cert_pem}), refused);
  EXPECT_THAT(GetTls(server.url(), {}), refused);
  EXPECT_THAT(Get(server.url()), refused);
}

TEST_F(CurlTransportTlsTest, RefusesAServerOfAnotherName) {
  const RawServerTls elsewhere = {.cert = MakeCert("server", "DNS:elsewhere.example", &ca_),
                                  .client_ca_pem = ""};
  RawServer server(TellPeer, &elsewhere);
  EXPECT_THAT(GetTls(server.url(), {.ca_pem = ca_.cert_pem}),
              StatusIs(StatusCode::kUnavailable, HasSubstr("127.0.0.1")));
}

TEST_F(CurlTransportTlsTest, VerifiesAndAsksForTheServerNameInsteadOfTheHost) {
  const RawServerTls elsewhere = {.cert = MakeCert("server", "DNS:elsewhere.example", &ca_),
                                  .client_ca_pem = ""};
  RawServer server(
      [](RawConnection& connection) {
        for (std::string request; !(request = connection.ReadRequest()).empty();) {
          connection.Answer("sni=" + connection.server_name() + "\r\n" + request);
        }
      },
      &elsewhere);
  const auto response =
      GetTls(server.url("/a?b=c"), {.ca_pem = ca_.cert_pem, .server_name = "elsewhere.example"});
  ASSERT_THAT(response, IsOk());
  EXPECT_THAT(response->body, AllOf(StartsWith("sni=elsewhere.example\r\nGET /a?b=c HTTP/1.1\r\n"),
                                    HasSubstr("\r\nHost: " + server.host_port() + "\r\n")));
  EXPECT_THAT(GetTls(server.url(), {.ca_pem = ca_.cert_pem, .server_name = "third.example"}),
              StatusIs(StatusCode::kUnavailable, HasSubstr("third.example")));
  EXPECT_THAT(GetTls(server.url(), {.ca_pem = ca_.cert_pem, .server_name = "::1"}),
              StatusIs(StatusCode::kUnavailable));
}

TEST_F(CurlTransportTlsTest, SkipsVerificationOnlyWhenTold) {
  RawServer server(TellPeer, &local_);
  EXPECT_THAT(GetTls(server.url(), {.insecure_skip_verify = true}), IsOk());
  // And does not lend the unverified connection to a request that verifies.
  EXPECT_THAT(GetTls(server.url(), {.ca_pem = other_ca_.cert_pem}),
              StatusIs(StatusCode::kUnavailable));
}

TEST_F(CurlTransportTlsTest, PresentsItsCertificate) {
  const RawServerTls mutual = {.cert = local_.cert, .client_ca_pem = ca_.cert_pem};
  RawServer server(TellPeer, &mutual);
  const TestCert ours = MakeCert("snapkeeper", "DNS:snapkeeper", &ca_);
  const auto response = GetTls(
      server.url(),
      {.ca_pem = ca_.cert_pem, .client_cert_pem = ours.cert_pem, .client_key_pem = ours.key_pem});
  ASSERT_THAT(response, IsOk());
  EXPECT_THAT(response->body, HasSubstr("client=snapkeeper"));
  EXPECT_THAT(GetTls(server.url(), {.ca_pem = ca_.cert_pem}), StatusIs(StatusCode::kUnavailable));
  const TestCert stranger = MakeCert("stranger", "DNS:stranger", &other_ca_);
  EXPECT_THAT(GetTls(server.url(), {.ca_pem = ca_.cert_pem,
                                    .client_cert_pem = stranger.cert_pem,
                                    .client_key_pem = stranger.key_pem}),
              StatusIs(StatusCode::kUnavailable));
}

TEST_F(CurlTransportTlsTest, RefusesACertificateThatIsNotOneOrNotOfItsKey) {
  RawServer server(TellPeer, &local_);
  const TestCert ours = MakeCert("snapkeeper", "DNS:snapkeeper", &ca_);
  const TestCert other = MakeCert("other", "DNS:other", &ca_);
  for (const auto& [cert, key] :
       {std::pair(ours.cert_pem, other.key_pem), std::pair(std::string("x"), ours.key_pem),
        std::pair(ours.cert_pem, std::string("x"))}) {
    EXPECT_THAT(GetTls(server.url(),
                       {.ca_pem = ca_.cert_pem, .client_cert_pem = cert, .client_key_pem = key}),
                StatusIs(StatusCode::kUnavailable));
  }
  EXPECT_THAT(GetTls(server.url(), {.ca_pem = "not a certificate"}),
              StatusIs(StatusCode::kUnavailable));
}

TEST_F(CurlTransportTlsTest, ReusesAConnectionForEqualSettingsAndOnlyForThose) {
  const RawServerTls mutual = {.cert = local_.cert, .client_ca_pem = ca_.cert_pem};
  RawServer server(TellPeer, &mutual);
  const TestCert old_cert = MakeCert("old", "DNS:old", &ca_),
                 new_cert = MakeCert("new", "DNS:new", &ca_);
  const auto with = [](const std::string& ca, const TestCert& cert) {
    return TlsSettings{
        .ca_pem = ca, .client_cert_pem = cert.cert_pem, .client_key_pem = cert.key_pem};
  };
  EXPECT_EQ(GetTls(server.url(), with(ca_.cert_pem, old_cert))->body, "1 sni= client=old");
  EXPECT_EQ(GetTls(server.url(), with(ca_.cert_pem, old_cert))->body,
            "1 sni= client=old");  // another object, equal
  EXPECT_EQ(GetTls(server.url(), with(ca_.cert_pem, new_cert))->body, "2 sni= client=new");
  EXPECT_EQ(GetTls(server.url(), with(ca_.cert_pem + other_ca_.cert_pem, new_cert))->body,
            "3 sni= client=new");
  // An authority that no longer vouches for the server must not live on in a kept connection.
  EXPECT_THAT(GetTls(server.url(), with(other_ca_.cert_pem, new_cert)),
              StatusIs(StatusCode::kUnavailable));
}

TEST_F(CurlTransportTlsTest, TunnelsThroughAProxyWithoutTellingItMoreThanTheHost) {
  RawServer proxy([](RawConnection& connection) {
    EXPECT_THAT(connection.ReadRequest(),
                AllOf(StartsWith("CONNECT kubernetes.example:443 HTTP/1.1\r\n"),
                      Not(HasSubstr("Authorization"))));
    connection.Write("HTTP/1.1 503 No\r\nX-Proxy: 1\r\nContent-Length: 0\r\n\r\n");
  });
  EXPECT_THAT(Fetch({.url = "https://kubernetes.example/api",
                     .headers = {"Authorization: Bearer t"},
                     .tls = std::make_shared<TlsSettings>(),
                     .proxy = "http://" + proxy.host_port()}),
              StatusIs(StatusCode::kUnavailable, HasSubstr("503")));
}

TEST_F(CurlTransportTlsTest, StreamsOverTls) {
  RawServer server(
      [](RawConnection& connection) {
        connection.ReadRequest();
        connection.Write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (int i = 0; i < 50; ++i)
          connection.Write("1000\r\n" + std::string(0x1000, 'x') + "\r\n");
        connection.Write("0\r\n\r\n");
        connection.ReadToEnd();
      },
      &local_);
  size_t bytes = 0;
  std::optional<absl::StatusOr<HttpResponse>> result;
  const Call call = transport_.Send(
      {.url = server.url(),
       .tls = std::make_shared<TlsSettings>(TlsSettings{.ca_pem = ca_.cert_pem})},
      [&bytes](std::string_view data) { bytes += data.size(); },
      [&result](auto r) { result = std::move(r); });
  RunUntilTrue([&result] { return result.has_value(); });
  EXPECT_THAT(*result, IsOk());
  EXPECT_EQ(bytes, 50u * 0x1000);
}

}  // namespace
}  // namespace snapkeeper
