#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>

#include "common/grpc/daemon.h"
#include "common/grpc/server.h"
#include "common/http/curl_transport.h"
#include "common/kube/kubeconfig.h"
#include "scheduler/grpc/grpc_executor_client.h"
#include "scheduler/scheduler.h"

namespace snapkeeper {
namespace {

// A scheduler that was taken over exits with this, so that whoever restarts it can tell it from a crash.
constexpr int kDeposed = 3;
constexpr absl::Duration kSafeQuarantine = absl::Minutes(2);

struct SchedulerOptions : DaemonOptions {
  std::vector<std::string> executors;
  std::string driver_profiles;
  std::vector<std::string> watch_namespaces;
  absl::Duration prune_quarantine = SchedulerConfig().prune_quarantine;
};

absl::Status Validate(const SchedulerOptions& options) {
  if (options.executors.empty()) {
    return absl::InvalidArgumentError("--executor HOST:PORT is missing: without an executor nothing can be done");
  }
  if (options.prune_quarantine < absl::Seconds(1)) {
    return absl::InvalidArgumentError(
        fmt::format("--prune-quarantine {}: must be at least 1s", absl::FormatDuration(options.prune_quarantine)));
  }
  if (options.prune_quarantine < kSafeQuarantine && !options.insecure) {
    return absl::InvalidArgumentError(fmt::format("--prune-quarantine {}: below 2m only with --insecure, for trying out",
                                                  absl::FormatDuration(options.prune_quarantine)));
  }
  std::vector<std::pair<std::string, std::string>> peers;
  for (const std::string& executor : options.executors) peers.emplace_back("executor", executor);
  return CheckPlaintext(options, peers);
}

absl::StatusOr<DriverProfiles> ReadProfiles(const std::string& path) {
  if (path.empty()) return DriverProfiles();
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return absl::InvalidArgumentError(fmt::format("--driver-profiles {}: cannot be read", path));
  return DriverProfiles::Parse(text.str());
}

int Fail(Log& log, const absl::Status& error) {
  log.Error("cannot start", {{"error", error}});
  return 1;
}

int Main(int argc, char** argv) {
  SchedulerOptions options;
  options.listen = "127.0.0.1:7400";
  options.http_listen = "127.0.0.1:7480";
  OptionParser parser("snapkeeper-scheduler", "Fires snapshot policies, gives jobs to executors and keeps the record.");
  AddDaemonFlags(parser, options);
  parser.AddAddresses("executor", &options.executors, "an executor's gRPC address; repeatable");
  parser.Add("driver-profiles", &options.driver_profiles, "YAML file with limits per CSI driver");
  parser.Add("watch-namespace", &options.watch_namespaces, "only policies of this namespace; repeatable; default all");
  parser.Add("prune-quarantine", &options.prune_quarantine, "a snapshot is not pruned before its run has been posted this long");
  DriverProfiles profiles;
  const auto stop = parser.Parse(argc, argv, std::getenv, [&]() -> absl::Status {
    if (absl::Status valid = Validate(options); !valid.ok()) return valid;
    absl::StatusOr<DriverProfiles> read = ReadProfiles(options.driver_profiles);
    if (read.ok()) profiles = *std::move(read);
    return read.status();
  });
  if (stop) return stop->Print();

  BlockSignals();
  const auto log = MakeStderrLog(options.log_format, options.log_level);
  CurlTransport transport;
  EventLoop loop(transport);
  Rng rng(std::random_device{}());
  Metrics metrics(SNAPKEEPER_VERSION);

  const auto config = KubeConfig::Load(options.kubeconfig, KubeConfig::ProcessEnvironment(), *log);
  if (!config.ok()) return Fail(*log, config.status());
  KubeClient api(loop, transport, **config, rng, *log,
                 {.user_agent = "snapkeeper-scheduler/" SNAPKEEPER_VERSION, .observer = RestClientMetrics(metrics)});
  std::vector<std::unique_ptr<ExecutorClient>> clients;
  std::vector<ExecutorClient*> executors;
  for (const std::string& address : options.executors) {
    clients.push_back(MakeGrpcExecutorClient(loop, address));
    executors.push_back(clients.back().get());
  }
  Scheduler scheduler(loop, api, executors, rng, *log, metrics,
                      {.id = InstanceName(rng),
                       .lease_namespace = (*config)->ns(),
                       .watch_namespaces = options.watch_namespaces,
                       .profiles = std::move(profiles),
                       .prune_quarantine = options.prune_quarantine});

  const auto admin = AdminPort::Listen(options.http_listen, loop, metrics, SNAPKEEPER_VERSION);
  if (!admin.ok()) return Fail(*log, admin.status());
  const auto server = GrpcServer::Start(options.listen, {});
  if (!server.ok()) return Fail(*log, server.status());
  HealthMonitor health(loop, *log, metrics, api, **admin, **server, {{"scheduler", [&scheduler] { return scheduler.Ready(); }}});

  int exit_code = 0;
  const Signals signals(loop, *log, [&] {
    scheduler.Drain([&loop] { loop.Stop(); });
    health.Look();
  });
  scheduler.Start([&](const std::string&) {
    exit_code = kDeposed;
    loop.Stop();
  });

  log->Info("listening", {{"grpc", (*server)->address()}, {"http", (*admin)->address()}, {"version", SNAPKEEPER_VERSION},
                          {"api", (*config)->origin()}});
  loop.Run();
  (*server)->Shutdown(absl::Seconds(1));
  log->Info("stopped", {{"exit_code", exit_code}});
  return exit_code;
}

}  // namespace
}  // namespace snapkeeper

int main(int argc, char** argv) { return snapkeeper::Main(argc, argv); }
