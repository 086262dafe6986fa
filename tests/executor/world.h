#ifndef SNAPKEEPER_TESTS_EXECUTOR_WORLD_H_
#define SNAPKEEPER_TESTS_EXECUTOR_WORLD_H_

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/kube/json.h"
#include "common/kube/reflector.h"
#include "common/model/names.h"
#include "common/model/reason.h"
#include "executor/executor.h"
#include "simulator/simulator.h"
#include "tests/support/recording_log.h"
#include "tests/support/sim_waiter.h"

namespace snapkeeper {

// Counts the requests of every client, and gives the next one of a kind a fault.
class ScriptedFaults : public FaultPlan {
 public:
  Fault OnRequest(std::string_view, Verb verb, const ObjectKey& key) override {
    const std::string request = fmt::format("{} {}", ToString(verb), ResourceOf(key.kind).kind);
    ++count[request];
    std::vector<std::function<Fault()>>& script = next[request];
    if (script.empty()) return Fault();
    auto fault = std::move(script.front());
    script.erase(script.begin());
    return fault();
  }
  EventFault OnEvent(std::string_view, Kind) override { return {}; }

  void Next(const std::string& request, Fault fault) {
    next[request].push_back([fault] { return fault; });
  }
  // Runs `act` as the request leaves, before the server sees it.
  void Before(const std::string& request, std::function<void()> act) {
    next[request].push_back([act] {
      act();
      return Fault();
    });
  }

  std::map<std::string, int> count;  // "create VolumeSnapshot"
  std::map<std::string, std::vector<std::function<Fault()>>> next;
};

// The scheduler's end of one stream. Sends heartbeats unless told to be silent.
class TestStream {
 public:
  TestStream(EventLoop& loop, Executor& executor) : loop_(loop) {
    session_ =
        executor.Open([this](ToScheduler message) { received.push_back(std::move(message)); },
                      [this](absl::Status status) {
                        EXPECT_FALSE(closed.has_value()) << "closed twice";
                        closed = std::move(status);
                        beat_.Cancel();
                      });
    Beat();
  }

  TestStream& Hello(int64_t epoch = 1, std::string id = "scheduler-0") {
    epoch_ = epoch;
    SchedulerHello hello;
    hello.epoch = epoch;
    hello.id = std::move(id);
    Send(hello);
    return *this;
  }
  void Send(ToExecutor message) { session_->OnMessage(std::move(message)); }
  template <class Work>
  void SendJob(const std::string& id, Work work, int attempt = 1) {
    Job job;
    job.job_id = id;
    job.attempt = attempt;
    job.epoch = epoch_;
    job.work = std::move(work);
    Send(std::move(job));
  }
  void BeSilent() { beat_.Cancel(); }
  void Leave() {
    beat_.Cancel();
    session_.reset();
  }

  template <class Message>
  std::vector<Message> All() const {
    std::vector<Message> all;
    for (const ToScheduler& message : received) {
      if (const auto* m = std::get_if<Message>(&message)) all.push_back(*m);
    }
    return all;
  }
  std::vector<JobEvent> EventsOf(const std::string& job_id) const {
    std::vector<JobEvent> events = All<JobEvent>();
    std::erase_if(events, [&](const JobEvent& event) { return event.job_id != job_id; });
    return events;
  }
  // "Accepted Created ...", with the attempt behind each where it is not 1.
  std::string PhasesOf(const std::string& job_id) const {
    std::string phases;
    for (const JobEvent& event : EventsOf(job_id)) {
      static constexpr const char* kNames[] = {"Accepted", "Created", "Cut", "Ready", "Done"};
      phases +=
          fmt::format("{}{}{}", phases.empty() ? "" : " ", kNames[static_cast<int>(event.phase)],
                      event.attempt == 1 ? "" : fmt::format("/{}", event.attempt));
    }
    return phases;
  }
  // nullopt while the job is under way.
  std::optional<JobEvent> DoneOf(const std::string& job_id) const {
    const std::vector<JobEvent> events = EventsOf(job_id);
    if (events.empty() || events.back().phase != Phase::kDone) return std::nullopt;
    return events.back();
  }

  std::vector<ToScheduler> received;
  std::optional<absl::Status> closed;

 private:
  void Beat() {
    if (session_ && !received.empty()) session_->OnMessage(Heartbeat());
    beat_ = loop_.After(kHeartbeatEvery, [this] { Beat(); });
  }

