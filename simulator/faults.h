#ifndef SNAPKEEPER_SIMULATOR_FAULTS_H_
#define SNAPKEEPER_SIMULATOR_FAULTS_H_

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <string_view>
#include <utility>

#include "common/kube/api.h"

namespace snapkeeper {

enum class Verb { kGet, kList, kWatch, kCreate, kDelete, kPatch, kUpdate };
std::string_view ToString(Verb verb);  // "get", ..., as in an audit log

// What becomes of one request of an in-process client.
struct Fault {
  absl::Duration request_delay =
      absl::ZeroDuration();  // until the server acts; however long the client waits
  absl::Duration reply_delay = absl::ZeroDuration();  // from then until the client has the reply
  bool acts = true;                                   // whether the server does what was asked
  absl::Status reply;  // Ok: the real one; else what the client is told instead

  // The server answers with `status` and does nothing.
  static Fault Fail(absl::Status status) { return {.acts = false, .reply = std::move(status)}; }
  // The server acts; the client learns nothing and gives up after `after`.
  static Fault LoseReply(absl::Duration after = absl::Seconds(30)) {
    return {.reply_delay = after, .reply = absl::DeadlineExceededError("the reply was lost")};
  }
  // Nothing happens until the client gives up.
  static Fault Hang(absl::Duration after = absl::Seconds(30)) {
    return {.reply_delay = after, .acts = false, .reply = absl::DeadlineExceededError("no answer")};
  }
};

// What becomes of one event on its way to one in-process watch. Events of a watch stay in order.
struct EventFault {
  absl::Duration delay = absl::ZeroDuration();
  int copies = 1;  // 2 or more: delivered again; 0 is not possible on a healthy stream
};

// How a stream breaks.
enum class WatchBreak {
  kEnd,      // the server ends it in order
  kReset,    // Unavailable
  kExpired,  // 410: OutOfRange
  kStall,    // no event and no bookmark any more; the client notices after kSilenceLimit:
             // DeadlineExceeded
};

// The limits of common/kube/kube_client.h, which the in-process client keeps: on the silence of a
// watch, and on a request.
inline constexpr absl::Duration kSilenceLimit = absl::Seconds(130);
inline constexpr absl::Duration kRequestDeadline = absl::Seconds(30);

// Asked for every request and every event of every in-process client; the default does nothing. The
// name of the object is "" for lists and watches.
class FaultPlan {
 public:
  virtual ~FaultPlan() = default;
  virtual Fault OnRequest(std::string_view user, Verb verb, const ObjectKey& key) = 0;
  virtual EventFault OnEvent(std::string_view user, Kind kind) = 0;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_FAULTS_H_
