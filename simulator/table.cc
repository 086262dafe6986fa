#include "simulator/table.h"

#include <fmt/format.h>

#include <cctype>
#include <optional>
#include <string_view>

#include "common/kube/json.h"
#include "simulator/schemas.h"
#include "simulator/validation.h"

namespace snapkeeper {
namespace {

using nlohmann::json;

struct Column {
  std::string name, type, path;
  int priority = 0;  // above 0: -o wide
};

// As kubernetes 1.36 pkg/printers/internalversion and external-snapshotter v8 client/config/crd
// have them.
std::vector<Column> ColumnsOf(const Served& served) {
  if (served.kind == "SnapshotPolicy") {
    std::vector<Column> columns = {{"Name", "string", ".metadata.name"}};
    for (const json& column : PolicyCrdSpec()["versions"][0]["additionalPrinterColumns"]) {
      columns.push_back(
          {column["name"], column["type"], column["jsonPath"], column.value("priority", 0)});
    }
    return columns;
  }
  const Column name{"Name", "string", ".metadata.name"},
      age{"Age", "date", ".metadata.creationTimestamp"};
  if (served.kind == "PersistentVolumeClaim") {
    return {name,
            {"Status", "phase", ".status.phase"},
            {"Volume", "string", ".spec.volumeName"},
            {"Capacity", "string", ".status.capacity.storage"},
            {"Access Modes", "modes", ".status.accessModes"},
            {"StorageClass", "string", ".spec.storageClassName"},
            {"VolumeAttributesClass", "or unset", ".spec.volumeAttributesClassName"},
            age,
            {"VolumeMode", "string", ".spec.volumeMode", 1}};
  }
  if (served.kind == "PersistentVolume") {
    return {name,
            {"Capacity", "string", ".spec.capacity.storage"},
            {"Access Modes", "modes", ".spec.accessModes"},
            {"Reclaim Policy", "string", ".spec.persistentVolumeReclaimPolicy"},
            {"Status", "phase", ".status.phase"},
            {"Claim", "claim", ".spec.claimRef"},
            {"StorageClass", "string", ".spec.storageClassName"},
            {"VolumeAttributesClass", "or unset", ".spec.volumeAttributesClassName"},
            {"Reason", "string", ".status.reason"},
            age,
            {"VolumeMode", "string", ".spec.volumeMode", 1}};
  }
  if (served.kind == "VolumeSnapshot") {
    return {name,
            {"ReadyToUse", "boolean", ".status.readyToUse"},
            {"SourcePVC", "string", ".spec.source.persistentVolumeClaimName"},
            {"SourceSnapshotContent", "string", ".spec.source.volumeSnapshotContentName"},
            {"RestoreSize", "string", ".status.restoreSize"},
            {"SnapshotClass", "string", ".spec.volumeSnapshotClassName"},
            {"SnapshotContent", "string", ".status.boundVolumeSnapshotContentName"},
            {"CreationTime", "date", ".status.creationTime"},
            age};
  }
  if (served.kind == "VolumeSnapshotContent") {
    return {name,
            {"ReadyToUse", "boolean", ".status.readyToUse"},
            {"RestoreSize", "integer", ".status.restoreSize"},
            {"DeletionPolicy", "string", ".spec.deletionPolicy"},
            {"Driver", "string", ".spec.driver"},
            {"VolumeSnapshotClass", "string", ".spec.volumeSnapshotClassName"},
            {"VolumeSnapshot", "string", ".spec.volumeSnapshotRef.name"},
            {"VolumeSnapshotNamespace", "string", ".spec.volumeSnapshotRef.namespace"},
            age};
  }
  if (served.kind == "VolumeSnapshotClass")
    return {name,
            {"Driver", "string", ".driver"},
            {"DeletionPolicy", "string", ".deletionPolicy"},
            age};
  if (served.kind == "Namespace") return {name, {"Status", "string", ".status.phase"}, age};
  if (served.kind == "Lease") return {name, {"Holder", "string", ".spec.holderIdentity"}, age};
  if (served.kind == "Event") {
    return {{"Last Seen", "age", ".lastTimestamp"}, {"Type", "string", ".type"},
            {"Reason", "string", ".reason"},        {"Object", "object", ".involvedObject"},
            {"Message", "string", ".message"},      {"Name", "string", ".metadata.name", 1}};
  }
  if (served.kind == "StorageClass") {
    return {name,
            {"Provisioner", "string", ".provisioner"},
            {"ReclaimPolicy", "string", ".reclaimPolicy"},
            {"VolumeBindingMode", "string", ".volumeBindingMode"},
            age};
  }
  return {name, age};
}

// The JSONPaths of printer columns: members, and one element of a list chosen by a member:
// `.a.b[?(@.type=="Ready")].c`.
const json* Find(const json& object, std::string_view path) {
  const json* at = &object;
  while (!path.empty()) {
    if (path.starts_with("[?(@.")) {
      const size_t equal = path.find("==\""), end = path.find("\")]");
      if (equal == std::string_view::npos || end == std::string_view::npos || !at->is_array())
        return nullptr;
      const std::string member(path.substr(5, equal - 5)),
          value(path.substr(equal + 3, end - equal - 3));
      const json* found = nullptr;
      for (const json& element : *at) {
        if (element.is_object() && TextAt(element, {member.c_str()}) == value) found = &element;
      }
      if (found == nullptr) return nullptr;
      at = found;
      path.remove_prefix(end + 3);
      continue;
    }
    path.remove_prefix(1);  // the dot
    const std::string member(path.substr(0, path.find_first_of(".[")));
    if (!at->is_object() || !at->contains(member)) return nullptr;
    at = &(*at)[member];
    path.remove_prefix(member.size());
  }
  return at;
}

std::string Modes(const json& modes) {
  std::string text;
  for (const json& mode : modes) {
    const std::string word = mode.is_string() ? mode : "";
    const std::string short_word = word == "ReadWriteOnce"   ? "RWO"
                                   : word == "ReadOnlyMany"  ? "ROX"
                                   : word == "ReadWriteMany" ? "RWX"
                                                             : "RWOP";
    text += (text.empty() ? "" : ",") + short_word;
  }
  return text;
}

json Age(const json& text, absl::Time now) {
  const auto time = text.is_string() ? ParseTime(text.get<std::string>()) : std::nullopt;
  return time ? json(HumanDuration(now - *time)) : json("<unknown>");
}

json CellOf(const json& object, const Column& column, absl::Time now) {
  const json* value = Find(object, column.path);
  if (column.type == "or unset") return value != nullptr ? *value : json("<unset>");
  if (column.type == "age")
    return Age(value != nullptr ? *value : object["metadata"]["creationTimestamp"], now);
  if (value == nullptr || value->is_null())
    return column.type == "modes" || column.type == "claim" ? json("") : json();
  if (column.type == "date") return Age(*value, now);
  if (column.type == "phase")
    return object["metadata"].contains("deletionTimestamp") ? json("Terminating") : *value;
  if (column.type == "modes") return Modes(*value);
  if (column.type == "claim")
    return fmt::format("{}/{}", TextAt(*value, {"namespace"}), TextAt(*value, {"name"}));
  if (column.type == "object") {
    std::string kind = TextAt(*value, {"kind"});
    for (char& c : kind) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return fmt::format("{}/{}", kind, TextAt(*value, {"name"}));
  }
  if (column.type == "string" && !value->is_string()) return value->dump();
  return *value;
}

}  // namespace

std::string HumanDuration(absl::Duration age) {
  const int64_t seconds = age / absl::Seconds(1), minutes = seconds / 60, hours = minutes / 60,
                days = hours / 24, years = days / 365;
  const auto two = [](int64_t big, char unit, int64_t small, char small_unit) {
    return small == 0 ? fmt::format("{}{}", big, unit)
                      : fmt::format("{}{}{}{}", big, unit, small, small_unit);
  };
  if (seconds < -1) return "<invalid>";
  if (seconds < 0) return "0s";
  if (seconds < 120) return fmt::format("{}s", seconds);
  if (minutes < 10) return two(minutes, 'm', seconds % 60, 's');
  if (minutes < 180) return fmt::format("{}m", minutes);
  if (hours < 8) return two(hours, 'h', minutes % 60, 'm');
  if (hours < 48) return fmt::format("{}h", hours);
  if (days < 8) return two(days, 'd', hours % 24, 'h');
  if (years < 2) return fmt::format("{}d", days);
  if (years < 8) return two(years, 'y', days % 365, 'd');
  return fmt::format("{}y", years);
}

json TableOf(const Served& served, const std::vector<json>& objects, const std::string& include,
             absl::Time now) {
  const std::vector<Column> columns = ColumnsOf(served);
  json definitions = json::array(), rows = json::array();
  for (const Column& column : columns) {
    const bool known =
        column.type == "boolean" || column.type == "integer" || column.type == "date";
    definitions.push_back({{"name", column.name},
                           {"type", known ? column.type : "string"},
                           {"format", column.name == "Name" ? "name" : ""},
                           {"description", ""},
                           {"priority", column.priority}});
  }
  for (const json& object : objects) {
    json row = {{"cells", json::array()}};
    for (const Column& column : columns) row["cells"].push_back(CellOf(object, column, now));
    if (include == "Object") {
      row["object"] = object;
    } else if (include != "None") {
      row["object"] = {{"kind", "PartialObjectMetadata"},
                       {"apiVersion", "meta.k8s.io/v1"},
                       {"metadata", object["metadata"]}};
    }
    rows.push_back(std::move(row));
  }
  return {{"kind", "Table"},
          {"apiVersion", "meta.k8s.io/v1"},
          {"metadata", json::object()},
          {"columnDefinitions", std::move(definitions)},
          {"rows", std::move(rows)}};
}

}  // namespace snapkeeper
