#include "common/kube/kube_client.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/kube/json.h"
#include "common/kube/reflector.h"
#include "tests/support/matchers.h"
#include "tests/support/recording_log.h"
#include "tests/support/sim_waiter.h"

namespace snapkeeper {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

// Exchanges that the test answers by hand.
class ScriptedTransport : public HttpTransport {
 public:
  struct Exchange {
    HttpRequest request;
    OnData on_data;
    Done done;
    bool cancelled = false;
  };
  using HttpTransport::Send;
  Call Send(HttpRequest request, OnData on_data, Done done) override {
    auto exchange = std::make_shared<Exchange>(
        Exchange{std::move(request), std::move(on_data), std::move(done)});
    exchanges.push_back(exchange);
    return Call([exchange] { exchange->cancelled = true; });
  }

  const HttpRequest& last() const { return exchanges.back()->request; }
  void Answer(absl::StatusOr<HttpResponse> response) {
    const auto exchange = exchanges.back();
    ASSERT_FALSE(exchange->cancelled);
    std::exchange(exchange->done, nullptr)(std::move(response));
  }
  void Answer(int code, std::string body, std::map<std::string, std::string> headers = {}) {
    Answer(HttpResponse{code, std::move(headers), std::move(body)});
  }
  // As the real one: nothing more after a cancel.
  void Stream(std::string_view piece) {
    const auto exchange = exchanges.back();
    if (!exchange->cancelled) exchange->on_data(piece);
  }

  std::vector<std::shared_ptr<Exchange>> exchanges;
};

json LeaseJson(const std::string& name, const std::string& version = "5") {
  return {
      {"metadata",
       {{"name", name}, {"namespace", "shop"}, {"uid", "u-" + name}, {"resourceVersion", version}}},
      {"spec", {{"holderIdentity", "me"}}}};
}

std::string Page(const std::vector<std::string>& names, const std::string& next,
                 const std::string& version = "100") {
  json items = json::array();
  for (const std::string& name : names) items.push_back(LeaseJson(name));
  return json{{"metadata", {{"resourceVersion", version}, {"continue", next}}}, {"items", items}}
      .dump();
}

constexpr char kExpired[] =
    R"({"kind":"Status","code":410,"reason":"Expired","message":"too old","metadata":{"continue":"inconsistent"}})";

class KubeClientTest : public testing::Test {
 protected:
  KubeClientTest() {
    dir_ = testing::TempDir() + "/kube_client_test." +
           testing::UnitTest::GetInstance()->current_test_info()->name();
    SetToken("token-1");
    std::ofstream(dir_)
        << "current-context: x\ncontexts:\n- name: x\n  context: {cluster: c, user: u}\n"
           "clusters:\n- name: c\n  cluster: {server: 'https://k8s:6443/p'}\n"
           "users:\n- name: u\n  user: {tokenFile: '" +
               dir_ + ".token'}\n";
    config_ = *KubeConfig::Load(dir_, {}, log_);
    client_ = std::make_unique<KubeClient>(
        loop_, transport_, *config_, rng_, log_,
        KubeClient::Options{"snapkeeper-test/1", 2, [this](const KubeClient::Exchange& e) {
                              observed_.push_back(
                                  fmt::format("{} {} {} {}", e.method, e.host, e.code,
                                              e.took ? absl::FormatDuration(*e.took) : "-"));
                            }});
  }
  ~KubeClientTest() override {
    client_.reset();
    std::remove(dir_.c_str());
    std::remove((dir_ + ".token").c_str());
  }
  void SetToken(const std::string& token) { std::ofstream(dir_ + ".token") << token; }

