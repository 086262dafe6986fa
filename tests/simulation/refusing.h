#ifndef SNAPKEEPER_TESTS_SIMULATION_REFUSING_H_
#define SNAPKEEPER_TESTS_SIMULATION_REFUSING_H_

#include <absl/status/status.h>

#include <string>
#include <string_view>
#include <utility>

#include "simulator/faults.h"

namespace snapkeeper {

// Whoever asks this of objects of this kind is refused; or this user alone.
class Refusing : public FaultPlan {
 public:
  Refusing(Verb verb, Kind kind, absl::Status why, std::string user = "")
      : verb_(verb), kind_(kind), why_(std::move(why)), user_(std::move(user)) {}

  Fault OnRequest(std::string_view user, Verb verb, const ObjectKey& key) override {
    const bool refused = verb == verb_ && key.kind == kind_ && (user_.empty() || user == user_);
    return refused ? Fault::Fail(why_) : Fault();
  }
  EventFault OnEvent(std::string_view, Kind) override { return {}; }

 private:
  const Verb verb_;
  const Kind kind_;
  const absl::Status why_;
  const std::string user_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_SIMULATION_REFUSING_H_
