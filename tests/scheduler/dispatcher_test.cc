#include "scheduler/dispatcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/metrics.h"
#include "common/model/reason.h"
#include "tests/support/matchers.h"
#include "tests/support/sim_waiter.h"

namespace snapkeeper {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

// An executor that does what the test says: it keeps what it is sent, and answers when told.
class ScriptedExecutor : public ExecutorClient {
 public:
  explicit ScriptedExecutor(EventLoop& loop, int slots) : loop_(loop), slots_(slots) {}

  const std::string& address() const override { return address_; }
  std::unique_ptr<ExecutorStream> Open(absl::AnyInvocable<void(ToScheduler)> message,
                                       absl::AnyInvocable<void(absl::Status)> closed) override {
    message_ = std::move(message);
    closed_ = std::move(closed);
    ++streams_;
    if (refuses_) loop_.Post([this] { Die(); });
    return std::make_unique<Stream>(*this);
  }

  // Names of snapshots whose jobs are here and not done, in the order of arrival.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const Job& job : jobs_) names.push_back(std::get<CreateSnapshot>(job.work).name);
    return names;
  }
  const Job& JobOf(const std::string& name) const {
    for (const Job& job : jobs_) {
      if (std::get<CreateSnapshot>(job.work).name == name) return job;
    }
    ADD_FAILURE() << "no job of " << name;
    return jobs_.front();
  }
  void Tell(const std::string& name, Phase phase, absl::Status status = absl::OkStatus()) {
    const Job job = JobOf(name);
    JobEvent event{
        .job_id = job.job_id, .attempt = job.attempt, .phase = phase, .status = std::move(status)};
    if (phase != Phase::kDone && phase != Phase::kAccepted) {
      event.snapshot_uid = "uid-" + name;
      event.created = loop_.Now();
    }
    if (phase == Phase::kDone)
      std::erase_if(jobs_, [&job](const Job& j) { return j.job_id == job.job_id; });
    message_(event);
  }
  void Say(JobEvent event) { message_(std::move(event)); }
  void Die() {
    jobs_.clear();
    auto closed = std::move(closed_);
    closed(absl::UnavailableError("gone"));
  }
  // From now on it takes no streams.
  void Refuse() {
    refuses_ = true;
    Die();
  }
  void StartDraining() { message_(Draining{}); }
  const std::vector<CancelJob>& cancelled() const { return cancelled_; }
  int streams() const { return streams_; }

  int parked_limit = 100;
  bool silent = false;  // answers no heartbeat

 private:
  class Stream : public ExecutorStream {
   public:
    explicit Stream(ScriptedExecutor& executor) : executor_(executor) {}
    void Send(ToExecutor message) override {
      if (executor_.refuses_) return;
      if (std::holds_alternative<SchedulerHello>(message)) {
        executor_.loop_.Post([&e = executor_] {
          e.message_(
              ExecutorHello{.instance = "x", .slots = e.slots_, .parked_limit = e.parked_limit});
        });
      } else if (const auto* job = std::get_if<Job>(&message)) {
        executor_.jobs_.push_back(*job);
      } else if (const auto* cancel = std::get_if<CancelJob>(&message)) {
        executor_.cancelled_.push_back(*cancel);
      } else if (!executor_.silent) {
        executor_.loop_.Post([&e = executor_] { e.message_(Heartbeat{}); });
      }
    }

   private:
    ScriptedExecutor& executor_;
  };

  EventLoop& loop_;
  const int slots_;
  const std::string address_ = "127.0.0.1:1";
  absl::AnyInvocable<void(ToScheduler)> message_;
  absl::AnyInvocable<void(absl::Status)> closed_;
  std::vector<Job> jobs_;
  std::vector<CancelJob> cancelled_;
  int streams_ = 0;
  bool refuses_ = false;
};

class DispatcherTest : public ::testing::Test {
 protected:
  explicit DispatcherTest(absl::Duration quarantine = absl::Minutes(5))
      : loop_(waiter_),
        rng_(1),
        metrics_("test"),
        scheduler_metrics_(metrics_),
        executor_(loop_, 4),
        pool_(loop_, rng_, log_, {&executor_}, kHeartbeatEvery),
        profiles_(*DriverProfiles::Parse("drivers: {narrow: {maxCreating: 2, readyTimeout: 2m}, "
                                         "quick: {readyTimeout: 10s}}")),
        dispatcher_(
            loop_, rng_, log_, scheduler_metrics_, pool_, profiles_, quarantine,
            [this](const CreateSnapshot& work) { return existing_[work.name]; },
            [this] { return loop_.Now() - clock_ahead_; }) {
    dispatcher_.Start(7);
    pool_.Start({.epoch = 7, .id = "test"},
                {.capacity = [this] { dispatcher_.OnCapacity(); },
                 .event = [this](const JobEvent& event) { dispatcher_.OnEvent(event); },
                 .lost = [this](const std::string& job,
                                const absl::Status& why) { dispatcher_.OnLost(job, why); },
                 .deposed = [](std::string) {}});
    Run(absl::ZeroDuration());
  }

  void Run(absl::Duration time) { RunFor(clock_, {&loop_}, time); }