  EventLoop& loop_;
  int64_t epoch_ = 0;
  std::unique_ptr<Executor::Session> session_;
  Timer beat_;
};

// One executor before the simulated control plane. The schedulers' streams live on the server's
// loop, so that they go on while the executor is frozen.
class World {
 public:
  explicit World(StoreOptions store = {}, ExecutorConfig config = {.instance = "executor-0"})
      : simulator(server, rng, {.store = store}),
        api(simulator.Connect(loop, "executor-0")),
        reflector(loop, *api, rng, log, Managed()),
        executor(
            std::make_unique<Executor>(loop, *api, reflector, log, metrics, std::move(config))) {
    simulator.SetFaultPlan(&faults);
    simulator.AddSnapshotClass("fast", kSimDriver, /*is_default=*/true);
  }
  ~World() { simulator.SetFaultPlan(nullptr); }

  // Lists and watches, as main() does.
  World& Sync() {
    reflector.Start([this](const auto& before, const auto& after) {
      executor->SnapshotChanged(before, after);
    });
    Run();
    faults.count.clear();
    return *this;
  }
  std::unique_ptr<TestStream> Connect() { return std::make_unique<TestStream>(server, *executor); }

  void Run(absl::Duration time = absl::ZeroDuration()) { RunFor(clock, {&server, &loop}, time); }
  // The executor is stopped; the rest of the world goes on.
  void Freeze(absl::Duration time) { RunFor(clock, {&server}, time); }
  absl::Time Now() const { return clock.Now(); }

  void Behave(ClassBehaviour behaviour) {
    simulator.volumes().SetBehaviour("fast", std::move(behaviour));
  }

  // A job for one claim (made if it is not there) and instant, as the scheduler's preflight would
  // fill it in.
  CreateSnapshot CreateJob(const std::string& claim = "data-0",
                           std::optional<absl::Time> instant = std::nullopt) {
    if (!simulator.store().Find<Claim>("default", claim)) {
      simulator.AddClaim("default", claim, {});
      Run();
    }
    const auto stored = simulator.store().Find<Claim>("default", claim);
    const auto volume = simulator.store().Find<Volume>("", stored->volume_name);
    CreateSnapshot job;
    job.identity = {policy_uid, FormatInstant(instant.value_or(Now())), stored->meta.uid};
    job.name = SnapshotName(job.identity, claim);
    job.policy = "default/hourly";
    job.run = "namespaces/default/policies/hourly/runs/" + job.identity.instant;
    job.target.ns = "default";
    job.target.claim = claim;
    job.target.claim_uid = stored->meta.uid;
    job.target.snapshot_class = "fast";
    job.target.driver = std::string(kSimDriver);
    job.target.volume_handle = volume->volume_handle;
    job.target.source_json = stored->source_json;
    job.post_before = Now() + absl::Seconds(60);
    job.ready_timeout = absl::Minutes(10);
    return job;
  }
  std::shared_ptr<const Snapshot> Find(const CreateSnapshot& job) {
    return simulator.store().Find<Snapshot>(job.target.ns, job.name);
  }
  // As if another executor had posted it.
  std::string PostAsAnother(const CreateSnapshot& job) {
    const auto created =
        simulator.store().Create(Kind::kSnapshot, SnapshotToJson(job), "executor-1");
    EXPECT_TRUE(created.ok()) << created.status();
    return created.ok() ? MetaOf(*(*created)->value).uid : "";
  }
  void Delete(const CreateSnapshot& job) {
    EXPECT_TRUE(
        simulator.store().Delete({Kind::kSnapshot, job.target.ns, job.name}, {}, "admin").ok());
  }
  void Patch(Kind kind, const std::string& ns, const std::string& name,
             const nlohmann::json& patch) {
    const auto patched =
        simulator.store().Patch({kind, ns, name}, patch, /*status=*/false, "admin");
    EXPECT_TRUE(patched.ok()) << patched.status();
  }
  std::string Metric(const std::string& line) {
    const std::string text = metrics.Serialize(metrics.Collect());
    const size_t at = text.find(line + " ");
    return at == text.npos
               ? "none"
               : text.substr(at + line.size() + 1, text.find('\n', at) - at - line.size() - 1);
  }

  std::string policy_uid = "policy-uid";  // of the jobs to come
  SimClock clock;
  SimWaiter server_waiter{clock}, machine{clock};
  EventLoop server{server_waiter}, loop{machine};
  Rng rng{1};
  ScriptedFaults faults;
  Simulator simulator;
  RecordingLog log;
  Metrics metrics{"test"};
  std::unique_ptr<KubeApi> api;
  Reflector<Snapshot> reflector;
  std::unique_ptr<Executor> executor;

 private:
  static ListQuery Managed() {
    ListQuery query;
    query.label_selector = fmt::format("{}={}", kManagedByLabel, kManagedBy);
    return query;
  }
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_EXECUTOR_WORLD_H_
