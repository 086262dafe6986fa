#ifndef SNAPKEEPER_SCHEDULER_STATUS_WRITER_H_
#define SNAPKEEPER_SCHEDULER_STATUS_WRITER_H_

#include <absl/container/flat_hash_map.h>
#include <absl/time/time.h>

#include <functional>
#include <memory>
#include <string>

#include "common/base/backoff.h"
#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/kube/api.h"

namespace snapkeeper {

// Makes policies' records durable: one merge patch of the status at a time per policy, with the
// resourceVersion it was based on; at most eight at once and one a second per policy; behind the
// POSTs of a fire, but never more than ten seconds. A stale one is read again and told, then
// written anew: a policy stays dirty until a write has succeeded. Loop thread only.
class StatusWriter {
 public:
  struct Handlers {
    std::function<std::optional<PolicyStatus>(const std::string& uid)>
        status;  // what to write now; nullopt: nothing any more
    std::function<void(const std::string& uid, const PolicyStatus&)> written;
    std::function<void(const Policy&)> stale;  // somebody else has written this since
    std::function<bool()> posting;             // POSTs are under way: writes can wait
  };

  StatusWriter(EventLoop& loop, KubeApi& api, Rng& rng, Log& log, Handlers handlers);

  // Write this policy's status within `delay`; an earlier request stands, and so does the pause
  // after a failure.
  void Request(const std::string& uid, absl::Duration delay);
  // A version of the policy that the cache saw, our own writes among them.
  void Seen(const Policy& policy);
  void Forget(const std::string& uid);
  // No writes are due, under way or failing.
  bool idle() const;

 private:
  struct Entry {
    ObjectKey key;
    std::string resource_version;
    std::string awaited_version;  // of our newest write, until the cache has shown it
    bool dirty = false, writing = false;
    bool patching = false;  // counted in writing_
    absl::Duration due, last_write = -absl::InfiniteDuration();
    absl::Duration not_before = -absl::InfiniteDuration();  // the server's Retry-After, or backoff
    int failures = 0;
    Timer timer;
    Call call;
  };
  void Arm(const std::string& uid, Entry& entry);
  void Write(const std::string& uid);
  void OnWritten(const std::string& uid, const PolicyStatus& status,
                 absl::StatusOr<ObjectPtr> result);
  void ReadAgain(const std::string& uid);
  void Retry(const std::string& uid, Entry& entry, const absl::Status& status);

  EventLoop& loop_;
  KubeApi& api_;
  Rng& rng_;
  Log& log_;
  const Handlers handlers_;
  int writing_ = 0;
  absl::flat_hash_map<std::string, std::unique_ptr<Entry>> entries_;  // by policy UID
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_STATUS_WRITER_H_
