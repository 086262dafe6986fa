#include "common/http/server.h"

#ifdef __SANITIZE_THREAD__
// TSan does not understand fences, and g++ refuses them with it. asio's are beside locks of its
// own.
#define BOOST_ASIO_DISABLE_FENCED_BLOCK
#endif

#include <absl/strings/ascii.h>
#include <absl/time/clock.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/address.h"

namespace snapkeeper {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using beast::error_code;

// Beast bounds neither a chunk's head nor the trailers: the buffer has to.
constexpr size_t kReadSize = 16 << 10;
constexpr auto kLingerTime = std::chrono::seconds(2);
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

// The way of other threads to the server's thread, for as long as there is one.
class Gate {
 public:
  explicit Gate(asio::io_context& io) : io_(&io) {}
  template <typename F>
  void Post(F f) {
    const std::lock_guard lock(mutex_);
    if (io_) asio::post(*io_, std::move(f));
  }
  void Close() {
    const std::lock_guard lock(mutex_);
    io_ = nullptr;
  }

 private:
  std::mutex mutex_;
  asio::io_context* io_;  // under mutex_; null once closed
};

using Headers = std::vector<std::pair<std::string, std::string>>;

// One connection: reads a request, waits for its answer, writes it, reads the next. Server's thread
// only; kept alive by the operations it has under way.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, std::shared_ptr<Gate> gate, const HttpServerLimits& limits,
          HttpServer::Handler& handler, std::vector<Session*>& sessions)
      : stream_(std::move(socket)),
        gate_(std::move(gate)),
        limits_(limits),
        handler_(handler),
        sessions_(sessions),
        buffer_(limits.header_bytes + kReadSize) {}
  ~Session() {
    std::erase(sessions_, this);
    *gone_ = true;
  }

  void ReadNext();
  // No answer is due.
  bool idle() const { return state_ == State::kReading || state_ == State::kClosed; }
  void MakeRoom();

  // The calls of the responder to request number `request`; without effect once its answer is
  // complete.
  void Begin(uint64_t request, int code, std::string_view type, const Headers& headers,
             std::optional<std::string> body);
  void Write(uint64_t request, std::string chunk);
  void End(uint64_t request);
  void Drop(uint64_t request);
  void OnGone(uint64_t request, absl::AnyInvocable<void()> callback);

 private:
  enum class State { kReading, kAwaiting, kAnswering, kFlushing, kClosed };

  void ReadRequest();
  void OnRequest(error_code error);
  void WatchPeer();
  void Put(std::string bytes);
  void Flush();
  void OnFlushed(error_code error);
  void Refuse(int code, std::string_view why);
  void Linger();
  void Gone();
  bool Current(uint64_t request) const {
    return request == request_ && (state_ == State::kAwaiting || state_ == State::kAnswering);
  }

  beast::tcp_stream stream_;
  const std::shared_ptr<Gate> gate_;
  const HttpServerLimits& limits_;
  HttpServer::Handler& handler_;
  std::vector<Session*>& sessions_;

  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  State state_ = State::kReading;
  uint64_t request_ = 0;
  bool head_ = false, http10_ = false, keep_alive_ = false, chunked_ = false;
  absl::AnyInvocable<void()> on_gone_;
  const std::shared_ptr<std::atomic<bool>> gone_ = std::make_shared<std::atomic<bool>>(false);

  std::vector<std::string> pending_, writing_;
  size_t pending_bytes_ = 0;
};

class Reply : public Responder {
 public:
  Reply(std::shared_ptr<Gate> gate, std::weak_ptr<Session> session,
        std::shared_ptr<std::atomic<bool>> gone, uint64_t request)
      : gate_(std::move(gate)),
        session_(std::move(session)),
        gone_(std::move(gone)),
        request_(request) {}
  ~Reply() override {
    Post([](Session& session, uint64_t request) { session.Drop(request); });
  }

