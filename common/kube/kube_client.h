#ifndef SNAPKEEPER_COMMON_KUBE_KUBE_CLIENT_H_
#define SNAPKEEPER_COMMON_KUBE_KUBE_CLIENT_H_

#include <absl/container/flat_hash_set.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/backoff.h"
#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/http/transport.h"
#include "common/kube/api.h"
#include "common/kube/json.h"
#include "common/kube/kubeconfig.h"
#include "common/model/clock.h"

namespace snapkeeper {

// The Kubernetes API over HTTP. Adds to KubeApi's contract:
// - Requests end after 30 s (the API server cuts writes at 34 s), watches after 130 s of silence
//   (two bookmarks are missing then); lists come in pages.
// - Lists are parsed on a thread of its own, everything else on the loop.
// - An object that cannot be read is left out of lists, told as deleted by watches, and logged once
//   a version.
// - Names that are no path segment are InvalidArgument: "" would address all objects of a kind.
//
// Loop thread only. Must outlive its Calls.
class KubeClient : public KubeApi {
 public:
  // One exchange that has ended, for metrics.
  struct Exchange {
    std::string_view method, host;
    int code;                            // 0: no answer
    std::optional<absl::Duration> took;  // not of watches
  };
  struct Options {
    std::string user_agent;  // "snapkeeper-scheduler/0.1.0"
    int page_size = 500;
    std::function<void(const Exchange&)> observer;
  };

  KubeClient(EventLoop& loop, HttpTransport& transport, KubeConfig& config, Rng& rng, Log& log,
             Options options);
  ~KubeClient() override;

  Call Get(const ObjectKey& key, Done done) override;
  Call List(const ListQuery& query, Listed done) override;
  Call Watch(const ListQuery& query, const std::string& resource_version, OnEvent on_event,
             Ended ended) override;
  Call Create(Kind kind, nlohmann::json body, Done done) override;
  Call Delete(const ObjectKey& key, const Preconditions& preconditions,
              absl::AnyInvocable<void(absl::Status)> done) override;
  Call Patch(const ObjectKey& key, nlohmann::json merge_patch, bool status, Done done) override;
  // Goes on with the monotonic clock from the replies, so that a step of our clock shows at once.
  // The least difference that explains what they said in whole seconds, some time on the way ago.
  std::optional<absl::Duration> ClockOffset() const override;
  // Why the newest request, watches left out, got no answer or was refused with 401; Ok a minute
  // later, when that is no news any more. For /readyz: watches that stand may hide it.
  absl::Status health() const;

 private:
  class Worker;
  struct Listing;
  struct Watching;
  // A 2xx answer, or the error that any other one means.
  using Answered = absl::AnyInvocable<void(absl::StatusOr<HttpResponse>)>;

  Call Send(std::string_view method, const std::string& path, std::string_view content_type,
            std::string body, Answered answered);
  HttpRequest MakeRequest(std::string_view method, const std::string& path);
  Call SendObject(std::string_view method, const std::string& path, Kind kind,
                  std::string_view content_type, std::string body, Done done);
  // What every answer tells: metrics, clock, stale credentials.
  absl::StatusOr<HttpResponse> OnAnswer(std::string_view method, std::optional<absl::Duration> sent,
                                        absl::StatusOr<HttpResponse> response);
  Call FailLater(absl::Status status, absl::AnyInvocable<void(absl::Status)> done);

  void GetPage(const std::shared_ptr<Listing>& listing);
  void OnPageText(const std::shared_ptr<Listing>& listing, absl::StatusOr<HttpResponse> response);
  void OnPage(const std::shared_ptr<Listing>& listing, absl::StatusOr<ListPage> page);
  bool OnFrame(Watching& watching, std::string_view text);
  void LogUnreadable(Kind kind, const Unreadable& object);

  EventLoop& loop_;
  HttpTransport& transport_;
  KubeConfig& config_;
  Rng& rng_;
  Log& log_;
  const Options options_;
  const std::string host_;
  const std::unique_ptr<Worker> worker_;
  ServerClock server_clock_;
  absl::Status failure_;  // of the newest request, Ok after one that was answered
  absl::Duration failed_at_;
  absl::flat_hash_set<std::string> unreadable_;  // logged already
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_KUBE_KUBE_CLIENT_H_
