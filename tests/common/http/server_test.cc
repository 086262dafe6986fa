#include "common/http/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netdb.h>

#include <latch>
#include <optional>
#include <semaphore>
#include <thread>

#include "common/base/address.h"
#include "tests/common/http/loop_fixture.h"
#include "tests/common/http/raw_client.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using absl::StatusCode;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class ServerTest : public LoopFixture {
 protected:
  void Serve(HttpServer::Handler handler, HttpServerLimits limits = {}) {
    auto server = HttpServer::Listen("127.0.0.1:0", std::move(handler), limits);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
  }
  std::string Url(std::string_view path = "/") const {
    return "http://" + server_->address() + std::string(path);
  }
  int port() const { return ParseHostPort(server_->address())->port; }
  // Sends bytes and returns all that comes until the server closes.
  std::string Exchange(std::string_view bytes) const {
    RawClient client(port());
    client.Write(bytes);
    return client.ReadToEnd();
  }

  std::unique_ptr<HttpServer> server_;
};

void Hello(ServedRequest, std::shared_ptr<Responder> reply) {
  reply->Send(200, "text/plain", "hello");
}

TEST_F(ServerTest, HandsTheRequestOverAndSendsTheAnswer) {
  Serve([](ServedRequest request, std::shared_ptr<Responder> reply) {
    reply->SetHeader("Retry-After", "7");
    reply->Send(429, "text/x",
                request.method + " " + request.target + " " + request.headers.at("x-name") + " " +
                    request.body);
  });
  const auto response = Fetch({.method = "PATCH",
                               .url = Url("/a/b?c=d%20"),
                               .headers = {"X-Name: v", "x-name: w"},
                               .body = "body"});
  ASSERT_THAT(response, IsOk());
  EXPECT_EQ(response->code, 429);
  EXPECT_EQ(response->headers.at("content-type"), "text/x");
  EXPECT_EQ(response->headers.at("retry-after"), "7");
  EXPECT_EQ(response->body, "PATCH /a/b?c=d%20 v, w body");
  absl::Time date;
  std::string error;
  EXPECT_TRUE(
      absl::ParseTime("%a, %d %b %Y %H:%M:%S GMT", response->headers.at("date"), &date, &error))
      << error;
  EXPECT_LT(absl::AbsDuration(date - transport_.Now()), absl::Seconds(20));
}

TEST_F(ServerTest, KeepsTheConnectionForTheNextRequestUnlessAskedNotTo) {
  Serve(Hello);
  EXPECT_THAT(Exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: "
                       "close\r\n\r\n"),
              ::testing::MatchesRegex("HTTP/1.1 200 OK\r\n.*hello"
                                      "HTTP/1.1 200 OK\r\n.*Connection: close\r\n\r\nhello"));
}

TEST_F(ServerTest, AnswersPipelinedRequestsInTheirOrder) {
  Serve([](ServedRequest request, std::shared_ptr<Responder> reply) {
    reply->Send(200, "text/plain", request.target);
  });
  EXPECT_THAT(Exchange("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.0\r\n\r\n"),
              ::testing::ContainsRegex("/1HTTP.*/2HTTP.*/3$"));
}

TEST_F(ServerTest, ARequestThatComesBeforeTheAnswerToTheLastWaitsItsTurn) {
  std::shared_ptr<Responder> held;
  std::counting_semaphore holding{0};
  Serve([&](ServedRequest request, std::shared_ptr<Responder> reply) {
    if (request.target == "/") return Hello({}, reply);
    held = std::move(reply);
    holding.release();
  });
  RawClient client(port());
  client.Write("GET /1 HTTP/1.1\r\n\r\n");
  holding.acquire();
  client.Write("GET /2 HTTP/1.1\r\n\r\n");
  EXPECT_EQ(Get(Url())->body, "hello");  // by then the server has seen what came before it
  std::exchange(held, nullptr)->Send(200, "text/plain", "one");
  ASSERT_THAT(client.ReadUntil("one"), EndsWith("one"));
  holding.acquire();
  held->Send(200, "text/plain", "two");
  EXPECT_THAT(client.ReadUntil("two"), EndsWith("two"));
}

TEST_F(ServerTest, SendsTheHeadAloneToHead) {
  Serve(Hello);
  const auto response = Fetch({.method = "HEAD", .url = Url()});
  ASSERT_THAT(response, IsOk());
  EXPECT_EQ(response->headers.at("content-length"), "5");
  EXPECT_EQ(response->body, "");
}

