#include "common/base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cassert>
#include <filesystem>
#include <sstream>
#include <utility>

#include "common/base/file.h"

namespace snapkeeper {
namespace {

// What follows the first `key` of a /proc file, as a number.
double NumberAfter(const std::string& text, std::string_view key) {
  const size_t at = text.find(key);
  return at == text.npos ? 0 : strtod(text.c_str() + at + key.size(), nullptr);
}

prometheus::MetricFamily OneValue(std::string name, std::string help, prometheus::MetricType type,
                                  double value) {
  prometheus::ClientMetric metric;
  metric.counter.value = value;
  metric.gauge.value = value;
  return {std::move(name), std::move(help), type, {metric}};
}

// The names and meanings every Prometheus client library gives to these.
void AddProcess(std::vector<prometheus::MetricFamily>& families) {
  using prometheus::MetricType;
  const std::string stat = ReadFile("/proc/self/stat").value_or("");
  // The second field, the program's name in parentheses, may hold anything; the third follows its
  // last parenthesis.
  std::istringstream fields(stat.substr(stat.rfind(')') + 1));
  std::vector<std::string> field = {"pid", "name"};
  for (std::string value; fields >> value;) field.push_back(value);
  if (field.size() > 23) {
    const double tick = static_cast<double>(sysconf(_SC_CLK_TCK));
    const double page = static_cast<double>(sysconf(_SC_PAGESIZE));
    const auto number = [&field](size_t i) {
      return strtod(field[i - 1].c_str(), nullptr);
    };  // as proc(5) counts
    families.push_back(OneValue("process_cpu_seconds_total",
                                "User and system CPU time spent, in seconds.", MetricType::Counter,
                                (number(14) + number(15)) / tick));
    families.push_back(OneValue(
        "process_start_time_seconds", "Start of the process, in Unix time.", MetricType::Gauge,
        NumberAfter(ReadFile("/proc/stat").value_or(""), "btime ") + number(22) / tick));
    families.push_back(OneValue("process_virtual_memory_bytes", "Size of the virtual memory.",
                                MetricType::Gauge, number(23)));
    families.push_back(OneValue("process_resident_memory_bytes", "Size of the resident memory.",
                                MetricType::Gauge, number(24) * page));
  }
  std::error_code error;
  std::filesystem::directory_iterator fds("/proc/self/fd", error);
  if (!error) {
    families.push_back(OneValue(
        "process_open_fds", "Open file descriptors.", MetricType::Gauge,
        static_cast<double>(std::distance(begin(fds), end(fds))) - 1));  // not that of the count
  }
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    families.push_back(OneValue("process_max_fds", "Most file descriptors that may be open.",
                                MetricType::Gauge, static_cast<double>(limit.rlim_cur)));
  }
}

prometheus::MetricFamily ToFamily(const StateGauge& gauge) {
  prometheus::MetricFamily family = {gauge.name, gauge.help, prometheus::MetricType::Gauge, {}};
  family.metric.reserve(gauge.samples.size());
  for (const StateGauge::Sample& sample : gauge.samples) {
    assert(sample.label_values.size() == gauge.label_names.size());
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    metric.gauge.value = sample.value;
    for (size_t i = 0; i < gauge.label_names.size(); ++i) {
      metric.label.push_back({gauge.label_names[i], sample.label_values[i]});
    }
  }
  return family;
}

}  // namespace

struct Metrics::Registry {
  prometheus::Registry registry;
};

void Counter::Add(const MetricLabels& labels, double by) const {
  family_->Add(labels).Increment(by);
}

void Gauge::Set(const MetricLabels& labels, double value) const { family_->Add(labels).Set(value); }

Histogram::Histogram(prometheus::Family<prometheus::Histogram>& family, std::vector<double> buckets)
    : family_(&family), buckets_(std::make_shared<const std::vector<double>>(std::move(buckets))) {}
void Histogram::Create(const MetricLabels& labels) const { family_->Add(labels, *buckets_); }
void Histogram::Observe(const MetricLabels& labels, double value) const {
  family_->Add(labels, *buckets_).Observe(value);
}

Metrics::Metrics(std::string_view version) : registry_(std::make_unique<Registry>()) {
  AddGauge("snapkeeper_build_info", "Constant 1, labelled with the version that runs.")
      .Set({{"version", std::string(version)}}, 1);
}
Metrics::~Metrics() = default;

Counter Metrics::AddCounter(std::string_view name, std::string_view help) {
  return Counter(prometheus::BuildCounter()
                     .Name(std::string(name))
                     .Help(std::string(help))
                     .Register(registry_->registry));
}

Gauge Metrics::AddGauge(std::string_view name, std::string_view help) {
  return Gauge(prometheus::BuildGauge()
                   .Name(std::string(name))
                   .Help(std::string(help))
                   .Register(registry_->registry));
}

Histogram Metrics::AddHistogram(std::string_view name, std::string_view help,
                                std::vector<double> buckets) {
  return Histogram(prometheus::BuildHistogram()
                       .Name(std::string(name))
                       .Help(std::string(help))
                       .Register(registry_->registry),
                   std::move(buckets));
}

Call Metrics::AddCollector(Collector collector) {
  const int id = next_collector_++;
  collectors_.emplace(id, std::move(collector));
  return Call([this, id] { collectors_.erase(id); });
}

std::vector<StateGauge> Metrics::Collect() {
  std::vector<StateGauge> state;
  for (auto& [id, collector] : collectors_) {
    for (StateGauge& gauge : collector()) state.push_back(std::move(gauge));
  }
  return state;
}

std::string Metrics::Serialize(const std::vector<StateGauge>& state) const {
  std::vector<prometheus::MetricFamily> families = registry_->registry.Collect();
  AddProcess(families);
  for (const StateGauge& gauge : state) families.push_back(ToFamily(gauge));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace snapkeeper
