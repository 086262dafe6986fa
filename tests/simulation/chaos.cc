#include "tests/simulation/chaos.h"

#include <absl/time/time.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "common/model/names.h"
#include "tests/simulation/world.h"

namespace snapkeeper {
namespace {

// Requests and events that fare badly, by chance.
class RandomFaults : public FaultPlan {
 public:
  RandomFaults(Rng& rng, const bool& active) : rng_(rng), active_(active) {}

  Fault OnRequest(std::string_view, Verb verb, const ObjectKey&) override {
    Fault fault{.request_delay = absl::Microseconds(Below(3000)),
                .reply_delay = absl::Microseconds(Below(3000))};
    if (!active_) return fault;
    switch (Below(40)) {
      case 0:
        return Fault::Fail(absl::UnavailableError("connection refused"));
      case 1:
        return Fault::Fail(
            WithRetryAfter(absl::ResourceExhaustedError("too many requests"), absl::Seconds(1)));
      case 2:
        return verb == Verb::kWatch ? Fault::Fail(absl::OutOfRangeError("too old resource version"))
                                    : Fault::LoseReply(absl::Seconds(Below(30)));
      case 3:
        return verb == Verb::kWatch ? fault : Fault::Hang(absl::Seconds(Below(30)));
      case 4:
        fault.request_delay = absl::Milliseconds(Below(8000));
        return fault;
      case 5:
        fault.reply_delay = absl::Milliseconds(Below(8000));
        return fault;
      case 6:
        // Somewhere on its way, long after its sender has given it up.
        if (verb == Verb::kCreate) fault.request_delay = absl::Seconds(Below(90));
        return fault;
      default:
        return fault;
    }
  }
  EventFault OnEvent(std::string_view, Kind) override {
    if (!active_) return {};
    return {.delay = Below(20) == 0 ? absl::Milliseconds(Below(5000)) : absl::ZeroDuration(),
            .copies = Below(20) == 0 ? 2 : 1};
  }

 private:
  uint64_t Below(uint64_t n) { return rng_() % n; }
  Rng& rng_;
  const bool& active_;
};

class Chaos {
 public:
  explicit Chaos(uint64_t seed)
      : rng_(seed),
        world_({.seed = rng_(), .quarantine = absl::Minutes(2)}),
        healthy_{.ready_after = absl::Seconds(1 + Below(10))},
        faults_(rng_, active_) {
    world_.simulator().SetFaultPlan(&faults_);
    world_.simulator().volumes().SetDefaultBehaviour(healthy_);
    for (int i = 0; i < kClaims; ++i)
      world_.simulator().AddClaim("default", fmt::format("data-{}", i), {{"app", "db"}});
    world_.SetNetwork({.delay =
                           [this] {
                             return Below(10) == 0 ? absl::Milliseconds(Below(3000))
                                                   : absl::Microseconds(Below(500));
                           },
                       .duplicate_job = [this] { return Below(10) == 0; }});
    world_.StartExecutor("executor-0");
    world_.StartExecutor("executor-1");
    world_.RunFor(absl::Seconds(2));
    AddPolicy("fast", absl::Seconds(30),
              {{"startingDeadlineSeconds", 300},
               {"readyTimeoutSeconds", 120},
               {"retention", {{"keepLast", 3}}}});
    AddPolicy("slow", absl::Seconds(120), {{"retention", {{"keepLast", 2}, {"maxAge", "10m"}}}});
    AddPolicy("skip", absl::Seconds(20),
              {{"missedRunPolicy", "Skip"}, {"retention", {{"keepLast", 1}}}});
    StartScheduler();
  }

  // Half an hour of trouble, then quiet; then everything must be accounted for.
  void Run() {
    active_ = true;
    for (const absl::Time end = world_.Now() + absl::Minutes(30); world_.Now() < end;) {
      world_.RunFor(absl::Milliseconds(Below(20000)));
      Trouble();
    }
    active_ = false;
    for (const std::string& name : frozen_) {
      if (world_.Running(name)) world_.Freeze(name, false);
    }
    frozen_.clear();
    for (const std::string& name : schedulers_) world_.SetClockOffset(name, absl::ZeroDuration());
    for (const char* name : {"executor-0", "executor-1"}) {
      if (!world_.Running(name)) world_.StartExecutor(name);
      world_.SetClockOffset(name, absl::ZeroDuration());
    }
    StartScheduler();  // those that were frozen may have been deposed without knowing
    world_.simulator().volumes().SetDefaultBehaviour(healthy_);
    world_.RunFor(absl::Minutes(10));
    Reap();
    ASSERT_EQ(schedulers_.size(), 1u) << "one scheduler is left";
    for (const std::string& policy : policies_) {
      world_.oracle().CheckAccounted(*world_.PolicyOf(policy), world_.Now() - absl::Minutes(3));
      world_.oracle().CheckHealthy(*world_.PolicyOf(policy), kClaims);
    }
  }

