#ifndef SNAPKEEPER_COMMON_KUBE_TEXT_H_
#define SNAPKEEPER_COMMON_KUBE_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace snapkeeper {

// Escapes everything but RFC 3986's unreserved characters: for one path segment, one query value,
// one header key.
std::string PercentEncode(std::string_view text);

// At most `max_bytes`, cut between UTF-8 sequences; "…" stands for what was left out, where that
// fits. Of errors that wrap each other the end names the cause: two thirds of what stays are of it.
std::string Truncate(std::string_view text, size_t max_bytes);

// One line to show of a text that somebody else wrote: at most `max_bytes`, printable ASCII, runs
// of anything else turned into one space, and what follows "Bearer" or "Basic" left out (proxies
// echo headers).
std::string Excerpt(std::string_view text, size_t max_bytes);

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_KUBE_TEXT_H_