  // Lists are parsed on another thread.
  template <class F>
  void TurnUntil(F done) {
    for (int i = 0; i < 10'000'000 && !done(); ++i) {
      if (!loop_.Turn()) std::this_thread::yield();
    }
    ASSERT_TRUE(done());
  }
  std::string Path() const {
    const std::string& url = transport_.last().url;
    EXPECT_TRUE(url.starts_with("https://k8s:6443/p/")) << url;
    return url.substr(std::string("https://k8s:6443/p").size());
  }
  auto Store(absl::StatusOr<ObjectPtr>& into) {
    return [&into](absl::StatusOr<ObjectPtr> result) { into = std::move(result); };
  }
  Call StartList(absl::StatusOr<ListResult>& into) {
    return client_->List({Kind::kLease, "shop", "a=b,c in (d)", "metadata.name=x"},
                         [&into](absl::StatusOr<ListResult> result) { into = std::move(result); });
  }
  Call StartWatch() {
    return client_->Watch(
        {Kind::kLease, "shop", "", ""}, "7",
        [this](WatchEvent event) {
          events_.push_back(fmt::format("{} {} {}", static_cast<int>(event.type),
                                        event.object ? MetaOf(*event.object).name : "-",
                                        event.resource_version));
          if (stop_at_ == events_.size()) watch_ = Call();
        },
        [this](absl::Status status) { ended_.push_back(status); });
  }
  static std::string Frame(const std::string& type, const json& object) {
    return json{{"type", type}, {"object", object}}.dump() + "\n";
  }

  std::string dir_;
  SimClock clock_;
  SimWaiter waiter_{clock_};
  EventLoop loop_{waiter_};
  Rng rng_{1};
  RecordingLog log_;
  ScriptedTransport transport_;
  std::unique_ptr<KubeConfig> config_;
  std::vector<std::string> observed_;
  std::unique_ptr<KubeClient> client_;
  Call watch_;
  std::vector<std::string> events_;
  std::vector<absl::Status> ended_;
  size_t stop_at_ = 0;
};

const absl::Status kNothing = absl::UnknownError("nothing yet");

TEST_F(KubeClientTest, GetsAnObject) {
  absl::StatusOr<ObjectPtr> result = kNothing;
  Call call = client_->Get({Kind::kLease, "shop", "l"}, Store(result));
  EXPECT_EQ(transport_.last().method, "GET");
  EXPECT_EQ(Path(), "/apis/coordination.k8s.io/v1/namespaces/shop/leases/l");
  EXPECT_THAT(transport_.last().headers,
              ElementsAre("Authorization: Bearer token-1", "User-Agent: snapkeeper-test/1",
                          "Accept: application/json"));
  EXPECT_EQ(transport_.last().body, "");
  EXPECT_EQ(transport_.last().deadline, absl::Seconds(30));
  EXPECT_TRUE(transport_.last().tls);
  clock_.Advance(absl::Milliseconds(30));
  transport_.Answer(200, LeaseJson("l").dump());
  ASSERT_THAT(result, IsOk());
  EXPECT_EQ(As<Lease>(*result)->holder, "me");
  EXPECT_THAT(observed_, ElementsAre("GET k8s:6443 200 30ms"));
}

TEST_F(KubeClientTest, CreatesPatchesAndDeletes) {
  absl::StatusOr<ObjectPtr> result = kNothing;
  Call call = client_->Create(Kind::kLease, LeaseJson("l"), Store(result));
  EXPECT_EQ(transport_.last().method, "POST");
  EXPECT_EQ(Path(), "/apis/coordination.k8s.io/v1/namespaces/shop/leases");
  EXPECT_THAT(transport_.last().headers, Contains("Content-Type: application/json"));
  EXPECT_EQ(json::parse(transport_.last().body), LeaseJson("l"));
  transport_.Answer(201, LeaseJson("l", "6").dump());
  EXPECT_EQ(MetaOf(**result).resource_version, "6");

  call = client_->Patch({Kind::kPolicy, "shop", "p"}, {{"status", {{"epoch", 1}}}}, /*status=*/true,
                        Store(result));
  EXPECT_EQ(transport_.last().method, "PATCH");
  EXPECT_EQ(Path(), "/apis/snapkeeper.io/v1alpha1/namespaces/shop/snapshotpolicies/p/status");
  EXPECT_THAT(transport_.last().headers, Contains("Content-Type: application/merge-patch+json"));
  EXPECT_EQ(transport_.last().body, R"({"status":{"epoch":1}})");
  transport_.Answer(409, R"({"reason":"Conflict","message":"modified"})");
  EXPECT_THAT(result, StatusIs(absl::StatusCode::kAborted));
  call =
      client_->Patch({Kind::kPolicy, "shop", "p"}, json::object(), /*status=*/false, Store(result));
  EXPECT_EQ(Path(), "/apis/snapkeeper.io/v1alpha1/namespaces/shop/snapshotpolicies/p");

  absl::Status deleted = kNothing;
  call = client_->Delete({Kind::kSnapshot, "shop", "s"}, {"uid-s", "9"},
                         [&deleted](absl::Status status) { deleted = status; });
  EXPECT_EQ(transport_.last().method, "DELETE");
  EXPECT_EQ(json::parse(transport_.last().body),
            json::parse(R"({"apiVersion":"v1","kind":"DeleteOptions",
                            "preconditions":{"uid":"uid-s","resourceVersion":"9"}})"));
  EXPECT_THAT(transport_.last().headers, Contains("Content-Type: application/json"));
  transport_.Answer(200, R"({"kind":"Status","status":"Success"})");
  EXPECT_THAT(deleted, IsOk());
}

TEST_F(KubeClientTest, AnEventIsWrittenButNotRead) {
  absl::StatusOr<ObjectPtr> result = kNothing;
  Call call = client_->Create(Kind::kEvent, {{"metadata", {{"namespace", "shop"}}}}, Store(result));
  EXPECT_EQ(Path(), "/api/v1/namespaces/shop/events");
  transport_.Answer(201, "{}");
  EXPECT_THAT(result, IsOkAndHolds(ObjectPtr()));
}

TEST_F(KubeClientTest, WritesTextThatIsNotUtf8) {
  absl::StatusOr<ObjectPtr> result = kNothing;
  Call call =
      client_->Patch({Kind::kPolicy, "shop", "p"}, {{"x", "cut \xc3"}}, true, Store(result));
  EXPECT_EQ(transport_.last().body, "{\"x\":\"cut \xEF\xBF\xBD\"}");
}

// "" would address every object of the kind, ".." the namespace itself.
TEST_F(KubeClientTest, RefusesNamesThatAreNoPathSegment) {
  for (const char* name : {"", ".", "..", "a/b", "a%2fb"}) {
    absl::Status status;
    Call call = client_->Delete({Kind::kSnapshot, "shop", name}, {"u", "1"},
                                [&status](absl::Status s) { status = s; });
    EXPECT_THAT(status, IsOk());  // never from within the call
    loop_.Turn();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument)) << name;
    absl::StatusOr<ObjectPtr> result = kNothing;
    call = client_->Get({Kind::kSnapshot, "shop", name}, Store(result));
    loop_.Turn();
    EXPECT_THAT(result, StatusIs(absl::StatusCode::kInvalidArgument)) << name;
    call = client_->Patch({Kind::kSnapshot, "..", "x"}, json::object(), false, Store(result));
    loop_.Turn();
    EXPECT_THAT(result, StatusIs(absl::StatusCode::kInvalidArgument)) << name;
  }
  absl::StatusOr<ObjectPtr> result = kNothing;
  { Call call = client_->Get({Kind::kSnapshot, "shop", ""}, Store(result)); }
  loop_.Turn();
  EXPECT_EQ(result.status(), kNothing);  // cancelled
  EXPECT_THAT(transport_.exchanges, IsEmpty());
}

