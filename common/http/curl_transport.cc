#include "common/http/curl_transport.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/time/clock.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <ctime>

namespace snapkeeper {
namespace {

constexpr size_t kMaxBody = 64 << 20;
constexpr absl::Duration kConnectTimeout = absl::Seconds(10);
// The API server closes a connection after 90 s of idleness; a request that crosses that closing is
// lost.
constexpr long kMaxIdleSeconds = 75;

absl::Duration BootTime() {
  timespec time;
  clock_gettime(CLOCK_BOOTTIME, &time);
  return absl::DurationFromTimespec(time);
}

CURLM* MakeMulti() {
  curl_global_init(CURL_GLOBAL_DEFAULT);
  return curl_multi_init();
}

void Watch(int epoll, int fd, uint32_t events) {
  epoll_event event = {.events = events, .data = {.fd = fd}};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
}

// A peer that vanished without a word is noticed within 30 s, whether we are waiting or sending.
int SetSocketOptions(void*, curl_socket_t socket, curlsocktype) {
  const auto set = [socket](int level, int name, int value) {
    setsockopt(socket, level, name, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 15);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000);
  return CURL_SOCKOPT_OK;
}

struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Url = std::unique_ptr<CURLU, FreeUrl>;

struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using List = std::unique_ptr<curl_slist, FreeList>;

void Append(List& list, const std::string& text) {
  list.reset(curl_slist_append(list.release(), text.c_str()));
}

Url ParseUrl(const std::string& text) {
  Url url(curl_url());
  if (curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) url.reset();
  return url;
}

std::string Part(const Url& url, CURLUPart part) {
  char* text = nullptr;
  if (!url || curl_url_get(url.get(), part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK) return "";
  std::string copy = text;
  curl_free(text);
  return copy;
}

// Of an IPv6 address with its brackets.
std::string HostPort(const Url& url) {
  return Part(url, CURLUPART_HOST) + ":" + Part(url, CURLUPART_PORT);
}

// For messages: the path may be long, the user part secret.
std::string Origin(const std::string& text) {
  const Url url = ParseUrl(text);
  return url ? Part(url, CURLUPART_SCHEME) + "://" + HostPort(url) : "\"" + text + "\"";
}

bool MayBeSentTwice(const std::string& method) { return method == "GET" || method == "HEAD"; }

}  // namespace

// Queued, then begun (with an easy handle), then ended (and in ended_ until `done` is called).
struct CurlTransport::Exchange : std::enable_shared_from_this<Exchange> {
  CurlTransport* transport;
  HttpRequest request;
  bool stream;
  OnData on_data;
  Done done;

  CURL* easy = nullptr;
  List headers, connect_to;
  std::array<char, CURL_ERROR_SIZE> error = {};
  int sends = 0;
  bool head_complete = false;
  bool too_large = false;

  HttpResponse response;
  std::string received;  // not yet handed to on_data
  bool noted = false;    // in received_

  absl::Duration deadline_at;
  absl::Duration last_byte_at;
  absl::Duration filed_at = absl::InfiniteDuration();  // its key in deadlines_

  absl::Duration IdleAt() const { return last_byte_at + request.idle_deadline; }
  void NoteReceived() {
    if (!std::exchange(noted, true)) transport->received_.push_back(weak_from_this());
  }

