#include "common/grpc/convert.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "common/grpc/limits.h"
#include "scheduler/pruner.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using executor::v1::ExecuteJobsRequest;
using executor::v1::ExecuteJobsResponse;
using testing::HasSubstr;
using testing::StartsWith;

const absl::Time kNoon = absl::FromUnixSeconds(1'763'812'800);

CreateSnapshot Create() {
  CreateSnapshot create;
  create.identity = {"policy-uid", "20251122T120000Z", "claim-uid"};
  create.name = SnapshotName(create.identity, "data-0");
  create.policy = "shop/hourly";
  create.run = "namespaces/shop/policies/hourly/runs/20251122T120000Z";
  create.trigger = "schedule";
  create.target = {.ns = "shop",
                   .claim = "data-0",
                   .claim_uid = "claim-uid",
                   .snapshot_class = "fast",
                   .driver = "csi.example.com",
                   .volume_handle = "vol-1",
                   .source_json = R"({"labels":{},"spec":{"note":"größer"}})"};
  create.post_before = kNoon + absl::Nanoseconds(123'456'789);
  create.ready_timeout = absl::Minutes(10) + absl::Milliseconds(5);
  create.known_uid = "snapshot-uid";
  return create;
}

PruneSnapshots Prune() {
  PruneSnapshots prune;
  prune.ns = "shop";
  prune.policy_name = "hourly";
  prune.policy_uid = "policy-uid";
  prune.policy_gone = true;
  prune.policy_generation = 1LL << 40;
  prune.planned_at = kNoon;
  prune.quarantine = absl::Minutes(5);
  prune.leader_since = kNoon - absl::Hours(7);
  prune.second_newest_due = kNoon - absl::Hours(1);
  PruneMember old;
  old.name = "old";
  old.uid = "1";
  old.bound_content = "snapcontent-1";
  old.bound = old.posted_known = true;
  old.posted = kNoon - absl::Hours(2);
  PruneMember unposted;
  unposted.name = "new";
  unposted.uid = "2";
  unposted.pinned = unposted.retained = true;
  prune.series = {{.claim_uid = "claim-uid",
                   .claim_exists = false,
                   .members = {old, unposted},
                   .candidates = {"1"}},
                  {.claim_uid = "other", .claim_exists = true, .members = {}, .candidates = {}}};
  return prune;
}

Job JobOf(std::variant<CreateSnapshot, PruneSnapshots> work) {
  return {.job_id = "7/policy-uid/3", .attempt = 2, .epoch = kMaxEpoch, .work = std::move(work)};
}

JobEvent Event(Phase phase) {
  JobEvent event;
  event.job_id = "7/policy-uid/3";
  event.attempt = 2;
  event.phase = phase;
  if (phase != Phase::kAccepted) {
    event.snapshot_uid = "snapshot-uid";
    event.created = kNoon;
  }
  if (phase != Phase::kAccepted && phase != Phase::kCreated)
    event.cut = kNoon - absl::Nanoseconds(1);
  return event;
}

TEST(ConvertTest, WhatTheSchedulerSendsSurvives) {
  PruneSnapshots bare = Prune();
  bare.policy_gone = false;
  bare.second_newest_due.reset();
  bare.series.clear();
  CreateSnapshot fresh = Create();
  fresh.known_uid.clear();
  fresh.target.source_json.clear();
  CreateSnapshot manual = Create();
  manual.identity.instant = manual.trigger = "manual";
  manual.name = SnapshotName(manual.identity, manual.target.claim);
  for (const ToExecutor& message : std::vector<ToExecutor>{
           SchedulerHello{
               .min_protocol = 1, .max_protocol = 3, .epoch = kMaxEpoch, .id = "scheduler-0"},
           JobOf(Create()),
           JobOf(fresh),
           JobOf(manual),
           JobOf(Prune()),
           JobOf(bare),
           CancelJob{.job_id = "7/policy-uid/3", .attempt = 2},
           Heartbeat{},
       }) {
    ExecuteJobsRequest wire;
    ASSERT_TRUE(wire.ParseFromString(ToProto(message).SerializeAsString()));
    EXPECT_THAT(FromProto(wire), IsOkAndHolds(message)) << wire.DebugString();
  }
}

TEST(ConvertTest, TheLargestPruneJobFitsIntoAMessage) {
  const std::string uid(36, 'u');
  PruneSnapshots prune = Prune();
  prune.series = {
      {.claim_uid = uid,
       .members = std::vector<PruneMember>(kMaxPruneMembers, {.name = std::string(63, 'n'),
                                                              .uid = uid,
                                                              .bound_content = "snapcontent-" + uid,
                                                              .bound = true,
                                                              .pinned = true,
                                                              .retained = true,
                                                              .posted_known = true,
                                                              .posted = kNoon}),
       .candidates = std::vector<std::string>(kMaxPruneMembers, uid)}};
  EXPECT_LT(ToProto(JobOf(prune)).ByteSizeLong(), kMaxMessageBytes);
}

TEST(ConvertTest, WhatTheExecutorSendsSurvives) {
  JobEvent pruned = Event(Phase::kDone);
  pruned.snapshot_uid.clear();
  pruned.deleted = {"1", "2"};
  JobEvent failed = Event(Phase::kDone);
  failed.status =
      WithRetryAfter(WithReason(absl::UnavailableError("API server: 503"), Reason::kApiUnavailable),
                     absl::Seconds(2));
  for (const ToScheduler& message : std::vector<ToScheduler>{
           ExecutorHello{.protocol = 1,
         .instance = "executor-0",
         .slots = 64,
         .parked_limit = 20'000,
         .open_jobs = {{"a", 1}, {"b", 5}}},
           ExecutorHello{.protocol = 2,
           .instance = "executor-1",
           .slots = 0,
           .parked_limit = 0,
           .open_jobs = {}},
           Event(Phase::kAccepted),
           Event(Phase::kCreated),
           Event(Phase::kCut),
           Event(Phase::kReady),
           Event(Phase::kDone),
           pruned,
           failed,
           Draining{},
           Heartbeat{},
       }) {
    ExecuteJobsResponse wire;
    ASSERT_TRUE(wire.ParseFromString(ToProto(message).SerializeAsString()));
    EXPECT_THAT(FromProto(wire), IsOkAndHolds(message)) << wire.DebugString();
  }
}

TEST(ConvertTest, SuccessIsSaidNotLeftOut) {
  const auto done = ToProto(ToScheduler(Event(Phase::kDone)));
  EXPECT_TRUE(done.job_event().has_status());
  EXPECT_EQ(done.job_event().status().code(), 0);
  EXPECT_FALSE(ToProto(ToScheduler(Event(Phase::kReady))).job_event().has_status());
}

// Each row edits a good message and names what the refusal must say.
TEST(ConvertTest, ABadRequestIsRefusedByTheNameOfItsField) {
  const ExecuteJobsRequest hello = ToProto(
      ToExecutor(SchedulerHello{.min_protocol = 1, .max_protocol = 1, .epoch = 1, .id = "x"}));
  const ExecuteJobsRequest create = ToProto(ToExecutor(JobOf(Create())));
  const ExecuteJobsRequest prune = ToProto(ToExecutor(JobOf(Prune())));
  const ExecuteJobsRequest cancel = ToProto(ToExecutor(CancelJob{.job_id = "x", .attempt = 1}));
  struct Case {
    const ExecuteJobsRequest& good;
    std::function<void(ExecuteJobsRequest&)> edit;
    std::string message;
  };
#define EDIT [](ExecuteJobsRequest & m)
#define HELLO m.mutable_scheduler_hello()
#define JOB m.mutable_snapshot_job()
#define CREATE JOB->mutable_create_snapshot()
#define PRUNE JOB->mutable_prune_snapshots()
  for (const Case& c : std::vector<Case>{
           {hello, EDIT { m.Clear();
}
, "message: missing"
}  // namespace
, {hello, EDIT{HELLO->clear_min_protocol();
}  // namespace snapkeeper
, "scheduler_hello.min_protocol: 0 is below 1"
}
, {hello, EDIT{HELLO->set_min_protocol(2);
}
, "scheduler_hello.max_protocol: 1 is below 2"
}
, {hello, EDIT{HELLO->set_epoch(-1);
}
, "scheduler_hello.epoch: -1 is below 0"
}
, {hello, EDIT{HELLO->set_epoch(kMaxEpoch + 1);
}
, "scheduler_hello.epoch: 2147483648 is above 2147483647"
}
, {hello, EDIT{HELLO->clear_id();
}
, "scheduler_hello.id: missing"
}
, {hello, EDIT{HELLO->set_id(std::string(254, 'x'));
}
, "scheduler_hello.id: longer than 253 bytes"
}
, {hello, EDIT{HELLO->set_id("a\nb");
}
, "scheduler_hello.id: holds a control character"
}
, {create, EDIT{JOB->clear_job_id();
}
, "snapshot_job.job_id: missing"
}
, {create, EDIT{JOB->set_job_id(std::string(254, 'x'));
}
, "snapshot_job.job_id: longer than 253 bytes"
}
, {create, EDIT{JOB->clear_attempt();
}
, "snapshot_job.attempt: 0 is below 1"
}
, {create, EDIT{JOB->set_epoch(-1);
}
, "snapshot_job.epoch: -1 is below 0"
}
, {create, EDIT{JOB->set_epoch(kMaxEpoch + 1);
}
, "snapshot_job.epoch: 2147483648 is above 2147483647"
}
, {create, EDIT{CREATE->clear_identity();
}
, "create_snapshot.identity.policy_uid: missing"
}
, {create, EDIT{CREATE->mutable_identity()->clear_instant();
}
, "create_snapshot.identity.instant: missing"
}
, {create, EDIT{CREATE->mutable_identity()->clear_claim_uid();
}
, "create_snapshot.identity.claim_uid: missing"
}
, {create, EDIT{CREATE->clear_name();
}
, "create_snapshot.name: missing"
}
, {create, EDIT{CREATE->set_name("data-0-abc");
}
, "create_snapshot.name: does not follow from identity and target.claim"
}
, {create, EDIT{CREATE->mutable_identity()->set_policy_uid("another");
}
, "create_snapshot.name: does not follow"
}
, {create, EDIT{CREATE->mutable_target()->set_claim("data-1");
}
, "create_snapshot.name: does not follow"
}
, {create, EDIT{CREATE->mutable_target()->set_claim_uid("another");
}
, "create_snapshot.target.claim_uid: is not identity.claim_uid"
}
, {create, EDIT{CREATE->set_trigger("manual");
}
, "create_snapshot.trigger: does not belong to identity.instant"
}
, {create, EDIT{CREATE->mutable_identity()->set_instant("tomorrow");
}
, "create_snapshot.identity.instant: neither"
}
, {create, EDIT{CREATE->clear_trigger();
}
, "create_snapshot.trigger: missing"
}
, {create, EDIT{CREATE->clear_target();
}
, "create_snapshot.target.namespace: missing"
}
, {create, EDIT{CREATE->mutable_target()->clear_claim();
}
, "create_snapshot.target.claim: missing"
}
, {create, EDIT{CREATE->mutable_target()->clear_claim_uid();
}
, "create_snapshot.target.claim_uid: missing"
}
, {create, EDIT{CREATE->clear_post_before();
}
, "create_snapshot.post_before: missing"
}
, {create, EDIT{CREATE->mutable_post_before()->set_seconds(1LL << 50);
}
, "create_snapshot.post_before: not a time"
}
, {create, EDIT{CREATE->mutable_post_before()->set_nanos(-1);
}
, "create_snapshot.post_before: not a time"
}
, {create, EDIT{CREATE->clear_ready_timeout();
}
, "create_snapshot.ready_timeout: missing"
}
, {create, EDIT{CREATE->mutable_ready_timeout()->set_seconds(-1);
}
, "create_snapshot.ready_timeout: not a duration"
}
, {create, EDIT{CREATE->mutable_ready_timeout()->set_nanos(1 << 30);
}
, "create_snapshot.ready_timeout: not a duration"
}
, {prune, EDIT{PRUNE->clear_namespace_();
}
, "prune_snapshots.namespace: missing"
}
, {prune, EDIT{PRUNE->clear_policy_name();
}
, "prune_snapshots.policy_name: missing"
}
, {prune, EDIT{PRUNE->clear_policy_uid();
}
, "prune_snapshots.policy_uid: missing"
}
, {prune, EDIT{PRUNE->set_policy_generation(-1);
}
, "prune_snapshots.policy_generation: -1 is below 0"
}
, {prune, EDIT{PRUNE->clear_planned_at();
}
, "prune_snapshots.planned_at: missing"
}
, {prune, EDIT{PRUNE->clear_quarantine();
}
, "prune_snapshots.quarantine: missing"
}
, {prune, EDIT{PRUNE->mutable_quarantine()->set_seconds(-300);
}
, "prune_snapshots.quarantine: not a duration"
}
, {prune, EDIT{PRUNE->clear_leader_since();
}
, "prune_snapshots.leader_since: missing"
}
, {prune, EDIT{PRUNE->mutable_second_newest_due()->set_nanos(1'000'000'000);
}
, "prune_snapshots.second_newest_due: not a time"
}
, {prune, EDIT{PRUNE->mutable_series(1)->clear_claim_uid();
}
, "prune_snapshots.series.claim_uid: missing"
}
, {prune, EDIT{PRUNE->mutable_series(0)->mutable_members(1)->clear_name();
}
, "prune_snapshots.series.members.name: missing"
}
, {prune, EDIT{PRUNE->mutable_series(0)->mutable_members(1)->clear_uid();
}
, "prune_snapshots.series.members.uid: missing"
}
, {prune,
   EDIT{PRUNE->mutable_series(0)->mutable_members(0)->mutable_posted()->set_seconds(-(1LL << 50));
}
, "prune_snapshots.series.members.posted: not a time"
}
, {prune, EDIT{PRUNE->mutable_series(0)->add_candidate_uids("");
}
, "prune_snapshots.series.candidate_uids: missing"
}
, {cancel, EDIT{m.mutable_cancel_job()->clear_job_id();
}
, "cancel_job.job_id: missing"
}
, {cancel, EDIT{m.mutable_cancel_job()->set_attempt(-3);
}
, "cancel_job.attempt: -3 is below 1"
}
,
}) {
  ExecuteJobsRequest bad = c.good;
  ASSERT_THAT(FromProto(bad), IsOk());
  c.edit(bad);
  EXPECT_THAT(FromProto(bad), StatusIs(absl::StatusCode::kInvalidArgument, StartsWith(c.message)));
}
#undef EDIT
#undef HELLO
#undef JOB
#undef CREATE
#undef PRUNE
}

TEST(ConvertTest, ABadResponseIsRefusedByTheNameOfItsField) {
  const ExecuteJobsResponse hello = ToProto(ToScheduler(ExecutorHello{
      .protocol = 1, .instance = "x", .slots = 1, .parked_limit = 1, .open_jobs = {{"a", 1}}}));
  const ExecuteJobsResponse ready = ToProto(ToScheduler(Event(Phase::kReady)));
  JobEvent pruned = Event(Phase::kDone);
  pruned.deleted = {"1"};
  const ExecuteJobsResponse done = ToProto(ToScheduler(pruned));
  struct Case {
    const ExecuteJobsResponse& good;
    std::function<void(ExecuteJobsResponse&)> edit;
    std::string message;
  };
#define EDIT [](ExecuteJobsResponse & m)
#define HELLO m.mutable_executor_hello()
#define EVENT m.mutable_job_event()
  for (const Case& c : std::vector<Case>{
           {hello, EDIT { m.Clear();
}
, "message: missing"
}
, {hello, EDIT{HELLO->clear_protocol();
}
, "executor_hello.protocol: 0 is below 1"
}
, {hello, EDIT{HELLO->clear_instance();
}
, "executor_hello.instance: missing"
}
, {hello, EDIT{HELLO->set_instance(std::string(1, '\0'));
}
, "executor_hello.instance: holds a control character"
}
, {hello, EDIT{HELLO->set_slots(-1);
}
, "executor_hello.slots: -1 is below 0"
}
, {hello, EDIT{HELLO->set_parked_limit(-1);
}
, "executor_hello.parked_limit: -1 is below 0"
}
, {hello, EDIT{HELLO->mutable_open_jobs(0)->clear_job_id();
}
, "executor_hello.open_jobs.job_id: missing"
}
, {hello, EDIT{HELLO->mutable_open_jobs(0)->clear_attempt();
}
, "executor_hello.open_jobs.attempt: 0 is below 1"
}
, {ready, EDIT{EVENT->clear_job_id();
}
, "job_event.job_id: missing"
}
, {ready, EDIT{EVENT->clear_attempt();
}
, "job_event.attempt: 0 is below 1"
}
, {ready, EDIT{EVENT->clear_phase();
}
, "job_event.phase: 0 is none"
}
, {ready, EDIT{EVENT->set_phase(static_cast<executor::v1::JobPhase>(17));
}
, "job_event.phase: 17 is none"
}
, {ready, EDIT{EVENT->clear_snapshot_uid();
}
, "job_event.snapshot_uid: missing"
}
, {ready, EDIT{EVENT->mutable_created()->set_nanos(-1);
}
, "job_event.created: not a time"
}
, {ready, EDIT{EVENT->mutable_cut()->set_seconds(1LL << 60);
}
, "job_event.cut: not a time"
}
, {done, EDIT{EVENT->clear_status();
}
, "job_event.status: missing"
}
, {done, EDIT{EVENT->add_deleted_uids("");
}
, "job_event.deleted_uids: missing"
}
,
}) {
  ExecuteJobsResponse bad = c.good;
  ASSERT_THAT(FromProto(bad), IsOk());
  c.edit(bad);
  EXPECT_THAT(FromProto(bad), StatusIs(absl::StatusCode::kInvalidArgument, StartsWith(c.message)));
}
#undef EDIT
#undef HELLO
#undef EVENT
}

TEST(ConvertTest, AJobOfAnUnknownKindIsUnimplemented) {
  ExecuteJobsRequest wire = ToProto(ToExecutor(JobOf(Create())));
  wire.mutable_snapshot_job()->clear_work();
  EXPECT_THAT(FromProto(wire),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("7/policy-uid/3")));

  // As it comes from a newer scheduler: field 15, which is none of ours.
  const std::string newer = wire.SerializeAsString();
  ExecuteJobsRequest job_only = wire;
  job_only.mutable_snapshot_job()
      ->GetReflection()
      ->MutableUnknownFields(job_only.mutable_snapshot_job())
      ->AddLengthDelimited(15, "x");
  ExecuteJobsRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(job_only.SerializeAsString()));
  EXPECT_THAT(FromProto(parsed), StatusIs(absl::StatusCode::kUnimplemented));
}

}  // namespace
}  // namespace snapkeeper
