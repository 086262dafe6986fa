#include "simulator/served.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/kube/json.h"
#include "simulator/schemas.h"
#include "simulator/validation.h"

namespace snapkeeper {
namespace {

using nlohmann::json;

constexpr char kAggregated[] =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
constexpr char kGitVersion[] = "v1.36.0+snapkeeper-simulator";

Served Stored(Kind kind, std::string singular, std::vector<std::string> short_names,
              std::vector<std::string> categories = {}) {
  const Resource& r = ResourceOf(kind);
  return {std::string(r.api_version),
          std::string(r.kind),
          std::string(r.plural),
          std::move(singular),
          r.namespaced,
          std::move(short_names),
          std::move(categories),
          kind};
}

std::string RootOf(const std::string& group, const std::string& version) {
  return group.empty() ? "/api/" + version : fmt::format("/apis/{}/{}", group, version);
}

json Verbs(const Served& served) {
  if (!served.stored) return {"get", "list", "watch"};
  return {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"};
}

json Names(const std::vector<std::string>& names) { return json(names); }

json GroupVersionKind(const Served& served) {
  return {{"group", served.group()}, {"version", served.version()}, {"kind", served.kind}};
}

bool HasStatus(const Served& served) {
  return served.stored && HasStatusSubresource(*served.stored);
}

std::set<std::pair<std::string, std::string>> GroupVersions() {
  std::set<std::pair<std::string, std::string>> all;
  for (const Served& served : AllServed()) all.emplace(served.group(), served.version());
  return all;
}

json ResourceList(const std::string& group, const std::string& version) {
  json resources = json::array();
  for (const Served& served : AllServed()) {
    if (served.group() != group || served.version() != version) continue;
    json resource = {{"name", served.plural},
                     {"singularName", served.singular},
                     {"namespaced", served.namespaced},
                     {"kind", served.kind},
                     {"verbs", Verbs(served)}};
    if (!served.short_names.empty()) resource["shortNames"] = Names(served.short_names);
    if (!served.categories.empty()) resource["categories"] = Names(served.categories);
    resources.push_back(std::move(resource));
    if (HasStatus(served)) {
      resources.push_back({{"name", served.plural + "/status"},
                           {"singularName", ""},
                           {"namespaced", served.namespaced},
                           {"kind", served.kind},
                           {"verbs", {"get", "patch", "update"}}});
    }
  }
  const std::string group_version = group.empty() ? version : group + "/" + version;
  return {{"kind", "APIResourceList"},
          {"apiVersion", "v1"},
          {"groupVersion", group_version},
          {"resources", std::move(resources)}};
}

json AggregatedGroups(bool core) {
  json items = json::array();
  for (const auto& [group, version] : GroupVersions()) {
    if (group.empty() != core) continue;
    json resources = json::array();
    for (const Served& served : AllServed()) {
      if (served.group() != group || served.version() != version) continue;
      json resource = {{"resource", served.plural},
                       {"responseKind", GroupVersionKind(served)},
                       {"scope", served.namespaced ? "Namespaced" : "Cluster"},
                       {"singularResource", served.singular},
                       {"verbs", Verbs(served)}};
      if (!served.short_names.empty()) resource["shortNames"] = Names(served.short_names);
      if (!served.categories.empty()) resource["categories"] = Names(served.categories);
      if (HasStatus(served))
        resource["subresources"] = {{{"subresource", "status"},
                                     {"responseKind", GroupVersionKind(served)},
                                     {"verbs", {"get", "patch", "update"}}}};
      resources.push_back(std::move(resource));
    }
    items.push_back({{"metadata", {{"name", group}}},
                     {"versions",
                      {{{"version", version},
                        {"freshness", "Current"},
                        {"resources", std::move(resources)}}}}});
  }
  return {{"kind", "APIGroupDiscoveryList"},
          {"apiVersion", "apidiscovery.k8s.io/v2"},
          {"metadata", json::object()},
          {"items", std::move(items)}};
}

json Group(const std::string& group, const std::string& version) {
  const json preferred = {{"groupVersion", group + "/" + version}, {"version", version}};
  return {{"name", group}, {"versions", {preferred}}, {"preferredVersion", preferred}};
}

std::string SchemaName(const Served& served) {
  return fmt::format("{}.{}.{}", served.group().empty() ? "core" : served.group(), served.version(),
                     served.kind);
}

// Enough for kubectl to see that the server validates fields and takes dry runs, and for `kubectl
// explain`.
json OpenApiV3(const std::string& group, const std::string& version) {
  json paths = json::object(), schemas = json::object();
  json query = json::array();
  for (const char* name : {"dryRun", "fieldManager", "fieldValidation"})
    query.push_back(
        {{"name", name}, {"in", "query"}, {"schema", {{"type", "string"}, {"uniqueItems", true}}}});
  for (const Served& served : AllServed()) {
    if (served.group() != group || served.version() != version) continue;
    json schema = served.stored
                      ? OpenApiOf(*served.stored)
                      : json{{"type", "object"}, {"x-kubernetes-preserve-unknown-fields", true}};
    schema["x-kubernetes-group-version-kind"] = json::array({GroupVersionKind(served)});
    schemas[SchemaName(served)] = std::move(schema);
    const json content = {{"application/json",
                           {{"schema", {{"$ref", "#/components/schemas/" + SchemaName(served)}}}}}};
    const auto operation = [&](const char* action) {
      return json{{"parameters", query},
                  {"responses", {{"200", {{"description", "OK"}, {"content", content}}}}},
                  {"x-kubernetes-action", action},
                  {"x-kubernetes-group-version-kind", GroupVersionKind(served)}};
    };
    const std::string all =
        fmt::format("{}{}/{}", RootOf(group, version),
                    served.namespaced ? "/namespaces/{namespace}" : "", served.plural);
    json& list = paths[all];
    json& item = paths[all + "/{name}"];
    list["get"] = operation("list");
    item["get"] = operation("get");
    if (!served.stored) continue;
    list["post"] = operation("post");
    item["put"] = operation("put");
    item["delete"] = operation("delete");
    item["patch"] = operation("patch");
    // Not strategic merge, though core kinds take it: kubectl would want to see how each of their
    // lists is merged.
    item["patch"]["requestBody"]["content"] = {{"application/json-patch+json", json::object()},
                                               {"application/merge-patch+json", json::object()},
                                               {"application/apply-patch+yaml", json::object()}};
  }
  return {{"openapi", "3.0.0"},
          {"info", {{"title", "Kubernetes"}, {"version", kGitVersion}}},
          {"paths", std::move(paths)},
          {"components", {{"schemas", std::move(schemas)}}}};
}

}  // namespace

std::string Served::group() const {
  const size_t slash = api_version.find('/');
  return slash == std::string::npos ? "" : api_version.substr(0, slash);
}

std::string Served::version() const {
  return api_version.substr(group().empty() ? 0 : group().size() + 1);
}

const std::vector<Served>& AllServed() {
  static const auto* const all = new std::vector<Served>{
      [] {
        const json& names = PolicyCrdSpec()["names"];
        return Stored(Kind::kPolicy, names["singular"], names["shortNames"], names["categories"]);
      }(),
      Stored(Kind::kClaim, "persistentvolumeclaim", {"pvc"}),
      Stored(Kind::kVolume, "persistentvolume", {"pv"}),
      Stored(Kind::kSnapshot, "volumesnapshot", {"vs"}),
      Stored(Kind::kContent, "volumesnapshotcontent", {"vsc", "vscs"}),
      Stored(Kind::kSnapshotClass, "volumesnapshotclass", {"vsclass", "vsclasses"}),
      Stored(Kind::kNamespace, "namespace", {"ns"}),
      Stored(Kind::kLease, "lease", {}),
      Stored(Kind::kEvent, "event", {"ev"}),
      {"v1", "Pod", "pods", "pod", true, {"po"}, {"all"}, std::nullopt},
      {"storage.k8s.io/v1",
       "StorageClass",
       "storageclasses",
       "storageclass",
       false,
       {"sc"},
       {},
       std::nullopt},
  };
  return *all;
}

const Served* FindServed(std::string_view group, std::string_view version,
                         std::string_view plural) {
  for (const Served& served : AllServed()) {
    if (served.plural == plural && served.group() == group && served.version() == version)
      return &served;
  }
  return nullptr;
}

std::optional<Document> Discover(const std::string& path, const std::string& accept) {
  const auto plain = [](const json& body) { return Document{"application/json", body.dump()}; };
  const bool aggregated = accept.find("as=APIGroupDiscoveryList") != std::string::npos &&
                          accept.find("v=v2") != std::string::npos;
  if (path == "/version")
    return plain({{"major", "1"},
                  {"minor", "36"},
                  {"gitVersion", kGitVersion},
                  {"gitCommit", ""},
                  {"gitTreeState", "clean"},
                  {"buildDate", "1970-01-01T00:00:00Z"},
                  {"goVersion", ""},
                  {"compiler", ""},
                  {"platform", "linux/amd64"}});
  if (path == "/api") {
    if (aggregated) return Document{kAggregated, AggregatedGroups(true).dump()};
    return plain({{"kind", "APIVersions"},
                  {"versions", {"v1"}},
                  {"serverAddressByClientCIDRs", json::array()}});
  }
  if (path == "/apis" && aggregated) return Document{kAggregated, AggregatedGroups(false).dump()};
  json groups = json::array(), open_api = json::object();
  for (const auto& [group, version] : GroupVersions()) {
    const std::string root = RootOf(group, version);
    if (path == root) return plain(ResourceList(group, version));
    if (path == "/openapi/v3" + root) return plain(OpenApiV3(group, version));
    if (!group.empty()) {
      groups.push_back(Group(group, version));
      if (path == "/apis/" + group) {
        json body = Group(group, version);
        body["kind"] = "APIGroup";
        body["apiVersion"] = "v1";
        return plain(body);
      }
    }
    open_api[root.substr(1)] = {{"serverRelativeURL", "/openapi/v3" + root}};
  }
  if (path == "/apis")
    return plain({{"kind", "APIGroupList"}, {"apiVersion", "v1"}, {"groups", std::move(groups)}});
  // kubectl asks for it, in protobuf, where /openapi/v3 does not tell it that the server checks
  // fields: of a List, and of a kind that is not there. It checks nothing by a document that
  // describes nothing, which in protobuf is no byte at all.
  if (path == "/openapi/v2") {
    if (accept.find("protobuf") != std::string::npos)
      return Document{"application/com.github.proto-openapi.spec.v2.v1.0+protobuf", ""};
    return plain({{"swagger", "2.0"},
                  {"info", {{"title", "Kubernetes"}, {"version", kGitVersion}}},
                  {"paths", json::object()}});
  }
  if (path == "/openapi/v3") return plain({{"paths", std::move(open_api)}});
  return std::nullopt;
}

}  // namespace snapkeeper
