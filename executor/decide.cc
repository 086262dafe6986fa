#include "executor/decide.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "common/kube/json.h"
#include "common/model/clock.h"
#include "common/model/names.h"
#include "common/model/reason.h"

namespace snapkeeper {
namespace {

using Kind = Step::Kind;

// By how much: the API server cuts writes at 34 s, we at 30 (common/kube/kube_client.h).
constexpr absl::Duration kServerOutlastsUs = absl::Seconds(5);

std::string NameOf(const CreateSnapshot& job) {
  return fmt::format("VolumeSnapshot {}/{}", job.target.ns, job.name);
}

Step Done(absl::Status status, bool ours = false) {
  return {.kind = Kind::kDone, .ours = ours, .status = std::move(status)};
}

// A POST that may have been carried out although it was not answered so.
bool IsOutcomeUnknown(const absl::Status& post) {
  return absl::IsDeadlineExceeded(post) || absl::IsUnavailable(post) || absl::IsInternal(post) ||
         absl::IsUnknown(post);
}

// An error of the API server as the attempt's end: with a Reason where the code alone ends the job.
absl::Status Explained(const absl::Status& error, const Observed& observed) {
  if (ReasonOf(error) == Reason::kForbidden && !observed.watching) {
    // One that has just started refuses everybody until it has read its roles
    // (kubernetes/kubernetes#121635): no verdict on the job.
    return WithReason(absl::UnavailableError(fmt::format(
                          "{}; the API server does not let us watch either", MessageOf(error))),
                      Reason::kApiUnavailable);
  }
  if (ReasonOf(error) != Reason::kNone || IsRetryable(error)) return error;
  // FailedPrecondition: the kind is not installed.
  return WithReason(error, absl::IsFailedPrecondition(error) ? Reason::kDriverUnhealthy
                                                             : Reason::kApiUnavailable);
}

// With the code that tells the scheduler that there may be a snapshot.
absl::Status MayExist(const absl::Status& error) {
  absl::Status unknown = absl::UnknownError(error.message());
  error.ForEachPayload([&unknown](absl::string_view type, const absl::Cord& payload) {
    unknown.SetPayload(type, payload);
  });
  return unknown;
}

absl::Status PostRefused(const CreateSnapshot& job, const Observed& observed) {
  const absl::Status& post = observed.post;
  // deploy/admission refuses a late create with a message that names the annotation.
  if (absl::IsInvalidArgument(post) &&
      MessageOf(post).find(kPostBeforeAnnotation) != std::string::npos) {
    return absl::DeadlineExceededError(
        fmt::format("{} was posted too late: {}", NameOf(job), MessageOf(post)));
  }
  // The namespace is gone, and its claims with it.
  if (absl::IsNotFound(post)) return WithReason(post, Reason::kNamespaceTerminating);
  // A validation or a webhook, which may refuse by 400 or 422 as well as by 403.
  if (absl::IsInvalidArgument(post)) return WithReason(post, Reason::kForbidden);
  return Explained(post, observed);
}

Step Gone(const CreateSnapshot& job, std::string_view how) {
  return Done(
      WithReason(absl::NotFoundError(fmt::format("{} {}; it is not taken again", NameOf(job), how)),
                 Reason::kDeleted));
}

Step DecideUnseen(const CreateSnapshot& job, const Observed& observed, absl::Time now,
                  std::optional<absl::Duration> clock_offset) {
  if (!observed.look.ok()) {
    // The POST's own error is the better cause, but not of when to come again; and "already exists"
    // is no reason to give up.
    if (!IsOutcomeUnknown(observed.post)) {
      const absl::Status look = Explained(observed.look, observed);
      return Done(absl::IsAlreadyExists(observed.post) && IsRetryable(look) ? MayExist(look)
                                                                            : look);
    }
    const absl::Duration pause = RetryAfterOf(observed.look);
    return Done(MayExist(pause > RetryAfterOf(observed.post) ? WithRetryAfter(observed.post, pause)
                                                             : observed.post));
  }
  if (!observed.post.ok()) {
    const bool look_up = absl::IsAlreadyExists(observed.post) || IsOutcomeUnknown(observed.post);
    return look_up ? Step{.kind = Kind::kLookUp} : Done(PostRefused(job, observed));
  }
  if (!job.known_uid.empty()) {
    // Thousands of these come at once after a failover: the first LIST answers them all.
    return {.kind = observed.cache_synced || !observed.watching ? Kind::kLookUp : Kind::kAwait};
  }
  if (absl::Status clock = CheckClock(clock_offset); !clock.ok()) {
    // What is known of the server's time may be missing or old: its next answer tells.
    if (observed.object == Observed::Object::kUnknown) return {.kind = Kind::kLookUp};
    return Done(std::move(clock));
  }
  if (now > job.post_before) {
    return Done(absl::DeadlineExceededError(
        fmt::format("{} is not posted after {}", NameOf(job), FormatRfc3339(job.post_before))));
  }
  return {.kind = Kind::kPost};
}

Step DecideAbsent(const CreateSnapshot& job, const Observed& observed, absl::Time now,
                  std::optional<absl::Duration> clock_offset) {
  if (!job.known_uid.empty()) return Gone(job, "is gone");
  if (absl::IsAlreadyExists(observed.post)) return Gone(job, "was there and is gone");
  if (observed.post.ok()) return DecideUnseen(job, observed, now, clock_offset);
  if (!absl::IsDeadlineExceeded(observed.post)) return Done(observed.post);
  // It may still be under way in the server.
  return Done(
      WithRetryAfter(observed.post, std::max(RetryAfterOf(observed.post), kServerOutlastsUs)));
}

// What stands in the way of readiness as the content tells it; Ok: nothing.
absl::Status CheckContent(const CreateSnapshot& job, const Observed& observed) {
  const Snapshot& snapshot = *observed.snapshot;
  const absl::StatusOr<std::shared_ptr<const Content>>& answer = *observed.content;
  const std::string name = fmt::format("VolumeSnapshotContent {}", snapshot.bound_content);
  if (absl::IsNotFound(answer.status())) {
    return absl::NotFoundError(fmt::format("{} does not exist", name));
  }
  if (!answer.ok()) return Explained(answer.status(), observed);
  const Content& content = **answer;
  if (!RefersTo(content, snapshot)) {
    return absl::NotFoundError(fmt::format("{} does not refer back to this snapshot", name));
  }
  if (content.meta.deleting) return absl::NotFoundError(fmt::format("{} is being deleted", name));
  if (!job.target.volume_handle.empty() && content.volume_handle != job.target.volume_handle) {
    return WithReason(
        absl::FailedPreconditionError(fmt::format(
            "{} is of volume {:?}, not of {:?}: claim {} was replaced before the snapshot was cut",
            NameOf(job), content.volume_handle, job.target.volume_handle, job.target.claim)),
        Reason::kWrongVolume);
  }
  return absl::OkStatus();
}

Step DecidePresent(const CreateSnapshot& job, const Observed& observed, absl::Time now) {
  const Snapshot& snapshot = *observed.snapshot;
  if (!job.known_uid.empty() && snapshot.meta.uid != job.known_uid) {
    return Gone(job, fmt::format("of UID {} is gone", job.known_uid));
  }
  if (ProvenIdentity(snapshot) != job.identity) {
    return Done(WithReason(absl::FailedPreconditionError(fmt::format(
                               "{} (UID {}) exists and is not ours: its labels, annotations and "
                               "source do not prove identity {}; "
                               "rename or delete it",
                               NameOf(job), snapshot.meta.uid, job.identity.Annotation())),
                           Reason::kNameConflict));
  }
  // The server truncates creationTimestamp to whole seconds, so that this is never early.
  if (observed.posted_by_us && snapshot.meta.created > job.post_before) {
    return {.kind = Kind::kRemove};
  }
  if (snapshot.meta.deleting) return Gone(job, "is being deleted");

  std::string cause = snapshot.error.empty() ? observed.last_error : snapshot.error;
  if (snapshot.ready_to_use && !snapshot.bound_content.empty()) {
    if (!observed.content) {
      // What a watch that is gone has shown last may be long past.
      const bool stale = !observed.watching && !observed.fresh;
      return {.kind = stale ? Kind::kLookUp : Kind::kVerify, .ours = true};
    }
    const absl::Status content = CheckContent(job, observed);
    // A missing or unbound content may come to be: the next change, or the deadline, asks again.
    if (!absl::IsNotFound(content)) return Done(content, true);
    cause = fmt::format("{}{}{}", MessageOf(content), cause.empty() ? "" : "; ", cause);
  }
  const absl::Time deadline = snapshot.meta.created + job.ready_timeout;
  if (now < deadline) return {.kind = Kind::kAwait, .ours = true, .wait = deadline - now};
  // The cache may lag or hang: the last word is the server's.
  if (!observed.fresh) return {.kind = Kind::kLookUp, .ours = true};
  // Names are in the record beside it, where a message may be cut: the driver's words come first.
  return Done(NotReadyInTime(job.ready_timeout, cause), true);
}

}  // namespace

Step Decide(const CreateSnapshot& job, const Observed& observed, absl::Time now,
            std::optional<absl::Duration> clock_offset) {
  // creationTimestamp and post_before are the server's time.
  const absl::Time server_now = now - clock_offset.value_or(absl::ZeroDuration());
  switch (observed.object) {
    case Observed::Object::kUnknown:
      return DecideUnseen(job, observed, server_now, clock_offset);
    case Observed::Object::kAbsent:
      return DecideAbsent(job, observed, server_now, clock_offset);
    case Observed::Object::kPresent:
      break;
  }
  if (!observed.look.ok()) return Done(Explained(observed.look, observed), true);
  return DecidePresent(job, observed, server_now);
}

absl::Status CreatedTooLate(const CreateSnapshot& job, const Snapshot& late,
                            const absl::Status& removed) {
  return WithReason(absl::DeadlineExceededError(fmt::format(
                        "{} (UID {}) was created at {}, after {}: {}", NameOf(job), late.meta.uid,
                        FormatRfc3339(late.meta.created), FormatRfc3339(job.post_before),
                        removed.ok() ? "it was deleted"
                                     : fmt::format("deleting it failed: {}", MessageOf(removed)))),
                    Reason::kDeadlineExceeded);
}

}  // namespace snapkeeper
