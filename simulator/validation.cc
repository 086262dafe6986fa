#include "simulator/validation.h"

#include <absl/strings/match.h>
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "common/model/duration.h"
#include "simulator/schemas.h"

namespace snapkeeper {
namespace {

using nlohmann::json;

constexpr size_t kMaxAnnotationBytes = 256 << 10;
constexpr size_t kMaxNote = 1024;
constexpr size_t kMaxPrefix = 253;  // of a label's key
constexpr char kSubdomainRule[] =
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an "
    "alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

bool IsLowerAlnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool IsAlnum(char c) { return IsLowerAlnum(c) || (c >= 'A' && c <= 'Z'); }

// (([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]), at most 63.
bool IsQualifiedPart(std::string_view text) {
  return !text.empty() && text.size() <= 63 && IsAlnum(text.front()) && IsAlnum(text.back()) &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return IsAlnum(c) || c == '-' || c == '_' || c == '.'; });
}

const json* At(const json& object, std::initializer_list<const char*> path) {
  const json* at = &object;
  for (const char* field : path) {
    if (!at->is_object()) return nullptr;
    const auto it = at->find(field);
    if (it == at->end()) return nullptr;
    at = &*it;
  }
  return at;
}

class Checker {
 public:
  Checker(const ObjectKey& key, const json& object) : key_(key), object_(object) {}

  void Invalid(std::string field, const json& value, std::string_view why) {
    found_.causes.push_back({"FieldValueInvalid",
                             fmt::format("Invalid value: {}: {}", value.dump(), why),
                             std::move(field)});
  }
  void Required(std::string field, std::string_view why = "") {
    found_.causes.push_back({"FieldValueRequired",
                             fmt::format("Required value{}{}", why.empty() ? "" : ": ", why),
                             std::move(field)});
  }
  void Forbidden(std::string field, std::string_view why) {
    found_.causes.push_back(
        {"FieldValueForbidden", fmt::format("Forbidden: {}", why), std::move(field)});
  }

  void CheckName() {
    if (key_.name.empty()) {
      Required("metadata.name", "name or generateName is required");
    } else if (key_.kind == Kind::kNamespace ? !IsDnsLabel(key_.name)
                                             : !IsDnsSubdomain(key_.name)) {
      Invalid("metadata.name", key_.name, kSubdomainRule);
    }
  }

  // What a client may set besides the name.
  void CheckMeta() {
    CheckLabels();
    CheckAnnotations();
    CheckFinalizers();
    CheckOwners();
  }

  void CheckLabels() {
    const json* labels = At(object_, {"metadata", "labels"});
    if (labels == nullptr) return;
    for (const auto& [label, value] : labels->items()) {
      if (!IsQualifiedName(label))
        Invalid("metadata.labels", label,
                "name part must consist of alphanumeric characters, '-', '_' or '.', at most 63");
      const auto& text = value.get_ref<const std::string&>();
      if (!IsLabelValue(text)) {
        Invalid("metadata.labels", value,
                text.size() > 63 ? "must be no more than 63 bytes"
                                 : "a valid label must be an empty string or consist of "
                                   "alphanumeric characters, '-', '_' or '.'");
      }
    }
  }

  void CheckAnnotations() {
    const json* annotations = At(object_, {"metadata", "annotations"});
    if (annotations == nullptr) return;
    size_t bytes = 0;
    for (const auto& [name, value] : annotations->items()) {
      bytes += name.size() + value.get_ref<const std::string&>().size();
      if (!IsQualifiedName(name))
        Invalid("metadata.annotations", name,
                "name part must consist of alphanumeric characters, '-', '_' or '.', at most 63");
    }
    if (bytes > kMaxAnnotationBytes) {
      found_.causes.push_back(
          {"FieldValueTooLong",
           fmt::format("Too long: may not be more than {} bytes", kMaxAnnotationBytes),
           "metadata.annotations"});
    }
  }

  void CheckFinalizers() {
    const json* finalizers = At(object_, {"metadata", "finalizers"});
    if (finalizers == nullptr) return;
    for (size_t i = 0; i < finalizers->size(); ++i) {
      const auto& text = (*finalizers)[i].get_ref<const std::string&>();
      if (!IsQualifiedName(text)) {
        Invalid("metadata.finalizers", text,
                "name part must consist of alphanumeric characters, '-', '_' or '.', at most 63");
      } else if (!IsCustomResource(key_.kind) && !absl::StrContains(text, '/') &&
                 text != "kubernetes" && text != "orphan" && text != "foregroundDeletion") {
        Invalid(fmt::format("metadata.finalizers[{}]", i), text,
                "name is neither a standard finalizer name nor is it fully qualified");
      }
    }
  }

