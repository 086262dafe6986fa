#ifndef SNAPKEEPER_COMMON_BASE_WAITER_H_
#define SNAPKEEPER_COMMON_BASE_WAITER_H_

#include <absl/time/time.h>

namespace snapkeeper {

// What decisions know of time, and where a loop sleeps (a line of the log and a Date header read
// the wall clock themselves). One per event loop. A daemon's waiter is libcurl's multi interface
// (common/http/curl_transport.h); simulation has one whose time is advanced by the test.
class Waiter {
 public:
  virtual ~Waiter() = default;

  // Wall clock: to show, to store, to compare with instants. May jump. Any thread.
  virtual absl::Time Now() const = 0;

  // Monotonic time since an arbitrary start, running through suspend (CLOCK_BOOTTIME): to measure
  // with. Any thread.
  virtual absl::Duration Elapsed() const = 0;

  // Sleeps until I/O was handled, Wake() was called, or `max` has passed. Loop thread only.
  virtual void Wait(absl::Duration max) = 0;

  // Ends the current or next Wait. Any thread.
  virtual void Wake() = 0;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_BASE_WAITER_H_
