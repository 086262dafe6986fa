#include "common/grpc/convert.h"

#include <absl/strings/ascii.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/grpc/status.h"
#include "common/grpc/time.h"

namespace snapkeeper {
namespace {

namespace pb = executor::v1;
using snapkeeper::FromProto;  // those of times and statuses
using snapkeeper::ToProto;

constexpr size_t kMaxIdBytes = 253;  // as of Kubernetes' names

// Reads the fields of one message and remembers the first that is wrong, so that a conversion reads
// as a list of fields.
class Reader {
 public:
  explicit Reader(std::string_view message) : message_(message) {}

  std::string Text(std::string_view field, const std::string& value) {
    if (value.empty()) Fail(field, "missing");
    return value;
  }
  // A name that a peer gave itself or its job: it comes back in logs and statuses.
  std::string Id(std::string_view field, const std::string& value) {
    if (value.size() > kMaxIdBytes) Fail(field, fmt::format("longer than {} bytes", kMaxIdBytes));
    if (std::any_of(value.begin(), value.end(), absl::ascii_iscntrl))
      Fail(field, "holds a control character");
    return Text(field, value);
  }
  int64_t Epoch(std::string_view field, int64_t value) {
    if (value > kMaxEpoch) Fail(field, fmt::format("{} is above {}", value, kMaxEpoch));
    return AtLeast<int64_t>(0, field, value);
  }
  template <class Int>
  Int AtLeast(Int least, std::string_view field, Int value) {
    if (value < least) Fail(field, fmt::format("{} is below {}", value, least));
    return value;
  }
  void Present(std::string_view field, bool present) {
    if (!present) Fail(field, "missing");
  }
  absl::Time Time(std::string_view field, const google::protobuf::Timestamp& value) {
    const auto time = FromProto(value);
    if (!time) Fail(field, "not a time between the years 1 and 9999");
    return time.value_or(absl::Time());
  }
  absl::Time Time(std::string_view field, bool present, const google::protobuf::Timestamp& value) {
    Present(field, present);
    return Time(field, value);
  }
  absl::Duration Duration(std::string_view field, bool present,
                          const google::protobuf::Duration& value) {
    Present(field, present);
    const auto duration = FromProto(value);
    if (!duration || *duration < absl::ZeroDuration())
      Fail(field, "not a duration between 0 and 10,000 years");
    return duration.value_or(absl::ZeroDuration());
  }
  void Fail(std::string_view field, std::string_view problem) {
    if (status_.ok())
      status_ = absl::InvalidArgumentError(fmt::format("{}.{}: {}", message_, field, problem));
  }

  template <class Value>
  absl::StatusOr<Value> Finish(Value value) const {
    if (!status_.ok()) return status_;
    return value;
  }