  const std::vector<std::string>& violations() { return world_.oracle().violations(); }

 private:
  static constexpr int kClaims = 3;
  uint64_t Below(uint64_t n) { return rng_() % n; }

  void StartScheduler() {
    const std::string name = fmt::format("scheduler-{}", next_scheduler_++);
    world_.StartScheduler(name);
    schedulers_.insert(name);
  }
  // Deposed schedulers exit.
  void Reap() {
    for (auto it = schedulers_.begin(); it != schedulers_.end();) {
      if (world_.Deposed(*it)) {
        frozen_.erase(*it);
        world_.Kill(*it);
        it = schedulers_.erase(it);
      } else {
        ++it;
      }
    }
  }
  void Trouble() {
    Reap();
    const std::string executor = fmt::format("executor-{}", Below(2));
    const std::string scheduler = schedulers_.empty() ? "" : *schedulers_.begin();
    switch (Below(11)) {
      case 0:
        if (world_.Running(executor)) {
          frozen_.erase(executor);
          world_.Kill(executor);
        } else {
          world_.StartExecutor(executor);
        }
        break;
      case 1:
        if (!world_.Running(executor)) world_.StartExecutor(executor);
        break;
      case 2:
        if (!scheduler.empty()) {
          frozen_.erase(scheduler);
          world_.Kill(scheduler);
          schedulers_.erase(scheduler);
        }
        break;
      case 3:
        if (schedulers_.size() < 2) StartScheduler();
        break;
      case 4:
      case 5: {
        const std::string& victim = Below(2) ? executor : scheduler;
        if (victim.empty() || !world_.Running(victim)) break;
        const bool freeze = !world_.Frozen(victim);
        world_.Freeze(victim, freeze);
        if (freeze) {
          frozen_.insert(victim);
        } else {
          frozen_.erase(victim);
        }
        break;
      }
      case 6:
        if (Below(4) == 0) world_.simulator().store().ExpireHistory();
        world_.simulator().BreakWatches("", static_cast<WatchBreak>(Below(4)));
        break;
      case 7: {
        const std::string& victim = Below(2) ? executor : scheduler;
        if (!victim.empty() && world_.Running(victim)) {
          world_.SetClockOffset(victim, Below(2)
                                            ? absl::ZeroDuration()
                                            : absl::Seconds(static_cast<int>(Below(7200)) - 3600));
        }
        break;
      }
      case 8: {
        ClassBehaviour behaviour = healthy_;
        behaviour.never_ready = Below(3) == 0;
        behaviour.fail_creates = static_cast<int>(Below(3)) - 1;
        behaviour.fail_deletes = static_cast<int>(Below(2));
        world_.simulator().volumes().SetDefaultBehaviour(Below(2) ? healthy_ : behaviour);
        break;
      }
      case 9:
        CopyOne();
        break;
      default:
        if (schedulers_.empty()) StartScheduler();
    }
  }
  // A user makes a snapshot that bears the labels and annotations of one of ours.
  void CopyOne() {
    std::vector<std::string> names;
    world_.simulator().store().ForEach<Snapshot>([&names](const Snapshot& s) {
      if (!s.policy_uid.empty()) names.push_back(s.meta.name);
    });
    if (names.empty()) return;
    world_.CopySnapshot(names[Below(names.size())],
                        {"default", fmt::format("copy-{}", next_copy_++)});
  }
  void AddPolicy(const std::string& name, absl::Duration period, nlohmann::json spec) {
    spec["schedule"] = fmt::format("@every {}s", absl::ToInt64Seconds(period));
    world_.AddPolicy(name, std::move(spec));
    world_.oracle().ExpectAll(*world_.PolicyOf(name));
    policies_.push_back(name);
  }

  Rng rng_;
  World world_;
  const ClassBehaviour healthy_;
  bool active_ = false;
  RandomFaults faults_;
  std::vector<std::string> policies_;
  int next_scheduler_ = 0, next_copy_ = 0;
  std::set<std::string> schedulers_, frozen_;
};

}  // namespace

std::vector<std::string> ViolationsUnderTrouble(uint64_t seed) {
  Chaos chaos(seed);
  chaos.Run();
  return chaos.violations();
}

}  // namespace snapkeeper
