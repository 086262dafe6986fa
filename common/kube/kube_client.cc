#include "common/kube/kube_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <iterator>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include "common/kube/json.h"
#include "common/kube/json_splitter.h"
#include "common/kube/text.h"

namespace snapkeeper {
namespace {

using nlohmann::json;

constexpr absl::Duration kDeadline = absl::Seconds(30);
constexpr absl::Duration kSilence = absl::Seconds(130);
constexpr absl::Duration kFailureIsNews = absl::Minutes(1);
// A list that expires again and again is larger than the server keeps history for.
constexpr int kMaxListTries = 3;
constexpr size_t kMaxUnreadable = 1000;

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kMergePatch = "application/merge-patch+json";

// apimachinery pkg/api/validation/path.
absl::Status CheckSegment(std::string_view what, std::string_view segment) {
  if (!segment.empty() && segment != "." && segment != ".." &&
      segment.find_first_of("/%") == std::string_view::npos) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(fmt::format("\"{}\" cannot be a {}", segment, what));
}

absl::Status CheckNamespace(std::string_view ns) {
  return ns.empty() ? absl::OkStatus() : CheckSegment("namespace", ns);
}

absl::Status CheckKey(const ObjectKey& key) {
  absl::Status status = CheckNamespace(key.ns);
  status.Update(CheckSegment("name", key.name));
  return status;
}

std::string PathOf(const ObjectKey& key) { return PathOf(key.kind, key.ns, key.name); }

std::string PathOf(const ListQuery& query, std::string parameters) {
  if (!query.label_selector.empty()) {
    parameters += "&labelSelector=" + PercentEncode(query.label_selector);
  }
  if (!query.field_selector.empty()) {
    parameters += "&fieldSelector=" + PercentEncode(query.field_selector);
  }
  return PathOf(query.kind, query.ns) + "?" + parameters;
}

std::string HostOf(const std::string& server) {
  const std::string rest = server.substr(server.find("//") + 2);
  return rest.substr(0, rest.find('/'));
}

absl::StatusOr<ObjectPtr> ReadObject(Kind kind, const std::string& body) {
  const absl::StatusOr<json> object = ParseJson(body);
  absl::StatusOr<ObjectPtr> value =
      object.ok() ? ObjectFromJson(kind, *object) : absl::StatusOr<ObjectPtr>(object.status());
  if (value.ok()) return value;
  return absl::InternalError(fmt::format("the answer of the API server cannot be read: {}",
                                         std::string(value.status().message())));
}

}  // namespace

// Runs tasks in order on one thread. The destructor waits for the one that is running and drops the
// others.
class KubeClient::Worker {
 public:
  ~Worker() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  void Post(EventLoop::Task task) {
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_one();
  }

