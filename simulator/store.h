#ifndef SNAPKEEPER_SIMULATOR_STORE_H_
#define SNAPKEEPER_SIMULATOR_STORE_H_

#include <absl/functional/any_invocable.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/backoff.h"
#include "common/base/event_loop.h"
#include "common/kube/api.h"
#include "simulator/faults.h"
#include "simulator/selector.h"

namespace snapkeeper {

struct StoreOptions {
  size_t history =
      1000;  // events kept of each kind for watches to start from; older starts are 410
  absl::Duration bookmark_every = absl::Minutes(1);  // InfiniteDuration(): no bookmarks
  // JSON text with every version: needed to serve over HTTP, too dear for a year of simulation.
  bool keep_text = false;
  // Acts as deploy/admission does: refuses a VolumeSnapshot of a claim whose
  // snapkeeper.io/post-before has passed.
  bool post_before_admission = true;
  std::string default_storage_class = "sim";  // for PVCs that name none; "": they stay without
};

// One version of one object. Immutable and shared.
struct Version {
  int64_t rv = 0;
  ObjectPtr value;  // null for Kind::kEvent, which we only write
  std::shared_ptr<const Tags> tags;
  std::string text;  // JSON, where StoreOptions::keep_text
};
using VersionPtr = std::shared_ptr<const Version>;

// One write, for observers.
struct StoreWrite {
  Verb verb;
  Kind kind;
  VersionPtr before;  // null: created
  VersionPtr after;   // null: gone
  std::string_view user;
};

// What a watcher is told.
struct StoreEvent {
  WatchEvent::Type type;
  VersionPtr version;  // null for bookmarks; for kDeleted the last state that the watcher's
                       // selector matched
  int64_t rv;
};

// The API machinery of the simulator: objects, versions, watches. Errors are those that a client
// gets (common/kube/api.h) and carry the Kubernetes Status that an HTTP client is sent
// (StatusBodyOf). Acts at once. Loop thread only.
class Store {
 public:
  Store(EventLoop& loop, Rng& rng, StoreOptions options);
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  int64_t resource_version() const { return rv_; }
  const StoreOptions& options() const { return options_; }

  // Null if there is none.
  VersionPtr Find(const ObjectKey& key) const;
  template <class T>
  std::shared_ptr<const T> Find(const std::string& ns, const std::string& name) const {
    VersionPtr version = Find({KindOf<T>::kValue, ns, name});
    return version ? As<T>(version->value) : nullptr;
  }
  // In order of (namespace, name).
  template <class T>
  void ForEach(absl::FunctionRef<void(const T&)> f) const {
    for (const auto& [key, record] : kinds_[static_cast<size_t>(KindOf<T>::kValue)].records) {
      f(std::get<T>(*record.version->value));
    }
  }
  // The object as it stands; valid until its next write. Null if there is none.
  const nlohmann::json* JsonOf(const ObjectKey& key) const;

  absl::StatusOr<VersionPtr> Get(const ObjectKey& key) const;

  struct Page {
    std::vector<VersionPtr> items;  // in order of (namespace, name)
    int64_t rv = 0;
    std::string next;  // the continue token; "": this is the last page
    size_t remaining = 0;
  };
  // `limit` 0: all. Pages that `token` goes on with show the same moment as the first; they are 410
  // after five minutes, and when a hundred newer lists are open.
  absl::StatusOr<Page> List(Kind kind, const Selector& selector, size_t limit = 0,
                            const std::string& token = "");

  // `body` names its namespace itself. With `dry_run` everything is checked and nothing is kept.
  absl::StatusOr<VersionPtr> Create(Kind kind, nlohmann::json body, std::string_view user,
                                    bool dry_run = false);
  // RFC 7396, of the object or of its status subresource. A patch that changes nothing makes no
  // version.
  absl::StatusOr<VersionPtr> Patch(const ObjectKey& key, nlohmann::json merge_patch, bool status,
                                   std::string_view user, Verb verb = Verb::kPatch,
                                   bool dry_run = false);
  // PUT.
  absl::StatusOr<VersionPtr> Replace(const ObjectKey& key, const nlohmann::json& body, bool status,
                                     std::string_view user, bool dry_run = false);
  // The object's last state: still there if it has finalizers. Empty preconditions are not checked.
  absl::StatusOr<VersionPtr> Delete(const ObjectKey& key, const Preconditions& preconditions,
                                    std::string_view user, bool dry_run = false);

