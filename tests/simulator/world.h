#ifndef SNAPKEEPER_TESTS_SIMULATOR_WORLD_H_
#define SNAPKEEPER_TESTS_SIMULATOR_WORLD_H_

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/kube/json.h"
#include "simulator/simulator.h"
#include "tests/support/sim_waiter.h"

namespace snapkeeper {

// A simulator on a simulated clock with a default class, a claim `data-0` that is bound, and a
// client.
struct World {
  explicit World(SimulatorOptions options = {}) : simulator(loop, rng, std::move(options)) {
    simulator.AddSnapshotClass("sim", kSimDriver, true);
    simulator.AddClaim("default", "data-0", {{"app", "db"}});
    Settle();
  }

  void Settle() { RunReady({&loop, &client_loop}); }
  void Run(absl::Duration time) { RunFor(clock, {&loop, &client_loop}, time); }
  Store& store() { return simulator.store(); }

  // Acts as the user of the store itself.
  absl::StatusOr<VersionPtr> Create(Kind kind, nlohmann::json body) {
    auto result = store().Create(kind, std::move(body), "test");
    Settle();
    return result;
  }
  absl::StatusOr<VersionPtr> TakeSnapshot(
      const std::string& name,
      nlohmann::json spec = {{"source", {{"persistentVolumeClaimName", "data-0"}}}}) {
    return Create(Kind::kSnapshot, {{"metadata", {{"namespace", "default"}, {"name", name}}},
                                    {"spec", std::move(spec)}});
  }
  absl::Status Delete(const ObjectKey& key) {
    auto result = store().Delete(key, {}, "test");
    Settle();
    return result.status();
  }
  std::shared_ptr<const Snapshot> snapshot(const std::string& name) {
    return store().Find<Snapshot>("default", name);
  }
  // A member of the object as it stands, as JSON; null if there is none.
  nlohmann::json At(const ObjectKey& key, const std::string& pointer) {
    const nlohmann::json* object = store().JsonOf(key);
    const nlohmann::json::json_pointer path(pointer);
    return object != nullptr && object->contains(path) ? object->at(path) : nlohmann::json();
  }

  SimClock clock;
  SimWaiter waiter{clock}, client_waiter{clock};
  EventLoop loop{waiter}, client_loop{client_waiter};
  Rng rng{1};
  Simulator simulator;
};

inline nlohmann::json ClaimJson(const std::string& name,
                                nlohmann::json spec = nlohmann::json::object()) {
  nlohmann::json full = {{"accessModes", {"ReadWriteOnce"}},
                         {"resources", {{"requests", {{"storage", "1Gi"}}}}}};
  full.update(spec);
  return {{"metadata", {{"namespace", "default"}, {"name", name}}}, {"spec", full}};
}

inline nlohmann::json PolicyJson(const std::string& name,
                                 nlohmann::json spec = nlohmann::json::object()) {
  nlohmann::json full = {{"schedule", "@hourly"}, {"selector", nlohmann::json::object()}};
  full.update(spec);
  return {{"apiVersion", "snapkeeper.io/v1alpha1"},
          {"kind", "SnapshotPolicy"},
          {"metadata", {{"namespace", "default"}, {"name", name}}},
          {"spec", full}};
}

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_SIMULATOR_WORLD_H_
