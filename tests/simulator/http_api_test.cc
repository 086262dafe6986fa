#include "simulator/http_api.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/http/curl_transport.h"
#include "tests/simulator/world.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kPolicies[] = "/apis/snapkeeper.io/v1alpha1/namespaces/default/snapshotpolicies";
constexpr char kClaims[] = "/api/v1/namespaces/default/persistentvolumeclaims";
constexpr char kTable[] = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
constexpr char kMerge[] = "Content-Type: application/merge-patch+json";

// What kubectl sends and expects; what our own client relies on is held by tests/contract.
class HttpApiTest : public testing::Test {
 protected:
  HttpApiTest() {
    simulator_.AddSnapshotClass("sim", kSimDriver, true);
    simulator_.AddClaim("default", "data-0", {{"app", "db"}});
    auto api = HttpApi::Listen(loop_, simulator_, "127.0.0.1:0");
    EXPECT_THAT(api, IsOk());
    api_ = *std::move(api);
  }

  bool RunUntil(absl::FunctionRef<bool()> done) {
    const absl::Duration end = loop_.Elapsed() + absl::Seconds(10);
    while (!done() && loop_.Elapsed() < end) {
      if (!loop_.Turn()) transport_.Wait(std::min(loop_.NextTimer(), end) - loop_.Elapsed());
    }
    return done();
  }
  HttpRequest Request(const std::string& method, const std::string& path, std::string body,
                      std::vector<std::string> headers) {
    return {.method = method,
            .url = "http://" + api_->address() + path,
            .headers = std::move(headers),
            .body = std::move(body)};
  }
  HttpResponse Send(const std::string& method, const std::string& path, const json& body = nullptr,
                    std::vector<std::string> headers = {}) {
    return SendText(method, path, body.is_null() ? "" : body.dump(), std::move(headers));
  }
  HttpResponse SendText(const std::string& method, const std::string& path, std::string body,
                        std::vector<std::string> headers) {
    std::optional<absl::StatusOr<HttpResponse>> response;
    const Call call =
        transport_.Send(Request(method, path, std::move(body), std::move(headers)),
                        [&](absl::StatusOr<HttpResponse> r) { response = std::move(r); });
    EXPECT_TRUE(RunUntil([&] { return response.has_value(); }));
    EXPECT_THAT(*response, IsOk());
    return response && response->ok() ? **response : HttpResponse();
  }
  json Get(const std::string& path, std::vector<std::string> headers = {}) {
    const HttpResponse response = Send("GET", path, nullptr, std::move(headers));
    EXPECT_EQ(response.code, 200) << response.body;
    return json::parse(response.body);
  }

  CurlTransport transport_;
  EventLoop loop_{transport_};
  Rng rng_{1};
  Simulator simulator_{loop_, rng_, {.store = {.keep_text = true}}};
  std::unique_ptr<HttpApi> api_;
};

TEST_F(HttpApiTest, DiscoveryNamesEveryKindBothWays) {
  const std::string aggregated =
      "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
  const HttpResponse groups = Send("GET", "/apis", nullptr, {aggregated});
  EXPECT_THAT(groups.headers.at("content-type"), HasSubstr("as=APIGroupDiscoveryList"));
  EXPECT_THAT(groups.body, HasSubstr("\"snapshotpolicies\""));
  EXPECT_THAT(Send("GET", "/api", nullptr, {aggregated}).body,
              HasSubstr("\"persistentvolumeclaims\""));
  EXPECT_EQ(Get("/api")["versions"], json({"v1"}));
  const json listed = Get("/apis")["groups"];
  for (const json& group : listed) {
    const std::string version = group["preferredVersion"]["groupVersion"];
    EXPECT_EQ(Get("/apis/" + version)["groupVersion"], version);
    EXPECT_EQ(Get("/apis/" + group["name"].get<std::string>())["kind"], "APIGroup");
  }
  EXPECT_THAT(Get("/version")["gitVersion"].get<std::string>(), testing::StartsWith("v1.36."));
  const json open_api = Get("/openapi/v3")["paths"];
  for (const auto& [name, document] : open_api.items()) {
    EXPECT_THAT(Send("GET", document["serverRelativeURL"]).body,
                HasSubstr("x-kubernetes-group-version-kind"))
        << name;
  }
}