  // For controllers and setup: changes the object as `edit` does, unchecked; no version if `edit`
  // returns false. The object must exist and stay readable. An object that is being deleted goes
  // when that removed its last finalizer.
  void Edit(const ObjectKey& key, std::string_view user,
            absl::FunctionRef<bool(nlohmann::json&)> edit);

  // Calls `sink` for every event after `rv`, those of the past from within the call; nullopt:
  // starts with an ADDED for every object there is. `sink` must not call the store. OutOfRange when
  // the history does not reach back. One from the future is told nothing until then, as the real
  // server does it (apiserver pkg/storage/cacher/cache_watcher.go process).
  using Sink = std::function<void(const StoreEvent&)>;
  absl::StatusOr<uint64_t> Watch(Kind kind, Selector selector, std::optional<int64_t> rv,
                                 Sink sink);
  void Unwatch(Kind kind, uint64_t id);
  // Forgets the past: every watch that does not start from now is 410, and so are open lists.
  void ExpireHistory();

  // After every write, in order. `observer` must not call the store's writes: it posts.
  void OnWrite(std::function<void(const StoreWrite&)> observer);
  // Finalizers that a controller has put on an object by the time that it is deleted.
  void SetFinalizersOnDelete(std::function<std::vector<std::string>(Kind, const Version&)> f);

  struct Counts {
    int64_t writes = 0, events_delivered = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  struct Record {
    nlohmann::json object;  // edited in place
    VersionPtr version;
  };
  struct Past {
    int64_t rv;
    VersionPtr before, after;
    bool gone;  // `after` is the last state
  };
  struct Watcher {
    uint64_t id;
    int64_t after;  // where it began: the future, after a restore of etcd
    Selector selector;
    Sink sink;
  };
  // By "namespace/name" (cluster-scoped: "name"): the order of etcd's keys, and so of lists.
  using Records = std::map<std::string, Record, std::less<>>;
  struct KindData {
    Records records;
    // The records (their keys) that have a label, by key=value: prunes list one policy's snapshots
    // among thousands.
    std::map<std::string, std::set<std::string>, std::less<>> by_label;
    std::deque<Past> history;
    int64_t forgotten_rv = 0;  // the newest event that is not in `history`
    std::vector<Watcher> watchers;
  };
  struct OpenList {
    uint64_t id;
    absl::Duration expires;
    Page all;
  };

  KindData& Of(Kind kind) { return kinds_[static_cast<size_t>(kind)]; }
  const KindData& Of(Kind kind) const { return kinds_[static_cast<size_t>(kind)]; }
  Records::iterator FindRecord(const ObjectKey& key);

  absl::Status CheckNamespace(const ObjectKey& key) const;
  absl::Status CheckPostBefore(const ObjectKey& key, const nlohmann::json& object);
  absl::StatusOr<Page> NextPage(size_t limit, const std::string& token);
  // The version that `object` becomes with the next write.
  absl::StatusOr<VersionPtr> MakeVersion(Kind kind, nlohmann::json& object,
                                         const Version* before) const;
  // An object that has just been changed becomes its next version, or goes where nothing holds it
  // any more. Its last state.
  absl::StatusOr<VersionPtr> Commit(Kind kind, Records::iterator it, Verb verb,
                                    std::string_view user);
  VersionPtr Remove(Kind kind, Records::iterator it, Verb verb, std::string_view user);
  void Publish(Kind kind, const Past& past, Verb verb, std::string_view user);
  void Index(KindData& data, const Past& past);
  void SendBookmarks();
  void EmptyNamespaces();
  std::string NewUid();
  const std::string& NowText();

  EventLoop& loop_;
  Rng& rng_;
  const StoreOptions options_;
  std::vector<KindData> kinds_;
  int64_t rv_ = 1;
  uint64_t next_id_ = 1;
  std::list<OpenList> open_lists_;
  std::deque<std::pair<absl::Duration, std::string>> events_;  // when each Event (its key) is to go
  std::vector<std::function<void(const StoreWrite&)>> observers_;
  std::function<std::vector<std::string>(Kind, const Version&)> finalizers_on_delete_;
  std::set<std::string> terminating_;  // namespaces
  int64_t now_second_ = -1;
  std::string now_text_;
  Timer bookmark_, emptying_;
  Counts counts_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_STORE_H_
