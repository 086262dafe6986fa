#ifndef SNAPKEEPER_COMMON_KUBE_JSON_H_
#define SNAPKEEPER_COMMON_KUBE_JSON_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/kube/api.h"
#include "common/model/job.h"

namespace snapkeeper {

// How a kind is addressed.
struct Resource {
  std::string_view api_version;  // "v1", "snapshot.storage.k8s.io/v1"
  std::string_view kind;         // "VolumeSnapshot"
  std::string_view plural;       // "volumesnapshots"
  bool namespaced;
};
const Resource& ResourceOf(Kind kind);
// "/apis/GROUP/VERSION/namespaces/NS/PLURAL[/NAME]"; without NS for cluster-scoped kinds and for
// "all namespaces".
std::string PathOf(Kind kind, std::string_view ns, std::string_view name = "");

// JSON of one object to its value. InvalidArgument names what is missing or of the wrong type;
// unknown fields are ignored.
absl::StatusOr<ObjectPtr> ObjectFromJson(Kind kind, const nlohmann::json& json);

// The object that a job creates: name, labels and annotations that prove its identity
// (ProvenIdentity), and the claim as its source.
nlohmann::json SnapshotToJson(const CreateSnapshot& job);
// {"metadata":{"resourceVersion":…},"status":{…}}: every field of the status is written (null where
// absent), so that a merge patch replaces it whole; but recentRuns where there are none, which a
// policy that once had some has for ever.
nlohmann::json StatusPatch(const PolicyStatus& status, std::string_view resource_version);

// RFC 3339 in whole seconds UTC ("2006-01-02T15:04:05Z"), of the nearest time of the years 0 to
// 9999, and MicroTime with exactly six digits. Parsing takes any fraction and offset.
std::string FormatRfc3339(absl::Time time);
std::string FormatMicroTime(absl::Time time);
std::optional<absl::Time> ParseTime(std::string_view text);

// As it is sent: text that is not UTF-8, where we quote what others wrote, would make dump() throw
// and is replaced.
std::string Dump(const nlohmann::json& value);

// Parses text with a bound on depth (nlohmann's own dump would overflow the stack on a deep value),
// leaving out metadata.managedFields.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text);

// An object that ObjectFromJson refused.
struct Unreadable {
  std::string object;  // "NAMESPACE/NAME UID RESOURCEVERSION", as far as it has them
  absl::Status status;
};

// One page of a list, without the objects that could not be read.
struct ListPage {
  std::vector<ObjectPtr> items;
  std::vector<Unreadable> unreadable;
  std::string resource_version;
  std::string next;  // the continue token; "" on the last page
};
// Turns each item into its value and drops its JSON before the next one is read, so that a page
// costs little more than its text. InvalidArgument where the text is not a list with a
// resourceVersion. Any thread.
absl::StatusOr<ListPage> ParsePage(Kind kind, std::string_view text);

// One event of a watch. An object that could not be read counts as deleted: nothing is decided on a
// state of it that is no longer so.
struct WatchFrame {
  WatchEvent event;
  std::optional<Unreadable> unreadable;
};
// The error that an ERROR event tells of; Internal where the text is not an event.
absl::StatusOr<WatchFrame> ParseFrame(Kind kind, std::string_view text);

// The error of a non-2xx answer: code and Kubernetes' Status body (or whatever else a proxy sent).
// See api.h for the mapping. `retry_after` is the header's value, "" if none; at most five minutes
// of it count.
absl::Status StatusFromHttp(int code, std::string_view body, std::string_view retry_after);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_KUBE_JSON_H_