  void CheckOwners() {
    const json* owners = At(object_, {"metadata", "ownerReferences"});
    if (owners == nullptr) return;
    int controllers = 0;
    for (const json& owner : *owners) {
      const std::string version = TextAt(owner, {"apiVersion"});
      if (version.empty() || std::count(version.begin(), version.end(), '/') > 1)
        Invalid("metadata.ownerReferences.apiVersion", version, "version must not be empty");
      for (const char* field : {"kind", "name", "uid"}) {
        if (TextAt(owner, {field}).empty())
          Invalid(fmt::format("metadata.ownerReferences.{}", field), "", "must not be empty");
      }
      if (owner.value("controller", json()) == true) ++controllers;
    }
    if (controllers > 1) {
      Invalid("metadata.ownerReferences", *owners,
              "Only one reference can have Controller set to true");
    }
  }

  // Exactly one of two fields, as the CEL rules of the snapshot CRDs have it.
  void CheckOneOf(const char* field, const char* a, const char* b) {
    const json* source = At(object_, {"spec", field});
    if (source == nullptr) return;  // required, says the schema
    if (source->contains(a) == source->contains(b)) {
      Invalid(fmt::format("spec.{}", field), "object",
              fmt::format("exactly one of {} and {} must be set", a, b));
    }
  }

  void CheckClaim() {
    const json* modes = At(object_, {"spec", "accessModes"});
    if (modes == nullptr || modes->empty())
      Required("spec.accessModes", "at least 1 access mode is required");
    if (At(object_, {"spec", "resources", "requests", "storage"}) == nullptr)
      Required("spec.resources[storage]");
    const json* source = At(object_, {"spec", "dataSource"});
    const json* ref = At(object_, {"spec", "dataSourceRef"});
    if (source != nullptr && ref != nullptr && *source != *ref)
      Invalid("spec", "object", "must match dataSourceRef");
  }

  // The CEL rules of deploy/crds/snapkeeper.io_snapshotpolicies.yaml.
  void CheckPolicy() {
    for (const char* field : {"maxAge", "unreadyTtl"}) {
      const std::string text = TextAt(object_, {"spec", "retention", field});
      const auto duration = ParseGoDuration(text);
      if (!text.empty() && (!duration.ok() || *duration <= absl::ZeroDuration())) {
        Invalid(fmt::format("spec.retention.{}", field), text,
                duration.ok() ? "must be above zero" : "is longer than a duration can be");
      }
    }
    if (const std::string zone = TextAt(object_, {"spec", "timeZone"});
        absl::EqualsIgnoreCase(zone, "local")) {
      Invalid("spec.timeZone", zone, "must be an IANA name such as Europe/Berlin, or UTC");
    }
    if (const json* labels = At(object_, {"spec", "selector", "matchLabels"})) {
      for (const auto& [label, value] : labels->items()) {
        if (!IsQualifiedName(label))
          Invalid(
              "spec.selector.matchLabels", label,
              "each key must be a label key: at most 63 letters, digits, '-', '_' or '.', with an "
              "optional DNS prefix and '/'");
      }
    }
    if (const json* expressions = At(object_, {"spec", "selector", "matchExpressions"})) {
      for (size_t i = 0; i < expressions->size(); ++i) {
        const json& expression = (*expressions)[i];
        const std::string op = TextAt(expression, {"operator"}), key = TextAt(expression, {"key"});
        if (const size_t slash = key.find('/'); slash != std::string::npos && slash > kMaxPrefix) {
          Invalid(fmt::format("spec.selector.matchExpressions[{}].key", i), key,
                  "the prefix must be at most 253 characters");
        }
        const json* values = At(expression, {"values"});
        if ((op == "In" || op == "NotIn") != (values != nullptr && !values->empty())) {
          Invalid(fmt::format("spec.selector.matchExpressions[{}]", i), "object",
                  "In and NotIn need values; Exists and DoesNotExist take none");
        }
      }
    }
  }

  void CheckEvent() {
    if (TextAt(object_, {"involvedObject", "namespace"}) != key_.ns &&
        !(TextAt(object_, {"involvedObject", "namespace"}).empty() && key_.ns == "default")) {
      Invalid("involvedObject.namespace", TextAt(object_, {"involvedObject", "namespace"}),
              "does not match event.namespace");
    }
    // The longer limits of events without eventTime are left out: nobody here writes such text.
    if (TextAt(object_, {"message"}).size() > kMaxNote)
      Invalid("message", "", fmt::format("can have at most {} characters", kMaxNote));
  }

