#ifndef SNAPKEEPER_TESTS_SIMULATION_FAULT_ON_H_
#define SNAPKEEPER_TESTS_SIMULATION_FAULT_ON_H_

#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "simulator/faults.h"

namespace snapkeeper {

// What becomes of each such request for objects of this kind, of everybody or of one user.
class FaultOn : public FaultPlan {
 public:
  FaultOn(Verb verb, Kind kind, Fault fault, std::string user = "")
      : verb_(verb), kind_(kind), fault_(std::move(fault)), user_(std::move(user)) {}

  Fault OnRequest(std::string_view user, Verb verb, const ObjectKey& key) override {
    const bool meant = verb == verb_ && key.kind == kind_ && (user_.empty() || user == user_);
    return meant ? fault_ : Fault();
  }
  EventFault OnEvent(std::string_view, Kind) override { return {}; }

 private:
  const Verb verb_;
  const Kind kind_;
  const Fault fault_;
  const std::string user_;
};

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

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_SIMULATION_FAULT_ON_H_
