// A prune job: the live check, and the deletes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/executor/world.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAreArray;
using Code = absl::StatusCode;

constexpr char kDelete[] = "delete VolumeSnapshot";
constexpr char kList[] = "list VolumeSnapshot";
constexpr char kGet[] = "get VolumeSnapshot";
constexpr char kGetPolicy[] = "get SnapshotPolicy";

// A policy that keeps the last two, and five ready snapshots of one claim, an hour apart.
class PruneRunnerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    world.Sync();
    scheduler = world.Connect();
    scheduler->Hello();
    const nlohmann::json policy = {{"apiVersion", "snapkeeper.io/v1alpha1"},
                                   {"kind", "SnapshotPolicy"},
                                   {"metadata", {{"namespace", "default"}, {"name", "hourly"}}},
                                   {"spec",
                                    {{"schedule", "0 * * * *"},
                                     {"selector", nlohmann::json::object()},
                                     {"retention", {{"keepLast", 2}}}}}};
    ASSERT_TRUE(world.simulator.store().Create(Kind::kPolicy, policy, "user").ok());
    world.policy_uid = Policy()->meta.uid;
    TakeHourly(5);
    world.faults.count.clear();
  }

  // The first `count` deletes take a second; half of one has passed.
  void SendWithSlowDeletes(int count) {
    for (int i = 0; i < count; ++i) world.faults.Next(kDelete, {.reply_delay = absl::Seconds(1)});
    Send(Plan());
    world.Run(absl::Milliseconds(500));
  }

  void TakeHourly(int count) {
    for (int i = 0; i < count; ++i) {
      snapshots.push_back(world.CreateJob());
      world.PostAsAnother(snapshots.back());
      world.Run(absl::Hours(1));
    }
  }

  std::shared_ptr<const snapkeeper::Policy> Policy() {
    return world.simulator.store().Find<snapkeeper::Policy>("default", "hourly");
  }
  std::string UidOf(int i) { return world.Find(snapshots[i])->meta.uid; }
  std::vector<std::string> UidsOf(const std::vector<int>& indices) {
    std::vector<std::string> uids;
    for (int i : indices) uids.push_back(UidOf(i));
    return uids;
  }
  std::vector<int> Left() {
    std::vector<int> left;
    for (size_t i = 0; i < snapshots.size(); ++i) {
      const auto snapshot = world.Find(snapshots[i]);
      if (snapshot && !snapshot->meta.deleting) left.push_back(static_cast<int>(i));
    }
    return left;
  }
  static PruneMember Member(const Snapshot& snapshot) {
    PruneMember member;
    member.name = snapshot.meta.name;
    member.uid = snapshot.meta.uid;
    member.bound_content = snapshot.bound_content;
    member.bound = true;
    member.posted_known = true;
    member.posted = snapshot.meta.created;
    return member;
  }
  // As the scheduler would plan it now: all but the newest two.
  PruneSnapshots Plan() {
    PruneSnapshots job;
    job.ns = "default";
    job.policy_name = "hourly";
    job.policy_uid = world.policy_uid;
    job.policy_generation = Policy()->meta.generation;
    job.planned_at = world.Now();
    job.quarantine = absl::Minutes(5);
    job.leader_since = world.Now() - absl::Hours(24);
    PruneSnapshots::Series& series = job.series.emplace_back();
    series.claim_uid = snapshots[0].identity.claim_uid;
    for (const CreateSnapshot& snapshot : snapshots) {
      series.members.push_back(Member(*world.Find(snapshot)));
      series.candidates.push_back(series.members.back().uid);
    }
    series.candidates.resize(std::max<size_t>(snapshots.size(), 2) - 2);
    return job;
  }
  void Send(PruneSnapshots job) { scheduler->SendJob("prune", std::move(job)); }
  JobEvent Done() {
    const auto done = scheduler->DoneOf("prune");
    EXPECT_TRUE(done.has_value()) << "still under way";
    return done.value_or(JobEvent());
  }
  void ExpectNothingDeleted(Code code, Reason reason, const std::string& message) {
    EXPECT_THAT(Done().status, StatusIs(code, HasSubstr(message)));
    EXPECT_EQ(ReasonOf(Done().status), reason);
    EXPECT_THAT(Done().deleted, IsEmpty());
    EXPECT_EQ(world.faults.count[kDelete], 0);
  }
  void Hold(int i) {
    world.Patch(Kind::kSnapshot, "default", snapshots[i].name,
                {{"metadata", {{"labels", {{kHoldKey, "true"}}}}}});
  }

  World world;
  std::unique_ptr<TestStream> scheduler;
  std::vector<CreateSnapshot> snapshots;  // oldest first
};

