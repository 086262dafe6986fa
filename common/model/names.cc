#include "common/model/names.h"

#include <absl/time/civil_time.h>
#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>

namespace snapkeeper {
namespace {

constexpr std::string_view kManualInstant = "manual";
constexpr std::string_view kScheduleTrigger = "schedule";
constexpr std::string_view kManualTrigger = "manual";
constexpr size_t kClaimPrefix = 36;
constexpr size_t kHashedBytes = 16;

std::string Lines(const Identity& identity, char separator) {
  std::string lines = "snapkeeper/v1";
  for (const std::string* part : {&identity.policy_uid, &identity.instant, &identity.claim_uid})
    (lines += separator) += *part;
  return lines;
}

}  // namespace

std::string FormatInstant(absl::Time instant) {
  const absl::CivilSecond t = absl::ToCivilSecond(instant, absl::UTCTimeZone());
  return fmt::format("{:04}{:02}{:02}T{:02}{:02}{:02}Z", t.year(), t.month(), t.day(), t.hour(),
                     t.minute(), t.second());
}

std::optional<absl::Time> ParseInstant(std::string_view text) {
  if (text.size() != 16 || text[8] != 'T' || text[15] != 'Z') return std::nullopt;
  auto number = [text](size_t at, size_t digits) {
    int value = 0;
    for (const char c : text.substr(at, digits)) {
      if (c < '0' || c > '9') return -1;
      value = value * 10 + (c - '0');
    }
    return value;
  };
  const int year = number(0, 4), month = number(4, 2), day = number(6, 2);
  const int hour = number(9, 2), minute = number(11, 2), second = number(13, 2);
  if (year < 0) return std::nullopt;
  // Normalised where a field is out of its range, which is how that is seen.
  const absl::CivilSecond t(year, month, day, hour, minute, second);
  if (t.month() != month || t.day() != day || t.hour() != hour || t.minute() != minute ||
      t.second() != second) {
    return std::nullopt;
  }
  return absl::FromCivil(t, absl::UTCTimeZone());
}

std::string ShortHash(std::string_view text) {
  // SHA256() looks its algorithm up each time, which takes as long as the hash.
  static const EVP_MD* const kSha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  if (!EVP_Digest(text.data(), text.size(), digest.data(), nullptr, kSha256, nullptr)) std::abort();
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

std::optional<std::string_view> TriggerOf(std::string_view instant) {
  if (instant == kManualInstant) return kManualTrigger;
  if (ParseInstant(instant)) return kScheduleTrigger;
  return std::nullopt;
}

std::string SnapshotName(const Identity& identity, std::string_view claim_name) {
  std::string prefix(claim_name.substr(0, kClaimPrefix));
  std::replace(prefix.begin(), prefix.end(), '.', '-');
  prefix.erase(prefix.find_last_not_of('-') + 1);
  return prefix + "-" + ShortHash(Lines(identity, '\n') + "\n");
}

bool RefersTo(const Content& content, const Snapshot& snapshot) {
  return content.snapshot_uid == snapshot.meta.uid && content.snapshot_ns == snapshot.meta.ns &&
         content.snapshot_name == snapshot.meta.name;
}

std::optional<Identity> ProvenIdentity(const Snapshot& snapshot) {
  Identity identity{snapshot.policy_uid, snapshot.instant, snapshot.claim_uid};
  const auto trigger = TriggerOf(identity.instant);
  if (!snapshot.managed || identity.policy_uid.empty() || identity.claim_uid.empty() || !trigger ||
      snapshot.trigger != *trigger || snapshot.identity != identity.Annotation() ||
      snapshot.source_claim.empty() || snapshot.claim != snapshot.source_claim ||
      snapshot.meta.name != SnapshotName(identity, snapshot.source_claim)) {
    return std::nullopt;
  }
  return identity;
}

}  // namespace snapkeeper
