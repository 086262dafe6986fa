#include "common/kube/reflector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "common/model/reason.h"
#include "tests/support/matchers.h"
#include "tests/support/sim_waiter.h"

namespace snapkeeper {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::SizeIs;

// Lists and watches that the test answers by hand.
class ScriptedApi : public KubeApi {
 public:
  struct OpenWatch {
    std::string resource_version;
    OnEvent on_event;
    Ended ended;
  };

  Call List(const ListQuery& query, Listed done) override {
    ++lists;
    last_query = query;
    listed = std::move(done);
    return Call([this, ours = lists] {
      if (lists == ours) listed = nullptr;
    });
  }
  Call Watch(const ListQuery& query, const std::string& resource_version, OnEvent on_event,
             Ended ended) override {
    ++watches;
    last_query = query;
    watch = std::make_shared<OpenWatch>(
        OpenWatch{resource_version, std::move(on_event), std::move(ended)});
    return Call([this, ours = watch] {
      if (watch == ours) watch = nullptr;
    });
  }
  Call Get(const ObjectKey&, Done) override { return Call(); }
  Call Create(Kind, nlohmann::json, Done) override { return Call(); }
  Call Delete(const ObjectKey&, const Preconditions&,
              absl::AnyInvocable<void(absl::Status)>) override {
    return Call();
  }
  Call Patch(const ObjectKey&, nlohmann::json, bool, Done) override { return Call(); }
  std::optional<absl::Duration> ClockOffset() const override { return std::nullopt; }

  void AnswerList(absl::StatusOr<ListResult> result) {
    ASSERT_TRUE(listed);
    std::exchange(listed, nullptr)(std::move(result));
  }
  void Tell(WatchEvent event) {
    ASSERT_TRUE(watch);
    const auto alive = watch;
    alive->on_event(std::move(event));
  }
  void End(absl::Status status) {
    ASSERT_TRUE(watch);
    const auto alive = watch;
    alive->ended(std::move(status));
  }

  int lists = 0, watches = 0;
  ListQuery last_query;
  Listed listed;
  std::shared_ptr<OpenWatch> watch;
};

ObjectPtr Obj(const std::string& name, const std::string& version, std::string uid = "") {
  Claim claim;
  claim.meta.ns = "shop";
  claim.meta.name = name;
  claim.meta.uid = uid.empty() ? "uid-" + name : uid;
  claim.meta.resource_version = version;
  return std::make_shared<const Object>(claim);
}

WatchEvent Event(WatchEvent::Type type, ObjectPtr object) {
  std::string version = MetaOf(*object).resource_version;
  return {type, std::move(object), std::move(version)};
}
WatchEvent Bookmark(std::string version) {
  return {WatchEvent::kBookmark, nullptr, std::move(version)};
}

class ReflectorTest : public testing::Test {
 protected:
  void Start() {
    reflector_ =
        std::make_unique<Reflector<Claim>>(loop_, api_, rng_, log_, ListQuery{.ns = "shop"});
    auto show = [](const Reflector<Claim>::Ptr& claim) {
      return claim ? claim->meta.uid + "@" + claim->meta.resource_version : "-";
    };
    reflector_->Start(
        [this, show](const Reflector<Claim>::Ptr& before, const Reflector<Claim>::Ptr& after) {
          changes_.push_back(show(before) + " " + show(after));
        },
        [this] { ++synced_; });
  }
  void StartSynced(std::vector<ObjectPtr> items, std::string version) {
    Start();
    api_.AnswerList(ListResult{std::move(items), version});
    api_.Tell(Bookmark(version));
    changes_.clear();
  }
  std::vector<std::string> Stored() const {
    std::vector<std::string> stored;
    reflector_->ForEach([&stored](const Claim& claim) {
      stored.push_back(claim.meta.uid + "@" + claim.meta.resource_version);
    });
    return stored;
  }
  void RunFor(absl::Duration time) { snapkeeper::RunFor(clock_, {&loop_}, time); }
  // How long until it asks the API again, by `count` going up.
  void EndSilently() {
    RunFor(absl::Seconds(130));
    api_.End(absl::DeadlineExceededError("no byte within 2m10s"));
  }
  absl::Duration TimeTo(const int& count, absl::Duration limit = absl::Seconds(60)) {
    const int before = count;
    const absl::Duration began = clock_.Elapsed();
    while (count == before && clock_.Elapsed() - began < limit) RunFor(absl::Milliseconds(10));
    return clock_.Elapsed() - began;
  }