  std::string Submit(const std::string& name, const std::string& claim,
                     const std::string& driver = "wide", absl::Duration deadline = absl::Minutes(5),
                     int order = 0, const std::string& known_uid = "") {
    Dispatcher::Create create;
    create.work = {
        .identity = {"policy", "20261122T150000Z", claim},
        .name = name,
        .target = {.ns = "default", .claim = claim, .claim_uid = claim, .driver = driver},
        .ready_timeout = absl::Minutes(10),
        .known_uid = known_uid};
    create.start_deadline = loop_.Now() + deadline;
    create.order = absl::UnixEpoch() + absl::Seconds(order);
    create.progress = [this, name](const JobEvent& event) {
      progress_[name].push_back(event.phase);
    };
    create.done = [this, name](const absl::Status& status) {
      done_.insert_or_assign(name, status);
    };
    return dispatcher_.Submit(std::move(create));
  }
  // Its snapshot exists, as an earlier leader left it.
  std::string SubmitExisting(const std::string& name, const std::string& claim,
                             const std::string& driver = "wide") {
    return Submit(name, claim, driver, absl::Minutes(5), 0, "uid-" + name);
  }
  // Both places of the driver are taken by snapshots that are never cut, and others wait for them.
  void SubmitBehindWhatHangs() {
    for (const std::string volume : {"0", "1"}) {
      Submit("hangs" + volume, "claim-" + volume, "narrow");
      Submit("next" + volume, "claim-" + volume, "narrow");
      executor_.Tell("hangs" + volume, Phase::kCreated);
    }
    Submit("healthy0", "claim-2", "narrow", absl::Minutes(5), /*order=*/1);
    Submit("healthy1", "claim-3", "narrow", absl::Minutes(5), /*order=*/2);
  }
  Snapshot& Exists(const std::string& name) {
    existing_[name] = std::make_shared<Snapshot>();
    existing_[name]->meta.uid = "uid-" + name;
    return *existing_[name];
  }
  absl::Status Retryable() { return absl::UnavailableError("the API server is away"); }

  SimClock clock_;
  SimWaiter waiter_{clock_};
  EventLoop loop_;
  Rng rng_;
  NullLog log_;
  Metrics metrics_;
  SchedulerMetrics scheduler_metrics_;
  ScriptedExecutor executor_;
  ExecutorPool pool_;
  DriverProfiles profiles_;
  std::map<std::string, std::shared_ptr<Snapshot>> existing_;
  absl::Duration clock_ahead_;
  Dispatcher dispatcher_;
  std::map<std::string, std::vector<Phase>> progress_;
  std::map<std::string, absl::Status> done_;
};

TEST_F(DispatcherTest, AJobGoesThroughItsPhasesOnce) {
  Submit("a", "claim-a");
  executor_.Tell("a", Phase::kAccepted);
  executor_.Tell("a", Phase::kCreated);
  executor_.Tell("a", Phase::kCreated);
  executor_.Tell("a", Phase::kCut);
  executor_.Tell("a", Phase::kReady);
  executor_.Tell("a", Phase::kDone);
  EXPECT_THAT(progress_["a"], ElementsAre(Phase::kCreated, Phase::kCut));
  EXPECT_THAT(done_.at("a"), IsOk());
  EXPECT_EQ(dispatcher_.posting(), 0);
}

TEST_F(DispatcherTest, TheSecondSnapshotOfAVolumeWaitsForTheCutOfTheFirst) {
  Submit("first", "claim-a");
  Submit("second", "claim-a");
  Submit("other", "claim-b");
  EXPECT_THAT(executor_.Names(), ElementsAre("first", "other"));
  executor_.Tell("first", Phase::kCreated);
  EXPECT_THAT(executor_.Names(), ElementsAre("first", "other"));
  executor_.Tell("first", Phase::kCut);
  EXPECT_THAT(executor_.Names(), ElementsAre("first", "other", "second"));
}

