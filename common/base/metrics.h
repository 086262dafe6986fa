#ifndef SNAPKEEPER_COMMON_BASE_METRICS_H_
#define SNAPKEEPER_COMMON_BASE_METRICS_H_

#include <absl/functional/any_invocable.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/call.h"

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
template <typename T>
class Family;
}  // namespace prometheus

namespace snapkeeper {

using MetricLabels = std::map<std::string, std::string>;

// Instruments: made by Metrics, which must outlive them; copies are the same instrument. Any
// thread. Create makes a series at 0, so that it exists before its first event: do so for every
// closed set of labels.
class Counter {
 public:
  void Create(const MetricLabels& labels = {}) const { Add(labels, 0); }
  void Add(const MetricLabels& labels = {}, double by = 1) const;

 private:
  friend class Metrics;
  explicit Counter(prometheus::Family<prometheus::Counter>& family) : family_(&family) {}
  prometheus::Family<prometheus::Counter>* family_;
};

class Gauge {
 public:
  void Set(double value) const { Set({}, value); }
  void Set(const MetricLabels& labels, double value) const;

 private:
  friend class Metrics;
  explicit Gauge(prometheus::Family<prometheus::Gauge>& family) : family_(&family) {}
  prometheus::Family<prometheus::Gauge>* family_;
};

class Histogram {
 public:
  void Create(const MetricLabels& labels = {}) const;
  void Observe(double value) const { Observe({}, value); }
  void Observe(const MetricLabels& labels, double value) const;

 private:
  friend class Metrics;
  Histogram(prometheus::Family<prometheus::Histogram>& family, std::vector<double> buckets);
  prometheus::Family<prometheus::Histogram>* family_;
  std::shared_ptr<const std::vector<double>> buckets_;
};

// Gauges whose series are computed anew at each scrape, so that those of vanished objects vanish
// with them.
struct StateGauge {
  struct Sample {
    std::vector<std::string> label_values;  // as many as label_names
    double value = 0;
  };
  std::string name, help;
  std::vector<std::string> label_names;
  std::vector<Sample> samples;
};

// The metrics of one process, made by main() and passed by reference. Names carry the prefix
// snapkeeper_, but for the standard process_*, rest_client_* and grpc_server_*. A name that is not
// valid, or is declared as two types, throws: a mistake in the program.
class Metrics {
 public:
  static constexpr std::string_view kContentType = "text/plain; version=0.0.4; charset=utf-8";

  // Starts with process_* and snapkeeper_build_info{version}.
  explicit Metrics(std::string_view version);
  ~Metrics();

  // The same name and help again give the same instrument. `buckets` are upper bounds, ascending,
  // without infinity.
  Counter AddCounter(std::string_view name, std::string_view help);
  Gauge AddGauge(std::string_view name, std::string_view help);
  Histogram AddHistogram(std::string_view name, std::string_view help, std::vector<double> buckets);

  // Calls `collector` at each scrape, on the loop's thread, until the Call is destroyed. Must not
  // outlive *this.
  using Collector = absl::AnyInvocable<std::vector<StateGauge>()>;
  Call AddCollector(Collector collector);

  // A scrape has two halves: what the loop's state says (loop thread, brief), and the text (any
  // other thread).
  std::vector<StateGauge> Collect();
  std::string Serialize(const std::vector<StateGauge>& state) const;

 private:
  struct Registry;
  const std::unique_ptr<Registry> registry_;  // any thread
  std::map<int, Collector> collectors_;       // loop thread
  int next_collector_ = 0;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_BASE_METRICS_H_