TEST_F(HttpApiTest, WhatIsNotThereIsTold) {
  struct Case {
    const char *method, *path;
    int code;
  };
  for (const Case& c :
       {Case{"GET", "/apis/none.io/v1/things", 404}, Case{"GET", "/", 404},
        Case{"GET", "/api/v1/namespaces/default/none", 404},
        Case{"GET", "/api/v1/persistentvolumeclaims/data-0", 404}, Case{"PUT", kClaims, 405},
        Case{"POST", "/api/v1/namespaces/default/pods", 405}, Case{"GET", "/simulator/none", 404},
        Case{"GET", "/livez", 200}, Case{"GET", "/api/v1/namespaces/default", 200},
        Case{"GET", "/api/v1/namespaces/default/status", 200},
        Case{"GET", "/api/v1/namespaces/default/pods", 200},
        Case{"GET", "/apis/storage.k8s.io/v1/storageclasses/sim", 200},
        Case{"GET", "/apis/storage.k8s.io/v1/storageclasses/none", 404}}) {
    EXPECT_EQ(Send(c.method, c.path).code, c.code) << c.method << " " << c.path;
  }
}

// kubectl asks for it before it takes a List or a kind that it cannot find.
TEST_F(HttpApiTest, TheOldOpenApiDescribesNothingSoThatKubectlChecksNothingByIt) {
  const std::string protobuf = "Accept: application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
  const HttpResponse empty = Send("GET", "/openapi/v2", nullptr, {protobuf});
  EXPECT_EQ(empty.code, 200);
  EXPECT_THAT(empty.headers.at("content-type"), HasSubstr("protobuf"));
  EXPECT_EQ(empty.body, "");
  const json document = Get("/openapi/v2");
  EXPECT_EQ(document["swagger"], "2.0");
  EXPECT_EQ(document["paths"], json::object());
}

TEST_F(HttpApiTest, TablesHaveTheColumnsOfKubectl) {
  RunUntil([&] { return simulator_.store().Find<Claim>("default", "data-0")->phase == "Bound"; });
  const json table = Get(kClaims, {kTable});
  std::vector<std::string> names;
  for (const json& column : table["columnDefinitions"]) names.push_back(column["name"]);
  EXPECT_THAT(names, ElementsAre("Name", "Status", "Volume", "Capacity", "Access Modes",
                                 "StorageClass", "VolumeAttributesClass", "Age", "VolumeMode"));
  const json& cells = table["rows"][0]["cells"];
  EXPECT_EQ(cells[0], "data-0");
  EXPECT_EQ(cells[1], "Bound");
  EXPECT_EQ(cells[4], "RWO");
  EXPECT_EQ(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");

  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("p")).code, 201);
  ASSERT_EQ(Send("PATCH", std::string(kPolicies) + "/p/status",
                 {{"status",
                   {{"selectedVolumes", 3},
                    {"conditions",
                     {{{"type", "Ready"},
                       {"status", "True"},
                       {"reason", "R"},
                       {"message", ""},
                       {"lastTransitionTime", "2026-01-01T00:00:00Z"}}}}}}},
                 {kMerge})
                .code,
            200);
  const json row = Get(std::string(kPolicies) + "/p?includeObject=Object", {kTable})["rows"][0];
  EXPECT_EQ(row["cells"][1], "@hourly");
  EXPECT_EQ(row["cells"][3], 3);
  EXPECT_EQ(row["cells"][6], "True");
  EXPECT_EQ(row["object"]["kind"], "SnapshotPolicy");
}

TEST_F(HttpApiTest, ListsHaveTypedItemsOfCustomResourcesOnly) {
  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("p")).code, 201);
  EXPECT_EQ(Get(kPolicies)["items"][0]["kind"], "SnapshotPolicy");
  const json claim = Get(kClaims)["items"][0];
  EXPECT_FALSE(claim.contains("kind"));
  EXPECT_EQ(claim["metadata"]["name"], "data-0");
}

