#include "common/http/admin_port.h"

#include <fmt/format.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "common/http/server.h"

namespace snapkeeper {
namespace {

constexpr absl::Duration kLoopPatience = absl::Seconds(1);
constexpr absl::Duration kHeartbeat = absl::Seconds(1);
// Anyone in the cluster may reach it: it must not cost the daemon its memory or file descriptors.
constexpr HttpServerLimits kLimits = {.request_time = absl::Seconds(10),
                                      .connections = 64,
                                      .header_bytes = 16 << 10,
                                      .body_bytes = 4 << 10};
constexpr std::string_view kText = "text/plain; charset=utf-8";

class Port : public AdminPort {
 public:
  Port(EventLoop& loop, Metrics& metrics, std::string_view version, absl::Duration stuck_after)
      : loop_(loop), metrics_(metrics), version_(version), stuck_after_(stuck_after) {
    Beat();
  }

  absl::Status Start(std::string_view address) {
    auto server = HttpServer::Listen(
        address,
        [this](const ServedRequest& request, const std::shared_ptr<Responder>& reply) {
          Serve(request, *reply);
        },
        kLimits);
    if (!server.ok()) return server.status();
    server_ = *std::move(server);
    return absl::OkStatus();
  }

  void AddReadyCheck(std::string_view name, absl::AnyInvocable<absl::Status()> check) override {
    checks_.insert_or_assign(std::string(name), std::move(check));
  }

  std::string address() const override { return server_->address(); }

 private:
  // On the loop.

  void Beat() {
    last_turn_ms_ = absl::ToInt64Milliseconds(loop_.Elapsed());
    heartbeat_ = loop_.After(kHeartbeat, [this] { Beat(); });
  }

  std::string Unready() {
    std::string lines;
    for (auto& [name, check] : checks_) {
      const absl::Status status = check();
      if (!status.ok()) lines += fmt::format("{}: {}\n", name, std::string(status.message()));
    }
    return lines;
  }

  // On the server's thread.

  void Serve(const ServedRequest& request, Responder& reply) {
    const std::string path = request.target.substr(0, request.target.find('?'));
    if (request.method != "GET" && request.method != "HEAD") {
      reply.SetHeader("Allow", "GET, HEAD");
      reply.Send(405, kText, "only GET and HEAD\n");
    } else if (path == "/metrics") {
      const auto state = AskLoop([this] { return metrics_.Collect(); });
      if (!state) return SendStuck(reply);
      reply.Send(200, Metrics::kContentType, metrics_.Serialize(*state));
    } else if (path == "/livez") {
      const bool fresh = loop_.Elapsed() - absl::Milliseconds(last_turn_ms_.load()) < stuck_after_;
      // A process that was frozen has an old heartbeat and a live loop.
      if (!fresh && !AskLoop([] { return true; })) return SendStuck(reply);
      reply.Send(200, kText, "ok\n");
    } else if (path == "/readyz") {
      const auto unready = AskLoop([this] { return Unready(); });
      if (!unready) return SendStuck(reply);
      reply.Send(unready->empty() ? 200 : 503, kText, unready->empty() ? "ok\n" : *unready);
    } else if (path == "/version") {
      reply.Send(200, "application/json", nlohmann::json({{"version", version_}}).dump() + "\n");
    } else {
      reply.Send(404, kText, "try /metrics /livez /readyz /version\n");
    }
  }

  static void SendStuck(Responder& reply) {
    reply.Send(503, kText,
               fmt::format("loop: no answer within {}\n", absl::FormatDuration(kLoopPatience)));
  }

  // Blocks the server's thread alone. What is asked runs only while this Port lives: it may come
  // too late for the asker.
  template <typename F, typename T = std::invoke_result_t<F>>
  std::optional<T> AskLoop(F f) {
    struct Answer {
      std::mutex mutex;
      std::condition_variable given;
      std::optional<T> value;
    };
    const auto answer = std::make_shared<Answer>();
    loop_.Post([alive = std::weak_ptr<bool>(alive_), f = std::move(f), answer] {
      if (!alive.lock()) return;
      T value = f();
      const std::lock_guard lock(answer->mutex);
      answer->value = std::move(value);
      answer->given.notify_one();
    });
    std::unique_lock lock(answer->mutex);
    answer->given.wait_for(lock, absl::ToChronoNanoseconds(kLoopPatience),
                           [&answer] { return answer->value.has_value(); });
    return std::move(answer->value);
  }

  EventLoop& loop_;
  Metrics& metrics_;
  const std::string version_;
  const absl::Duration stuck_after_;
  std::atomic<int64_t> last_turn_ms_ = 0;  // on Elapsed()
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  // Loop thread.
  std::map<std::string, absl::AnyInvocable<absl::Status()>> checks_;
  Timer heartbeat_;

  std::unique_ptr<HttpServer> server_;  // first to go: its thread uses what is above
};

}  // namespace

absl::StatusOr<std::unique_ptr<AdminPort>> AdminPort::Listen(std::string_view address,
                                                             EventLoop& loop, Metrics& metrics,
                                                             std::string_view version,
                                                             absl::Duration stuck_after) {
  auto port = std::make_unique<Port>(loop, metrics, version, stuck_after);
  const absl::Status status = port->Start(address);
  if (!status.ok()) return status;
  return port;
}

}  // namespace snapkeeper