TEST_F(KubeClientTest, AnAnswerThatCannotBeReadIsAnError) {
  for (const char* body : {"", "{}", "<html>", R"({"metadata":{"name":"l"}})"}) {
    absl::StatusOr<ObjectPtr> result = kNothing;
    Call call = client_->Get({Kind::kLease, "shop", "l"}, Store(result));
    transport_.Answer(200, body);
    EXPECT_THAT(result, StatusIs(absl::StatusCode::kInternal, HasSubstr("cannot be read"))) << body;
  }
}

TEST_F(KubeClientTest, PassesTransportErrorsOn) {
  absl::StatusOr<ObjectPtr> result = kNothing;
  Call call = client_->Get({Kind::kLease, "shop", "l"}, Store(result));
  transport_.Answer(absl::DeadlineExceededError("no whole answer"));
  EXPECT_THAT(result, StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(observed_, ElementsAre("GET k8s:6443 0 0"));
}

TEST_F(KubeClientTest, IsUnhealthyWhileRequestsGetNoAnswerOrAreNotLetIn) {
  const auto health_after = [this](absl::StatusOr<HttpResponse> response) {
    Call call = client_->Get({Kind::kLease, "shop", "l"}, [](absl::StatusOr<ObjectPtr>) {});
    transport_.Answer(std::move(response));
    return client_->health();
  };
  EXPECT_EQ(client_->health(), absl::OkStatus());
  EXPECT_THAT(health_after(absl::DeadlineExceededError("no whole answer within 30s")),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("no whole answer")));
  EXPECT_EQ(health_after(HttpResponse{404, {}, "{}"}), absl::OkStatus());
  EXPECT_THAT(health_after(HttpResponse{401, {}, "{}"}),
              StatusIs(absl::StatusCode::kUnauthenticated));
  watch_ = StartWatch();
  EXPECT_FALSE(client_->health().ok());
  transport_.Stream("");
  EXPECT_EQ(client_->health(), absl::OkStatus());
  EXPECT_FALSE(health_after(absl::UnavailableError("reset")).ok());
  clock_.Advance(absl::Minutes(1));
  EXPECT_EQ(client_->health(), absl::OkStatus());
}