TEST_F(PruneRunnerTest, DeletesWhatBothPlansNameWithOneReadOfEach) {
  const std::vector<std::string> expected = UidsOf({0, 1, 2});
  Send(Plan());
  world.Run();
  EXPECT_THAT(Done().status, IsOk());
  EXPECT_THAT(Done().deleted, UnorderedElementsAreArray(expected));
  EXPECT_EQ(Left(), std::vector<int>({3, 4}));
  EXPECT_EQ(world.faults.count[kGetPolicy], 1);
  EXPECT_EQ(world.faults.count[kList], 1);
  EXPECT_EQ(world.faults.count[kGet], 0);
  EXPECT_EQ(world.faults.count[kDelete], 3);
  EXPECT_EQ(world.Metric(R"(snapkeeper_executor_deletes_total{result="Ok"})"), "3");
  EXPECT_EQ(world.Metric(R"(snapkeeper_executor_attempts_total{kind="prune",result="Ok"})"), "1");
  EXPECT_EQ(world.Metric(R"(snapkeeper_prune_seconds_count{result="Ok"})"), "1");
  EXPECT_THAT(
      world.log.lines,
      Contains(AllOf(HasSubstr("msg=deleted"), HasSubstr("job=prune"),
                     HasSubstr("policy=default/hourly"), HasSubstr("claim=data-0"),
                     HasSubstr("snapshot=" + snapshots[0].name), HasSubstr("rule=keepLast"))));
}

TEST_F(PruneRunnerTest, APolicyThatWasEditedDeletesNothing) {
  const PruneSnapshots job = Plan();
  world.Patch(Kind::kPolicy, "default", "hourly", {{"spec", {{"retention", {{"keepLast", 4}}}}}});
  Send(job);
  world.Run();
  ExpectNothingDeleted(Code::kFailedPrecondition, Reason::kPolicyChanged, "was edited");
}

TEST_F(PruneRunnerTest, APolicyThatWasSuspendedDeletesNothing) {
  world.Patch(Kind::kPolicy, "default", "hourly", {{"spec", {{"suspend", true}}}});
  Send(Plan());
  world.Run();
  ExpectNothingDeleted(Code::kFailedPrecondition, Reason::kPolicyChanged, "was suspended");
}

TEST_F(PruneRunnerTest, APolicyThatWasDeletedDeletesNothing) {
  const PruneSnapshots job = Plan();
  ASSERT_TRUE(
      world.simulator.store().Delete({Kind::kPolicy, "default", "hourly"}, {}, "user").ok());
  Send(job);
  world.Run();
  ExpectNothingDeleted(Code::kFailedPrecondition, Reason::kPolicyChanged, "was deleted");
}

TEST_F(PruneRunnerTest, ASnapshotThatNobodyKnewOfIsNotPruned) {
  const PruneSnapshots job = Plan();
  snapshots.push_back(world.CreateJob("data-0", world.Now() - absl::Hours(9)));
  world.PostAsAnother(snapshots.back());
  Send(job);
  world.Run();
  EXPECT_EQ(Left(), std::vector<int>({3, 4, 5}));
}

TEST_F(PruneRunnerTest, AHoldSetMeanwhileIsHonoured) {
  const PruneSnapshots job = Plan();
  Hold(1);
  Send(job);
  world.Run();
  EXPECT_EQ(Left(), std::vector<int>({1, 3, 4}));
}

TEST_F(PruneRunnerTest, ASurvivorDeletedMeanwhileLeavesOneMore) {
  const PruneSnapshots job = Plan();
  world.Delete(snapshots[4]);
  world.Run();
  Send(job);
  world.Run();
  EXPECT_EQ(Left(), std::vector<int>({2, 3}));
  EXPECT_EQ(world.faults.count[kGet], 1);  // it might have been of another origin
}

TEST_F(PruneRunnerTest, ASurvivorBoundToAnotherContentCountsForNothing) {
  PruneSnapshots job = Plan();
  job.series[0].members[4].bound_content = "the-one-before";
  Send(job);
  world.Run();
  EXPECT_EQ(Left(), std::vector<int>({2, 3, 4}));
}

TEST_F(PruneRunnerTest, AHoldSetBetweenTheListAndTheDeleteStopsThatDelete) {
  const std::vector<std::string> expected = UidsOf({1, 2});
  world.faults.Before(kDelete, [this] { Hold(0); });
  Send(Plan());
  world.Run();
  EXPECT_THAT(Done().status, IsOk());
  EXPECT_THAT(Done().deleted, UnorderedElementsAreArray(expected));
  EXPECT_EQ(Left(), std::vector<int>({0, 3, 4}));
}