  SimClock clock_;
  SimWaiter waiter_{clock_};
  EventLoop loop_{waiter_};
  Rng rng_{1};
  NullLog log_;
  ScriptedApi api_;
  std::vector<std::string> changes_;
  int synced_ = 0;
  std::unique_ptr<Reflector<Claim>> reflector_;
};

TEST_F(ReflectorTest, ListsThenWatchesFromThere) {
  Start();
  EXPECT_EQ(api_.last_query.kind, Kind::kClaim);
  EXPECT_EQ(api_.last_query.ns, "shop");
  EXPECT_FALSE(reflector_->synced());
  api_.AnswerList(ListResult{{Obj("a", "3"), Obj("b", "5")}, "7"});
  EXPECT_THAT(changes_, ElementsAre("- uid-a@3", "- uid-b@5"));
  EXPECT_TRUE(reflector_->synced());
  EXPECT_EQ(synced_, 1);
  ASSERT_TRUE(api_.watch);
  EXPECT_EQ(api_.watch->resource_version, "7");
  EXPECT_EQ(reflector_->Find("shop", "a")->meta.uid, "uid-a");
  EXPECT_EQ(reflector_->Find("shop", "c"), nullptr);
  EXPECT_EQ(reflector_->Find("bank", "a"), nullptr);
  EXPECT_EQ(reflector_->size(), 2u);
}

TEST_F(ReflectorTest, FollowsEvents) {
  StartSynced({Obj("a", "3")}, "7");
  api_.Tell(Event(WatchEvent::kAdded, Obj("b", "8")));
  api_.Tell(Event(WatchEvent::kModified, Obj("a", "9")));
  api_.Tell(Event(WatchEvent::kDeleted, Obj("b", "10")));
  EXPECT_THAT(changes_, ElementsAre("- uid-b@8", "uid-a@3 uid-a@9", "uid-b@8 -"));
  EXPECT_THAT(Stored(), ElementsAre("uid-a@9"));
}

TEST_F(ReflectorTest, ADoubledEventChangesNothing) {
  StartSynced({Obj("a", "3")}, "7");
  for (int i = 0; i < 2; ++i) api_.Tell(Event(WatchEvent::kAdded, Obj("b", "8")));
  for (int i = 0; i < 2; ++i) api_.Tell(Event(WatchEvent::kDeleted, Obj("b", "9")));
  api_.Tell(Event(WatchEvent::kModified, Obj("a", "3")));
  EXPECT_THAT(changes_, ElementsAre("- uid-b@8", "uid-b@8 -"));
}

TEST_F(ReflectorTest, AnObjectReplacedUnderItsNameIsOneChange) {
  StartSynced({Obj("a", "3", "old")}, "7");
  api_.Tell(Event(WatchEvent::kAdded, Obj("a", "8", "new")));
  EXPECT_THAT(changes_, ElementsAre("old@3 new@8"));
  // The end of the first one, told late, is not the end of the second.
  api_.Tell(Event(WatchEvent::kDeleted, Obj("a", "9", "old")));
  EXPECT_THAT(changes_, SizeIs(1));
  EXPECT_THAT(Stored(), ElementsAre("new@8"));
}

TEST_F(ReflectorTest, AReplacementWithTheSameVersionIsStillAChange) {
  StartSynced({Obj("a", "3", "old")}, "7");
  api_.Tell(Event(WatchEvent::kAdded, Obj("a", "3", "new")));
  EXPECT_THAT(changes_, ElementsAre("old@3 new@3"));
}

TEST_F(ReflectorTest, ReadingAllAgainIsNotSyncedUntilItIsDone) {
  StartSynced({Obj("a", "3"), Obj("b", "5")}, "7");
  reflector_->Relist();
  EXPECT_FALSE(reflector_->synced());
  EXPECT_FALSE(api_.watch);
  EXPECT_THAT(Stored(), ElementsAre("uid-a@3", "uid-b@5"));
  api_.AnswerList(ListResult{{Obj("a", "8")}, "9"});
  EXPECT_TRUE(reflector_->synced());
  EXPECT_EQ(synced_, 2);
  EXPECT_THAT(changes_, ElementsAre("uid-b@5 -", "uid-a@3 uid-a@8"));
  ASSERT_TRUE(api_.watch);
  EXPECT_EQ(api_.watch->resource_version, "9");
}

TEST_F(ReflectorTest, AWatchThatEndedGoesOnAtOnceFromTheLastVersion) {
  StartSynced({}, "7");
  api_.Tell(Event(WatchEvent::kAdded, Obj("b", "8")));
  api_.End(absl::OkStatus());
  EXPECT_EQ(api_.watches, 2);
  EXPECT_EQ(api_.watch->resource_version, "8");
  api_.Tell(Bookmark("8"));
  api_.Tell(Bookmark("20"));
  api_.End(absl::OkStatus());
  EXPECT_EQ(api_.watches, 3);
  EXPECT_EQ(api_.watch->resource_version, "20");
  EXPECT_EQ(api_.lists, 1);
  EXPECT_THAT(reflector_->health(), IsOk());
}

TEST_F(ReflectorTest, AServerThatEndsEveryWatchAtOnceIsAskedMoreAndMoreSlowly) {
  StartSynced({}, "7");
  for (int i = 0; i < 40; ++i) {
    api_.End(absl::OkStatus());
    EXPECT_THAT(reflector_->health(), StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_THAT(TimeTo(api_.watches),
                AllOf(Ge(absl::Milliseconds(100)), Le(absl::Milliseconds(5'010))));
    api_.Tell(Bookmark("7"));  // accepted, as every time
  }
  EXPECT_GT(clock_.Elapsed(), absl::Seconds(60));
  // It does what it should again: so do we.
  RunFor(absl::Seconds(2));
  api_.End(absl::OkStatus());
  EXPECT_TRUE(api_.watch);
}

TEST_F(ReflectorTest, AfterAnErrorItWatchesAgainFromTheLastVersion) {
  StartSynced({Obj("a", "3")}, "7");
  api_.Tell(Bookmark("30"));
  api_.End(absl::UnavailableError("reset"));
  EXPECT_THAT(reflector_->health(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("reset")));
  EXPECT_LE(TimeTo(api_.watches), absl::Milliseconds(210));
  EXPECT_EQ(api_.watch->resource_version, "30");
  EXPECT_FALSE(reflector_->health().ok());  // not yet known to stand
  api_.Tell(Bookmark("30"));
  EXPECT_THAT(reflector_->health(), IsOk());
  EXPECT_EQ(api_.lists, 1);
  EXPECT_THAT(changes_, IsEmpty());
}

TEST_F(ReflectorTest, ASilentStreamIsOpenedAgain) {
  StartSynced({}, "7");
  EndSilently();
  EXPECT_LE(TimeTo(api_.watches), absl::Milliseconds(210));
  EXPECT_EQ(api_.watch->resource_version, "7");
  EXPECT_EQ(api_.lists, 1);
}

// The server's etcd was restored, and is at an older version.
TEST_F(ReflectorTest, AfterTwoSilentStreamsItListsAgain) {
  StartSynced({Obj("gone", "6")}, "7");
  EndSilently();
  TimeTo(api_.watches);
  EndSilently();
  EXPECT_LE(TimeTo(api_.lists), absl::Milliseconds(210));
  api_.AnswerList(ListResult{{Obj("restored", "2")}, "3"});
  EXPECT_EQ(api_.watch->resource_version, "3");
  EXPECT_THAT(Stored(), ElementsAre("uid-restored@2"));
}

TEST_F(ReflectorTest, WhatIsAlwaysSilentIsListedMoreAndMoreSeldom) {
  StartSynced({}, "7");
  for (int i = 0; i < 64; ++i) {
    const int lists = api_.lists;
    EndSilently();
    RunFor(absl::Seconds(1));
    if (api_.lists > lists) api_.AnswerList(ListResult{{}, "7"});
  }
  EXPECT_EQ(api_.lists, 1 + 6);  // 2, 4, 8, 16, 32, 64
  // What is heard, or another failure, begins anew.
  api_.Tell(Bookmark("8"));
  EndSilently();
  RunFor(absl::Seconds(1));
  EXPECT_EQ(api_.lists, 7);
  EndSilently();
  RunFor(absl::Seconds(1));
  EXPECT_EQ(api_.lists, 8);
}

TEST_F(ReflectorTest, AfterAStreamThatCannotBeReadItListsAgain) {
  StartSynced({}, "7");
  RunFor(absl::Minutes(1));
  api_.End(absl::InternalError("a watch event cannot be read"));
  EXPECT_LE(TimeTo(api_.lists), absl::Milliseconds(210));
}

TEST_F(ReflectorTest, ExpiryListsAgainAtOnceAndReportsWhatHappenedMeanwhile) {
  StartSynced({Obj("gone", "3"), Obj("same", "4"), Obj("newer", "5"), Obj("replaced", "6", "old")},
              "7");
  RunFor(absl::Minutes(1));
  api_.End(absl::OutOfRangeError("too old resource version"));
  EXPECT_EQ(api_.lists, 2);
  EXPECT_THAT(reflector_->health(), IsOk());
  api_.AnswerList(ListResult{
      {Obj("same", "4"), Obj("newer", "50"), Obj("replaced", "60", "new"), Obj("added", "70")},
      "77"});
  EXPECT_THAT(changes_, ElementsAre("uid-gone@3 -", "uid-newer@5 uid-newer@50", "old@6 new@60",
                                    "- uid-added@70"));
  EXPECT_EQ(api_.watch->resource_version, "77");
  EXPECT_THAT(Stored(), ElementsAre("uid-added@70", "uid-newer@50", "new@60", "uid-same@4"));
  EXPECT_EQ(synced_, 1);
}

TEST_F(ReflectorTest, ExpiryRightAfterTheListIsAFailure) {
  StartSynced({}, "7");
  api_.End(absl::OutOfRangeError("expired"));
  for (int i = 0; i < 20; ++i) {
    api_.AnswerList(ListResult{{}, "8"});
    api_.End(absl::OutOfRangeError("expired"));
    EXPECT_GE(TimeTo(api_.lists), absl::Milliseconds(100));
  }
  EXPECT_GT(clock_.Elapsed(), absl::Seconds(30));
}

TEST_F(ReflectorTest, AWatchThatNeverWorksIsAskedForMoreAndMoreSlowly) {
  StartSynced({}, "7");
  for (int i = 0; i < 20; ++i) {
    api_.End(absl::PermissionDeniedError("watch is forbidden"));
    EXPECT_LE(TimeTo(api_.watches), absl::Milliseconds(10'010));
  }
  EXPECT_GT(clock_.Elapsed(), absl::Seconds(30));
  EXPECT_EQ(api_.lists, 1);
}

TEST_F(ReflectorTest, RetriesTheFirstListUntilItIsThere) {
  Start();
  for (int i = 0; i < 10; ++i) {
    api_.AnswerList(absl::UnavailableError("connection refused"));
    EXPECT_FALSE(reflector_->health().ok());
    EXPECT_FALSE(reflector_->synced());
    EXPECT_LE(TimeTo(api_.lists), absl::Milliseconds(10'010));
  }
  api_.AnswerList(ListResult{{Obj("a", "3")}, "7"});
  EXPECT_TRUE(reflector_->synced());
  api_.Tell(Bookmark("7"));
  EXPECT_THAT(reflector_->health(), IsOk());
}

TEST_F(ReflectorTest, WaitsAsLongAsTheServerSays) {
  Start();
  api_.AnswerList(WithRetryAfter(absl::ResourceExhaustedError("429"), absl::Seconds(32)));
  EXPECT_GE(TimeTo(api_.lists), absl::Seconds(32));
}

TEST_F(ReflectorTest, ServesWhatItHasThroughALongOutageAndRecovers) {
  StartSynced({Obj("a", "3")}, "7");
  while (clock_.Elapsed() < absl::Hours(3)) {
    api_.End(absl::UnavailableError("connection refused"));
    TimeTo(api_.watches);
    ASSERT_THAT(Stored(), ElementsAre("uid-a@3"));
  }
  api_.End(absl::OutOfRangeError("expired"));
  EXPECT_EQ(api_.lists, 2);  // at once: the server is there again
  api_.AnswerList(ListResult{{Obj("b", "900")}, "901"});
  EXPECT_THAT(changes_, ElementsAre("uid-a@3 -", "- uid-b@900"));
  api_.Tell(Bookmark("901"));
  EXPECT_THAT(reflector_->health(), IsOk());
}

TEST_F(ReflectorTest, GoesThroughOneNamespaceOnly) {
  Start();
  auto claim = [](const std::string& ns, const std::string& name) {
    Claim claim;
    claim.meta.ns = ns;
    claim.meta.name = name;
    return std::make_shared<const Object>(claim);
  };
  api_.AnswerList(ListResult{
      {claim("shop", "z"), claim("shop", "b"), claim("bank", "x"), claim("shop-2", "a")}, "7"});
  std::vector<std::string> names;
  reflector_->ForEachIn("shop", [&names](const Claim& c) { names.push_back(c.meta.name); });
  EXPECT_THAT(names, ElementsAre("b", "z"));
}

TEST_F(ReflectorTest, DestroyingItEndsItsCalls) {
  StartSynced({}, "7");
  reflector_.reset();
  EXPECT_FALSE(api_.watch);
  Start();
  reflector_.reset();
  EXPECT_FALSE(api_.listed);
  Start();
  api_.AnswerList(absl::UnavailableError("x"));
  reflector_.reset();
  EXPECT_EQ(loop_.NextTimer(), absl::InfiniteDuration());
}

}  // namespace
}  // namespace snapkeeper
