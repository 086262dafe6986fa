#ifndef SNAPKEEPER_COMMON_GRPC_LIMITS_H_
#define SNAPKEEPER_COMMON_GRPC_LIMITS_H_

#include <absl/time/time.h>

#include <cstddef>

namespace snapkeeper {

// What both ends of our connections must agree on.

inline constexpr size_t kMaxMessageBytes = 4 << 20;

// HTTP/2 pings of either side on a silent connection. A server must allow pings more often than its
// clients send them, or it ends their connections with too_many_pings (gRPC doc/keepalive.md).
inline constexpr absl::Duration kPingEvery = absl::Seconds(10);
inline constexpr absl::Duration kPingTimeout = absl::Seconds(5);
inline constexpr absl::Duration kPingAllowedEvery = absl::Seconds(5);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_GRPC_LIMITS_H_
