#include "simulator/volumes.h"

#include <utility>

namespace snapkeeper {

Volumes::Volumes(EventLoop& loop, Rng& rng, Store& store,
                 std::map<std::string, std::string> storage_classes)
    : store_(store),
      binder_(loop, store, storage_, std::move(storage_classes)),
      controller_(loop, rng, store, storage_, binder_) {
  store_.SetFinalizersOnDelete([this](Kind kind, const Version& version) {
    return controller_.FinalizersOnDelete(kind, version);
  });
}

std::string Volumes::HandleOf(const std::string& ns, const std::string& claim) const {
  const auto bound = store_.Find<Claim>(ns, claim);
  const auto volume = bound != nullptr ? store_.Find<Volume>("", bound->volume_name) : nullptr;
  return volume != nullptr ? volume->volume_handle : "";
}

std::optional<int64_t> Volumes::DataOf(const std::string& ns, const std::string& claim) const {
  const auto it = storage_.volumes.find(HandleOf(ns, claim));
  return it == storage_.volumes.end() ? std::nullopt : std::optional(it->second.data);
}

void Volumes::WriteData(const std::string& ns, const std::string& claim) {
  const auto it = storage_.volumes.find(HandleOf(ns, claim));
  if (it != storage_.volumes.end()) ++it->second.data;
}

std::optional<int64_t> Volumes::SnapshotDataOf(const std::string& ns,
                                               const std::string& name) const {
  const auto snapshot = store_.Find<Snapshot>(ns, name);
  const auto* content =
      snapshot == nullptr ? nullptr : store_.JsonOf({Kind::kContent, "", snapshot->bound_content});
  if (content == nullptr || !content->contains("status")) return std::nullopt;
  const auto it = storage_.snapshots.find((*content)["status"].value("snapshotHandle", ""));
  return it == storage_.snapshots.end() ? std::nullopt : std::optional(it->second.data);
}

}  // namespace snapkeeper
