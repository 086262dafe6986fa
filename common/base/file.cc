#include "common/base/file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace snapkeeper {

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text;
  char chunk[4096];
  while (file.read(chunk, sizeof(chunk)), file.gcount() > 0) text.append(chunk, file.gcount());
  if (file.is_open() && !file.bad()) return text;
  const std::string message = fmt::format("cannot read {}: {}", path, std::strerror(errno));
  return errno == ENOENT ? absl::NotFoundError(message) : absl::InvalidArgumentError(message);
}

}  // namespace snapkeeper