 private:
  void Run() {
    for (;;) {
      EventLoop::Task task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
        if (stop_) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  // Not absl's, which Debian builds without what TSan needs to see.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<EventLoop::Task> tasks_;  // under mutex_
  bool stop_ = false;                  // under mutex_
  std::thread thread_{[this] { Run(); }};
};

// Owned by the caller's Call; everything under way has a weak pointer to it.
struct KubeClient::Listing {
  ListQuery query;
  Listed done;
  ListResult result;
  std::string next;  // the continue token of the next page
  int page_size = 0;
  int tries = 0;
  Call call;

  void Finish(absl::StatusOr<ListResult> answer) {
    Listed last = std::move(done);
    last(std::move(answer));
  }
};

struct KubeClient::Watching {
  Kind kind;
  std::string resource_version;
  OnEvent on_event;
  Ended ended;
  bool accepted = false;
  bool over = false;  // ended, or the caller is not interested any more
  JsonSplitter splitter;
  Call call;

  void Finish(absl::Status status) {
    over = true;
    call = Call();
    Ended last = std::move(ended);
    last(std::move(status));
  }
};

KubeClient::KubeClient(EventLoop& loop, HttpTransport& transport, KubeConfig& config, Rng& rng,
                       Log& log, Options options)
    : loop_(loop),
      transport_(transport),
      config_(config),
      rng_(rng),
      log_(log),
      options_(std::move(options)),
      host_(HostOf(config.Current(loop.Elapsed()).server)),
      worker_(std::make_unique<Worker>()) {}

KubeClient::~KubeClient() = default;

Call KubeClient::Get(const ObjectKey& key, Done done) {
  if (absl::Status status = CheckKey(key); !status.ok()) return FailLater(status, std::move(done));
  return SendObject("GET", PathOf(key), key.kind, "", "", std::move(done));
}

Call KubeClient::Create(Kind kind, json body, Done done) {
  const std::string ns = body.value(json::json_pointer("/metadata/namespace"), "");
  if (absl::Status status = CheckNamespace(ns); !status.ok()) {
    return FailLater(status, std::move(done));
  }
  return SendObject("POST", PathOf(kind, ns), kind, kJson, Dump(body), std::move(done));
}

Call KubeClient::Patch(const ObjectKey& key, json merge_patch, bool status, Done done) {
  if (absl::Status bad = CheckKey(key); !bad.ok()) return FailLater(bad, std::move(done));
  return SendObject("PATCH", PathOf(key) + (status ? "/status" : ""), key.kind, kMergePatch,
                    Dump(merge_patch), std::move(done));
}

Call KubeClient::Delete(const ObjectKey& key, const Preconditions& preconditions,
                        absl::AnyInvocable<void(absl::Status)> done) {
  if (absl::Status status = CheckKey(key); !status.ok()) return FailLater(status, std::move(done));
  // In the body: query parameters cannot carry preconditions.
  json options = {{"apiVersion", "v1"},
                  {"kind", "DeleteOptions"},
                  {"preconditions", {{"uid", preconditions.uid}}}};
  if (!preconditions.resource_version.empty()) {
    options["preconditions"]["resourceVersion"] = preconditions.resource_version;
  }
  return Send("DELETE", PathOf(key), kJson, Dump(options),
              [done = std::move(done)](const absl::StatusOr<HttpResponse>& response) mutable {
                done(response.status());
              });
}

Call KubeClient::List(const ListQuery& query, Listed done) {
  if (absl::Status status = CheckNamespace(query.ns); !status.ok()) {
    return FailLater(status, std::move(done));
  }
  auto listing = std::make_shared<Listing>();
  listing->query = query;
  listing->page_size = options_.page_size;
  listing->done = std::move(done);
  GetPage(listing);
  return Call([listing] { listing->call = Call(); });
}

void KubeClient::GetPage(const std::shared_ptr<Listing>& listing) {
  std::string parameters = fmt::format("limit={}", listing->page_size);
  if (!listing->next.empty()) parameters += "&continue=" + PercentEncode(listing->next);
  listing->call =
      Send("GET", PathOf(listing->query, parameters), "", "",
           [this, weak = std::weak_ptr(listing)](absl::StatusOr<HttpResponse> response) {
             if (const auto alive = weak.lock()) OnPageText(alive, std::move(response));
           });
}

void KubeClient::OnPageText(const std::shared_ptr<Listing>& listing,
                            absl::StatusOr<HttpResponse> response) {
  if (!response.ok()) {
    // A page has expired. The token that the server offers would go on with other objects' newer
    // states: begin again.
    if (absl::IsOutOfRange(response.status()) && ++listing->tries < kMaxListTries) {
      listing->result = {};
      listing->next.clear();
      return GetPage(listing);
    }
    // Smaller pages of objects that are as large as they may be.
    if (absl::IsDataLoss(response.status()) && listing->page_size > 1) {
      listing->page_size /= 2;
      return GetPage(listing);
    }
    return listing->Finish(response.status());
  }
  worker_->Post([this, kind = listing->query.kind, text = std::move(response->body),
                 weak = std::weak_ptr(listing)] {
    loop_.Post([this, page = ParsePage(kind, text), weak]() mutable {
      if (const auto alive = weak.lock()) OnPage(alive, std::move(page));
    });
  });
}

void KubeClient::OnPage(const std::shared_ptr<Listing>& listing, absl::StatusOr<ListPage> page) {
  if (!page.ok()) {
    return listing->Finish(absl::InternalError(fmt::format(
        "a list of the API server cannot be read: {}", std::string(page.status().message()))));
  }
  for (const Unreadable& item : page->unreadable) LogUnreadable(listing->query.kind, item);
  ListResult& result = listing->result;
  result.resource_version = std::move(page->resource_version);
  if (result.items.empty()) {
    result.items = std::move(page->items);
  } else {
    std::move(page->items.begin(), page->items.end(), std::back_inserter(result.items));
  }
  if (!page->next.empty() && page->next == listing->next) {
    return listing->Finish(absl::InternalError(
        "the API server answers every page of a list with the same continue token"));
  }
  listing->next = std::move(page->next);
  if (!listing->next.empty()) return GetPage(listing);
  listing->Finish(std::move(result));
}

Call KubeClient::Watch(const ListQuery& query, const std::string& resource_version,
                       OnEvent on_event, Ended ended) {
  if (absl::Status status = CheckNamespace(query.ns); !status.ok()) {
    return FailLater(status, std::move(ended));
  }
  auto watching = std::make_shared<Watching>();
  watching->kind = query.kind;
  watching->resource_version = resource_version;
  watching->on_event = std::move(on_event);
  watching->ended = std::move(ended);

  // Spread, so that what was opened together is not renewed together for ever.
  const int seconds = std::uniform_int_distribution<int>(300, 600)(rng_);
  HttpRequest request = MakeRequest(
      "GET", PathOf(query, fmt::format("watch=1&allowWatchBookmarks=true&timeoutSeconds={}"
                                       "&resourceVersion={}",
                                       seconds, PercentEncode(resource_version))));
  request.deadline = absl::InfiniteDuration();
  request.idle_deadline = kSilence;
  const std::weak_ptr<Watching> weak = watching;
  watching->call = transport_.Send(
      std::move(request),
      [this, weak](std::string_view piece) {
        const auto alive = weak.lock();
        if (!alive || alive->over) return;
        if (!std::exchange(alive->accepted, true)) {
          failure_ = absl::OkStatus();
          alive->on_event({WatchEvent::kBookmark, nullptr, alive->resource_version});
        }
        const bool sound = alive->splitter.Feed(
            piece, [this, &alive](std::string_view text) { return OnFrame(*alive, text); });
        if (!sound && !alive->over) {
          alive->Finish(absl::InternalError("the API server's watch stream cannot be read"));
        }
      },
      [this, weak](absl::StatusOr<HttpResponse> response) {
        absl::Status status = OnAnswer("GET", std::nullopt, std::move(response)).status();
        const auto alive = weak.lock();
        if (alive && !alive->over) alive->Finish(std::move(status));
      });
  return Call([watching] {
    watching->over = true;
    watching->call = Call();
  });
}

// False: no further frame of this watch matters.
bool KubeClient::OnFrame(Watching& watching, std::string_view text) {
  if (watching.over) return false;
  absl::StatusOr<WatchFrame> frame = ParseFrame(watching.kind, text);
  if (!frame.ok()) {
    watching.Finish(frame.status());
    return false;
  }
  if (frame->unreadable) LogUnreadable(watching.kind, *frame->unreadable);
  watching.on_event(std::move(frame->event));
  return !watching.over;
}

std::optional<absl::Duration> KubeClient::ClockOffset() const {
  return server_clock_.Offset(loop_.Now(), loop_.Elapsed());
}

absl::Status KubeClient::health() const {
  return loop_.Elapsed() - failed_at_ < kFailureIsNews ? failure_ : absl::OkStatus();
}

HttpRequest KubeClient::MakeRequest(std::string_view method, const std::string& path) {
  const Credentials& credentials = config_.Current(loop_.Elapsed());
  HttpRequest request;
  request.method = method;
  request.url = credentials.server + path;
  request.headers = credentials.headers;
  request.headers.push_back("User-Agent: " + options_.user_agent);
  request.headers.push_back("Accept: application/json");
  request.tls = credentials.tls;
  request.proxy = credentials.proxy;
  request.deadline = kDeadline;
  return request;
}

Call KubeClient::Send(std::string_view method, const std::string& path,
                      std::string_view content_type, std::string body, Answered answered) {
  HttpRequest request = MakeRequest(method, path);
  if (!content_type.empty()) {
    request.headers.push_back(fmt::format("Content-Type: {}", content_type));
  }
  request.body = std::move(body);
  return transport_.Send(
      std::move(request),
      [this, method = std::string(method), sent = loop_.Elapsed(),
       answered = std::move(answered)](absl::StatusOr<HttpResponse> response) mutable {
        const bool heard = response.ok();
        absl::StatusOr<HttpResponse> answer = OnAnswer(method, sent, std::move(response));
        const bool failed = absl::IsUnauthenticated(answer.status()) || !heard;
        failure_ = failed ? answer.status() : absl::OkStatus();
        failed_at_ = loop_.Elapsed();
        answered(std::move(answer));
      });
}

Call KubeClient::SendObject(std::string_view method, const std::string& path, Kind kind,
                            std::string_view content_type, std::string body, Done done) {
  return Send(method, path, content_type, std::move(body),
              [kind, done = std::move(done)](absl::StatusOr<HttpResponse> response) mutable {
                if (!response.ok()) return done(response.status());
                if (kind == Kind::kEvent) return done(ObjectPtr());
                done(ReadObject(kind, response->body));
              });
}

absl::StatusOr<HttpResponse> KubeClient::OnAnswer(std::string_view method,
                                                  std::optional<absl::Duration> sent,
                                                  absl::StatusOr<HttpResponse> response) {
  const absl::Duration now = loop_.Elapsed();
  const int code = response.ok() ? response->code : 0;
  if (options_.observer) {
    options_.observer({method, host_, code, sent ? std::optional(now - *sent) : std::nullopt});
  }
  if (code == 401 || absl::IsUnavailable(response.status())) config_.ReadAgain();
  if (!response.ok()) return response;

  auto header = [&response](const char* name) -> std::string {
    const auto it = response->headers.find(name);
    return it == response->headers.end() ? "" : it->second;
  };
  absl::Time date;
  // Of a watch it is the time of its beginning.
  if (sent && absl::ParseTime("%a, %d %b %Y %H:%M:%S GMT", header("date"), &date, nullptr))
    server_clock_.Hear(date, *sent, now);
  if (const std::string warning = header("warning"); !warning.empty()) {
    log_.Debug("the API server warns", {{"warning", warning}});
  }
  if (code / 100 == 2) return response;
  return StatusFromHttp(code, response->body, header("retry-after"));
}

Call KubeClient::FailLater(absl::Status status, absl::AnyInvocable<void(absl::Status)> done) {
  Timer timer = loop_.After(
      absl::ZeroDuration(),
      [status = std::move(status), done = std::move(done)]() mutable { done(std::move(status)); });
  return Call([timer = std::move(timer)]() mutable { timer.Cancel(); });
}

void KubeClient::LogUnreadable(Kind kind, const Unreadable& object) {
  if (unreadable_.size() >= kMaxUnreadable) unreadable_.clear();
  if (!unreadable_.insert(object.object).second) return;
  log_.Warning(
      "an object cannot be read and is ignored",
      {{"kind", ResourceOf(kind).kind}, {"object", object.object}, {"error", object.status}});
}

}  // namespace snapkeeper
