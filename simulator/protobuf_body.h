#ifndef SNAPKEEPER_SIMULATOR_PROTOBUF_BODY_H_
#define SNAPKEEPER_SIMULATOR_PROTOBUF_BODY_H_

#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

namespace snapkeeper {

// `kubectl create namespace` sends Kubernetes' protobuf form and nothing else (the other verbs send
// JSON): this reads apiVersion, kind and the name, labels and annotations of such a body
// (apimachinery pkg/runtime/generated.proto, pkg/apis/meta/v1/generated.proto). nullopt for
// anything that is not well formed.
std::optional<nlohmann::json> NamespaceFromProtobuf(std::string_view body);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_PROTOBUF_BODY_H_
