#include "simulator/store.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "simulator/api_error.h"
#include "tests/simulator/world.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using absl::StatusCode;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class StoreTest : public testing::Test {
 protected:
  absl::StatusOr<VersionPtr> CreateLease(const std::string& name,
                                         const json& labels = json::object()) {
    return world_.Create(
        Kind::kLease, {{"metadata", {{"namespace", "default"}, {"name", name}, {"labels", labels}}},
                       {"spec", {{"holderIdentity", "one"}}}});
  }
  Selector Select(const std::string& labels, const std::string& fields = "") {
    const auto selector = ParseSelector({Kind::kLease, "default", labels, fields});
    EXPECT_THAT(selector, IsOk());
    return *selector;
  }
  std::vector<std::string> Names(const absl::StatusOr<Store::Page>& page) {
    std::vector<std::string> names;
    EXPECT_THAT(page, IsOk());
    for (const VersionPtr& version : page->items) names.push_back(version->tags->name);
    return names;
  }

  World world_;
  Store& store_ = world_.store();
  const ObjectKey policy_{Kind::kPolicy, "default", "p"};
};

TEST_F(StoreTest, APatchThatIsRefusedLeavesTheObjectAsItWas) {
  ASSERT_THAT(world_.Create(Kind::kPolicy, PolicyJson("p", {{"retention", {{"keepLast", 3}}}})),
              IsOk());
  const json before = *store_.JsonOf(policy_);
  const int64_t rv = store_.resource_version();
  for (const json& patch : {
           json{{"spec", {{"schedule", 5}}}},
           json{{"spec", {{"schedule", nullptr}}}},
           json{{"spec", nullptr}},
           json{{"spec", {{"suspend", true}, {"retention", {{"keepLast", 0}, {"unknown", 1}}}}}},
           json{{"spec", {{"retention", {{"keepLast", nullptr}, {"maxAge", "0h"}}}}}},
           json{{"spec", {{"retention", 7}}}},
           json{{"metadata", {{"labels", {{"a", "not valid"}}}}}, {"spec", {{"suspend", true}}}},
       }) {
    EXPECT_THAT(store_.Patch(policy_, patch, false, "me"), StatusIs(StatusCode::kInvalidArgument))
        << patch;
    EXPECT_EQ(*store_.JsonOf(policy_), before) << patch;
  }
  EXPECT_EQ(store_.resource_version(), rv);
}

TEST_F(StoreTest, ADryRunChecksAndKeepsNothing) {
  ASSERT_THAT(world_.Create(Kind::kPolicy, PolicyJson("p")), IsOk());
  const json before = *store_.JsonOf(policy_);
  const int64_t rv = store_.resource_version();
  const auto patched = store_.Patch(policy_, {{"spec", {{"suspend", true}}}}, false, "me",
                                    Verb::kPatch, /*dry_run=*/true);
  ASSERT_THAT(patched, IsOk());
  EXPECT_TRUE(std::get<Policy>(*(*patched)->value).spec.suspend);
  EXPECT_THAT(store_.Create(Kind::kPolicy, PolicyJson("q"), "me", /*dry_run=*/true), IsOk());
  EXPECT_THAT(store_.Delete(policy_, {}, "me", /*dry_run=*/true), IsOk());
  EXPECT_EQ(*store_.JsonOf(policy_), before);
  EXPECT_EQ(store_.resource_version(), rv);
  EXPECT_EQ(store_.Find({Kind::kPolicy, "default", "q"}), nullptr);
}

TEST_F(StoreTest, GenerationCountsChangesOfTheSpecOnly) {
  ASSERT_THAT(world_.Create(Kind::kPolicy, PolicyJson("p")), IsOk());
  struct Case {
    json patch;
    bool status;
    int64_t generation;
  };
  for (const Case& c : {
           Case{{{"metadata", {{"labels", {{"a", "b"}}}}}}, false, 1},
           Case{{{"metadata", {{"labels", {{"a", "c"}}}}}, {"spec", {{"nothing", 1}}}}, false, 1},
           Case{{{"metadata", {{"labels", {{"a", "d"}}}}}, {"nothing", 1}}, false, 1},
           Case{{{"status", {{"epoch", 3}}}}, true, 1},
           Case{{{"spec", {{"suspend", true}}}}, false, 2},
           Case{{{"spec", {{"suspend", true}}}}, false, 2},
           Case{{{"spec", {{"suspend", false}}}, {"status", {{"epoch", 9}}}}, false, 3},
       }) {
    ASSERT_THAT(store_.Patch(policy_, c.patch, c.status, "me"), IsOk());
    EXPECT_EQ(world_.At(policy_, "/metadata/generation"), c.generation) << c.patch;
  }
  EXPECT_EQ(world_.At(policy_, "/status/epoch"), 3);
}

