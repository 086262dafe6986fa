#include "common/base/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

namespace snapkeeper {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Scrape(Metrics& metrics) { return metrics.Serialize(metrics.Collect()); }

TEST(MetricsTest, CountsByLabelsAndShowsCreatedSeriesAtZero) {
  Metrics metrics("1.2.3");
  const Counter outcomes = metrics.AddCounter("snapkeeper_outcomes_total", "Outcomes.");
  outcomes.Create({{"outcome", "Succeeded"}});
  outcomes.Create({{"outcome", "Failed"}});
  outcomes.Add({{"outcome", "Failed"}});
  outcomes.Add({{"outcome", "Failed"}}, 2);
  outcomes.Create({{"outcome", "Failed"}});  // does not reset
  EXPECT_THAT(Scrape(metrics),
              AllOf(HasSubstr("# HELP snapkeeper_outcomes_total Outcomes.\n"
                              "# TYPE snapkeeper_outcomes_total counter\n"),
                    HasSubstr("snapkeeper_outcomes_total{outcome=\"Succeeded\"} 0\n"),
                    HasSubstr("snapkeeper_outcomes_total{outcome=\"Failed\"} 3\n")));
}

TEST(MetricsTest, SetsGauges) {
  Metrics metrics("1.2.3");
  const Gauge leader = metrics.AddGauge("snapkeeper_leader", "Whether this one leads.");
  leader.Set(1);
  leader.Set(0);
  const Gauge executors = metrics.AddGauge("snapkeeper_executors", "Executors.");
  executors.Set({{"state", "up"}}, 2.5);
  EXPECT_THAT(Scrape(metrics), AllOf(HasSubstr("snapkeeper_leader 0\n"),
                                     HasSubstr("snapkeeper_executors{state=\"up\"} 2.5\n")));
}

TEST(MetricsTest, FillsHistogramsBucketByBucket) {
  Metrics metrics("1.2.3");
  const Histogram cut =
      metrics.AddHistogram("snapkeeper_cut_seconds", "Time to the cut.", {0.1, 1});
  cut.Create({{"driver", "idle"}});
  for (const double seconds : {0.05, 0.5, 5.0}) cut.Observe({{"driver", "d"}}, seconds);
  EXPECT_THAT(Scrape(metrics),
              AllOf(HasSubstr("snapkeeper_cut_seconds_bucket{driver=\"d\",le=\"0.1\"} 1\n"),
                    HasSubstr("snapkeeper_cut_seconds_bucket{driver=\"d\",le=\"1\"} 2\n"),
                    HasSubstr("snapkeeper_cut_seconds_bucket{driver=\"d\",le=\"+Inf\"} 3\n"),
                    HasSubstr("snapkeeper_cut_seconds_count{driver=\"d\"} 3\n"),
                    HasSubstr("snapkeeper_cut_seconds_sum{driver=\"d\"} 5.55"),
                    HasSubstr("snapkeeper_cut_seconds_count{driver=\"idle\"} 0\n")));
}

TEST(MetricsTest, ComputesStateAtEachScrapeSoThatVanishedSeriesVanish) {
  Metrics metrics("1.2.3");
  std::map<std::string, double> claims = {{"data-0", 7}, {"odd \"name\"\n", 8}};
  Call collector = metrics.AddCollector([&claims] {
    StateGauge ready = {"snapkeeper_ready", "Ready.", {"namespace", "claim"}, {}};
    for (const auto& [claim, value] : claims) ready.samples.push_back({{"default", claim}, value});
    return std::vector<StateGauge>{ready};
  });
  EXPECT_THAT(
      Scrape(metrics),
      AllOf(
          HasSubstr("# TYPE snapkeeper_ready gauge\n"),
          HasSubstr("snapkeeper_ready{namespace=\"default\",claim=\"data-0\"} 7\n"),
          HasSubstr("snapkeeper_ready{namespace=\"default\",claim=\"odd \\\"name\\\"\\n\"} 8\n")));
  claims.erase("data-0");
  EXPECT_THAT(Scrape(metrics), Not(HasSubstr("data-0")));
  collector = Call();
  EXPECT_THAT(Scrape(metrics), Not(HasSubstr("snapkeeper_ready")));
}

TEST(MetricsTest, TellsTheVersionAndTheProcess) {
  Metrics metrics("1.2.3");
  const std::string text = Scrape(metrics);
  EXPECT_THAT(text, HasSubstr("snapkeeper_build_info{version=\"1.2.3\"} 1\n"));
  const auto value = [&text](const std::string& name) {
    const size_t at = text.find("\n" + name + " ");
    return at == text.npos ? -1 : std::strtod(text.c_str() + at + name.size() + 2, nullptr);
  };
  EXPECT_GE(value("process_cpu_seconds_total"), 0);
  EXPECT_GT(value("process_resident_memory_bytes"), 1 << 20);
  EXPECT_GT(value("process_virtual_memory_bytes"), value("process_resident_memory_bytes"));
  EXPECT_GE(value("process_open_fds"), 3);
  EXPECT_GT(value("process_max_fds"), value("process_open_fds"));
  EXPECT_GT(value("process_start_time_seconds"), 1.7e9);
  EXPECT_THAT(text, HasSubstr("# TYPE process_cpu_seconds_total counter\n"));
}

TEST(MetricsTest, TakesCountsFromManyThreads) {
  Metrics metrics("1.2.3");
  const Counter counter = metrics.AddCounter("snapkeeper_total", "x");
  const Histogram histogram = metrics.AddHistogram("snapkeeper_seconds", "x", {1});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&counter, &histogram, t] {
      for (int i = 0; i < 1000; ++i) {
        counter.Add();
        histogram.Observe({{"t", std::to_string(t % 2)}}, 0.5);
      }
    });
  }
  EXPECT_THAT(metrics.Serialize({}), HasSubstr("snapkeeper_build_info"));
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(Scrape(metrics), AllOf(HasSubstr("snapkeeper_total 4000\n"),
                                     HasSubstr("snapkeeper_seconds_count{t=\"0\"} 2000\n")));
}

}  // namespace
}  // namespace snapkeeper