TEST_F(ServerTest, TakesAnAnswerFromAnotherThreadLater) {
  std::thread thread;
  Serve([&thread](ServedRequest, std::shared_ptr<Responder> reply) {
    thread =
        std::thread([reply = std::move(reply)] { reply->Send(200, "text/plain", "from afar"); });
  });
  EXPECT_EQ(Get(Url())->body, "from afar");
  thread.join();
}

TEST_F(ServerTest, ServesOthersWhileAnAnswerIsDue) {
  std::shared_ptr<Responder> held;
  std::latch holding{1};
  Serve([&](ServedRequest request, std::shared_ptr<Responder> reply) {
    if (request.target != "/hold") return Hello({}, reply);
    held = std::move(reply);
    holding.count_down();
  });
  std::optional<absl::StatusOr<HttpResponse>> result;
  const Call call =
      transport_.Send({.url = Url("/hold")}, [&result](auto r) { result = std::move(r); });
  RunUntilTrue([&holding] { return holding.try_wait(); });
  EXPECT_EQ(Get(Url())->body, "hello");
  EXPECT_FALSE(result.has_value());
  held->Send(200, "text/plain", "at last");
  RunUntilTrue([&result] { return result.has_value(); });
  EXPECT_EQ((*result)->body, "at last");
}

TEST_F(ServerTest, TakesTheFirstAnswerOnly) {
  Serve([](ServedRequest, std::shared_ptr<Responder> reply) {
    reply->Send(200, "text/plain", "first");
    reply->Send(500, "text/plain", "second");
    reply->Begin(500, "text/plain");
    reply->Write("third");
  });
  for (int i = 0; i < 2; ++i) EXPECT_EQ(Get(Url())->body, "first");
}

TEST_F(ServerTest, AnswersForAHandlerThatDoesNot) {
  Serve([](ServedRequest, std::shared_ptr<Responder>) {});
  EXPECT_EQ(Get(Url())->code, 500);
}

