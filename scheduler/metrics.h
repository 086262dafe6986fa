#ifndef SNAPKEEPER_SCHEDULER_METRICS_H_
#define SNAPKEEPER_SCHEDULER_METRICS_H_

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <functional>
#include <set>
#include <string>

#include "common/base/call.h"
#include "common/base/event_loop.h"
#include "common/base/metrics.h"
#include "common/model/policy.h"
#include "common/model/reason.h"

namespace snapkeeper {

class Caches;
class Dispatcher;
class ExecutorPool;
class Runs;

// What the scheduler tells Prometheus. Counters and histograms carry labels of closed sets and the
// driver, never a PVC; state gauges are computed from the caches at each scrape. Loop thread only.
class SchedulerMetrics {
 public:
  explicit SchedulerMetrics(Metrics& metrics);

  void CountOutcome(const std::string& driver, Outcome outcome, Reason reason, int volumes = 1);
  void CountRetry(Reason reason);
  void CountMissed(int instants);
  // One finished prune job: how many snapshots it deleted, and of which drivers those were that it
  // was to delete.
  void CountPruned(int snapshots, const std::set<std::string>& drivers, const absl::Status& status,
                   absl::Duration took);
  // From the instant to the start of its run.
  void ObserveSkew(absl::Duration skew);

  // The state gauges, from now on. `leads`: this process has the epoch.
  void Collect(const Caches& caches, const Runs& runs, const ExecutorPool& pool,
               const Dispatcher& dispatcher, EventLoop& loop, std::function<bool()> leads);

 private:
  Metrics& metrics_;
  const Counter outcomes_, retries_, missed_, pruned_;
  const Histogram skew_, prune_;
  Call collector_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_METRICS_H_
