#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/base/event_loop.h"
#include "common/base/options.h"
#include "common/http/curl_transport.h"
#include "common/kube/kubeconfig.h"

namespace snapkeeper {
namespace {

// POSTs texts to one URL as fast as its transport's kept-alive connections allow, and does nothing
// else: what a daemon's speed is held against. Stops the loop at the end.
class Poster {
 public:
  Poster(EventLoop& loop, HttpTransport& transport, const Credentials& credentials,
         const std::string& path, std::vector<std::string> bodies)
      : loop_(loop), transport_(transport), bodies_(std::move(bodies)) {
    prototype_.url = credentials.server + path;
    prototype_.headers = credentials.headers;
    prototype_.tls = credentials.tls;
  }

  // Connects first, so that no handshake is measured.
  void Start(int connections) {
    HttpRequest request = prototype_;
    request.url += "?limit=1";
    for (int i = 0; i < connections; ++i) Send(request, 200);
  }
  // The last thing that went wrong, or "".
  const std::string& error() const { return error_; }

 private:
  void Post() {
    HttpRequest request = prototype_;
    request.method = "POST";
    request.headers.emplace_back("Content-Type: application/json");
    for (std::string& body : std::exchange(bodies_, {})) {
      request.body = std::move(body);
      Send(request, 201);
    }
  }
  void Send(HttpRequest request, int wanted) {
    calls_.push_back(transport_.Send(std::move(request),
                                     [this, wanted](const absl::StatusOr<HttpResponse>& answer) {
                                       if (!answer.ok()) {
                                         error_ = answer.status().ToString();
                                       } else if (answer->code != wanted) {
                                         error_ = fmt::format("{}: {}", answer->code, answer->body);
                                       }
                                       if (++ended_ < calls_.size()) return;
                                       if (!error_.empty() || bodies_.empty()) return loop_.Stop();
                                       Post();
                                     }));
  }

  EventLoop& loop_;
  HttpTransport& transport_;
  HttpRequest prototype_;
  std::vector<std::string> bodies_;
  std::vector<Call> calls_;
  size_t ended_ = 0;
  std::string error_;
};

int Main(int argc, char** argv) {
  std::string kubeconfig, path, bodies_file;
  int in_flight = 16;
  OptionParser parser("snapkeeper-bench-post", "POSTs each line of a file.");
  parser.Add("kubeconfig", &kubeconfig, "kubeconfig file");
  parser.Add("path", &path, "of the URL");
  parser.Add("bodies", &bodies_file, "one JSON object a line");
  parser.Add("in-flight", &in_flight, "requests at a time");
  if (const auto stop = parser.Parse(argc, argv, std::getenv)) return stop->Print();

  std::vector<std::string> bodies;
  std::ifstream file(bodies_file);
  for (std::string line; std::getline(file, line);) bodies.push_back(line);
  const auto log = MakeStderrLog(LogFormat::kText, LogLevel::kInfo);
  auto config = KubeConfig::Load(kubeconfig, {}, *log);
  if (!config.ok() || bodies.empty()) {
    log->Error("cannot start", {{"error", config.status()}, {"bodies", bodies.size()}});
    return 1;
  }
  CurlTransport transport(in_flight);
  EventLoop loop(transport);
  Poster poster(loop, transport, (*config)->Current(loop.Elapsed()), path, std::move(bodies));
  poster.Start(in_flight);
  loop.Run();
  if (poster.error().empty()) return 0;
  log->Error("not posted", {{"error", poster.error()}});
  return 1;
}

}  // namespace
}  // namespace snapkeeper

int main(int argc, char** argv) { return snapkeeper::Main(argc, argv); }
