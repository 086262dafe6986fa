// A job to take one snapshot, from the stream to the control plane and back.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/executor/world.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using Code = absl::StatusCode;

constexpr char kPost[] = "create VolumeSnapshot";
constexpr char kGet[] = "get VolumeSnapshot";
constexpr char kGetContent[] = "get VolumeSnapshotContent";
constexpr char kDelete[] = "delete VolumeSnapshot";

constexpr absl::Duration kSecond = absl::Seconds(1);

class CreateRunnerTest : public ::testing::Test {
 protected:
  explicit CreateRunnerTest(StoreOptions store = {}) : world(store) {}
  void SetUp() override {
    world.Sync();
    scheduler = world.Connect();
    scheduler->Hello();
  }

  JobEvent Done(const std::string& job_id = "job") {
    const auto done = scheduler->DoneOf(job_id);
    EXPECT_TRUE(done.has_value()) << "still under way: " << scheduler->PhasesOf(job_id);
    return done.value_or(JobEvent());
  }
  void ExpectDone(Code code, Reason reason, const std::string& message,
                  const std::string& job_id = "job") {
    const JobEvent done = Done(job_id);
    EXPECT_THAT(done.status, StatusIs(code, HasSubstr(message)));
    EXPECT_EQ(ReasonOf(done.status), reason);
  }

  World world;
  std::unique_ptr<TestStream> scheduler;
};

TEST_F(CreateRunnerTest, TellsEachPhaseWhenItComesAndAsksTheServerTwice) {
  world.Behave({.bind_after = kSecond, .cut_after = 2 * kSecond, .ready_after = 3 * kSecond});
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job", job);
  world.Run();
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Created");
  world.Run(3 * kSecond);
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Created Cut");
  world.Run(3 * kSecond);
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Created Cut Ready Done");

  const JobEvent done = Done();
  EXPECT_THAT(done.status, IsOk());
  EXPECT_EQ(done.snapshot_uid, world.Find(job)->meta.uid);
  EXPECT_EQ(done.created, world.Find(job)->meta.created);
  EXPECT_EQ(done.cut, world.Find(job)->cut_time);
  EXPECT_EQ(world.faults.count[kPost], 1);
  EXPECT_EQ(world.faults.count[kGet], 0);
  EXPECT_EQ(world.faults.count[kGetContent], 1);
}

TEST_F(CreateRunnerTest, MeasuresThePhasesAndLogsEachTransitionWithItsNames) {
  world.Behave({.cut_after = 2 * kSecond, .ready_after = 3 * kSecond});
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job-7", job);
  world.Run(5 * kSecond);
  const std::string labels = R"({driver="sim.snapkeeper.io",result="Ok"})";
  EXPECT_EQ(world.Metric("snapkeeper_snapshot_create_seconds_count" + labels), "1");
  EXPECT_EQ(world.Metric("snapkeeper_snapshot_cut_seconds_sum" + labels), "2");
  EXPECT_EQ(world.Metric("snapkeeper_snapshot_ready_seconds_sum" + labels), "5");
  EXPECT_EQ(world.Metric(R"(snapkeeper_executor_attempts_total{kind="create",result="Ok"})"), "1");
  for (const std::string msg : {"accepted", "created", "cut", "ready"}) {
    EXPECT_THAT(world.log.lines,
                Contains(AllOf(HasSubstr("msg=" + msg), HasSubstr("job=job-7"),
                               HasSubstr("policy=default/hourly"), HasSubstr("claim=data-0"),
                               HasSubstr("snapshot=" + job.name))));
  }
}

TEST_F(CreateRunnerTest, ALostReplyIsLookedUpOnceAndTheObjectAdopted) {
  const CreateSnapshot job = world.CreateJob();
  world.faults.Next(kPost, Fault::LoseReply());
  scheduler->SendJob("job", job);
  world.Run(30 * kSecond);
  EXPECT_THAT(Done().status, IsOk());
  EXPECT_EQ(Done().snapshot_uid, world.Find(job)->meta.uid);
  EXPECT_EQ(world.faults.count[kPost], 1);
  EXPECT_EQ(world.faults.count[kGet], 1);
}

