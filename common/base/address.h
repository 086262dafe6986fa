#ifndef SNAPKEEPER_COMMON_BASE_ADDRESS_H_
#define SNAPKEEPER_COMMON_BASE_ADDRESS_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace snapkeeper {

// "HOST:PORT"; an IPv6 address is in brackets there, and without them here.
struct HostPort {
  std::string host;
  uint16_t port = 0;

  bool operator==(const HostPort&) const = default;
};

// InvalidArgument for anything but HOST:PORT with both parts and a port of at most 65535.
absl::StatusOr<HostPort> ParseHostPort(std::string_view text);
std::string FormatHostPort(const HostPort& address);

// Whether what listens at, or is reached at, this HOST:PORT stays on this machine: localhost,
// 127.0.0.0/8, ::1. False for what is not HOST:PORT.
bool IsLoopback(std::string_view address);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_BASE_ADDRESS_H_
