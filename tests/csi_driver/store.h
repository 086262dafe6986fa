#ifndef SNAPKEEPER_TESTS_CSI_DRIVER_STORE_H_
#define SNAPKEEPER_TESTS_CSI_DRIVER_STORE_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace snapkeeper {

struct Volume {
  std::string id;  // the name that CreateVolume was given
  int64_t bytes = 0;
  std::string source;  // "volumes/ID", "snapshots/ID", or empty
};

struct Snapshot {
  std::string id;  // the name that CreateSnapshot was given
  std::string volume;
  int64_t bytes = 0;  // of the volume
  absl::Time cut;
};

// Volumes and snapshots as directories: volumes/ID/data and snapshots/ID/data hold the files,
// meta.json beside them the rest. A directory is filled under tmp/ and moved into place, so a kill
// at any moment leaves all of it or nothing. Thread-safe. A second operation on an id that one is
// working on gets Aborted. File system errors are exceptions.
class Store {
 public:
  // With `metadata_only` no files are copied: for runs with thousands of snapshots.
  Store(std::filesystem::path root, bool metadata_only);

  // Idempotent by id. AlreadyExists if the id is in use with another size or source, NotFound if
  // there is no source.
  absl::StatusOr<Volume> CreateVolume(const Volume& wanted);
  absl::StatusOr<Snapshot> CreateSnapshot(const std::string& id, const std::string& volume,
                                          absl::Time now);

  // What does not exist is deleted already.
  absl::Status DeleteVolume(const std::string& id) { return Delete("volumes/" + id); }
  absl::Status DeleteSnapshot(const std::string& id) { return Delete("snapshots/" + id); }

  std::optional<Volume> FindVolume(const std::string& id) const;
  std::optional<Snapshot> FindSnapshot(const std::string& id) const;
  std::vector<Snapshot> Snapshots() const;  // in order of id

 private:
  // Where "KIND/ID" is while it is made or removed.
  std::filesystem::path Temporary(std::string path) const;
  // `from` and `to` are "KIND/ID"; without a `from` the new directory is empty.
  void Publish(const std::string& from, const std::string& to, const std::string& meta) const;
  absl::Status Delete(const std::string& path);
  std::optional<std::string> ReadMeta(const std::string& path) const;

  const std::filesystem::path root_;
  const bool metadata_only_;
  std::mutex mutex_;
  std::set<std::string> busy_;  // guarded by mutex_: paths that an operation works on
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_CSI_DRIVER_STORE_H_
