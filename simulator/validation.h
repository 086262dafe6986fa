#ifndef SNAPKEEPER_SIMULATOR_VALIDATION_H_
#define SNAPKEEPER_SIMULATOR_VALIDATION_H_

#include <absl/status/status.h>

#include <nlohmann/json.hpp>
#include <string_view>

#include "common/kube/api.h"

namespace snapkeeper {

// Strategy and validation of each kind, as the API server has them. Errors are 400 or 422 with a
// cause for each field.

// DNS-1123 subdomain of at most 253, or label of at most 63 characters.
bool IsDnsSubdomain(std::string_view name);
bool IsDnsLabel(std::string_view name);
// The key and the value of a label.
bool IsQualifiedName(std::string_view key);
bool IsLabelValue(std::string_view text);

// "" where there is no such member, or it is no string.
std::string TextAt(const nlohmann::json& object, std::initializer_list<const char*> path);

// Of a new object: metadata is checked, the rest is completed with defaults and checked, the status
// is reset.
absl::Status CompleteNew(const ObjectKey& key, nlohmann::json& object);

// Of an object after an update; `undo` is the merge patch that leads back to what it was. May
// complete `object` with defaults.
absl::Status CompleteChanged(const ObjectKey& key, nlohmann::json& object,
                             const nlohmann::json& undo);

// Whether `/status` is a resource of its own: then writes to the one leave the other as it is.
bool HasStatusSubresource(Kind kind);
// Custom resources: PUT needs a resourceVersion, there is no strategic merge patch.
bool IsCustomResource(Kind kind);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_VALIDATION_H_
