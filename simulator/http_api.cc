#include "simulator/http_api.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_join.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "common/kube/json.h"
#include "simulator/api_error.h"
#include "simulator/protobuf_body.h"
#include "simulator/schemas.h"
#include "simulator/served.h"
#include "simulator/table.h"
#include "simulator/validation.h"

namespace snapkeeper {
namespace {

using nlohmann::json;
using ResponderPtr = std::shared_ptr<Responder>;

constexpr char kJson[] = "application/json";
constexpr absl::Duration kWatchLife = absl::Hours(1);  // where the client names none
// Of a JSON patch, which makes gigabytes of a kilobyte of copies.
constexpr size_t kMaxOperations = 10'000, kMaxCopied = 3 << 20;
constexpr int kMaxDepth = 128;  // as ParseJson has it

std::string Decode(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::sscanf(std::string(text.substr(i + 1, 2)).c_str(), "%2x", &code) == 1) {
      result += static_cast<char>(code);
      i += 2;
    } else {
      result += text[i] == '+' ? ' ' : text[i];
    }
  }
  return result;
}

std::vector<std::string> SplitAt(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// A request, taken apart.
struct ApiRequest {
  explicit ApiRequest(ServedRequest&& request) : served(std::move(request)) {
    const std::string_view target = served.target;
    const size_t question = std::min(target.find('?'), target.size());
    path = target.substr(0, question);
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    for (const std::string& part : SplitAt(path, '/')) segments.push_back(Decode(part));
    if (question == target.size()) return;
    for (const std::string& pair : SplitAt(target.substr(question + 1), '&')) {
      const size_t equal = std::min(pair.find('='), pair.size());
      query[Decode(std::string_view(pair).substr(0, equal))] =
          equal == pair.size() ? "" : Decode(std::string_view(pair).substr(equal + 1));
    }
  }

  std::string Query(const std::string& name) const {
    const auto it = query.find(name);
    return it == query.end() ? "" : it->second;
  }
  bool IsSet(const std::string& name) const { return Query(name) == "true" || Query(name) == "1"; }
  std::string Header(const std::string& name) const {
    const auto it = served.headers.find(name);
    return it == served.headers.end() ? "" : it->second;
  }
  bool wants_table() const { return absl::StrContains(Header("accept"), "as=Table"); }
  bool dry_run() const { return Query("dryRun") == "All"; }
  std::string user() const {
    const std::string agent = Header("user-agent");
    return agent.substr(0, agent.find_first_of("/ "));
  }

  ServedRequest served;
  std::string path;
  std::vector<std::string> segments;
  std::map<std::string, std::string> query;
};

// What a path names: a collection, an object or its status.
struct Place {
  const Served* served = nullptr;
  std::string ns, name;
  bool status = false;
};

std::optional<Place> FindPlace(const std::vector<std::string>& path) {
  std::string group, version;
  size_t at = 0;
  if (path.size() >= 3 && path[0] == "api") {
    version = path[1];
    at = 2;
  } else if (path.size() >= 4 && path[0] == "apis") {
    group = path[1];
    version = path[2];
    at = 3;
  } else {
    return std::nullopt;
  }
  Place place;
  if (path[at] == "namespaces" && path.size() >= at + 3 && path[at + 2] != "status" &&
      path[at + 2] != "finalize") {
    place.ns = path[at + 1];
    at += 2;
  }
  place.served = FindServed(group, version, path[at]);
  if (place.served == nullptr || (!place.ns.empty() && !place.served->namespaced))
    return std::nullopt;
  if (path.size() > at + 1) place.name = path[at + 1];
  if (path.size() > at + 2) {
    place.status = path[at + 2] == "status" && place.served->stored &&
                   HasStatusSubresource(*place.served->stored);
    if (!place.status || path.size() > at + 3) return std::nullopt;
  }
  if (!place.name.empty() && place.served->namespaced && place.ns.empty()) return std::nullopt;
  return place;
}

// A strategic merge patch of the core kinds as a merge patch: what kubectl sends for them holds
// lists that are replaced as a whole, but for finalizers, which are a set.
json FromStrategic(const json& current, json patch) {
  if (!patch.is_object()) return patch;
  for (auto it = patch.begin(); it != patch.end();) {
    const std::string& field = it.key();
    if (field == "$deleteFromPrimitiveList/finalizers" || field == "finalizers") {
      ++it;
    } else if (field.starts_with("$")) {
      it = patch.erase(it);
    } else {
      const auto member = current.find(field);
      *it = FromStrategic(member != current.end() && member->is_object() ? *member : json::object(),
                          std::move(*it));
      ++it;
    }
  }
  const json gone = patch.value("$deleteFromPrimitiveList/finalizers", json::array());
  patch.erase("$deleteFromPrimitiveList/finalizers");
  if (!gone.empty() || patch.value("finalizers", json()).is_array()) {
    json merged = json::array();
    for (const json* list : std::initializer_list<const json*>{&current, &patch}) {
      for (const json& finalizer : list->value("finalizers", json::array())) {
        const bool keep = std::find(gone.begin(), gone.end(), finalizer) == gone.end() &&
                          std::find(merged.begin(), merged.end(), finalizer) == merged.end();
        if (keep) merged.push_back(finalizer);
      }
    }
    patch["finalizers"] = merged;
  }
  return patch;
}

bool IsDeeper(const json& value, int levels) {
  return value.is_structured() &&
         (levels == 0 || std::any_of(value.begin(), value.end(), [levels](const json& member) {
            return IsDeeper(member, levels - 1);
          }));
}

absl::StatusOr<json> ApplyJsonPatch(const json& object, const json& patch) {
  const auto is_operation = [](const json& operation) {
    return operation.is_object() && operation.value("op", json("")).is_string() &&
           operation.value("path", json("")).is_string() &&
           operation.value("from", json("")).is_string();
  };
  if (!patch.is_array() || !std::all_of(patch.begin(), patch.end(), is_operation))
    return BadRequest("error decoding patch: it is not a list of operations");
  if (patch.size() > kMaxOperations) {
    return ApiError(413, "RequestEntityTooLarge",
                    fmt::format("Request entity too large: The allowed maximum operations in a "
                                "JSON patch is {}, got {}",
                                kMaxOperations, patch.size()));
  }
  const absl::Status refused =
      ApiError(422, "Invalid", "the server rejected our request due to an error in our request");
  json result = object;
  size_t copied = 0;
  try {
    for (json operation : patch) {
      const json::json_pointer path(TextAt(operation, {"path"}));
      const std::string op = TextAt(operation, {"op"});
      const json& parent = result.at(path.parent_pointer());
      if (!parent.is_structured()) return refused;  // the library would abort
      if (op == "copy") {
        copied += result.at(json::json_pointer(TextAt(operation, {"from"}))).dump().size();
        if (copied > kMaxCopied) return refused;
      }
      // The real one replaces a member that is not there, too.
      if (op == "replace" && parent.is_object()) operation["op"] = "add";
      result.patch_inplace(json::array({std::move(operation)}));
      if (IsDeeper(result, kMaxDepth)) return refused;
    }
  } catch (const json::exception&) {
    return refused;
  }
  return result;
}

// What is wrong with one of the parameters beside the object: CreateOptions, ...
absl::Status InvalidOption(std::string_view options, std::string_view field, std::string_view why) {
  return ApiError(422, "Invalid",
                  fmt::format("{}.meta.k8s.io \"\" is invalid: {}: {}", options, field, why));
}

absl::Status CheckDryRun(std::string_view options, const json& stages) {
  if (std::all_of(stages.begin(), stages.end(), [](const json& stage) { return stage == "All"; }))
    return absl::OkStatus();
  return InvalidOption(
      options, "dryRun",
      fmt::format("Unsupported value: {}: supported values: \"All\"", stages.dump()));
}

// Of a POST, a PUT or a PATCH.
absl::Status CheckOptions(std::string_view options, const ApiRequest& request) {
  if (request.query.contains("dryRun")) {
    absl::Status status = CheckDryRun(options, json::array({request.Query("dryRun")}));
    if (!status.ok()) return status;
  }
  const std::string validation = request.Query("fieldValidation");
  if (validation.empty() || validation == "Ignore" || validation == "Strict" ||
      validation == "Warn") {
    return absl::OkStatus();
  }
  return InvalidOption(options, "fieldValidation",
                       fmt::format("Unsupported value: {}: supported values: \"\", \"Ignore\", "
                                   "\"Strict\", \"Warn\"",
                                   json(validation).dump()));
}

// Those of the query count where there is no body.
absl::StatusOr<json> DeleteOptionsOf(const ApiRequest& request) {
  json options = json::object();
  if (!request.served.body.empty()) {
    absl::StatusOr<json> body = ParseJson(request.served.body);
    if (!body.ok() || !body->is_object()) return BadRequest("the body is not DeleteOptions");
    options = *std::move(body);
  } else {
    if (request.query.contains("dryRun")) options["dryRun"] = {request.Query("dryRun")};
    if (request.query.contains("propagationPolicy"))
      options["propagationPolicy"] = request.Query("propagationPolicy");
  }
  const json stages = options.value("dryRun", json()),
             policy = options.value("propagationPolicy", json());
  if (!stages.is_null() && !stages.is_array())
    return BadRequest("DeleteOptions.dryRun is not a list");
  if (!policy.is_null() && !policy.is_string())
    return BadRequest("DeleteOptions.propagationPolicy is not a string");
  if (absl::Status status = CheckDryRun("DeleteOptions", stages); !status.ok()) return status;
  if (!policy.is_null() && policy != "Orphan" && policy != "Background" && policy != "Foreground") {
    return InvalidOption("DeleteOptions", "propagationPolicy",
                         fmt::format("Unsupported value: {}: supported values: \"Foreground\", "
                                     "\"Background\", \"Orphan\", \"nil\"",
                                     policy.dump()));
  }
  return options;
}

}  // namespace

