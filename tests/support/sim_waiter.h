#ifndef SNAPKEEPER_TESTS_SUPPORT_SIM_WAITER_H_
#define SNAPKEEPER_TESTS_SUPPORT_SIM_WAITER_H_

#include <absl/time/time.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "common/base/event_loop.h"
#include "common/base/waiter.h"

namespace snapkeeper {

// The one clock of a simulated world. It moves only when told to, and time that elapses never runs
// back. One thread.
class SimClock {
 public:
  explicit SimClock(absl::Time base = absl::FromUnixSeconds(1'767'225'600))  // 2026-01-01T00:00:00Z
      : base_(base) {}

  absl::Duration Elapsed() const { return elapsed_; }
  absl::Time Now() const { return base_ + elapsed_; }
  void Advance(absl::Duration by) { AdvanceTo(elapsed_ + by); }
  void AdvanceTo(absl::Duration elapsed) { elapsed_ = std::max(elapsed_, elapsed); }
  void AdvanceTo(absl::Time now) { AdvanceTo(now - base_); }
  // Everybody's wall clock is set to another time.
  void Step(absl::Duration by) { base_ += by; }

 private:
  absl::Time base_;
  absl::Duration elapsed_ = absl::ZeroDuration();
};

// A simulated machine's view of the clock: its wall clock may be off, and may step. Wait does not
// sleep: it moves the clock, so that EventLoop::Run leaps to its next timer. Several loops on one
// clock are driven by RunUntil instead.
class SimWaiter : public Waiter {
 public:
  explicit SimWaiter(SimClock& clock) : clock_(clock) {}

  void set_offset(absl::Duration offset) { offset_ = offset; }
  absl::Duration offset() const { return offset_; }

  absl::Time Now() const override { return clock_.Now() + offset_; }
  absl::Duration Elapsed() const override { return clock_.Elapsed(); }
  void Wait(absl::Duration max) override {
    if (!woken_.exchange(false) && max != absl::InfiniteDuration()) clock_.Advance(max);
  }
  void Wake() override { woken_ = true; }

 private:
  SimClock& clock_;
  absl::Duration offset_ = absl::ZeroDuration();
  std::atomic<bool> woken_ = false;
};

// Turns the loops, in the order given, until none has anything left to do.
inline void RunReady(const std::vector<EventLoop*>& loops) {
  for (bool ran = true; ran;) {
    ran = false;
    for (EventLoop* loop : loops) ran |= loop->Turn();
  }
}

// Turns the loops, leaping from timer to timer, until nothing is left to do up to and including
// `end` (on the clock's Elapsed); then the clock stands at `end`.
inline void RunUntil(SimClock& clock, const std::vector<EventLoop*>& loops, absl::Duration end) {
  for (;;) {
    RunReady(loops);
    absl::Duration next = absl::InfiniteDuration();
    for (const EventLoop* loop : loops) next = std::min(next, loop->NextTimer());
    if (next > end) break;
    clock.AdvanceTo(next);
  }
  clock.AdvanceTo(end);
}

inline void RunFor(SimClock& clock, const std::vector<EventLoop*>& loops, absl::Duration time) {
  RunUntil(clock, loops, clock.Elapsed() + time);
}

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_SUPPORT_SIM_WAITER_H_