TEST_F(HttpApiTest, PagesGoOnWhereTheyStoppedAndRefuseOtherVersions) {
  for (const char* name : {"a", "b", "c"})
    ASSERT_EQ(Send("POST", kPolicies, PolicyJson(name)).code, 201);
  const json first = Get(std::string(kPolicies) + "?limit=2");
  EXPECT_EQ(first["metadata"]["remainingItemCount"], 1);
  const std::string next = std::string(kPolicies) +
                           "?limit=2&continue=" + first["metadata"]["continue"].get<std::string>();
  const json second = Get(next);
  EXPECT_EQ(second["items"].size(), 1u);
  EXPECT_EQ(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
  EXPECT_EQ(Send("GET", next + "&resourceVersion=5").code, 400);
  EXPECT_EQ(Send("GET", std::string(kPolicies) + "?resourceVersion=99999").code, 504);
  EXPECT_EQ(
      Send("GET", std::string(kPolicies) + "?resourceVersion=1&resourceVersionMatch=Exact").code,
      410);
  EXPECT_EQ(Send("POST", "/simulator/expire").code, 200);
  const HttpResponse expired = Send("GET", next);
  EXPECT_EQ(expired.code, 410);
  EXPECT_EQ(json::parse(expired.body)["reason"], "Expired");
}

TEST_F(HttpApiTest, StrictValidationRefusesUnknownFields) {
  const json wrong = PolicyJson("p", {{"retentionn", {{"keepLast", 3}}}});
  const HttpResponse refused =
      Send("POST", std::string(kPolicies) + "?fieldValidation=Strict", wrong);
  EXPECT_EQ(refused.code, 400);
  EXPECT_THAT(refused.body, HasSubstr("unknown field \\\"spec.retentionn\\\""));
  EXPECT_EQ(Send("POST", std::string(kPolicies) + "?fieldValidation=Warn", wrong).code, 201);
  EXPECT_FALSE(Get(std::string(kPolicies) + "/p")["spec"].contains("retentionn"));
  const std::string policy = std::string(kPolicies) + "/p?fieldValidation=";
  const json patch = {{"spec", {{"suspendd", true}, {"snapshotClassName", nullptr}}}};
  const HttpResponse typo = Send("PATCH", policy + "Strict", patch, {kMerge});
  EXPECT_EQ(typo.code, 422);
  EXPECT_THAT(typo.body, HasSubstr("unknown field \\\"spec.suspendd\\\""));
  EXPECT_EQ(Send("PATCH", policy + "Warn", patch, {kMerge}).code, 200);
  EXPECT_EQ(Send("PATCH", policy + "Strict", {{"spec", {{"suspend", true}}}}, {kMerge}).code, 200);
}

TEST_F(HttpApiTest, InvalidObjectsNameEachField) {
  const HttpResponse refused =
      Send("POST", kPolicies,
           PolicyJson("p", {{"missedRunPolicy", "Perhaps"}, {"retention", {{"keepLast", 0}}}}));
  EXPECT_EQ(refused.code, 422);
  const json causes = json::parse(refused.body)["details"]["causes"];
  EXPECT_EQ(causes[0],
            json({{"reason", "FieldValueNotSupported"},
                  {"field", "spec.missedRunPolicy"},
                  {"message",
                   "Unsupported value: \"Perhaps\": supported values: \"Latest\", \"Skip\""}}));
  EXPECT_EQ(causes[1]["field"], "spec.retention.keepLast");
}

TEST_F(HttpApiTest, AMalformedRequestIsAnsweredAndNoMore) {
  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("p")).code, 201);
  const std::string events = "/api/v1/namespaces/default/events",
                    claim = std::string(kClaims) + "/data-0";
  const std::vector<std::string> merge = {kMerge},
                                 apply = {"Content-Type: application/apply-patch+yaml"};
  EXPECT_EQ(Send("GET", std::string(kClaims) + "/%ff").code, 400);
  for (const char* option : {"labelSelector", "fieldSelector", "resourceVersion"})
    EXPECT_EQ(Send("GET", std::string(kClaims) + "?" + option + "=%ff").code, 400) << option;
  EXPECT_EQ(
      Send("PATCH", std::string(kClaims) + "/new?fieldManager=me", {{"metadata", "x"}}, apply).code,
      400);
  EXPECT_EQ(Send("DELETE", claim, {{"preconditions", {{"uid", 5}}}}).code, 400);
  const auto event = [](const char* name, const json& more) {
    json object = {{"metadata", {{"name", name}, {"namespace", "default"}}},
                   {"involvedObject", {{"namespace", "default"}}}};
    object.update(more);
    return object;
  };
  EXPECT_EQ(Send("POST", events, event("a", {{"source", "x"}})).code, 201);
  EXPECT_EQ(Send("POST", events, event("b", {{"reportingComponent", 5}})).code, 201);
  EXPECT_EQ(Send("PATCH", claim + "/status", {{"status", {{"accessModes", {5}}}}}, merge).code,
            200);
  EXPECT_EQ(Send("GET", kClaims, nullptr, {kTable}).code, 200);
  EXPECT_EQ(Send("GET", std::string(kClaims) + "?limit=-1").code, 200);
}