class HttpApi::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(EventLoop& loop, Simulator& simulator)
      : loop_(loop), simulator_(simulator), store_(simulator.store()) {}
  ~Core() {
    for (const auto& [id, watch] : watches_) store_.Unwatch(watch.kind, watch.store_id);
  }

  void Handle(const ApiRequest& request, const ResponderPtr& responder) {
    try {
      Route(request, responder);
    } catch (const json::exception& error) {  // bytes that are no UTF-8, a member of another type
      Fail(responder, BadRequest(error.what()));
    }
  }

 private:
  void Route(const ApiRequest& request, const ResponderPtr& responder) {
    if (request.path == "/healthz" || request.path == "/livez" || request.path == "/readyz")
      return responder->Send(200, "text/plain", "ok");
    if (!request.segments.empty() && request.segments[0] == "simulator")
      return HandleAdmin(request, responder);
    if (request.served.method == "GET") {
      if (auto document = Discover(request.path, request.Header("accept")))
        return responder->Send(200, document->content_type, document->body);
    }
    const std::optional<Place> place = FindPlace(request.segments);
    // As the real one does for what is not installed.
    if (!place) return responder->Send(404, "text/plain", "404 page not found\n");
    const std::string& method = request.served.method;
    if (method == "GET") {
      if (!place->name.empty() && !request.IsSet("watch"))
        Get(request, *place, responder);
      else if (request.IsSet("watch"))
        Watch(request, *place, responder);
      else
        List(request, *place, responder);
      return;
    }
    if (!place->served->stored) return Fail(responder, NotAllowed());
    if (method == "POST" && place->name.empty()) return Create(request, *place, responder);
    if (method == "PUT" && !place->name.empty()) return Replace(request, *place, responder);
    if (method == "PATCH" && !place->name.empty()) return Patch(request, *place, responder);
    if (method == "DELETE" && !place->status) return Delete(request, *place, responder);
    Fail(responder, NotAllowed());
  }

  struct WatchConnection {
    Kind kind;
    uint64_t store_id;
    Timer deadline;
  };

  static absl::Status NotAllowed() {
    return ApiError(405, "MethodNotAllowed",
                    "the server does not allow this method on the requested resource");
  }

  static void Fail(const ResponderPtr& responder, const absl::Status& error) {
    const json body = StatusBodyOf(error);
    responder->Send(body["code"], kJson, body.dump());
  }

  static ObjectKey KeyOf(const Place& place) {
    return {*place.served->stored, place.ns, place.name};
  }

  // Objects of the kinds that are only there to be found.
  json StaticObjects(const Served& served) const {
    json objects = json::array();
    if (served.kind != "StorageClass") return objects;
    for (const auto& [name, driver] : simulator_.options().storage_classes) {
      json object = {{"apiVersion", "storage.k8s.io/v1"},
                     {"kind", "StorageClass"},
                     {"metadata",
                      {{"name", name},
                       {"uid", "storageclass-" + name},
                       {"resourceVersion", "1"},
                       {"creationTimestamp", "1970-01-01T00:00:00Z"}}},
                     {"provisioner", driver},
                     {"reclaimPolicy", "Delete"},
                     {"volumeBindingMode", "Immediate"}};
      if (name == store_.options().default_storage_class)
        object["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] = "true";
      objects.push_back(std::move(object));
    }
    return objects;
  }

  void SendObject(const ApiRequest& request, const Served& served, const ResponderPtr& responder,
                  const std::string& text) {
    if (!request.wants_table()) return responder->Send(200, kJson, text);
    json table = TableOf(served, {json::parse(text)}, request.Query("includeObject"), loop_.Now());
    table["metadata"]["resourceVersion"] =
        table["rows"][0]["object"]["metadata"]["resourceVersion"];
    responder->Send(200, kJson, table.dump());
  }

  void Get(const ApiRequest& request, const Place& place, const ResponderPtr& responder) {
    if (!place.served->stored) {
      for (const json& object : StaticObjects(*place.served)) {
        if (object["metadata"]["name"] == place.name)
          return SendObject(request, *place.served, responder, object.dump());
      }
      return Fail(responder,
                  ApiError(404, "NotFound",
                           fmt::format("{} \"{}\" not found", place.served->plural, place.name),
                           {Kind::kNamespace, "", place.name}));
    }
    const auto version = store_.Get(KeyOf(place));
    if (!version.ok()) return Fail(responder, version.status());
    SendObject(request, *place.served, responder, (*version)->text);
  }

  // In seconds; 0: none.
  static absl::StatusOr<int64_t> TimeoutOf(const ApiRequest& request) {
    const std::string text = request.Query("timeoutSeconds");
    int64_t seconds = 0;
    if (!text.empty() && !absl::SimpleAtoi(text, &seconds))
      return BadRequest(fmt::format("strconv.ParseInt: parsing \"{}\": invalid syntax", text));
    return seconds;
  }

  // Of a list, a watch or the delete of a collection.
  absl::StatusOr<Selector> SelectorOf(const ApiRequest& request, const Place& place) const {
    if (const auto timeout = TimeoutOf(request); !timeout.ok()) return timeout.status();
    ListQuery query{*place.served->stored, place.ns, request.Query("labelSelector"),
                    request.Query("fieldSelector")};
    if (!place.name.empty()) query.field_selector = "metadata.name=" + place.name;
    return ParseSelector(query);
  }

  static absl::StatusOr<std::optional<int64_t>> VersionOf(const ApiRequest& request) {
    const std::string text = request.Query("resourceVersion");
    int64_t rv = 0;
    if (text.empty() || text == "0") return std::nullopt;
    if (!absl::SimpleAtoi(text, &rv))
      return BadRequest(fmt::format("invalid resource version \"{}\"", text));
    return rv;
  }

  absl::Status CheckListVersion(const ApiRequest& request) const {
    const auto rv = VersionOf(request);
    if (!rv.ok()) return rv.status();
    const std::string match = request.Query("resourceVersionMatch");
    if (!request.Query("continue").empty() && (*rv || !match.empty()))
      return BadRequest("specifying resource version is not allowed when using continue");
    if (!match.empty() && request.Query("resourceVersion").empty())
      return BadRequest("resourceVersionMatch is forbidden unless resourceVersion is provided");
    if (*rv && **rv > store_.resource_version()) {
      return ApiError(504, "Timeout", "Too large resource version", {Kind::kNamespace, "", ""},
                      {{"ResourceVersionTooLarge", "Too large resource version", ""}});
    }
    if (match == "Exact" && *rv && **rv != store_.resource_version())
      return Expired("The resourceVersion for the provided list is too old.");
    return absl::OkStatus();
  }

  void List(const ApiRequest& request, const Place& place, const ResponderPtr& responder) {
    const Served& served = *place.served;
    json meta = {{"resourceVersion", std::to_string(store_.resource_version())}};
    std::vector<std::string> texts;
    if (!served.stored) {
      for (const json& object : StaticObjects(served)) texts.push_back(object.dump());
    } else {
      const auto selector = SelectorOf(request, place);
      if (!selector.ok()) return Fail(responder, selector.status());
      if (absl::Status status = CheckListVersion(request); !status.ok())
        return Fail(responder, status);
      int64_t limit = 0;
      if (!request.Query("limit").empty() && !absl::SimpleAtoi(request.Query("limit"), &limit))
        return Fail(responder, BadRequest("limit is not a number"));
      const auto page = store_.List(*served.stored, *selector, std::max<int64_t>(0, limit),
                                    request.Query("continue"));
      if (!page.ok()) return Fail(responder, page.status());
      meta["resourceVersion"] = std::to_string(page->rv);
      if (!page->next.empty()) {
        meta["continue"] = page->next;
        const bool selected =
            !request.Query("labelSelector").empty() || !request.Query("fieldSelector").empty();
        if (!selected) meta["remainingItemCount"] = page->remaining;
      }
      for (const VersionPtr& version : page->items) texts.push_back(version->text);
    }
    if (request.wants_table()) {
      std::vector<json> objects;
      for (const std::string& text : texts) objects.push_back(json::parse(text));
      json table = TableOf(served, objects, request.Query("includeObject"), loop_.Now());
      table["metadata"] = std::move(meta);
      return responder->Send(200, kJson, table.dump());
    }
    std::string body = fmt::format(R"({{"kind":"{}List","apiVersion":"{}","metadata":{},"items":[)",
                                   served.kind, served.api_version, meta.dump());
    // Items of core lists say nothing of their type.
    const std::string type =
        fmt::format(R"("apiVersion":"{}","kind":"{}",)", served.api_version, served.kind);
    const bool typed = served.stored && IsCustomResource(*served.stored);
    for (size_t i = 0; i < texts.size(); ++i) {
      if (i > 0) body += ',';
      const size_t at = typed ? std::string::npos : texts[i].find(type);
      if (at == 1)
        body.append("{").append(texts[i], at + type.size());
      else
        body += texts[i];
    }
    body += "]}\n";
    responder->Send(200, kJson, std::move(body));
  }

  static std::string Frame(const char* type, const std::string& object) {
    return fmt::format("{{\"type\":\"{}\",\"object\":{}}}\n", type, object);
  }

  static std::string FrameOf(const StoreEvent& event, const Served& served, bool table,
                             const std::string& include, absl::Time now) {
    static constexpr const char* kTypes[] = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"};
    if (event.type == WatchEvent::kBookmark) {
      return Frame(
          kTypes[event.type],
          fmt::format(
              R"({{"kind":"{}","apiVersion":"{}","metadata":{{"resourceVersion":"{}","creationTimestamp":null}}}})",
              served.kind, served.api_version, event.rv));
    }
    if (event.version->rv == event.rv && !table)
      return Frame(kTypes[event.type], event.version->text);
    json object = json::parse(event.version->text);
    object["metadata"]["resourceVersion"] = std::to_string(event.rv);
    if (table) object = TableOf(served, {object}, include, now);
    return Frame(kTypes[event.type], object.dump());
  }

  void Watch(const ApiRequest& request, const Place& place, const ResponderPtr& responder) {
    const Served& served = *place.served;
    if (!served.stored) {  // nothing will ever happen
      responder->Begin(200, kJson);
      return responder->End();
    }
    const auto selector = SelectorOf(request, place);
    if (!selector.ok()) return Fail(responder, selector.status());
    auto rv = VersionOf(request);
    if (!rv.ok()) return Fail(responder, rv.status());
    const bool bookmarks = request.IsSet("allowWatchBookmarks"),
               initial = request.IsSet("sendInitialEvents"), table = request.wants_table();
    if (initial && (!bookmarks || request.Query("resourceVersionMatch") != "NotOlderThan")) {
      return Fail(responder, ApiError(422, "Invalid",
                                      "sendInitialEvents requires setting resourceVersionMatch to "
                                      "NotOlderThan, and allowWatchBookmarks"));
    }
    if (initial) *rv = std::nullopt;
    responder->Begin(200, kJson);
    const auto watch =
        store_.Watch(*served.stored, *selector, *rv,
                     [this, responder, &served, table, bookmarks,
                      include = request.Query("includeObject")](const StoreEvent& event) {
                       if (event.type == WatchEvent::kBookmark && !bookmarks) return;
                       responder->Write(FrameOf(event, served, table, include, loop_.Now()));
                     });
    if (!watch.ok()) {
      responder->Write(Frame("ERROR", StatusBodyOf(watch.status()).dump()));
      return responder->End();
    }
    if (initial) {
      responder->Write(Frame(
          "BOOKMARK",
          fmt::format(
              R"({{"kind":"{}","apiVersion":"{}","metadata":{{"resourceVersion":"{}","creationTimestamp":null,"annotations":{{"k8s.io/initial-events-end":"true"}}}}}})",
              served.kind, served.api_version, store_.resource_version())));
    }
    int64_t seconds = *TimeoutOf(request);
    if (seconds <= 0) seconds = absl::ToInt64Seconds(kWatchLife);
    const uint64_t id = next_watch_++;
    watches_[id] = {*served.stored, *watch,
                    loop_.After(absl::Seconds(seconds), [this, id, responder] {
                      responder->End();
                      EndWatch(id);
                    })};
    responder->OnGone([weak = weak_from_this(), loop = &loop_, id] {
      loop->Post([weak, id] {
        if (const auto core = weak.lock()) core->EndWatch(id);
      });
    });
  }

  void EndWatch(uint64_t id) {
    const auto node = watches_.extract(id);
    if (!node.empty()) store_.Unwatch(node.mapped().kind, node.mapped().store_id);
  }

  // The body; the error names what is wrong with it. Under fieldValidation=Strict a custom resource
  // must have no unknown field.
  absl::StatusOr<json> BodyOf(const ApiRequest& request, const Place& place) const {
    if (absl::StrContains(request.Header("content-type"), "protobuf")) {
      const auto object = *place.served->stored == Kind::kNamespace
                              ? NamespaceFromProtobuf(request.served.body)
                              : std::nullopt;
      if (object) return *object;
      return ApiError(
          415, "UnsupportedMediaType",
          "the simulator takes application/json; kubectl create -f and kubectl apply send that");
    }
    absl::StatusOr<json> body = ParseJson(request.served.body);
    if (!body.ok()) return BadRequest(std::string(body.status().message()));
    if (IsCustomResource(*place.served->stored)) {  // of core kinds the path says enough
      const std::string version = TextAt(*body, {"apiVersion"});
      if (TextAt(*body, {"kind"}).empty()) {
        return BadRequest(fmt::format(
            "the object provided is unrecognized (must be of type {}): Object 'Kind' is missing",
            place.served->kind));
      }
      if (version != place.served->api_version) {
        return BadRequest(fmt::format(
            "the API version in the data ({}) does not match the expected API version ({})",
            version, place.served->api_version));
      }
    }
    if (const std::string error = StrictError(request, place, *body); !error.empty())
      return BadRequest(error);
    return body;
  }

  // What a client that wants to know it is told of fields that would be pruned; "": nothing.
  static std::string StrictError(const ApiRequest& request, const Place& place, json object) {
    if (!object.is_object() || request.Query("fieldValidation") != "Strict" ||
        !IsCustomResource(*place.served->stored)) {
      return "";
    }
    Schema::Findings found;
    SchemaOf(*place.served->stored).Complete(object, "", found);
    std::vector<std::string> unknown;
    for (const std::string& field : found.unknown)
      unknown.push_back(fmt::format("unknown field \"{}\"", field));
    return unknown.empty() ? "" : "strict decoding error: " + absl::StrJoin(unknown, ", ");
  }

  void SendWritten(const ResponderPtr& responder, const absl::StatusOr<VersionPtr>& version,
                   int code = 200) {
    if (version.ok())
      responder->Send(code, kJson, (*version)->text);
    else
      Fail(responder, version.status());
  }

  void Create(const ApiRequest& request, const Place& place, const ResponderPtr& responder) {
    if (absl::Status status = CheckOptions("CreateOptions", request); !status.ok())
      return Fail(responder, status);
    absl::StatusOr<json> body = BodyOf(request, place);
    if (!body.ok()) return Fail(responder, body.status());
    if (!body->is_object()) return Fail(responder, BadRequest("the body is not an object"));
    if (!place.ns.empty()) {
      json& meta = (*body)["metadata"];
      if (!meta.is_object()) meta = json::object();
      if (meta.value("namespace", json("")) == "") meta["namespace"] = place.ns;
      if (meta["namespace"] != place.ns)
        return Fail(responder, BadRequest("the namespace of the provided object does not match the "
                                          "namespace sent on the request"));
    }
    SendWritten(
        responder,
        store_.Create(*place.served->stored, *std::move(body), request.user(), request.dry_run()),
        201);
  }

  void Replace(const ApiRequest& request, const Place& place, const ResponderPtr& responder) {
    if (absl::Status status = CheckOptions("UpdateOptions", request); !status.ok())
      return Fail(responder, status);
    const absl::StatusOr<json> body = BodyOf(request, place);
    if (!body.ok()) return Fail(responder, body.status());
    SendWritten(responder, store_.Replace(KeyOf(place), *body, place.status, request.user(),
                                          request.dry_run()));
  }

  void Patch(const ApiRequest& request, const Place& place, const ResponderPtr& responder) {
    const ObjectKey key = KeyOf(place);
    const std::string type =
        request.Header("content-type").substr(0, request.Header("content-type").find(';'));
    absl::StatusOr<json> patch = ParseJson(request.served.body);
    if (!patch.ok()) return Fail(responder, BadRequest(std::string(patch.status().message())));
    if (absl::Status status = CheckOptions("PatchOptions", request); !status.ok())
      return Fail(responder, status);
    const json* current = store_.JsonOf(key);
    if (type == "application/apply-patch+yaml") {
      if (request.Query("fieldManager").empty()) {
        return Fail(responder, InvalidOption("PatchOptions", "fieldManager",
                                             "Required value: is required for apply patch"));
      }
      if (current == nullptr && patch->is_object()) {
        (*patch)["metadata"]["name"] = place.name;
        if (!place.ns.empty()) (*patch)["metadata"]["namespace"] = place.ns;
        return SendWritten(
            responder,
            store_.Create(key.kind, *std::move(patch), request.user(), request.dry_run()), 201);
      }
    } else if (current == nullptr) {
      return Fail(responder, NotFoundIn(key));
    } else if (type == "application/json-patch+json") {
      const absl::StatusOr<json> patched = ApplyJsonPatch(*current, *patch);
      if (!patched.ok()) return Fail(responder, patched.status());
      return SendWritten(responder, store_.Replace(key, *patched, place.status, request.user(),
                                                   request.dry_run()));
    } else if (type == "application/strategic-merge-patch+json" && !IsCustomResource(key.kind)) {
      json strategic = std::move(*patch);
      *patch = FromStrategic(*current, std::move(strategic));
    } else if (type != "application/merge-patch+json") {
      return Fail(
          responder,
          ApiError(
              415, "UnsupportedMediaType",
              fmt::format(
                  "the body of the request was in an unknown format - accepted media types "
                  "include: application/json-patch+json, "
                  "application/merge-patch+json, {}application/apply-patch+yaml",
                  IsCustomResource(key.kind) ? "" : "application/strategic-merge-patch+json, ")));
    }
    if (const std::string error = StrictError(request, place, *patch); !error.empty())
      return Fail(responder, ApiError(422, "Invalid", error));
    SendWritten(responder, store_.Patch(key, *std::move(patch), place.status, request.user(),
                                        Verb::kPatch, request.dry_run()));
  }

  void Delete(const ApiRequest& request, const Place& place, const ResponderPtr& responder) {
    const absl::StatusOr<json> options = DeleteOptionsOf(request);
    if (!options.ok()) return Fail(responder, options.status());
    const bool dry_run = !options->value("dryRun", json()).empty();
    Preconditions preconditions;
    if (const json given = options->value("preconditions", json()); given.is_object())
      preconditions = {given.value("uid", ""), given.value("resourceVersion", "")};
    if (place.name.empty()) {
      const auto selector = SelectorOf(request, place);
      if (!selector.ok()) return Fail(responder, selector.status());
      const absl::StatusOr<Store::Page> page = store_.List(*place.served->stored, *selector);
      if (!page.ok()) return Fail(responder, page.status());
      for (const VersionPtr& version : page->items) {
        (void)store_
            .Delete({*place.served->stored, version->tags->ns, version->tags->name}, {},
                    request.user(), dry_run)
            .status();
      }
      return responder->Send(200, kJson,
                             json{{"kind", "Status"},
                                  {"apiVersion", "v1"},
                                  {"metadata", json::object()},
                                  {"status", "Success"}}
                                 .dump());
    }
    const ObjectKey key = KeyOf(place);
    const auto version = store_.Delete(key, preconditions, request.user(), dry_run);
    if (!version.ok() || store_.Find(key) != nullptr) return SendWritten(responder, version);
    const json details = {{"name", key.name},
                          {"group", place.served->group()},
                          {"kind", place.served->plural},
                          {"uid", json::parse((*version)->text)["metadata"]["uid"]}};
    responder->Send(200, kJson,
                    json{{"kind", "Status"},
                         {"apiVersion", "v1"},
                         {"metadata", json::object()},
                         {"status", "Success"},
                         {"details", details}}
                        .dump());
  }

  void HandleAdmin(const ApiRequest& request, const ResponderPtr& responder) {
    const auto& path = request.segments;
    const std::string& method = request.served.method;
    const auto not_found = [&] { responder->Send(404, "text/plain", "404 page not found\n"); };
    if (path.size() == 3 && path[1] == "classes" && (method == "GET" || method == "PUT")) {
      ClassBehaviour behaviour = simulator_.volumes().BehaviourOf(path[2]);
      if (method == "PUT") {
        const absl::StatusOr<json> fields = ParseJson(request.served.body);
        const absl::Status status =
            fields.ok() ? UpdateBehaviour(*fields, behaviour) : fields.status();
        if (!status.ok()) return Fail(responder, BadRequest(std::string(status.message())));
        simulator_.volumes().SetBehaviour(path[2], behaviour);
      }
      return responder->Send(200, kJson, BehaviourToJson(behaviour).dump() + "\n");
    }
    if (path.size() == 4 && (path[1] == "volumes" || path[1] == "snapshots") &&
        (method == "GET" || (method == "POST" && path[1] == "volumes"))) {
      if (method == "POST") simulator_.volumes().WriteData(path[2], path[3]);
      const auto data = path[1] == "volumes"
                            ? simulator_.volumes().DataOf(path[2], path[3])
                            : simulator_.volumes().SnapshotDataOf(path[2], path[3]);
      return data ? responder->Send(200, kJson, json{{"data", *data}}.dump() + "\n") : not_found();
    }
    if (path.size() == 2 && path[1] == "expire" && method == "POST") {
      store_.ExpireHistory();
      return responder->Send(200, kJson, "{}\n");
    }
    not_found();
  }

  EventLoop& loop_;
  Simulator& simulator_;
  Store& store_;
  std::map<uint64_t, WatchConnection> watches_;
  uint64_t next_watch_ = 1;
};

absl::StatusOr<std::unique_ptr<HttpApi>> HttpApi::Listen(EventLoop& loop, Simulator& simulator,
                                                         std::string_view address) {
  auto core = std::make_shared<Core>(loop, simulator);
  auto server = HttpServer::Listen(address, [weak = std::weak_ptr<Core>(core), &loop](
                                                ServedRequest request, ResponderPtr responder) {
    loop.Post([weak, request = std::move(request), responder = std::move(responder)]() mutable {
      if (const auto core = weak.lock()) core->Handle(ApiRequest(std::move(request)), responder);
    });
  });
  if (!server.ok()) return server.status();
  return std::unique_ptr<HttpApi>(new HttpApi(std::move(core), *std::move(server)));
}

HttpApi::HttpApi(std::shared_ptr<Core> core, std::unique_ptr<HttpServer> server)
    : core_(std::move(core)), server_(std::move(server)) {}

HttpApi::~HttpApi() { server_.reset(); }

std::string HttpApi::address() const { return server_->address(); }

}  // namespace snapkeeper
