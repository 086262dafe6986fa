#include "simulator/schemas.h"

#include <yaml-cpp/yaml.h>

#include <array>
#include <string>
#include <string_view>

#include "simulator/crd.h"

namespace snapkeeper {
namespace {

using nlohmann::json;

constexpr char kSnapshotSchema[] = R"({
  "type": "object", "required": ["spec"], "properties": {
    "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
    "spec": {"type": "object", "required": ["source"], "properties": {
      "source": {"type": "object", "properties": {
        "persistentVolumeClaimName": {"type": "string"}, "volumeSnapshotContentName": {"type": "string"}}},
      "volumeSnapshotClassName": {"type": "string"}}},
    "status": {"type": "object", "properties": {
      "boundVolumeSnapshotContentName": {"type": "string"},
      "creationTime": {"type": "string", "format": "date-time"},
      "error": {"type": "object", "properties": {"message": {"type": "string"}, "time": {"type": "string", "format": "date-time"}}},
      "readyToUse": {"type": "boolean"},
      "restoreSize": {"x-kubernetes-int-or-string": true},
      "volumeGroupSnapshotName": {"type": "string"}}}}})";

constexpr char kContentSchema[] = R"({
  "type": "object", "required": ["spec"], "properties": {
    "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
    "spec": {"type": "object", "required": ["deletionPolicy", "driver", "source", "volumeSnapshotRef"], "properties": {
      "deletionPolicy": {"type": "string", "enum": ["Delete", "Retain"]},
      "driver": {"type": "string"},
      "source": {"type": "object", "properties": {"snapshotHandle": {"type": "string"}, "volumeHandle": {"type": "string"}}},
      "sourceVolumeMode": {"type": "string"},
      "volumeSnapshotClassName": {"type": "string"},
      "volumeSnapshotRef": {"type": "object", "properties": {
        "apiVersion": {"type": "string"}, "fieldPath": {"type": "string"}, "kind": {"type": "string"}, "name": {"type": "string"},
        "namespace": {"type": "string"}, "resourceVersion": {"type": "string"}, "uid": {"type": "string"}}}}},
    "status": {"type": "object", "properties": {
      "creationTime": {"type": "integer"},
      "error": {"type": "object", "properties": {"message": {"type": "string"}, "time": {"type": "string", "format": "date-time"}}},
      "readyToUse": {"type": "boolean"},
      "restoreSize": {"type": "integer", "minimum": 0},
      "snapshotHandle": {"type": "string"},
      "volumeGroupSnapshotHandle": {"type": "string"}}}}})";

constexpr char kClassSchema[] = R"({
  "type": "object", "required": ["deletionPolicy", "driver"], "properties": {
    "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
    "deletionPolicy": {"type": "string", "enum": ["Delete", "Retain"]},
    "driver": {"type": "string"},
    "parameters": {"type": "object", "additionalProperties": {"type": "string"}}}})";

// PersistentVolumeClaim. Nothing here looks at the rest, which is kept as it comes.
constexpr char kClaimSchema[] = R"({
  "type": "object", "required": ["spec"], "x-kubernetes-preserve-unknown-fields": true, "properties": {
    "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
      "accessModes": {"type": "array", "items": {"type": "string",
        "enum": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]}},
      "resources": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
        "requests": {"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true}}}},
      "storageClassName": {"type": "string"},
      "volumeMode": {"type": "string", "enum": ["Filesystem", "Block"]},
      "volumeName": {"type": "string"}}}}})";

constexpr char kVolumeSchema[] = R"({
  "type": "object", "required": ["spec"], "x-kubernetes-preserve-unknown-fields": true, "properties": {
    "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})";

constexpr char kLeaseSchema[] = R"({
  "type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
    "spec": {"type": "object", "properties": {
      "acquireTime": {"type": "string", "format": "date-time"}, "holderIdentity": {"type": "string", "minLength": 1},
      "leaseDurationSeconds": {"type": "integer", "minimum": 1}, "leaseTransitions": {"type": "integer", "minimum": 0},
      "preferredHolder": {"type": "string"}, "renewTime": {"type": "string", "format": "date-time"}, "strategy": {"type": "string"}}}}})";

constexpr char kEventSchema[] = R"({
  "type": "object", "required": ["involvedObject"], "x-kubernetes-preserve-unknown-fields": true, "properties": {
    "involvedObject": {"type": "object", "additionalProperties": {"type": "string"}},
    "reason": {"type": "string"}, "message": {"type": "string"}, "type": {"type": "string"}, "count": {"type": "integer"}}})";

constexpr char kOpenSchema[] =
    R"({"type": "object", "x-kubernetes-preserve-unknown-fields": true})";

// YAML's own typing of plain scalars, as far as a CustomResourceDefinition needs it.
json ToJson(const YAML::Node& node) {
  if (node.IsSequence()) {
    json list = json::array();
    for (const YAML::Node& item : node) list.push_back(ToJson(item));
    return list;
  }
  if (node.IsMap()) {
    json map = json::object();
    for (const auto& field : node) map[field.first.Scalar()] = ToJson(field.second);
    return map;
  }
  if (node.IsNull()) return nullptr;
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted
  if (text == "true" || text == "false") return text == "true";
  const json number = json::parse(text, nullptr, /*allow_exceptions=*/false);
  return number.is_number() ? number : json(text);
}

json OpenApiText(Kind kind) {
  switch (kind) {
    case Kind::kPolicy:
      return PolicyCrdSpec()["versions"][0]["schema"]["openAPIV3Schema"];
    case Kind::kClaim:
      return json::parse(kClaimSchema);
    case Kind::kVolume:
      return json::parse(kVolumeSchema);
    case Kind::kSnapshot:
      return json::parse(kSnapshotSchema);
    case Kind::kContent:
      return json::parse(kContentSchema);
    case Kind::kSnapshotClass:
      return json::parse(kClassSchema);
    case Kind::kLease:
      return json::parse(kLeaseSchema);
    case Kind::kEvent:
      return json::parse(kEventSchema);
    case Kind::kNamespace:
      return json::parse(kOpenSchema);
  }
  return {};
}

struct Compiled {
  json open_api;
  Schema schema;
};

const Compiled& CompiledOf(Kind kind) {
  // Constants, made once a process.
  static const std::array<Compiled, 9>* const all = [] {
    const auto make = [](Kind k) { return Compiled{OpenApiText(k), Schema(OpenApiText(k))}; };
    return new std::array<Compiled, 9>{
        make(Kind::kPolicy),    make(Kind::kClaim),   make(Kind::kVolume),
        make(Kind::kSnapshot),  make(Kind::kContent), make(Kind::kSnapshotClass),
        make(Kind::kNamespace), make(Kind::kLease),   make(Kind::kEvent)};
  }();
  return (*all)[static_cast<size_t>(kind)];
}

}  // namespace

const json& PolicyCrdSpec() {
  static const json* const spec = new json(ToJson(YAML::Load(std::string(kPolicyCrdYaml)))["spec"]);
  return *spec;
}

const json& OpenApiOf(Kind kind) { return CompiledOf(kind).open_api; }
const Schema& SchemaOf(Kind kind) { return CompiledOf(kind).schema; }

}  // namespace snapkeeper