  CURLcode Configure();
  CURLcode ConfigureTls(const TlsSettings& tls);
  absl::Status StatusOf(CURLcode result) const;
};

CURLcode CurlTransport::Exchange::Configure() {
  // The first error stops what follows.
  CURLcode code = CURLE_OK;
  const auto set = [this, &code](CURLoption option, auto value) {
    if (code == CURLE_OK) code = curl_easy_setopt(easy, option, value);
  };
  set(CURLOPT_PRIVATE, this);
  set(CURLOPT_ERRORBUFFER, error.data());
  set(CURLOPT_URL, request.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_NOSIGNAL, 1L);
  // Without this, cancelling during a name look-up blocks until the look-up is over.
  set(CURLOPT_QUICK_EXIT, 1L);
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(absl::ToInt64Milliseconds(kConnectTimeout)));
  set(CURLOPT_SOCKOPTFUNCTION, &SetSocketOptions);
  set(CURLOPT_MAXAGE_CONN, kMaxIdleSeconds);
  // libcurl's own 60 s would hold on to the address of a server that has moved.
  set(CURLOPT_DNS_CACHE_TIMEOUT, 5L);
  if (stream) {
    set(CURLOPT_FRESH_CONNECT, 1L);
    set(CURLOPT_FORBID_REUSE, 1L);
  }
  // Empty texts, not null, switch the environment's settings off.
  set(CURLOPT_PROXY, request.proxy.c_str());
  set(CURLOPT_NOPROXY, "");
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);

  for (const std::string& header : request.headers) Append(headers, header);
  if (request.method == "HEAD") {
    set(CURLOPT_NOBODY, 1L);
  } else if (!request.body.empty() || request.method == "POST" || request.method == "PUT" ||
             request.method == "PATCH") {
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    set(CURLOPT_POSTFIELDS, request.body.c_str());
    Append(headers, "Expect:");  // no round trip to ask whether a large body is welcome
  }
  if (request.method != "GET" && request.method != "HEAD") {
    set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }

  if (request.tls && code == CURLE_OK) code = ConfigureTls(*request.tls);
  if (headers) set(CURLOPT_HTTPHEADER, headers.get());
  set(CURLOPT_HEADERFUNCTION, &OnHeader);
  set(CURLOPT_HEADERDATA, this);
  set(CURLOPT_WRITEFUNCTION, &OnBody);
  set(CURLOPT_WRITEDATA, this);
  set(CURLOPT_PREREQFUNCTION, &OnSending);
  set(CURLOPT_PREREQDATA, this);
  return code;
}

// libcurl keeps a copy of what it is given here with each connection and reuses it only where all
// is equal. The key is the exception, but a key belongs to its certificate.
CURLcode CurlTransport::Exchange::ConfigureTls(const TlsSettings& tls) {
  CURLcode code = CURLE_OK;
  const auto set = [this, &code](CURLoption option, auto value) {
    if (code == CURLE_OK) code = curl_easy_setopt(easy, option, value);
  };
  const auto set_blob = [&set](CURLoption option, const std::string& text) {
    if (text.empty()) return;
    curl_blob blob = {const_cast<char*>(text.data()), text.size(), CURL_BLOB_NOCOPY};
    set(option, &blob);
  };
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!tls.ca_pem.empty()) {
    set_blob(CURLOPT_CAINFO_BLOB, tls.ca_pem);
    set(CURLOPT_CAPATH, nullptr);  // the system's roots would stay trusted beside ours
  }
  set_blob(CURLOPT_SSLCERT_BLOB, tls.client_cert_pem);
  set_blob(CURLOPT_SSLKEY_BLOB, tls.client_key_pem);
  set(CURLOPT_KEYPASSWD, "");  // OpenSSL would ask the terminal for an encrypted key's
  if (tls.insecure_skip_verify) {
    set(CURLOPT_SSL_VERIFYPEER, 0L);
    set(CURLOPT_SSL_VERIFYHOST, 0L);
  }
  if (!tls.server_name.empty()) {
    // SNI and verification go by the URL's host; so that becomes the name, with the connection and
    // Host: left as they were.
    Url url = ParseUrl(request.url);
    const std::string original = HostPort(url);
    const bool ipv6 = tls.server_name.find(':') != std::string::npos;
    const std::string name = ipv6 ? "[" + tls.server_name + "]" : tls.server_name;
    if (!url || curl_url_set(url.get(), CURLUPART_HOST, name.c_str(), 0) != CURLUE_OK) {
      return CURLE_URL_MALFORMAT;
    }
    set(CURLOPT_URL, Part(url, CURLUPART_URL).c_str());
    Append(connect_to, "::" + original);
    set(CURLOPT_CONNECT_TO, connect_to.get());
    Append(headers, "Host: " + original);
  }
  return code;
}

