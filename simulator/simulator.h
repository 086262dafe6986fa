#ifndef SNAPKEEPER_SIMULATOR_SIMULATOR_H_
#define SNAPKEEPER_SIMULATOR_SIMULATOR_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstddef>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/backoff.h"
#include "common/base/event_loop.h"
#include "common/kube/api.h"
#include "simulator/faults.h"
#include "simulator/store.h"
#include "simulator/volumes.h"

namespace snapkeeper {

struct SimulatorOptions {
  StoreOptions store;
  // StorageClass to the CSI driver that provisions for it. PVCs of other classes stay Pending;
  // other drivers do not run.
  std::map<std::string, std::string> storage_classes = {{"sim", std::string(kSimDriver)}};
};

// An in-memory Kubernetes API with volumes, a snapshot controller and faults. Everything happens on
// `loop`, whose clock is the server's clock; that loop must be turned for anything but zero-delay
// requests to go on. The namespaces default and kube-system exist.
//
//   SimWaiter clock; EventLoop loop(clock); Rng rng(seed);
//   Simulator simulator(loop, rng);
//   simulator.AddSnapshotClass("sim", kSimDriver, /*is_default=*/true);
//   simulator.AddClaim("default", "data-0", {{"app", "db"}});
//   auto api = simulator.Connect(executor_loop, "executor-0");
class Simulator {
 public:
  Simulator(EventLoop& loop, Rng& rng, SimulatorOptions options = {});
  ~Simulator();
  Simulator(const Simulator&) = delete;
  Simulator& operator=(const Simulator&) = delete;

  // The API as one process sees it. Callbacks are posted to `client_loop`, whose clock is that
  // process's clock; both loops are turned by the same thread. Destroy the handle before its loop,
  // in any order with the simulator. Destroying it drops every reply and watch; requests on their
  // way still arrive, as they do when a process dies. While a loop is not turned, its process is
  // frozen: replies and events pile up.
  std::unique_ptr<KubeApi> Connect(EventLoop& client_loop, std::string user);

  // For every in-process client; null: none. Must outlive its use.
  void SetFaultPlan(FaultPlan* plan);
  // Breaks the in-process watches of `user` ("": of everyone).
  void BreakWatches(std::string_view user, WatchBreak how);

  // The API machinery, for setup and oracles: acts at once. See store.h for OnWrite, Find, Create,
  // Patch, Delete, ExpireHistory.
  Store& store() { return store_; }
  const SimulatorOptions& options() const { return options_; }
  Volumes& volumes() { return volumes_; }

  // Shorthands for setup. They must succeed: anything else ends the process with a line.
  void AddNamespace(const std::string& name);
  void AddSnapshotClass(const std::string& name, std::string_view driver, bool is_default,
                        std::string_view deletion_policy = "Delete");
  void AddClaim(const std::string& ns, const std::string& name,
                const std::map<std::string, std::string>& labels,
                const std::string& storage_class = "sim");

 private:
  class Client;
  struct Session;
  struct Stream;

  Fault FaultFor(std::string_view user, Verb verb, const ObjectKey& key);
  // At once where there is no delay.
  void Later(absl::Duration delay, EventLoop::Task task);

  void StartStream(const std::shared_ptr<Stream>& stream, const ListQuery& query,
                   const std::string& resource_version);
  void Deliver(const std::shared_ptr<Stream>& stream, WatchEvent event);
  void Arrive(const std::shared_ptr<Stream>& stream, WatchEvent event, absl::Duration delay);
  void StopStream(Stream& stream);
  void DropStreams(const Session& session);
  static void Notify(const std::shared_ptr<Stream>& stream);
  static void EndStream(const std::shared_ptr<Stream>& stream, absl::Status status);

  EventLoop& loop_;
  const SimulatorOptions options_;
  FaultPlan* plan_ = nullptr;
  Store store_;
  Volumes volumes_;
  std::set<Session*> sessions_;
  std::vector<std::shared_ptr<Stream>> streams_;
  std::map<uint64_t, Timer> in_flight_;
  uint64_t next_timer_ = 1;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_SIMULATOR_H_
