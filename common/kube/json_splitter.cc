#include "common/kube/json_splitter.h"

#include <absl/strings/ascii.h>

namespace snapkeeper {

bool JsonSplitter::Feed(std::string_view piece, absl::FunctionRef<bool(std::string_view)> object) {
  buffer_.append(piece);
  size_t begin = 0;  // of the object being scanned
  for (; scanned_ < buffer_.size(); ++scanned_) {
    const char c = buffer_[scanned_];
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
    } else if (depth_ == 0 && c != '{') {
      if (!absl::ascii_isspace(c)) return false;
      begin = scanned_ + 1;
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if ((c == '}' || c == ']') && --depth_ == 0) {
      if (!object(std::string_view(buffer_).substr(begin, scanned_ + 1 - begin))) return false;
      begin = scanned_ + 1;
    }
  }
  buffer_.erase(0, begin);
  scanned_ -= begin;
  return buffer_.size() <= kMaxObject;
}

}  // namespace snapkeeper
