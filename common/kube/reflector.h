#ifndef SNAPKEEPER_COMMON_KUBE_REFLECTOR_H_
#define SNAPKEEPER_COMMON_KUBE_REFLECTOR_H_

#include <absl/functional/any_invocable.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/backoff.h"
#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/kube/api.h"

namespace snapkeeper {

// Keeps a copy of one list of objects: LIST, then WATCH from there, again and again (client-go
// tools/cache/reflector.go). A lost, doubled or reordered event changes nothing in the end.
// Recovers from 410 (lists again and reports what vanished meanwhile), silent streams, ended
// streams and errors, with backoff 100 ms to 5 s. Lives until destroyed, but not by one of its own
// callbacks. Loop thread only.
class ReflectorBase {
 public:
  // `changed(before, after)`: before is null for a new object, after is null for one that is gone.
  // Both set: another version (UIDs may differ when the object was replaced). Runs after the store
  // was updated. Equal versions are not reported.
  using Changed = absl::AnyInvocable<void(const ObjectPtr& before, const ObjectPtr& after)>;

  ReflectorBase(EventLoop& loop, KubeApi& api, Rng& rng, Log& log, ListQuery query);
  ~ReflectorBase();
  ReflectorBase(const ReflectorBase&) = delete;
  ReflectorBase& operator=(const ReflectorBase&) = delete;

  void Start(Changed changed, absl::AnyInvocable<void()> on_synced = nullptr);
  // The first LIST is in.
  bool synced() const { return synced_; }
  // Reads everything again, and is not synced until that is done; `on_synced` is called then
  // once more.
  void Relist();
  // Why there is no watch now. Ok while there is one, and while none has failed yet: see synced().
  // (A stream that has just fallen silent looks healthy.) For /readyz and the log.
  const absl::Status& health() const { return health_; }

 protected:
  ObjectPtr FindObject(const std::string& ns, const std::string& name) const;
  // (namespace, name); found by views, without a copy.
  using Key = std::pair<std::string, std::string>;
  using KeyView = std::pair<std::string_view, std::string_view>;
  struct KeyLess {
    using is_transparent = void;
    bool operator()(const KeyView& a, const KeyView& b) const { return a < b; }
  };
  std::map<Key, ObjectPtr, KeyLess> objects_;

 private:
  void ListNow();
  void OnListed(absl::StatusOr<ListResult> result);
  void WatchNow();
  void OnEvent(const WatchEvent& event);
  void OnWatchEnded(absl::Status status);
  void RetryAfterFailure(absl::Status status);
  void Put(const ObjectPtr& object);

  EventLoop& loop_;
  KubeApi& api_;
  Rng& rng_;
  Log& log_;
  const ListQuery query_;
  Changed changed_;
  absl::AnyInvocable<void()> on_synced_;
  std::string resource_version_;  // "": list next
  bool synced_ = false;
  absl::Status health_;
  int failures_ = 0;       // since a watch that stood
  uint32_t silences_ = 0;  // watches in a row that fell silent and had told nothing since the first
  absl::Duration watch_began_;
  bool heard_ = false;       // an event on this watch
  bool after_list_ = false;  // this watch began where a LIST ended
  Call call_;                // the LIST or WATCH under way
  Timer retry_;
};

template <class T>
class Reflector : public ReflectorBase {
 public:
  using Ptr = std::shared_ptr<const T>;
  // `where` may leave out the kind: it is T's.
  Reflector(EventLoop& loop, KubeApi& api, Rng& rng, Log& log, ListQuery where = {})
      : ReflectorBase(loop, api, rng, log, WithKind(std::move(where))) {}

  void Start(absl::AnyInvocable<void(const Ptr& before, const Ptr& after)> changed,
             absl::AnyInvocable<void()> on_synced = nullptr) {
    ReflectorBase::Start(
        [changed = std::move(changed)](const ObjectPtr& before, const ObjectPtr& after) mutable {
          changed(before ? As<T>(before) : nullptr, after ? As<T>(after) : nullptr);
        },
        std::move(on_synced));
  }

  Ptr Find(const std::string& ns, const std::string& name) const {
    ObjectPtr object = FindObject(ns, name);
    return object ? As<T>(object) : nullptr;
  }
  size_t size() const { return objects_.size(); }
  // In order of (namespace, name).
  template <class F>
  void ForEach(F f) const {
    for (const auto& [key, object] : objects_) f(std::get<T>(*object));
  }
  template <class F>
  void ForEachIn(const std::string& ns, F f) const {
    for (auto it = objects_.lower_bound(KeyView(ns, ""));
         it != objects_.end() && it->first.first == ns; ++it)
      f(std::get<T>(*it->second));
  }

 private:
  static ListQuery WithKind(ListQuery query) {
    query.kind = KindOf<T>::kValue;
    return query;
  }
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_KUBE_REFLECTOR_H_
