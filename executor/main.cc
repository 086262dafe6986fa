#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "common/grpc/daemon.h"
#include "common/model/names.h"
#include "executor/executor.h"
#include "executor/grpc/executor_service.h"
#include "executor/prune_runner.h"

namespace snapkeeper {
namespace {

struct ExecutorOptions : DaemonOptions {
  int capacity = ExecutorConfig().slots;
};

absl::Status Validate(const ExecutorOptions& options) {
  if (options.capacity < 1)
    return absl::InvalidArgumentError(
        fmt::format("--capacity {}: must be at least 1", options.capacity));
  return CheckPlaintext(options);
}

int Main(int argc, char** argv) {
  ExecutorOptions options;
  options.listen = "127.0.0.1:7410";
  options.http_listen = "127.0.0.1:7490";
  OptionParser parser("snapkeeper-executor",
                      "Takes and prunes the volume snapshots that the schedulers ask for.");
  AddDaemonFlags(parser, options);
  parser.Add("capacity", &options.capacity,
             "jobs at a time whose snapshot does not exist yet; half of them may be prunes");
  if (const auto stop =
          parser.Parse(argc, argv, std::getenv, [&options] { return Validate(options); }))
    return stop->Print();

  options.max_requests =
      std::max(options.max_requests, static_cast<size_t>(options.capacity) + kDeletesAtOnce);
  const auto daemon = Daemon::Start(options, "snapkeeper-executor");
  if (!daemon) return 1;
  Reflector<Snapshot> snapshots(
      daemon->loop(), daemon->api(), daemon->rng(), daemon->log(),
      {.label_selector = fmt::format("{}={}", kManagedByLabel, kManagedBy)});
  Executor executor(daemon->loop(), daemon->api(), snapshots, daemon->log(), daemon->metrics(),
                    {.instance = daemon->instance(), .slots = options.capacity});
  snapshots.Start([&executor](const auto& before, const auto& after) {
    executor.SnapshotChanged(before, after);
  });
  auto service =
      MakeExecutorService(daemon->loop(), daemon->log(), [&executor](auto send, auto close) {
        return executor.Open(std::move(send), std::move(close));
      });
  const auto listed = [&snapshots] {
    return snapshots.synced() || !snapshots.health().ok()
               ? snapshots.health()
               : absl::UnavailableError("not listed yet");
  };
  return daemon->Run({{kExecutorServiceName, std::move(service)}}, {{"snapshots", listed}},
                     [&] { executor.Drain([&] { daemon->Stop(0); }); });
}

}  // namespace
}  // namespace snapkeeper

int main(int argc, char** argv) { return snapkeeper::Main(argc, argv); }
