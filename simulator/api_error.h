#ifndef SNAPKEEPER_SIMULATOR_API_ERROR_H_
#define SNAPKEEPER_SIMULATOR_API_ERROR_H_

#include <absl/status/status.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "common/kube/api.h"

namespace snapkeeper {

// Errors in Kubernetes' own words (apimachinery pkg/api/errors). Each is the absl::Status that our
// client makes of the answer, and carries the answer itself, so that both clients are told the
// same.

struct Cause {
  std::string reason, message, field;  // FieldValueInvalid, FieldValueRequired, ...
};

// `object` names what `details` describe; its name may be empty.
absl::Status ApiError(int code, std::string_view reason, std::string message,
                      const ObjectKey& object, const std::vector<Cause>& causes = {});
// Without details.
absl::Status ApiError(int code, std::string_view reason, std::string message);

absl::Status NotFoundIn(const ObjectKey& key);
absl::Status ConflictOn(const ObjectKey& key, std::string_view why);
// 422; "KIND.GROUP "NAME" is invalid: FIELD: MESSAGE".
absl::Status InvalidObject(const ObjectKey& key, const std::vector<Cause>& causes);
absl::Status BadRequest(std::string message);
absl::Status Expired(std::string message);

// The metav1.Status of an error of ours; for any other, of 500.
nlohmann::json StatusBodyOf(const absl::Status& error);
// As an in-process client sees it: without the body.
absl::Status WithoutBody(absl::Status error);

// "snapshot.storage.k8s.io", "" for core.
std::string_view GroupOf(Kind kind);
// "volumesnapshots.snapshot.storage.k8s.io", "persistentvolumeclaims".
std::string QualifiedPlural(Kind kind);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_API_ERROR_H_
