#ifndef SNAPKEEPER_COMMON_BASE_EVENT_LOOP_H_
#define SNAPKEEPER_COMMON_BASE_EVENT_LOOP_H_

#include <absl/functional/any_invocable.h>
#include <absl/time/time.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/waiter.h"

namespace snapkeeper {

// A pending callback of EventLoop::After. Destroying or moving over it cancels; after it has fired
// it is inert. Loop thread only. Must not outlive its loop.
class [[nodiscard]] Timer {
 public:
  Timer() = default;
  Timer(Timer&& other) noexcept;
  Timer& operator=(Timer&& other) noexcept;
  ~Timer();

  bool active() const;
  void Cancel();

 private:
  friend class EventLoop;
  struct State;
  explicit Timer(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

// One thread of callbacks: posted tasks in order, and timers by (due time, order of creation). Each
// callback is a transaction; whatever a callback owns is touched by this thread alone. Knows no
// I/O: the Waiter does that.
class EventLoop {
 public:
  using Task = absl::AnyInvocable<void()>;

  explicit EventLoop(Waiter& waiter);
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  ~EventLoop();

  absl::Time Now() const { return waiter_.Now(); }
  absl::Duration Elapsed() const { return waiter_.Elapsed(); }

  // Runs `task` on a later turn. Any thread. Tasks posted after the loop stopped run never and are
  // destroyed with it.
  void Post(Task task);

  // Runs `task` once `delay` of monotonic time has passed (at once on the next turn when <= 0).
  // Loop thread only.
  Timer After(absl::Duration delay, Task task);

  // Turns until Stop(). The calling thread becomes the loop thread.
  void Run();
  // Makes Run return after the current turn. Any thread.
  void Stop();

  // One turn without waiting: the tasks that are posted now and the timers that are due now.
  // Returns whether anything ran. For simulation, which drives many loops from one thread, and for
  // tests.
  bool Turn();
  // When the next timer is due on the Elapsed() clock; InfiniteDuration() if there is none.
  absl::Duration NextTimer() const;

  // True on the loop thread, and before Run or Turn has been called.
  bool InLoop() const;

  // The longest turn, or the most that a timer was late (by a turn, or by the waiter's own work),
  // since the last call: the loop-lag metric. Loop thread only.
  absl::Duration TakeMaxTurn();

 private:
  friend class Timer;

  Waiter& waiter_;

  // Any thread.
  std::mutex
      mutex_;  // not absl's: TSan does not see the locks of a library that was built without it
  std::vector<Task> posted_;  // under mutex_
  std::atomic<bool> stop_ = false;
  std::atomic<std::thread::id> thread_;

  // Loop thread only.
  std::map<std::pair<absl::Duration, uint64_t>, std::shared_ptr<Timer::State>> timers_;
  uint64_t next_id_ = 0;
  absl::Duration max_turn_ = absl::ZeroDuration();
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_BASE_EVENT_LOOP_H_
