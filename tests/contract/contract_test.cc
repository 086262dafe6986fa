// The worlds that the contract is held in.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "common/http/curl_transport.h"
#include "common/kube/kube_client.h"
#include "common/kube/kubeconfig.h"
#include "simulator/http_api.h"
#include "simulator/simulator.h"
#include "tests/contract/kube_api_contract.h"
#include "tests/support/matchers.h"
#include "tests/support/sim_waiter.h"

namespace snapkeeper {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(30);

// The simulator in the same process, on a clock that leaps.
class InProcess : public ContractWorld {
 public:
  EventLoop& loop() override { return loop_; }
  KubeApi& api() override { return *api_; }
  bool RunUntil(absl::FunctionRef<bool()> done) override {
    const absl::Duration end = clock_.Elapsed() + kLimit;
    while (!done()) {
      if (loop_.Turn()) continue;
      if (loop_.NextTimer() > end) return false;
      clock_.AdvanceTo(loop_.NextTimer());
    }
    return true;
  }
  std::string ExpiredVersion() override {
    simulator_.store().ExpireHistory();
    return "1";
  }

 private:
  SimClock clock_;
  SimWaiter waiter_{clock_};
  EventLoop loop_{waiter_};
  Rng rng_{1};
  Simulator simulator_{loop_, rng_};
  std::unique_ptr<KubeApi> api_ = simulator_.Connect(loop_, "contract");
};

// Through our own client.
class OverHttp : public ContractWorld {
 public:
  EventLoop& loop() override { return loop_; }
  KubeApi& api() override { return *client_; }
  bool RunUntil(absl::FunctionRef<bool()> done) override {
    const absl::Duration end = loop_.Elapsed() + kLimit;
    while (!done()) {
      const absl::Duration now = loop_.Elapsed();
      if (now > end) return false;
      if (!loop_.Turn()) transport_.Wait(std::min(loop_.NextTimer(), end) - now);
    }
    return true;
  }

 protected:
  void Connect(const std::string& kubeconfig) {
    auto config = KubeConfig::Load(kubeconfig, {}, log_);
    ASSERT_THAT(config, IsOk());
    config_ = *std::move(config);
    client_ = std::make_unique<KubeClient>(
        loop_, transport_, *config_, rng_, log_,
        KubeClient::Options{"snapkeeper-contract/1", /*page_size=*/5, nullptr});
  }

  NullLog log_;
  Rng rng_{1};
  CurlTransport transport_;
  EventLoop loop_{transport_};

 private:
  std::unique_ptr<KubeConfig> config_;
  std::unique_ptr<KubeClient> client_;
};

class RealApiServer : public OverHttp {
 public:
  explicit RealApiServer(const std::string& kubeconfig) { Connect(kubeconfig); }
  // Of a kind of ours an API server keeps events since the kind was installed, which is not its
  // first version.
  std::string ExpiredVersion() override { return "1"; }
};

class SimulatorServer : public OverHttp {
 public:
  SimulatorServer() {
    auto server = HttpApi::Listen(loop_, simulator_, "127.0.0.1:0");
    EXPECT_THAT(server, IsOk());
    server_ = *std::move(server);
    const std::string path =
        fmt::format("{}/contract.{}.kubeconfig", testing::TempDir(), static_cast<int>(getpid()));
    std::ofstream(path) << "current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\n"
                           "clusters: [{name: c, cluster: {server: 'http://"
                        << server_->address() << "'}}]\n";
    Connect(path);
    std::remove(path.c_str());
  }
  std::string ExpiredVersion() override {
    simulator_.store().ExpireHistory();
    return "1";
  }

 private:
  Simulator simulator_{loop_, rng_, {.store = {.keep_text = true}}};
  std::unique_ptr<HttpApi> server_;
};

std::vector<ContractWorldMaker> Worlds() {
  std::vector<ContractWorldMaker> worlds = {
      {"Simulator", [] { return std::make_unique<InProcess>(); }},
      {"SimulatorServer", [] { return std::make_unique<SimulatorServer>(); }}};
  // A test program is told what it runs over, by tests/e2e.
  if (const char* kubeconfig = std::getenv("SNAPKEEPER_CONTRACT_KUBECONFIG")) {
    worlds.push_back({"ApiServer", [path = std::string(kubeconfig)] {
                        return std::make_unique<RealApiServer>(path);
                      }});
  }
  return worlds;
}

INSTANTIATE_TEST_SUITE_P(Over, KubeApiContract, testing::ValuesIn(Worlds()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace snapkeeper