TEST_F(DispatcherTest, AFailedJobFreesItsLane) {
  Submit("first", "claim-a");
  Submit("second", "claim-a");
  executor_.Tell("first", Phase::kDone,
                 WithReason(absl::PermissionDeniedError("no"), Reason::kForbidden));
  EXPECT_THAT(done_.at("first"), StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(executor_.Names(), ElementsAre("second"));
}

TEST_F(DispatcherTest, ADriverHasNoMoreThanItsCapBetweenPostAndCut) {
  for (int i = 0; i < 4; ++i)
    Submit("n" + std::to_string(i), "claim-" + std::to_string(i), "narrow");
  Submit("w", "claim-w");
  EXPECT_THAT(executor_.Names(), ElementsAre("n0", "n1", "w"));
  executor_.Tell("n0", Phase::kCreated);
  EXPECT_THAT(executor_.Names(), SizeIs(3));
  executor_.Tell("n0", Phase::kCut);
  EXPECT_THAT(executor_.Names(), ElementsAre("n0", "n1", "w", "n2"));
}

TEST_F(DispatcherTest, WhatExistsButIsNotCutHoldsTheLaneOfItsVolume) {
  SubmitExisting("first", "claim-a");
  Submit("second", "claim-a");
  EXPECT_THAT(executor_.Names(), ElementsAre("first"));
  executor_.Tell("first", Phase::kCut);
  EXPECT_THAT(executor_.Names(), ElementsAre("first", "second"));
}

TEST_F(DispatcherTest, WhatExistsIsWaitedForBeyondTheCapAndCountsAgainstIt) {
  for (int i = 0; i < 3; ++i)
    SubmitExisting("e" + std::to_string(i), "claim-e" + std::to_string(i), "narrow");
  Submit("new", "claim-n", "narrow");
  EXPECT_THAT(executor_.Names(), ElementsAre("e0", "e1", "e2"));
  executor_.Tell("e0", Phase::kCut);
  EXPECT_THAT(executor_.Names(), ElementsAre("e0", "e1", "e2"));
  executor_.Tell("e1", Phase::kCut);
  EXPECT_THAT(executor_.Names(), ElementsAre("e0", "e1", "e2", "new"));
}

TEST_F(DispatcherTest, WhatIsNotCutInItsDriversTimeGivesItsPlaceToOthersHoweverLongItIsWaitedFor) {
  Submit("hangs0", "claim-0", "narrow");
  Submit("hangs1", "claim-1", "narrow");
  Submit("other", "claim-2", "narrow");
  executor_.Tell("hangs0", Phase::kCreated);
  executor_.Tell("hangs1", Phase::kCreated);
  Run(absl::Seconds(119));
  EXPECT_THAT(executor_.Names(), ElementsAre("hangs0", "hangs1"));
  Run(absl::Seconds(1));
  EXPECT_THAT(executor_.Names(), ElementsAre("hangs0", "hangs1", "other"));
  executor_.Tell("hangs0", Phase::kCut);
  executor_.Tell("hangs0", Phase::kDone);
  EXPECT_THAT(done_.at("hangs0"), IsOk());
}

// However long the policy that asked for it waits for it.
TEST_F(DispatcherTest, WhatIsNotCutInItsDriversTimeHoldsItsVolumeNoMore) {
  Submit("hangs", "claim-a", "narrow");
  Submit("other", "claim-a", "narrow", absl::Minutes(9));
  executor_.Tell("hangs", Phase::kCreated);
  Run(absl::Minutes(2) - absl::Seconds(1));
  ASSERT_THAT(executor_.Names(), ElementsAre("hangs"));
  Run(absl::Seconds(2));
  EXPECT_THAT(executor_.Names(), ElementsAre("hangs", "other"));
  executor_.Tell("hangs", Phase::kCut);
  executor_.Tell("hangs", Phase::kDone);
  EXPECT_THAT(done_.at("hangs"), IsOk());
}

// They would hang as the ones before them did, and have been protected longest ago.
TEST_F(DispatcherTest, WhatWaitedForOneThatWasNeverCutGoesAfterTheOthersOfItsDriver) {
  SubmitBehindWhatHangs();
  Run(absl::Minutes(2) + absl::Seconds(1));
  EXPECT_THAT(executor_.Names(), ElementsAre("hangs0", "hangs1", "healthy0", "healthy1"));
}

TEST_F(DispatcherTest, SoDoesWhatWaitedBehindThat) {
  for (const std::string volume : {"0", "1"}) {
    Submit("hangs" + volume, "claim-" + volume, "narrow");
    Submit("next" + volume, "claim-" + volume, "narrow", absl::Minutes(3));
    Submit("last" + volume, "claim-" + volume, "narrow", absl::Minutes(9));
    executor_.Tell("hangs" + volume, Phase::kCreated);
  }
  for (int i = 0; i < 6; ++i) {
    Submit("healthy" + std::to_string(i), "claim-h" + std::to_string(i), "narrow", absl::Minutes(9),
           /*order=*/1);
  }
  Run(absl::Minutes(2) + absl::Seconds(1));
  for (const std::string name : {"healthy0", "healthy1"}) executor_.Tell(name, Phase::kCreated);
  Run(absl::Minutes(1));
  ASSERT_THAT(done_, UnorderedElementsAre(Key("next0"), Key("next1")));
  for (const std::string name : {"healthy0", "healthy1"}) executor_.Tell(name, Phase::kCut);
  EXPECT_THAT(executor_.Names(),
              ElementsAre("hangs0", "hangs1", "healthy0", "healthy1", "healthy2", "healthy3"));
}

// By the verdict of its policy, which waits for less than its driver may take.
TEST_F(DispatcherTest, AndWhatWaitedForOneThatItsPolicyGaveUp) {
  SubmitBehindWhatHangs();
  for (const std::string name : {"hangs0", "hangs1"})
    executor_.Tell(name, Phase::kDone, NotReadyInTime(absl::Minutes(1), ""));
  EXPECT_THAT(executor_.Names(), ElementsAre("healthy0", "healthy1"));
}

TEST_F(DispatcherTest, WhatIsTakenUpHoldsItsVolumeForItsDriversTimeOnly) {
  SubmitExisting("found", "claim-a", "quick");
  Submit("other", "claim-a", "quick");
  ASSERT_THAT(executor_.Names(), ElementsAre("found"));
  Run(absl::Seconds(11));
  EXPECT_THAT(executor_.Names(), ElementsAre("found", "other"));
}

TEST_F(DispatcherTest, TheVolumeThatWasProtectedLongestAgoGoesFirst) {
  for (int i = 0; i < 4; ++i) Submit("x" + std::to_string(i), "claim-x" + std::to_string(i));
  Submit("newer", "claim-n", "wide", absl::Minutes(5), 20);
  Submit("older", "claim-o", "wide", absl::Minutes(5), 10);
  executor_.Tell("x0", Phase::kCreated);
  EXPECT_EQ(executor_.Names().back(), "older");
}

TEST_F(DispatcherTest, ARetryableFailureIsTriedAgainWithBackoff) {
  Submit("a", "claim-a");
  executor_.Tell("a", Phase::kDone, Retryable());
  EXPECT_THAT(executor_.Names(), IsEmpty());
  Run(absl::Seconds(1));
  ASSERT_THAT(executor_.Names(), ElementsAre("a"));
  EXPECT_EQ(executor_.JobOf("a").attempt, 2);
}

TEST_F(DispatcherTest, AJobThatWasRefusedForNowHoldsNoPlaceOfItsDriver) {
  for (int i = 0; i < 3; ++i)
    Submit("n" + std::to_string(i), "claim-" + std::to_string(i), "narrow");
  for (const std::string name : {"n0", "n1"}) executor_.Tell(name, Phase::kDone, Retryable());
  EXPECT_THAT(executor_.Names(), ElementsAre("n2"));
  Submit("lane", "claim-0", "narrow");
  Run(absl::Seconds(1));
  // The other one waits for its place again, and still holds its lane.
  EXPECT_THAT(executor_.Names(), SizeIs(2));
  executor_.Tell("n2", Phase::kCreated);
  executor_.Tell("n2", Phase::kCut);
  EXPECT_THAT(executor_.Names(), UnorderedElementsAre("n2", "n0", "n1"));
}

TEST_F(DispatcherTest, OneThatMayHaveBeenPostedHoldsItsPlace) {
  for (int i = 0; i < 3; ++i)
    Submit("n" + std::to_string(i), "claim-" + std::to_string(i), "narrow");
  for (const std::string name : {"n0", "n1"})
    executor_.Tell(name, Phase::kDone, absl::UnknownError("nobody knows"));
  EXPECT_THAT(executor_.Names(), IsEmpty());
  Run(absl::Seconds(1));
  EXPECT_THAT(executor_.Names(), UnorderedElementsAre("n0", "n1"));
}

TEST_F(DispatcherTest, WhereTheServerRefusesEverybodyNoOtherIsSentInstead) {
  for (const absl::Status& status :
       {absl::ResourceExhaustedError("slow down"), absl::UnauthenticatedError("expired")}) {
    const std::string code = absl::StatusCodeToString(status.code());
    for (const std::string name : {"a", "b", "c"}) Submit(code + name, code + name, "narrow");
    for (const std::string name : {"a", "b"}) executor_.Tell(code + name, Phase::kDone, status);
    EXPECT_THAT(executor_.Names(), IsEmpty());
    Run(absl::Seconds(1));
    EXPECT_THAT(executor_.Names(), UnorderedElementsAre(code + "a", code + "b"));
    for (const std::string name : {"a", "b", "c"}) {
      executor_.Tell(code + name, Phase::kCreated);
      executor_.Tell(code + name, Phase::kCut);
      executor_.Tell(code + name, Phase::kDone);
    }
  }
}

// A webhook that hangs, and leaves no snapshot.
TEST_F(DispatcherTest, WhatRanIntoItsDeadlineHoldsItsPlaceUntilItsNextAttemptOnly) {
  for (int i = 0; i < 4; ++i)
    Submit("n" + std::to_string(i), "claim-" + std::to_string(i), "narrow");
  for (const std::string name : {"n0", "n1"})
    executor_.Tell(name, Phase::kDone,
                   WithRetryAfter(absl::DeadlineExceededError("hangs"), absl::Seconds(5)));
  Run(absl::Seconds(4));
  EXPECT_THAT(executor_.Names(), IsEmpty());
  Run(absl::Seconds(4));
  EXPECT_THAT(executor_.Names(), ElementsAre("n2", "n3"));
}

TEST_F(DispatcherTest, WhatTurnsUpWhileItWaitsForItsNextAttemptCountsAgainstTheCap) {
  for (int i = 0; i < 4; ++i)
    Submit("n" + std::to_string(i), "claim-" + std::to_string(i), "narrow");
  executor_.Tell("n0", Phase::kDone, Retryable());
  ASSERT_THAT(executor_.Names(), ElementsAre("n1", "n2"));
  Exists("n0");
  Run(absl::Seconds(1));
  ASSERT_THAT(executor_.Names(), ElementsAre("n1", "n2", "n0"));
  EXPECT_EQ(std::get<CreateSnapshot>(executor_.JobOf("n0").work).known_uid, "uid-n0");
  EXPECT_THAT(progress_["n0"], ElementsAre(Phase::kCreated));
  executor_.Tell("n1", Phase::kCreated);
  executor_.Tell("n1", Phase::kCut);
  EXPECT_THAT(executor_.Names(), SizeIs(3));
  executor_.Tell("n0", Phase::kCut);
  EXPECT_THAT(executor_.Names(), ElementsAre("n1", "n2", "n0", "n3"));
}

TEST_F(DispatcherTest, AnExecutorIsAskedHoweverLongTheStartingDeadlineHasPassed) {
  Submit("a", "claim-a", "wide", -absl::Hours(1));
  Run(absl::Seconds(30));
  ASSERT_THAT(executor_.Names(), ElementsAre("a"));
  executor_.Tell("a", Phase::kDone, absl::DeadlineExceededError("it is too late"));
  EXPECT_THAT(done_.at("a"),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("it is too late")));
}