absl::Status CurlTransport::Exchange::StatusOf(CURLcode result) const {
  // libcurl is content with an answer that ends within its headers.
  const bool whole = head_complete && response.code >= 200;
  if (result == CURLE_OK && whole) return absl::OkStatus();
  const std::string origin = Origin(request.url);
  if (result == CURLE_OK) {
    return absl::UnavailableError(
        fmt::format("{}: the connection was closed within the headers", origin));
  }
  const char* cause = error[0] != '\0' ? error.data() : curl_easy_strerror(result);
  if (too_large) {
    return absl::DataLossError(
        fmt::format("{}: the answer is larger than {} MiB", origin, kMaxBody >> 20));
  }
  switch (result) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      if (sends == 0) return absl::InvalidArgumentError(fmt::format("{}: {}", origin, cause));
      break;  // the answer was not HTTP
    case CURLE_ABORTED_BY_CALLBACK:
      return absl::UnavailableError(fmt::format(
          "{}: the connection was closed before an answer; the server may or may not have acted",
          origin));
    default:
      break;
  }
  return absl::UnavailableError(fmt::format("{}: {}", origin, cause));
}

CurlTransport::CurlTransport(size_t max_unary)
    : max_unary_(max_unary),
      multi_(MakeMulti()),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      alarm_(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC)) {
  // libcurl with NOSIGNAL leaves it to us; OpenSSL may write to a closed socket.
  std::signal(SIGPIPE, SIG_IGN);
  Watch(epoll_, wake_, EPOLLIN);
  Watch(epoll_, alarm_, EPOLLIN);
  curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &OnSocket);
  curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &OnTimeout);
  curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
  // Counts connections in use too, streams among them: a small figure would close each kept-alive
  // one after its request. max_unary and kMaxIdleSeconds bound how many are kept.
  curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, 100'000L);
}

CurlTransport::~CurlTransport() {
  for (const auto& [exchange, owner] : exchanges_) Release(*exchange);
  const auto dropped =
      std::move(exchanges_);  // what callbacks own may cancel other calls as it goes
  exchanges_.clear();
  for (CURL* easy : idle_handles_) curl_easy_cleanup(easy);
  curl_multi_cleanup(multi_);
  close(alarm_);
  close(wake_);
  close(epoll_);
  curl_global_cleanup();
}

absl::Time CurlTransport::Now() const { return absl::Now(); }
absl::Duration CurlTransport::Elapsed() const { return BootTime(); }

void CurlTransport::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wake_, &one, sizeof one);
}

Call CurlTransport::Send(HttpRequest request, OnData on_data, Done done) {
  auto owner = std::make_shared<Exchange>();
  Exchange& exchange = *owner;
  exchange.transport = this;
  exchange.request = std::move(request);
  exchange.stream = on_data != nullptr;
  exchange.on_data = std::move(on_data);
  exchange.done = std::move(done);
  exchange.last_byte_at = Elapsed();
  exchange.deadline_at = exchange.last_byte_at + exchange.request.deadline;
  exchange.filed_at = std::min(exchange.deadline_at, exchange.IdleAt());
  if (exchange.filed_at != absl::InfiniteDuration())
    deadlines_.emplace(exchange.filed_at, &exchange);
  Call call([this, weak = std::weak_ptr<Exchange>(owner)] {
    const auto alive = weak.lock();
    if (!alive) return;
    Release(*alive);
    exchanges_.erase(alive.get());
  });
  exchanges_.emplace(&exchange, std::move(owner));
  if (exchange.stream) {
    Begin(exchange);
  } else {
    queue_.push_back(&exchange);
    BeginQueued();
  }
  return call;
}

