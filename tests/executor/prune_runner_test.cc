// A prune job: the live check, and the deletes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/executor/world.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;
using ::testing::UnorderedElementsAreArray;
using Code = absl::StatusCode;

constexpr char kDelete[] = "delete VolumeSnapshot";
constexpr char kList[] = "list VolumeSnapshot";
constexpr char kGet[] = "get VolumeSnapshot";
constexpr char kGetPolicy[] = "get SnapshotPolicy";

std::string ClaimOf(const std::string& snapshot) { return snapshot.substr(0, snapshot.rfind('-')); }

// What becomes of the deletes of single claims.
class SickClaims : public FaultPlan {
 public:
  explicit SickClaims(FaultPlan& others) : others_(others) {}

  Fault OnRequest(std::string_view user, Verb verb, const ObjectKey& key) override {
    const Fault fault = others_.OnRequest(user, verb, key);
    if (verb != Verb::kDelete) return fault;
    asked.push_back(key.name);
    const auto it = sick.find(ClaimOf(key.name));
    return it == sick.end() ? fault : it->second;
  }
  EventFault OnEvent(std::string_view, Kind) override { return {}; }

  std::map<std::string, Fault> sick;
  std::vector<std::string> asked;  // names of snapshots, of all claims

 private:
  FaultPlan& others_;
};

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
    world.simulator.SetFaultPlan(&deletes);
  }

  // The first `count` deletes take a second; half of one has passed.
  void SendWithSlowDeletes(int count) {
    for (int i = 0; i < count; ++i) world.faults.Next(kDelete, {.reply_delay = absl::Seconds(1)});
    Send(Plan());
    world.Run(absl::Milliseconds(500));
  }

  void TakeHourly(int count, const std::vector<std::string>& claims = {"data-0"}) {
    for (int i = 0; i < count; ++i) {
      for (const std::string& claim : claims) {
        snapshots.push_back(world.CreateJob(claim));
        world.PostAsAnother(snapshots.back());
      }
      world.Run(absl::Hours(1));
    }
  }
  // Claims "more-0", ..., each with so many snapshots to prune.
  void AddClaims(int count, int prunable) {
    std::vector<std::string> claims;
    for (int i = 0; i < count; ++i) claims.push_back(fmt::format("more-{}", i));
    TakeHourly(prunable + 2, claims);
  }
  // In the order of a plan.
  std::vector<std::string> Claims() {
    std::map<std::string, std::string> by_uid;
    for (const CreateSnapshot& snapshot : snapshots)
      by_uid[snapshot.identity.claim_uid] = snapshot.target.claim;
    std::vector<std::string> claims;
    for (const auto& [uid, claim] : by_uid) claims.push_back(claim);
    return claims;
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
  std::map<std::string, int> LeftByClaim() {
    std::map<std::string, int> left;
    for (const int i : Left()) ++left[snapshots[i].target.claim];
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
  // As the scheduler would plan it now: all but the newest two of each claim.
  PruneSnapshots Plan() {
    PruneSnapshots job;
    job.ns = "default";
    job.policy_name = "hourly";
    job.policy_uid = world.policy_uid;
    job.policy_generation = Policy()->meta.generation;
    job.planned_at = world.Now();
    job.quarantine = absl::Minutes(5);
    job.leader_since = world.Now() - absl::Hours(24);
    std::map<std::string, PruneSnapshots::Series> by_claim;
    for (const int i : Left()) {
      PruneSnapshots::Series& series = by_claim[snapshots[i].identity.claim_uid];
      series.members.push_back(Member(*world.Find(snapshots[i])));
      series.candidates.push_back(series.members.back().uid);
    }
    for (auto& [claim_uid, series] : by_claim) {
      series.claim_uid = claim_uid;
      series.candidates.resize(std::max<size_t>(series.candidates.size(), 2) - 2);
      job.series.push_back(std::move(series));
    }
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
  SickClaims deletes{world.faults};
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
  AddClaims(3, 1);
  SendWithSlowDeletes(4);
  world.Freeze(absl::Seconds(60));
  world.Run();
  EXPECT_THAT(Done().status, StatusIs(Code::kFailedPrecondition, HasSubstr("void")));
  EXPECT_EQ(Done().deleted.size(), 4);
  EXPECT_EQ(world.faults.count[kDelete], 4);
}

TEST_F(PruneRunnerTest, SendsFourDeletesAtOnceAndOneOfAClaim) {
  AddClaims(5, 2);
  SendWithSlowDeletes(13);
  ASSERT_EQ(deletes.asked.size(), 4);
  const std::set<std::string> claims = {ClaimOf(deletes.asked[0]), ClaimOf(deletes.asked[1]),
                                        ClaimOf(deletes.asked[2]), ClaimOf(deletes.asked[3])};
  EXPECT_EQ(claims.size(), 4);
  world.Run(absl::Seconds(5));
  EXPECT_EQ(Done().deleted.size(), 13);
}

TEST_F(PruneRunnerTest, DeletesTheOldestOfEachClaimBeforeTheSecondOldestOfAny) {
  AddClaims(5, 3);
  std::map<std::string, std::vector<std::string>> by_claim;
  for (const CreateSnapshot& snapshot : snapshots)
    by_claim[snapshot.target.claim].push_back(snapshot.name);
  Send(Plan());
  world.Run();
  ASSERT_EQ(deletes.asked.size(), 18);
  for (int turn = 0; turn < 3; ++turn) {
    std::vector<std::string> expected;
    for (const auto& [claim, names] : by_claim) expected.push_back(names[turn]);
    const auto first = deletes.asked.begin() + 6 * turn;
    EXPECT_THAT(std::vector<std::string>(first, first + 6), UnorderedElementsAreArray(expected));
  }
}

TEST_F(PruneRunnerTest, AnErrorEndsTheDeletesOfItsClaimAlone) {
  AddClaims(2, 3);
  deletes.sick["data-0"] = Fault::Fail(absl::UnavailableError("down"));
  Send(Plan());
  world.Run();
  EXPECT_THAT(LeftByClaim(),
              UnorderedElementsAre(Pair("data-0", 5), Pair("more-0", 2), Pair("more-1", 2)));
  EXPECT_THAT(Done().status, StatusIs(Code::kUnavailable, HasSubstr("down")));
  EXPECT_EQ(Done().deleted.size(), 6);
  EXPECT_EQ(world.Metric(R"(snapkeeper_executor_deletes_total{result="UNAVAILABLE"})"), "1");
}

TEST_F(PruneRunnerTest, ADeleteThatHangsHoldsUpNoOtherClaim) {
  TakeHourly(1);
  AddClaims(2, 3);
  deletes.sick["data-0"] = Fault::Hang();
  Send(Plan());
  world.Run();
  EXPECT_THAT(LeftByClaim(),
              UnorderedElementsAre(Pair("data-0", 6), Pair("more-0", 2), Pair("more-1", 2)));
  world.Run(absl::Seconds(30));
  EXPECT_THAT(Done().status, StatusIs(Code::kDeadlineExceeded));
  EXPECT_EQ(Done().deleted.size(), 6);
}

// Five of eight fill all places as long as a plan is valid.
TEST_F(PruneRunnerTest, PlansBeginWithDifferentClaims) {
  AddClaims(7, 3);
  const std::vector<std::string> claims = Claims();
  for (int i = 0; i < 5; ++i) deletes.sick[claims[i]] = Fault::Hang();
  for (int i = 0; i < 10; ++i) {
    scheduler->SendJob(fmt::format("1-{}", i), Plan());
    world.Run(absl::Seconds(31));
  }
  for (int i = 5; i < 8; ++i) EXPECT_EQ(LeftByClaim()[claims[i]], 2);
}

TEST_F(PruneRunnerTest, DeletesThatHangLeaveOneToEachOtherPrune) {
  AddClaims(5, 1);
  for (const std::string& claim : Claims()) deletes.sick[claim] = Fault::Hang();
  for (int i = 0; i < 6; ++i) scheduler->SendJob(fmt::format("hangs-{}", i), Plan());
  world.Run();
  EXPECT_EQ(deletes.asked.size(), 16 + 2);
  scheduler->Leave();
  scheduler = world.Connect();
  scheduler->Hello();
  deletes.asked.clear();
  Send(Plan());
  world.Run();
  EXPECT_EQ(deletes.asked.size(), 4);
}

TEST_F(PruneRunnerTest, GoesOnWhenOtherPrunesAreThrough) {
  AddClaims(3, 1);
  for (const std::string& claim : Claims())
    deletes.sick[claim] = Fault::Hang(absl::Seconds(5));  // of four prunes
  for (int i = 0; i < 4; ++i) scheduler->SendJob(fmt::format("slow-{}", i), Plan());
  world.Run();
  for (const std::string& claim : Claims()) deletes.sick[claim] = Fault::Hang(absl::Seconds(60));
  deletes.asked.clear();
  Send(Plan());
  world.Run();
  ASSERT_EQ(deletes.asked.size(), 1);
  world.Run(absl::Seconds(7));
  EXPECT_EQ(deletes.asked.size(), 4);
}

TEST_F(PruneRunnerTest, ErrorsThatConcernAllClaimsEndTheJob) {
  AddClaims(19, 1);
  struct Case {
    absl::Status status;
    int times;
  };
  const Case cases[] = {
      {absl::ResourceExhaustedError("slow down"), 1},
      {absl::UnauthenticatedError("who are you"), 1},
      {absl::UnavailableError("down"), 2},
  };
  for (const auto& [status, times] : cases) {
    deletes.asked.clear();
    for (int i = 0; i < times; ++i) world.faults.Next(kDelete, Fault::Fail(status));
    const std::string job(status.message());
    scheduler->SendJob(job, Plan());
    world.Run();
    EXPECT_EQ(scheduler->DoneOf(job).value().status, status);
    EXPECT_LE(deletes.asked.size(), 5) << job;
  }
}

TEST_F(PruneRunnerTest, TellsTheLongestTimeToWait) {
  AddClaims(2, 1);
  for (int i = 0; i < 3; ++i) {
    deletes.sick[Claims()[i]] =
        Fault::Fail(WithRetryAfter(absl::UnavailableError("busy"), absl::Seconds(i == 1 ? 20 : 5)));
  }
  Send(Plan());
  world.Run();
  EXPECT_EQ(RetryAfterOf(Done().status), absl::Seconds(20));
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
  AddClaims(4, 1);
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

TEST_F(PruneRunnerTest, DrainLetsTheLastDeletesFinish) {
  for (int i = 0; i < 2; ++i) world.faults.Next(kDelete, Fault());
  SendWithSlowDeletes(1);  // the third and last
  bool drained = false;
  world.executor->Drain([&drained] { drained = true; });
  EXPECT_FALSE(scheduler->DoneOf("prune").has_value());
  world.Run(absl::Seconds(1));
  EXPECT_TRUE(drained);
  EXPECT_EQ(Done().deleted.size(), 3);
}

// An orphan that never became ready, older than a ready snapshot of the same claim by other means.
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
