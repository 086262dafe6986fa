#ifndef SNAPKEEPER_COMMON_HTTP_SERVER_H_
#define SNAPKEEPER_COMMON_HTTP_SERVER_H_

#include <absl/functional/any_invocable.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace snapkeeper {

struct ServedRequest {
  std::string method;
  std::string target;                          // path and query as received
  std::map<std::string, std::string> headers;  // lower-case names; repeated ones joined by ", "
  std::string body;
};

// The reply to one request. Any thread; calls after the peer has gone, or after the answer, do
// nothing. Dropping the last reference without an answer sends 500; of a stream, ends it. May
// outlive the server.
class Responder {
 public:
  virtual ~Responder() = default;
  // An extra header, such as Retry-After. Before Send or Begin.
  virtual void SetHeader(std::string_view name, std::string_view value) = 0;
  // A whole answer.
  virtual void Send(int code, std::string_view content_type, std::string body) = 0;
  // A chunked answer: Begin, then any number of Write, ended by End or by dropping the responder.
  virtual void Begin(int code, std::string_view content_type) = 0;
  virtual void Write(std::string chunk) = 0;
  virtual void End() = 0;
  // True once the peer has closed the connection, or the server has ended.
  virtual bool gone() const = 0;
  // `callback` runs once, on the server's thread, when the peer has gone before the end of the
  // answer. Dropped when the answer or the server ends first.
  virtual void OnGone(absl::AnyInvocable<void()> callback) = 0;
};

// What a peer may cost. A peer beyond one of the times is closed, and so is one that sends more
// ahead of an answer than a request's headers may have.
struct HttpServerLimits {
  absl::Duration request_time =
      absl::Seconds(30);  // to finish a request it has begun, or its first
  absl::Duration idle_time =
      absl::Seconds(120);  // between requests; longer than our client reuses a connection
  absl::Duration write_time = absl::Seconds(30);  // to take what is written
  // Beyond, whoever has waited longest without an answer being due is closed; where all are being
  // answered, the newest.
  int connections = 1000;
  size_t header_bytes = 64 << 10;   // 431 beyond
  size_t body_bytes = 3 << 20;      // 413 beyond
  size_t backlog_bytes = 64 << 20;  // of a streamed answer, not yet taken; closed beyond
};

// A small HTTP/1.1 server (Boost.Beast) with keep-alive on one thread of its own: /metrics and the
// probes of the daemons, and the API of the simulator. The destructor closes everything and joins
// the thread; not to be called on that thread.
class HttpServer {
 public:
  // Called on the server's thread, one request at a time.
  using Handler = absl::AnyInvocable<void(ServedRequest, std::shared_ptr<Responder>)>;

  // `address` is HOST:PORT; port 0 takes a free one. InvalidArgument if it is not, Unavailable if
  // it cannot be bound.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Listen(std::string_view address,
                                                            Handler handler,
                                                            HttpServerLimits limits = {});
  virtual ~HttpServer() = default;

  // HOST:PORT as bound.
  virtual std::string address() const = 0;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_HTTP_SERVER_H_
