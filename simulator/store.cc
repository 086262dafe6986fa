#include "simulator/store.h"

#include <absl/strings/numbers.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "common/kube/json.h"
#include "common/model/names.h"
#include "simulator/api_error.h"
#include "simulator/validation.h"

namespace snapkeeper {
namespace {

using nlohmann::json;

constexpr size_t kKinds = static_cast<size_t>(Kind::kEvent) + 1;
constexpr absl::Duration kListLife = absl::Minutes(5);  // etcd's compaction
constexpr size_t kMaxOpenLists = 100;
constexpr absl::Duration kEventLife = absl::Hours(1);  // kube-apiserver --event-ttl
constexpr size_t kGeneratedBase = 58, kGeneratedSuffix = 5;

std::string RecordKey(const ObjectKey& key) {
  return key.ns.empty() ? key.name : key.ns + "/" + key.name;
}

bool MergeMember(json& target, const std::string& field, json value, json& undo);

// RFC 7396 in place. `undo` becomes the merge patch that leads back, so that nothing need be copied
// before a write that may fail. Returns whether anything changed.
bool Merge(json& target, json patch, json& undo) {
  bool changed = false;
  for (auto& [field, value] : patch.get_ref<json::object_t&>())
    changed |= MergeMember(target, field, std::move(value), undo);
  return changed;
}

bool MergeMember(json& target, const std::string& field, json value, json& undo) {
  const auto it = target.find(field);
  const bool found = it != target.end();
  if (value.is_null()) {
    if (!found) return false;
    undo[field] = std::move(*it);
    target.erase(it);
    return true;
  }
  if (!value.is_object()) {
    if (found && *it == value) return false;
    undo[field] = found ? std::move(*it) : json();
    target[field] = std::move(value);
    return true;
  }
  json inner = json::object();
  if (found && it->is_object()) {
    if (!Merge(*it, std::move(value), inner)) return false;
    undo[field] = std::move(inner);
    return true;
  }
  undo[field] = found ? std::move(*it) : json();
  Merge(target[field] = json::object(), std::move(value), inner);
  return true;
}

void Revert(json& target, json undo) {
  json ignored = json::object();
  Merge(target, std::move(undo), ignored);
}

// The merge patch that makes `to` of `from`.
json Diff(const json& from, const json& to) {
  json patch = json::object();
  for (const auto& [field, value] : from.items()) {
    if (!to.contains(field)) patch[field] = nullptr;
  }
  for (const auto& [field, value] : to.items()) {
    const auto it = from.find(field);
    if (it == from.end() || it->is_object() != value.is_object()) {
      patch[field] = value;
    } else if (*it != value) {
      patch[field] = value.is_object() ? Diff(*it, value) : value;
    }
  }
  return patch;
}

// The part of metadata that clients may change.
constexpr const char* kOpenMeta[] = {"labels", "annotations", "finalizers", "ownerReferences"};

bool SameLabels(const json& meta, const std::map<std::string, std::string>& labels) {
  const auto it = meta.find("labels");
  if (it == meta.end()) return labels.empty();
  return it->size() == labels.size() &&
         std::equal(labels.begin(), labels.end(), it->get_ref<const json::object_t&>().begin(),
                    [](const auto& a, const auto& b) {
                      return a.first == b.first && b.second == a.second;
                    });
}

std::shared_ptr<const Tags> TagsOf(Kind kind, const json& object) {
  const json& meta = object["metadata"];
  auto tags = std::make_shared<Tags>();
  tags->ns = meta.value("namespace", "");
  tags->name = meta.value("name", "");
  if (auto it = meta.find("labels"); it != meta.end()) it->get_to(tags->labels);
  if (kind == Kind::kEvent) {
    for (const auto& [field, value] : object["involvedObject"].items())
      tags->fields["involvedObject." + field] = value.is_string() ? value : json("");
    for (const char* field : {"reason", "type", "reportingComponent"})
      tags->fields[field] = TextAt(object, {field});
    tags->fields["source"] = TextAt(object, {"source", "component"});
  }
  return tags;
}

// Whether the merge patch `undo` would change the object.
bool Differs(const json& object, const json& undo) {
  if (!undo.is_object() || !object.is_object()) return object != undo;
  return std::any_of(undo.items().begin(), undo.items().end(), [&object](const auto& field) {
    const auto it = object.find(field.key());
    if (it == object.end()) return !field.value().is_null();
    return field.value().is_null() || Differs(*it, field.value());
  });
}

bool IsDeleting(const json& object) { return object["metadata"].contains("deletionTimestamp"); }

bool HasFinalizers(const json& object) {
  const auto it = object["metadata"].find("finalizers");
  return it != object["metadata"].end() && !it->empty();
}

void RaiseGeneration(json& object, json& undo) {
  const auto it = object["metadata"].find("generation");
  if (it == object["metadata"].end()) return;
  undo["metadata"]["generation"] = *it;
  *it = it->get<int64_t>() + 1;
}

// The metadata of a new object: what the client may set.
json NewMeta(json& meta) {
  json result = json::object();
  if (!meta.is_object()) return result;
  for (const char* field : {"name", "generateName", "namespace"}) {
    if (auto it = meta.find(field); it != meta.end() && it->is_string() && *it != "")
      result[field] = std::move(*it);
  }
  for (const char* field : kOpenMeta) {
    if (auto it = meta.find(field); it != meta.end() && !it->is_null())
      result[field] = std::move(*it);
  }
  return result;
}

// Of an update's metadata against what is there.
absl::Status CheckMeta(const ObjectKey& key, const json& meta, const json& current) {
  const auto differs = [&](const char* field) {
    const auto it = meta.find(field);
    return it != meta.end() && it->is_string() && *it != "" && *it != current.value(field, "");
  };
  if (differs("name")) {
    return BadRequest(
        fmt::format("the name of the object ({}) does not match the name on the URL ({})",
                    meta["name"].get<std::string>(), key.name));
  }
  if (differs("namespace")) {
    return BadRequest(fmt::format(
        "the namespace of the object ({}) does not match the namespace on the request ({})",
        meta["namespace"].get<std::string>(), key.ns));
  }
  if (differs("uid")) {
    return ConflictOn(
        key, fmt::format("Precondition failed: UID in precondition: {}, UID in object meta: {}",
                         meta["uid"].get<std::string>(), current.value("uid", "")));
  }
  if (differs("resourceVersion")) {
    return ConflictOn(key,
                      "the object has been modified; please apply your changes to the latest "
                      "version and try again");
  }
  return absl::OkStatus();
}

absl::Status CheckType(const ObjectKey& key, const json& body) {
  const Resource& resource = ResourceOf(key.kind);
  const auto differs = [&](const char* field, std::string_view expected) {
    const auto it = body.find(field);
    return it != body.end() && *it != "" && *it != expected;
  };
  if (differs("kind", resource.kind) || differs("apiVersion", resource.api_version)) {
    return BadRequest(fmt::format(
        "the API version or kind in the data ({}, {}) does not match the expected ({}, {})",
        body.value("apiVersion", json()).dump(), body.value("kind", json()).dump(),
        resource.api_version, resource.kind));
  }
  return absl::OkStatus();
}

[[noreturn]] void Die(const ObjectKey& key, const absl::Status& status) {
  std::fprintf(stderr, "simulator: a controller made %s %s unreadable: %s\n",
               std::string(ResourceOf(key.kind).kind).c_str(), key.name.c_str(),
               status.ToString().c_str());
  std::abort();
}

}  // namespace

Store::Store(EventLoop& loop, Rng& rng, StoreOptions options)
    : loop_(loop), rng_(rng), options_(std::move(options)), kinds_(kKinds) {}

VersionPtr Store::Find(const ObjectKey& key) const {
  const Records& records = Of(key.kind).records;
  const auto it = records.find(RecordKey(key));
  return it == records.end() ? nullptr : it->second.version;
}

const json* Store::JsonOf(const ObjectKey& key) const {
  const Records& records = Of(key.kind).records;
  const auto it = records.find(RecordKey(key));
  return it == records.end() ? nullptr : &it->second.object;
}

Store::Records::iterator Store::FindRecord(const ObjectKey& key) {
  return Of(key.kind).records.find(RecordKey(key));
}

absl::StatusOr<VersionPtr> Store::Get(const ObjectKey& key) const {
  VersionPtr version = Find(key);
  if (version == nullptr) return NotFoundIn(key);
  return version;
}

absl::StatusOr<Store::Page> Store::List(Kind kind, const Selector& selector, size_t limit,
                                        const std::string& token) {
  if (!token.empty()) return NextPage(limit, token);
  Page page;
  page.rv = rv_;
  const KindData& data = Of(kind);
  const Records& records = data.records;
  const std::string prefix = selector.ns.empty() ? "" : selector.ns + "/";
  const auto add = [&](const VersionPtr& version) {
    if (selector.Matches(*version->tags)) page.items.push_back(version);
  };
  // The rarest of the labels that are asked for.
  const std::set<std::string>* rarest = nullptr;
  static const std::set<std::string> kNone;
  for (const auto& [label, value] : selector.labels.match_labels) {
    const auto it = data.by_label.find(label + "=" + value);
    const std::set<std::string>* found = it == data.by_label.end() ? &kNone : &it->second;
    if (rarest == nullptr || found->size() < rarest->size()) rarest = found;
  }
  if (rarest != nullptr) {
    for (auto it = rarest->lower_bound(prefix); it != rarest->end() && it->starts_with(prefix);
         ++it)
      add(records.find(*it)->second.version);
  } else {
    for (auto it = records.lower_bound(prefix);
         it != records.end() && it->first.starts_with(prefix); ++it)
      add(it->second.version);
  }
  if (limit == 0 || page.items.size() <= limit) return page;
  const absl::Duration now = loop_.Elapsed();
  std::erase_if(open_lists_, [&](const OpenList& list) { return list.expires <= now; });
  if (open_lists_.size() == kMaxOpenLists) open_lists_.pop_front();
  open_lists_.push_back({next_id_++, now + kListLife, std::move(page)});
  return NextPage(limit, fmt::format("{}.0", open_lists_.back().id));
}

absl::StatusOr<Store::Page> Store::NextPage(size_t limit, const std::string& token) {
  uint64_t id = 0;
  size_t offset = 0;
  const size_t dot = token.find('.');
  if (dot == std::string::npos || !absl::SimpleAtoi(token.substr(0, dot), &id) ||
      !absl::SimpleAtoi(token.substr(dot + 1), &offset)) {
    return BadRequest("continue key is not valid");
  }
  const auto it = std::find_if(open_lists_.begin(), open_lists_.end(),
                               [&](const OpenList& list) { return list.id == id; });
  if (it == open_lists_.end() || it->expires <= loop_.Elapsed()) {
    return Expired(
        "The provided continue parameter is too old to display a consistent list result. You can "
        "start a new list without the continue parameter.");
  }
  const std::vector<VersionPtr>& all = it->all.items;
  const size_t begin = std::min(offset, all.size());
  const size_t end = limit == 0 ? all.size() : std::min(all.size(), begin + limit);
  Page page;
  page.rv = it->all.rv;
  page.items.assign(all.begin() + begin, all.begin() + end);
  page.remaining = all.size() - end;
  if (page.remaining > 0) page.next = fmt::format("{}.{}", id, end);
  return page;
}

absl::Status Store::CheckNamespace(const ObjectKey& key) const {
  if (!ResourceOf(key.kind).namespaced) return absl::OkStatus();
  if (key.ns.empty()) return BadRequest("an empty namespace may not be set during creation");
  const auto ns = Find<Namespace>("", key.ns);
  if (ns == nullptr) return NotFoundIn({Kind::kNamespace, "", key.ns});
  if (!ns->meta.deleting) return absl::OkStatus();
  return ApiError(403, "Forbidden",
                  fmt::format("{} \"{}\" is forbidden: unable to create new content in namespace "
                              "{} because it is being terminated",
                              QualifiedPlural(key.kind), key.name, key.ns),
                  key,
                  {{"NamespaceTerminating", fmt::format("namespace {} is being terminated", key.ns),
                    "metadata.namespace"}});
}

// The rule of deploy/admission: the object's creationTimestamp is the server's, in whole seconds.
absl::Status Store::CheckPostBefore(const ObjectKey& key, const json& object) {
  if (key.kind != Kind::kSnapshot || !options_.post_before_admission) return absl::OkStatus();
  const json& meta = object["metadata"];
  const auto annotations = meta.find("annotations");
  if (annotations == meta.end()) return absl::OkStatus();
  const auto text = annotations->find(kPostBeforeAnnotation);
  if (text == annotations->end() || !object["spec"]["source"].contains("persistentVolumeClaimName"))
    return absl::OkStatus();
  const auto post_before = ParseTime(text->get_ref<const std::string&>());
  if (post_before && absl::FromUnixSeconds(absl::ToUnixSeconds(loop_.Now())) <= *post_before)
    return absl::OkStatus();
  return ApiError(
      422, "Invalid",
      fmt::format("{} \"{}\" is forbidden: ValidatingAdmissionPolicy 'snapkeeper-late-create' with "
                  "binding 'snapkeeper-late-create' denied request: "
                  "created at {}, after snapkeeper.io/post-before {}",
                  QualifiedPlural(key.kind), key.name, NowText(),
                  text->get_ref<const std::string&>()),
      key);
}

absl::StatusOr<VersionPtr> Store::Create(Kind kind, json body, std::string_view user,
                                         bool dry_run) {
  if (!body.is_object() || (body.contains("metadata") && !body["metadata"].is_object()))
    return BadRequest("the body is not an object with metadata");
  json given = std::move(body["metadata"]);
  if (given.is_object() && given.value("resourceVersion", json("")) != "")
    return BadRequest("resourceVersion should not be set on objects to be created");
  json& meta = body["metadata"] = NewMeta(given);
  if (!ResourceOf(kind).namespaced) meta.erase("namespace");
  if (!meta.contains("name") && meta.contains("generateName")) {
    std::string name = meta["generateName"].get<std::string>().substr(0, kGeneratedBase);
    for (size_t i = 0; i < kGeneratedSuffix; ++i)
      name += "bcdfghjklmnpqrstvwxz2456789"[rng_() % 27];
    meta["name"] = name;
  }
  const ObjectKey key{kind, meta.value("namespace", ""), meta.value("name", "")};
  if (absl::Status status = CheckType(key, body); !status.ok()) return status;
  if (absl::Status status = CheckNamespace(key); !status.ok()) return status;
  body["apiVersion"] = ResourceOf(kind).api_version;
  body["kind"] = ResourceOf(kind).kind;
  meta["uid"] = NewUid();
  meta["creationTimestamp"] = NowText();
  if (IsCustomResource(kind)) meta["generation"] = 1;
  if (kind == Kind::kNamespace) meta["labels"]["kubernetes.io/metadata.name"] = key.name;
  if (absl::Status status = CompleteNew(key, body); !status.ok()) return status;
  if (kind == Kind::kClaim && !options_.default_storage_class.empty() &&
      !body["spec"].contains("storageClassName")) {
    body["spec"]["storageClassName"] = options_.default_storage_class;
  }
  if (absl::Status status = CheckPostBefore(key, body); !status.ok()) return status;
  std::string record_key = RecordKey(key);
  Records& records = Of(kind).records;
  if (records.contains(record_key)) {
    return ApiError(409, "AlreadyExists",
                    fmt::format("{} \"{}\" already exists", QualifiedPlural(kind), key.name), key);
  }
  absl::StatusOr<VersionPtr> version = MakeVersion(kind, body, nullptr);
  if (!version.ok())
    return InvalidObject(key, {{"FieldValueInvalid", std::string(version.status().message()), ""}});
  if (dry_run) return version;
  if (kind == Kind::kEvent) {
    events_.emplace_back(loop_.Elapsed() + kEventLife, record_key);
    for (; events_.front().first <= loop_.Elapsed(); events_.pop_front()) {
      if (const auto it = records.find(events_.front().second); it != records.end())
        Remove(kind, it, Verb::kDelete, "system:apiserver");
    }
    version = MakeVersion(kind, body, nullptr);  // those were versions too
  }
  ++rv_;
  records.emplace(std::move(record_key), Record{std::move(body), *version});
  Publish(kind, {rv_, nullptr, *version, false}, Verb::kCreate, user);
  return version;
}

absl::StatusOr<VersionPtr> Store::Patch(const ObjectKey& key, json patch, bool status,
                                        std::string_view user, Verb verb, bool dry_run) {
  const auto it = FindRecord(key);
  if (it == Of(key.kind).records.end()) return NotFoundIn(key);
  if (!patch.is_object()) return BadRequest("a merge patch is an object");
  if (absl::Status s = CheckType(key, patch); !s.ok()) return s;
  json& object = it->second.object;
  const bool split = HasStatusSubresource(key.kind);
  json undo = json::object();
  bool changed = false;
  for (auto& [field, value] : patch.get_ref<json::object_t&>()) {
    if (field == "apiVersion" || field == "kind") continue;
    if (field == "metadata") {
      if (!value.is_object()) return BadRequest("metadata is not an object");
      if (absl::Status s = CheckMeta(key, value, object["metadata"]); !s.ok()) return s;
      if (status && split) continue;
      json undo_meta = json::object();
      for (const char* open : kOpenMeta) {
        if (auto member = value.find(open); member != value.end())
          changed |= MergeMember(object["metadata"], open, std::move(*member), undo_meta);
      }
      if (!undo_meta.empty()) undo["metadata"] = std::move(undo_meta);
    } else if (!split || (field == "status") == status) {
      changed |= MergeMember(object, field, std::move(value), undo);
    }
  }
  if (!changed) return it->second.version;
  absl::Status valid = CompleteChanged(key, object, undo);
  if (valid.ok() && !Differs(object, undo)) return it->second.version;
  const auto is_spec = [&object](const auto& field) {
    return field.key() != "metadata" && field.key() != "status" &&
           Differs(object, {{field.key(), field.value()}});
  };
  if (std::any_of(undo.items().begin(), undo.items().end(), is_spec)) RaiseGeneration(object, undo);
  undo["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"];
  if (valid.ok() && !dry_run) {
    absl::StatusOr<VersionPtr> version = Commit(key.kind, it, verb, user);
    if (version.ok()) return version;
    valid =
        InvalidObject(key, {{"FieldValueInvalid", std::string(version.status().message()), ""}});
  }
  absl::StatusOr<VersionPtr> would_be =
      valid.ok() ? MakeVersion(key.kind, object, it->second.version.get()) : valid;
  Revert(object, std::move(undo));
  return would_be;
}

absl::StatusOr<VersionPtr> Store::Replace(const ObjectKey& key, const json& body, bool status,
                                          std::string_view user, bool dry_run) {
  const auto it = FindRecord(key);
  if (it == Of(key.kind).records.end()) return NotFoundIn(key);
  if (!body.is_object() || !body.value("metadata", json()).is_object())
    return BadRequest("the body is not an object with metadata");
  if (absl::Status s = CheckType(key, body); !s.ok()) return s;
  const json& meta = body["metadata"];
  const json& old_meta = it->second.object["metadata"];
  if (TextAt(meta, {"name"}).empty()) {
    return BadRequest(
        fmt::format("the name of the object ({} based on URL) was undeterminable: name must be "
                    "provided",
                    key.name));
  }
  if (absl::Status s = CheckMeta(key, meta, old_meta); !s.ok()) return s;
  if ((IsCustomResource(key.kind) || key.kind == Kind::kLease) &&
      meta.value("resourceVersion", json("")) == "") {
    return InvalidObject(key,
                         {{"FieldValueInvalid", "Invalid value: 0: must be specified for an update",
                           "metadata.resourceVersion"}});
  }
  const auto without_meta = [](const json& object) {
    json rest = object;
    rest.erase("metadata");
    return rest;
  };
  json patch = Diff(without_meta(it->second.object), without_meta(body));
  patch.erase("apiVersion");
  patch.erase("kind");
  patch["metadata"] = meta;
  for (const char* open : kOpenMeta) {
    if (!meta.contains(open))
      patch["metadata"][open] = nullptr;
    else if (meta[open].is_object() && old_meta.contains(open))
      patch["metadata"][open] = Diff(old_meta[open], meta[open]);
  }
  return Patch(key, std::move(patch), status, user, Verb::kUpdate, dry_run);
}

absl::StatusOr<VersionPtr> Store::Delete(const ObjectKey& key, const Preconditions& preconditions,
                                         std::string_view user, bool dry_run) {
  if (key.kind == Kind::kNamespace &&
      (key.name == "default" || key.name == "kube-system" || key.name == "kube-public")) {
    return ApiError(
        403, "Forbidden",
        fmt::format("namespaces \"{}\" is forbidden: this namespace may not be deleted", key.name),
        key);
  }
  const auto it = FindRecord(key);
  if (it == Of(key.kind).records.end()) return NotFoundIn(key);
  json& object = it->second.object;
  json& meta = object["metadata"];
  for (const auto& [wanted, field, name] :
       {std::tuple{&preconditions.uid, "uid", "UID"},
        {&preconditions.resource_version, "resourceVersion", "ResourceVersion"}}) {
    const auto& actual = meta[field].get_ref<const std::string&>();
    if (wanted->empty() || *wanted == actual) continue;
    return ConflictOn(
        key, fmt::format("Precondition failed: {0} in precondition: {1}, {0} in object meta: {2}",
                         name, *wanted, actual));
  }
  if (IsDeleting(object)) {
    if (key.kind == Kind::kNamespace) {
      return ConflictOn(key,
                        "The system is ensuring all content is removed from this namespace.  Upon "
                        "completion, this namespace will automatically be purged by the system.");
    }
    return it->second.version;
  }
  if (dry_run) return it->second.version;
  if (finalizers_on_delete_) {
    for (std::string& finalizer : finalizers_on_delete_(key.kind, *it->second.version))
      meta["finalizers"].push_back(std::move(finalizer));
  }
  if (key.kind != Kind::kNamespace && !HasFinalizers(object))
    return Remove(key.kind, it, Verb::kDelete, user);
  meta["deletionTimestamp"] = NowText();
  meta["deletionGracePeriodSeconds"] = 0;
  json ignored;
  RaiseGeneration(object, ignored);
  if (key.kind == Kind::kNamespace) {
    object["status"]["phase"] = "Terminating";
    terminating_.insert(key.name);
    emptying_ = loop_.After(absl::ZeroDuration(), [this] { EmptyNamespaces(); });
  }
  absl::StatusOr<VersionPtr> version = Commit(key.kind, it, Verb::kDelete, user);
  if (!version.ok()) Die(key, version.status());
  return version;
}

void Store::Edit(const ObjectKey& key, std::string_view user, absl::FunctionRef<bool(json&)> edit) {
  const auto it = FindRecord(key);
  if (it == Of(key.kind).records.end()) Die(key, absl::NotFoundError("it does not exist"));
  if (!edit(it->second.object)) return;
  const absl::StatusOr<VersionPtr> version = Commit(key.kind, it, Verb::kUpdate, user);
  if (!version.ok()) Die(key, version.status());
}

absl::StatusOr<VersionPtr> Store::MakeVersion(Kind kind, json& object,
                                              const Version* before) const {
  auto version = std::make_shared<Version>();
  version->rv = rv_ + 1;
  json& meta = object["metadata"];
  meta["resourceVersion"] = fmt::format_int(version->rv).str();
  if (kind != Kind::kEvent) {
    absl::StatusOr<ObjectPtr> value = ObjectFromJson(kind, object);
    if (!value.ok()) return value.status();
    version->value = *std::move(value);
  }
  version->tags = before != nullptr && SameLabels(meta, before->tags->labels)
                      ? before->tags
                      : TagsOf(kind, object);
  if (options_.keep_text) version->text = object.dump();
  return version;
}

absl::StatusOr<VersionPtr> Store::Commit(Kind kind, Records::iterator it, Verb verb,
                                         std::string_view user) {
  Record& record = it->second;
  if (kind != Kind::kNamespace && IsDeleting(record.object) && !HasFinalizers(record.object)) {
    return Remove(kind, it, verb, user);
  }
  absl::StatusOr<VersionPtr> version = MakeVersion(kind, record.object, record.version.get());
  if (!version.ok()) return version;
  ++rv_;
  VersionPtr before = std::exchange(record.version, *version);
  Publish(kind, {rv_, std::move(before), *version, false}, verb, user);
  return version;
}

VersionPtr Store::Remove(Kind kind, Records::iterator it, Verb verb, std::string_view user) {
  const VersionPtr before = it->second.version;
  // The last state, but for the version: what a watcher may go on from.
  auto last = std::make_shared<Version>(*before);
  last->rv = ++rv_;
  const std::string rv = fmt::format_int(rv_).str();
  if (before->value != nullptr) {
    auto value = std::make_shared<Object>(*before->value);
    std::visit([&](auto& object) { object.meta.resource_version = rv; }, *value);
    last->value = std::move(value);
  }
  if (options_.keep_text) {
    it->second.object["metadata"]["resourceVersion"] = rv;
    last->text = it->second.object.dump();
  }
  Of(kind).records.erase(it);
  if (terminating_.contains(last->tags->ns))
    emptying_ = loop_.After(absl::ZeroDuration(), [this] { EmptyNamespaces(); });
  Publish(kind, {rv_, before, last, true}, verb, user);
  return last;
}

namespace {

// What a watcher with `selector` is told of a write; nullopt: nothing.
std::optional<StoreEvent> EventFor(const Selector& selector, int64_t rv, const VersionPtr& before,
                                   const VersionPtr& after, bool gone) {
  const bool was = before != nullptr && selector.Matches(*before->tags);
  const bool is =
      !gone &&
      (before != nullptr && before->tags == after->tags ? was : selector.Matches(*after->tags));
  if (is) return StoreEvent{was ? WatchEvent::kModified : WatchEvent::kAdded, after, rv};
  if (was) return StoreEvent{WatchEvent::kDeleted, gone ? after : before, rv};
  return std::nullopt;
}

}  // namespace

void Store::Publish(Kind kind, const Past& past, Verb verb, std::string_view user) {
  ++counts_.writes;
  KindData& data = Of(kind);
  Index(data, past);
  data.history.push_back(past);
  if (data.history.size() > options_.history) {
    data.forgotten_rv = data.history.front().rv;
    data.history.pop_front();
  }
  for (const Watcher& watcher : data.watchers) {
    if (past.rv <= watcher.after) continue;
    if (auto event = EventFor(watcher.selector, past.rv, past.before, past.after, past.gone)) {
      ++counts_.events_delivered;
      watcher.sink(*event);
    }
  }
  const StoreWrite write{verb, kind, past.before, past.gone ? nullptr : past.after, user};
  for (const auto& observer : observers_) observer(write);
}

void Store::Index(KindData& data, const Past& past) {
  const Tags* before = past.before == nullptr ? nullptr : past.before->tags.get();
  const Tags* after = past.gone ? nullptr : past.after->tags.get();
  if (before == after) return;
  const Tags& tags = before != nullptr ? *before : *after;
  const std::string key = tags.ns.empty() ? tags.name : tags.ns + "/" + tags.name;
  if (before != nullptr) {
    for (const auto& [label, value] : before->labels) {
      const auto it = data.by_label.find(label + "=" + value);
      it->second.erase(key);
      if (it->second.empty()) data.by_label.erase(it);
    }
  }
  if (after != nullptr) {
    for (const auto& [label, value] : after->labels) data.by_label[label + "=" + value].insert(key);
  }
}

absl::StatusOr<uint64_t> Store::Watch(Kind kind, Selector selector, std::optional<int64_t> rv,
                                      Sink sink) {
  KindData& data = Of(kind);
  if (rv && *rv < data.forgotten_rv)
    return Expired(fmt::format("too old resource version: {} ({})", *rv, data.forgotten_rv));
  if (!rv) {
    const auto all = List(kind, selector);
    for (const VersionPtr& version : all->items) sink({WatchEvent::kAdded, version, version->rv});
  } else {
    const auto first = std::upper_bound(data.history.begin(), data.history.end(), *rv,
                                        [](int64_t a, const Past& past) { return a < past.rv; });
    for (auto it = first; it != data.history.end(); ++it) {
      if (auto event = EventFor(selector, it->rv, it->before, it->after, it->gone)) sink(*event);
    }
  }
  data.watchers.push_back({next_id_++, rv.value_or(0), std::move(selector), std::move(sink)});
  if (!bookmark_.active() && options_.bookmark_every != absl::InfiniteDuration()) {
    bookmark_ = loop_.After(options_.bookmark_every, [this] { SendBookmarks(); });
  }
  return data.watchers.back().id;
}

void Store::Unwatch(Kind kind, uint64_t id) {
  std::erase_if(Of(kind).watchers, [&](const Watcher& watcher) { return watcher.id == id; });
}

void Store::SendBookmarks() {
  bool any = false;
  for (KindData& data : kinds_) {
    for (const Watcher& watcher : data.watchers) {
      if (rv_ >= watcher.after) watcher.sink({WatchEvent::kBookmark, nullptr, rv_});
      any = true;
    }
  }
  if (any) bookmark_ = loop_.After(options_.bookmark_every, [this] { SendBookmarks(); });
}

void Store::ExpireHistory() {
  open_lists_.clear();
  for (KindData& data : kinds_) {
    data.history.clear();
    data.forgotten_rv = rv_;
  }
}

void Store::OnWrite(std::function<void(const StoreWrite&)> observer) {
  observers_.push_back(std::move(observer));
}

void Store::SetFinalizersOnDelete(std::function<std::vector<std::string>(Kind, const Version&)> f) {
  finalizers_on_delete_ = std::move(f);
}

// The namespace controller: deletes what terminating namespaces hold, and the namespaces that hold
// nothing.
void Store::EmptyNamespaces() {
  for (const std::string& ns : std::set<std::string>(terminating_)) {
    Selector inside;
    inside.ns = ns;
    bool empty = true;
    for (size_t i = 0; i < kKinds; ++i) {
      const Kind kind = static_cast<Kind>(i);
      if (!ResourceOf(kind).namespaced) continue;
      const auto objects = List(kind, inside);
      for (const VersionPtr& version : objects->items) {
        (void)Delete({kind, ns, version->tags->name}, {}, "system:namespace-controller").status();
      }
      const auto left = Of(kind).records.lower_bound(ns + "/");
      empty &= left == Of(kind).records.end() || !left->first.starts_with(ns + "/");
    }
    if (!empty) continue;
    terminating_.erase(ns);
    Remove(Kind::kNamespace, FindRecord({Kind::kNamespace, "", ns}), Verb::kDelete,
           "system:namespace-controller");
  }
}

std::string Store::NewUid() {
  const uint64_t a = rng_(), b = rng_();
  return fmt::format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xfff,
                     0x8000 | ((b >> 48) & 0x3fff), b & 0xffffffffffff);
}

// Snapshots are made by the dozen in the same second, and formatting a time is dear.
const std::string& Store::NowText() {
  const int64_t second = absl::ToUnixSeconds(loop_.Now());
  if (second != now_second_) {
    now_second_ = second;
    now_text_ = FormatRfc3339(absl::FromUnixSeconds(second));
  }
  return now_text_;
}

}  // namespace snapkeeper
