#include "common/model/names.h"

#include <absl/strings/string_view.h>
#include <fmt/format.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <cstdint>

namespace snapkeeper {
namespace {

constexpr char kInstantFormat[] = "%E4Y%m%dT%H%M%SZ";
constexpr std::string_view kManualInstant = "manual";
constexpr std::string_view kScheduleTrigger = "schedule";
constexpr std::string_view kManualTrigger = "manual";
constexpr size_t kClaimPrefix = 36;
constexpr size_t kHashedBytes = 16;

std::string Lines(const Identity& identity, char separator) {
  return fmt::format("snapkeeper/v1{0}{1}{0}{2}{0}{3}", separator, identity.policy_uid,
                     identity.instant, identity.claim_uid);
}

}  // namespace

std::string FormatInstant(absl::Time instant) {
  return absl::FormatTime(kInstantFormat, instant, absl::UTCTimeZone());
}

std::optional<absl::Time> ParseInstant(std::string_view text) {
  absl::Time instant;
  // The round trip refuses what the parser lets pass: leap seconds, spaces, infinite times.
  if (text.size() != 16 ||
      !absl::ParseTime(kInstantFormat, absl::string_view(text.data(), text.size()), &instant,
                       nullptr) ||
      FormatInstant(instant) != text) {
    return std::nullopt;
  }
  return instant;
}

std::string ShortHash(std::string_view text) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  std::string base32;
  uint32_t buffer = 0;
  int bits = 0;
  auto append = [&base32](uint32_t value) {
    base32 += "abcdefghijklmnopqrstuvwxyz234567"[value & 31];
  };
  for (size_t i = 0; i < kHashedBytes; ++i) {
    buffer = buffer << 8 | digest[i];
    for (bits += 8; bits >= 5; bits -= 5) append(buffer >> (bits - 5));
  }
  append(buffer << (5 - bits));
  return base32;
}

std::string Identity::Annotation() const { return Lines(*this, '/'); }

std::string SnapshotName(const Identity& identity, std::string_view claim_name) {
  std::string prefix(claim_name.substr(0, kClaimPrefix));
  std::replace(prefix.begin(), prefix.end(), '.', '-');
  prefix.erase(prefix.find_last_not_of('-') + 1);
  return prefix + "-" + ShortHash(Lines(identity, '\n') + "\n");
}

std::optional<Identity> ProvenIdentity(const Snapshot& snapshot) {
  Identity identity{snapshot.policy_uid, snapshot.instant, snapshot.claim_uid};
  const bool manual = identity.instant == kManualInstant;
  if (!snapshot.managed || identity.policy_uid.empty() || identity.claim_uid.empty() ||
      !(manual || ParseInstant(identity.instant)) ||
      snapshot.trigger != (manual ? kManualTrigger : kScheduleTrigger) ||
      snapshot.identity != identity.Annotation() || snapshot.source_claim.empty() ||
      snapshot.claim != snapshot.source_claim ||
      snapshot.meta.name != SnapshotName(identity, snapshot.source_claim)) {
    return std::nullopt;
  }
  return identity;
}

}  // namespace snapkeeper
