#include <fmt/format.h>

#include <cstdlib>
#include <list>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "common/base/event_loop.h"
#include "common/base/options.h"
#include "common/http/curl_transport.h"
#include "common/kube/json.h"
#include "common/kube/kube_client.h"
#include "common/kube/reflector.h"

namespace snapkeeper {
namespace {

struct StubOptions {
  std::string kubeconfig;
  std::string driver;
  bool never_ready = false;
  int in_flight = 16;
};

// In place of the snapshot controller, the sidecar and the driver: gives each VolumeSnapshot a
// content of the volume that its annotation names and says that it is cut and ready, at once and
// with two requests. (The real ones need a dozen, which would be what is measured.)
class Stub {
 public:
  Stub(EventLoop& loop, KubeApi& api, Rng& rng, Log& log, const StubOptions& options)
      : loop_(loop), api_(api), log_(log), options_(options), snapshots_(loop, api, rng, log) {
    snapshots_.Start(
        [this](const auto& before, const auto& after) {
          if (!before && after->bound_content.empty()) Bind(*after);
          if (!after) Drop(before->meta.uid);
        },
        [this] { log_.Info("watching", {}); });
  }

 private:
  void Bind(const Snapshot& snapshot) {
    const ObjectMeta& meta = snapshot.meta;
    const nlohmann::json content = {
        {"apiVersion", "snapshot.storage.k8s.io/v1"},
        {"kind", "VolumeSnapshotContent"},
        {"metadata", {{"name", "content-" + meta.uid}}},
        {"spec",
         {{"driver", options_.driver},
          {"deletionPolicy", "Delete"},
          {"source", {{"volumeHandle", snapshot.volume_handle}}},
          {"volumeSnapshotRef",
           {{"namespace", meta.ns}, {"name", meta.name}, {"uid", meta.uid}}}}}};
    const auto call = calls_.emplace(calls_.end());
    *call = api_.Create(Kind::kContent, content,
                        [this, call, meta](const absl::StatusOr<ObjectPtr>& created) {
                          calls_.erase(call);
                          if (!created.ok()) return Complain(meta.name, created.status());
                          contents_[meta.uid] = MetaOf(**created);
                          Cut(meta);
                        });
  }

  void Cut(const ObjectMeta& meta) {
    const nlohmann::json patch = {{"status",
                                   {{"boundVolumeSnapshotContentName", contents_.at(meta.uid).name},
                                    {"creationTime", FormatRfc3339(loop_.Now())},
                                    {"readyToUse", !options_.never_ready}}}};
    const auto call = calls_.emplace(calls_.end());
    *call = api_.Patch({Kind::kSnapshot, meta.ns, meta.name}, patch, /*status=*/true,
                       [this, call, name = meta.name](const absl::StatusOr<ObjectPtr>& patched) {
                         calls_.erase(call);
                         if (!patched.ok()) Complain(name, patched.status());
                       });
  }

  void Drop(const std::string& uid) {
    const auto content = contents_.extract(uid);
    if (content.empty()) return;
    const auto call = calls_.emplace(calls_.end());
    *call = api_.Delete({Kind::kContent, "", content.mapped().name}, {.uid = content.mapped().uid},
                        [this, call](const absl::Status&) { calls_.erase(call); });
  }

  void Complain(const std::string& snapshot, const absl::Status& status) {
    log_.Error("not marked", {{"snapshot", snapshot}, {"error", status}});
  }

  EventLoop& loop_;
  KubeApi& api_;
  Log& log_;
  const StubOptions options_;
  std::map<std::string, ObjectMeta> contents_;  // by the snapshot's UID
  std::list<Call> calls_;
  Reflector<Snapshot> snapshots_;
};

int Main(int argc, char** argv) {
  StubOptions options;
  OptionParser parser("snapkeeper-bench-stub", "Marks every VolumeSnapshot as cut and ready.");
  parser.Add("kubeconfig", &options.kubeconfig, "kubeconfig file");
  parser.Add("driver", &options.driver, "the contents' driver");
  parser.Add("never-ready", &options.never_ready, "cut, but not ready");
  parser.Add("in-flight", &options.in_flight, "requests at a time");
  if (const auto stop = parser.Parse(argc, argv, std::getenv)) return stop->Print();

  const auto log = MakeStderrLog(LogFormat::kText, LogLevel::kInfo);
  auto config = KubeConfig::Load(options.kubeconfig, {}, *log);
  if (!config.ok()) {
    log->Error("cannot start", {{"error", config.status()}});
    return 1;
  }
  Rng rng(std::random_device{}());
  CurlTransport transport(options.in_flight);
  EventLoop loop(transport);
  KubeClient api(loop, transport, **config, rng, *log, {.user_agent = "bench-stub"});
  const Stub stub(loop, api, rng, *log, options);
  loop.Run();
  return 0;
}

}  // namespace
}  // namespace snapkeeper

int main(int argc, char** argv) { return snapkeeper::Main(argc, argv); }