  void CheckKind() {
    switch (key_.kind) {
      case Kind::kSnapshot: {
        CheckOneOf("source", "persistentVolumeClaimName", "volumeSnapshotContentName");
        const json* name = At(object_, {"spec", "volumeSnapshotClassName"});
        if (name != nullptr && name->is_string() && name->get_ref<const std::string&>().empty()) {
          Invalid("spec.volumeSnapshotClassName", "",
                  "volumeSnapshotClassName must not be the empty string when set");
        }
        break;
      }
      case Kind::kContent:
        CheckOneOf("source", "volumeHandle", "snapshotHandle");
        if (TextAt(object_, {"spec", "volumeSnapshotRef", "name"}).empty() ||
            TextAt(object_, {"spec", "volumeSnapshotRef", "namespace"}).empty()) {
          Invalid(
              "spec.volumeSnapshotRef", "object",
              "both spec.volumeSnapshotRef.name and spec.volumeSnapshotRef.namespace must be set");
        }
        break;
      case Kind::kClaim:
        CheckClaim();
        break;
      case Kind::kPolicy:
        CheckPolicy();
        break;
      case Kind::kEvent:
        CheckEvent();
        break;
      default:
        break;
    }
  }

  // `undo` holds the old value of whatever changed.
  void CheckUpdate(const json& undo) {
    if (const json* old = At(undo, {"spec", "source"});
        old != nullptr && (key_.kind == Kind::kSnapshot || key_.kind == Kind::kContent)) {
      for (const auto& [field, value] : old->items())
        Invalid("spec.source." + field, "string", field + " is immutable");
    }
    if (key_.kind == Kind::kClaim) {
      if (const json* spec = At(undo, {"spec"}); spec != nullptr) CheckClaimUpdate(*spec);
    }
    const json* old = At(undo, {"metadata", "finalizers"});
    const json* now = At(object_, {"metadata", "finalizers"});
    if (old != nullptr && now != nullptr &&
        At(object_, {"metadata", "deletionTimestamp"}) != nullptr) {
      for (const json& finalizer : *now) {
        if (old->is_array() && std::find(old->begin(), old->end(), finalizer) != old->end())
          continue;
        Forbidden("metadata.finalizers",
                  fmt::format("no new finalizers can be added if the object is being deleted, "
                              "found new finalizers []string{{{}}}",
                              finalizer.dump()));
      }
    }
  }

  bool ok() const { return found_.causes.empty(); }
  absl::Status Result() const {
    return ok() ? absl::OkStatus() : InvalidObject(key_, found_.causes);
  }
  Schema::Findings& found() { return found_; }

 private:
  void CheckClaimUpdate(const json& undo_spec) {
    for (const auto& [field, old] : undo_spec.items()) {
      if (field == "volumeAttributesClassName" || field == "resources") continue;
      const bool was_absent = old.is_null();
      if (was_absent && (field == "volumeName" || field == "storageClassName"))
        continue;  // may be set once
      Forbidden("spec",
                "spec is immutable after creation except resources.requests and "
                "volumeAttributesClassName for bound claims");
      return;
    }
  }

  const ObjectKey& key_;
  const json& object_;
  Schema::Findings found_;
};

// Labels and annotations that are not maps of strings do not even decode.
absl::Status CheckMetaTypes(const json& meta) {
  for (const char* field : {"labels", "annotations"}) {
    const json* map = At(meta, {field});
    if (map == nullptr) continue;
    if (!map->is_object() ||
        !std::all_of(map->begin(), map->end(), [](const json& v) { return v.is_string(); })) {
      return BadRequest(
          fmt::format("unable to decode: json: cannot unmarshal {} into Go struct field "
                      "ObjectMeta.metadata.{} of type map[string]string",
                      map->type_name(), field));
    }
  }
  const auto is_text = [](const json& finalizer) { return finalizer.is_string(); };
  const auto is_owner = [](const json& owner) {
    const auto all = [&owner](std::initializer_list<const char*> fields, json::value_t type) {
      return std::all_of(fields.begin(), fields.end(), [&](const char* field) {
        const json value = owner.value(field, json());
        return value.is_null() || value.type() == type;
      });
    };
    return owner.is_object() && all({"apiVersion", "kind", "name", "uid"}, json::value_t::string) &&
           all({"controller", "blockOwnerDeletion"}, json::value_t::boolean);
  };
  const auto is_list_of = [&meta](const char* field, const auto& is_element) {
    const json* list = At(meta, {field});
    return list == nullptr ||
           (list->is_array() && std::all_of(list->begin(), list->end(), is_element));
  };
  if (!is_list_of("finalizers", is_text) || !is_list_of("ownerReferences", is_owner)) {
    return BadRequest(
        "unable to decode: json: cannot unmarshal into Go struct field "
        "ObjectMeta.metadata.finalizers of type []string, or ObjectMeta.metadata.ownerReferences "
        "of type []v1.OwnerReference");
  }
  return absl::OkStatus();
}