TEST_F(HttpApiTest, AListThatIsAMapHasEachKeyOnce) {
  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("p")).code, 201);
  const json ready = {{"type", "Ready"},
                      {"status", "True"},
                      {"reason", "R"},
                      {"message", ""},
                      {"lastTransitionTime", "2026-11-22T15:00:00Z"}};
  const HttpResponse refused =
      Send("PATCH", std::string(kPolicies) + "/p/status",
           {{"status", {{"conditions", json::array({ready, ready})}}}}, {kMerge});
  EXPECT_EQ(refused.code, 422);
  EXPECT_EQ(json::parse(refused.body)["details"]["causes"][0]["field"], "status.conditions[1]");
}

TEST_F(HttpApiTest, EachKindOfPatchIsTakenWhereKubernetesTakesIt) {
  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("p")).code, 201);
  const std::string policy = std::string(kPolicies) + "/p",
                    claim = std::string(kClaims) + "/data-0";
  const auto type = [](const std::string& subtype) {
    return std::vector<std::string>{"Content-Type: application/" + subtype};
  };
  const json suspend = {{"op", "add"}, {"path", "/spec/suspend"}, {"value", true}},
             test = {{"op", "test"}, {"path", "/spec/suspend"}, {"value", true}},
             replace = {{"op", "replace"}, {"path", "/spec/timeZone"}, {"value", "UTC"}};
  const json labels = {{"metadata", {{"labels", {{"x", "y"}}}}}};
  struct Case {
    std::string path, type;
    json patch;
    int code;
  };
  for (const Case& c : {
           Case{policy, "json-patch+json", json::array({test}), 422},
           Case{policy, "json-patch+json", json::array({suspend, test}), 200},
           Case{policy, "json-patch+json",
                json::array({{{"op", "remove"}, {"path", "/spec/none"}}}), 422},
           Case{policy, "json-patch+json", {{"op", "add"}}, 400},
           Case{policy, "json-patch+json", json::array({5}), 400},
           Case{policy, "json-patch+json", json::array({{{"op", 5}, {"path", "/x"}}}), 400},
           Case{policy, "json-patch+json", json::array({{{"op", "bogus"}, {"path", "/x"}}}), 422},
           Case{policy, "json-patch+json", json::array({{{"path", "/x"}}}), 422},
           Case{policy, "json-patch+json", json::array({{{"op", "add"}}}), 422},
           Case{policy, "json-patch+json", json::array({replace}), 200},
           Case{policy, "json-patch+json",
                json::array({{{"op", "replace"}, {"path", "/none/x"}, {"value", 1}}}), 422},
           Case{policy, "json-patch+json",
                json::array({{{"op", "add"}, {"path", "/spec/schedule/x"}, {"value", 1}}}), 422},
           Case{policy, "merge-patch+json", {{"spec", {{"suspend", nullptr}}}}, 200},
           Case{policy, "strategic-merge-patch+json", labels, 415},
           Case{policy, "json", labels, 415},
           Case{claim, "strategic-merge-patch+json", labels, 200},
           Case{std::string(kClaims) + "/none", "merge-patch+json", labels, 404},
           Case{policy, "apply-patch+yaml", PolicyJson("p"), 422},
           Case{policy + "?fieldManager=me", "apply-patch+yaml",
                PolicyJson("p", {{"suspend", true}}), 200},
           Case{std::string(kPolicies) + "/new?fieldManager=me", "apply-patch+yaml",
                PolicyJson("new"), 201},
       }) {
    EXPECT_EQ(Send("PATCH", c.path, c.patch, type(c.type)).code, c.code)
        << c.type << " " << c.patch;
  }
  EXPECT_EQ(Get(claim)["metadata"]["labels"], json({{"app", "db"}, {"x", "y"}}));
}

