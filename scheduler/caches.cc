#include "scheduler/caches.h"

#include <algorithm>

#include "common/model/names.h"
#include "common/model/retention.h"

namespace snapkeeper {

Caches::Caches(EventLoop& loop, KubeApi& api, Rng& rng, Log& log,
               const std::vector<std::string>& namespaces)
    : policies_(loop, api, rng, log, namespaces),
      claims_(loop, api, rng, log, namespaces),
      snapshots_(loop, api, rng, log, namespaces),
      volumes_(loop, api, rng, log, {}),
      contents_(loop, api, rng, log, {}),
      classes_(loop, api, rng, log, {}),
      namespaces_(loop, api, rng, log, {}) {}

void Caches::Start(Handlers handlers) {
  auto ignore = [](const auto&, const auto&) {};
  classes_.Start(ignore, handlers.synced);
  namespaces_.Start(ignore, handlers.synced);
  volumes_.Start(ignore, handlers.synced);
  claims_.Start(
      [this, changed = std::move(handlers.claim)](const std::shared_ptr<const Claim>& before,
                                                  const std::shared_ptr<const Claim>& after) {
        if (before) claim_uids_.erase(before->meta.uid);
        if (after) claim_uids_.insert(after->meta.uid);
        auto pin_of = [](const std::shared_ptr<const Claim>& c) {
          return c && c->phase != "Bound" && !c->data_source_snapshot.empty()
                     ? c->meta.ns + "/" + c->data_source_snapshot
                     : std::string();
        };
        if (const std::string pin = pin_of(before); !pin.empty() && --pins_[pin] == 0)
          pins_.erase(pin);
        if (const std::string pin = pin_of(after); !pin.empty()) ++pins_[pin];
        changed(before, after);
      },
      handlers.synced);
  policies_.Start(std::move(handlers.policy), handlers.synced);
  contents_.Start(std::move(handlers.content), handlers.synced);
  snapshots_.Start(
      [this, changed = std::move(handlers.snapshot)](const SnapshotPtr& before,
                                                     const SnapshotPtr& after) {
        auto claim_of = [](const SnapshotPtr& s) {
          return s && !s->source_claim.empty() ? s->meta.ns + "/" + s->source_claim : std::string();
        };
        Move(by_policy_, before ? before->policy_uid : "", before,
             after && ProvenIdentity(*after) ? after->policy_uid : "", after);
        Move(by_claim_, claim_of(before), before, claim_of(after), after);
        changed(before, after);
      },
      handlers.synced);
}

void Caches::Relist() {
  policies_.Relist();
  claims_.Relist();
  snapshots_.Relist();
  volumes_.Relist();
  contents_.Relist();
  classes_.Relist();
  namespaces_.Relist();
}

bool Caches::ready_to_fire() const {
  return policies_.synced() && claims_.synced() && volumes_.synced() && classes_.synced() &&
         namespaces_.synced();
}

bool Caches::synced() const { return ready_to_fire() && snapshots_.synced() && contents_.synced(); }

absl::Status Caches::health() const {
  for (const absl::Status& status :
       {policies_.health(), claims_.health(), snapshots_.health(), volumes_.health(),
        contents_.health(), classes_.health(), namespaces_.health()}) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

std::vector<const SnapshotClass*> Caches::Classes() const {
  std::vector<const SnapshotClass*> classes;
  classes_.ForEach([&classes](const SnapshotClass& c) { classes.push_back(&c); });
  return classes;
}

void Caches::Move(Index& index, const std::string& from, const SnapshotPtr& before,
                  const std::string& to, const SnapshotPtr& after) {
  const auto key_of = [](const Snapshot& snapshot) {
    return SnapshotKey(snapshot.instant, snapshot.meta.ns, snapshot.meta.name);
  };
  const bool stays = from == to && before && after && before->instant == after->instant;
  if (auto it = index.find(from); it != index.end() && !from.empty() && !stays) {
    it->second.erase(key_of(*before));
    if (it->second.empty()) index.erase(it);
  }
  if (!to.empty()) index[to][key_of(*after)] = after;
}

std::vector<Caches::SnapshotPtr> Caches::Values(const Index& index, const std::string& key) {
  std::vector<SnapshotPtr> values;
  if (auto it = index.find(key); it != index.end()) {
    for (const auto& [name, snapshot] : it->second) values.push_back(snapshot);
  }
  return values;
}

std::vector<Caches::SnapshotPtr> Caches::OfPolicy(const std::string& policy_uid) const {
  return Values(by_policy_, policy_uid);
}

std::vector<Caches::SnapshotPtr> Caches::OfRun(const std::string& policy_uid,
                                               const std::string& instant) const {
  std::vector<SnapshotPtr> values;
  const auto of_policy = by_policy_.find(policy_uid);
  if (of_policy == by_policy_.end()) return values;
  for (auto it = of_policy->second.lower_bound({instant, "", ""});
       it != of_policy->second.end() && std::get<0>(it->first) == instant; ++it) {
    values.push_back(it->second);
  }
  return values;
}

std::vector<Caches::SnapshotPtr> Caches::OfClaim(const std::string& ns,
                                                 const std::string& claim) const {
  return Values(by_claim_, ns + "/" + claim);
}

std::vector<std::string> Caches::PolicyUidsOfSnapshots() const {
  std::vector<std::string> uids;
  for (const auto& [uid, snapshots] : by_policy_) uids.push_back(uid);
  std::sort(uids.begin(), uids.end());
  return uids;
}

std::shared_ptr<const Content> Caches::BoundContent(const Snapshot& snapshot) const {
  if (snapshot.bound_content.empty()) return nullptr;
  std::shared_ptr<const Content> content = contents_.Find("", snapshot.bound_content);
  const bool bound =
      content && !content->meta.deleting && RefersTo(*content, snapshot) &&
      (snapshot.volume_handle.empty() || content->volume_handle == snapshot.volume_handle);
  return bound ? content : nullptr;
}

bool Caches::IsMisbound(const Snapshot& snapshot) const {
  const std::shared_ptr<const Content> content = contents_.Find("", snapshot.bound_content);
  return content &&
         (!RefersTo(*content, snapshot) || !IsOfVolume(snapshot, snapshot.volume_handle));
}

bool Caches::IsOfVolume(const Snapshot& snapshot, const std::string& volume_handle) const {
  if (volume_handle.empty()) return true;
  const std::shared_ptr<const Content> content = contents_.Find("", snapshot.bound_content);
  return content && content->volume_handle == volume_handle;
}

bool Caches::IsReady(const Snapshot& snapshot) const {
  return snapshot.ready_to_use && !snapshot.meta.deleting && IsBound(snapshot);
}

Caches::SnapshotPtr Caches::NewestReady(const Claim& claim, absl::Time now) const {
  const auto pv = volumes_.Find("", claim.volume_name);
  return NewestReady(claim.meta.ns, claim.meta.name, now, [&](const Snapshot& snapshot) {
    if (pv && !pv->volume_handle.empty()) return IsOfVolume(snapshot, pv->volume_handle);
    return snapshot.claim_uid == claim.meta.uid && ProvenIdentity(snapshot).has_value();
  });
}

absl::Time Caches::NewestReadyCut(const Claim& claim, absl::Time now) const {
  const SnapshotPtr newest = NewestReady(claim, now);
  return newest ? CutOf(*newest, now) : absl::InfinitePast();
}

absl::Time Caches::NewestReadyCut(const std::string& ns, const std::string& claim,
                                  const std::string& volume_handle, absl::Time now) const {
  const SnapshotPtr newest = NewestReady(ns, claim, now, [&](const Snapshot& snapshot) {
    return IsOfVolume(snapshot, volume_handle);
  });
  return newest ? CutOf(*newest, now) : absl::InfinitePast();
}

Caches::SnapshotPtr Caches::NewestReady(const std::string& ns, const std::string& claim,
                                        absl::Time now,
                                        absl::FunctionRef<bool(const Snapshot&)> counts) const {
  SnapshotPtr newest;
  absl::Time newest_cut = absl::InfinitePast();
  auto it = by_claim_.find(ns + "/" + claim);
  if (it == by_claim_.end()) return newest;
  for (const auto& [key, snapshot] : it->second) {
    if (!IsReady(*snapshot) || !counts(*snapshot)) continue;
    const absl::Time cut = CutOf(*snapshot, now);
    if (newest && cut <= newest_cut) continue;
    newest = snapshot;
    newest_cut = cut;
  }
  return newest;
}

std::string Caches::DriverOf(const Snapshot& snapshot) const {
  if (const auto content = BoundContent(snapshot)) return content->driver;
  const auto claim = claims_.Find(snapshot.meta.ns, snapshot.source_claim);
  const auto volume = claim ? volumes_.Find("", claim->volume_name) : nullptr;
  return volume ? volume->driver : "";
}

}  // namespace snapkeeper