void CurlTransport::BeginQueued() {
  while (!queue_.empty() && unary_begun_ < max_unary_) {
    Exchange& next = *queue_.front();
    queue_.pop_front();
    ++unary_begun_;
    Begin(next);
  }
}

void CurlTransport::Begin(Exchange& exchange) {
  if (idle_handles_.empty()) {
    exchange.easy = curl_easy_init();
  } else {
    exchange.easy = idle_handles_.back();
    idle_handles_.pop_back();
  }
  const CURLcode code = exchange.Configure();
  if (code == CURLE_OK) {
    curl_multi_add_handle(multi_, exchange.easy);
  } else {
    ended_.emplace_back(exchange.weak_from_this(), exchange.StatusOf(code));
    Release(exchange);
  }
}

void CurlTransport::Release(Exchange& exchange) {
  if (exchange.filed_at != absl::InfiniteDuration())
    deadlines_.erase({exchange.filed_at, &exchange});
  exchange.filed_at = absl::InfiniteDuration();
  if (!exchange.easy) {
    std::erase(queue_, &exchange);
    return;
  }
  CURL* easy = std::exchange(exchange.easy, nullptr);
  curl_multi_remove_handle(multi_, easy);
  if (!exchange.stream) --unary_begun_;
  if (idle_handles_.size() < max_unary_) {
    curl_easy_reset(easy);
    idle_handles_.push_back(easy);
  } else {
    curl_easy_cleanup(easy);
  }
}

void CurlTransport::Wait(absl::Duration max) {
  BeginQueued();
  absl::Duration due = std::min(Elapsed() + max, curl_due_);
  if (!deadlines_.empty()) due = std::min(due, deadlines_.begin()->first);
  if (!ended_.empty()) due = absl::ZeroDuration();
  SleepUntil(due);
  if (Elapsed() >= curl_due_) {
    curl_due_ = absl::InfiniteDuration();
    int running;
    curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
  }
  CollectEnds();
  ExpireDeadlines();  // after the I/O: what came while the process was frozen still counts
  DeliverData();
  DeliverEnds();
}

void CurlTransport::SleepUntil(absl::Duration due) {
  const absl::Duration left = due - Elapsed();
  // An alarm that is set too early costs one turn; setting it each time would cost a system call
  // each.
  if (left > absl::ZeroDuration() && due < alarm_due_) {
    const itimerspec value = {.it_interval = {},
                              .it_value = absl::ToTimespec(absl::Ceil(left, absl::Nanoseconds(1)))};
    timerfd_settime(alarm_, 0, &value, nullptr);
    alarm_due_ = due;
  }
  std::array<epoll_event, 128> events;
  const int count =
      epoll_wait(epoll_, events.data(), events.size(), left > absl::ZeroDuration() ? -1 : 0);
  for (int i = 0; i < count; ++i) {
    const int fd = events[i].data.fd;
    if (fd == wake_ || fd == alarm_) {
      uint64_t ignored;
      [[maybe_unused]] const ssize_t n = read(fd, &ignored, sizeof ignored);
      if (fd == alarm_) alarm_due_ = absl::InfiniteDuration();
      continue;
    }
    const uint32_t set = events[i].events;
    const int flags = (set & EPOLLIN ? CURL_CSELECT_IN : 0) |
                      (set & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                      (set & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
    int running;
    curl_multi_socket_action(multi_, fd, flags, &running);
  }
}

void CurlTransport::CollectEnds() {
  int left;
  while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    Exchange* exchange = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &exchange);
    ended_.emplace_back(exchange->weak_from_this(), exchange->StatusOf(message->data.result));
    Release(*exchange);
  }
}