TEST_F(CreateRunnerTest, ALostRequestEndsTheAttemptAndTheNextOnePosts) {
  const CreateSnapshot job = world.CreateJob();
  world.faults.Next(kPost, Fault::Hang());
  scheduler->SendJob("job", job);
  world.Run(30 * kSecond);
  ExpectDone(Code::kDeadlineExceeded, Reason::kNone, "no answer");
  EXPECT_TRUE(IsRetryable(Done().status));
  EXPECT_EQ(world.Find(job), nullptr);

  scheduler->SendJob("job", job, 2);
  world.Run();
  EXPECT_THAT(Done().status, IsOk());
  EXPECT_EQ(Done().attempt, 2);
  EXPECT_EQ(world.faults.count[kPost], 2);
}

TEST_F(CreateRunnerTest, WhatTheServerHasRefusedIsNotLookedUp) {
  world.faults.Next(
      kPost, Fault::Fail(WithRetryAfter(absl::ResourceExhaustedError("slow down"), kSecond)));
  scheduler->SendJob("job", world.CreateJob());
  world.Run();
  ExpectDone(Code::kResourceExhausted, Reason::kNone, "slow down");
  EXPECT_EQ(RetryAfterOf(Done().status), kSecond);
  EXPECT_EQ(world.faults.count[kGet], 0);
  EXPECT_EQ(
      world.Metric(
          R"(snapkeeper_snapshot_create_seconds_count{driver="sim.snapkeeper.io",result="RESOURCE_EXHAUSTED"})"),
      "1");
}

TEST_F(CreateRunnerTest, AJobThatComesOutOfAFreezePastPostBeforeIsNotPosted) {
  const CreateSnapshot job = world.CreateJob();
  world.Freeze(absl::Minutes(2));
  scheduler->SendJob("job", job);
  world.Run();
  ExpectDone(Code::kDeadlineExceeded, Reason::kNone, "is not posted after");
  EXPECT_EQ(world.faults.count[kPost], 0);
}

TEST_F(CreateRunnerTest, APostThatArrivesPastPostBeforeIsRefusedByTheAdmissionPolicy) {
  CreateSnapshot job = world.CreateJob();
  job.post_before = world.Now() + 5 * kSecond;
  world.faults.Next(kPost, {.request_delay = 10 * kSecond});
  scheduler->SendJob("job", job);
  world.Run(10 * kSecond);
  ExpectDone(Code::kDeadlineExceeded, Reason::kNone, "posted too late");
  EXPECT_TRUE(IsRetryable(Done().status));
  EXPECT_EQ(world.Find(job), nullptr);
}

class WithoutAdmissionPolicyTest : public CreateRunnerTest {
 protected:
  WithoutAdmissionPolicyTest() : CreateRunnerTest({.post_before_admission = false}) {}
};

TEST_F(WithoutAdmissionPolicyTest, WhatWasCreatedPastPostBeforeIsDeletedAndFinal) {
  CreateSnapshot job = world.CreateJob();
  job.post_before = world.Now() + 5 * kSecond;
  world.faults.Next(kPost, {.request_delay = 10 * kSecond, .reply_delay = kSecond});
  scheduler->SendJob("job", job);
  world.Run(11 * kSecond);
  ExpectDone(Code::kDeadlineExceeded, Reason::kDeadlineExceeded, "it was deleted");
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Done");
  EXPECT_EQ(Done().snapshot_uid, "");
  EXPECT_EQ(world.Find(job), nullptr);
}

TEST_F(WithoutAdmissionPolicyTest, TheSecondOfPostBeforeItselfIsInTime) {
  CreateSnapshot job = world.CreateJob();
  job.post_before = world.Now() + 5 * kSecond;
  world.faults.Next(kPost, {.request_delay = 5 * kSecond + absl::Milliseconds(999)});
  scheduler->SendJob("job", job);
  world.Run(6 * kSecond);
  EXPECT_THAT(Done().status, IsOk());
}

