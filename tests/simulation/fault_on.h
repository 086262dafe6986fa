#ifndef SNAPKEEPER_TESTS_SIMULATION_FAULT_ON_H_
#define SNAPKEEPER_TESTS_SIMULATION_FAULT_ON_H_

#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "simulator/faults.h"

namespace snapkeeper {

// What a function says of each request.
class FaultBy : public FaultPlan {
 public:
  using Judge = std::function<Fault(std::string_view user, Verb verb, const ObjectKey& key)>;
  explicit FaultBy(Judge judge) : judge_(std::move(judge)) {}

  Fault OnRequest(std::string_view user, Verb verb, const ObjectKey& key) override {
    return judge_(user, verb, key);
  }
  EventFault OnEvent(std::string_view, Kind) override { return {}; }

 private:
  const Judge judge_;
};

// What becomes of each such request for objects of this kind, of everybody or of one user.
class FaultOn : public FaultBy {
 public:
  FaultOn(Verb verb, Kind kind, Fault fault, std::string whose = "")
      : FaultBy([=](std::string_view user, Verb asked, const ObjectKey& key) {
          const bool meant = asked == verb && key.kind == kind && (whose.empty() || user == whose);
          return meant ? fault : Fault();
        }) {}
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_SIMULATION_FAULT_ON_H_
