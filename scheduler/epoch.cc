#include "scheduler/epoch.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/kube/json.h"
#include "common/model/job.h"

namespace snapkeeper {
namespace {

constexpr char kLeaseName[] = "snapkeeper-scheduler";
// Leaves as many takeovers below the limit of leaseTransitions.
constexpr int64_t kMaxFloor = int64_t{1} << 30;

}  // namespace

int64_t EpochOf(const PolicyStatus& status) { return status.epoch <= kMaxEpoch ? status.epoch : 0; }

Epoch::Epoch(EventLoop& loop, KubeApi& api, Rng& rng, Log& log, std::string ns, std::string holder)
    : loop_(loop),
      api_(api),
      rng_(rng),
      log_(log),
      key_{.kind = Kind::kLease, .ns = std::move(ns), .name = kLeaseName},
      holder_(std::move(holder)),
      lease_(loop, api, rng, log,
             {.kind = Kind::kLease,
              .ns = key_.ns,
              .field_selector = fmt::format("metadata.name={}", kLeaseName)}) {}

void Epoch::Take(int64_t floor, Handlers handlers) {
  floor_ = std::min(floor, kMaxFloor);
  handlers_ = std::move(handlers);
  Read();
}

void Epoch::Check() { lease_.Relist(); }

void Epoch::AskTheTime() {
  if (std::exchange(asking_, true)) return;
  asked_ = api_.Get(key_, [this](const absl::StatusOr<ObjectPtr>&) { asking_ = false; });
}

void Epoch::Read() {
  call_ = api_.Get(key_, [this](absl::StatusOr<ObjectPtr> result) { OnRead(std::move(result)); });
}

void Epoch::OnRead(absl::StatusOr<ObjectPtr> result) {
  const bool absent = absl::IsNotFound(result.status());
  if (!result.ok() && !absent) return Retry(result.status());
  epoch_ = (absent ? floor_ : As<Lease>(*result)->transitions) + 1;
  const std::string now = FormatMicroTime(loop_.Now());
  nlohmann::json lease = {{"metadata", nlohmann::json::object()},
                          {"spec",
                           {{"holderIdentity", holder_},
                            {"leaseTransitions", epoch_},
                            {"leaseDurationSeconds", 15},
                            {"acquireTime", now},
                            {"renewTime", now}}}};
  auto written = [this](absl::StatusOr<ObjectPtr> answer) { OnWritten(std::move(answer)); };
  if (absent) {
    lease["apiVersion"] = std::string(ResourceOf(Kind::kLease).api_version);
    lease["kind"] = std::string(ResourceOf(Kind::kLease).kind);
    lease["metadata"] = {{"name", key_.name}, {"namespace", key_.ns}};
    call_ = api_.Create(Kind::kLease, lease, std::move(written));
  } else {
    lease["metadata"]["resourceVersion"] = MetaOf(**result).resource_version;
    call_ = api_.Patch(key_, lease, /*status=*/false, std::move(written));
  }
}

void Epoch::OnWritten(absl::StatusOr<ObjectPtr> result) {
  if (!result.ok()) return Retry(result.status());
  log_.Info("epoch taken", {{"epoch", epoch_}, {"holder", holder_}});
  lease_.Start(
      [this](const std::shared_ptr<const Lease>&, const std::shared_ptr<const Lease>& after) {
        if (!after || after->transitions <= epoch_ || std::exchange(deposed_, true)) return;
        handlers_.deposed(fmt::format("Lease {}/{} shows epoch {} of {}, ours is {}", key_.ns,
                                      key_.name, after->transitions, after->holder, epoch_));
      },
      [this] {
        if (!deposed_) handlers_.confirmed();
      });
  handlers_.taken(epoch_);
}

void Epoch::Retry(const absl::Status& status) {
  log_.Warning("epoch not taken", {{"lease", key_.ns + "/" + key_.name}, {"error", status}});
  retry_ =
      loop_.After(Backoff{}.Delay(++failures_, rng_, RetryAfterOf(status)), [this] { Read(); });
}

}  // namespace snapkeeper