TEST_F(WithoutAdmissionPolicyTest, WhatHasTakenItsPlaceMeanwhileIsNotDeleted) {
  CreateSnapshot job = world.CreateJob();
  job.post_before = world.Now() + 5 * kSecond;
  world.faults.Next(kPost, {.request_delay = 10 * kSecond});
  world.faults.Next(kDelete, {.request_delay = 10 * kSecond});
  scheduler->SendJob("job", job);
  world.Run(15 * kSecond);
  world.Delete(job);
  world.Run(kSecond);
  const std::string uid = world.PostAsAnother(job);
  world.Run(10 * kSecond);
  ExpectDone(Code::kDeadlineExceeded, Reason::kDeadlineExceeded, "deleting it failed");
  ASSERT_NE(world.Find(job), nullptr);
  EXPECT_EQ(world.Find(job)->meta.uid, uid);
}

TEST_F(WithoutAdmissionPolicyTest, AFailureToDeleteItIsTold) {
  CreateSnapshot job = world.CreateJob();
  job.post_before = world.Now() + 5 * kSecond;
  world.faults.Next(kPost, {.request_delay = 10 * kSecond});
  world.faults.Next(kDelete, Fault::Fail(absl::UnavailableError("down")));
  scheduler->SendJob("job", job);
  world.Run(10 * kSecond);
  ExpectDone(Code::kDeadlineExceeded, Reason::kDeadlineExceeded, "deleting it failed: down");
}

TEST_F(CreateRunnerTest, AdoptsWithoutARequestWhatTheCacheShows) {
  world.Behave({.ready_after = kSecond});
  const CreateSnapshot job = world.CreateJob();
  const std::string uid = world.PostAsAnother(job);
  world.Run();
  scheduler->SendJob("job", job);
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Created Cut");
  world.Run(kSecond);
  EXPECT_EQ(Done().snapshot_uid, uid);
  EXPECT_THAT(Done().status, IsOk());
  EXPECT_EQ(world.faults.count[kPost] + world.faults.count[kGet], 0);
  // When its phases began is not known here.
  EXPECT_EQ(
      world.Metric(
          R"(snapkeeper_snapshot_ready_seconds_count{driver="sim.snapkeeper.io",result="Ok"})"),
      "none");
}

TEST_F(CreateRunnerTest, AdoptsWhatTheCacheDoesNotShowYet) {
  world.simulator.BreakWatches("", WatchBreak::kStall);
  const CreateSnapshot job = world.CreateJob();
  world.PostAsAnother(job);
  scheduler->SendJob("job", job);
  world.Run();
  EXPECT_THAT(Done().status, IsOk());
  EXPECT_EQ(world.faults.count[kPost], 1);
  EXPECT_EQ(world.faults.count[kGet], 1);
}

TEST_F(CreateRunnerTest, AForeignObjectOfTheNameIsAConflictAndStaysUntouched) {
  const CreateSnapshot job = world.CreateJob();
  nlohmann::json foreign = SnapshotToJson(job);
  foreign["metadata"]["annotations"][std::string(kIdentityAnnotation)] = "something else";
  ASSERT_TRUE(world.simulator.store().Create(Kind::kSnapshot, foreign, "user").ok());
  foreign["metadata"].erase("labels");
  scheduler->SendJob("in cache", job);  // our label is on it
  scheduler->SendJob("job", job);
  world.Run();
  ExpectDone(Code::kFailedPrecondition, Reason::kNameConflict, "is not ours");
  EXPECT_EQ(ReasonOf(Done("in cache").status), Reason::kNameConflict);
  EXPECT_NE(world.Find(job), nullptr);
  EXPECT_EQ(world.faults.count[kDelete], 0);
}

TEST_F(CreateRunnerTest, ASnapshotThatIsBeingDeletedIsNotTakenAgain) {
  world.Behave({.delete_after = absl::Hours(1)});
  const CreateSnapshot job = world.CreateJob();
  world.PostAsAnother(job);
  world.Run();
  world.Delete(job);
  world.Run();
  ASSERT_TRUE(world.Find(job)->meta.deleting);
  scheduler->SendJob("job", job);
  ExpectDone(Code::kNotFound, Reason::kDeleted, "being deleted");
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Done");
}

TEST_F(CreateRunnerTest, ASnapshotDeletedWhileItIsAwaitedIsDeleted) {
  world.Behave({.never_ready = true});
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job", job);
  world.Run();
  world.Delete(job);
  world.Run();
  ExpectDone(Code::kNotFound, Reason::kDeleted, "it is not taken again");
  EXPECT_EQ(Done().snapshot_uid.size(), 36);
}

