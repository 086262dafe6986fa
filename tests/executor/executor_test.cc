// Sessions: who owns an executor, and which jobs it takes.

#include "executor/executor.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/model/clock.h"
#include "tests/executor/world.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using Code = absl::StatusCode;

constexpr char kPost[] = "create VolumeSnapshot";

class ExecutorTest : public ::testing::Test {
 protected:
  explicit ExecutorTest(ExecutorConfig config = {.instance = "executor-0"})
      : world({}, std::move(config)) {}
  void SetUp() override { world.Sync(); }

  World world;
};

TEST_F(ExecutorTest, AnswersHelloWithWhatItCanDo) {
  auto scheduler = world.Connect();
  scheduler->Hello();
  ASSERT_THAT(scheduler->received, SizeIs(1));
  ExecutorHello expected;
  expected.instance = "executor-0";
  expected.slots = 64;
  expected.parked_limit = 20000;
  EXPECT_EQ(std::get<ExecutorHello>(scheduler->received[0]), expected);
}

TEST_F(ExecutorTest, HelloComesFirstAndOnce) {
  auto impatient = world.Connect();
  impatient->Send(Heartbeat());
  EXPECT_THAT(impatient->closed.value(),
              StatusIs(Code::kInvalidArgument, HasSubstr("not a hello")));
  auto twice = world.Connect();
  twice->Hello().Hello();
  EXPECT_THAT(twice->closed.value(), StatusIs(Code::kInvalidArgument, HasSubstr("second hello")));
  twice->Send(Heartbeat());  // its transport has not noticed yet
}

TEST_F(ExecutorTest, RefusesASchedulerOfAnotherProtocol) {
  for (const auto& [min, max] : {std::pair(0, 0), std::pair(2, 3)}) {
    auto scheduler = world.Connect();
    SchedulerHello hello;
    hello.min_protocol = min;
    hello.max_protocol = max;
    scheduler->Send(hello);
    EXPECT_THAT(scheduler->closed.value(),
                StatusIs(Code::kUnimplemented, HasSubstr("this executor speaks 1")));
  }
  auto newer = world.Connect();
  SchedulerHello hello;
  hello.max_protocol = 9;
  newer->Send(hello);
  EXPECT_FALSE(newer->closed);
}

TEST_F(ExecutorTest, BelongsToTheHighestEpochEvenAfterItLeft) {
  auto first = world.Connect(), second = world.Connect(), late = world.Connect();
  first->Hello(1, "scheduler-0");
  second->Hello(2, "scheduler-1");
  EXPECT_THAT(first->closed.value(),
              StatusIs(Code::kFailedPrecondition, HasSubstr("scheduler-1 of epoch 2 took over")));
  second->Leave();
  late->Hello(1, "scheduler-0");
  EXPECT_THAT(late->closed.value(),
              StatusIs(Code::kFailedPrecondition,
                       HasSubstr("belongs to scheduler scheduler-1 of epoch 2")));
}

TEST_F(ExecutorTest, AnEpochHasOneScheduler) {
  auto first = world.Connect(), impostor = world.Connect();
  first->Hello(1, "scheduler-0");
  impostor->Hello(1, "scheduler-1");
  EXPECT_THAT(impostor->closed.value(),
              StatusIs(Code::kFailedPrecondition, HasSubstr("belongs to scheduler scheduler-0")));
  EXPECT_FALSE(first->closed);
}

TEST_F(ExecutorTest, ANewerStreamOfTheSameSchedulerReplacesTheOlder) {
  world.Behave({.never_ready = true});
  auto older = world.Connect(), newer = world.Connect();
  older->Hello();
  older->SendJob("job", world.CreateJob());
  world.Run();
  newer->Hello();
  EXPECT_THAT(older->closed.value(), StatusIs(Code::kUnavailable));
  EXPECT_EQ(world.Metric(R"(snapkeeper_executor_jobs{state="parked"})"), "0");
  older->Leave();
  world.Run(absl::Seconds(20));
  EXPECT_FALSE(newer->closed);
}

