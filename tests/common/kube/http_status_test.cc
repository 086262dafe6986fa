#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/kube/json.h"
#include "common/model/reason.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using absl::StatusCode;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

// A Status body as the API server writes it.
std::string Body(int code, const std::string& reason, const std::string& message,
                 json details = json::object()) {
  return json{{"kind", "Status"},
              {"apiVersion", "v1"},
              {"metadata", json::object()},
              {"status", "Failure"},
              {"message", message},
              {"reason", reason},
              {"details", std::move(details)},
              {"code", code}}
      .dump();
}

struct Case {
  std::string name;
  int code;
  std::string body;
  StatusCode expected;
  std::string message;  // in the status
  Reason reason = Reason::kNone;
};

class HttpStatusTest : public testing::TestWithParam<Case> {};

TEST_P(HttpStatusTest, SaysWhatTheCallerShouldDo) {
  const Case& c = GetParam();
  const absl::Status status = StatusFromHttp(c.code, c.body, "");
  EXPECT_THAT(status, StatusIs(c.expected, HasSubstr(c.message)));
  EXPECT_THAT(std::string(status.message()), HasSubstr("HTTP " + std::to_string(c.code)));
  EXPECT_EQ(ReasonOf(status), c.reason);
}

const json kNamespaceGone = {{"name", "shop"}, {"kind", "namespaces"}};
const json kNoSnapshot = {
    {"name", "s"}, {"group", "snapshot.storage.k8s.io"}, {"kind", "volumesnapshots"}};