TEST_F(DispatcherTest, WhatFailedBeforeLetsOthersOfItsDriverGoFirst) {
  for (const std::string name : {"a", "b"}) Submit(name, "claim-" + name, "narrow");
  for (const std::string name : {"a", "b"}) executor_.Tell(name, Phase::kDone, Retryable());
  for (int i = 0; i < 3; ++i)
    Submit("n" + std::to_string(i), "claim-" + std::to_string(i), "narrow", absl::Minutes(5), 10);
  Run(absl::Seconds(1));
  executor_.Tell("n0", Phase::kCreated);
  executor_.Tell("n0", Phase::kCut);
  EXPECT_THAT(executor_.Names(), ElementsAre("n0", "n1", "n2"));
}

TEST_F(DispatcherTest, WhatFailedBeforeLetsOthersHaveTheSlot) {
  Submit("failed", "claim-f");
  executor_.Tell("failed", Phase::kDone, Retryable());
  for (int i = 0; i < 4; ++i) Submit("w" + std::to_string(i), "claim-w" + std::to_string(i));
  Run(absl::Seconds(1));
  Submit("late", "claim-l", "wide", absl::Minutes(5), 10);
  executor_.Tell("w0", Phase::kCreated);
  EXPECT_EQ(executor_.Names().back(), "late");
  executor_.Tell("w1", Phase::kCreated);
  EXPECT_EQ(executor_.Names().back(), "failed");
}

TEST_F(DispatcherTest, RetryAfterIsALowerBound) {
  Submit("a", "claim-a");
  executor_.Tell("a", Phase::kDone,
                 WithRetryAfter(absl::ResourceExhaustedError("slow down"), absl::Seconds(20)));
  Run(absl::Seconds(19));
  EXPECT_THAT(executor_.Names(), IsEmpty());
  Run(absl::Seconds(4));
  EXPECT_THAT(executor_.Names(), ElementsAre("a"));
}