TEST_F(HttpApiTest, AJsonPatchThatGrowsWithoutBoundIsRefused) {
  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("p")).code, 201);
  const std::string path = std::string(kPolicies) + "/p";
  const std::vector<std::string> type = {"Content-Type: application/json-patch+json"};
  json wide = json::array({{{"op", "add"}, {"path", "/spec/x"}, {"value", {"0123456789"}}}});
  for (int i = 0; i < 20; ++i)
    wide.push_back({{"op", "copy"}, {"from", "/spec/x"}, {"path", "/spec/x/-"}});
  EXPECT_EQ(Send("PATCH", path, wide, type).code, 422);
  json deep = json::array({{{"op", "add"}, {"path", "/spec/x"}, {"value", {{"x", 1}}}}});
  std::string bottom = "/spec/x";
  for (int levels = 1; levels <= 128; levels *= 2) {
    while (bottom.size() < std::string("/spec/x").size() + 2 * levels) bottom += "/x";
    deep.push_back({{"op", "copy"}, {"from", "/spec/x"}, {"path", bottom}});
  }
  EXPECT_EQ(Send("PATCH", path, deep, type).code, 422);
  json many = json::array();
  for (int i = 0; i < 10'000; ++i)
    many.push_back({{"op", "test"}, {"path", "/spec/schedule"}, {"value", "@hourly"}});
  EXPECT_EQ(Send("PATCH", path, many, type).code, 200);
  many.push_back(many[0]);
  const HttpResponse refused = Send("PATCH", path, many, type);
  EXPECT_EQ(refused.code, 413);
  EXPECT_THAT(refused.body, HasSubstr("maximum operations in a JSON patch is 10000, got 10001"));
}

TEST_F(HttpApiTest, AStrategicPatchTreatsFinalizersAsASet) {
  const std::string claim = std::string(kClaims) + "/data-0";
  const std::vector<std::string> type = {"Content-Type: application/strategic-merge-patch+json"};
  ASSERT_EQ(
      Send("PATCH", claim,
           {{"metadata", {{"finalizers", {"a.b/c"}}, {"$setElementOrder/finalizers", {"a.b/c"}}}}},
           type)
          .code,
      200);
  ASSERT_EQ(Send("PATCH", claim, {{"metadata", {{"finalizers", {"d.e/f", "a.b/c"}}}}}, type).code,
            200);
  EXPECT_EQ(Get(claim)["metadata"]["finalizers"], json({"a.b/c", "d.e/f"}));
  ASSERT_EQ(Send("PATCH", claim,
                 {{"metadata", {{"$deleteFromPrimitiveList/finalizers", {"a.b/c"}}}}}, type)
                .code,
            200);
  EXPECT_EQ(Get(claim)["metadata"]["finalizers"], json({"d.e/f"}));
}

TEST_F(HttpApiTest, PutReplacesAndKeepsTheStatus) {
  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("p", {{"suspend", true}})).code, 201);
  const std::string path = std::string(kPolicies) + "/p";
  ASSERT_EQ(Send("PATCH", path + "/status", {{"status", {{"epoch", 4}}}}, {kMerge}).code, 200);
  json body = PolicyJson("p", {{"schedule", "@daily"}});
  EXPECT_EQ(Send("PUT", path, body).code, 422);  // a custom resource needs its version
  body["metadata"]["resourceVersion"] = "1";
  EXPECT_EQ(Send("PUT", path, body).code, 409);
  body["metadata"]["resourceVersion"] = Get(path)["metadata"]["resourceVersion"];
  EXPECT_EQ(Send("PUT", path, body).code, 200);
  const json stored = Get(path);
  EXPECT_EQ(stored["spec"]["schedule"], "@daily");
  EXPECT_EQ(stored["spec"]["suspend"], false);  // the default again
  EXPECT_EQ(stored["status"]["epoch"], 4);
}

TEST_F(HttpApiTest, DeleteAnswersWithWhatIsLeft) {
  json held = PolicyJson("held");
  held["metadata"]["finalizers"] = {"a.b/c"};
  ASSERT_EQ(Send("POST", kPolicies, held).code, 201);
  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("free")).code, 201);
  const json left = json::parse(Send("DELETE", std::string(kPolicies) + "/held").body);
  EXPECT_TRUE(left["metadata"].contains("deletionTimestamp"));
  const json conflict =
      json::parse(Send("DELETE", std::string(kPolicies) + "/free",
                       {{"kind", "DeleteOptions"}, {"preconditions", {{"uid", "other"}}}})
                      .body);
  EXPECT_EQ(conflict["reason"], "Conflict");
  const json gone = json::parse(Send("DELETE", std::string(kPolicies) + "/free").body);
  EXPECT_EQ(gone["status"], "Success");
  EXPECT_EQ(gone["details"]["name"], "free");
  EXPECT_EQ(Send("DELETE", std::string(kPolicies) + "/free").code, 404);
}

