#include "common/kube/reflector.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "common/kube/json.h"
#include "common/model/reason.h"

namespace snapkeeper {
namespace {

// client-go calls a watch that ends sooner without an event an error: else a server that ends them
// all would be asked without pause.
constexpr absl::Duration kShortWatch = absl::Seconds(1);
// Shorter than that of jobs: nothing else recovers before what is known does.
constexpr Backoff kBackoff{.max = absl::Seconds(5)};

std::pair<std::string_view, std::string_view> KeyOf(const ObjectPtr& object) {
  const ObjectMeta& meta = MetaOf(*object);
  return {meta.ns, meta.name};
}

}  // namespace

ReflectorBase::ReflectorBase(EventLoop& loop, KubeApi& api, Rng& rng, Log& log, ListQuery query)
    : loop_(loop), api_(api), rng_(rng), log_(log), query_(std::move(query)) {}

ReflectorBase::~ReflectorBase() = default;

void ReflectorBase::Start(Changed changed, absl::AnyInvocable<void()> on_synced) {
  changed_ = std::move(changed);
  on_synced_ = std::move(on_synced);
  ListNow();
}

ObjectPtr ReflectorBase::FindObject(const std::string& ns, const std::string& name) const {
  const auto it = objects_.find(KeyView(ns, name));
  return it == objects_.end() ? nullptr : it->second;
}

void ReflectorBase::Relist() {
  synced_ = false;
  retry_.Cancel();
  resource_version_.clear();
  ListNow();
}

void ReflectorBase::ListNow() {
  call_ =
      api_.List(query_, [this](absl::StatusOr<ListResult> result) { OnListed(std::move(result)); });
}

void ReflectorBase::OnListed(absl::StatusOr<ListResult> result) {
  if (!result.ok()) return RetryAfterFailure(result.status());
  resource_version_ = std::move(result->resource_version);
  auto vanished = objects_;
  for (const ObjectPtr& object : result->items) {
    if (const auto it = vanished.find(KeyOf(object)); it != vanished.end()) vanished.erase(it);
  }
  for (const auto& [key, object] : vanished) {
    objects_.erase(key);
    changed_(object, nullptr);
  }
  for (const ObjectPtr& object : result->items) Put(object);
  if (!synced_) {
    synced_ = true;
    if (on_synced_) on_synced_();
  }
  WatchNow();
  after_list_ = true;
}

void ReflectorBase::WatchNow() {
  watch_began_ = loop_.Elapsed();
  heard_ = after_list_ = false;
  call_ = api_.Watch(
      query_, resource_version_, [this](const WatchEvent& event) { OnEvent(event); },
      [this](absl::Status status) { OnWatchEnded(std::move(status)); });
}

void ReflectorBase::OnEvent(const WatchEvent& event) {
  if (!health_.ok()) {
    health_ = absl::OkStatus();
    log_.Info("watch recovered", {{"kind", ResourceOf(query_.kind).kind}});
  }
  heard_ |= event.resource_version != resource_version_;
  resource_version_ = event.resource_version;
  if (event.type == WatchEvent::kBookmark) return;
  if (event.type != WatchEvent::kDeleted) return Put(event.object);
  const auto it = objects_.find(KeyOf(event.object));
  // A late event of an object that has been replaced since must not take its successor away.
  if (it == objects_.end() || MetaOf(*it->second).uid != MetaOf(*event.object).uid) return;
  const ObjectPtr before = std::move(it->second);
  objects_.erase(it);
  changed_(before, nullptr);
}

void ReflectorBase::OnWatchEnded(absl::Status status) {
  const bool stood = heard_ || loop_.Elapsed() - watch_began_ >= kShortWatch;
  if (stood) failures_ = 0;
  if (status.ok()) {
    if (stood) return WatchNow();
    return RetryAfterFailure(absl::UnavailableError("the API server ends every watch at once"));
  }
  if (absl::IsOutOfRange(status)) {
    resource_version_.clear();
    // No failure in itself, but one that happens again right after the LIST. After other failures
    // it is the usual answer: the outage was longer than the server's memory.
    if (failures_ == 0 || !after_list_) {
      failures_ = std::max(failures_, 1);
      return ListNow();
    }
  }
  // Silence may have no meaning: a server need not send bookmarks. But one whose etcd was restored
  // is silent until it reaches our version. So the second silence in a row asks for a LIST, and
  // then, for what is idle must not be polled, the fourth, the eighth and so on.
  silences_ = !absl::IsDeadlineExceeded(status) ? 0 : heard_ ? 1 : silences_ + 1;
  if (silences_ > 1 && std::has_single_bit(silences_)) resource_version_.clear();
  // What cannot be read would be sent again.
  if (absl::IsInternal(status)) resource_version_.clear();
  RetryAfterFailure(std::move(status));
}

void ReflectorBase::RetryAfterFailure(absl::Status status) {
  ++failures_;
  if (health_.ok()) {
    log_.Warning("watch failed", {{"kind", ResourceOf(query_.kind).kind}, {"error", status}});
  }
  const absl::Duration delay = kBackoff.Delay(failures_, rng_, RetryAfterOf(status));
  health_ = std::move(status);
  retry_ = loop_.After(delay, [this] { resource_version_.empty() ? ListNow() : WatchNow(); });
}

void ReflectorBase::Put(const ObjectPtr& object) {
  auto it = objects_.find(KeyOf(object));
  if (it == objects_.end()) it = objects_.emplace(KeyOf(object), nullptr).first;
  ObjectPtr& slot = it->second;
  const ObjectPtr before = slot;
  if (before && MetaOf(*before).uid == MetaOf(*object).uid &&
      MetaOf(*before).resource_version == MetaOf(*object).resource_version) {
    return;
  }
  slot = object;
  changed_(before, object);
}

}  // namespace snapkeeper