TEST_F(ExecutorTest, AHigherEpochEndsTheJobsOfTheLower) {
  world.Behave({.ready_after = absl::Seconds(5)});
  auto old_leader = world.Connect(), new_leader = world.Connect();
  old_leader->Hello(1, "scheduler-0");
  const CreateSnapshot job = world.CreateJob();
  old_leader->SendJob("1-0", job);
  world.Run();
  new_leader->Hello(2, "scheduler-1");
  EXPECT_EQ(world.Metric(R"(snapkeeper_executor_attempts_total{kind="create",result="CANCELLED"})"),
            "1");
  new_leader->SendJob("2-0", job);
  world.Run(absl::Seconds(5));
  EXPECT_EQ(old_leader->PhasesOf("1-0"), "Accepted Created Cut");
  EXPECT_EQ(new_leader->PhasesOf("2-0"), "Accepted Created Cut Ready Done");
  EXPECT_EQ(world.faults.count[kPost], 1);
}

TEST_F(ExecutorTest, SendsHeartbeatsAndClosesASilentStream) {
  auto scheduler = world.Connect();
  scheduler->Hello();
  world.Run(absl::Seconds(60));
  EXPECT_THAT(scheduler->All<Heartbeat>(), SizeIs(12));
  ASSERT_FALSE(scheduler->closed);
  scheduler->BeSilent();
  world.Run(absl::Seconds(14));
  EXPECT_FALSE(scheduler->closed);
  world.Run(absl::Seconds(1));
  EXPECT_THAT(scheduler->closed.value(), StatusIs(Code::kUnavailable, HasSubstr("silent for 15s")));
}

TEST_F(ExecutorTest, ClosesAStreamThatNeverSaysHello) {
  auto scheduler = world.Connect();
  world.Run(absl::Seconds(15));
  EXPECT_THAT(scheduler->closed.value(), StatusIs(Code::kUnavailable, HasSubstr("silent")));
}

TEST_F(ExecutorTest, AStreamThatEndsTakesItsJobsWithIt) {
  auto scheduler = world.Connect();
  scheduler->Hello();
  const CreateSnapshot job = world.CreateJob();
  world.faults.Next(kPost, {.reply_delay = absl::Seconds(5)});
  scheduler->SendJob("job", job);
  world.Run(absl::Seconds(1));
  scheduler->Leave();
  world.Run(absl::Seconds(30));
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted");
  EXPECT_NE(world.Find(job), nullptr);  // the name says what was done
  EXPECT_EQ(world.Metric(R"(snapkeeper_executor_jobs{state="slots"})"), "0");
}

TEST_F(ExecutorTest, AStreamMayOutliveTheExecutor) {
  auto scheduler = world.Connect();
  scheduler->Hello();
  scheduler->SendJob("job", world.CreateJob());
  world.executor.reset();
  scheduler->Send(Heartbeat());
  scheduler->Leave();
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted");
}

TEST_F(ExecutorTest, DuplicatesAndStaleAttemptsOfAJobAreIgnored) {
  world.Behave({.ready_after = absl::Seconds(5)});
  auto scheduler = world.Connect();
  scheduler->Hello();
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job", job, 2);
  scheduler->SendJob("job", job, 2);
  scheduler->SendJob("job", job, 1);
  world.Run();
  scheduler->SendJob("job", job, 2);
  world.Run(absl::Seconds(5));
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted/2 Created/2 Cut/2 Ready/2 Done/2");
  EXPECT_EQ(world.faults.count[kPost], 1);
}

