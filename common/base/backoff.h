#ifndef SNAPKEEPER_COMMON_BASE_BACKOFF_H_
#define SNAPKEEPER_COMMON_BASE_BACKOFF_H_

#include <absl/time/time.h>

#include <random>

namespace snapkeeper {

using Rng = std::mt19937_64;  // seeded by main() or by the test; never default-seeded in between

// How long to wait before try number `attempt` + 1 (the first failure is attempt 1): full jitter
// over [min, min(max, min * 2^attempt)], so that many clients that fail together do not return
// together.
struct Backoff {
  absl::Duration min = absl::Milliseconds(100);
  absl::Duration max = absl::Seconds(10);

  // `at_least` is a server's Retry-After: a lower bound, jittered upwards by at most 10 %, not a
  // replacement.
  absl::Duration Delay(int attempt, Rng& rng, absl::Duration at_least = absl::ZeroDuration()) const;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_BASE_BACKOFF_H_
