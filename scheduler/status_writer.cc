#include "scheduler/status_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/kube/json.h"

namespace snapkeeper {
namespace {

constexpr int kMaxWriting = 8;
constexpr absl::Duration kMinGap = absl::Seconds(1);
constexpr absl::Duration kYieldToPosts = absl::Milliseconds(200);
constexpr absl::Duration kMaxYield = absl::Seconds(10);

}  // namespace

StatusWriter::StatusWriter(EventLoop& loop, KubeApi& api, Rng& rng, Log& log, Handlers handlers)
    : loop_(loop), api_(api), rng_(rng), log_(log), handlers_(std::move(handlers)) {}

void StatusWriter::Request(const std::string& uid, absl::Duration delay) {
  auto it = entries_.find(uid);
  if (it == entries_.end()) return;
  Entry& entry = *it->second;
  const absl::Duration due = loop_.Elapsed() + delay;
  if (entry.dirty && entry.due <= due) return;
  entry.dirty = true;
  entry.due = due;
  Arm(uid, entry);
}

void StatusWriter::Arm(const std::string& uid, Entry& entry) {
  if (!entry.dirty || entry.writing) return;
  const absl::Duration when = std::max({entry.due, entry.last_write + kMinGap, entry.not_before});
  entry.timer = loop_.After(when - loop_.Elapsed(), [this, uid] { Write(uid); });
}

void StatusWriter::Seen(const Policy& policy) {
  auto& entry = entries_[policy.meta.uid];
  if (!entry) {
    entry = std::make_unique<Entry>();
    entry->key = {.kind = Kind::kPolicy, .ns = policy.meta.ns, .name = policy.meta.name};
  }
  if (!entry->awaited_version.empty()) {
    // Versions come in order: until our own write comes by, this one is older than it.
    if (policy.meta.resource_version == entry->awaited_version) entry->awaited_version.clear();
    return;
  }
  entry->resource_version = policy.meta.resource_version;
}

void StatusWriter::Forget(const std::string& uid) {
  const auto it = entries_.find(uid);
  if (it == entries_.end()) return;
  if (it->second->patching) --writing_;  // OnWritten is not called any more
  entries_.erase(it);
}

void StatusWriter::Write(const std::string& uid) {
  auto it = entries_.find(uid);
  if (it == entries_.end()) return;
  Entry& entry = *it->second;
  const bool yield = handlers_.posting() && loop_.Elapsed() < entry.due + kMaxYield;
  if (yield || writing_ >= kMaxWriting) {
    entry.timer = loop_.After(kYieldToPosts, [this, uid] { Write(uid); });
    return;
  }
  std::optional<PolicyStatus> status = handlers_.status(uid);
  if (!status) {
    entry.dirty = false;
    return;
  }
  entry.dirty = false;
  entry.writing = true;
  entry.last_write = loop_.Elapsed();
  entry.patching = true;
  ++writing_;
  entry.call = api_.Patch(entry.key, StatusPatch(*status, entry.resource_version), /*status=*/true,
                          [this, uid, status = *status](absl::StatusOr<ObjectPtr> result) {
                            OnWritten(uid, status, std::move(result));
                          });
}

void StatusWriter::OnWritten(const std::string& uid, const PolicyStatus& status,
                             absl::StatusOr<ObjectPtr> result) {
  --writing_;
  Entry& entry = *entries_.at(uid);
  entry.patching = false;
  if (result.ok()) {
    entry.writing = false;
    entry.failures = 0;
    const std::string& version = MetaOf(**result).resource_version;
    // A patch that changes nothing makes no new version, and no watch event.
    if (version != entry.resource_version) entry.awaited_version = version;
    entry.resource_version = version;
    handlers_.written(uid, status);
    Arm(uid, entry);
  } else if (absl::IsAborted(result.status())) {
    ReadAgain(uid);
  } else if (absl::IsNotFound(result.status())) {
    entry.writing = false;
  } else {
    Retry(uid, entry, result.status());
  }
}

void StatusWriter::ReadAgain(const std::string& uid) {
  Entry& entry = *entries_.at(uid);
  entry.call = api_.Get(entry.key, [this, uid](absl::StatusOr<ObjectPtr> result) {
    auto it = entries_.find(uid);
    if (it == entries_.end()) return;
    Entry& fresh = *it->second;
    if (!result.ok()) {
      if (absl::IsNotFound(result.status())) {
        fresh.writing = false;
      } else {
        Retry(uid, fresh, result.status());
      }
      return;
    }
    const auto policy = As<Policy>(*result);
    if (policy->meta.uid != uid) {
      fresh.writing = false;
      return;
    }
    fresh.resource_version = policy->meta.resource_version;
    fresh.awaited_version.clear();
    fresh.writing = false;
    fresh.dirty = true;
    fresh.due = loop_.Elapsed();
    fresh.last_write = -absl::InfiniteDuration();
    handlers_.stale(*policy);
    if (auto again = entries_.find(uid); again != entries_.end()) Arm(uid, *again->second);
  });
}

void StatusWriter::Retry(const std::string& uid, Entry& entry, const absl::Status& status) {
  log_.Warning("status not written",
               {{"policy", entry.key.ns + "/" + entry.key.name}, {"error", status}});
  entry.writing = false;
  entry.dirty = true;
  entry.due = loop_.Elapsed() + Backoff{}.Delay(++entry.failures, rng_, RetryAfterOf(status));
  entry.not_before = entry.due;
  Arm(uid, entry);
}

bool StatusWriter::idle() const {
  return std::none_of(entries_.begin(), entries_.end(),
                      [](const auto& e) { return e.second->dirty || e.second->writing; });
}

}  // namespace snapkeeper