TEST_F(ExecutorTest, AHigherAttemptTakesOverAndFindsWhatTheLowerDid) {
  world.Behave({.ready_after = absl::Seconds(5)});
  auto scheduler = world.Connect();
  scheduler->Hello();
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job", job);
  world.Run();
  scheduler->SendJob("job", job, 2);
  world.Run(absl::Seconds(5));
  EXPECT_EQ(scheduler->PhasesOf("job"),
            "Accepted Created Cut Accepted/2 Created/2 Cut/2 Ready/2 Done/2");
  EXPECT_EQ(world.faults.count[kPost], 1);
  EXPECT_EQ(world.Metric(R"(snapkeeper_executor_jobs{state="parked"})"), "0");
}

TEST_F(ExecutorTest, AHigherAttemptTakesOverWhileThePostIsOnItsWay) {
  auto scheduler = world.Connect();
  scheduler->Hello();
  const CreateSnapshot job = world.CreateJob();
  world.faults.Next(kPost, {.reply_delay = absl::Seconds(5)});
  scheduler->SendJob("job", job);
  scheduler->SendJob("job", job, 2);
  world.Run(absl::Seconds(10));
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Accepted/2 Created/2 Cut/2 Ready/2 Done/2");
}

TEST_F(ExecutorTest, AHigherAttemptRemembersThatTheObjectWasSeen) {
  world.Behave({.never_bound = true});
  auto scheduler = world.Connect();
  scheduler->Hello();
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("job", job);
  world.Run();
  world.simulator.BreakWatches("", WatchBreak::kStall);
  world.Delete(job);
  scheduler->SendJob("job", job, 2);
  world.Run(absl::Minutes(5));
  EXPECT_EQ(ReasonOf(scheduler->DoneOf("job").value().status), Reason::kDeleted);
  EXPECT_EQ(world.faults.count[kPost], 1);
}

TEST_F(ExecutorTest, AJobOfAnotherEpochThanItsStreamIsRefused) {
  auto scheduler = world.Connect();
  scheduler->Hello(2);
  Job job;
  job.job_id = "job";
  job.epoch = 1;
  job.work = world.CreateJob();
  scheduler->Send(job);
  EXPECT_THAT(scheduler->DoneOf("job").value().status,
              StatusIs(Code::kFailedPrecondition, HasSubstr("epoch 1")));
}

TEST_F(ExecutorTest, CancelDoesNotEndWhatIsPosted) {
  auto scheduler = world.Connect();
  scheduler->Hello();
  world.faults.Next(kPost, {.reply_delay = absl::Seconds(5)});
  scheduler->SendJob("job", world.CreateJob());
  CancelJob cancel;
  cancel.job_id = "job";
  cancel.attempt = 1;
  scheduler->Send(cancel);
  cancel.job_id = "unknown";
  scheduler->Send(cancel);
  world.Run(absl::Seconds(5));
  EXPECT_THAT(scheduler->DoneOf("job").value().status, IsOk());
}

TEST_F(ExecutorTest, CancelEndsWhatIsNotPostedYet) {
  auto scheduler = world.Connect();
  scheduler->Hello();
  world.clock.Step(absl::Hours(1));  // it asks for the server's time first
  world.faults.Next("get VolumeSnapshot", {.reply_delay = absl::Seconds(2)});
  scheduler->SendJob("job", world.CreateJob());
  CancelJob cancel;
  cancel.job_id = "job";
  cancel.attempt = 1;
  scheduler->Send(cancel);
  world.Run(absl::Seconds(2));
  EXPECT_THAT(scheduler->DoneOf("job").value().status, StatusIs(Code::kCancelled));
  EXPECT_EQ(world.faults.count[kPost], 0);
}

TEST_F(ExecutorTest, AnIdleOneLearnsThatEverybodysClockWasSet) {
  world.Sync();
  world.Run(absl::Minutes(1));
  EXPECT_EQ(world.faults.count["get VolumeSnapshot"], 0);
  for (const absl::Duration step : {absl::Hours(1), -absl::Hours(2)}) {
    world.clock.Step(step);
    ASSERT_FALSE(CheckClock(world.api->ClockOffset()).ok());
    world.Run(absl::Seconds(6));
    EXPECT_THAT(CheckClock(world.api->ClockOffset()), IsOk()) << step;
  }
}

