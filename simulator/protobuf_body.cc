#include "simulator/protobuf_body.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace snapkeeper {
namespace {

using nlohmann::json;

constexpr std::string_view kMagic("k8s\0", 4);

std::optional<uint64_t> TakeVarint(std::string_view& text) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !text.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(text.front());
    text.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

// The length-delimited fields of a message, by number; numbers are skipped.
std::optional<std::map<uint64_t, std::vector<std::string_view>>> Fields(std::string_view message) {
  std::map<uint64_t, std::vector<std::string_view>> fields;
  while (!message.empty()) {
    const auto tag = TakeVarint(message);
    const auto value = tag && (*tag & 7) <= 2 ? TakeVarint(message) : std::nullopt;
    if (!value || (*tag & 7) == 1) return std::nullopt;
    if ((*tag & 7) == 0) continue;
    if (*value > message.size()) return std::nullopt;
    fields[*tag >> 3].push_back(message.substr(0, *value));
    message.remove_prefix(*value);
  }
  return fields;
}

}  // namespace

std::optional<json> NamespaceFromProtobuf(std::string_view body) {
  if (!body.starts_with(kMagic)) return std::nullopt;
  auto unknown = Fields(body.substr(kMagic.size()));
  if (!unknown || (*unknown)[1].empty() || (*unknown)[2].empty()) return std::nullopt;
  auto type = Fields((*unknown)[1][0]), object = Fields((*unknown)[2][0]);
  if (!type || !object || (*type)[1].empty() || (*type)[2].empty() || (*object)[1].empty())
    return std::nullopt;
  auto meta = Fields((*object)[1][0]);
  if (!meta || (*meta)[1].empty()) return std::nullopt;
  json result = {{"apiVersion", (*type)[1][0]},
                 {"kind", (*type)[2][0]},
                 {"metadata", {{"name", (*meta)[1][0]}}}};
  for (const auto& [number, field] :
       {std::pair<uint64_t, const char*>{11, "labels"}, {12, "annotations"}}) {
    for (std::string_view entry : (*meta)[number]) {
      auto pair = Fields(entry);
      if (!pair || (*pair)[1].empty()) return std::nullopt;
      result["metadata"][field][std::string((*pair)[1][0])] =
          (*pair)[2].empty() ? "" : (*pair)[2][0];
    }
  }
  return result;
}

}  // namespace snapkeeper