void CurlTransport::ExpireDeadlines() {
  const absl::Duration now = Elapsed();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    Exchange& exchange = *deadlines_.begin()->second;
    const absl::Duration due = std::min(exchange.deadline_at, exchange.IdleAt());
    if (due > now) {  // bytes have come since it was filed
      deadlines_.erase(deadlines_.begin());
      exchange.filed_at = due;
      deadlines_.emplace(due, &exchange);
      continue;
    }
    const bool idle = due < exchange.deadline_at;
    ended_.emplace_back(
        exchange.weak_from_this(),
        absl::DeadlineExceededError(fmt::format(
            "{}: {} within {}{}", Origin(exchange.request.url),
            idle ? "no byte" : "no whole answer",
            absl::FormatDuration(idle ? exchange.request.idle_deadline : exchange.request.deadline),
            exchange.easy ? "" : ", waiting for a free connection")));
    Release(exchange);
  }
}

void CurlTransport::DeliverData() {
  for (const auto& weak : std::exchange(received_, {})) {
    const auto exchange = weak.lock();
    if (!exchange) continue;
    exchange->noted = false;
    const std::string data = std::exchange(exchange->received, {});
    exchange->on_data(data);
  }
}

void CurlTransport::DeliverEnds() {
  for (auto& [weak, status] : std::exchange(ended_, {})) {
    const auto exchange = weak.lock();
    if (!exchange) continue;
    exchanges_.erase(exchange.get());
    Done done = std::move(exchange->done);
    if (status.ok()) {
      done(std::move(exchange->response));
    } else {
      done(std::move(status));
    }
  }
}

int CurlTransport::OnSocket(CURL*, curl_socket_t socket, int what, void* self, void*) {
  const int epoll = static_cast<CurlTransport*>(self)->epoll_;
  if (what == CURL_POLL_REMOVE) {
    epoll_ctl(epoll, EPOLL_CTL_DEL, socket, nullptr);
  } else {
    Watch(epoll, socket,
          (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u));
  }
  return 0;
}

int CurlTransport::OnTimeout(CURLM*, long milliseconds, void* self) {
  static_cast<CurlTransport*>(self)->curl_due_ =
      milliseconds < 0 ? absl::InfiniteDuration() : BootTime() + absl::Milliseconds(milliseconds);
  return 0;
}

size_t CurlTransport::OnHeader(char* line, size_t, size_t length, void* self) {
  auto& exchange = *static_cast<Exchange*>(self);
  exchange.last_byte_at = BootTime();
  const absl::string_view text = absl::StripAsciiWhitespace({line, length});
  HttpResponse& response = exchange.response;
  if (text.substr(0, 5) == "HTTP/") {  // of a 1xx, or of the answer
    response.headers.clear();
    exchange.head_complete = false;
    const size_t space = text.find(' ');
    if (space == text.npos || !absl::SimpleAtoi(text.substr(space + 1, 3), &response.code))
      return 0;
    return length;
  }
  if (text.empty()) {
    exchange.head_complete = true;
    if (exchange.stream && response.code / 100 == 2) exchange.NoteReceived();
  }
  const size_t colon = text.find(':');
  if (colon == text.npos) return length;
  const std::string value(absl::StripLeadingAsciiWhitespace(text.substr(colon + 1)));
  const auto [header, added] =
      response.headers.emplace(absl::AsciiStrToLower(text.substr(0, colon)), value);
  if (!added) header->second += ", " + value;
  return length;
}

size_t CurlTransport::OnBody(char* bytes, size_t, size_t length, void* self) {
  auto& exchange = *static_cast<Exchange*>(self);
  exchange.last_byte_at = BootTime();
  if (exchange.stream && exchange.response.code / 100 == 2) {
    exchange.NoteReceived();
    exchange.received.append(bytes, length);
    return length;
  }
  exchange.too_large = exchange.response.body.size() + length > kMaxBody;
  if (exchange.too_large) return 0;
  exchange.response.body.append(bytes, length);
  return length;
}

int CurlTransport::OnSending(void* self, char*, char*, int, int) {
  auto& exchange = *static_cast<Exchange*>(self);
  const bool again = exchange.sends++ > 0;
  return again && !MayBeSentTwice(exchange.request.method) ? CURL_PREREQFUNC_ABORT
                                                           : CURL_PREREQFUNC_OK;
}

}  // namespace snapkeeper
