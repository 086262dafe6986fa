#include <fmt/format.h>

#include <cstdlib>

#include "common/base/file.h"
#include "common/grpc/daemon.h"
#include "scheduler/grpc/grpc_executor_client.h"
#include "scheduler/scheduler.h"

namespace snapkeeper {
namespace {

// A scheduler that was taken over exits with this, so that whoever restarts it can tell it from a
// crash.
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
    return absl::InvalidArgumentError(
        "--executor HOST:PORT is missing: without an executor nothing can be done");
  }
  if (options.prune_quarantine < absl::Seconds(1)) {
    return absl::InvalidArgumentError(fmt::format("--prune-quarantine {}: must be at least 1s",
                                                  absl::FormatDuration(options.prune_quarantine)));
  }
  if (options.prune_quarantine < kSafeQuarantine && !options.insecure) {
    return absl::InvalidArgumentError(
        fmt::format("--prune-quarantine {}: below 2m only with --insecure, for trying out",
                    absl::FormatDuration(options.prune_quarantine)));
  }
  std::vector<std::pair<std::string, std::string>> peers;
  for (const std::string& executor : options.executors) peers.emplace_back("executor", executor);
  return CheckPlaintext(options, peers);
}

absl::StatusOr<DriverProfiles> ReadProfiles(const std::string& path) {
  if (path.empty()) return DriverProfiles();
  const absl::StatusOr<std::string> text = ReadFile(path);
  absl::StatusOr<DriverProfiles> profiles =
      text.ok() ? DriverProfiles::Parse(*text) : text.status();
  if (profiles.ok()) return profiles;
  return absl::InvalidArgumentError(
      fmt::format("--driver-profiles {}: {}", path, std::string(profiles.status().message())));
}

int Main(int argc, char** argv) {
  SchedulerOptions options;
  options.listen = "127.0.0.1:7400";
  options.http_listen = "127.0.0.1:7480";
  OptionParser parser("snapkeeper-scheduler",
                      "Fires snapshot policies, gives jobs to executors and keeps the record.");
  AddDaemonFlags(parser, options);
  parser.AddAddresses("executor", &options.executors, "an executor's gRPC address; repeatable");
  parser.Add("driver-profiles", &options.driver_profiles,
             "YAML file: drivers: {NAME or default: {maxCreating: 32, readyTimeout: 10m}}");
  parser.AddNamespaces("watch-namespace", &options.watch_namespaces,
                       "only policies of this namespace; repeatable; default all");
  parser.Add("prune-quarantine", &options.prune_quarantine,
             "a snapshot is not pruned before its run has been posted this long");
  DriverProfiles profiles;
  const auto stop = parser.Parse(argc, argv, std::getenv, [&]() -> absl::Status {
    if (absl::Status valid = Validate(options); !valid.ok()) return valid;
    absl::StatusOr<DriverProfiles> read = ReadProfiles(options.driver_profiles);
    if (!read.ok()) return read.status();
    profiles = *std::move(read);
    return absl::OkStatus();
  });
  if (stop) return stop->Print();

  const auto daemon = Daemon::Start(options, "snapkeeper-scheduler");
  if (!daemon) return 1;
  std::vector<std::unique_ptr<ExecutorClient>> clients;
  std::vector<ExecutorClient*> executors;
  for (const std::string& address : options.executors) {
    clients.push_back(MakeGrpcExecutorClient(daemon->loop(), address));
    executors.push_back(clients.back().get());
  }
  Scheduler scheduler(daemon->loop(), daemon->api(), executors, daemon->rng(), daemon->log(),
                      daemon->metrics(),
                      {.id = daemon->instance(),
                       .lease_namespace = daemon->config().ns(),
                       .watch_namespaces = options.watch_namespaces,
                       .profiles = std::move(profiles),
                       .prune_quarantine = options.prune_quarantine});
  scheduler.Start([&daemon](const std::string&) { daemon->Stop(kDeposed); });
  return daemon->Run({}, {{"scheduler", [&scheduler] { return scheduler.Ready(); }}},
                     [&] { scheduler.Drain([&daemon] { daemon->Stop(0); }); });
}

}  // namespace
}  // namespace snapkeeper

int main(int argc, char** argv) { return snapkeeper::Main(argc, argv); }
