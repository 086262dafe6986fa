#ifndef SNAPKEEPER_COMMON_KUBE_EVENTS_H_
#define SNAPKEEPER_COMMON_KUBE_EVENTS_H_

#include <absl/container/flat_hash_map.h>
#include <absl/time/time.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/kube/api.h"

namespace snapkeeper {

enum class EventType { kNormal, kWarning };

// Writes v1 Events, as `kubectl describe` shows them: a hint for people, never a record. Best
// effort: sent a second later (they come up while snapshots are being asked for, and those go
// first), one after the other, tried once, and dropped where they repeat (object, reason and
// message within 10 min), come too often (25 at once of one object, then one a minute), or pile up.
// Loop thread only; destroying it drops what is not sent.
class EventRecorder {
 public:
  // `component` is who speaks ("snapkeeper-scheduler"), `instance` which of them.
  EventRecorder(EventLoop& loop, KubeApi& api, Log& log, std::string component,
                std::string instance);

  // `about` needs name, namespace ("" if it has none) and UID; without the UID describe does not
  // find the event. `reason` is a word in CamelCase; `message` is cut at 1024 bytes.
  void Record(Kind kind, const ObjectMeta& about, EventType type, std::string_view reason,
              std::string_view message);

  // Nothing waits to be written.
  bool idle() const { return queue_.empty() && !sending_; }
  // How many were dropped for lack of room, or refused.
  int64_t lost() const { return lost_; }

 private:
  struct Bucket {
    double tokens;
    absl::Duration updated;
  };
  bool Repeats(const std::string& key);
  bool TakeToken(const std::string& uid);
  void SendLater();
  void SendNext();

  EventLoop& loop_;
  KubeApi& api_;
  Log& log_;
  const std::string component_, instance_;
  absl::flat_hash_map<std::string, absl::Duration> recent_;  // when it was last recorded
  absl::flat_hash_map<std::string, Bucket> buckets_;         // by UID
  std::deque<nlohmann::json> queue_;
  int64_t serial_ = 0;
  int64_t lost_ = 0;
  bool sending_ = false;
  Timer later_;
  Call call_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_KUBE_EVENTS_H_
