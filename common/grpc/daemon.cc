#include "common/grpc/daemon.h"

#include <absl/synchronization/mutex.h>
#include <fmt/format.h>
#include <grpc/support/log.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <random>

#include "common/base/address.h"
#include "common/model/clock.h"

namespace snapkeeper {
namespace {

constexpr absl::Duration kLookEvery = absl::Seconds(1);
// What a drained core has told its peers last is on its way for this long at most.
constexpr absl::Duration kEndOfStreams = absl::Seconds(2);
// timeout(1) and terminals send theirs to a process and to its group: it comes twice.
constexpr absl::Duration kSameSignal = absl::Seconds(1);

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  // Under nohup it stays ignored: held back, it would come nevertheless.
  struct sigaction hangup;
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaddset(&set, SIGHUP);
  return set;
}

// gRPC's own lines (errors, unless $GRPC_VERBOSITY asks for more) as lines of ours. Its hook takes
// no argument: hence the statics.
class GrpcLog {
 public:
  explicit GrpcLog(Log& log) {
    absl::MutexLock lock(&mutex_);
    log_ = &log;
    gpr_set_log_function(&Write);
  }
  ~GrpcLog() {
    absl::MutexLock lock(&mutex_);
    log_ = nullptr;
    gpr_set_log_function(nullptr);  // its own again
  }
  GrpcLog(const GrpcLog&) = delete;
  GrpcLog& operator=(const GrpcLog&) = delete;

 private:
  static void Write(gpr_log_func_args* line) {
    absl::MutexLock lock(&mutex_);
    if (!log_) return;
    const LogLevel level = line->severity == GPR_LOG_SEVERITY_ERROR  ? LogLevel::kError
                           : line->severity == GPR_LOG_SEVERITY_INFO ? LogLevel::kInfo
                                                                     : LogLevel::kDebug;
    log_->Write(level, "grpc", {{"text", line->message}});
  }

  static inline absl::Mutex mutex_{absl::kConstInit};
  static inline Log* log_ = nullptr;
};

}  // namespace

void AddDaemonFlags(OptionParser& parser, DaemonOptions& options) {
  parser.Add("kubeconfig", &options.kubeconfig,
             "kubeconfig file; default: in-cluster, else $KUBECONFIG, else ~/.kube/config");
  parser.AddAddress("listen", &options.listen, "where to serve gRPC");
  parser.AddAddress("http-listen", &options.http_listen,
                    "where to serve /metrics, /livez, /readyz and /version");
  parser.Add("insecure", &options.insecure,
             "plaintext without authentication, on this machine only");
  parser.AddLog(&options.log_format, &options.log_level);
}

absl::Status CheckPlaintext(const DaemonOptions& options,
                            const std::vector<std::pair<std::string, std::string>>& peers) {
  if (!options.insecure) {
    return absl::InvalidArgumentError(
        "TLS is not available yet: give --insecure, with loopback addresses only (127.0.0.1, "
        "[::1], localhost)");
  }
  std::vector<std::pair<std::string, std::string>> addresses = {
      {"listen", options.listen}, {"http-listen", options.http_listen}};
  addresses.insert(addresses.end(), peers.begin(), peers.end());
  for (const auto& [flag, address] : addresses) {
    if (!IsLoopback(address)) {
      return absl::InvalidArgumentError(
          fmt::format("--insecure means plaintext without authentication: --{} {} must be a "
                      "loopback address (127.0.0.1, [::1], localhost)",
                      flag, address));
    }
  }
  return absl::OkStatus();
}