TEST_F(CreateRunnerTest, ASnapshotThatVanishedOrWasReplacedWhileTheWatchWasDownIsDeleted) {
  for (const bool replaced : {false, true}) {
    SCOPED_TRACE(replaced);
    world.Behave({.never_bound = true});
    const CreateSnapshot job = world.CreateJob();
    const std::string id = replaced ? "replaced" : "vanished";
    scheduler->SendJob(id, job);
    world.Run();
    world.simulator.BreakWatches("", WatchBreak::kStall);
    world.Delete(job);
    if (replaced) world.PostAsAnother(job);
    world.simulator.store().ExpireHistory();
    world.Run(absl::Minutes(5));
    ExpectDone(Code::kNotFound, Reason::kDeleted, "is gone", id);
  }
}

TEST_F(CreateRunnerTest, ASnapshotWhoseLabelWasTakenAwayIsNotCalledDeleted) {
  world.Behave({.never_ready = true});
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job", job);
  world.Run();
  world.Patch(Kind::kSnapshot, "default", job.name,
              {{"metadata", {{"labels", {{kManagedByLabel, nullptr}}}}}});
  world.Run();
  ExpectDone(Code::kFailedPrecondition, Reason::kNameConflict, "is not ours");
}

TEST_F(CreateRunnerTest, OneThatIsNeverReadyFailsAtItsDeadlineWithTheDriversWordsAndStays) {
  world.Behave({.never_ready = true, .error_text = "rpc error: disk full"});
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job", job);
  world.Run(absl::Minutes(10) - kSecond);
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Created Cut");
  EXPECT_EQ(world.faults.count[kGet], 0);
  world.Run(kSecond);
  ExpectDone(Code::kDeadlineExceeded, Reason::kNotReadyInTime, "rpc error: disk full");
  EXPECT_FALSE(IsRetryable(Done().status));
  EXPECT_EQ(Done().snapshot_uid, world.Find(job)->meta.uid);
  EXPECT_EQ(world.faults.count[kGet], 1);
  EXPECT_EQ(world.faults.count[kDelete], 0);
  EXPECT_EQ(
      world.Metric(
          R"(snapkeeper_snapshot_ready_seconds_count{driver="sim.snapkeeper.io",result="NotReadyInTime"})"),
      "1");
}

TEST_F(CreateRunnerTest, TheDriversLastWordsAreToldAlthoughTheyHaveGoneByTheDeadline) {
  world.Behave({.fail_creates = -1, .error_text = "rpc error: disk full"});
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job", job);
  world.Run(absl::Minutes(1));
  ASSERT_THAT(world.Find(job)->error, HasSubstr("rpc error: disk full"));
  world.Behave({.never_ready = true});
  world.Run(absl::Minutes(9));
  ASSERT_EQ(world.Find(job)->error, "");
  ExpectDone(Code::kDeadlineExceeded, Reason::kNotReadyInTime, "rpc error: disk full");
}

TEST_F(CreateRunnerTest, TheDeadlineOfAnAdoptedOneCountsFromItsOwnCreation) {
  world.Behave({.never_ready = true});
  const CreateSnapshot job = world.CreateJob();
  world.PostAsAnother(job);
  world.Run(absl::Minutes(9));
  scheduler->SendJob("job", job);
  world.Run(absl::Minutes(1));
  ExpectDone(Code::kDeadlineExceeded, Reason::kNotReadyInTime, "not ready within 10m");
}

TEST_F(CreateRunnerTest, AnErrorOnTheWayIsNoVerdict) {
  world.Behave({.fail_creates = 2, .error_text = "rpc error: busy"});
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job", job);
  world.Run(absl::Minutes(5));
  EXPECT_THAT(Done().status, IsOk());
}

TEST_F(CreateRunnerTest, ReadinessThatAStalledWatchConcealsIsFoundAtTheDeadline) {
  world.Behave({.ready_after = 10 * kSecond});
  CreateSnapshot job = world.CreateJob();
  job.ready_timeout = kSecond * 60;
  scheduler->SendJob("job", job);
  world.Run();
  world.simulator.BreakWatches("", WatchBreak::kStall);
  world.Run(kSecond * 60);
  EXPECT_THAT(Done().status, IsOk());
}

