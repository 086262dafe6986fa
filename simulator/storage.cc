#include "simulator/storage.h"

#include <absl/strings/numbers.h>
#include <fmt/format.h>

#include <cmath>
#include <utility>

namespace snapkeeper {

std::optional<int64_t> ParseQuantity(std::string_view text) {
  static constexpr std::pair<std::string_view, double> kSuffixes[] = {
      {"Ki", 0x1p10}, {"Mi", 0x1p20}, {"Gi", 0x1p30}, {"Ti", 0x1p40}, {"Pi", 0x1p50},
      {"Ei", 0x1p60}, {"k", 1e3},     {"M", 1e6},     {"G", 1e9},     {"T", 1e12},
      {"P", 1e15},    {"E", 1e18},    {"m", 1e-3}};
  double unit = 1;
  for (const auto& [suffix, factor] : kSuffixes) {
    if (!text.ends_with(suffix)) continue;
    unit = factor;
    text.remove_suffix(suffix.size());
    break;
  }
  double number = 0;
  if (text.empty() || text.find_first_not_of("0123456789.eE+-") != std::string_view::npos ||
      !absl::SimpleAtod(std::string(text), &number) || number < 0 || number * unit > 9e18) {
    return std::nullopt;
  }
  return static_cast<int64_t>(std::ceil(number * unit));
}

std::string FormatQuantity(int64_t bytes) {
  constexpr std::string_view kUnits[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
  size_t unit = 0;
  for (; bytes != 0 && bytes % 1024 == 0 && unit + 1 < std::size(kUnits); ++unit) bytes /= 1024;
  return fmt::format("{}{}", bytes, kUnits[unit]);
}

}  // namespace snapkeeper