TEST_F(HttpApiTest, ACollectionIsDeletedBySelector) {
  for (const char* name : {"a", "b"})
    ASSERT_EQ(Send("POST", kPolicies, PolicyJson(name)).code, 201);
  ASSERT_EQ(Send("PATCH", std::string(kPolicies) + "/a", {{"metadata", {{"labels", {{"x", "y"}}}}}},
                 {kMerge})
                .code,
            200);
  EXPECT_EQ(Send("DELETE", std::string(kPolicies) + "?labelSelector=x%3Dy").code, 200);
  EXPECT_EQ(Send("GET", std::string(kPolicies) + "/a").code, 404);
  EXPECT_EQ(Send("GET", std::string(kPolicies) + "/b").code, 200);
}

TEST_F(HttpApiTest, ADryRunChangesNothing) {
  EXPECT_EQ(Send("POST", std::string(kPolicies) + "?dryRun=All", PolicyJson("p")).code, 201);
  EXPECT_EQ(Send("GET", std::string(kPolicies) + "/p").code, 404);
}

TEST_F(HttpApiTest, OptionsThatAreNotUnderstoodAreRefusedAndNothingIsDone) {
  const std::string p = std::string(kPolicies) + "/p";
  const std::vector<std::string> apply = {"Content-Type: application/apply-patch+yaml"};
  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("p")).code, 201);
  const int64_t rv = simulator_.store().resource_version();
  struct Case {
    std::string method, path;
    json body;
    int code;
    const char* says;
  };
  for (const Case& c : {
           Case{"POST", std::string(kPolicies) + "?dryRun=x", PolicyJson("q"), 422,
                R"(CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"x\"])"},
           Case{"POST", std::string(kPolicies) + "?dryRun=", PolicyJson("q"), 422, "dryRun"},
           Case{"POST", std::string(kPolicies) + "?fieldValidation=x", PolicyJson("q"), 422,
                "fieldValidation: Unsupported value"},
           Case{"PUT", p + "?dryRun=x", PolicyJson("p"), 422, "UpdateOptions.meta.k8s.io"},
           Case{"PATCH",
                p + "?dryRun=x",
                {{"spec", {{"suspend", true}}}},
                422,
                "PatchOptions.meta.k8s.io"},
           Case{"PATCH",
                p + "?fieldValidation=x",
                {{"spec", {{"suspend", true}}}},
                422,
                "fieldValidation"},
           Case{"DELETE", p + "?dryRun=x", nullptr, 422, "DeleteOptions.meta.k8s.io"},
           Case{"DELETE", p, {{"dryRun", {"x"}}}, 422, R"(Unsupported value: [\"x\"])"},
           Case{"DELETE", p, {{"dryRun", {"All", "x"}}}, 422, "dryRun"},
           Case{"DELETE", p, {{"dryRun", "All"}}, 400, "dryRun"},
           Case{"DELETE", p + "?propagationPolicy=x", nullptr, 422,
                "propagationPolicy: Unsupported value"},
           Case{"DELETE", p, {{"propagationPolicy", "x"}}, 422, "propagationPolicy"},
           Case{"DELETE", p, {{"propagationPolicy", 5}}, 400, "propagationPolicy"},
           Case{"DELETE", std::string(kPolicies) + "?dryRun=x", nullptr, 422, "dryRun"},
           Case{"DELETE", std::string(kPolicies) + "?timeoutSeconds=x", nullptr, 400, "ParseInt"},
           Case{"GET", std::string(kPolicies) + "?timeoutSeconds=x", nullptr, 400, "ParseInt"},
           Case{"GET", std::string(kPolicies) + "?watch=1&timeoutSeconds=x", nullptr, 400,
                "ParseInt"},
       }) {
    const HttpResponse refused =
        Send(c.method, c.path, c.body,
             c.method == "PATCH" ? std::vector<std::string>{kMerge} : std::vector<std::string>());
    EXPECT_EQ(refused.code, c.code) << c.method << " " << c.path << " " << c.body;
    EXPECT_THAT(refused.body, HasSubstr(c.says)) << c.method << " " << c.path;
  }
  EXPECT_EQ(simulator_.store().resource_version(), rv);
  EXPECT_EQ(Send("DELETE", p, {{"dryRun", {"All"}}, {"propagationPolicy", "Orphan"}}).code, 200);
  EXPECT_EQ(Send("DELETE", p + "?dryRun=All&propagationPolicy=Background").code, 200);
  EXPECT_EQ(simulator_.store().resource_version(), rv);
}