TEST_F(ExecutorTest, CancelOfAnEarlierAttemptIsIgnored) {
  auto scheduler = world.Connect();
  scheduler->Hello();
  PruneSnapshots prune;
  prune.ns = "default";
  prune.planned_at = world.Now();
  world.faults.Next("get SnapshotPolicy", {.reply_delay = absl::Seconds(5)});
  scheduler->SendJob("job", prune, /*attempt=*/2);
  CancelJob cancel;
  cancel.job_id = "job";
  cancel.attempt = 1;
  scheduler->Send(cancel);
  EXPECT_FALSE(scheduler->DoneOf("job").has_value());
  cancel.attempt = 2;
  scheduler->Send(cancel);
  EXPECT_THAT(scheduler->DoneOf("job").value().status, StatusIs(Code::kCancelled));
}

TEST_F(ExecutorTest, TwoJobsAboutOneObjectAreBothToldOfIt) {
  world.Behave({.ready_after = absl::Seconds(5)});
  auto scheduler = world.Connect();
  scheduler->Hello();
  const CreateSnapshot job = world.CreateJob();
  scheduler->SendJob("a", job);
  world.Run();
  scheduler->SendJob("b", job);
  world.Run(absl::Seconds(5));
  EXPECT_THAT(scheduler->DoneOf("a").value().status, IsOk());
  EXPECT_THAT(scheduler->DoneOf("b").value().status, IsOk());
  EXPECT_EQ(world.faults.count[kPost], 1);
}

class SmallExecutorTest : public ExecutorTest {
 protected:
  SmallExecutorTest() : ExecutorTest({.instance = "small", .slots = 2, .parked_limit = 3}) {}
  void SetUp() override {
    ExecutorTest::SetUp();
    scheduler = world.Connect();
    scheduler->Hello();
  }
  void ExpectRefused(const std::string& id, const std::string& why) {
    const absl::Status status = scheduler->DoneOf(id).value().status;
    EXPECT_THAT(status, StatusIs(Code::kResourceExhausted, HasSubstr(why)));
    EXPECT_EQ(ReasonOf(status), Reason::kNoExecutor);
    EXPECT_TRUE(IsRetryable(status));
    EXPECT_EQ(scheduler->PhasesOf(id), "Done");
  }
  std::unique_ptr<TestStream> scheduler;
};

TEST_F(SmallExecutorTest, RefusesMoreJobsThanItHasSlots) {
  for (int i = 0; i < 2; ++i) world.faults.Next(kPost, {.reply_delay = absl::Seconds(5)});
  for (int i = 0; i < 3; ++i)
    scheduler->SendJob(fmt::format("job-{}", i), world.CreateJob(fmt::format("data-{}", i)));
  ExpectRefused("job-2", "all of 2 slots are taken");
  EXPECT_EQ(world.Metric(R"(snapkeeper_executor_jobs{state="slots"})"), "2");
  world.Run(absl::Seconds(5));
  scheduler->SendJob("job-2", world.CreateJob("data-2"), 2);
  world.Run();
  EXPECT_THAT(scheduler->DoneOf("job-2").value().status, IsOk());
}

TEST_F(SmallExecutorTest, RefusesMoreJobsThanMayAwaitReadiness) {
  world.Behave({.never_ready = true});
  for (int i = 0; i < 4; ++i) {
    scheduler->SendJob(fmt::format("job-{}", i), world.CreateJob(fmt::format("data-{}", i)));
    world.Run();
  }
  ExpectRefused("job-3", "3 jobs await readiness");
  scheduler->SendJob("prune", PruneSnapshots());
  EXPECT_EQ(scheduler->PhasesOf("prune").substr(0, 8), "Accepted");
}

