#ifndef SNAPKEEPER_TESTS_COMMON_HTTP_RAW_SERVER_H_
#define SNAPKEEPER_TESTS_COMMON_HTTP_RAW_SERVER_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/common/http/test_certs.h"

namespace snapkeeper {

// One accepted connection of a RawServer: blocking reads and writes, on its own thread.
class RawConnection {
 public:
  RawConnection(int fd, SSL* ssl, int number) : fd_(fd), ssl_(ssl), number_(number) {}

  // The next request, head and body as sent; "" once the peer has closed.
  std::string ReadRequest() {
    size_t end;
    while ((end = buffer_.find("\r\n\r\n")) == buffer_.npos) {
      if (!ReadMore()) return "";
    }
    size_t length = end + 4;
    const size_t field = buffer_.find("Content-Length: ");
    if (field < end) length += std::stoul(buffer_.substr(field + 16));
    while (buffer_.size() < length) {
      if (!ReadMore()) return "";
    }
    const std::string request = buffer_.substr(0, length);
    buffer_.erase(0, length);
    return request;
  }
  // Blocks until the peer closes.
  void ReadToEnd() {
    while (ReadMore()) {
    }
  }
  bool Write(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto n = ssl_ ? SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()))
                          : send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  bool Answer(std::string_view body) {
    return Write("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
                 std::string(body));
  }

  int number() const { return number_; }  // 1 for the first connection
  // "" without TLS.
  std::string server_name() const {
    const char* name = ssl_ ? SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name) : nullptr;
    return name ? name : "";
  }
  std::string peer_name() const {
    const std::unique_ptr<X509, decltype(&X509_free)> cert(
        ssl_ ? SSL_get1_peer_certificate(ssl_) : nullptr, X509_free);
    char text[100] = "";
    if (cert)
      X509_NAME_get_text_by_NID(X509_get_subject_name(cert.get()), NID_commonName, text,
                                sizeof text);
    return text;
  }

 private:
  bool ReadMore() {
    char bytes[16384];
    const auto n = ssl_ ? SSL_read(ssl_, bytes, sizeof bytes) : recv(fd_, bytes, sizeof bytes, 0);
    if (n > 0) buffer_.append(bytes, static_cast<size_t>(n));
    return n > 0;
  }

  const int fd_;
  SSL* const ssl_;
  const int number_;
  std::string buffer_;
};

struct RawServerTls {
  TestCert cert;
  std::string
      client_ca_pem;  // set: a client certificate is asked for and must be of this authority
};

// A server that does with each connection what the test says, so that it can misbehave: on
// loopback, a thread per connection. A connection is closed when its script returns, and by the
// destructor, which waits for all.
class RawServer {
 public:
  using Script = std::function<void(RawConnection&)>;

  explicit RawServer(Script script, const RawServerTls* tls = nullptr)
      : script_(std::move(script)) {
    if (tls) MakeContext(*tls);
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        listen(listener_, 128) != 0) {
      std::abort();
    }
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { Accept(); });
  }
  ~RawServer() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    {
      const std::lock_guard lock(mutex_);
      for (const int fd : open_) shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
    close(listener_);
    SSL_CTX_free(context_);
  }

  int port() const { return port_; }
  std::string host_port() const { return "127.0.0.1:" + std::to_string(port_); }
  std::string url(std::string_view path = "/") const {
    return (context_ ? "https://" : "http://") + host_port() + std::string(path);
  }
  int connections() const { return connections_; }

 private:
  void MakeContext(const RawServerTls& tls) {
    context_ = SSL_CTX_new(TLS_server_method());
    const auto bio = [](const std::string& pem) {
      return BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
    };
    BIO* text = bio(tls.cert.cert_pem);
    X509* cert = PEM_read_bio_X509(text, nullptr, nullptr, nullptr);
    SSL_CTX_use_certificate(context_, cert);
    X509_free(cert);
    BIO_free(text);
    text = bio(tls.cert.key_pem);
    EVP_PKEY* key = PEM_read_bio_PrivateKey(text, nullptr, nullptr, nullptr);
    SSL_CTX_use_PrivateKey(context_, key);
    EVP_PKEY_free(key);
    BIO_free(text);
    if (tls.client_ca_pem.empty()) return;
    text = bio(tls.client_ca_pem);
    X509* authority = PEM_read_bio_X509(text, nullptr, nullptr, nullptr);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context_), authority);
    X509_free(authority);
    BIO_free(text);
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    const unsigned char id[] = "test";
    SSL_CTX_set_session_id_context(context_, id, sizeof id);
  }

  void Accept() {
    for (;;) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      const int number = ++connections_;
      const std::lock_guard lock(mutex_);
      open_.push_back(fd);
      threads_.emplace_back([this, fd, number] { Serve(fd, number); });
    }
  }

  void Serve(int fd, int number) {
    SSL* ssl = nullptr;
    bool ready = true;
    if (context_) {
      ssl = SSL_new(context_);
      SSL_set_fd(ssl, fd);
      ready = SSL_accept(ssl) == 1;
    }
    if (ready) {
      RawConnection connection(fd, ssl, number);
      script_(connection);
      if (ssl) SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    const std::lock_guard lock(mutex_);
    std::erase(open_, fd);
    close(fd);
  }

  const Script script_;
  SSL_CTX* context_ = nullptr;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<int> connections_ = 0;
  std::mutex mutex_;
  std::vector<int> open_;             // under mutex_
  std::vector<std::thread> threads_;  // written by acceptor_, read once it has ended
  std::thread acceptor_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_COMMON_HTTP_RAW_SERVER_H_
