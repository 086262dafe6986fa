#ifndef SNAPKEEPER_SIMULATOR_SERVED_H_
#define SNAPKEEPER_SIMULATOR_SERVED_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/kube/api.h"

namespace snapkeeper {

// A resource of the simulator's HTTP API.
struct Served {
  std::string api_version, kind, plural, singular;
  bool namespaced;
  std::vector<std::string> short_names, categories;
  std::optional<Kind> stored;  // nullopt: read-only, there so that kubectl finds what it asks for

  std::string group() const;    // "" for core
  std::string version() const;  // "v1"
};
const std::vector<Served>& AllServed();
// Null if there is none.
const Served* FindServed(std::string_view group, std::string_view version, std::string_view plural);

// How a client finds out what there is. `path` is that of the request, `accept` its header.
// Nullopt: no such document.
struct Document {
  std::string content_type, body;
};
std::optional<Document> Discover(const std::string& path, const std::string& accept);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_SERVED_H_
