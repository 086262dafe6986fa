#include "scheduler/metrics.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "common/model/names.h"
#include "common/model/retention.h"
#include "scheduler/caches.h"
#include "scheduler/dispatcher.h"
#include "scheduler/executor_pool.h"
#include "scheduler/runs.h"

namespace snapkeeper {
namespace {

double Timestamp(absl::Time time) { return absl::ToDoubleSeconds(time - absl::UnixEpoch()); }

// By when, as the policy's schedule has it, the claim must have a ready snapshot that is newer than
// `newest`, its newest one, if it has any. Nothing is due of a time before there was the claim, or
// the schedule.
std::optional<absl::Time> RpoDeadline(const PolicyState& state, const Claim& claim,
                                      const Snapshot* newest, absl::Time now) {
  const Policy& policy = *state.policy;
  if (policy.spec.suspend || !state.schedule) return std::nullopt;
  const absl::Time since = state.schedule_since.value_or(policy.meta.created);
  absl::Time covered = std::max(claim.meta.created, since);
  if (newest) {
    // A cut is told in whole seconds: one of ours may seem to be older than its instant.
    const auto instant = ProvenIdentity(*newest) ? ParseInstant(newest->instant) : std::nullopt;
    covered = std::max({covered, CutOf(*newest, now), instant.value_or(absl::InfinitePast())});
  }
  return state.schedule->cron.Next(covered, state.schedule->zone);
}

}  // namespace

SchedulerMetrics::SchedulerMetrics(Metrics& metrics)
    : metrics_(metrics),
      outcomes_(metrics.AddCounter(
          "snapkeeper_snapshot_outcomes_total",
          "Outcomes of volumes in runs; an outcome that is amended counts again, and so does one "
          "of a run that was open when another scheduler took over.")),
      retries_(
          metrics.AddCounter("snapkeeper_job_retries_total",
                             "Attempts that are tried again, by the reason of the failed one.")),
      missed_(metrics.AddCounter("snapkeeper_missed_runs_total",
                                 "Instants that passed without a run.")),
      pruned_(metrics.AddCounter("snapkeeper_pruned_snapshots_total",
                                 "Snapshots deleted by retention.")),
      skew_(metrics.AddHistogram(
          "snapkeeper_schedule_skew_seconds", "From a scheduled instant to the start of its run.",
          {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 3600})),
      prune_(metrics.AddHistogram(
          "snapkeeper_prune_seconds",
          "A prune job, from its plan to its end: the wait for an executor, live check and "
          "deletes.",
          {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300})) {
  missed_.Create();
  pruned_.Create();
  skew_.Create();
}

void SchedulerMetrics::CountOutcome(const std::string& driver, Outcome outcome, Reason reason,
                                    int volumes) {
  outcomes_.Add({{"driver", driver},
                 {"outcome", std::string(ToString(outcome))},
                 {"reason", std::string(ToString(reason))}},
                volumes);
}

void SchedulerMetrics::CountRetry(Reason reason) {
  retries_.Add({{"reason", std::string(ToString(reason))}});
}

void SchedulerMetrics::CountMissed(int instants) { missed_.Add({}, instants); }

void SchedulerMetrics::CountPruned(int snapshots, const std::set<std::string>& drivers,
                                   const absl::Status& status, absl::Duration took) {
  pruned_.Add({}, snapshots);
  for (const std::string& driver : drivers) {
    prune_.Observe({{"driver", driver}, {"result", ResultOf(status)}}, absl::ToDoubleSeconds(took));
  }
}

void SchedulerMetrics::ObserveSkew(absl::Duration skew) {
  skew_.Observe(absl::ToDoubleSeconds(skew));
}

void SchedulerMetrics::Collect(const Caches& caches, const Runs& runs, const ExecutorPool& pool,
                               const Dispatcher& dispatcher, EventLoop& loop,
                               std::function<bool()> leads) {
  collector_ = metrics_.AddCollector([&caches, &runs, &pool, &dispatcher, &loop,
                                      leads = std::move(leads)] {
    const absl::Time now = loop.Now();
    StateGauge last{"snapkeeper_last_ready_timestamp_seconds",
                    "Cut of the PVC's newest ready snapshot; 0: it has none.",
                    {"namespace", "persistentvolumeclaim", "policy"},
                    {}};
    StateGauge rpo{"snapkeeper_rpo_deadline_timestamp_seconds",
                   "By when the PVC must have a newer ready snapshot, as the policy's schedule has "
                   "it.",
                   {"namespace", "persistentvolumeclaim", "policy"},
                   {}};
    StateGauge count{"snapkeeper_snapshots",
                     "Snapshots of the PVC that are of this policy, ready or not; without those "
                     "that are being deleted.",
                     {"namespace", "persistentvolumeclaim", "policy", "ready"},
                     {}};
    StateGauge deleting{"snapkeeper_policy_deleting_snapshots",
                        "Snapshots of the policy that are being deleted.",
                        {"namespace", "policy"},
                        {}};
    StateGauge next{"snapkeeper_policy_next_run_timestamp_seconds",
                    "The policy's next instant; 0: it has none.",
                    {"namespace", "policy"},
                    {}};
    StateGauge suspended{"snapkeeper_policy_suspended",
                         "1 where the policy is suspended.",
                         {"namespace", "policy"},
                         {}};
    StateGauge selected{"snapkeeper_policy_selected_volumes",
                        "PVCs that the policy selects.",
                        {"namespace", "policy"},
                        {}};
    StateGauge unprotected{"snapkeeper_policy_unprotected_volumes",
                           "PVCs that the policy selects and that have no ready snapshot.",
                           {"namespace", "policy"},
                           {}};
    StateGauge open{"snapkeeper_policy_open_runs",
                    "Runs of the policy that have not settled.",
                    {"namespace", "policy"},
                    {}};
    StateGauge missed{"snapkeeper_policy_missed_runs",
                      "status.missedRuns of the policy.",
                      {"namespace", "policy"},
                      {}};
    for (const auto& [uid, policy_state] : runs.policies()) {
      const PolicyState& state = policy_state;  // clang-14 captures no binding
      if (state.gone) continue;
      const Policy& policy = *state.policy;
      const std::vector<std::string> labels = {policy.meta.ns, policy.meta.name};
      next.samples.push_back({labels, state.next == absl::InfiniteFuture()
                                          ? 0
                                          : static_cast<double>(absl::ToUnixSeconds(state.next))});
      suspended.samples.push_back({labels, policy.spec.suspend ? 1.0 : 0.0});
      open.samples.push_back({labels, static_cast<double>(state.open.size())});
      missed.samples.push_back({labels, static_cast<double>(state.missed_runs)});
      int being_deleted = 0;
      std::map<std::string, std::pair<int, int>> by_claim;  // ready, unready
      for (const auto& snapshot : caches.OfPolicy(uid)) {
        if (snapshot->meta.ns != policy.meta.ns) continue;  // a copy of one of ours
        if (snapshot->meta.deleting) {
          ++being_deleted;
          continue;
        }
        auto& [ready, unready] = by_claim[snapshot->claim_uid];
        ++(caches.IsReady(*snapshot) ? ready : unready);
      }
      deleting.samples.push_back({labels, static_cast<double>(being_deleted)});
      int volumes = 0, without = 0;
      caches.claims().ForEachIn(policy.meta.ns, [&](const Claim& claim) {
        if (!Selects(policy, claim)) return;
        ++volumes;
        const std::vector<std::string> claim_labels = {claim.meta.ns, claim.meta.name,
                                                       policy.meta.name};
        const auto newest = caches.NewestReady(claim, now);
        without += !newest;
        last.samples.push_back({claim_labels, newest ? Timestamp(CutOf(*newest, now)) : 0});
        if (const auto deadline = RpoDeadline(state, claim, newest.get(), now))
          rpo.samples.push_back({claim_labels, Timestamp(*deadline)});
        const auto [ready, unready] = by_claim[claim.meta.uid];
        count.samples.push_back({{claim.meta.ns, claim.meta.name, policy.meta.name, "true"},
                                 static_cast<double>(ready)});
        count.samples.push_back({{claim.meta.ns, claim.meta.name, policy.meta.name, "false"},
                                 static_cast<double>(unready)});
      });
      selected.samples.push_back({labels, static_cast<double>(volumes)});
      unprotected.samples.push_back({labels, static_cast<double>(without)});
    }
    auto single = [](std::string name, std::string help, double value) {
      return StateGauge{std::move(name), std::move(help), {}, {{{}, value}}};
    };
    return std::vector<StateGauge>{
        std::move(last),
        std::move(rpo),
        std::move(count),
        std::move(deleting),
        std::move(next),
        std::move(suspended),
        std::move(selected),
        std::move(unprotected),
        std::move(open),
        std::move(missed),
        single("snapkeeper_leader", "1 while this process has the epoch.", leads()),
        single("snapkeeper_dispatch_queue_depth", "Jobs that wait for an executor.",
               dispatcher.queued()),
        single("snapkeeper_jobs_in_flight", "Jobs at executors.", pool.outstanding()),
        single("snapkeeper_executors_connected", "Executors that take jobs.", pool.connected())};
  });
}

}  // namespace snapkeeper
