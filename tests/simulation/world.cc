#include "tests/simulation/world.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "common/kube/json.h"
#include "common/model/names.h"

namespace snapkeeper {

// One ExecuteJobs stream, as both ends hold it.
struct World::Wire {
  std::weak_ptr<bool> scheduler_alive, executor_alive;
  EventLoop* scheduler_loop;
  EventLoop* executor_loop;
  absl::AnyInvocable<void(ToScheduler)> message;  // null once the scheduler's end is closed
  absl::AnyInvocable<void(absl::Status)> closed;
  std::unique_ptr<Executor::Session> session;  // null once the executor's end is closed
  absl::Duration last_to_executor = absl::ZeroDuration(), last_to_scheduler = absl::ZeroDuration();
};

class World::Stream : public ExecutorStream {
 public:
  Stream(World& world, std::shared_ptr<Wire> wire) : world_(world), wire_(std::move(wire)) {}
  ~Stream() override {
    wire_->message = nullptr;
    wire_->closed = nullptr;
    world_.Deliver(wire_->executor_alive, *wire_->executor_loop, wire_->last_to_executor,
                   [wire = wire_] { wire->session.reset(); });
  }
  void Send(ToExecutor message) override {
    const bool twice = std::holds_alternative<Job>(message) && world_.network_.duplicate_job &&
                       world_.network_.duplicate_job();
    for (int i = 0; i <= (twice ? 1 : 0); ++i) {
      world_.Deliver(wire_->executor_alive, *wire_->executor_loop, wire_->last_to_executor,
                     [wire = wire_, message] {
                       if (wire->session) wire->session->OnMessage(message);
                     });
    }
  }

 private:
  World& world_;
  const std::shared_ptr<Wire> wire_;
};

class World::Client : public ExecutorClient {
 public:
  Client(World& world, Process& scheduler, std::string executor)
      : world_(world), scheduler_(scheduler), executor_(std::move(executor)) {}

  const std::string& address() const override { return executor_; }

  std::unique_ptr<ExecutorStream> Open(absl::AnyInvocable<void(ToScheduler)> message,
                                       absl::AnyInvocable<void(absl::Status)> closed) override {
    auto wire = std::make_shared<Wire>();
    wire->scheduler_alive = scheduler_.alive;
    wire->scheduler_loop = &scheduler_.loop;
    wire->message = std::move(message);
    wire->closed = std::move(closed);
    auto it = world_.processes_.find(executor_);
    if (it == world_.processes_.end()) {
      wire->executor_loop = &scheduler_.loop;  // nobody: what is sent is dropped
      CloseAtScheduler(world_, wire, absl::UnavailableError("connection refused"));
      return std::make_unique<Stream>(world_, wire);
    }
    Process& executor = *it->second;
    wire->executor_alive = executor.alive;
    wire->executor_loop = &executor.loop;
    executor.wires.push_back(wire);
    World* world = &world_;
    world->Deliver(wire->executor_alive, executor.loop, wire->last_to_executor,
                   [world, wire, &executor] {
                     wire->session = executor.executor->Open(
                         [world, wire](ToScheduler m) {
                           world->Deliver(wire->scheduler_alive, *wire->scheduler_loop,
                                          wire->last_to_scheduler, [wire, m = std::move(m)] {
                                            if (wire->message) wire->message(m);
                                          });
                         },
                         [world, wire](absl::Status status) {
                           CloseAtScheduler(*world, wire, std::move(status));
                         });
                   });
    return std::make_unique<Stream>(world_, wire);
  }

  static void CloseAtScheduler(World& world, const std::shared_ptr<Wire>& wire,
                               absl::Status status) {
    world.Deliver(wire->scheduler_alive, *wire->scheduler_loop, wire->last_to_scheduler,
                  [wire, status = std::move(status)] {
                    if (auto closed = std::exchange(wire->closed, nullptr)) {
                      wire->message = nullptr;
                      closed(status);
                    }
                  });
  }

