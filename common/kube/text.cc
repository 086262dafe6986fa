#include "common/kube/text.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <fmt/format.h>

#include <algorithm>

namespace snapkeeper {
namespace {

constexpr std::string_view kEllipsis = "…";

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// The length of the longest prefix of at most `max` bytes that cuts no sequence in two.
size_t Boundary(std::string_view text, size_t max) {
  if (text.size() <= max) return text.size();
  while (max > 0 && IsContinuation(text[max])) --max;
  return max;
}

}  // namespace

std::string PercentEncode(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    if (absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~') {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

std::string Truncate(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  if (max_bytes < kEllipsis.size()) return std::string(text.substr(0, Boundary(text, max_bytes)));
  const size_t room = max_bytes - kEllipsis.size();
  size_t tail = text.size() - room + room / 3;
  while (tail < text.size() && IsContinuation(text[tail])) ++tail;
  std::string cut(text.substr(0, Boundary(text, room / 3)));
  return cut.append(kEllipsis).append(text.substr(tail));
}

std::string Excerpt(std::string_view text, size_t max_bytes) {
  std::string line;
  bool secret = false;  // the word being read is a credential
  bool gap = false;
  size_t word = 0;  // where the word being read begins in `line`
  for (const char c : text) {
    if (line.size() >= max_bytes) break;
    if (!absl::ascii_isgraph(c)) {
      gap = true;
      continue;
    }
    if (gap && !line.empty()) {
      const absl::string_view last(line.data() + word, line.size() - word);
      secret = absl::EndsWithIgnoreCase(last, "bearer") || absl::EndsWithIgnoreCase(last, "basic");
      line += secret ? " (left out)" : " ";
      word = line.size();
    }
    gap = false;
    if (!secret) line += c;
  }
  line.resize(std::min(line.size(), max_bytes));
  return line;
}

}  // namespace snapkeeper
