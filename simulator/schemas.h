#ifndef SNAPKEEPER_SIMULATOR_SCHEMAS_H_
#define SNAPKEEPER_SIMULATOR_SCHEMAS_H_

#include <nlohmann/json.hpp>

#include "simulator/schema.h"

namespace snapkeeper {

// openAPIV3Schema of a kind: ours from deploy/crds as it was when this was built, the others as far
// as anything here looks at their fields (external-snapshotter v8 client/config/crd;
// kubernetes 1.36 api/openapi-spec).
const nlohmann::json& OpenApiOf(Kind kind);
const Schema& SchemaOf(Kind kind);
// spec of our CustomResourceDefinition: names, printer columns.
const nlohmann::json& PolicyCrdSpec();

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_SCHEMAS_H_