  void SetHeader(std::string_view name, std::string_view value) override {
    const std::lock_guard lock(mutex_);
    headers_.emplace_back(name, value);
  }
  void Send(int code, std::string_view type, std::string body) override {
    Post([code, type = std::string(type), headers = TakeHeaders(), body = std::move(body)](
             Session& session, uint64_t request) mutable {
      session.Begin(request, code, type, headers, std::move(body));
    });
  }
  void Begin(int code, std::string_view type) override {
    Post([code, type = std::string(type), headers = TakeHeaders()](Session& session,
                                                                   uint64_t request) mutable {
      session.Begin(request, code, type, headers, std::nullopt);
    });
  }
  void Write(std::string chunk) override {
    Post([chunk = std::move(chunk)](Session& session, uint64_t request) mutable {
      session.Write(request, std::move(chunk));
    });
  }
  void End() override {
    Post([](Session& session, uint64_t request) { session.End(request); });
  }
  bool gone() const override { return *gone_; }
  void OnGone(absl::AnyInvocable<void()> callback) override {
    gate_->Post([session = session_, request = request_, callback = std::move(callback)]() mutable {
      if (const auto alive = session.lock()) {
        alive->OnGone(request, std::move(callback));
      } else {
        callback();
      }
    });
  }

 private:
  template <typename F>
  void Post(F f) {
    gate_->Post([session = session_, request = request_, f = std::move(f)]() mutable {
      if (const auto alive = session.lock()) f(*alive, request);
    });
  }
  Headers TakeHeaders() {
    const std::lock_guard lock(mutex_);
    return std::exchange(headers_, {});
  }

  const std::shared_ptr<Gate> gate_;
  const std::weak_ptr<Session> session_;
  const std::shared_ptr<std::atomic<bool>> gone_;
  const uint64_t request_;
  std::mutex mutex_;
  Headers headers_;  // under mutex_
};

void Session::ReadNext() {
  state_ = State::kReading;
  std::erase(sessions_, this);
  sessions_.push_back(this);
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(limits_.header_bytes));
  parser_->body_limit(limits_.body_bytes);
  if (buffer_.size() > 0) return ReadRequest();
  stream_.expires_after(
      absl::ToChronoNanoseconds(request_ == 0 ? limits_.request_time : limits_.idle_time));
  stream_.async_read_some(buffer_.prepare(kReadSize),
                          [self = shared_from_this()](error_code error, size_t count) {
                            if (error) return;  // closed between requests
                            self->buffer_.commit(count);
                            self->ReadRequest();
                          });
}

void Session::ReadRequest() {
  stream_.expires_after(absl::ToChronoNanoseconds(limits_.request_time));
  http::async_read(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](error_code error, size_t) { self->OnRequest(error); });
}

void Session::OnRequest(error_code error) {
  if (state_ == State::kClosed) return;
  keep_alive_ = false;
  head_ = false;
  http10_ = false;
  ++request_;
  if (error == http::error::body_limit) {
    return Refuse(413, fmt::format("the body is larger than {} bytes", limits_.body_bytes));
  }
  if (error == http::error::header_limit) {
    return Refuse(431, fmt::format("the headers are larger than {} bytes", limits_.header_bytes));
  }
  if (error.category() == http::make_error_code(http::error::bad_method).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message) {
    return Refuse(400, error.message());
  }
  if (error) return;
  stream_.expires_never();
  state_ = State::kAwaiting;
  ServedRequest request;
  auto message = parser_->release();
  request.method = std::string(message.method_string());
  request.target = std::string(message.target());
  for (const auto& field : message) {
    const std::string name = absl::AsciiStrToLower(std::string(field.name_string()));
    const std::string value(field.value());
    const auto [header, added] = request.headers.emplace(name, value);
    if (!added) header->second += ", " + value;
  }
  request.body = std::move(message.body());
  head_ = message.method() == http::verb::head;
  http10_ = message.version() < 11;
  keep_alive_ = message.keep_alive();
  WatchPeer();
  handler_(std::move(request), std::make_shared<Reply>(gate_, weak_from_this(), gone_, request_));
}

