#include "common/base/backoff.h"

#include <algorithm>

namespace snapkeeper {

absl::Duration Backoff::Delay(int attempt, Rng& rng, absl::Duration at_least) const {
  const auto uniform = [&rng](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(rng);
  };
  absl::Duration ceiling = min;
  for (int i = 0; i < attempt && ceiling < max; ++i) ceiling *= 2;
  ceiling = std::min(max, ceiling);
  const absl::Duration delay = min + (ceiling - min) * uniform(0, 1);
  return std::max(delay, at_least * uniform(1, 1.1));
}

}  // namespace snapkeeper
