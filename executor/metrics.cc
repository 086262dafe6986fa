#include "executor/metrics.h"

#include "common/model/reason.h"

namespace snapkeeper {
namespace {

// From a fast local driver to an upload of hours.
const std::vector<double> kSeconds = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,  1,    2.5,  5,
                                      10,    30,   60,    120,  300, 600,  1800, 3600, 7200, 21600};

}  // namespace

ExecutorMetrics::ExecutorMetrics(Metrics& metrics)
    : attempts_(metrics.AddCounter("snapkeeper_executor_attempts_total",
                                   "Attempts ended, by kind of job and result.")),
      deletes_(metrics.AddCounter("snapkeeper_executor_deletes_total",
                                  "DELETEs of snapshots by pruning, by result.")),
      create_(metrics.AddHistogram("snapkeeper_snapshot_create_seconds",
                                   "From the job's coming to the object's creation.", kSeconds)),
      cut_(metrics.AddHistogram("snapkeeper_snapshot_cut_seconds",
                                "From the object's creation to the cut.", kSeconds)),
      ready_(metrics.AddHistogram("snapkeeper_snapshot_ready_seconds",
                                  "From the object's creation to readiness.", kSeconds)) {
  for (const char* kind : {"create", "prune"}) attempts_.Create({{"kind", kind}, {"result", "Ok"}});
  deletes_.Create({{"result", "Ok"}});
}

void ExecutorMetrics::ObservePhase(Phase reached, const std::string& driver,
                                   const absl::Status& result, absl::Duration took) const {
  const Histogram& histogram = reached == Phase::kCreated ? create_
                               : reached == Phase::kCut   ? cut_
                                                          : ready_;
  histogram.Observe({{"driver", driver}, {"result", ResultOf(result)}},
                    absl::ToDoubleSeconds(took));
}

void ExecutorMetrics::CountAttempt(std::string_view kind, const absl::Status& result) const {
  attempts_.Add({{"kind", std::string(kind)}, {"result", ResultOf(result)}});
}

void ExecutorMetrics::CountDelete(const absl::Status& result) const {
  deletes_.Add({{"result", ResultOf(result)}});
}

}  // namespace snapkeeper
