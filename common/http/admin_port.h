#ifndef SNAPKEEPER_COMMON_HTTP_ADMIN_PORT_H_
#define SNAPKEEPER_COMMON_HTTP_ADMIN_PORT_H_

#include <absl/functional/any_invocable.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <string>
#include <string_view>

#include "common/base/event_loop.h"
#include "common/base/metrics.h"

namespace snapkeeper {

// The HTTP port of a daemon:
//   /metrics  for Prometheus; state is read on the loop, the text is made off it
//   /livez    503 once the loop has not turned for `stuck_after`
//   /readyz   200, or 503 with a line "NAME: message" for each check that fails
//   /version  {"version":"0.1.0"}
// A loop that does not answer within 1 s makes 503. Loop thread only; destroying it closes the
// port.
class AdminPort {
 public:
  // `address` as of HttpServer::Listen. `loop` and `metrics` must outlive it.
  static absl::StatusOr<std::unique_ptr<AdminPort>> Listen(
      std::string_view address, EventLoop& loop, Metrics& metrics, std::string_view version,
      absl::Duration stuck_after = absl::Seconds(15));
  virtual ~AdminPort() = default;

  // Ready while every check is OK; called on the loop at each request.
  virtual void AddReadyCheck(std::string_view name, absl::AnyInvocable<absl::Status()> check) = 0;

  // HOST:PORT as bound.
  virtual std::string address() const = 0;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_HTTP_ADMIN_PORT_H_
