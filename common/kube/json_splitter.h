#ifndef SNAPKEEPER_COMMON_KUBE_JSON_SPLITTER_H_
#define SNAPKEEPER_COMMON_KUBE_JSON_SPLITTER_H_

#include <absl/functional/function_ref.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace snapkeeper {

// Cuts a stream of JSON objects into single ones, wherever the pieces it comes in begin and end.
// Looks at each byte once. Does not check what is inside an object.
class JsonSplitter {
 public:
  // An object of Kubernetes is at most 1.5 MiB (etcd).
  static constexpr size_t kMaxObject = 16 << 20;

  // Calls `object` for each one that `piece` completes; stops, for good, when that answers false.
  // Answers false, for good, at something else than an object or at an object over kMaxObject.
  bool Feed(std::string_view piece, absl::FunctionRef<bool(std::string_view)> object);

 private:
  std::string buffer_;  // what is not handed over yet
  size_t scanned_ = 0;
  int depth_ = 0;
  bool in_string_ = false, escaped_ = false;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_KUBE_JSON_SPLITTER_H_