TEST_F(StoreTest, APatchThatChangesNothingInTheEndMakesNoVersion) {
  ASSERT_THAT(world_.Create(Kind::kPolicy, PolicyJson("p")), IsOk());
  const int64_t rv = store_.resource_version();
  for (const json& patch :
       {json{{"nothing", 1}}, json{{"spec", {{"nothing", 1}}}},
        json{{"spec", {{"timeZone", nullptr}}}}, json{{"spec", {{"runHistoryLimit", 5.0}}}}}) {
    ASSERT_THAT(store_.Patch(policy_, patch, false, "me"), IsOk());
    EXPECT_EQ(store_.resource_version(), rv) << patch;
    EXPECT_EQ(world_.At(policy_, "/metadata/generation"), 1) << patch;
  }
  EXPECT_EQ(world_.At(policy_, "/spec/timeZone"), "UTC");
}

TEST_F(StoreTest, APolicyGetsTheDefaultsOfItsSchema) {
  ASSERT_THAT(world_.Create(Kind::kPolicy, PolicyJson("p")), IsOk());
  EXPECT_EQ(world_.At(policy_, "/spec"),
            json({{"schedule", "@hourly"},
                  {"selector", json::object()},
                  {"timeZone", "UTC"},
                  {"suspend", false},
                  {"missedRunPolicy", "Latest"},
                  {"concurrencyPolicy", "Forbid"},
                  {"retention", {{"minReady", 1}, {"unreadyTtl", "24h"}}},
                  {"runHistoryLimit", 5}}));
}

TEST_F(StoreTest, ErrorsSayWhatKubernetesSays) {
  ASSERT_THAT(world_.TakeSnapshot("a"), IsOk());
  struct Case {
    absl::Status status;
    int code;
    std::string reason, message;
  };
  json late = {{"metadata",
                {{"namespace", "default"},
                 {"name", "late"},
                 {"annotations", {{"snapkeeper.io/post-before", "2025-12-31T23:59:59Z"}}}}},
               {"spec", {{"source", {{"persistentVolumeClaimName", "data-0"}}}}}};
  for (const Case& c : {
           Case{store_.Get({Kind::kSnapshot, "default", "x"}).status(), 404, "NotFound",
                "volumesnapshots.snapshot.storage.k8s.io \"x\" not found"},
           Case{world_.TakeSnapshot("a").status(), 409, "AlreadyExists",
                "volumesnapshots.snapshot.storage.k8s.io \"a\" already exists"},
           Case{store_.Delete({Kind::kSnapshot, "default", "a"}, {"u", ""}, "me").status(), 409,
                "Conflict", "Precondition failed: UID in precondition: u"},
           Case{store_
                    .Patch({Kind::kSnapshot, "default", "a"},
                           {{"metadata", {{"resourceVersion", "1"}}}}, false, "me")
                    .status(),
                409, "Conflict", "the object has been modified"},
           Case{store_
                    .Patch({Kind::kSnapshot, "default", "a"},
                           {{"spec", {{"source", {{"persistentVolumeClaimName", "b"}}}}}}, false,
                           "me")
                    .status(),
                422, "Invalid", "immutable"},
           Case{store_
                    .Replace({Kind::kSnapshot, "default", "a"},
                             {{"metadata", {{"name", "a"}}}, {"spec", json::object()}}, false, "me")
                    .status(),
                422, "Invalid", "must be specified for an update"},
           Case{store_
                    .Create(Kind::kSnapshot, {{"metadata", {{"namespace", "none"}, {"name", "a"}}}},
                            "me")
                    .status(),
                404, "NotFound", "namespaces \"none\" not found"},
           Case{store_.Create(Kind::kSnapshot, late, "me").status(), 422, "Invalid",
                "ValidatingAdmissionPolicy 'snapkeeper-late-create'"},
           Case{store_
                    .Patch({Kind::kClaim, "default", "data-0"},
                           {{"spec", {{"storageClassName", "other"}}}}, false, "me")
                    .status(),
                422, "Invalid", "spec is immutable after creation"},
       }) {
    const json body = StatusBodyOf(c.status);
    EXPECT_EQ(body["code"], c.code) << c.message;
    EXPECT_EQ(body["reason"], c.reason) << c.message;
    EXPECT_THAT(body["message"].get<std::string>(), HasSubstr(c.message));
  }
}

