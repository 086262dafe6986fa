#ifndef SNAPKEEPER_SCHEDULER_TICKER_H_
#define SNAPKEEPER_SCHEDULER_TICKER_H_

#include <absl/container/flat_hash_map.h>
#include <absl/time/time.h>

#include <functional>
#include <set>
#include <string>
#include <utility>

#include "common/base/event_loop.h"
#include "common/model/due.h"

namespace snapkeeper {

// Tells when each key's wall-clock time has come, with one timer for all. The clock is re-asked at
// least every minute, so that a step of it is noticed; after one back by more than kMaxClockStep
// every key is due. Loop thread only.
class Ticker {
 public:
  // `due(key)` is called when its time has come; the key is forgotten before.
  Ticker(EventLoop& loop, std::function<void(const std::string& key)> due)
      : loop_(loop), due_(std::move(due)) {}

  // Replaces the key's earlier time; InfiniteFuture() forgets it.
  void Set(const std::string& key, absl::Time when) {
    if (auto it = when_.find(key); it != when_.end()) {
      queue_.erase({it->second, key});
      when_.erase(it);
    }
    if (when != absl::InfiniteFuture()) {
      when_[key] = when;
      queue_.insert({when, key});
    }
    Arm();
  }

 private:
  void Arm() {
    if (queue_.empty()) {
      timer_.Cancel();
      armed_ = absl::InfiniteFuture();
    } else if (!timer_.active() || queue_.begin()->first != armed_) {
      armed_ = queue_.begin()->first;
      timer_ = loop_.After(std::min(armed_ - loop_.Now(), absl::Minutes(1)), [this] { Fire(); });
    }
  }
  void Fire() {
    const absl::Time now = loop_.Now();
    const absl::Time started = now - loop_.Elapsed();
    const bool set_back = started < started_ - kMaxClockStep;
    started_ = started;
    if (set_back) {
      // Their times are of a future that may be years away.
      const absl::flat_hash_map<std::string, absl::Time> all = std::exchange(when_, {});
      queue_.clear();
      for (const auto& [key, when] : all) due_(key);
    }
    while (!queue_.empty() && queue_.begin()->first <= now) {
      const std::string key = queue_.begin()->second;
      queue_.erase(queue_.begin());
      when_.erase(key);
      due_(key);
    }
    armed_ = absl::InfinitePast();
    Arm();
  }

  EventLoop& loop_;
  const std::function<void(const std::string&)> due_;
  absl::flat_hash_map<std::string, absl::Time> when_;
  std::set<std::pair<absl::Time, std::string>> queue_;
  absl::Time armed_ = absl::InfiniteFuture();
  absl::Time started_ = absl::InfinitePast();  // of the process, by the wall clock as it was
  Timer timer_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SCHEDULER_TICKER_H_