INSTANTIATE_TEST_SUITE_P(
    Answers, HttpStatusTest,
    testing::Values(
        Case{"BadRequest", 400, Body(400, "BadRequest", "unknown field"),
             StatusCode::kInvalidArgument, "unknown field"},
        Case{"Unauthorized", 401, Body(401, "Unauthorized", "Unauthorized"),
             StatusCode::kUnauthenticated, "does not accept our credentials"},
        Case{"Forbidden", 403,
             Body(403, "Forbidden",
                  "volumesnapshots is forbidden: User \"system:serviceaccount:a:b\" cannot create"),
             StatusCode::kPermissionDenied, "cannot create", Reason::kForbidden},
        Case{"Anonymous", 403,
             Body(403, "Forbidden", "User \"system:anonymous\" cannot get path \"/api\""),
             StatusCode::kPermissionDenied, "check the user of the kubeconfig", Reason::kForbidden},
        Case{"ForbiddenByAProxy", 403, "<html>Access denied</html>", StatusCode::kPermissionDenied,
             "Access denied", Reason::kForbidden},
        Case{"QuotaExceeded", 403,
             Body(403, "Forbidden",
                  "volumesnapshots \"x\" is forbidden: exceeded quota: q, used: 5"),
             StatusCode::kPermissionDenied, "exceeded quota: q", Reason::kQuotaExceeded},
        Case{"QuotaNotCountedYet", 403,
             Body(403, "Forbidden", "x is forbidden: status unknown for quota: q"),
             StatusCode::kUnavailable, "status unknown"},
        Case{"AdmissionNotReadyYet", 403,
             Body(403, "Forbidden", "x is forbidden: not yet ready to handle request"),
             StatusCode::kUnavailable, "not yet ready"},
        Case{"NamespaceTerminating", 403,
             Body(403, "Forbidden", "unable to create new content in namespace shop",
                  {{"causes",
                    {{{"reason", "NamespaceTerminating"}, {"field", "metadata.namespace"}}}}}),
             StatusCode::kPermissionDenied, "unable to create", Reason::kNamespaceTerminating},
        Case{"NotFound", 404, Body(404, "NotFound", "volumesnapshots \"s\" not found", kNoSnapshot),
             StatusCode::kNotFound, "\"s\" not found"},
        Case{"NoNamespace", 404,
             Body(404, "NotFound", "namespaces \"shop\" not found", kNamespaceGone),
             StatusCode::kNotFound, "namespaces \"shop\""},
        Case{"KindNotInstalled", 404,
             Body(404, "NotFound", "the server could not find the requested resource"),
             StatusCode::kFailedPrecondition, "CustomResourceDefinitions"},
        Case{"GroupNotInstalled", 404, "404 page not found\n", StatusCode::kFailedPrecondition,
             "404 page not found"},
        Case{"MethodNotAllowed", 405, Body(405, "MethodNotAllowed", "not allowed"),
             StatusCode::kFailedPrecondition, "not allowed"},
        Case{"AlreadyExists", 409,
             Body(409, "AlreadyExists", "volumesnapshots \"s\" already exists", kNoSnapshot),
             StatusCode::kAlreadyExists, "already exists"},
        Case{"Conflict", 409, Body(409, "Conflict", "the object has been modified", kNoSnapshot),
             StatusCode::kAborted, "modified"},
        Case{"ConflictWithoutAReason", 409, "", StatusCode::kAborted, "no message"},
        Case{"Expired", 410, Body(410, "Expired", "The provided continue parameter is too old"),
             StatusCode::kOutOfRange, "too old"},
        Case{"TooLarge", 413, Body(413, "RequestEntityTooLarge", "limit is 3145728"),
             StatusCode::kInvalidArgument, "limit is"},
        Case{"UnsupportedMediaType", 415, Body(415, "UnsupportedMediaType", "m"),
             StatusCode::kInvalidArgument, "m"},
        Case{"Invalid", 422, Body(422, "Invalid", "spec.source: Required value", kNoSnapshot),
             StatusCode::kInvalidArgument, "Required value"},
        Case{"PostedTooLate", 422,
             Body(422, "Invalid",
                  "ValidatingAdmissionPolicy 'snapkeeper-post-before' with binding 'b' denied "
                  "request: late"),
             StatusCode::kInvalidArgument, "denied request: late"},
        Case{"TooManyRequests", 429, Body(429, "TooManyRequests", "try later"),
             StatusCode::kResourceExhausted, "try later"},
        Case{"ShuttingDown", 429, "The apiserver is shutting down", StatusCode::kResourceExhausted,
             "shutting down"},
        Case{"InternalError", 500, Body(500, "InternalError", "failed calling webhook \"w\""),
             StatusCode::kUnavailable, "failed calling webhook"},
        Case{"BadGateway", 502, "<html>\n<h1>502 Bad Gateway</h1></html>", StatusCode::kUnavailable,
             "502 Bad Gateway"},
        Case{"ServiceUnavailable", 503, Body(503, "ServiceUnavailable", "m"),
             StatusCode::kUnavailable, "m"},
        Case{"Timeout", 504, Body(504, "Timeout", "request did not complete within 34s"),
             StatusCode::kDeadlineExceeded, "34s"},
        Case{"Redirect", 302, "", StatusCode::kUnavailable, "no message"},
        Case{"JsonThatIsNoStatus", 503, R"({"error":"upstream"})", StatusCode::kUnavailable,
             R"({"error":"upstream"})"},
        Case{"StatusOfWrongTypes", 403, R"({"message":5,"reason":[],"details":{"causes":7}})",
             StatusCode::kPermissionDenied, "no message", Reason::kForbidden},
        Case{"BinaryGarbage", 500, std::string("\0\xff\xfe", 3), StatusCode::kUnavailable,
             "no message"}),
    [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

TEST(HttpStatusTest, CarriesRetryAfterFromHeaderOrBody) {
  const std::string in_body = Body(429, "TooManyRequests", "m", {{"retryAfterSeconds", 7}});
  const std::vector<std::tuple<std::string, std::string, absl::Duration>> cases = {
      {"", "3", absl::Seconds(3)},
      {in_body, "", absl::Seconds(7)},
      {in_body, "3", absl::Seconds(3)},
      {"", "", absl::ZeroDuration()},
      {"", "Wed, 21 Oct 2026 07:28:00 GMT", absl::ZeroDuration()},
      {"", "-5", absl::ZeroDuration()},
      {"", "999999999999", absl::Minutes(5)},
      {"", "99999999999999999999999", absl::ZeroDuration()},
  };
  for (const auto& [body, header, expected] : cases) {
    EXPECT_EQ(RetryAfterOf(StatusFromHttp(429, body, header)), expected) << header;
    EXPECT_EQ(RetryAfterOf(StatusFromHttp(503, body, header)), expected) << header;
  }
}

TEST(HttpStatusTest, MessagesAreShortAndHoldNoCredentials) {
  const absl::Status html =
      StatusFromHttp(502, "<p>Authorization: Bearer s3cret </p>" + std::string(100'000, 'x'), "");
  EXPECT_LT(html.message().size(), 300u);
  EXPECT_THAT(std::string(html.message()), Not(HasSubstr("s3cret")));
  EXPECT_LT(
      StatusFromHttp(422, Body(422, "Invalid", std::string(100'000, 'x')), "").message().size(),
      2100u);
}

}  // namespace
}  // namespace snapkeeper