TEST_F(StoreTest, ALateCreateIsTakenWhereThatAdmissionIsOff) {
  World world({.store = {.post_before_admission = false}});
  EXPECT_THAT(
      world.Create(Kind::kSnapshot,
                   {{"metadata",
                     {{"namespace", "default"},
                      {"name", "late"},
                      {"annotations", {{"snapkeeper.io/post-before", "2025-12-31T23:59:59Z"}}}}},
                    {"spec", {{"source", {{"persistentVolumeClaimName", "data-0"}}}}}}),
      IsOk());
}

TEST_F(StoreTest, PagesShowTheMomentOfTheFirstOne) {
  for (const char* name : {"a", "b", "c", "d", "e"}) ASSERT_THAT(CreateLease(name), IsOk());
  const auto first = store_.List(Kind::kLease, Select(""), 2);
  EXPECT_THAT(Names(first), ElementsAre("a", "b"));
  EXPECT_EQ(first->remaining, 3u);
  ASSERT_THAT(CreateLease("bb"), IsOk());
  ASSERT_THAT(world_.Delete({Kind::kLease, "default", "c"}), IsOk());
  const auto second = store_.List(Kind::kLease, Select(""), 2, first->next);
  EXPECT_THAT(Names(second), ElementsAre("c", "d"));
  EXPECT_EQ(second->rv, first->rv);
  EXPECT_THAT(Names(store_.List(Kind::kLease, Select(""), 2, first->next)),
              ElementsAre("c", "d"));  // a token is good for more than once
  const auto third = store_.List(Kind::kLease, Select(""), 2, second->next);
  EXPECT_THAT(Names(third), ElementsAre("e"));
  EXPECT_THAT(third->next, IsEmpty());
}

