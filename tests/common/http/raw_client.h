#ifndef SNAPKEEPER_TESTS_COMMON_HTTP_RAW_CLIENT_H_
#define SNAPKEEPER_TESTS_COMMON_HTTP_RAW_CLIENT_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <string_view>

namespace snapkeeper {

// A blocking connection to a port on loopback, for what a well-behaved client would never send.
// Reads give up after 20 s.
class RawClient {
 public:
  explicit RawClient(int port, int receive_buffer = 0)
      : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (receive_buffer > 0)
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    const timeval patience = {.tv_sec = 20, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient() { close(fd_); }

  bool connected() const { return connected_; }
  void Write(std::string_view bytes) { send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  void FinishWriting() { shutdown(fd_, SHUT_WR); }
  // Everything up to and including `end`, or up to the peer's closing; an empty `end` means the
  // latter.
  std::string ReadUntil(std::string_view end) {
    std::string text;
    char byte;
    while (end.empty() || !text.ends_with(end)) {
      if (recv(fd_, &byte, 1, 0) != 1) break;
      text += byte;
    }
    return text;
  }
  std::string ReadToEnd() { return ReadUntil(""); }

 private:
  const int fd_;
  bool connected_ = false;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_COMMON_HTTP_RAW_CLIENT_H_
