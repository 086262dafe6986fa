#include "common/base/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <charconv>

namespace snapkeeper {

absl::StatusOr<HostPort> ParseHostPort(std::string_view text) {
  const auto invalid = [text] {
    return absl::InvalidArgumentError(
        fmt::format("\"{}\" is not HOST:PORT, as in 127.0.0.1:7400 or [::1]:7400", text));
  };
  const size_t colon = text.rfind(':');
  if (colon == text.npos) return invalid();
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  HostPort result;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), result.port);
  if (error != std::errc() || end != port.data() + port.size()) return invalid();
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    in6_addr address;
    if (inet_pton(AF_INET6, std::string(host).c_str(), &address) != 1) return invalid();
  } else if (host.empty() || host.find_first_of(":[]/ \t\r\n") != host.npos) {
    return invalid();
  }
  result.host = host;
  return result;
}

std::string FormatHostPort(const HostPort& address) {
  const bool ipv6 = address.host.find(':') != std::string::npos;
  return ipv6 ? fmt::format("[{}]:{}", address.host, address.port)
              : fmt::format("{}:{}", address.host, address.port);
}

bool IsLoopback(std::string_view address) {
  const auto parsed = ParseHostPort(address);
  if (!parsed.ok()) return false;
  if (parsed->host == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, parsed->host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6;
  return inet_pton(AF_INET6, parsed->host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

}  // namespace snapkeeper