TEST_F(StoreTest, PagesExpire) {
  for (const char* name : {"a", "b", "c"}) ASSERT_THAT(CreateLease(name), IsOk());
  const std::string by_time = store_.List(Kind::kLease, Select(""), 1)->next;
  world_.Run(absl::Minutes(6));
  EXPECT_THAT(store_.List(Kind::kLease, Select(""), 1, by_time), StatusIs(StatusCode::kOutOfRange));
  const std::string by_number = store_.List(Kind::kLease, Select(""), 1)->next;
  for (int i = 0; i < 100; ++i) (void)store_.List(Kind::kLease, Select(""), 1).status();
  EXPECT_THAT(store_.List(Kind::kLease, Select(""), 1, by_number),
              StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(store_.List(Kind::kLease, Select(""), 1, "what"),
              StatusIs(StatusCode::kInvalidArgument));
}

TEST_F(StoreTest, ListsByLabelFollowChangesOfLabels) {
  ASSERT_THAT(CreateLease("a", {{"app", "db"}, {"tier", "x"}}), IsOk());
  ASSERT_THAT(CreateLease("b", {{"app", "db"}}), IsOk());
  EXPECT_THAT(Names(store_.List(Kind::kLease, Select("app=db"))), ElementsAre("a", "b"));
  EXPECT_THAT(Names(store_.List(Kind::kLease, Select("app=db,tier=x"))), ElementsAre("a"));
  EXPECT_THAT(Names(store_.List(Kind::kLease, Select("app=web"))), IsEmpty());
  ASSERT_THAT(
      store_.Patch({Kind::kLease, "default", "a"},
                   {{"metadata", {{"labels", {{"app", "web"}, {"tier", nullptr}}}}}}, false, "me"),
      IsOk());
  EXPECT_THAT(Names(store_.List(Kind::kLease, Select("app=db"))), ElementsAre("b"));
  EXPECT_THAT(Names(store_.List(Kind::kLease, Select("app=web"))), ElementsAre("a"));
  EXPECT_THAT(Names(store_.List(Kind::kLease, Select("tier=x"))), IsEmpty());
  ASSERT_THAT(world_.Delete({Kind::kLease, "default", "b"}), IsOk());
  EXPECT_THAT(Names(store_.List(Kind::kLease, Select("app=db"))), IsEmpty());
}

class WatchTest : public StoreTest {
 protected:
  uint64_t Watch(const std::string& labels, std::optional<int64_t> rv) {
    const auto id = store_.Watch(Kind::kLease, Select(labels), rv, [this](const StoreEvent& event) {
      static constexpr const char* kWords[] = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"};
      told_.push_back(event.version == nullptr
                          ? kWords[event.type]
                          : fmt::format("{} {}", kWords[event.type], event.version->tags->name));
      EXPECT_GE(event.rv, last_rv_);
      last_rv_ = event.rv;
    });
    EXPECT_THAT(id, IsOk());
    return *id;
  }
  std::vector<std::string> told_;
  int64_t last_rv_ = 0;
};

TEST_F(WatchTest, TellsThePastThenThePresent) {
  const int64_t rv = store_.resource_version();
  ASSERT_THAT(CreateLease("a"), IsOk());
  Watch("", rv);
  EXPECT_THAT(told_, ElementsAre("ADDED a"));
  ASSERT_THAT(store_.Patch({Kind::kLease, "default", "a"}, {{"spec", {{"holderIdentity", "two"}}}},
                           false, "me"),
              IsOk());
  ASSERT_THAT(world_.Delete({Kind::kLease, "default", "a"}), IsOk());
  EXPECT_THAT(told_, ElementsAre("ADDED a", "MODIFIED a", "DELETED a"));
}

TEST_F(WatchTest, ASelectorMakesComingAndGoingOfChanges) {
  Watch("app=db", store_.resource_version());
  ASSERT_THAT(CreateLease("a", {{"app", "web"}}), IsOk());
  const auto label = [&](const json& value) {
    ASSERT_THAT(store_.Patch({Kind::kLease, "default", "a"},
                             {{"metadata", {{"labels", {{"app", value}}}}}}, false, "me"),
                IsOk());
  };
  label("db");
  label("web");
  label("db");
  ASSERT_THAT(world_.Delete({Kind::kLease, "default", "a"}), IsOk());
  EXPECT_THAT(told_, ElementsAre("ADDED a", "DELETED a", "ADDED a", "DELETED a"));
}

TEST_F(WatchTest, WithoutAVersionEveryObjectIsAddedFirst) {
  ASSERT_THAT(CreateLease("a"), IsOk());
  ASSERT_THAT(CreateLease("b"), IsOk());
  const uint64_t id = Watch("", std::nullopt);
  EXPECT_THAT(told_, ElementsAre("ADDED a", "ADDED b"));
  store_.Unwatch(Kind::kLease, id);
  ASSERT_THAT(CreateLease("c"), IsOk());
  EXPECT_THAT(told_, SizeIs(2));
}

TEST_F(WatchTest, BookmarksComeEveryMinute) {
  Watch("", store_.resource_version());
  world_.Run(absl::Seconds(150));
  EXPECT_THAT(told_, ElementsAre("BOOKMARK", "BOOKMARK"));
  EXPECT_EQ(last_rv_, store_.resource_version());
}

TEST_F(WatchTest, HistoryIsBoundedByKind) {
  World world({.store = {.history = 3}});
  Store& store = world.store();
  const auto watch = [&](int64_t rv) {
    return store.Watch(Kind::kNamespace, Selector(), rv, [](const StoreEvent&) {});
  };
  const int64_t start = store.resource_version();
  for (const char* name : {"a", "b", "c"}) world.simulator.AddNamespace(name);
  EXPECT_THAT(watch(start), IsOk());  // exactly three behind
  world.simulator.AddNamespace("d");
  EXPECT_THAT(watch(start), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(watch(start + 1), IsOk());
  store.ExpireHistory();
  EXPECT_THAT(watch(store.resource_version() - 1), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(watch(store.resource_version()), IsOk());
}

TEST_F(StoreTest, ANamespaceGoesWithWhatItHolds) {
  world_.simulator.AddNamespace("shop");
  world_.simulator.AddClaim("shop", "data-0", {});
  world_.Settle();
  ASSERT_THAT(world_.Create(Kind::kSnapshot,
                            {{"metadata", {{"namespace", "shop"}, {"name", "a"}}},
                             {"spec", {{"source", {{"persistentVolumeClaimName", "data-0"}}}}}}),
              IsOk());
  ASSERT_THAT(world_.Delete({Kind::kNamespace, "", "shop"}), IsOk());
  EXPECT_EQ(store_.Find({Kind::kSnapshot, "shop", "a"}), nullptr);
  EXPECT_EQ(store_.Find({Kind::kClaim, "shop", "data-0"}), nullptr);
  EXPECT_EQ(store_.Find({Kind::kNamespace, "", "shop"}), nullptr);
  EXPECT_THAT(world_.simulator.volumes().storage().snapshots, IsEmpty());
}

TEST_F(StoreTest, ANamespaceWaitsForFinalizers) {
  world_.simulator.AddNamespace("shop");
  json held = PolicyJson("p");
  held["metadata"]["namespace"] = "shop";
  held["metadata"]["finalizers"] = {"a.b/c"};
  ASSERT_THAT(world_.Create(Kind::kPolicy, held), IsOk());
  ASSERT_THAT(world_.Delete({Kind::kNamespace, "", "shop"}), IsOk());
  EXPECT_EQ(world_.At({Kind::kNamespace, "", "shop"}, "/status/phase"), "Terminating");
  held["metadata"]["name"] = "q";
  const auto refused = world_.Create(Kind::kPolicy, held);
  EXPECT_EQ(StatusBodyOf(refused.status())["details"]["causes"][0]["reason"],
            "NamespaceTerminating");
  ASSERT_THAT(store_.Patch({Kind::kPolicy, "shop", "p"}, {{"metadata", {{"finalizers", nullptr}}}},
                           false, "me"),
              IsOk());
  world_.Settle();
  EXPECT_EQ(store_.Find({Kind::kNamespace, "", "shop"}), nullptr);
}

TEST_F(StoreTest, NobodyMayDeleteTheNamespacesOfTheSystem) {
  for (const char* name : {"default", "kube-system", "kube-public"}) {
    const absl::Status refused = world_.Delete({Kind::kNamespace, "", name});
    EXPECT_EQ(StatusBodyOf(refused)["code"], 403) << name;
    EXPECT_EQ(
        StatusBodyOf(refused)["message"],
        fmt::format("namespaces \"{}\" is forbidden: this namespace may not be deleted", name));
  }
  EXPECT_EQ(world_.At({Kind::kNamespace, "", "default"}, "/status/phase"), "Active");
}

TEST_F(StoreTest, NoFinalizerIsAddedToWhatIsBeingDeleted) {
  json held = PolicyJson("p");
  held["metadata"]["finalizers"] = {"a.b/c"};
  ASSERT_THAT(world_.Create(Kind::kPolicy, held), IsOk());
  ASSERT_THAT(world_.Delete(policy_), IsOk());
  EXPECT_EQ(world_.At(policy_, "/metadata/generation"), 2);
  EXPECT_THAT(
      store_.Patch(policy_, {{"metadata", {{"finalizers", {"a.b/c", "d.e/f"}}}}}, false, "me"),
      StatusIs(StatusCode::kInvalidArgument, HasSubstr("no new finalizers")));
  const int64_t rv = store_.resource_version();
  EXPECT_THAT(world_.Delete(policy_), IsOk());  // again: nothing happens
  EXPECT_EQ(store_.resource_version(), rv);
}

TEST_F(StoreTest, EventsLiveAnHour) {
  const auto add = [&](const std::string& name) {
    ASSERT_THAT(
        world_.Create(Kind::kEvent, {{"metadata", {{"namespace", "default"}, {"name", name}}},
                                     {"reason", "R"},
                                     {"involvedObject",
                                      {{"kind", "SnapshotPolicy"},
                                       {"namespace", "default"},
                                       {"name", "p"},
                                       {"uid", "u"}}}}),
        IsOk());
  };
  add("a");
  world_.Run(absl::Minutes(59));
  add("b");
  EXPECT_NE(store_.Find({Kind::kEvent, "default", "a"}), nullptr);
  const auto about = ParseSelector(
      {Kind::kEvent, "default", "", "involvedObject.name=p,involvedObject.uid=u,reason!=X"});
  EXPECT_THAT(store_.List(Kind::kEvent, *about)->items, SizeIs(2));
  world_.Run(absl::Minutes(2));
  add("c");
  EXPECT_EQ(store_.Find({Kind::kEvent, "default", "a"}), nullptr);
  EXPECT_NE(store_.Find({Kind::kEvent, "default", "b"}), nullptr);
}

TEST_F(StoreTest, ObserversSeeEveryWriteInOrder) {
  std::vector<std::string> seen;
  store_.OnWrite([&](const StoreWrite& write) {
    if (write.kind == Kind::kLease)
      seen.push_back(fmt::format("{} {} {:d}{:d}", write.user, ToString(write.verb),
                                 write.before != nullptr, write.after != nullptr));
  });
  ASSERT_THAT(CreateLease("a"), IsOk());
  ASSERT_THAT(store_.Patch({Kind::kLease, "default", "a"}, {{"spec", {{"holderIdentity", "two"}}}},
                           false, "other"),
              IsOk());
  ASSERT_THAT(world_.Delete({Kind::kLease, "default", "a"}), IsOk());
  EXPECT_THAT(seen, ElementsAre("test create 01", "other patch 11", "test delete 10"));
}

TEST_F(StoreTest, AFieldThatIsRefusedIsNamed) {
  const auto with = [](const char* field, json value) {
    json body = PolicyJson("p");
    body["metadata"][field] = std::move(value);
    return body;
  };
  const auto owner = [](const char* field, const json& value) {
    json reference = {{"apiVersion", "v1"}, {"kind", "Pod"}, {"name", "x"}, {"uid", "u"}};
    reference[field] = value;
    return json::array({reference});
  };
  const auto key = [](size_t prefix) {
    std::string text = "a";
    while (text.size() < prefix)
      text += text.size() % 2 != 0 && text.size() + 1 < prefix ? '.' : 'b';
    return json{
        {"selector", {{"matchExpressions", {{{"key", text + "/a"}, {"operator", "Exists"}}}}}}};
  };
  const json controller = owner("controller", true);
  json two = controller;
  two.push_back(controller[0]);
  struct Case {
    json body;
    int code;  // 0: taken
    const char* field;
  };
  for (const Case& c : {
           // A fraction or an exponent is taken up to 2^53, as far as a double is exact.
           Case{PolicyJson("p", {{"startingDeadlineSeconds", 20.0}}), 0, ""},
           Case{PolicyJson("p", {{"startingDeadlineSeconds", INT64_MAX}}), 0, ""},
           Case{PolicyJson("p", {{"startingDeadlineSeconds", UINT64_MAX}}), 422,
                "spec.startingDeadlineSeconds"},
           Case{PolicyJson("p", {{"startingDeadlineSeconds", 1e18}}), 422,
                "spec.startingDeadlineSeconds"},
           Case{PolicyJson("p", {{"startingDeadlineSeconds", 1e300}}), 422,
                "spec.startingDeadlineSeconds"},
           Case{PolicyJson("p", {{"startingDeadlineSeconds", -1e300}}), 422,
                "spec.startingDeadlineSeconds"},
           Case{PolicyJson("p", {{"retention", {{"keepLast", 2147483647}}}}), 0, ""},
           Case{PolicyJson("p", {{"retention", {{"keepLast", 2147483648}}}}), 422,
                "spec.retention.keepLast"},
           Case{PolicyJson("p", key(253)), 0, ""},
           Case{PolicyJson("p", key(254)), 422, "spec.selector.matchExpressions[0].key"},
           Case{with("finalizers", {"a.b/c", "zz"}), 0, ""},
           Case{with("finalizers", {"a b"}), 422, "metadata.finalizers"},
           Case{with("finalizers", {"a b/c"}), 422, "metadata.finalizers"},
           Case{with("finalizers", {""}), 422, "metadata.finalizers"},
           Case{with("ownerReferences", controller), 0, ""},
           Case{with("ownerReferences", two), 422, "metadata.ownerReferences"},
           Case{with("ownerReferences", owner("name", "")), 422, "metadata.ownerReferences.name"},
           Case{with("ownerReferences", owner("apiVersion", "a/b/c")), 422,
                "metadata.ownerReferences.apiVersion"},
           Case{with("ownerReferences", {json::object()}), 422,
                "metadata.ownerReferences.apiVersion"},
           Case{with("ownerReferences", {5}), 400, ""},
           Case{with("ownerReferences", "x"), 400, ""},
           Case{with("ownerReferences", owner("uid", 5)), 400, ""},
           Case{with("ownerReferences", owner("controller", "x")), 400, ""},
       }) {
    const auto created = store_.Create(Kind::kPolicy, c.body, "me", /*dry_run=*/true);
    ASSERT_EQ(created.ok(), c.code == 0) << c.body << created.status();
    if (created.ok()) continue;
    const json status = StatusBodyOf(created.status());
    EXPECT_EQ(status["code"], c.code) << c.body;
    if (c.code == 400) continue;
    EXPECT_EQ(status["details"]["causes"][0]["field"], c.field) << c.body;
  }
  // Of a core kind they must be qualified, or one of Kubernetes' own.
  json claim = ClaimJson("c");
  claim["metadata"]["finalizers"] = {"orphan", "zz"};
  EXPECT_EQ(StatusBodyOf(
                store_.Create(Kind::kClaim, claim, "me").status())["details"]["causes"][0]["field"],
            "metadata.finalizers[1]");
}

TEST_F(StoreTest, ATextThatIsTooLongForAPatternIsAnsweredAndNoMore) {
  const std::string longest(4096, 'a'), huge(300'000, 'a');
  struct Case {
    json spec;
    const char* field;
  };
  for (const std::string& text : {longest, longest + 'a', huge}) {
    for (const Case& c :
         {Case{{{"snapshotClassName", text}}, "spec.snapshotClassName"},
          Case{{{"selector", {{"matchLabels", {{"app", text}}}}}}, "spec.selector.matchLabels.app"},
          Case{{{"selector",
                 {{"matchExpressions", {{{"key", text + "!"}, {"operator", "Exists"}}}}}}},
               "spec.selector.matchExpressions[0].key"}}) {
      const auto refused = world_.Create(Kind::kPolicy, PolicyJson("p", c.spec));
      EXPECT_EQ(StatusBodyOf(refused.status())["details"]["causes"][0]["field"], c.field);
    }
  }
}

TEST_F(StoreTest, GeneratedNamesEndInFiveRandomLetters) {
  const auto version = store_.Create(
      Kind::kPolicy,
      [] {
        json body = PolicyJson("");
        body["metadata"]["generateName"] = std::string(70, 'a');
        return body;
      }(),
      "me");
  ASSERT_THAT(version, IsOk());
  EXPECT_THAT((*version)->tags->name, SizeIs(63));
}

TEST_F(StoreTest, ADataSourceThatNobodyKnowsIsDroppedWithoutAWord) {
  struct Case {
    json spec;
    bool kept;
  };
  int i = 0;
  const json good = {
      {"apiGroup", "snapshot.storage.k8s.io"}, {"kind", "VolumeSnapshot"}, {"name", "s"}};
  const json versioned = {
      {"apiGroup", "snapshot.storage.k8s.io/v1"}, {"kind", "VolumeSnapshot"}, {"name", "s"}};
  json elsewhere = good;
  elsewhere["namespace"] = "other";
  for (const Case& c :
       {Case{{{"dataSource", good}}, true}, Case{{{"dataSourceRef", good}}, true},
        Case{{{"dataSource", versioned}}, false}, Case{{{"dataSourceRef", elsewhere}}, false}}) {
    const std::string name = fmt::format("claim-{}", ++i);
    ASSERT_THAT(world_.Create(Kind::kClaim, ClaimJson(name, c.spec)), IsOk());
    const ObjectKey key{Kind::kClaim, "default", name};
    EXPECT_EQ(world_.At(key, "/spec/dataSource").is_object(), c.kept) << c.spec;
    EXPECT_EQ(world_.At(key, "/spec/dataSourceRef"), world_.At(key, "/spec/dataSource")) << c.spec;
  }
}

}  // namespace
}  // namespace snapkeeper
