#ifndef SNAPKEEPER_COMMON_HTTP_TRANSPORT_H_
#define SNAPKEEPER_COMMON_HTTP_TRANSPORT_H_

#include <absl/functional/any_invocable.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/call.h"

namespace snapkeeper {

// How to trust and present oneself to a server. PEM texts, not paths: whoever reads files re-reads
// them when they change and passes the new text; a transport opens new connections when the text
// differs from the one a connection was made with.
struct TlsSettings {
  std::string ca_pem;  // empty: the system's roots
  std::string client_cert_pem, client_key_pem;
  std::string server_name;  // SNI and verification instead of the URL's host, if set
  bool insecure_skip_verify = false;

  bool operator==(const TlsSettings&) const = default;
};

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  std::string body;
  std::shared_ptr<const TlsSettings> tls;  // null for http://
  std::string proxy;  // empty: none (the environment's proxy is never used by itself)
  absl::Duration deadline =
      absl::Seconds(30);  // of the whole exchange; InfiniteDuration() for a stream
  // A stream ends with DeadlineExceeded when no byte has come for this long.
  absl::Duration idle_deadline = absl::InfiniteDuration();
};

struct HttpResponse {
  int code = 0;
  std::map<std::string, std::string> headers;  // lower-case names
  std::string body;                            // empty where it was streamed
};

// Sends requests. Owned by main(); loop thread only.
class HttpTransport {
 public:
  virtual ~HttpTransport() = default;

  // `done` is called once, never from within Send: an HTTP answer of any code, or why there was
  // none (Unavailable: connect, TLS, reset; DeadlineExceeded: ours). With `on_data`, the body of a
  // 2xx answer is handed over piece by piece instead (valid during the call only); the first piece,
  // empty if need be, comes with the headers: the server has accepted the request. Tries once.
  // Destroying the Call ends the exchange and its callbacks.
  using OnData = absl::AnyInvocable<void(std::string_view)>;
  using Done = absl::AnyInvocable<void(absl::StatusOr<HttpResponse>)>;
  virtual Call Send(HttpRequest request, OnData on_data, Done done) = 0;
  Call Send(HttpRequest request, Done done) {
    return Send(std::move(request), nullptr, std::move(done));
  }
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_HTTP_TRANSPORT_H_