TEST_F(CreateRunnerTest, ADeadlineThatComesWhileTheServerIsDownIsAnotherAttemptsToJudge) {
  world.Behave({.never_ready = true});
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job", job);
  world.Run();
  world.faults.Next(kGet, Fault::Fail(absl::UnavailableError("down")));
  world.Run(absl::Minutes(10));
  ExpectDone(Code::kUnavailable, Reason::kNone, "down");
  EXPECT_TRUE(IsRetryable(Done().status));
}

TEST_F(CreateRunnerTest, AVolumeThatIsNotTheOnePreflightSawIsWrong) {
  CreateSnapshot job = world.CreateJob();
  job.target.volume_handle = "the-volume-before";
  scheduler->SendJob("job", job);
  world.Run();
  ExpectDone(Code::kFailedPrecondition, Reason::kWrongVolume, "the-volume-before");
  EXPECT_EQ(Done().snapshot_uid, world.Find(job)->meta.uid);
}

TEST_F(CreateRunnerTest, AMissingContentIsAskedForAgainWhenTheSnapshotChanges) {
  const CreateSnapshot job = world.CreateJob();
  world.faults.Next(kGetContent, Fault::Fail(absl::NotFoundError("no such content")));
  scheduler->SendJob("job", job);
  world.Run(kSecond);
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Created Cut");
  world.Patch(Kind::kSnapshot, "default", job.name,
              {{"metadata", {{"annotations", {{"touched", "yes"}}}}}});
  world.Run();
  EXPECT_THAT(Done().status, IsOk());
  EXPECT_EQ(world.faults.count[kGetContent], 2);
}

TEST_F(CreateRunnerTest, AMissingContentIsAskedForAgainAtTheDeadline) {
  const CreateSnapshot job = world.CreateJob();
  for (int i = 0; i < 2; ++i)
    world.faults.Next(kGetContent, Fault::Fail(absl::NotFoundError("no such content")));
  scheduler->SendJob("job", job);
  world.Run(absl::Minutes(10));
  ExpectDone(Code::kDeadlineExceeded, Reason::kNotReadyInTime, "does not exist");
  EXPECT_EQ(world.faults.count[kGetContent], 2);
}

TEST_F(CreateRunnerTest, AContentThatCannotBeReadEndsTheAttemptAndTheNextOneVerifies) {
  CreateSnapshot job = world.CreateJob();
  world.faults.Next(kGetContent, Fault::Fail(absl::UnavailableError("down")));
  scheduler->SendJob("job", job);
  world.Run();
  ExpectDone(Code::kUnavailable, Reason::kNone, "down");
  job.known_uid = Done().snapshot_uid;
  scheduler->SendJob("job", job, 2);
  world.Run();
  EXPECT_THAT(Done().status, IsOk());
  EXPECT_EQ(world.faults.count[kPost], 1);
}

TEST_F(CreateRunnerTest, AChangeDuringTheVerificationDoesNotRepeatItUnlessItMatters) {
  const CreateSnapshot job = world.CreateJob();
  world.faults.Next(kGetContent, {.reply_delay = 5 * kSecond});
  scheduler->SendJob("job", job);
  world.Run(kSecond);
  world.Patch(Kind::kSnapshot, "default", job.name,
              {{"metadata", {{"annotations", {{"touched", "yes"}}}}}});
  world.Run(4 * kSecond);
  EXPECT_THAT(Done().status, IsOk());
  EXPECT_EQ(world.faults.count[kGetContent], 1);
}

TEST_F(CreateRunnerTest, ADeletionDuringTheVerificationIsNotReportedAsReady) {
  world.Behave({.delete_after = absl::Hours(1)});
  const CreateSnapshot job = world.CreateJob();
  world.faults.Next(kGetContent, {.reply_delay = 5 * kSecond});
  scheduler->SendJob("job", job);
  world.Run(kSecond);
  world.Delete(job);
  world.Run(10 * kSecond);
  ExpectDone(Code::kNotFound, Reason::kDeleted, "being deleted");
}

