#ifndef SNAPKEEPER_EXECUTOR_METRICS_H_
#define SNAPKEEPER_EXECUTOR_METRICS_H_

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <string>
#include <string_view>

#include "common/base/metrics.h"
#include "common/model/job.h"

namespace snapkeeper {

// What an executor tells Prometheus. Any thread.
class ExecutorMetrics {
 public:
  explicit ExecutorMetrics(Metrics& metrics);

  // How long an attempt took to reach, or to fail to reach, CREATED (from the job's coming), CUT or
  // READY (both from CREATED). Only of snapshots that the attempt itself created: when others began
  // is not known.
  void ObservePhase(Phase reached, const std::string& driver, const absl::Status& result,
                    absl::Duration took) const;
  // `kind` is "create" or "prune".
  void CountAttempt(std::string_view kind, const absl::Status& result) const;
  void CountDelete(const absl::Status& result) const;

 private:
  const Counter attempts_, deletes_;
  const Histogram create_, cut_, ready_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_EXECUTOR_METRICS_H_
