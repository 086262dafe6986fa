#include "common/kube/events.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/kube/json.h"
#include "common/kube/text.h"

namespace snapkeeper {
namespace {

constexpr absl::Duration kDelay = absl::Seconds(1);
constexpr absl::Duration kRepeatWindow = absl::Minutes(10);
constexpr double kBurst = 25;
constexpr absl::Duration kRefill = absl::Minutes(1);  // for one token
constexpr size_t kMaxQueue = 1000;
constexpr size_t kMaxRemembered = 4096;
constexpr size_t kMaxName = 253;
constexpr size_t kMaxMessage = 1024;

// Unique: two processes do not write of one object in the same nanosecond.
std::string EventName(std::string_view object, absl::Time now, int64_t serial) {
  const std::string suffix = fmt::format(".{:x}", absl::ToUnixNanos(now) + serial);
  std::string name(object.substr(0, kMaxName - suffix.size()));
  name.erase(name.find_last_not_of("-.") + 1);  // a label of a DNS name cannot end so
  return name + suffix;
}

}  // namespace

EventRecorder::EventRecorder(EventLoop& loop, KubeApi& api, Log& log, std::string component,
                             std::string instance)
    : loop_(loop),
      api_(api),
      log_(log),
      component_(std::move(component)),
      instance_(std::move(instance)) {}

void EventRecorder::Record(Kind kind, const ObjectMeta& about, EventType type,
                           std::string_view reason, std::string_view message) {
  if (Repeats(fmt::format("{}\n{}\n{}", about.uid, reason, message))) return;
  if (!TakeToken(about.uid)) return;
  if (queue_.size() >= kMaxQueue) {
    ++lost_;
    return;
  }
  const Resource& resource = ResourceOf(kind);
  const std::string ns = about.ns.empty() ? "default" : about.ns;
  const std::string now = FormatRfc3339(loop_.Now());
  queue_.push_back(
      {{"apiVersion", "v1"},
       {"kind", "Event"},
       {"metadata", {{"namespace", ns}, {"name", EventName(about.name, loop_.Now(), serial_++)}}},
       {"involvedObject",
        {{"apiVersion", resource.api_version},
         {"kind", resource.kind},
         {"namespace", about.ns},
         {"name", about.name},
         {"uid", about.uid}}},
       {"type", type == EventType::kNormal ? "Normal" : "Warning"},
       {"reason", reason},
       {"message", Truncate(message, kMaxMessage)},
       {"source", {{"component", component_}}},
       {"reportingComponent", component_},
       {"reportingInstance", instance_},
       {"firstTimestamp", now},
       {"lastTimestamp", now},
       {"count", 1}});
  SendLater();
}

bool EventRecorder::Repeats(const std::string& key) {
  const absl::Duration now = loop_.Elapsed();
  if (recent_.size() >= kMaxRemembered) {
    absl::erase_if(recent_, [now](const auto& e) { return now - e.second >= kRepeatWindow; });
    if (recent_.size() >= kMaxRemembered) recent_.clear();
  }
  const auto [entry, is_new] = recent_.try_emplace(key, now);
  if (!is_new && now - entry->second < kRepeatWindow) return true;
  entry->second = now;
  return false;
}

bool EventRecorder::TakeToken(const std::string& uid) {
  const absl::Duration now = loop_.Elapsed();
  auto refilled = [now](const Bucket& bucket) {
    return std::min(kBurst, bucket.tokens + absl::FDivDuration(now - bucket.updated, kRefill));
  };
  if (buckets_.size() >= kMaxRemembered) {
    absl::erase_if(buckets_, [&refilled](const auto& e) { return refilled(e.second) >= kBurst; });
    if (buckets_.size() >= kMaxRemembered) buckets_.clear();
  }
  Bucket& bucket = buckets_.try_emplace(uid, Bucket{kBurst, now}).first->second;
  bucket = {refilled(bucket), now};
  if (bucket.tokens < 1) return false;
  --bucket.tokens;
  return true;
}

void EventRecorder::SendLater() {
  if (sending_ || later_.active()) return;
  later_ = loop_.After(kDelay, [this] { SendNext(); });
}

void EventRecorder::SendNext() {
  if (queue_.empty()) return;
  sending_ = true;
  const nlohmann::json event = std::move(queue_.front());
  queue_.pop_front();
  call_ = api_.Create(Kind::kEvent, event, [this](const absl::StatusOr<ObjectPtr>& result) {
    sending_ = false;
    if (!result.ok()) {
      ++lost_;
      log_.Debug("event not written", {{"error", result.status()}});
    }
    SendNext();
  });
}

}  // namespace snapkeeper