// No request is read while an answer is due, so the peer's closing has to be looked for. This is
// also what keeps us alive until then.
void Session::WatchPeer() {
  stream_.socket().async_wait(
      tcp::socket::wait_read, [self = shared_from_this(), request = request_](error_code error) {
        if (error || !self->Current(request)) return;
        beast::flat_buffer& buffer = self->buffer_;
        const auto room = buffer.prepare(std::min(kReadSize, buffer.max_size() - buffer.size()));
        const ssize_t count =
            recv(self->stream_.socket().native_handle(), room.data(), room.size(), MSG_DONTWAIT);
        // Also where it is so far ahead that there is no room.
        if (count == 0 || (count < 0 && errno != EAGAIN)) return self->Gone();
        // The next request, sent early: its turn will come.
        if (count > 0) buffer.commit(count);
        self->WatchPeer();
      });
}

void Session::Begin(uint64_t request, int code, std::string_view type, const Headers& headers,
                    std::optional<std::string> body) {
  if (!Current(request) || state_ != State::kAwaiting) return;
  state_ = State::kAnswering;
  chunked_ = !body && !http10_;
  if (!body && http10_) keep_alive_ = false;  // its end is the connection's
  std::string head =
      fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\n", code,
                  std::string_view(http::obsolete_reason(static_cast<http::status>(code)).data(),
                                   http::obsolete_reason(static_cast<http::status>(code)).size()),
                  absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone()));
  if (!type.empty()) head += fmt::format("Content-Type: {}\r\n", type);
  for (const auto& [name, value] : headers) head += fmt::format("{}: {}\r\n", name, value);
  if (body) head += fmt::format("Content-Length: {}\r\n", body->size());
  if (chunked_) head += "Transfer-Encoding: chunked\r\n";
  if (!keep_alive_) head += "Connection: close\r\n";
  head += "\r\n";
  Put(std::move(head));
  if (!body) return;
  if (!head_) Put(std::move(*body));
  chunked_ = false;
  End(request);
}

void Session::Write(uint64_t request, std::string chunk) {
  if (!Current(request) || state_ != State::kAnswering || chunk.empty() || head_) return;
  if (pending_bytes_ > limits_.backlog_bytes) return Gone();
  if (chunked_) {
    Put(fmt::format("{:x}\r\n{}\r\n", chunk.size(), chunk));
  } else {
    Put(std::move(chunk));
  }
}

void Session::End(uint64_t request) {
  if (!Current(request) || state_ != State::kAnswering) return;
  state_ = State::kFlushing;
  on_gone_ = nullptr;
  if (chunked_ && !head_) Put("0\r\n\r\n");
  if (writing_.empty()) OnFlushed({});
}

void Session::Drop(uint64_t request) {
  if (!Current(request)) return;
  if (state_ == State::kAwaiting) {
    Begin(request, 500, "text/plain; charset=utf-8", {}, "no answer was made\n");
  } else {
    End(request);
  }
}

void Session::OnGone(uint64_t request, absl::AnyInvocable<void()> callback) {
  if (*gone_) {
    callback();
  } else if (Current(request)) {
    on_gone_ = std::move(callback);
  }
}

void Session::Put(std::string bytes) {
  if (state_ == State::kClosed) return;
  pending_bytes_ += bytes.size();
  pending_.push_back(std::move(bytes));
  // Later pieces of the same turn, such as an answer's body, go out in the same write.
  if (pending_.size() == 1 && writing_.empty()) {
    asio::post(stream_.get_executor(), [self = shared_from_this()] { self->Flush(); });
  }
}

void Session::Flush() {
  if (state_ == State::kClosed || !writing_.empty() || pending_.empty()) return;
  writing_.swap(pending_);
  pending_bytes_ = 0;
  std::vector<asio::const_buffer> buffers;
  for (const std::string& bytes : writing_) buffers.push_back(asio::buffer(bytes));
  stream_.expires_after(absl::ToChronoNanoseconds(limits_.write_time));
  asio::async_write(stream_, buffers, [self = shared_from_this()](error_code error, size_t) {
    self->OnFlushed(error);
  });
}

