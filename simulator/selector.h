#ifndef SNAPKEEPER_SIMULATOR_SELECTOR_H_
#define SNAPKEEPER_SIMULATOR_SELECTOR_H_

#include <absl/status/statusor.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/kube/api.h"
#include "common/model/policy.h"

namespace snapkeeper {

// What selectors see of an object.
struct Tags {
  std::string ns, name;
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string>
      fields;  // those of Events that kubectl selects by: "involvedObject.name", ...
};

// Which objects of a kind a list or a watch is about.
struct Selector {
  struct Field {
    std::string name, value;
    bool equal = true;
  };

  std::string ns;  // "": all namespaces
  LabelSelector labels;
  std::vector<Field> fields;

  bool Matches(const Tags& tags) const;
};

// The API's query parameters: "app=db,tier!=web,env in (a,b),env notin (c),x,!y" and
// "metadata.name=x,type!=Normal". InvalidArgument (400) for what is no selector, and for a field
// that `query.kind` has no index of.
absl::StatusOr<Selector> ParseSelector(const ListQuery& query);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_SELECTOR_H_