TEST_F(PruneRunnerTest, ASnapshotReplacedBetweenTheListAndTheDeleteSurvives) {
  world.faults.Next(kList, {.reply_delay = absl::Seconds(5)});
  Send(Plan());
  world.Delete(snapshots[0]);
  world.Run();
  snapshots[0].post_before = world.Now() + absl::Seconds(60);
  world.PostAsAnother(snapshots[0]);
  world.Run(absl::Seconds(5));
  EXPECT_THAT(Done().status, IsOk());
  EXPECT_EQ(Done().deleted.size(), 2);
  EXPECT_EQ(Left(), std::vector<int>({0, 3, 4}));
}

TEST_F(PruneRunnerTest, ASnapshotThatIsGoneAlreadyIsNoError) {
  world.faults.Before(kDelete, [this] { world.Delete(snapshots[0]); });
  Send(Plan());
  world.Run();
  EXPECT_THAT(Done().status, IsOk());
  EXPECT_EQ(Done().deleted.size(), 2);
}

TEST_F(PruneRunnerTest, APlanIsVoidAfterAFreeze) {
  const PruneSnapshots job = Plan();
  world.Freeze(absl::Seconds(31));
  Send(job);
  world.Run();
  ExpectNothingDeleted(Code::kFailedPrecondition, Reason::kNone, "void");
  EXPECT_EQ(world.faults.count[kGetPolicy], 0);
}

TEST_F(PruneRunnerTest, APlanThatBecomesVoidDuringTheReadsDeletesNothing) {
  world.faults.Next(kGetPolicy, {.reply_delay = absl::Seconds(20)});
  world.faults.Next(kList, {.reply_delay = absl::Seconds(20)});
  Send(Plan());
  world.Run(absl::Seconds(40));
  ExpectNothingDeleted(Code::kFailedPrecondition, Reason::kNone, "void");
}

TEST_F(PruneRunnerTest, AFreezeBetweenTwoDeletesEndsThem) {
  TakeHourly(3);
  SendWithSlowDeletes(4);
  world.Freeze(absl::Seconds(60));
  world.Run();
  EXPECT_THAT(Done().status, StatusIs(Code::kFailedPrecondition, HasSubstr("void")));
  EXPECT_EQ(Done().deleted.size(), 4);
  EXPECT_EQ(Left(), std::vector<int>({4, 5, 6, 7}));
}

TEST_F(PruneRunnerTest, SendsFourDeletesAtOnceAndOldestFirst) {
  TakeHourly(5);
  SendWithSlowDeletes(8);
  EXPECT_EQ(world.faults.count[kDelete], 4);
  EXPECT_EQ(Left(), std::vector<int>({4, 5, 6, 7, 8, 9}));
  world.Run(absl::Seconds(2));
  EXPECT_EQ(Done().deleted.size(), 8);
}

TEST_F(PruneRunnerTest, AnErrorEndsTheJobWithWhatWasDeleted) {
  world.faults.Before(kDelete, [] {});
  world.faults.Next(kDelete, Fault::Fail(absl::UnavailableError("down")));
  Send(Plan());
  world.Run();
  EXPECT_THAT(Done().status, StatusIs(Code::kUnavailable, HasSubstr("down")));
  EXPECT_EQ(Done().deleted.size(), 2);  // three were on their way
  EXPECT_EQ(world.Metric(R"(snapkeeper_executor_deletes_total{result="UNAVAILABLE"})"), "1");
}

TEST_F(PruneRunnerTest, AReadThatFailsDeletesNothing) {
  for (const char* read : {kGetPolicy, kList}) {
    world.faults.Next(read, Fault::Fail(absl::UnavailableError("down")));
    scheduler->SendJob(read, Plan());
    world.Run();
    EXPECT_THAT(scheduler->DoneOf(read).value().status,
                StatusIs(Code::kUnavailable, HasSubstr("down")));
  }
  EXPECT_EQ(world.faults.count[kDelete], 0);
}

TEST_F(PruneRunnerTest, AClockThatIsAYearAheadDeletesNothing) {
  world.machine.set_offset(absl::Hours(8760));
  Send(Plan());
  world.Run();
  ExpectNothingDeleted(Code::kUnavailable, Reason::kNone, "ahead of the API server's");
}