void Session::OnFlushed(error_code error) {
  writing_.clear();
  if (error) return Gone();
  if (!pending_.empty()) return Flush();
  stream_.expires_never();
  if (state_ != State::kFlushing) return;
  if (keep_alive_) {
    ReadNext();
  } else {
    state_ = State::kClosed;
    stream_.socket().shutdown(tcp::socket::shutdown_send, error);
    stream_.expires_after(kLingerTime);
    Linger();
  }
}

void Session::Refuse(int code, std::string_view why) {
  state_ = State::kAwaiting;
  Begin(request_, code, "text/plain; charset=utf-8", {}, fmt::format("{}\n", why));
}

// Closing with unread bytes would reset the connection, and could take the answer away from the
// peer.
void Session::Linger() {
  buffer_.clear();
  stream_.async_read_some(buffer_.prepare(kReadSize),
                          [self = shared_from_this()](error_code error, size_t) {
                            if (!error) self->Linger();
                          });
}

void Session::Gone() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  *gone_ = true;
  stream_.close();
  if (on_gone_) std::exchange(on_gone_, nullptr)();
}

void Session::MakeRoom() {
  state_ = State::kClosed;
  std::erase(sessions_, this);
  stream_.close();
}

class BeastServer : public HttpServer {
 public:
  BeastServer(Handler handler, HttpServerLimits limits)
      : handler_(std::move(handler)),
        limits_(limits),
        acceptor_(io_),
        pause_(io_),
        gate_(std::make_shared<Gate>(io_)) {}
  ~BeastServer() override {
    gate_->Close();
    io_.stop();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Start(const HostPort& address) {
    error_code error;
    tcp::resolver resolver(io_);
    const auto found =
        resolver.resolve(address.host, std::to_string(address.port),
                         tcp::resolver::passive | tcp::resolver::numeric_service, error);
    for (const auto& entry : found) {
      if (!Bind(entry.endpoint(), error)) continue;
      Accept();
      thread_ = std::thread([this] { io_.run(); });
      return absl::OkStatus();
    }
    return absl::UnavailableError(
        fmt::format("cannot listen on {}: {}", FormatHostPort(address), error.message()));
  }

  std::string address() const override { return address_; }

 private:
  bool Bind(const tcp::endpoint& endpoint, error_code& error) {
    acceptor_.close(error);
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(tcp::acceptor::max_listen_connections, error);
    if (error) return false;
    const tcp::endpoint bound = acceptor_.local_endpoint();
    address_ = FormatHostPort({bound.address().to_string(), bound.port()});
    return true;
  }

  void Accept() {
    acceptor_.async_accept([this](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) {  // out of file descriptors, most likely: trying again at once would spin
        pause_.expires_after(kAcceptPause);
        pause_.async_wait([this](error_code) { Accept(); });
        return;
      }
      // Whoever only holds a place must not keep out those who ask.
      if (std::ssize(sessions_) >= limits_.connections) {
        const auto idle = std::find_if(sessions_.begin(), sessions_.end(),
                                       [](const Session* session) { return session->idle(); });
        if (idle != sessions_.end()) (*idle)->MakeRoom();
      }
      if (std::ssize(sessions_) < limits_.connections) {
        socket.set_option(tcp::no_delay(true), error);
        std::make_shared<Session>(std::move(socket), gate_, limits_, handler_, sessions_)
            ->ReadNext();
      }
      Accept();
    });
  }

  Handler handler_;
  const HttpServerLimits limits_;
  std::vector<Session*> sessions_;  // in the order in which they began to wait for a request
  std::string address_;
  asio::io_context io_{1};  // its destruction ends the sessions, which use what is above
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  const std::shared_ptr<Gate> gate_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Listen(std::string_view address,
                                                               Handler handler,
                                                               HttpServerLimits limits) {
  const auto parsed = ParseHostPort(address);
  if (!parsed.ok()) return parsed.status();
  auto server = std::make_unique<BeastServer>(std::move(handler), limits);
  const absl::Status status = server->Start(*parsed);
  if (!status.ok()) return status;
  return server;
}

}  // namespace snapkeeper