TEST_F(DispatcherTest, AtTheStartingDeadlineTheLastCauseIsTold) {
  Submit("a", "claim-a", "wide", absl::Seconds(30));
  for (int i = 0; i < 60 && !done_.contains("a"); ++i) {
    if (!executor_.Names().empty()) executor_.Tell("a", Phase::kDone, Retryable());
    Run(absl::Seconds(1));
  }
  EXPECT_THAT(done_.at("a"),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("the API server is away")));
  EXPECT_EQ(ReasonOf(done_.at("a")), Reason::kDeadlineExceeded);
}

TEST_F(DispatcherTest, NoBackoffReachesBeyondTheStartingDeadline) {
  Submit("a", "claim-a", "wide", absl::Seconds(30));
  absl::Time tried = loop_.Now();
  const absl::Time deadline = tried + absl::Seconds(30);
  while (!done_.contains("a") && loop_.Now() < deadline) {
    if (!executor_.Names().empty()) {
      executor_.Tell("a", Phase::kDone, Retryable());
      tried = loop_.Now();
    }
    Run(absl::Milliseconds(10));
  }
  EXPECT_GE(tried, deadline - absl::Milliseconds(300));
  EXPECT_EQ(ReasonOf(done_.at("a")), Reason::kDeadlineExceeded);
}

TEST_F(DispatcherTest, WithoutAnExecutorTheJobEndsAtItsStartingDeadline) {
  executor_.Die();
  Submit("a", "claim-a", "wide", absl::Milliseconds(50));
  Run(absl::Milliseconds(60));
  EXPECT_THAT(done_.at("a"),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("no executor is connected")));
}

TEST_F(DispatcherTest, WhatHeldUpAJobThatWasNeverSentIsTold) {
  Submit("runs", "claim-a", "narrow");
  Submit("lane", "claim-a", "narrow", absl::Seconds(30));
  Submit("runs too", "claim-b", "narrow");
  Submit("cap", "claim-c", "narrow", absl::Seconds(30));
  Submit("third", "claim-d");
  Submit("fourth", "claim-e");
  Submit("slot", "claim-f", "wide", absl::Seconds(30));
  Run(absl::Seconds(31));
  EXPECT_THAT(done_.at("lane").message(),
              HasSubstr("another snapshot of PersistentVolumeClaim default/claim-a"));
  EXPECT_THAT(done_.at("cap").message(), HasSubstr("2 snapshots of driver narrow"));
  EXPECT_THAT(done_.at("slot").message(), HasSubstr("no executor has a free slot"));
}

TEST_F(DispatcherTest, WithoutAnExecutorThatIsWhatHeldUpEveryJob) {
  executor_.Refuse();
  for (const std::string name : {"a", "b", "c"})
    Submit(name, "claim-" + name, "narrow", absl::Seconds(30));
  Run(absl::Seconds(31));
  for (const std::string name : {"a", "b", "c"})
    EXPECT_THAT(done_.at(name).message(), HasSubstr("no executor is connected")) << name;
}

TEST_F(DispatcherTest, AnExecutorThatTwoAddressesLeadToHasOneStream) {
  ScriptedExecutor first(loop_, 4), second(loop_, 4);
  ExecutorPool pool(loop_, rng_, log_, {&first, &second}, kHeartbeatEvery);
  pool.Start({.epoch = 7, .id = "test"}, {.capacity = [] {},
                                          .event = [](const JobEvent&) {},
                                          .lost = [](const std::string&, const absl::Status&) {},
                                          .deposed = [](std::string) {}});
  Run(absl::ZeroDuration());
  first.Die();  // a newer stream of the same scheduler took over
  Run(absl::Minutes(10));
  EXPECT_EQ(first.streams(), 1);
  second.Die();
  Run(absl::Minutes(10));
  EXPECT_EQ(first.streams() + second.streams(), 3);
  EXPECT_EQ(pool.connected(), 1);
}

TEST_F(DispatcherTest, PostBeforeIsTheStartingDeadlineOrAMinute) {
  Submit("soon", "claim-a", "wide", absl::Seconds(10));
  Submit("later", "claim-b", "wide", absl::Hours(1));
  EXPECT_EQ(std::get<CreateSnapshot>(executor_.JobOf("soon").work).post_before,
            loop_.Now() + absl::Seconds(10));
  EXPECT_EQ(std::get<CreateSnapshot>(executor_.JobOf("later").work).post_before,
            loop_.Now() + absl::Seconds(60));
}