TEST_F(CreateRunnerTest, TheDeadlineDuringTheVerificationDoesNotRepeatIt) {
  world.Behave({.ready_after = absl::Seconds(599)});
  const CreateSnapshot job = world.CreateJob();
  world.faults.Next(kGetContent, {.reply_delay = 5 * kSecond});
  scheduler->SendJob("job", job);
  world.Run(absl::Minutes(11));
  EXPECT_THAT(Done().status, IsOk());
  EXPECT_EQ(world.faults.count[kGetContent], 1);
  EXPECT_EQ(world.faults.count[kGet], 0);
}

TEST_F(CreateRunnerTest, AWatchThatOutrunsThePostsReplyIsNotLost) {
  const CreateSnapshot job = world.CreateJob();
  world.faults.Next(kPost, {.reply_delay = 10 * kSecond});
  scheduler->SendJob("job", job);
  world.Run(9 * kSecond);
  ASSERT_TRUE(world.Find(job)->ready_to_use);
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted");
  world.Run(kSecond);
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Created Cut Ready Done");
}

TEST_F(CreateRunnerTest, ADriverThatDoesNotTellWhenItCutIsStillTold) {
  world.Behave({.no_cut_time = true});
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job", job);
  world.Run();
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Created Cut Ready Done");
  EXPECT_EQ(Done().cut, world.Find(job)->meta.created);
}

TEST_F(CreateRunnerTest, ASnapshotThatWasSeenBeforeIsNeverPostedAgain) {
  CreateSnapshot job = world.CreateJob();
  job.known_uid = "11111111-1111-1111-1111-111111111111";
  scheduler->SendJob("job", job);
  world.Run();
  ExpectDone(Code::kNotFound, Reason::kDeleted, "is gone");
  EXPECT_EQ(world.faults.count[kPost], 0);
  EXPECT_EQ(world.faults.count[kGet], 1);
}

TEST_F(CreateRunnerTest, AClockThatJumpsAYearAheadDoesNotEndTheWaiting) {
  world.Behave({.ready_after = absl::Minutes(5)});
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job", job);
  world.Run();
  world.machine.set_offset(absl::Hours(8760));
  world.Run(absl::Minutes(4));
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Created Cut");
  world.Run(absl::Minutes(1));
  EXPECT_THAT(Done().status, IsOk());
}

// 20 s are within what two clocks may differ.
TEST_F(CreateRunnerTest, AClockThatIsSetForwardEndsNoWait) {
  world.Behave({.never_ready = true});
  scheduler->SendJob("job", world.CreateJob());
  world.Run();
  world.machine.set_offset(20 * kSecond);
  world.Run(absl::Minutes(10) - 2 * kSecond);  // Date headers are in whole seconds
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Created Cut");
  world.Run(3 * kSecond);
  ExpectDone(Code::kDeadlineExceeded, Reason::kNotReadyInTime, "not ready");
}

TEST_F(CreateRunnerTest, WhereAllClocksAreSetForwardTheDeadlineMovesWithinAMinute) {
  world.Behave({.never_ready = true});
  scheduler->SendJob("job", world.CreateJob());
  world.Run();
  world.clock.Step(absl::Minutes(5));
  scheduler->SendJob("other", world.CreateJob("data-1"));  // the server tells its time
  world.Run(absl::Minutes(6));
  ExpectDone(Code::kDeadlineExceeded, Reason::kNotReadyInTime, "not ready");
}

TEST_F(CreateRunnerTest, ManyThatWaitAskForNothing) {
  world.Behave({.never_ready = true});
  for (int i = 0; i < 50; ++i)
    scheduler->SendJob(fmt::format("job-{}", i), world.CreateJob(fmt::format("data-{}", i)));
  world.Run();
  EXPECT_EQ(world.Metric(R"(snapkeeper_executor_jobs{state="parked"})"), "50");
  EXPECT_EQ(world.Metric(R"(snapkeeper_executor_jobs{state="slots"})"), "0");
  world.faults.count.clear();
  world.Run(absl::Minutes(9));
  EXPECT_EQ(world.faults.count[kGet] + world.faults.count[kGetContent] + world.faults.count[kPost],
            0);
}

// Before the first LIST is in.
class UnsyncedTest : public CreateRunnerTest {
 protected:
  void SetUp() override {
    scheduler = world.Connect();
    scheduler->Hello();
  }
};