TEST_F(PruneRunnerTest, CancelEndsItBeforeTheFirstDelete) {
  world.faults.Next(kList, {.reply_delay = absl::Seconds(5)});
  Send(Plan());
  CancelJob cancel;
  cancel.job_id = "prune";
  cancel.attempt = 1;
  scheduler->Send(cancel);
  ExpectNothingDeleted(Code::kCancelled, Reason::kNone, "cancelled");
  world.Run(absl::Seconds(10));
  EXPECT_EQ(world.faults.count[kDelete], 0);
}

TEST_F(PruneRunnerTest, DrainLetsDeletesOnTheirWayFinishAndSendsNoMore) {
  TakeHourly(5);
  SendWithSlowDeletes(4);
  bool drained = false;
  world.executor->Drain([&drained] { drained = true; });
  EXPECT_FALSE(scheduler->DoneOf("prune").has_value());
  world.Run(absl::Seconds(1));
  EXPECT_TRUE(drained);
  EXPECT_THAT(Done().status, StatusIs(Code::kUnavailable, HasSubstr("draining")));
  EXPECT_EQ(Done().deleted.size(), 4);
  EXPECT_EQ(world.faults.count[kDelete], 4);
}

// An orphan that never became ready, older than a ready snapshot of the same claim by other means.
TEST_F(PruneRunnerTest, DrainLetsTheLastDeletesFinish) {
  SendWithSlowDeletes(3);  // all of them
  bool drained = false;
  world.executor->Drain([&drained] { drained = true; });
  EXPECT_FALSE(scheduler->DoneOf("prune").has_value());
  world.Run(absl::Seconds(1));
  EXPECT_TRUE(drained);
  EXPECT_EQ(Done().deleted.size(), 3);
}

TEST_F(PruneRunnerTest, AForeignSurvivorJustifiesThePruningOfAnOldUnreadyOne) {
  world.simulator.AddSnapshotClass("broken", kSimDriver, /*is_default=*/false);
  world.simulator.volumes().SetBehaviour("broken", {.never_ready = true});
  snapshots = {world.CreateJob("data-1")};
  snapshots[0].target.snapshot_class = "broken";
  world.PostAsAnother(snapshots[0]);
  world.Run(absl::Hours(1));
  const nlohmann::json foreign = {{"apiVersion", "snapshot.storage.k8s.io/v1"},
                                  {"kind", "VolumeSnapshot"},
                                  {"metadata", {{"namespace", "default"}, {"name", "by-hand"}}},
                                  {"spec",
                                   {{"volumeSnapshotClassName", "fast"},
                                    {"source", {{"persistentVolumeClaimName", "data-1"}}}}}};
  ASSERT_TRUE(world.simulator.store().Create(Kind::kSnapshot, foreign, "user").ok());
  world.Run(absl::Hours(24));
  const auto by_hand = world.simulator.store().Find<Snapshot>("default", "by-hand");
  ASSERT_TRUE(by_hand->ready_to_use);
  ASSERT_FALSE(world.Find(snapshots[0])->ready_to_use);

  PruneSnapshots job = Plan();
  job.series[0].candidates = {UidOf(0)};
  job.series[0].members = {Member(*world.Find(snapshots[0])), Member(*by_hand)};
  job.series[0].members[0].bound = false;
  ASSERT_TRUE(
      world.simulator.store().Delete({Kind::kPolicy, "default", "hourly"}, {}, "user").ok());
  job.policy_gone = true;
  world.faults.count.clear();
  Send(job);
  world.Run();
  EXPECT_THAT(Done().status, IsOk());
  EXPECT_EQ(Done().deleted.size(), 1);
  EXPECT_EQ(world.faults.count[kGet], 1);
}

TEST_F(PruneRunnerTest, ALookUpThatFailsDeletesNothing) {
  PruneSnapshots job = Plan();
  PruneMember unlisted = job.series[0].members[0];
  unlisted.name = unlisted.uid = "by-hand";
  job.series[0].members.push_back(unlisted);
  world.faults.Next(kGet, Fault::Fail(absl::UnavailableError("down")));
  Send(job);
  world.Run();
  ExpectNothingDeleted(Code::kUnavailable, Reason::kNone, "down");
}

TEST_F(PruneRunnerTest, OrphansAreLeftAloneWhereThePolicyTurnsOutToExist) {
  PruneSnapshots job = Plan();
  job.policy_gone = true;
  Send(job);
  world.Run();
  ExpectNothingDeleted(Code::kFailedPrecondition, Reason::kPolicyChanged, "to exist");
}

}  // namespace
}  // namespace snapkeeper
