#ifndef SNAPKEEPER_COMMON_HTTP_CURL_TRANSPORT_H_
#define SNAPKEEPER_COMMON_HTTP_CURL_TRANSPORT_H_

#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>
#include <absl/time/time.h>
#include <curl/curl.h>

#include <deque>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "common/base/waiter.h"
#include "common/http/transport.h"

namespace snapkeeper {

// HTTP/1.1 over libcurl's multi interface, and the waiter of the loop that uses it: sockets, timers
// and Wake() end one epoll_wait; `done` and `on_data` run from within Wait.
//
// - Whole answers share a pool of kept-alive connections, at most `max_unary` requests at a time;
//   further ones queue, their deadline running. An exchange with `on_data` has a connection of its
//   own and does not count.
// - Sends once. libcurl repeats a request by itself where a kept-alive connection turns out to be
//   dead before a byte of the answer; this is left to GET and HEAD. Others end with Unavailable:
//   the server may or may not have acted.
// - Never follows redirects, uses a proxy of the environment, or asks for compression.
// - A whole answer is at most 64 MiB: DataLoss beyond. InvalidArgument for what is not an
//   http(s) URL.
// - Ignores SIGPIPE for the whole process, once constructed.
//
// Loop thread only, but for Now, Elapsed and Wake. Destroying it drops what is under way without a
// callback.
class CurlTransport : public HttpTransport, public Waiter {
 public:
  explicit CurlTransport(size_t max_unary = 64);
  CurlTransport(const CurlTransport&) = delete;
  CurlTransport& operator=(const CurlTransport&) = delete;
  ~CurlTransport() override;

  using HttpTransport::Send;
  Call Send(HttpRequest request, OnData on_data, Done done) override;

  absl::Time Now() const override;
  absl::Duration Elapsed() const override;
  void Wait(absl::Duration max) override;
  void Wake() override;

 private:
  struct Exchange;

  // libcurl's callbacks: they take notes, and call neither libcurl nor the user.
  static int OnSocket(CURL*, curl_socket_t socket, int what, void* self, void*);
  static int OnTimeout(CURLM*, long milliseconds, void* self);
  static size_t OnHeader(char* line, size_t, size_t length, void* exchange);
  static size_t OnBody(char* bytes, size_t, size_t length, void* exchange);
  static int OnSending(void* exchange, char*, char*, int, int);

  void SleepUntil(absl::Duration due);
  void BeginQueued();
  void Begin(Exchange& exchange);
  void CollectEnds();
  void ExpireDeadlines();
  void DeliverData();
  void DeliverEnds();
  // Gives back what the exchange holds of this transport's; only its callbacks are left of it.
  void Release(Exchange& exchange);

  const size_t max_unary_;
  CURLM* const multi_;
  const int epoll_;
  const int wake_;   // eventfd
  const int alarm_;  // timerfd: epoll_wait by itself rounds to whole milliseconds

  absl::Duration alarm_due_ = absl::InfiniteDuration();
  absl::Duration curl_due_ =
      absl::InfiniteDuration();  // when libcurl wants to be called without I/O
  std::vector<CURL*> idle_handles_;

  absl::flat_hash_map<Exchange*, std::shared_ptr<Exchange>> exchanges_;
  std::deque<Exchange*> queue_;
  size_t unary_begun_ = 0;
  std::set<std::pair<absl::Duration, Exchange*>> deadlines_;
  // Still to be told to the user. Weak: cancelling may come first.
  std::vector<std::weak_ptr<Exchange>> received_;
  std::vector<std::pair<std::weak_ptr<Exchange>, absl::Status>> ended_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_HTTP_CURL_TRANSPORT_H_