void BlockSignals() {
  const sigset_t set = StopSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

Signals::Signals(EventLoop& loop, Log& log, absl::AnyInvocable<void()> stop)
    : thread_([this, &loop, &log, stop = std::move(stop)]() mutable {
        Run(loop, log, std::move(stop));
      }) {}

Signals::~Signals() {
  ended_ = true;
  pthread_kill(thread_.native_handle(), SIGINT);  // ends its sigwait
  thread_.join();
}

void Signals::Run(EventLoop& loop, Log& log, absl::AnyInvocable<void()> stop) {
  const sigset_t set = StopSignals();
  absl::Duration first;
  for (;;) {
    int signal = 0;
    sigwait(&set, &signal);
    if (ended_) return;
    if (!stop && loop.Elapsed() - first < kSameSignal) continue;
    const std::string name = fmt::format("SIG{}", sigabbrev_np(signal));
    if (!stop) {
      log.Warning("stopping at once", {{"signal", name}});
      _exit(1);
    }
    first = loop.Elapsed();
    log.Info("stopping", {{"signal", name}});
    loop.Post(std::exchange(stop, nullptr));
  }
}

std::string InstanceName(Rng& rng) {
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  return fmt::format("{}-{:08x}", host, static_cast<uint32_t>(rng()));
}

std::function<void(const KubeClient::Exchange&)> RestClientMetrics(Metrics& metrics) {
  return [requests =
              metrics.AddCounter("rest_client_requests_total",
                                 "Answers of the API server, by code; <error>: there was none."),
          durations = metrics.AddHistogram("rest_client_request_duration_seconds",
                                           "How long requests took, watches left out.",
                                           {0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60})](
             const KubeClient::Exchange& exchange) {
    const std::string method(exchange.method), host(exchange.host);
    requests.Add({{"code", exchange.code == 0 ? "<error>" : fmt::to_string(exchange.code)},
                  {"host", host},
                  {"method", method}});
    if (exchange.took)
      durations.Observe({{"host", host}, {"verb", method}}, absl::ToDoubleSeconds(*exchange.took));
  };
}

HealthMonitor::HealthMonitor(EventLoop& loop, Log& log, Metrics& metrics, const KubeApi& api,
                             AdminPort& admin, GrpcServer& server, Checks checks)
    : loop_(loop), log_(log), api_(api), server_(server), checks_(std::move(checks)) {
  checks_.emplace("clock", [&api] { return CheckClock(api.ClockOffset()); });
  for (const auto& [name, check] : checks_) admin.AddReadyCheck(name, check);
  collector_ = metrics.AddCollector([&loop, &api] {
    std::vector<StateGauge> gauges = {{"snapkeeper_loop_max_turn_seconds",
                                       "Longest turn of the event loop, or the most that a "
                                       "timer was late, since the last scrape.",
                                       {},
                                       {{{}, absl::ToDoubleSeconds(loop.TakeMaxTurn())}}}};
    if (const auto offset = api.ClockOffset()) {
      gauges.push_back({"snapkeeper_clock_offset_seconds",
                        "How far this host's clock is ahead of the API server's.",
                        {},
                        {{{}, absl::ToDoubleSeconds(*offset)}}});
    }
    return gauges;
  });
  Look();
}

void HealthMonitor::Look() {
  CheckReady();
  WarnOfClock();
  timer_ = loop_.After(kLookEvery, [this] { Look(); });
}

void HealthMonitor::CheckReady() {
  std::string why;
  for (const auto& [name, check] : checks_) {
    const absl::Status status = check();
    if (!status.ok())
      why += fmt::format("{}{}: {}", why.empty() ? "" : "; ", name, std::string(status.message()));
  }
  if (ready_ == why.empty()) return;
  ready_ = why.empty();
  server_.SetServing(*ready_);
  if (*ready_) {
    log_.Info("ready", {});
  } else {
    log_.Info("not ready", {{"reason", why}});
  }
}

void HealthMonitor::WarnOfClock() {
  const absl::Duration offset = api_.ClockOffset().value_or(absl::ZeroDuration());
  const bool off = absl::AbsDuration(offset) > kWarnClockOffset;
  if (off == std::exchange(clock_warned_, off)) return;
  if (off) {
    log_.Warning("clock differs from the API server's",
                 {{"ahead_by", offset}, {"stops_at", kMaxClockOffset}});
  } else {
    log_.Info("clock agrees with the API server's", {{"ahead_by", offset}});
  }
}

Daemon::Daemon(const DaemonOptions& options, const std::string& program)
    : options_(options),
      log_(MakeStderrLog(options.log_format, options.log_level)),
      rng_(std::random_device()()),
      instance_(InstanceName(rng_)) {
  absl::StatusOr<std::unique_ptr<KubeConfig>> config =
      KubeConfig::Load(options.kubeconfig, KubeConfig::ProcessEnvironment(), *log_);
  if (!config.ok()) {
    log_->Error("cannot start", {{"error", config.status()}});
    return;
  }
  config_ = *std::move(config);
  api_ = std::make_unique<KubeClient>(
      loop_, transport_, *config_, rng_, *log_,
      KubeClient::Options{.user_agent = fmt::format("{}/{}", program, SNAPKEEPER_VERSION),
                          .observer = RestClientMetrics(metrics_)});
}

std::unique_ptr<Daemon> Daemon::Start(const DaemonOptions& options, const std::string& program) {
  BlockSignals();
  auto daemon = std::unique_ptr<Daemon>(new Daemon(options, program));
  return daemon->api_ ? std::move(daemon) : nullptr;
}

int Daemon::Run(GrpcServer::Services services, HealthMonitor::Checks checks,
                absl::AnyInvocable<void()> drain) {
  const GrpcLog grpc_log(*log_);
  const auto admin = AdminPort::Listen(options_.http_listen, loop_, metrics_, SNAPKEEPER_VERSION);
  const auto server = admin.ok() ? GrpcServer::Start(options_.listen, std::move(services), metrics_)
                                 : admin.status();
  if (!server.ok()) {
    log_->Error("cannot start", {{"error", server.status()}});
    return 1;
  }
  bool stopping = false;
  checks.emplace("api", [this] { return api_->health(); });
  checks.emplace("process", [&stopping] {
    return stopping ? absl::UnavailableError("stopping") : absl::OkStatus();
  });
  HealthMonitor health(loop_, *log_, metrics_, *api_, **admin, **server, std::move(checks));
  const Signals signals(loop_, *log_, [&stopping, &health, &drain] {
    stopping = true;
    health.Look();
    drain();
  });
  log_->Info("listening", {{"grpc", (*server)->address()},
                           {"http", (*admin)->address()},
                           {"version", SNAPKEEPER_VERSION},
                           {"instance", instance_},
                           {"api", config_->origin()}});
  loop_.Run();
  (*server)->Shutdown(kEndOfStreams);
  log_->Info("stopped", {{"exit_code", exit_code_}});
  return exit_code_;
}

void Daemon::Stop(int exit_code) {
  exit_code_ = exit_code;
  loop_.Stop();
}

}  // namespace snapkeeper