// It is the server that stops a late POST, and that says when a snapshot was made.
TEST_F(DispatcherTest, TimesOfSnapshotsAreTheServers) {
  clock_ahead_ = absl::Seconds(-20);
  Submit("a", "claim-a", "wide", absl::Seconds(1));
  EXPECT_EQ(std::get<CreateSnapshot>(executor_.JobOf("a").work).post_before,
            loop_.Now() + absl::Seconds(21));
  clock_ahead_ = absl::Seconds(20);
  Submit("b", "claim-b");
  executor_.Say({.job_id = executor_.JobOf("b").job_id,
                 .attempt = 1,
                 .phase = Phase::kCreated,
                 .snapshot_uid = "uid-b",
                 .created = loop_.Now() - clock_ahead_});
  Run(absl::Minutes(10));
  EXPECT_FALSE(done_.contains("b"));
  Run(absl::Seconds(10));
  EXPECT_THAT(done_.at("b"), StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST_F(DispatcherTest, ATimeOfTheServerThatIsFarOffEndsNothingAndFencesNoLater) {
  Submit("a", "claim-a");
  executor_.Tell("a", Phase::kCreated);
  clock_ahead_ = -absl::Hours(1);
  Run(absl::Minutes(2));
  EXPECT_FALSE(done_.contains("a"));
  Submit("b", "claim-b");
  EXPECT_EQ(std::get<CreateSnapshot>(executor_.JobOf("b").work).post_before,
            loop_.Now() + absl::Seconds(30 + 60));
}

class ShortQuarantineTest : public DispatcherTest {
 protected:
  ShortQuarantineTest() : DispatcherTest(absl::Seconds(20)) {}
};

TEST_F(ShortQuarantineTest, PostBeforeIsNoLaterThanHalfTheQuarantine) {
  Submit("a", "claim-a", "wide", absl::Hours(1));
  EXPECT_EQ(std::get<CreateSnapshot>(executor_.JobOf("a").work).post_before,
            loop_.Now() + absl::Seconds(10));
}

TEST_F(DispatcherTest, ALostJobGoesOutAgainAndKnowsWhatExists) {
  Submit("posted", "claim-a");
  Submit("sent", "claim-b");
  executor_.Tell("posted", Phase::kCreated);
  executor_.Die();
  Run(absl::Seconds(2));
  EXPECT_EQ(executor_.streams(), 2);
  EXPECT_THAT(executor_.Names(), ElementsAre("posted", "sent"));
  EXPECT_EQ(std::get<CreateSnapshot>(executor_.JobOf("posted").work).known_uid, "uid-posted");
  EXPECT_EQ(std::get<CreateSnapshot>(executor_.JobOf("sent").work).known_uid, "");
  EXPECT_EQ(executor_.JobOf("posted").attempt, 2);
}

TEST_F(DispatcherTest, ASilentExecutorIsGivenUpAfterThreeHeartbeats) {
  Submit("a", "claim-a");
  executor_.silent = true;
  Run(3 * kHeartbeatEvery - absl::Milliseconds(1));
  EXPECT_EQ(executor_.streams(), 1);
  Run(absl::Seconds(2));
  EXPECT_EQ(executor_.streams(), 2);
  EXPECT_EQ(executor_.Names().size(), 2u);  // it was sent again
}

TEST_F(DispatcherTest, AnExecutorThatDrainsIsSentNothing) {
  Submit("before", "claim-a");
  executor_.StartDraining();
  Submit("after", "claim-b");
  EXPECT_THAT(executor_.Names(), ElementsAre("before"));
}

TEST_F(DispatcherTest, AJobLostAfterItsStartingDeadlineEndsAtOnce) {
  Submit("a", "claim-a", "wide", absl::Seconds(2));
  Run(absl::Seconds(3));
  EXPECT_FALSE(done_.contains("a"));
  executor_.Die();
  ASSERT_TRUE(done_.contains("a"));
  EXPECT_EQ(ReasonOf(done_.at("a")), Reason::kDeadlineExceeded);
}

TEST_F(DispatcherTest, AfterTheDeadlineASnapshotThatTurnsUpIsTakenOver) {
  Submit("a", "claim-a", "wide", absl::Seconds(2));
  Exists("a");
  Run(absl::Seconds(2));
  executor_.Tell("a", Phase::kDone, absl::DeadlineExceededError("no answer"));
  Run(absl::Seconds(1));
  ASSERT_THAT(executor_.Names(), ElementsAre("a"));
  EXPECT_EQ(std::get<CreateSnapshot>(executor_.JobOf("a").work).known_uid, "uid-a");
}

TEST_F(DispatcherTest, WhatIsTakenOverWhileItWaitsIsWaitedForNoMore) {
  Submit("first", "claim-a");
  Submit("second", "claim-a", "wide", absl::Seconds(2));
  Exists("second");
  Run(absl::Seconds(2));
  ASSERT_THAT(executor_.Names(), ElementsAre("first", "second"));
  executor_.Tell("second", Phase::kDone);
  executor_.Tell("first", Phase::kCreated);
  executor_.Tell("first", Phase::kCut);  // the lane is free: nobody may be left in it
  EXPECT_THAT(executor_.Names(), ElementsAre("first"));
  Submit("third", "claim-a");
  EXPECT_THAT(executor_.Names(), ElementsAre("first", "third"));
}

TEST_F(DispatcherTest, NotReadyInTimeIsFinalAlthoughItsCodeIsRetryable) {
  Submit("a", "claim-a");
  executor_.Tell("a", Phase::kCreated);
  executor_.Tell("a", Phase::kDone,
                 WithReason(absl::DeadlineExceededError("disk on fire"), Reason::kNotReadyInTime));
  EXPECT_EQ(ReasonOf(done_.at("a")), Reason::kNotReadyInTime);
}

TEST_F(DispatcherTest, WithoutAnExecutorsVerdictTheReadyDeadlineStillComes) {
  Submit("a", "claim-a");
  executor_.Tell("a", Phase::kCreated);
  Run(absl::Minutes(10));
  EXPECT_FALSE(done_.contains("a"));
  Run(absl::Seconds(10));
  EXPECT_EQ(ReasonOf(done_.at("a")), Reason::kNotReadyInTime);
  EXPECT_EQ(MessageOf(done_.at("a")), "not ready within 10m: no error was reported");
  EXPECT_THAT(executor_.cancelled(), SizeIs(1));
}

TEST_F(DispatcherTest, TheReadyDeadlineNamesWhatTheDriverSaidLast) {
  Submit("a", "claim-a");
  executor_.Tell("a", Phase::kCreated);
  Exists("a").error = "disk full";
  Run(absl::Minutes(10) + absl::Seconds(10));
  EXPECT_EQ(MessageOf(done_.at("a")), "not ready within 10m: disk full");
}

TEST_F(DispatcherTest, WithdrawnJobsEndWhereTheyStand) {
  Submit("sent", "claim-a");
  const std::string waiting = Submit("waiting", "claim-a");
  dispatcher_.Withdraw({waiting});
  EXPECT_THAT(done_.at("waiting"), StatusIs(absl::StatusCode::kCancelled));
  const std::string posted = Submit("posted", "claim-b");
  executor_.Tell("posted", Phase::kCreated);
  dispatcher_.Withdraw({posted});
  EXPECT_FALSE(done_.contains("posted"));
  const std::string at_executor = executor_.JobOf("sent").job_id;
  dispatcher_.Withdraw({at_executor});
  EXPECT_FALSE(done_.contains("sent"));
  executor_.Tell("sent", Phase::kDone, absl::CancelledError("not posted"));
  EXPECT_THAT(done_.at("sent"), StatusIs(absl::StatusCode::kCancelled));
}

// One that ends first gives its place to none that is to end with it.
TEST_F(DispatcherTest, WithdrawnTogetherNoneIsSent) {
  std::vector<std::string> jobs;
  for (int i = 0; i < 4; ++i)
    jobs.push_back(Submit("n" + std::to_string(i), "claim-" + std::to_string(i), "narrow"));
  for (const std::string name : {"n0", "n1"})
    executor_.Tell(name, Phase::kDone, absl::UnknownError("nobody knows"));
  dispatcher_.Withdraw(jobs);
  EXPECT_THAT(done_, SizeIs(4));
  Run(absl::Seconds(1));
  EXPECT_THAT(executor_.Names(), IsEmpty());
}

TEST_F(DispatcherTest, AWithdrawnJobIsNotTriedAgain) {
  const std::string job = Submit("a", "claim-a");
  dispatcher_.Withdraw({job});
  EXPECT_THAT(executor_.cancelled(), SizeIs(1));
  executor_.Tell("a", Phase::kDone, Retryable());
  ASSERT_TRUE(done_.contains("a"));
  EXPECT_THAT(done_.at("a"), StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(DispatcherTest, ACancellationThatNobodyAskedForIsTriedAgain) {
  Submit("a", "claim-a");
  executor_.Tell("a", Phase::kDone, absl::CancelledError("by whom?"));
  EXPECT_FALSE(done_.contains("a"));
  Run(absl::Seconds(1));
  EXPECT_THAT(executor_.Names(), ElementsAre("a"));
}

TEST_F(DispatcherTest, OneThatWasPostedByALostExecutorIsNotWithdrawn) {
  const std::string posted = Submit("posted", "claim-a");
  const std::string not_posted = Submit("not-posted", "claim-b");
  executor_.Refuse();
  Exists("posted");
  dispatcher_.Withdraw({posted});
  dispatcher_.Withdraw({not_posted});
  EXPECT_THAT(done_, ElementsAre(Pair("not-posted", StatusIs(absl::StatusCode::kCancelled))));
}

TEST_F(DispatcherTest, OnlyWhatWasNeverSentIsGivenUp) {
  const absl::Status why = absl::FailedPreconditionError("its claim is gone");
  const std::string sent = Submit("sent", "claim-a");
  const std::string in_lane = Submit("in-lane", "claim-a");
  const std::string retried = Submit("retried", "claim-b");
  executor_.Tell("retried", Phase::kDone, Retryable());
  Submit("n0", "claim-c", "narrow");
  Submit("n1", "claim-d", "narrow");
  const std::string at_cap = Submit("at-cap", "claim-e", "narrow");
  for (const std::string& job : {sent, in_lane, retried, at_cap}) dispatcher_.GiveUp(job, why);
  EXPECT_EQ(done_.at("in-lane"), why);
  EXPECT_EQ(done_.at("at-cap"), why);
  EXPECT_THAT(done_, SizeIs(2));
  executor_.Tell("sent", Phase::kCreated);
  executor_.Tell("sent", Phase::kCut);  // the lane is free: nobody is left in it
  Submit("next", "claim-a");
  EXPECT_THAT(executor_.Names(), ElementsAre("sent", "n0", "n1", "next"));
}

TEST_F(DispatcherTest, WhatWaitsForSomethingElseIsNotPosting) {
  Submit("sent", "claim-a");
  Submit("in-lane", "claim-a");
  Submit("retried", "claim-b");
  Submit("n0", "claim-c", "narrow");
  Submit("n1", "claim-d", "narrow");
  Submit("at-cap", "claim-e", "narrow");
  EXPECT_EQ(dispatcher_.posting(), 4);
  Submit("without-slot", "claim-f");
  EXPECT_EQ(dispatcher_.posting(), 5);
  executor_.Tell("retried", Phase::kDone, Retryable());  // its slot is the other's
  EXPECT_EQ(dispatcher_.posting(), 4);
  for (const char* name : {"sent", "n0", "n1", "without-slot"})
    executor_.Tell(name, Phase::kCreated);
  EXPECT_EQ(dispatcher_.posting(), 0);
  for (const char* name : {"sent", "n0"}) executor_.Tell(name, Phase::kCut);
  EXPECT_EQ(dispatcher_.posting(), 2);  // of "in-lane" and "at-cap"
  for (const char* name : {"in-lane", "at-cap"})
    executor_.Tell(name, Phase::kDone,
                   WithReason(absl::PermissionDeniedError("no"), Reason::kForbidden));
  EXPECT_EQ(dispatcher_.posting(), 0);
}

TEST_F(DispatcherTest, StaleAttemptsSayNothing) {
  Submit("a", "claim-a");
  const Job first = executor_.JobOf("a");
  executor_.Tell("a", Phase::kDone, Retryable());
  Run(absl::Seconds(1));
  executor_.Say({.job_id = first.job_id, .attempt = first.attempt, .phase = Phase::kDone});
  EXPECT_FALSE(done_.contains("a"));
}

TEST_F(DispatcherTest, WhatIsToBePrunedDoesNotWaitForAParkingPlace) {
  executor_.parked_limit = 1;
  executor_.Die();
  Run(absl::Seconds(2));
  Submit("parked", "claim-a");
  executor_.Tell("parked", Phase::kCreated);
  Submit("waits", "claim-b");
  bool pruned = false;
  const std::string id = dispatcher_.Submit(
      PruneSnapshots(), [&pruned](const absl::Status&, size_t) { pruned = true; });
  executor_.Say({.job_id = id, .attempt = 1, .phase = Phase::kDone});
  EXPECT_TRUE(pruned);
}

TEST_F(DispatcherTest, PausedNothingIsSent) {
  dispatcher_.SetPaused(true);
  Submit("a", "claim-a");
  EXPECT_THAT(executor_.Names(), IsEmpty());
  dispatcher_.SetPaused(false);
  EXPECT_THAT(executor_.Names(), ElementsAre("a"));
}

TEST_F(DispatcherTest, PausedNoStartingDeadlinePasses) {
  Submit("fails", "claim-a", "wide", absl::Seconds(5));
  Submit("lost", "claim-b", "wide", absl::Seconds(5));
  dispatcher_.SetPaused(true);
  Run(absl::Seconds(10));
  executor_.Tell("fails", Phase::kDone, Retryable());
  executor_.Die();
  Run(absl::Seconds(10));
  EXPECT_THAT(done_, IsEmpty());
  dispatcher_.SetPaused(false);
  Run(absl::Minutes(1));
  EXPECT_THAT(done_, SizeIs(2));
}

TEST_F(DispatcherTest, NoMoreJobsThanSlots) {
  for (int i = 0; i < 6; ++i) Submit("s" + std::to_string(i), "claim-" + std::to_string(i));
  EXPECT_THAT(executor_.Names(), SizeIs(4));
  EXPECT_EQ(dispatcher_.queued(), 2);
  executor_.Tell("s0", Phase::kCreated);
  EXPECT_THAT(executor_.Names(), SizeIs(5));
}

TEST_F(DispatcherTest, WhatExistsWaitsForNoSlotNorForThoseThatDo) {
  for (int i = 0; i < 5; ++i) Submit("s" + std::to_string(i), "claim-" + std::to_string(i));
  SubmitExisting("existing", "claim-e");
  EXPECT_THAT(executor_.Names(), ElementsAre("s0", "s1", "s2", "s3", "existing"));
}

TEST_F(DispatcherTest, NoMoreJobsThanMayAwaitReadiness) {
  executor_.parked_limit = 2;
  executor_.Die();
  Run(absl::Seconds(2));
  for (const char* name : {"a", "b"}) {
    Submit(name, std::string("claim-") + name);
    executor_.Tell(name, Phase::kCreated);
  }
  SubmitExisting("existing", "claim-c");
  Submit("new", "claim-d");
  EXPECT_THAT(executor_.Names(), ElementsAre("a", "b"));
  executor_.Tell("a", Phase::kDone);
  EXPECT_THAT(executor_.Names(), ElementsAre("b", "existing"));
  executor_.Tell("b", Phase::kDone);
  EXPECT_THAT(executor_.Names(), ElementsAre("existing", "new"));
}

TEST_F(DispatcherTest, APruneJobTellsHowManyItDeletedHoweverItEnded) {
  std::vector<std::pair<absl::Status, size_t>> ends;
  const auto prune = [this, &ends] {
    return dispatcher_.Submit(PruneSnapshots(),
                              [&ends](const absl::Status& status, size_t deleted) {
                                ends.emplace_back(status, deleted);
                              });
  };
  const absl::Status is_void = absl::FailedPreconditionError("the plan is void");
  executor_.Say({.job_id = prune(), .attempt = 1, .phase = Phase::kDone, .deleted = {"1", "2"}});
  executor_.Say({.job_id = prune(),
                 .attempt = 1,
                 .phase = Phase::kDone,
                 .deleted = {"3"},
                 .status = is_void});
  prune();
  executor_.Die();
  EXPECT_THAT(ends, ElementsAre(Pair(IsOk(), 2), Pair(is_void, 1),
                                Pair(StatusIs(absl::StatusCode::kUnavailable), 0)));
}

TEST_F(DispatcherTest, AWithdrawnJobThatIsLostIsNotSentAgain) {
  const std::string id = Submit("sent", "claim-a");
  ASSERT_THAT(executor_.Names(), ElementsAre("sent"));
  dispatcher_.Withdraw({id});
  executor_.Die();
  Run(absl::Seconds(5));  // it is back
  EXPECT_THAT(executor_.Names(), IsEmpty());
  ASSERT_TRUE(done_.contains("sent"));
  EXPECT_THAT(done_.at("sent"), StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(DispatcherTest, AJobThatItsExecutorForgetsEndsAllTheSame) {
  Submit("sent", "claim-a");
  Run(absl::Hours(2));  // heartbeats go on
  EXPECT_TRUE(done_.contains("sent"));
}

TEST_F(DispatcherTest, AWithdrawnJobWhoseSnapshotExistsSettles) {
  const std::string id = Submit("sent", "claim-a");
  dispatcher_.Withdraw({id});
  Exists("sent");  // its POST was carried out, and the reply was lost
  executor_.Tell("sent", Phase::kDone, Retryable());
  EXPECT_FALSE(done_.contains("sent")) << done_.at("sent");
}

TEST_F(DispatcherTest, SuccessWithoutAnObjectIsNoSuccess) {
  Submit("a", "claim-a");
  executor_.Tell("a", Phase::kDone);
  EXPECT_FALSE(done_.contains("a") && done_.at("a").ok());
}

}  // namespace
}  // namespace snapkeeper