TEST_F(HttpApiTest, ABodyMustSayWhatItIs) {
  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("p")).code, 201);
  const std::string p = std::string(kPolicies) + "/p";
  const auto without = [](json object, const char* field) {
    object.erase(field);
    return object;
  };
  for (const char* field : {"kind", "apiVersion"})
    EXPECT_EQ(Send("POST", kPolicies, without(PolicyJson("q"), field)).code, 400) << field;
  // Of the core kinds the path says enough.
  EXPECT_EQ(Send("POST", kClaims, ClaimJson("untyped")).code, 201);
  json other = PolicyJson("q"), nameless = PolicyJson(""), elsewhere = PolicyJson("p");
  elsewhere["metadata"]["namespace"] = "shop";
  for (const json& body :
       {other, nameless, elsewhere, without(PolicyJson("p"), "metadata"),
        without(PolicyJson("p"), "kind"), without(PolicyJson("p"), "apiVersion")})
    EXPECT_EQ(Send("PUT", p, body).code, 400) << body;
  json foreign = Get(std::string(kClaims) + "/untyped");
  foreign["kind"] = "Pod";
  EXPECT_EQ(Send("PUT", std::string(kClaims) + "/untyped", foreign).code, 400);
}

TEST_F(HttpApiTest, NamespacesAreMadeFromKubectlsProtobuf) {
  // `kubectl create namespace shop`: magic, Unknown{typeMeta{v1, Namespace}, raw:
  // Namespace{metadata{name: shop}}}.
  const auto field = [](int number, const std::string& value) {
    return std::string(1, static_cast<char>(number << 3 | 2)) + static_cast<char>(value.size()) +
           value;
  };
  const std::string meta = field(1, "shop") + field(11, field(1, "team") + field(2, "a"));
  const std::string body = std::string("k8s\0", 4) +
                           field(1, field(1, "v1") + field(2, "Namespace")) +
                           field(2, field(1, meta) + field(2, "") + field(3, ""));
  const std::vector<std::string> type = {"Content-Type: application/vnd.kubernetes.protobuf"};
  EXPECT_EQ(SendText("POST", "/api/v1/namespaces", body, type).code, 201);
  EXPECT_EQ(Get("/api/v1/namespaces/shop")["metadata"]["labels"]["team"], "a");
  EXPECT_EQ(SendText("POST", "/api/v1/namespaces", body.substr(0, body.size() - 3), type).code,
            415);
  EXPECT_EQ(SendText("POST", kClaims, body, type).code, 415);
}

class HttpWatchTest : public HttpApiTest {
 protected:
  Call Watch(const std::string& query, std::vector<std::string> headers = {}) {
    HttpRequest request =
        Request("GET", std::string(kPolicies) + "?watch=1" + query, "", std::move(headers));
    request.deadline = absl::InfiniteDuration();
    return transport_.Send(
        std::move(request), [this](std::string_view data) { text_ += data; },
        [this](absl::StatusOr<HttpResponse>) { ended_ = true; });
  }
  // Once `count` frames have come.
  std::vector<json> Frames(size_t count) {
    EXPECT_TRUE(RunUntil([&] {
      return std::count(text_.begin(), text_.end(), '\n') >= static_cast<long>(count);
    })) << text_;
    std::vector<json> frames;
    for (size_t begin = 0; begin < text_.size();) {
      const size_t end = text_.find('\n', begin);
      frames.push_back(json::parse(text_.substr(begin, end - begin)));
      begin = end + 1;
    }
    return frames;
  }
  std::string text_;
  bool ended_ = false;
};

