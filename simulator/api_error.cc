#include "simulator/api_error.h"

#include <absl/strings/cord.h>
#include <fmt/format.h>

#include "common/kube/json.h"

namespace snapkeeper {
namespace {

constexpr char kBodyUrl[] = "snapkeeper.io/simulator-status";

absl::Status FromBody(const nlohmann::json& body) {
  absl::Status status = StatusFromHttp(body["code"], body.dump(), "");
  status.SetPayload(kBodyUrl, absl::Cord(body.dump()));
  return status;
}

nlohmann::json Body(int code, std::string_view reason, std::string message) {
  return {{"kind", "Status"},
          {"apiVersion", "v1"},
          {"metadata", nlohmann::json::object()},
          {"status", "Failure"},
          {"message", std::move(message)},
          {"reason", reason},
          {"code", code}};
}

}  // namespace

std::string_view GroupOf(Kind kind) {
  const std::string_view version = ResourceOf(kind).api_version;
  const size_t slash = version.find('/');
  return slash == std::string_view::npos ? "" : version.substr(0, slash);
}

std::string QualifiedPlural(Kind kind) {
  const std::string_view group = GroupOf(kind);
  return fmt::format("{}{}{}", ResourceOf(kind).plural, group.empty() ? "" : ".", group);
}

absl::Status ApiError(int code, std::string_view reason, std::string message,
                      const ObjectKey& object, const std::vector<Cause>& causes) {
  nlohmann::json details = {
      {"name", object.name},
      {"kind", code == 422 ? ResourceOf(object.kind).kind : ResourceOf(object.kind).plural}};
  if (!GroupOf(object.kind).empty()) details["group"] = GroupOf(object.kind);
  for (const Cause& cause : causes) {
    details["causes"].push_back(
        {{"reason", cause.reason}, {"message", cause.message}, {"field", cause.field}});
  }
  nlohmann::json body = Body(code, reason, std::move(message));
  body["details"] = std::move(details);
  return FromBody(body);
}

absl::Status ApiError(int code, std::string_view reason, std::string message) {
  return FromBody(Body(code, reason, std::move(message)));
}

absl::Status NotFoundIn(const ObjectKey& key) {
  return ApiError(404, "NotFound",
                  fmt::format("{} \"{}\" not found", QualifiedPlural(key.kind), key.name), key);
}

absl::Status ConflictOn(const ObjectKey& key, std::string_view why) {
  return ApiError(409, "Conflict",
                  fmt::format("Operation cannot be fulfilled on {} \"{}\": {}",
                              QualifiedPlural(key.kind), key.name, why),
                  key);
}

absl::Status InvalidObject(const ObjectKey& key, const std::vector<Cause>& causes) {
  std::string what;
  for (const Cause& cause : causes) {
    what += fmt::format("{}{}: {}", what.empty() ? "" : ", ", cause.field, cause.message);
  }
  const std::string_view group = GroupOf(key.kind);
  return ApiError(422, "Invalid",
                  fmt::format("{}{}{} \"{}\" is invalid: {}", ResourceOf(key.kind).kind,
                              group.empty() ? "" : ".", group, key.name,
                              causes.size() > 1 ? "[" + what + "]" : what),
                  key, causes);
}

absl::Status BadRequest(std::string message) {
  return ApiError(400, "BadRequest", std::move(message));
}
absl::Status Expired(std::string message) { return ApiError(410, "Expired", std::move(message)); }

nlohmann::json StatusBodyOf(const absl::Status& error) {
  if (auto body = error.GetPayload(kBodyUrl)) return nlohmann::json::parse(std::string(*body));
  return Body(500, "InternalError", std::string(error.message()));
}

absl::Status WithoutBody(absl::Status error) {
  error.ErasePayload(kBodyUrl);
  return error;
}

}  // namespace snapkeeper
