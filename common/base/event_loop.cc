#include "common/base/event_loop.h"

#include <algorithm>
#include <cassert>

namespace snapkeeper {

struct Timer::State {
  EventLoop* loop;  // null once fired, cancelled, or after the loop's end
  std::pair<absl::Duration, uint64_t> key;
  EventLoop::Task task;
};

Timer::Timer(std::shared_ptr<State> state) : state_(std::move(state)) {}
Timer::Timer(Timer&& other) noexcept = default;
Timer& Timer::operator=(Timer&& other) noexcept {
  Timer old(std::move(*this));
  state_ = std::move(other.state_);
  return *this;
}
Timer::~Timer() { Cancel(); }

bool Timer::active() const { return state_ && state_->loop; }

void Timer::Cancel() {
  const auto state = std::move(state_);
  if (!state || !state->loop) return;
  assert(state->loop->InLoop());
  state->loop->timers_.erase(state->key);
  state->loop = nullptr;
}

EventLoop::EventLoop(Waiter& waiter) : waiter_(waiter) {}

EventLoop::~EventLoop() {
  // What tasks own may cancel timers or post when it is destroyed.
  for (;;) {
    std::vector<Task> tasks;
    {
      const std::lock_guard lock(mutex_);
      tasks.swap(posted_);
    }
    if (tasks.empty() && timers_.empty()) return;
    const auto timers = std::move(timers_);
    timers_.clear();
    for (const auto& [key, state] : timers) state->loop = nullptr;
  }
}

void EventLoop::Post(Task task) {
  bool first;
  {
    const std::lock_guard lock(mutex_);
    first = posted_.empty();
    posted_.push_back(std::move(task));
  }
  // Whoever made the queue non-empty has woken the loop, or is the loop and looks again before it
  // waits.
  if (first && thread_.load() != std::this_thread::get_id()) waiter_.Wake();
}

Timer EventLoop::After(absl::Duration delay, Task task) {
  assert(InLoop());
  auto state = std::make_shared<Timer::State>();
  state->loop = this;
  state->key = {Elapsed() + std::max(delay, absl::ZeroDuration()), next_id_++};
  state->task = std::move(task);
  timers_.emplace(state->key, state);
  return Timer(std::move(state));
}

void EventLoop::Run() {
  while (!stop_) {
    Turn();
    if (stop_) return;
    bool more;
    {
      const std::lock_guard lock(mutex_);
      more = !posted_.empty();
    }
    waiter_.Wait(more ? absl::ZeroDuration()
                      : std::max(absl::ZeroDuration(), NextTimer() - Elapsed()));
  }
}

void EventLoop::Stop() {
  stop_ = true;
  waiter_.Wake();
}

bool EventLoop::Turn() {
  thread_ = std::this_thread::get_id();
  const absl::Duration start = Elapsed();
  std::vector<Task> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(posted_);
  }
  for (Task& task : tasks) {
    task();
    task = nullptr;  // what a task owns ends with it, before the next one runs
  }
  bool ran = !tasks.empty();
  const uint64_t newer = next_id_;  // timers made by this turn's timers are left for the next one
  while (!timers_.empty()) {
    const auto first = timers_.begin();
    const auto [due, id] = first->first;
    if (due > start || id >= newer) break;
    max_turn_ = std::max(max_turn_, start - due);
    const auto state = std::move(first->second);
    timers_.erase(first);
    state->loop = nullptr;
    state->task();
    ran = true;
  }
  if (ran) max_turn_ = std::max(max_turn_, Elapsed() - start);
  return ran;
}

absl::Duration EventLoop::NextTimer() const {
  return timers_.empty() ? absl::InfiniteDuration() : timers_.begin()->first.first;
}

bool EventLoop::InLoop() const {
  const std::thread::id thread = thread_;
  return thread == std::thread::id() || thread == std::this_thread::get_id();
}

absl::Duration EventLoop::TakeMaxTurn() { return std::exchange(max_turn_, absl::ZeroDuration()); }

}  // namespace snapkeeper
