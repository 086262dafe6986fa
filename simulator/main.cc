#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "common/base/address.h"
#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/base/options.h"
#include "common/http/curl_transport.h"
#include "simulator/http_api.h"
#include "simulator/simulator.h"

namespace snapkeeper {
namespace {

constexpr char kClass[] = "sim";

struct Options {
  std::string listen = "127.0.0.1:8001";
  std::string kubeconfig_out;
  int volumes = 1;
  absl::Duration ready_after = absl::Seconds(2);
  std::vector<std::string> faults;
  LogFormat log_format = LogFormat::kText;
  LogLevel log_level = LogLevel::kInfo;
};

// "FIELD=VALUE": a JSON value, or else a text.
absl::Status AddFault(const std::string& fault, ClassBehaviour& behaviour) {
  const size_t equal = fault.find('=');
  if (equal == std::string::npos)
    return absl::InvalidArgumentError(
        fmt::format("--fault {}: want FIELD=VALUE, such as neverReady=true", fault));
  const std::string text = fault.substr(equal + 1);
  nlohmann::json value = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) value = text;
  const absl::Status status = UpdateBehaviour({{fault.substr(0, equal), value}}, behaviour);
  return status.ok() ? status
                     : absl::InvalidArgumentError(
                           fmt::format("--fault {}: {}", fault, std::string(status.message())));
}

absl::Status WriteKubeconfig(const std::string& path, const std::string& address) {
  const std::string temporary = path + ".new";
  std::ofstream file(temporary);
  file << "apiVersion: v1\n"
          "kind: Config\n"
          "clusters:\n"
          "- name: simulator\n"
          "  cluster: {server: \"http://"
       << address
       << "\"}\n"
          "users:\n"
          "- name: simulator\n"
          "  user: {}\n"
          "contexts:\n"
          "- name: simulator\n"
          "  context: {cluster: simulator, user: simulator, namespace: default}\n"
          "current-context: simulator\n";
  file.close();
  if (file && std::rename(temporary.c_str(), path.c_str()) == 0) return absl::OkStatus();
  std::remove(temporary.c_str());
  return absl::UnavailableError(fmt::format("cannot write {}", path));
}

int Main(int argc, char** argv) {
  Options options;
  OptionParser parser(
      "snapkeeper-simulator",
      "A Kubernetes API in memory, with volumes, a snapshot controller and faults.");
  parser.AddAddress("listen", &options.listen,
                    "where to serve the API, plain HTTP without authentication");
  parser.Add("kubeconfig-out", &options.kubeconfig_out,
             "where to write a kubeconfig that leads here");
  parser.Add("volumes", &options.volumes,
             "bound claims data-0, data-1, … in the namespace default, labelled app=db");
  parser.Add("ready-after", &options.ready_after, "from a snapshot's cut until it is ready");
  parser.Add("fault", &options.faults,
             "FIELD=VALUE of the snapshot class's behaviour, such as neverReady=true, "
             "failCreates=2, deleteAfter=1m");
  parser.AddLog(&options.log_format, &options.log_level);
  ClassBehaviour behaviour;
  const auto stop = parser.Parse(argc, argv, std::getenv, [&] {
    if (!IsLoopback(options.listen)) {
      return absl::InvalidArgumentError(
          fmt::format("the API is plaintext without authentication: --listen {} must be a loopback "
                      "address (127.0.0.1, [::1], localhost)",
                      options.listen));
    }
    if (options.volumes < 0) return absl::InvalidArgumentError("--volumes: want 0 or more");
    behaviour.ready_after = options.ready_after;
    for (const std::string& fault : options.faults) {
      if (absl::Status status = AddFault(fault, behaviour); !status.ok()) return status;
    }
    return absl::OkStatus();
  });
  if (stop) return stop->Print();

  // Before any thread, so that all inherit it: one thread below waits for these.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  const std::unique_ptr<Log> log = MakeStderrLog(options.log_format, options.log_level);
  CurlTransport waiter;
  EventLoop loop(waiter);
  std::random_device entropy;
  Rng rng((static_cast<uint64_t>(entropy()) << 32) | entropy());
  Simulator simulator(loop, rng, {.store = {.history = 100'000, .keep_text = true}});
  simulator.volumes().SetDefaultBehaviour(behaviour);
  simulator.AddSnapshotClass(kClass, kSimDriver, /*is_default=*/true);
  for (int i = 0; i < options.volumes; ++i)
    simulator.AddClaim("default", fmt::format("data-{}", i), {{"app", "db"}});
  while (loop.Turn()) {
  }

  const auto api = HttpApi::Listen(loop, simulator, options.listen);
  if (!api.ok()) {
    log->Error("cannot listen", {{"http", options.listen}, {"error", api.status()}});
    return 1;
  }
  if (!options.kubeconfig_out.empty()) {
    if (const absl::Status status = WriteKubeconfig(options.kubeconfig_out, (*api)->address());
        !status.ok()) {
      log->Error("cannot start", {{"error", status}});
      return 1;
    }
  }
  log->Info("listening", {{"http", (*api)->address()}});

  std::thread signal_thread([&] {
    int signal = 0;
    sigwait(&signals, &signal);
    loop.Stop();
  });
  loop.Run();
  signal_thread.join();
  log->Info("ended", {});
  return 0;
}

}  // namespace
}  // namespace snapkeeper

int main(int argc, char** argv) { return snapkeeper::Main(argc, argv); }
