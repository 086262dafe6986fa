#ifndef SNAPKEEPER_COMMON_BASE_FILE_H_
#define SNAPKEEPER_COMMON_BASE_FILE_H_

#include <absl/status/statusor.h>

#include <string>

namespace snapkeeper {

// The whole of a file. NotFound where there is none, else InvalidArgument (a folder, no
// permission); the message names it.
absl::StatusOr<std::string> ReadFile(const std::string& path);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_BASE_FILE_H_
