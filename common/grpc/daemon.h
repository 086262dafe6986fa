#ifndef SNAPKEEPER_COMMON_GRPC_DAEMON_H_
#define SNAPKEEPER_COMMON_GRPC_DAEMON_H_

#include <absl/functional/any_invocable.h>
#include <absl/status/status.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/backoff.h"
#include "common/base/call.h"
#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/options.h"
#include "common/grpc/server.h"
#include "common/http/admin_port.h"
#include "common/http/curl_transport.h"
#include "common/kube/api.h"
#include "common/kube/kube_client.h"
#include "common/kube/kubeconfig.h"

namespace snapkeeper {

// What both daemons are made of, but for their cores.

struct DaemonOptions {
  std::string kubeconfig;           // "": in-cluster, else the usual kubeconfig
  std::string listen, http_listen;  // gRPC; metrics and probes
  bool insecure = false;
  size_t max_requests = 64;  // to the API server at a time; no flag
  LogFormat log_format = LogFormat::kText;
  LogLevel log_level = LogLevel::kInfo;
};
// Adds their flags; `options` holds the defaults.
void AddDaemonFlags(OptionParser& parser, DaemonOptions& options);

// InvalidArgument unless --insecure is given and all of this process' addresses, with those of its
// `peers` as (flag, HOST:PORT), stay on this machine: there is nothing but plaintext yet.
absl::Status CheckPlaintext(const DaemonOptions& options,
                            const std::vector<std::pair<std::string, std::string>>& peers = {});

// Holds back SIGTERM, SIGINT and SIGHUP in this thread and in those that it starts: before any
// other thread is started.
void BlockSignals();

// Takes the signals that are held back. The first runs `stop` on the loop; one that comes at least
// a second later ends the process at once, with exit code 1.
class Signals {
 public:
  Signals(EventLoop& loop, Log& log, absl::AnyInvocable<void()> stop);
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

 private:
  void Run(EventLoop& loop, Log& log, absl::AnyInvocable<void()> stop);

  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

// HOSTNAME-RANDOM: who a process is to other ones.
std::string InstanceName(Rng& rng);

// rest_client_requests_total and rest_client_request_duration_seconds, as client-go has them.
std::function<void(const KubeClient::Exchange&)> RestClientMetrics(Metrics& metrics);

// Keeps /readyz, the gRPC health service, the log and the metrics of clock and loop in step with
// what the process can do. Looks once a second. Loop thread only; all references must outlive it.
class HealthMonitor {
 public:
  // Ready while every check is OK; one of the clock is added (common/model/clock.h).
  using Checks = std::map<std::string, std::function<absl::Status()>>;
  HealthMonitor(EventLoop& loop, Log& log, Metrics& metrics, const KubeApi& api, AdminPort& admin,
                GrpcServer& server, Checks checks);
  HealthMonitor(const HealthMonitor&) = delete;
  HealthMonitor& operator=(const HealthMonitor&) = delete;

  // Looks now, because something has changed.
  void Look();

 private:
  void CheckReady();
  void WarnOfClock();

  EventLoop& loop_;
  Log& log_;
  const KubeApi& api_;
  GrpcServer& server_;
  Checks checks_;
  std::optional<bool> ready_;  // as last told; nothing yet
  bool clock_warned_ = false;
  Call collector_;
  Timer timer_;
};

// A process from its options to its exit code. main() makes one, its core on top of it, and runs
// it:
//
//   const auto daemon = Daemon::Start(options, "snapkeeper-executor");
//   if (!daemon) return 1;
//   Executor executor(daemon->loop(), daemon->api(), …);
//   return daemon->Run({{name, service}}, {{"snapshots", …}},
//                      [&] { executor.Drain([&] { daemon->Stop(0); }); });
//
// The thread that runs it is the loop's.
class Daemon {
 public:
  // To be called before any thread is started. Null where there is no usable kubeconfig; the log
  // says why.
  static std::unique_ptr<Daemon> Start(const DaemonOptions& options, const std::string& program);
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  EventLoop& loop() { return loop_; }
  KubeApi& api() { return *api_; }
  Log& log() { return *log_; }
  Metrics& metrics() { return metrics_; }
  Rng& rng() { return rng_; }
  const KubeConfig& config() const { return *config_; }
  const std::string& instance() const { return instance_; }

  // Opens both ports, says where, and turns the loop until Stop; then closes them and lets go of
  // the services. The first SIGTERM, SIGINT or SIGHUP calls `drain`, which sees to it that Stop is
  // called soon; the process is not ready from then on. One that comes a second later ends it at
  // once. Returns the exit code: Stop's, or 1 where a port cannot be opened; the log says why.
  int Run(GrpcServer::Services services, HealthMonitor::Checks checks,
          absl::AnyInvocable<void()> drain);
  void Stop(int exit_code);

 private:
  Daemon(const DaemonOptions& options, const std::string& program);

  const DaemonOptions options_;
  const std::unique_ptr<Log> log_;
  CurlTransport transport_{options_.max_requests};
  EventLoop loop_{transport_};
  Rng rng_;
  const std::string instance_;
  Metrics metrics_{SNAPKEEPER_VERSION};
  std::unique_ptr<KubeConfig> config_;
  std::unique_ptr<KubeClient> api_;
  int exit_code_ = 0;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_GRPC_DAEMON_H_