TEST_F(SmallExecutorTest, AJobWhoseSnapshotExistsTakesNoSlot) {
  for (int i = 0; i < 2; ++i) {
    world.faults.Next(kPost, Fault::Hang());
    scheduler->SendJob(fmt::format("job-{}", i), world.CreateJob(fmt::format("data-{}", i)));
  }
  CreateSnapshot job = world.CreateJob("data-2");
  job.known_uid = world.PostAsAnother(job);
  scheduler->SendJob("job-2", job);
  world.Run();
  EXPECT_THAT(scheduler->DoneOf("job-2").value().status, IsOk());
}

class DrainTest : public ExecutorTest {
 protected:
  void SetUp() override {
    ExecutorTest::SetUp();
    scheduler = world.Connect();
    scheduler->Hello();
  }
  void Drain() {
    world.executor->Drain([this] { drained = true; });
  }
  void ExpectHandedBack(const std::string& id) {
    const absl::Status status = scheduler->DoneOf(id).value().status;
    EXPECT_THAT(status, StatusIs(Code::kUnavailable, HasSubstr("draining")));
    EXPECT_TRUE(IsRetryable(status));
  }
  bool drained = false;
  std::unique_ptr<TestStream> scheduler;
};

TEST_F(DrainTest, AnIdleExecutorSaysSoAndClosesItsStreams) {
  auto silent = world.Connect();
  Drain();
  EXPECT_FALSE(drained);  // never from within
  world.Run();
  EXPECT_TRUE(drained);
  EXPECT_THAT(scheduler->All<Draining>(), SizeIs(1));
  EXPECT_THAT(scheduler->closed.value(), StatusIs(Code::kUnavailable, HasSubstr("draining")));
  EXPECT_THAT(silent->closed.value(), StatusIs(Code::kUnavailable));
  auto late = world.Connect();
  late->Hello();
  EXPECT_THAT(late->closed.value(), StatusIs(Code::kUnavailable, HasSubstr("draining")));
}

TEST_F(DrainTest, APostOnItsWayFinishesAndIsToldBeforeTheJobIsHandedBack) {
  const CreateSnapshot job = world.CreateJob();
  world.Behave({.ready_after = absl::Minutes(1)});
  world.faults.Next(kPost, {.reply_delay = absl::Seconds(5)});
  scheduler->SendJob("job", job);
  Drain();
  scheduler->SendJob("new", world.CreateJob("data-1"));
  ExpectHandedBack("new");
  world.Run(absl::Seconds(4));
  EXPECT_FALSE(drained);
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted");
  world.Run(absl::Seconds(1));
  EXPECT_TRUE(drained);
  EXPECT_EQ(scheduler->PhasesOf("job"), "Accepted Created Done");
  EXPECT_EQ(scheduler->EventsOf("job").back().snapshot_uid, world.Find(job)->meta.uid);
  ExpectHandedBack("job");
}

TEST_F(DrainTest, WhatOnlyWaitsIsHandedBackAtOnce) {
  world.Behave({.never_ready = true});
  for (int i = 0; i < 10; ++i)
    scheduler->SendJob(fmt::format("job-{}", i), world.CreateJob(fmt::format("data-{}", i)));
  world.Run();
  Drain();
  for (int i = 0; i < 10; ++i) ExpectHandedBack(fmt::format("job-{}", i));
  world.Run();
  EXPECT_TRUE(drained);
}

TEST_F(DrainTest, AVerificationOnItsWayFinishes) {
  world.faults.Next("get VolumeSnapshotContent", {.reply_delay = absl::Seconds(5)});
  scheduler->SendJob("job", world.CreateJob());
  world.Run();
  Drain();
  world.Run(absl::Seconds(5));
  EXPECT_TRUE(drained);
  EXPECT_THAT(scheduler->DoneOf("job").value().status, IsOk());
}

TEST_F(DrainTest, ASchedulerThatLeavesMeanwhileEndsIt) {
  world.faults.Next(kPost, Fault::Hang());
  scheduler->SendJob("job", world.CreateJob());
  Drain();
  scheduler->Leave();
  world.Run();
  EXPECT_TRUE(drained);
}

}  // namespace
}  // namespace snapkeeper