TEST_F(HttpWatchTest, FramesFollowWritesAndTheWatchEndsInTime) {
  const Call call = Watch("&timeoutSeconds=1&resourceVersion=" +
                          std::to_string(simulator_.store().resource_version()));
  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("p")).code, 201);
  ASSERT_EQ(Send("DELETE", std::string(kPolicies) + "/p").code, 200);
  const std::vector<json> frames = Frames(2);
  EXPECT_EQ(frames[0]["type"], "ADDED");
  EXPECT_EQ(frames[1]["type"], "DELETED");
  EXPECT_GT(std::stoi(frames[1]["object"]["metadata"]["resourceVersion"].get<std::string>()),
            std::stoi(frames[0]["object"]["metadata"]["resourceVersion"].get<std::string>()));
  EXPECT_TRUE(RunUntil([&] { return ended_; }));
}

TEST_F(HttpWatchTest, InitialEventsEndWithAMarkedBookmark) {
  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("p")).code, 201);
  EXPECT_EQ(Send("GET", std::string(kPolicies) + "?watch=1&sendInitialEvents=true").code, 422);
  const Call call =
      Watch("&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan");
  const std::vector<json> frames = Frames(2);
  EXPECT_EQ(frames[0]["type"], "ADDED");
  EXPECT_EQ(frames[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

TEST_F(HttpWatchTest, TheForgottenPastIsAnErrorFrame) {
  simulator_.store().ExpireHistory();
  const Call call = Watch("&resourceVersion=1");
  const std::vector<json> frames = Frames(1);
  EXPECT_EQ(frames[0]["type"], "ERROR");
  EXPECT_EQ(frames[0]["object"]["code"], 410);
}

TEST_F(HttpWatchTest, TablesAndChangesOfSelection) {
  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("p")).code, 201);
  const Call call = Watch("&labelSelector=x%3Dy", {kTable});
  const auto label = [&](const json& value) {
    ASSERT_EQ(Send("PATCH", std::string(kPolicies) + "/p",
                   {{"metadata", {{"labels", {{"x", value}}}}}}, {kMerge})
                  .code,
              200);
  };
  label("y");
  label(nullptr);
  const std::vector<json> frames = Frames(2);
  EXPECT_EQ(frames[0]["type"], "ADDED");
  EXPECT_EQ(frames[0]["object"]["rows"][0]["cells"][0], "p");
  EXPECT_EQ(frames[1]["type"], "DELETED");
  EXPECT_EQ(frames[1]["object"]["rows"][0]["object"]["metadata"]["resourceVersion"],
            std::to_string(simulator_.store().resource_version()));
}

TEST_F(HttpWatchTest, AWatcherThatLeavesIsForgotten) {
  std::optional<Call> call = Watch("");
  ASSERT_EQ(Send("POST", kPolicies, PolicyJson("p")).code, 201);
  Frames(1);
  call.reset();
  // Only a watcher is told of a write.
  int64_t told = 1;
  int name = 0;
  EXPECT_TRUE(RunUntil([&] {
    const int64_t before = simulator_.store().counts().events_delivered;
    EXPECT_THAT(
        simulator_.store().Create(Kind::kPolicy, PolicyJson(fmt::format("q-{}", ++name)), "me"),
        IsOk());
    told = simulator_.store().counts().events_delivered - before;
    return told == 0;
  }));
}

TEST_F(HttpApiTest, BehavioursAreReadAndChangedAtRunTime) {
  const HttpResponse changed =
      Send("PUT", "/simulator/classes/sim", {{"neverReady", true}, {"deleteAfter", "1m"}});
  EXPECT_EQ(changed.code, 200);
  EXPECT_TRUE(simulator_.volumes().BehaviourOf("sim").never_ready);
  EXPECT_EQ(simulator_.volumes().BehaviourOf("sim").delete_after, absl::Minutes(1));
  EXPECT_EQ(Get("/simulator/classes/sim"), json::parse(changed.body));
  EXPECT_EQ(Send("PUT", "/simulator/classes/sim", {{"neverRead", true}}).code, 400);
}

TEST_F(HttpApiTest, TheDataOfVolumesIsSeenAndWritten) {
  RunUntil([&] { return simulator_.volumes().DataOf("default", "data-0").has_value(); });
  EXPECT_EQ(Get("/simulator/volumes/default/data-0")["data"], 1);
  EXPECT_EQ(Send("POST", "/simulator/volumes/default/data-0").code, 200);
  EXPECT_EQ(Get("/simulator/volumes/default/data-0")["data"], 2);
  EXPECT_EQ(Send("GET", "/simulator/snapshots/default/none").code, 404);
}

}  // namespace
}  // namespace snapkeeper
