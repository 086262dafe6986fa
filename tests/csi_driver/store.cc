#include "tests/csi_driver/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>
#include <utility>

namespace snapkeeper {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Claims a path for one operation, for as long as it lives.
class Claim {
 public:
  Claim(std::mutex& mutex, std::set<std::string>& busy, std::string path)
      : mutex_(mutex), busy_(busy), path_(std::move(path)) {
    std::lock_guard lock(mutex_);
    held_ = busy_.insert(path_).second;
  }
  ~Claim() {
    std::lock_guard lock(mutex_);
    if (held_) busy_.erase(path_);
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

  absl::Status status() const {
    if (held_) return absl::OkStatus();
    return absl::AbortedError(fmt::format("an operation on {} is under way; try again", path_));
  }

 private:
  std::mutex& mutex_;
  std::set<std::string>& busy_;
  const std::string path_;
  bool held_;
};

Snapshot ParseSnapshot(const std::string& id, const std::string& meta) {
  json j = json::parse(meta);
  return {id, j.at("volume"), j.at("bytes"), absl::FromUnixNanos(j.at("cut"))};
}

}  // namespace

Store::Store(fs::path root, bool metadata_only)
    : root_(std::move(root)), metadata_only_(metadata_only) {
  fs::remove_all(root_ / "tmp");
  for (const char* kind : {"volumes", "snapshots", "tmp"}) fs::create_directories(root_ / kind);
}

absl::StatusOr<Volume> Store::CreateVolume(const Volume& wanted) {
  const std::string path = "volumes/" + wanted.id;
  Claim claim(mutex_, busy_, path);
  if (!claim.status().ok()) return claim.status();
  if (std::optional<Volume> existing = FindVolume(wanted.id)) {
    if (existing->bytes == wanted.bytes && existing->source == wanted.source) return *existing;
    return absl::AlreadyExistsError(
        fmt::format("volume {} exists with {} bytes from source '{}', not {} bytes from '{}'",
                    wanted.id, existing->bytes, existing->source, wanted.bytes, wanted.source));
  }
  if (!wanted.source.empty()) {
    std::optional<std::string> source = ReadMeta(wanted.source);
    if (!source)
      return absl::NotFoundError(fmt::format("no {} to make a volume from", wanted.source));
    if (json::parse(*source).at("bytes") > wanted.bytes) {
      return absl::OutOfRangeError(
          fmt::format("{} does not fit into {} bytes", wanted.source, wanted.bytes));
    }
  }
  Publish(wanted.source, path, json{{"bytes", wanted.bytes}, {"source", wanted.source}}.dump());
  return wanted;
}

absl::StatusOr<Snapshot> Store::CreateSnapshot(const std::string& id, const std::string& volume,
                                               absl::Time now) {
  const std::string path = "snapshots/" + id;
  Claim claim(mutex_, busy_, path);
  if (!claim.status().ok()) return claim.status();
  if (std::optional<Snapshot> existing = FindSnapshot(id)) {
    if (existing->volume == volume) return *existing;
    return absl::AlreadyExistsError(
        fmt::format("snapshot {} exists of volume {}, not of {}", id, existing->volume, volume));
  }
  std::optional<Volume> source = FindVolume(volume);
  if (!source) return absl::NotFoundError(fmt::format("no volume {} to snapshot", volume));
  Publish(
      "volumes/" + volume, path,
      json{{"volume", volume}, {"bytes", source->bytes}, {"cut", absl::ToUnixNanos(now)}}.dump());
  return Snapshot{id, volume, source->bytes, now};
}

std::optional<Volume> Store::FindVolume(const std::string& id) const {
  std::optional<std::string> meta = ReadMeta("volumes/" + id);
  if (!meta) return std::nullopt;
  json j = json::parse(*meta);
  return Volume{id, j.at("bytes"), j.at("source")};
}

std::optional<Snapshot> Store::FindSnapshot(const std::string& id) const {
  std::optional<std::string> meta = ReadMeta("snapshots/" + id);
  if (!meta) return std::nullopt;
  return ParseSnapshot(id, *meta);
}

std::vector<Snapshot> Store::Snapshots() const {
  std::vector<Snapshot> snapshots;
  for (const fs::directory_entry& entry : fs::directory_iterator(root_ / "snapshots")) {
    // One that is deleted while we list is not there.
    if (std::optional<Snapshot> found = FindSnapshot(entry.path().filename()))
      snapshots.push_back(*found);
  }
  std::sort(snapshots.begin(), snapshots.end(),
            [](const Snapshot& a, const Snapshot& b) { return a.id < b.id; });
  return snapshots;
}

fs::path Store::Temporary(std::string path) const {
  std::replace(path.begin(), path.end(), '/', '-');
  return root_ / "tmp" / path;
}

void Store::Publish(const std::string& from, const std::string& to, const std::string& meta) const {
  const fs::path building = Temporary(to);
  fs::remove_all(building);
  fs::create_directories(building / "data");
  if (!from.empty() && !metadata_only_) {
    fs::copy(root_ / from / "data", building / "data",
             fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  }
  std::ofstream file(building / "meta.json");
  file.exceptions(std::ios::failbit | std::ios::badbit);
  file << meta;
  file.close();
  fs::rename(building, root_ / to);
}

absl::Status Store::Delete(const std::string& path) {
  Claim claim(mutex_, busy_, path);
  if (!claim.status().ok()) return claim.status();
  const fs::path doomed = Temporary(path);
  std::error_code error;
  fs::rename(root_ / path, doomed, error);
  if (error == std::errc::no_such_file_or_directory) return absl::OkStatus();
  if (error) throw fs::filesystem_error("delete", root_ / path, error);
  fs::remove_all(doomed);
  return absl::OkStatus();
}

std::optional<std::string> Store::ReadMeta(const std::string& path) const {
  std::ifstream file(root_ / path / "meta.json");
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace snapkeeper