 private:
  World& world_;
  Process& scheduler_;
  const std::string executor_;
};

World::Process::Process(World& world, std::string process_name)
    : name(std::move(process_name)),
      waiter(world.clock_),
      loop(waiter),
      api(world.simulator_.Connect(loop, name)),
      rng(world.rng_()),
      log(*this),
      metrics("test") {}

void World::ProcessLog::Write(LogLevel level, std::string_view msg,
                              std::initializer_list<LogField> fields) {
  static const bool wanted = std::getenv("SNAPKEEPER_SIMULATION_LOG") != nullptr;
  if (wanted) {
    fmt::print(stderr, "{} {}\n", process_.name,
               FormatLogLine(LogFormat::kText, process_.waiter.Now(), level, msg, fields));
  }
}

World::Process::~Process() { alive.reset(); }

World::World(Options options)
    : server_waiter_(clock_),
      server_loop_(server_waiter_),
      rng_(options.seed),
      options_(options),
      simulator_(server_loop_, rng_,
                 {.store = {.history = 64, .bookmark_every = options.bookmark_every}}) {
  simulator_.AddSnapshotClass("sim", kSimDriver, /*is_default=*/true);
  simulator_.volumes().SetDefaultBehaviour(
      {.cut_after = options.cut_after, .ready_after = options.ready_after});
  simulator_.store().OnWrite(
      [this](const StoreWrite& write) { oracle_.OnWrite(write, clock_.Now()); });
}

World::~World() {
  in_transit_.clear();
  while (!processes_.empty()) Kill(processes_.begin()->first);
}

void World::StartScheduler(const std::string& name) {
  ASSERT_FALSE(Running(name));
  auto process = std::make_unique<Process>(*this, name);
  Process& p = *process;
  processes_[name] = std::move(process);
  std::vector<ExecutorClient*> clients;
  for (const std::string& executor : known_executors_) {
    p.clients.push_back(std::make_unique<Client>(*this, p, executor));
    clients.push_back(p.clients.back().get());
  }
  p.scheduler =
      std::make_unique<Scheduler>(p.loop, *p.api, clients, p.rng, p.log, p.metrics,
                                  SchedulerConfig{.id = fmt::format("{}-{}", name, p.rng()),
                                                  .prune_quarantine = options_.quarantine,
                                                  .heartbeat = options_.heartbeat});
  p.scheduler->Start([&p](const std::string&) { p.deposed = true; });
}

void World::StartExecutor(const std::string& name) {
  ASSERT_FALSE(Running(name));
  auto process = std::make_unique<Process>(*this, name);
  Process& p = *process;
  processes_[name] = std::move(process);
  p.snapshots = std::make_unique<Reflector<Snapshot>>(
      p.loop, *p.api, p.rng, p.log,
      ListQuery{.label_selector = fmt::format("{}={}", kManagedByLabel, kManagedBy)});
  p.executor =
      std::make_unique<Executor>(p.loop, *p.api, *p.snapshots, p.log, p.metrics,
                                 ExecutorConfig{.instance = fmt::format("{}-{}", name, p.rng()),
                                                .heartbeat = options_.heartbeat});
  p.snapshots->Start(
      [&p](const auto& before, const auto& after) { p.executor->SnapshotChanged(before, after); });
}

void World::Kill(const std::string& name) {
  auto it = processes_.find(name);
  const std::unique_ptr<Process> process = std::move(it->second);
  processes_.erase(it);
  process->alive.reset();
  for (const auto& weak : process->wires) {
    if (auto wire = weak.lock()) {
      wire->session.reset();
      Client::CloseAtScheduler(*this, wire, absl::UnavailableError("the process is gone"));
    }
  }
  process->scheduler.reset();
  process->executor.reset();
  process->snapshots.reset();
  process->api.reset();
}

bool World::Running(const std::string& name) const { return processes_.contains(name); }

void World::Freeze(const std::string& name, bool frozen) { processes_.at(name)->frozen = frozen; }

void World::Deliver(const std::weak_ptr<bool>& alive, EventLoop& loop, absl::Duration& last,
                    EventLoop::Task task) {
  if (alive.expired()) return;
  const absl::Duration delay = network_.delay ? network_.delay() : absl::ZeroDuration();
  const absl::Duration when = std::max(clock_.Elapsed() + delay, last);
  last = when;
  if (when <= clock_.Elapsed()) return loop.Post(std::move(task));
  const uint64_t id = next_transit_++;
  in_transit_[id] = server_loop_.After(when - clock_.Elapsed(),
                                       [this, id, alive, &loop, task = std::move(task)]() mutable {
                                         if (!alive.expired()) loop.Post(std::move(task));
                                         in_transit_.erase(id);
                                       });
}

void World::AddPolicy(const std::string& name, nlohmann::json spec, const std::string& ns) {
  if (!spec.contains("selector")) spec["selector"] = {{"matchLabels", {{"app", "db"}}}};
  const auto created = simulator_.store().Create(Kind::kPolicy,
                                                 {{"apiVersion", "snapkeeper.io/v1alpha1"},
                                                  {"kind", "SnapshotPolicy"},
                                                  {"metadata", {{"name", name}, {"namespace", ns}}},
                                                  {"spec", spec}},
                                                 "user");
  ASSERT_TRUE(created.ok()) << created.status();
}

std::string World::MetricsOf(const std::string& name) {
  Metrics& metrics = processes_.at(name)->metrics;
  return metrics.Serialize(metrics.Collect());
}

void World::PatchPolicy(const std::string& name, const nlohmann::json& patch,
                        const std::string& ns) {
  const auto patched = simulator_.store().Patch({Kind::kPolicy, ns, name}, patch, false, "user");
  ASSERT_TRUE(patched.ok()) << patched.status();
}

void World::DeletePolicy(const std::string& name, const std::string& ns) {
  const auto deleted = simulator_.store().Delete({Kind::kPolicy, ns, name}, {}, "user");
  ASSERT_TRUE(deleted.ok()) << deleted.status();
}

void World::DeleteClaim(const std::string& name, const std::string& ns) {
  const ObjectKey claim{Kind::kClaim, ns, name};
  ASSERT_TRUE(simulator_.store().Delete(claim, {}, "admin").ok());
  if (simulator_.store().JsonOf(claim) == nullptr) return;
  ASSERT_TRUE(simulator_.store()
                  .Patch(claim, {{"metadata", {{"finalizers", nullptr}}}}, false, "admin")
                  .ok());
}

void World::PostAsAnother(const std::string& policy, const std::string& claim, absl::Time instant) {
  const std::string claim_uid = simulator_.store().Find<Claim>("default", claim)->meta.uid;
  CreateSnapshot work;
  work.identity = {PolicyOf(policy)->meta.uid, FormatInstant(instant), claim_uid};
  work.name = SnapshotName(work.identity, claim);
  work.policy = "default/" + policy;
  work.run = "x";
  work.target = {.ns = "default", .claim = claim, .claim_uid = claim_uid, .snapshot_class = "sim"};
  work.post_before = Now() + absl::Seconds(10);
  const auto made = simulator_.store().Create(Kind::kSnapshot, SnapshotToJson(work), "executor-9");
  ASSERT_TRUE(made.ok()) << made.status();
}

void World::CopySnapshot(const std::string& name, const CopyName& copy_name,
                         const nlohmann::json& changes) {
  const nlohmann::json& original = *simulator_.store().JsonOf({Kind::kSnapshot, "default", name});
  nlohmann::json copy = {{"metadata",
                          {{"namespace", copy_name.ns},
                           {"name", copy_name.name},
                           {"labels", original["metadata"]["labels"]},
                           {"annotations", original["metadata"]["annotations"]}}},
                         {"spec", original["spec"]}};
  // It is too late for that.
  copy["metadata"]["annotations"].erase(std::string(kPostBeforeAnnotation));
  copy.merge_patch(changes);
  const auto made = simulator_.store().Create(Kind::kSnapshot, std::move(copy), "user");
  ASSERT_TRUE(made.ok()) << made.status();
}

std::shared_ptr<const Policy> World::PolicyOf(const std::string& name, const std::string& ns) {
  return simulator_.store().Find<Policy>(ns, name);
}

PolicyStatus World::StatusOf(const std::string& name, const std::string& ns) {
  return PolicyOf(name, ns)->status;
}

std::vector<std::shared_ptr<const Snapshot>> World::SnapshotsOf(const std::string& policy,
                                                                const std::string& ns) {
  const std::string uid = PolicyOf(policy, ns)->meta.uid;
  std::vector<std::shared_ptr<const Snapshot>> snapshots;
  simulator_.store().ForEach<Snapshot>([&](const Snapshot& s) {
    if (s.meta.ns == ns && s.policy_uid == uid) snapshots.push_back(std::make_shared<Snapshot>(s));
  });
  return snapshots;
}

std::vector<EventLoop*> World::Loops() {
  std::vector<EventLoop*> loops = {&server_loop_};
  for (auto& [name, process] : processes_) {
    if (!process->frozen) loops.push_back(&process->loop);
  }
  return loops;
}

void World::RunFor(absl::Duration time) { snapkeeper::RunFor(clock_, Loops(), time); }

std::vector<absl::Time> Every(absl::Duration period, absl::Time after, absl::Time until) {
  std::vector<absl::Time> instants;
  const int64_t step = absl::ToInt64Seconds(period);
  for (int64_t k = absl::ToUnixSeconds(after) / step + 1; absl::FromUnixSeconds(k * step) <= until;
       ++k) {
    instants.push_back(absl::FromUnixSeconds(k * step));
  }
  return instants;
}

std::vector<std::string> Outcomes(const PolicyStatus& status) {
  std::vector<std::string> outcomes;
  for (auto run = status.recent_runs.rbegin(); run != status.recent_runs.rend(); ++run) {
    std::string text;
    const RunCounts& c = run->counts;
    for (const auto& [count, word] :
         {std::pair(c.succeeded, "succeeded"), std::pair(c.succeeded_late, "succeeded late"),
          std::pair(c.failed, "failed"), std::pair(c.skipped, "skipped"),
          std::pair(c.cancelled, "cancelled"), std::pair(c.pending, "pending")}) {
      if (count > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, word);
    }
    if (!run->failures.empty() && run->failures[0].reason != Reason::kNone)
      text += fmt::format(" ({})", ToString(run->failures[0].reason));
    outcomes.push_back(std::move(text));
  }
  return outcomes;
}

}  // namespace snapkeeper