TEST_F(KubeClientTest, ReadsTheTokenAgainAtOnceAfterItWasRefusedButDoesNotRepeat) {
  absl::StatusOr<ObjectPtr> result = kNothing;
  SetToken("token-2");
  Call call = client_->Get({Kind::kLease, "shop", "l"}, Store(result));
  EXPECT_THAT(transport_.last().headers, Contains("Authorization: Bearer token-1"));
  transport_.Answer(
      401, R"({"kind":"Status","reason":"Unauthorized","message":"Unauthorized","code":401})");
  EXPECT_THAT(result, StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(transport_.exchanges, SizeIs(1));
  call = client_->Get({Kind::kLease, "shop", "l"}, Store(result));
  EXPECT_THAT(transport_.last().headers, Contains("Authorization: Bearer token-2"));
  // A new CA shows as a connection that fails.
  SetToken("token-3");
  transport_.Answer(absl::UnavailableError("certificate verify failed"));
  call = client_->Get({Kind::kLease, "shop", "l"}, Store(result));
  EXPECT_THAT(transport_.last().headers, Contains("Authorization: Bearer token-3"));
}

TEST_F(KubeClientTest, ListsInPages) {
  absl::StatusOr<ListResult> result = kNothing;
  Call call = StartList(result);
  EXPECT_EQ(Path(),
            "/apis/coordination.k8s.io/v1/namespaces/shop/leases?limit=2"
            "&labelSelector=a%3Db%2Cc%20in%20%28d%29&fieldSelector=metadata.name%3Dx");
  transport_.Answer(200, Page({"a", "b"}, "next=+"));
  TurnUntil([this] { return transport_.exchanges.size() == 2; });
  EXPECT_THAT(Path(), HasSubstr("?limit=2&continue=next%3D%2B&labelSelector="));
  EXPECT_EQ(result.status(), kNothing);
  transport_.Answer(200, Page({"c"}, ""));
  TurnUntil([&result] { return result.ok(); });
  EXPECT_THAT(result->items, SizeIs(3));
  EXPECT_EQ(MetaOf(*result->items[2]).name, "c");
  EXPECT_EQ(result->resource_version, "100");
}

TEST_F(KubeClientTest, AListWhosePagesDoNotGoOnEnds) {
  absl::StatusOr<ListResult> result = kNothing;
  Call call = StartList(result);
  transport_.Answer(200, Page({"a", "b"}, "n"));
  TurnUntil([this] { return transport_.exchanges.size() == 2; });
  transport_.Answer(200, Page({"a", "b"}, "n"));
  TurnUntil([&result] { return result.status() != kNothing; });
  EXPECT_THAT(result, StatusIs(absl::StatusCode::kInternal, HasSubstr("same continue token")));
}

TEST_F(KubeClientTest, AsksForLessWhenAPageIsTooLarge) {
  absl::StatusOr<ListResult> result = kNothing;
  Call call = StartList(result);
  transport_.Answer(absl::DataLossError("the answer is larger than 64 MiB"));
  ASSERT_THAT(transport_.exchanges, SizeIs(2));
  EXPECT_THAT(Path(), HasSubstr("?limit=1&"));
  transport_.Answer(200, Page({"a"}, "n"));
  TurnUntil([this] { return transport_.exchanges.size() == 3; });
  EXPECT_THAT(Path(), HasSubstr("?limit=1&continue=n"));
  transport_.Answer(absl::DataLossError("the answer is larger than 64 MiB"));
  EXPECT_THAT(result.status(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(KubeClientTest, BeginsAgainWhenAPageHasExpired) {
  absl::StatusOr<ListResult> result = kNothing;
  Call call = StartList(result);
  transport_.Answer(200, Page({"a", "b"}, "n"));
  TurnUntil([this] { return transport_.exchanges.size() == 2; });
  transport_.Answer(410, kExpired);
  ASSERT_THAT(transport_.exchanges, SizeIs(3));
  EXPECT_THAT(Path(), Not(HasSubstr("continue=")));
  transport_.Answer(200, Page({"b"}, "", "200"));
  TurnUntil([&result] { return result.ok(); });
  ASSERT_THAT(result->items, SizeIs(1));
  EXPECT_EQ(MetaOf(*result->items[0]).name, "b");
  EXPECT_EQ(result->resource_version, "200");
}

TEST_F(KubeClientTest, GivesUpOnAListThatExpiresEachTime) {
  absl::StatusOr<ListResult> result = kNothing;
  Call call = StartList(result);
  size_t sent = 1;
  while (result.status() == kNothing) {
    ASSERT_LT(sent, 20u);
    transport_.Answer(200, Page({"a", "b"}, "n"));
    ++sent;
    TurnUntil([this, sent] { return transport_.exchanges.size() == sent; });
    transport_.Answer(410, kExpired);
    sent = transport_.exchanges.size();
  }
  EXPECT_THAT(result, StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_EQ(sent, 6u);
}

TEST_F(KubeClientTest, AListFailsAsAWhole) {
  absl::StatusOr<ListResult> result = kNothing;
  Call call = StartList(result);
  transport_.Answer(200, Page({"a", "b"}, "n"));
  TurnUntil([this] { return transport_.exchanges.size() == 2; });
  transport_.Answer(503, "");
  EXPECT_THAT(result, StatusIs(absl::StatusCode::kUnavailable));
  result = kNothing;
  call = StartList(result);
  transport_.Answer(200, "{\"items\":[");
  TurnUntil([&result] { return result.status() != kNothing; });
  EXPECT_THAT(result, StatusIs(absl::StatusCode::kInternal));
}

TEST_F(KubeClientTest, LogsAnUnreadableItemOnceAVersion) {
  json list = json::parse(Page({"a"}, ""));
  list["items"].push_back({{"metadata", {{"name", "bad"}, {"uid", "u"}, {"resourceVersion", "3"}}},
                           {"spec", {{"holderIdentity", 5}}}});
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<ListResult> result = kNothing;
    Call call = StartList(result);
    transport_.Answer(200, list.dump());
    TurnUntil([&result] { return result.ok(); });
    EXPECT_THAT(result->items, SizeIs(1));
  }
  EXPECT_THAT(log_.lines,
              ElementsAre(AllOf(HasSubstr("kind=Lease"), HasSubstr("object=\"/bad u 3\""),
                                HasSubstr("spec.holderIdentity is not a string"))));
  list["items"][1]["metadata"]["resourceVersion"] = "4";
  absl::StatusOr<ListResult> result = kNothing;
  Call call = StartList(result);
  transport_.Answer(200, list.dump());
  TurnUntil([&result] { return result.ok(); });
  EXPECT_THAT(log_.lines, SizeIs(2));
}

TEST_F(KubeClientTest, ACancelledListSaysNothing) {
  absl::StatusOr<ListResult> result = kNothing;
  Call call = StartList(result);
  call = Call();
  EXPECT_TRUE(transport_.exchanges.back()->cancelled);
  call = StartList(result);
  transport_.Answer(200, Page({"a"}, ""));
  call = Call();  // while it is being parsed
  absl::StatusOr<ListResult> other = kNothing;
  Call second = StartList(other);
  transport_.Answer(200, Page({"a"}, ""));
  TurnUntil([&other] { return other.ok(); });  // parsed after the first one
  EXPECT_EQ(result.status(), kNothing);
  // Destroyed while a page is being parsed.
  call = StartList(result);
  transport_.Answer(200, Page({"a"}, ""));
  call = Call();
  second = Call();
  client_.reset();
  loop_.Turn();
  EXPECT_EQ(result.status(), kNothing);
}

TEST_F(KubeClientTest, Watches) {
  watch_ = StartWatch();
  EXPECT_THAT(Path(), HasSubstr("/apis/coordination.k8s.io/v1/namespaces/shop/leases?watch=1"
                                "&allowWatchBookmarks=true&timeoutSeconds="));
  EXPECT_THAT(Path(), HasSubstr("&resourceVersion=7"));
  EXPECT_EQ(transport_.last().deadline, absl::InfiniteDuration());
  EXPECT_EQ(transport_.last().idle_deadline, absl::Seconds(130));
  EXPECT_THAT(events_, IsEmpty());
  transport_.Stream("");
  EXPECT_THAT(events_, ElementsAre("3 - 7"));  // accepted
  events_.clear();
  const std::string stream = Frame("ADDED", LeaseJson("a", "8")) +
                             Frame("MODIFIED", LeaseJson("a", "9")) +
                             Frame("DELETED", LeaseJson("a", "10")) +
                             Frame("BOOKMARK", {{"metadata", {{"resourceVersion", "20"}}}});
  transport_.Stream(stream.substr(0, 100));
  transport_.Stream(stream.substr(100));
  EXPECT_THAT(events_, ElementsAre("0 a 8", "1 a 9", "2 a 10", "3 - 20"));
  transport_.Answer(200, "");
  EXPECT_THAT(ended_, ElementsAre(absl::OkStatus()));
  EXPECT_THAT(observed_, ElementsAre("GET k8s:6443 200 -"));
}

TEST_F(KubeClientTest, WatchesAreRenewedAtDifferentTimes) {
  std::set<std::string> seconds;
  for (int i = 0; i < 50; ++i) {
    Call watch = StartWatch();
    const std::string path = Path();
    const size_t at = path.find("timeoutSeconds=") + 15;
    const std::string value = path.substr(at, path.find('&', at) - at);
    EXPECT_GE(std::stoi(value), 300);
    EXPECT_LE(std::stoi(value), 600);
    seconds.insert(value);
  }
  EXPECT_GT(seconds.size(), 20u);
}

TEST_F(KubeClientTest, AWatchEndsWithItsError) {
  const std::vector<std::pair<absl::StatusOr<HttpResponse>, absl::StatusCode>> cases = {
      {HttpResponse{410, {}, kExpired}, absl::StatusCode::kOutOfRange},
      {HttpResponse{403, {}, "{}"}, absl::StatusCode::kPermissionDenied},
      {HttpResponse{404, {}, "404 page not found"}, absl::StatusCode::kFailedPrecondition},
      {absl::UnavailableError("reset"), absl::StatusCode::kUnavailable},
      {absl::DeadlineExceededError("no byte"), absl::StatusCode::kDeadlineExceeded}};
  for (const auto& [response, code] : cases) {
    ended_.clear();
    watch_ = StartWatch();
    transport_.Answer(response);
    ASSERT_THAT(ended_, SizeIs(1));
    EXPECT_EQ(ended_[0].code(), code);
  }
}

TEST_F(KubeClientTest, AnErrorEventEndsTheWatch) {
  watch_ = StartWatch();
  transport_.Stream(Frame("ERROR", json::parse(kExpired)) + Frame("ADDED", LeaseJson("a", "8")));
  EXPECT_THAT(events_, ElementsAre("3 - 7"));
  ASSERT_THAT(ended_, SizeIs(1));
  EXPECT_TRUE(absl::IsOutOfRange(ended_[0]));
  EXPECT_TRUE(transport_.exchanges.back()->cancelled);
}

TEST_F(KubeClientTest, AnUnreadableObjectDoesNotEndTheWatch) {
  watch_ = StartWatch();
  json bad = LeaseJson("bad", "8");
  bad["spec"]["holderIdentity"] = 5;
  transport_.Stream(Frame("ADDED", bad) + Frame("ADDED", LeaseJson("a", "9")));
  EXPECT_THAT(events_, ElementsAre("3 - 7", "2 bad 8", "0 a 9"));
  EXPECT_THAT(log_.lines, SizeIs(1));
}

TEST_F(KubeClientTest, AStreamOfGarbageEndsTheWatch) {
  for (const char* garbage : {"<html>", "{\"type\":\"ADDED\"}", "{]"}) {
    ended_.clear();
    watch_ = StartWatch();
    transport_.Stream(garbage);
    ASSERT_THAT(ended_, SizeIs(1)) << garbage;
    EXPECT_TRUE(absl::IsInternal(ended_[0])) << ended_[0];
    EXPECT_TRUE(transport_.exchanges.back()->cancelled);
  }
}

TEST_F(KubeClientTest, CancellingAWatchFromWithinItsEventStopsTheRest) {
  for (size_t stop_at : {1u, 2u}) {
    events_.clear();
    stop_at_ = stop_at;
    watch_ = StartWatch();
    transport_.Stream(Frame("ADDED", LeaseJson("a", "8")) + Frame("ADDED", LeaseJson("b", "9")));
    EXPECT_THAT(events_, SizeIs(stop_at));
    EXPECT_TRUE(transport_.exchanges.back()->cancelled);
  }
  EXPECT_THAT(ended_, IsEmpty());
}

TEST_F(KubeClientTest, TellsOurClocksOffset) {
  EXPECT_EQ(client_->ClockOffset(), std::nullopt);
  auto get = [this](std::string date, absl::Duration took) {
    absl::StatusOr<ObjectPtr> result = kNothing;
    Call call = client_->Get({Kind::kLease, "shop", "l"}, Store(result));
    clock_.Advance(took);
    transport_.Answer(404, "", {{"date", std::move(date)}});
  };
  // Our clock says 2026-01-01T00:00:00Z.
  get("nonsense", absl::ZeroDuration());
  EXPECT_EQ(client_->ClockOffset(), std::nullopt);
  get("Thu, 01 Jan 2026 00:00:00 GMT", absl::ZeroDuration());
  EXPECT_EQ(client_->ClockOffset(), absl::ZeroDuration());
  // It goes on by itself: a step of our clock shows at once.
  clock_.Advance(absl::Hours(1));
  EXPECT_EQ(client_->ClockOffset(), absl::ZeroDuration());
  waiter_.set_offset(absl::Hours(24 * 365));
  EXPECT_EQ(client_->ClockOffset(), absl::Hours(24 * 365) - absl::Seconds(1));
  waiter_.set_offset(-absl::Minutes(1));
  EXPECT_EQ(client_->ClockOffset(), -absl::Minutes(1));
  waiter_.set_offset(absl::ZeroDuration());
  // The newest reply counts. The server is 40 s ahead, the reply took 10 s: somewhere within these
  // it was written.
  get("Thu, 01 Jan 2026 01:00:40 GMT", absl::Seconds(10));
  EXPECT_EQ(client_->ClockOffset(), -absl::Seconds(30));
  get("Thu, 01 Jan 2026 01:00:10 GMT", absl::Milliseconds(10));
  EXPECT_EQ(client_->ClockOffset(), absl::ZeroDuration());
}

TEST_F(KubeClientTest, SeveralRepliesTellTheOffsetMoreExactlyThanWholeSeconds) {
  waiter_.set_offset(absl::Milliseconds(500));
  auto get_at = [this](absl::Duration server, std::string date) {
    clock_.AdvanceTo(server);
    absl::StatusOr<ObjectPtr> result = kNothing;
    Call call = client_->Get({Kind::kLease, "shop", "l"}, Store(result));
    transport_.Answer(404, "", {{"date", std::move(date)}});
  };
  get_at(absl::Milliseconds(900), "Thu, 01 Jan 2026 00:00:00 GMT");
  EXPECT_EQ(client_->ClockOffset(), absl::Milliseconds(400));
  get_at(absl::Milliseconds(5000), "Thu, 01 Jan 2026 00:00:05 GMT");
  get_at(absl::Milliseconds(6999), "Thu, 01 Jan 2026 00:00:06 GMT");
  EXPECT_EQ(client_->ClockOffset(), absl::Milliseconds(499));
}

TEST_F(KubeClientTest, AReflectorForgetsWhatCannotBeReadAnyMore) {
  for (const char* type : {"MODIFIED", "DELETED"}) {
    Reflector<Lease> reflector(loop_, *client_, rng_, log_, {.ns = "shop"});
    reflector.Start([](const auto&, const auto&) {});
    transport_.Answer(200, Page({"a"}, ""));
    TurnUntil([&reflector] { return reflector.synced(); });
    ASSERT_EQ(reflector.size(), 1u);
    json bad = LeaseJson("a", "101");
    bad["spec"]["holderIdentity"] = 5;
    transport_.Stream(Frame(type, bad));
    // As after a LIST, which leaves it out.
    EXPECT_EQ(reflector.size(), 0u) << type;
  }
}

}  // namespace
}  // namespace snapkeeper