TEST_F(UnsyncedTest, PostsAtOnceForTheNameIsTheLock) {
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job", job);
  world.Run();
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Created");
  world.Sync();
  EXPECT_THAT(Done().status, IsOk());
}

TEST_F(UnsyncedTest, AdoptsWhatAnotherPosted) {
  const CreateSnapshot job = world.CreateJob();
  const std::string uid = world.PostAsAnother(job);
  world.Run();
  scheduler->SendJob("job", job);
  world.Run();
  EXPECT_EQ(Done().snapshot_uid, uid);
  EXPECT_THAT(Done().status, IsOk());
}

TEST_F(UnsyncedTest, AClockThatIsAYearAheadPostsNothingUntilItIsRight) {
  world.machine.set_offset(absl::Hours(8760));
  world.Sync();
  const CreateSnapshot job = world.CreateJob();
  CreateSnapshot misled = job;  // the scheduler's clock is wrong alike
  misled.post_before = world.loop.Now() + absl::Minutes(1);
  scheduler->SendJob("job", misled);
  world.Run();
  ExpectDone(Code::kUnavailable, Reason::kNone, "ahead of the API server's");
  EXPECT_TRUE(IsRetryable(Done().status));
  EXPECT_EQ(world.faults.count[kPost], 0);

  world.machine.set_offset(absl::ZeroDuration());
  scheduler->SendJob("job", job, 2);
  world.Run();
  EXPECT_THAT(Done().status, IsOk());
}

TEST_F(UnsyncedTest, OneThatWasSeenBeforeWaitsForTheListInsteadOfAsking) {
  CreateSnapshot job = world.CreateJob(), lost = world.CreateJob("data-1");
  job.known_uid = world.PostAsAnother(job);
  lost.known_uid = "11111111-1111-1111-1111-111111111111";
  scheduler->SendJob("job", job);
  scheduler->SendJob("lost", lost);
  world.Run(absl::Seconds(5));
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted");
  EXPECT_EQ(world.faults.count[kGet], 0);
  world.Sync();
  EXPECT_THAT(Done().status, IsOk());
  world.Run(absl::Minutes(1));
  EXPECT_EQ(ReasonOf(Done("lost").status), Reason::kDeleted);
}

TEST_F(CreateRunnerTest, WhatABrokenWatchLastShowedIsNoProofOfReadiness) {
  world.simulator.AddSnapshotClass("kept", kSimDriver, /*is_default=*/false, "Retain");
  CreateSnapshot job = world.CreateJob();
  job.target.snapshot_class = "kept";
  job.known_uid = world.PostAsAnother(job);
  world.Run(kSecond);
  ASSERT_TRUE(world.Find(job)->ready_to_use);
  for (int i = 0; i < 1000; ++i) {
    world.faults.Next("watch VolumeSnapshot", Fault::Fail(absl::UnavailableError("down")));
    world.faults.Next("list VolumeSnapshot", Fault::Fail(absl::UnavailableError("down")));
  }
  world.simulator.BreakWatches("", WatchBreak::kEnd);
  world.Run(kSecond);
  ASSERT_FALSE(world.reflector.health().ok());
  world.Delete(job);
  world.Run(kSecond);
  ASSERT_FALSE(world.Find(job));
  scheduler->SendJob("job", job);
  world.Run(kSecond);
  ExpectDone(Code::kNotFound, Reason::kDeleted, "is gone");
}

TEST_F(UnsyncedTest, OneThatWasSeenBeforeIsAnsweredAlthoughTheListNeverComes) {
  CreateSnapshot job = world.CreateJob();
  job.known_uid = world.PostAsAnother(job);
  for (int i = 0; i < 100000; ++i)
    world.faults.Next("list VolumeSnapshot", Fault::Fail(absl::PermissionDeniedError("no")));
  world.Sync();
  ASSERT_FALSE(world.reflector.synced());
  scheduler->SendJob("job", job);
  world.Run(2 * job.ready_timeout);
  EXPECT_TRUE(scheduler->DoneOf("job").has_value()) << scheduler->PhasesOf("job");
}

}  // namespace
}  // namespace snapkeeper
