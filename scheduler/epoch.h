#ifndef SNAPKEEPER_SCHEDULER_EPOCH_H_
#define SNAPKEEPER_SCHEDULER_EPOCH_H_

#include <absl/functional/any_invocable.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>

#include "common/base/backoff.h"
#include "common/base/event_loop.h"
#include "common/base/log.h"
#include "common/kube/api.h"
#include "common/kube/reflector.h"

namespace snapkeeper {

// The epoch of whoever wrote a status; 0 where it cannot be one (kMaxEpoch).
int64_t EpochOf(const PolicyStatus& status);

// Who schedules: `leaseTransitions` of the Lease snapkeeper-scheduler, raised by one with a
// compare-and-swap by whoever takes over. It is no lock: names are. It tells executors and status
// writes which of two schedulers came later. Loop thread only.
class Epoch {
 public:
  Epoch(EventLoop& loop, KubeApi& api, Rng& rng, Log& log, std::string ns, std::string holder);

  struct Handlers {
    absl::AnyInvocable<void(int64_t)> taken;
    absl::AnyInvocable<void(std::string)> deposed;  // the Lease shows a higher one; at most once
    absl::AnyInvocable<void()> confirmed;           // the Lease was read, and shows no higher one
  };
  // Takes the epoch, trying until it succeeds, and then watches the Lease. Where there is no Lease
  // it is higher than `floor`, so that one that was deleted does not bring an old epoch back; but
  // a floor above 2^30 is nobody's who counts by one.
  void Take(int64_t floor, Handlers handlers);

  // Somebody claims a higher epoch: reads the Lease now. `deposed` or `confirmed` follows.
  void Check();

  // Has the API server say something, and with it what time it is (KubeApi::ClockOffset).
  void AskTheTime();

 private:
  void Read();
  void OnRead(absl::StatusOr<ObjectPtr> result);
  void OnWritten(absl::StatusOr<ObjectPtr> result);
  void Retry(const absl::Status& status);

  EventLoop& loop_;
  KubeApi& api_;
  Rng& rng_;
  Log& log_;
  const ObjectKey key_;
  const std::string holder_;
  int64_t floor_ = 0;
  int64_t epoch_ = 0;
  int failures_ = 0;
  Handlers handlers_;
  bool deposed_ = false;
  Reflector<Lease> lease_;
  Call call_, asked_;
  bool asking_ = false;
  Timer retry_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_EPOCH_H_