 private:
  const std::string_view message_;
  absl::Status status_;
};

pb::SchedulerHello ToProto(const SchedulerHello& hello) {
  pb::SchedulerHello out;
  out.set_min_protocol(hello.min_protocol);
  out.set_max_protocol(hello.max_protocol);
  out.set_epoch(hello.epoch);
  out.set_id(hello.id);
  return out;
}

absl::StatusOr<SchedulerHello> FromProto(const pb::SchedulerHello& hello) {
  Reader r("scheduler_hello");
  SchedulerHello out;
  out.min_protocol = r.AtLeast(1, "min_protocol", hello.min_protocol());
  out.max_protocol = r.AtLeast(out.min_protocol, "max_protocol", hello.max_protocol());
  out.epoch = r.Epoch("epoch", hello.epoch());
  out.id = r.Id("id", hello.id());
  return r.Finish(std::move(out));
}

pb::ExecutorHello ToProto(const ExecutorHello& hello) {
  pb::ExecutorHello out;
  out.set_protocol(hello.protocol);
  out.set_instance(hello.instance);
  out.set_slots(hello.slots);
  out.set_parked_limit(hello.parked_limit);
  for (const auto& [job_id, attempt] : hello.open_jobs) {
    pb::OpenJob& job = *out.add_open_jobs();
    job.set_job_id(job_id);
    job.set_attempt(attempt);
  }
  return out;
}

absl::StatusOr<ExecutorHello> FromProto(const pb::ExecutorHello& hello) {
  Reader r("executor_hello");
  ExecutorHello out;
  out.protocol = r.AtLeast(1, "protocol", hello.protocol());
  out.instance = r.Id("instance", hello.instance());
  out.slots = r.AtLeast(0, "slots", hello.slots());
  out.parked_limit = r.AtLeast(0, "parked_limit", hello.parked_limit());
  for (const pb::OpenJob& job : hello.open_jobs()) {
    out.open_jobs.emplace_back(r.Id("open_jobs.job_id", job.job_id()),
                               r.AtLeast(1, "open_jobs.attempt", job.attempt()));
  }
  return r.Finish(std::move(out));
}

pb::CreateSnapshot ToProto(const CreateSnapshot& create) {
  pb::CreateSnapshot out;
  out.mutable_identity()->set_policy_uid(create.identity.policy_uid);
  out.mutable_identity()->set_instant(create.identity.instant);
  out.mutable_identity()->set_claim_uid(create.identity.claim_uid);
  out.set_name(create.name);
  out.set_policy(create.policy);
  out.set_run(create.run);
  out.set_trigger(create.trigger);
  pb::SnapshotTarget& target = *out.mutable_target();
  target.set_namespace_(create.target.ns);
  target.set_claim(create.target.claim);
  target.set_claim_uid(create.target.claim_uid);
  target.set_snapshot_class(create.target.snapshot_class);
  target.set_driver(create.target.driver);
  target.set_volume_handle(create.target.volume_handle);
  target.set_source_json(create.target.source_json);
  *out.mutable_post_before() = ToProto(create.post_before);
  *out.mutable_ready_timeout() = ToProto(create.ready_timeout);
  out.set_known_uid(create.known_uid);
  return out;
}

// What an object cannot be made or found without is required; whether the rest suffices is the
// executor's to judge.
absl::StatusOr<CreateSnapshot> FromProto(const pb::CreateSnapshot& create) {
  Reader r("create_snapshot");
  CreateSnapshot out;
  out.identity.policy_uid = r.Text("identity.policy_uid", create.identity().policy_uid());
  out.identity.instant = r.Text("identity.instant", create.identity().instant());
  out.identity.claim_uid = r.Text("identity.claim_uid", create.identity().claim_uid());
  out.name = r.Text("name", create.name());
  out.policy = create.policy();
  out.run = create.run();
  out.trigger = r.Text("trigger", create.trigger());
  out.target.ns = r.Text("target.namespace", create.target().namespace_());
  out.target.claim = r.Text("target.claim", create.target().claim());
  out.target.claim_uid = r.Text("target.claim_uid", create.target().claim_uid());
  out.target.snapshot_class = create.target().snapshot_class();
  out.target.driver = create.target().driver();
  out.target.volume_handle = create.target().volume_handle();
  out.target.source_json = create.target().source_json();
  out.post_before = r.Time("post_before", create.has_post_before(), create.post_before());
  out.ready_timeout =
      r.Duration("ready_timeout", create.has_ready_timeout(), create.ready_timeout());
  out.known_uid = create.known_uid();
  // An object that these do not prove to be ours would be foreign to ourselves (ProvenIdentity).
  const auto trigger = TriggerOf(out.identity.instant);
  if (!trigger) r.Fail("identity.instant", "neither manual nor as in 20261122T150000Z");
  if (out.trigger != trigger) r.Fail("trigger", "does not belong to identity.instant");
  if (out.target.claim_uid != out.identity.claim_uid)
    r.Fail("target.claim_uid", "is not identity.claim_uid");
  if (out.name != SnapshotName(out.identity, out.target.claim))
    r.Fail("name", "does not follow from identity and target.claim");
  return r.Finish(std::move(out));
}

pb::PruneSnapshots ToProto(const PruneSnapshots& prune) {
  pb::PruneSnapshots out;
  out.set_namespace_(prune.ns);
  out.set_policy_name(prune.policy_name);
  out.set_policy_uid(prune.policy_uid);
  out.set_policy_gone(prune.policy_gone);
  out.set_policy_generation(prune.policy_generation);
  *out.mutable_planned_at() = ToProto(prune.planned_at);
  *out.mutable_quarantine() = ToProto(prune.quarantine);
  *out.mutable_leader_since() = ToProto(prune.leader_since);
  if (prune.second_newest_due) *out.mutable_second_newest_due() = ToProto(*prune.second_newest_due);
  for (const PruneSnapshots::Series& from : prune.series) {
    pb::SnapshotSeries& series = *out.add_series();
    series.set_claim_uid(from.claim_uid);
    series.set_claim_exists(from.claim_exists);
    for (const PruneMember& m : from.members) {
      pb::SeriesMember& member = *series.add_members();
      member.set_name(m.name);
      member.set_uid(m.uid);
      member.set_bound_content(m.bound_content);
      member.set_bound(m.bound);
      member.set_pinned(m.pinned);
      member.set_retained(m.retained);
      member.set_posted_known(m.posted_known);
      if (m.posted != absl::InfinitePast()) *member.mutable_posted() = ToProto(m.posted);
    }
    series.mutable_candidate_uids()->Assign(from.candidates.begin(), from.candidates.end());
  }
  return out;
}

absl::StatusOr<PruneSnapshots> FromProto(const pb::PruneSnapshots& prune) {
  Reader r("prune_snapshots");
  PruneSnapshots out;
  out.ns = r.Text("namespace", prune.namespace_());
  out.policy_name = r.Text("policy_name", prune.policy_name());
  out.policy_uid = r.Text("policy_uid", prune.policy_uid());
  out.policy_gone = prune.policy_gone();
  out.policy_generation = r.AtLeast<int64_t>(0, "policy_generation", prune.policy_generation());
  out.planned_at = r.Time("planned_at", prune.has_planned_at(), prune.planned_at());
  out.quarantine = r.Duration("quarantine", prune.has_quarantine(), prune.quarantine());
  out.leader_since = r.Time("leader_since", prune.has_leader_since(), prune.leader_since());
  if (prune.has_second_newest_due())
    out.second_newest_due = r.Time("second_newest_due", prune.second_newest_due());
  for (const pb::SnapshotSeries& from : prune.series()) {
    PruneSnapshots::Series& series = out.series.emplace_back();
    series.claim_uid = r.Text("series.claim_uid", from.claim_uid());
    series.claim_exists = from.claim_exists();
    for (const pb::SeriesMember& m : from.members()) {
      PruneMember& member = series.members.emplace_back();
      member.name = r.Text("series.members.name", m.name());
      member.uid = r.Text("series.members.uid", m.uid());
      member.bound_content = m.bound_content();
      member.bound = m.bound();
      member.pinned = m.pinned();
      member.retained = m.retained();
      member.posted_known = m.posted_known();
      if (m.has_posted()) member.posted = r.Time("series.members.posted", m.posted());
    }
    for (const std::string& uid : from.candidate_uids())
      series.candidates.push_back(r.Text("series.candidate_uids", uid));
  }
  return r.Finish(std::move(out));
}

pb::SnapshotJob ToProto(const Job& job) {
  pb::SnapshotJob out;
  out.set_job_id(job.job_id);
  out.set_attempt(job.attempt);
  out.set_epoch(job.epoch);
  if (const auto* create = std::get_if<CreateSnapshot>(&job.work))
    *out.mutable_create_snapshot() = ToProto(*create);
  if (const auto* prune = std::get_if<PruneSnapshots>(&job.work))
    *out.mutable_prune_snapshots() = ToProto(*prune);
  return out;
}

absl::StatusOr<Job> FromProto(const pb::SnapshotJob& job) {
  Reader r("snapshot_job");
  Job out;
  out.job_id = r.Id("job_id", job.job_id());
  out.attempt = r.AtLeast(1, "attempt", job.attempt());
  out.epoch = r.Epoch("epoch", job.epoch());
  switch (job.work_case()) {
    case pb::SnapshotJob::kCreateSnapshot: {
      auto create = FromProto(job.create_snapshot());
      if (!create.ok()) return create.status();
      out.work = *std::move(create);
      return r.Finish(std::move(out));
    }
    case pb::SnapshotJob::kPruneSnapshots: {
      auto prune = FromProto(job.prune_snapshots());
      if (!prune.ok()) return prune.status();
      out.work = *std::move(prune);
      return r.Finish(std::move(out));
    }
    case pb::SnapshotJob::WORK_NOT_SET:
      break;
  }
  return absl::UnimplementedError(
      fmt::format("job {} is of a kind that this release ({}) does not know; upgrade the executor",
                  job.job_id(), SNAPKEEPER_VERSION));
}

pb::CancelJob ToProto(const CancelJob& cancel) {
  pb::CancelJob out;
  out.set_job_id(cancel.job_id);
  out.set_attempt(cancel.attempt);
  return out;
}

absl::StatusOr<CancelJob> FromProto(const pb::CancelJob& cancel) {
  Reader r("cancel_job");
  CancelJob out;
  out.job_id = r.Id("job_id", cancel.job_id());
  out.attempt = r.AtLeast(1, "attempt", cancel.attempt());
  return r.Finish(std::move(out));
}

pb::JobPhase ToProto(Phase phase) {
  switch (phase) {
    case Phase::kAccepted:
      return pb::JOB_PHASE_ACCEPTED;
    case Phase::kCreated:
      return pb::JOB_PHASE_CREATED;
    case Phase::kCut:
      return pb::JOB_PHASE_CUT;
    case Phase::kReady:
      return pb::JOB_PHASE_READY;
    case Phase::kDone:
      return pb::JOB_PHASE_DONE;
  }
  return pb::JOB_PHASE_UNSPECIFIED;
}

std::optional<Phase> FromProto(pb::JobPhase phase) {
  switch (phase) {
    case pb::JOB_PHASE_ACCEPTED:
      return Phase::kAccepted;
    case pb::JOB_PHASE_CREATED:
      return Phase::kCreated;
    case pb::JOB_PHASE_CUT:
      return Phase::kCut;
    case pb::JOB_PHASE_READY:
      return Phase::kReady;
    case pb::JOB_PHASE_DONE:
      return Phase::kDone;
    default:  // open enum: a newer peer's values too
      return std::nullopt;
  }
}

pb::JobEvent ToProto(const JobEvent& event) {
  pb::JobEvent out;
  out.set_job_id(event.job_id);
  out.set_attempt(event.attempt);
  out.set_phase(ToProto(event.phase));
  out.set_snapshot_uid(event.snapshot_uid);
  if (event.created) *out.mutable_created() = ToProto(*event.created);
  if (event.cut) *out.mutable_cut() = ToProto(*event.cut);
  out.mutable_deleted_uids()->Assign(event.deleted.begin(), event.deleted.end());
  if (event.phase == Phase::kDone) *out.mutable_status() = ToProto(event.status);
  return out;
}

absl::StatusOr<JobEvent> FromProto(const pb::JobEvent& event) {
  Reader r("job_event");
  JobEvent out;
  out.job_id = r.Id("job_id", event.job_id());
  out.attempt = r.AtLeast(1, "attempt", event.attempt());
  const auto phase = FromProto(event.phase());
  if (!phase) r.Fail("phase", fmt::format("{} is none", static_cast<int>(event.phase())));
  out.phase = phase.value_or(Phase::kAccepted);
  const bool exists = out.phase != Phase::kAccepted && out.phase != Phase::kDone;
  out.snapshot_uid = exists ? r.Text("snapshot_uid", event.snapshot_uid()) : event.snapshot_uid();
  if (event.has_created()) out.created = r.Time("created", event.created());
  if (event.has_cut()) out.cut = r.Time("cut", event.cut());
  for (const std::string& uid : event.deleted_uids())
    out.deleted.push_back(r.Text("deleted_uids", uid));
  if (out.phase == Phase::kDone) {
    r.Present("status", event.has_status());
    out.status = FromProto(event.status());
  }
  return r.Finish(std::move(out));
}

}  // namespace

pb::ExecuteJobsRequest ToProto(const ToExecutor& message) {
  pb::ExecuteJobsRequest out;
  if (const auto* hello = std::get_if<SchedulerHello>(&message))
    *out.mutable_scheduler_hello() = ToProto(*hello);
  if (const auto* job = std::get_if<Job>(&message)) *out.mutable_snapshot_job() = ToProto(*job);
  if (const auto* cancel = std::get_if<CancelJob>(&message))
    *out.mutable_cancel_job() = ToProto(*cancel);
  if (std::holds_alternative<Heartbeat>(message)) out.mutable_heartbeat();
  return out;
}

pb::ExecuteJobsResponse ToProto(const ToScheduler& message) {
  pb::ExecuteJobsResponse out;
  if (const auto* hello = std::get_if<ExecutorHello>(&message))
    *out.mutable_executor_hello() = ToProto(*hello);
  if (const auto* event = std::get_if<JobEvent>(&message))
    *out.mutable_job_event() = ToProto(*event);
  if (std::holds_alternative<Draining>(message)) out.mutable_draining();
  if (std::holds_alternative<Heartbeat>(message)) out.mutable_heartbeat();
  return out;
}

absl::StatusOr<ToExecutor> FromProto(const pb::ExecuteJobsRequest& message) {
  switch (message.message_case()) {
    case pb::ExecuteJobsRequest::kSchedulerHello:
      return FromProto(message.scheduler_hello());
    case pb::ExecuteJobsRequest::kSnapshotJob:
      return FromProto(message.snapshot_job());
    case pb::ExecuteJobsRequest::kCancelJob:
      return FromProto(message.cancel_job());
    case pb::ExecuteJobsRequest::kHeartbeat:
      return Heartbeat{};
    case pb::ExecuteJobsRequest::MESSAGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "message: missing, or of a kind that this release does not know");
}

absl::StatusOr<ToScheduler> FromProto(const pb::ExecuteJobsResponse& message) {
  switch (message.message_case()) {
    case pb::ExecuteJobsResponse::kExecutorHello:
      return FromProto(message.executor_hello());
    case pb::ExecuteJobsResponse::kJobEvent:
      return FromProto(message.job_event());
    case pb::ExecuteJobsResponse::kDraining:
      return Draining{};
    case pb::ExecuteJobsResponse::kHeartbeat:
      return Heartbeat{};
    case pb::ExecuteJobsResponse::MESSAGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "message: missing, or of a kind that this release does not know");
}

JobEvent RefusedEvent(std::string job_id, int attempt, absl::Status why) {
  JobEvent event;
  event.job_id = std::move(job_id);
  event.attempt = attempt;
  event.phase = Phase::kDone;
  event.status = std::move(why);
  return event;
}

}  // namespace snapkeeper