TEST_F(ServerTest, StreamsInChunksUntilTheEndOrTheDrop) {
  for (const bool end : {true, false}) {
    Serve([end](ServedRequest, std::shared_ptr<Responder> reply) {
      reply->Begin(200, "application/json");
      reply->Write("{}\n");
      reply->Write("");  // would end the body if it were sent
      reply->Write(std::string(100'000, 'x'));
      if (end) reply->End();
    });
    const auto response = Get(Url());
    ASSERT_THAT(response, IsOk());
    EXPECT_EQ(response->headers.at("transfer-encoding"), "chunked");
    EXPECT_EQ(response->body, "{}\n" + std::string(100'000, 'x'));
    EXPECT_THAT(Get(Url()), IsOk());
  }
}

TEST_F(ServerTest, SendsEachChunkAtOnce) {
  std::shared_ptr<Responder> stream;
  std::latch begun{1};
  Serve([&](ServedRequest, std::shared_ptr<Responder> reply) {
    reply->Begin(200, "application/json");
    stream = std::move(reply);
    begun.count_down();
  });
  RawClient client(port());
  client.Write("GET / HTTP/1.1\r\n\r\n");
  EXPECT_THAT(client.ReadUntil("\r\n\r\n"), HasSubstr("Transfer-Encoding: chunked\r\n"));
  begun.wait();
  for (const char* chunk : {"one", "two"}) {
    stream->Write(chunk);
    const std::string expected = std::string("3\r\n") + chunk + "\r\n";
    EXPECT_EQ(client.ReadUntil(expected), expected);
  }
}

TEST_F(ServerTest, StreamsToOldClientsByClosing) {
  Serve([](ServedRequest, std::shared_ptr<Responder> reply) {
    reply->Begin(200, "text/plain");
    reply->Write("a");
    reply->Write("b");
  });
  EXPECT_THAT(
      Exchange("GET / HTTP/1.0\r\n\r\n"),
      AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), Not(HasSubstr("chunked")), EndsWith("\r\n\r\nab")));
}

TEST_F(ServerTest, TellsWhenThePeerHasGone) {
  std::shared_ptr<Responder> stream;
  std::latch begun{1}, gone{1};
  Serve([&](ServedRequest, std::shared_ptr<Responder> reply) {
    reply->OnGone([&gone] { gone.count_down(); });
    reply->Begin(200, "application/json");
    stream = std::move(reply);
    begun.count_down();
  });
  {
    RawClient client(port());
    client.Write("GET / HTTP/1.1\r\n\r\n");
    client.ReadUntil("\r\n\r\n");
    begun.wait();
    EXPECT_FALSE(stream->gone());
  }
  gone.wait();
  EXPECT_TRUE(stream->gone());
  stream->Write("into the void");
  std::latch late{1};
  stream->OnGone([&late] { late.count_down(); });  // asked for afterwards: told at once
  late.wait();
}

TEST_F(ServerTest, AStreamSurvivesAStrayLineAndItsPeersEndIsSeenStill) {
  std::shared_ptr<Responder> stream;
  std::latch begun{1}, gone{1};
  Serve([&](ServedRequest request, std::shared_ptr<Responder> reply) {
    if (request.target == "/") return Hello({}, reply);
    reply->OnGone([&gone] { gone.count_down(); });
    reply->Begin(200, "application/json");
    stream = std::move(reply);
    begun.count_down();
  });
  {
    RawClient client(port());
    client.Write("GET /watch HTTP/1.1\r\n\r\n");
    client.ReadUntil("\r\n\r\n");
    begun.wait();
    client.Write("\r\n");
    EXPECT_EQ(Get(Url())->body, "hello");  // by then the server has seen what came before it
    stream->Write("one");
    EXPECT_EQ(client.ReadUntil("one\r\n"), "3\r\none\r\n");
    EXPECT_FALSE(stream->gone());
  }
  gone.wait();
}

TEST_F(ServerTest, ClosesAPeerThatIsFarAheadOfItsAnswers) {
  std::shared_ptr<Responder> held;
  std::latch holding{1};
  Serve([&](ServedRequest, std::shared_ptr<Responder> reply) {
    held = std::move(reply);
    holding.count_down();
  });
  RawClient client(port());
  client.Write("GET / HTTP/1.1\r\n\r\n");
  holding.wait();
  client.Write(std::string(1 << 20, 'x'));
  EXPECT_EQ(client.ReadToEnd(), "");
  EXPECT_TRUE(held->gone());
}

TEST_F(ServerTest, DoesNotCallAnAnsweredPeerGone) {
  const auto held = std::make_shared<int>();
  Serve([held](ServedRequest, std::shared_ptr<Responder> reply) {
    reply->OnGone([held] { ADD_FAILURE() << "the answer was complete"; });
    reply->Send(200, "text/plain", "x");
  });
  EXPECT_THAT(Exchange("GET / HTTP/1.1\r\nConnection: close\r\n\r\n"), HasSubstr("200 OK"));
  server_.reset();
  EXPECT_EQ(held.use_count(), 1);
}

TEST_F(ServerTest, RefusesWhatIsTooLargeOrNotHttp) {
  Serve(Hello);
  const std::pair<std::string, const char*> cases[] = {
      {"GET / HTTP/1.1\r\nX: " + std::string(70'000, 'x') + "\r\n\r\n", "HTTP/1.1 431 "},
      {"POST / HTTP/1.1\r\nContent-Length: 3145729\r\n\r\n" + std::string(100'000, 'x'),
       "HTTP/1.1 413 "},
      {"nonsense\r\n\r\n", "HTTP/1.1 400 "},
      {"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 400 "},
  };
  for (const auto& [bytes, expected] : cases) {
    EXPECT_THAT(Exchange(bytes), AllOf(StartsWith(expected), HasSubstr("Connection: close\r\n")))
        << bytes.substr(0, 60);
  }
}

TEST_F(ServerTest, TakesABodyOfExactlyTheLimit) {
  Serve([](ServedRequest request, std::shared_ptr<Responder> reply) {
    reply->Send(200, "text/plain", std::to_string(request.body.size()));
  });
  EXPECT_EQ(Fetch({.method = "POST", .url = Url(), .body = std::string(3 << 20, 'x')})->body,
            "3145728");
  EXPECT_EQ(Fetch({.method = "POST", .url = Url(), .body = std::string((3 << 20) + 1, 'x')})->code,
            413);
}

TEST_F(ServerTest, ClosesAPeerThatDoesNotFinishItsRequestOrSendsNone) {
  Serve(Hello, {.request_time = absl::Milliseconds(50)});
  EXPECT_EQ(Exchange("GET / HTTP/1.1\r\nHost: "), "");
  EXPECT_EQ(Exchange("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"), "");
  EXPECT_EQ(Exchange(""), "");
}

TEST_F(ServerTest, ClosesAnIdleConnectionAfterItsTime) {
  Serve(Hello, {.idle_time = absl::Milliseconds(50)});
  RawClient client(port());
  client.Write("GET / HTTP/1.1\r\n\r\n");
  EXPECT_THAT(client.ReadToEnd(), EndsWith("hello"));
}

TEST_F(ServerTest, ClosesAPeerThatTakesNothing) {
  // Once by time, once by what has piled up.
  const HttpServerLimits cases[] = {{.write_time = absl::Milliseconds(50)},
                                    {.backlog_bytes = 1 << 20}};
  for (const HttpServerLimits& limits : cases) {
    std::latch gone{1};
    std::shared_ptr<Responder> stream;
    Serve(
        [&](ServedRequest, std::shared_ptr<Responder> reply) {
          reply->OnGone([&gone] { gone.count_down(); });
          reply->Begin(200, "text/plain");
          // More than the kernel's buffers take.
          for (int i = 0; i < 12; ++i) reply->Write(std::string(1 << 20, 'x'));
          stream = std::move(reply);
        },
        limits);
    RawClient client(port(), 4096);
    client.Write("GET / HTTP/1.1\r\n\r\n");
    gone.wait();
    server_.reset();
  }
}

TEST_F(ServerTest, ClosesWhoeverIsIdleLongestForAConnectionBeyondItsLimit) {
  Serve(Hello, {.connections = 2});
  const auto ask = [](RawClient& client) {
    client.Write("GET / HTTP/1.1\r\n\r\n");
    return client.ReadUntil("hello");
  };
  RawClient first(port());
  EXPECT_THAT(ask(first), EndsWith("hello"));
  RawClient second(port());
  EXPECT_THAT(ask(second), EndsWith("hello"));
  RawClient third(port());
  EXPECT_THAT(ask(third), EndsWith("hello"));
  EXPECT_EQ(first.ReadToEnd(), "");
  EXPECT_THAT(ask(second), EndsWith("hello"));
  third.Write("GET / HTT");  // a half is no request
  RawClient fourth(port());
  EXPECT_THAT(ask(fourth), EndsWith("hello"));
  EXPECT_EQ(third.ReadToEnd(), "");
  EXPECT_THAT(ask(second), EndsWith("hello"));
}

TEST_F(ServerTest, ClosesAConnectionBeyondItsLimitAtOnceWhereAllAreBeingAnswered) {
  std::shared_ptr<Responder> held;
  std::latch holding{1};
  Serve(
      [&](ServedRequest, std::shared_ptr<Responder> reply) {
        held = std::move(reply);
        holding.count_down();
      },
      {.connections = 1});
  RawClient client(port());
  client.Write("GET / HTTP/1.1\r\n\r\n");
  holding.wait();
  EXPECT_EQ(RawClient(port()).ReadToEnd(), "");
  held->Send(200, "text/plain", "hello");
  EXPECT_THAT(client.ReadUntil("hello"), EndsWith("hello"));
}

TEST_F(ServerTest, AResponderMayOutliveItsServer) {
  std::shared_ptr<Responder> held;
  std::latch holding{1};
  Serve([&](ServedRequest, std::shared_ptr<Responder> reply) {
    held = std::move(reply);
    holding.count_down();
  });
  RawClient client(port());
  client.Write("GET / HTTP/1.1\r\n\r\n");
  holding.wait();
  server_.reset();
  EXPECT_TRUE(held->gone());
  held->Send(200, "text/plain", "too late");
  held->OnGone([] { ADD_FAILURE() << "there is no thread to call it on"; });
  EXPECT_EQ(client.ReadToEnd(), "");
}

TEST_F(ServerTest, ListensOnNamesAndSaysWhatItCannotBind) {
  addrinfo* found = nullptr;
  const bool known = getaddrinfo("localhost", nullptr, nullptr, &found) == 0;
  if (known) freeaddrinfo(found);
  // A bare chroot has no /etc/hosts.
  const auto named = HttpServer::Listen(known ? "localhost:0" : "127.0.0.1:0", Hello);
  ASSERT_THAT(named, IsOk());
  EXPECT_TRUE(IsLoopback((*named)->address())) << (*named)->address();
  EXPECT_THAT(HttpServer::Listen((*named)->address(), Hello),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr((*named)->address()), HasSubstr("in use"))));
  EXPECT_THAT(HttpServer::Listen("192.0.2.1:0", Hello),
              StatusIs(StatusCode::kUnavailable, HasSubstr("192.0.2.1:0")));
  EXPECT_THAT(HttpServer::Listen("7480", Hello),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("HOST:PORT")));
}

TEST_F(ServerTest, RefusesChunkFramingWithoutEnd) {
  Serve(Hello, {.request_time = absl::Seconds(2)});
  // A chunk's extension, its size in leading zeros, a trailer.
  for (const char* begin : {"1;", "0", "0\r\nA: "}) {
    const char filler = begin == std::string_view("0") ? '0' : 'a';
    EXPECT_THAT(Exchange("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" +
                         std::string(begin) + std::string(1 << 20, filler)),
                StartsWith("HTTP/1.1 4"))
        << begin;
  }
}

}  // namespace
}  // namespace snapkeeper