// kubernetes pkg/api/persistentvolumeclaim/util.go with its feature gates at their defaults:
// sources that it does not know are dropped without a word, the two fields mirror each other.
void NormalizeDataSource(json& spec) {
  if (const json* ref = At(spec, {"dataSourceRef"});
      ref != nullptr && !TextAt(*ref, {"namespace"}).empty())
    spec.erase("dataSourceRef");
  const auto is_known = [](const json& source) {
    const std::string group = TextAt(source, {"apiGroup"}), kind = TextAt(source, {"kind"});
    return (kind == "PersistentVolumeClaim" && group.empty()) ||
           (kind == "VolumeSnapshot" && group == "snapshot.storage.k8s.io");
  };
  if (spec.contains("dataSource") && !is_known(spec["dataSource"])) spec.erase("dataSource");
  if (spec.contains("dataSource") && !spec.contains("dataSourceRef"))
    spec["dataSourceRef"] = spec["dataSource"];
  else if (!spec.contains("dataSource") && spec.contains("dataSourceRef") &&
           is_known(spec["dataSourceRef"]))
    spec["dataSource"] = spec["dataSourceRef"];
}

void SetDefaults(Kind kind, json& object) {
  switch (kind) {
    case Kind::kClaim:
      object["status"] = {{"phase", "Pending"}};
      if (object["spec"].is_object()) {
        if (!object["spec"].contains("volumeMode")) object["spec"]["volumeMode"] = "Filesystem";
        NormalizeDataSource(object["spec"]);
      }
      break;
    case Kind::kVolume:
      object["status"] = {{"phase", "Pending"}};
      break;
    case Kind::kNamespace:
      object["spec"] = {{"finalizers", {"kubernetes"}}};
      object["status"] = {{"phase", "Active"}};
      break;
    default:
      if (HasStatusSubresource(kind)) object.erase("status");
      break;
  }
}

}  // namespace

bool IsDnsLabel(std::string_view name) {
  return !name.empty() && name.size() <= 63 && IsLowerAlnum(name.front()) &&
         IsLowerAlnum(name.back()) &&
         std::all_of(name.begin(), name.end(), [](char c) { return IsLowerAlnum(c) || c == '-'; });
}

bool IsQualifiedName(std::string_view key) {
  const size_t slash = key.find('/');
  if (slash == std::string_view::npos) return IsQualifiedPart(key);
  return IsDnsSubdomain(key.substr(0, slash)) && IsQualifiedPart(key.substr(slash + 1));
}

bool IsLabelValue(std::string_view text) { return text.empty() || IsQualifiedPart(text); }

std::string TextAt(const json& object, std::initializer_list<const char*> path) {
  const json* value = At(object, path);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

bool IsDnsSubdomain(std::string_view name) {
  if (name.empty() || name.size() > 253) return false;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (part.empty() || !IsLowerAlnum(part.front()) || !IsLowerAlnum(part.back()) ||
        !std::all_of(part.begin(), part.end(),
                     [](char c) { return IsLowerAlnum(c) || c == '-'; })) {
      return false;
    }
    begin = end + 1;
  }
  return true;
}

bool IsCustomResource(Kind kind) {
  return kind == Kind::kPolicy || kind == Kind::kSnapshot || kind == Kind::kContent ||
         kind == Kind::kSnapshotClass;
}

bool HasStatusSubresource(Kind kind) {
  return kind != Kind::kSnapshotClass && kind != Kind::kLease && kind != Kind::kEvent;
}

absl::Status CompleteNew(const ObjectKey& key, json& object) {
  if (absl::Status status = CheckMetaTypes(object["metadata"]); !status.ok()) return status;
  SetDefaults(key.kind, object);
  Checker checker(key, object);
  checker.CheckName();
  checker.CheckMeta();
  SchemaOf(key.kind).Complete(object, "", checker.found());
  if (checker.ok()) checker.CheckKind();
  return checker.Result();
}

absl::Status CompleteChanged(const ObjectKey& key, json& object, const json& undo) {
  Checker checker(key, object);
  if (undo.contains("metadata")) {
    if (absl::Status status = CheckMetaTypes(object["metadata"]); !status.ok()) return status;
    checker.CheckMeta();
  }
  // Status writes are most of all writes: only what changed is looked at.
  for (const auto& [field, old] : undo.items()) {
    if (field == "metadata") continue;
    if (!SchemaOf(key.kind).Keeps(field)) object.erase(field);  // pruned
    const Schema* schema = SchemaOf(key.kind).Property(field);
    if (schema != nullptr && object.contains(field))
      schema->Complete(object[field], field, checker.found());
    else if (field == "spec" && !object.contains(field))
      checker.Required("spec");
  }
  checker.CheckUpdate(undo);
  if (undo.contains("spec") && checker.ok()) checker.CheckKind();
  return checker.Result();
}

}  // namespace snapkeeper
