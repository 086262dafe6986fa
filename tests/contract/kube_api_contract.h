#ifndef SNAPKEEPER_TESTS_CONTRACT_KUBE_API_CONTRACT_H_
#define SNAPKEEPER_TESTS_CONTRACT_KUBE_API_CONTRACT_H_

#include <absl/functional/function_ref.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "common/base/event_loop.h"
#include "common/kube/api.h"

namespace snapkeeper {

// A Kubernetes API to hold to the contract, and the loop that its client runs on. It has the CRDs
// of snapshots and of Snapkeeper; controllers may run beside the suite. One suite, so that the
// simulator is as the real thing is: where they differ, the simulator is wrong.
class ContractWorld {
 public:
  virtual ~ContractWorld() = default;
  virtual EventLoop& loop() = 0;
  // Lists come in pages of at most a handful.
  virtual KubeApi& api() = 0;
  // Turns the loop until `done`; false when that has not come true within 30 seconds.
  virtual bool RunUntil(absl::FunctionRef<bool()> done) = 0;
  // A resourceVersion that is too old to watch policies from.
  virtual std::string ExpiredVersion() = 0;
};

struct ContractWorldMaker {
  std::string name;
  std::function<std::unique_ptr<ContractWorld>()> make;
};
inline std::ostream& operator<<(std::ostream& out, const ContractWorldMaker& maker) {
  return out << maker.name;
}

// INSTANTIATE_TEST_SUITE_P(World, KubeApiContract, testing::Values(ContractWorldMaker{...})).
class KubeApiContract : public testing::TestWithParam<ContractWorldMaker> {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Each runs one request to its end.
  absl::StatusOr<ObjectPtr> Get(const ObjectKey& key);
  absl::StatusOr<ListResult> List(const ListQuery& query);
  absl::StatusOr<ObjectPtr> Create(Kind kind, const nlohmann::json& body);
  absl::Status Delete(const ObjectKey& key, const Preconditions& preconditions);
  absl::StatusOr<ObjectPtr> Patch(const ObjectKey& key, const nlohmann::json& patch,
                                  bool status = false);
  // Deletes the version that there is.
  absl::Status DeleteCurrent(const ObjectKey& key);

  // Objects of the test's namespace, ready to create.
  nlohmann::json LeaseJson(const std::string& name, const nlohmann::json& labels = {});
  nlohmann::json PolicyJson(const std::string& name);
  nlohmann::json SnapshotJson(const std::string& name);
  ObjectKey Key(Kind kind, const std::string& name) const { return {kind, ns_, name}; }

  // One watch and what it has told.
  struct Watching {
    Call call;
    std::vector<WatchEvent> events;  // without the first bookmark
    bool accepted = false;
    std::optional<absl::Status> ended;
  };
  std::unique_ptr<Watching> Watch(const ListQuery& query, const std::string& resource_version);
  // "ADDED a", "MODIFIED a", "DELETED a": bookmarks may come at any time and are left out.
  static std::vector<std::string> Told(const Watching& watching);
  // Once `count` events have come, what they were.
  std::vector<std::string> ToldAfter(Watching& watching, size_t count);

  std::unique_ptr<ContractWorld> world_;
  KubeApi* api_ = nullptr;
  std::string ns_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_CONTRACT_KUBE_API_CONTRACT_H_
