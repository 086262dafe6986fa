#include "common/model/names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace snapkeeper {
namespace {

constexpr char kPolicyUid[] = "11111111-1111-1111-1111-111111111111";
constexpr char kClaimUid[] = "22222222-2222-2222-2222-222222222222";

Identity GoldenIdentity() { return {kPolicyUid, "20261122T150000Z", kClaimUid}; }

// Kubernetes' rule for names of most kinds, DNS-1123 subdomain.
void ExpectValidName(const std::string& name) {
  EXPECT_THAT(name, testing::SizeIs(testing::Le(253)));
  EXPECT_THAT(name, testing::MatchesRegex(
                        "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"));
}

TEST(NamesTest, HashOfTheDocumentedIdentity) {
  EXPECT_EQ(SnapshotName(GoldenIdentity(), "data-0"), "data-0-d2blg63bses24tt42xpiojfrcu");
}

TEST(NamesTest, HashOfKnownTexts) {
  // printf TEXT | sha256sum | cut -c1-32 | xxd -r -p | base32, in lower case and without "=".
  const struct {
    std::string text, hash;
  } cases[] = {
      {"", "4oymiquy7qobjgx36tejs35zeq"},
      {"abc", "xj4bnp4pahh6uqkbidpf3lrcem"},
  };
  for (const auto& c : cases) EXPECT_EQ(ShortHash(c.text), c.hash) << c.text;
}

TEST(NamesTest, PrefixIsTheClaimsNameMadeALabel) {
  const std::string a35(35, 'a');
  const struct {
    std::string claim, prefix;
  } cases[] = {
      {"x", "x-"},
      {"0", "0-"},
      {"data.my.app-0", "data-my-app-0-"},
      {std::string(36, 'a'), std::string(36, 'a') + "-"},
      {std::string(37, 'a'), std::string(36, 'a') + "-"},
      {std::string(253, 'a'), std::string(36, 'a') + "-"},
      {a35 + "-b", a35 + "-"},
      {a35 + ".b", a35 + "-"},
      {std::string(30, 'a') + "------b", std::string(30, 'a') + "-"},
      {"a" + std::string(40, '-') + "b", "a-"},
      {"a.b-" + std::string(249, 'c'), "a-b-" + std::string(32, 'c') + "-"},
  };
  for (const auto& c : cases) {
    const std::string name = SnapshotName(GoldenIdentity(), c.claim);
    EXPECT_EQ(name, c.prefix + "d2blg63bses24tt42xpiojfrcu") << c.claim;
    ExpectValidName(name);
    EXPECT_LE(name.size(), 63u) << c.claim;
  }
}

TEST(NamesTest, EveryPartOfTheIdentityChangesTheName) {
  std::set<std::string> names;
  for (const Identity& identity :
       std::vector<Identity>{GoldenIdentity(), Identity{kClaimUid, "20261122T150000Z", kClaimUid},
                             Identity{kPolicyUid, "20261122T150001Z", kClaimUid},
                             Identity{kPolicyUid, "20261122T150000Z", kPolicyUid},
                             Identity{kPolicyUid, "manual", kClaimUid},
                             Identity{kPolicyUid, "2026", "1122T150000Z"}}) {
    names.insert(SnapshotName(identity, "data-0"));
  }
  EXPECT_EQ(names.size(), 6u);
}

TEST(NamesTest, AnnotationJoinsTheLinesBySlashes) {
  EXPECT_EQ(GoldenIdentity().Annotation(),
            "snapkeeper/v1/11111111-1111-1111-1111-111111111111/20261122T150000Z/"
            "22222222-2222-2222-2222-222222222222");
}

TEST(NamesTest, InstantsGoThereAndBack) {
  const absl::Time instant = absl::FromUnixSeconds(1795359600);
  EXPECT_EQ(FormatInstant(instant), "20261122T150000Z");
  EXPECT_EQ(ParseInstant("20261122T150000Z"), instant);
  EXPECT_EQ(FormatInstant(instant + absl::Milliseconds(999)), "20261122T150000Z");
  for (int64_t second : std::vector<int64_t>{0, 951782400, 1709164800, 4102444799}) {
    const absl::Time time = absl::FromUnixSeconds(second);
    EXPECT_EQ(ParseInstant(FormatInstant(time)), time);
  }
}

TEST(NamesTest, WhatIsNoInstantIsRefused) {
  for (const char* text : {
           "",
           "manual",
           "infinite-future",
           "infinite-past",
           "20261122T150000",
           "20261122150000Z",
           "20261122T150000Z ",
           " 2026112T150000Z",
           "20261322T150000Z",
           "20260230T150000Z",
           "20261122T240000Z",
           "20261122T156000Z",
           "20261231T235960Z",
           "20261122t150000z",
           "2026-11-22T15:00",
           "+2026112T150000Z",
           "2026112 T150000Z",
           "20261122T1500 0Z",
           "20261122T1500-1Z",
           "120261122T15000Z",
       }) {
    EXPECT_EQ(ParseInstant(text), std::nullopt) << text;
  }
  EXPECT_EQ(ParseInstant(std::string_view("20261122T15000\0Z", 16)), std::nullopt);
}

Snapshot OurSnapshot(const Identity& identity, const std::string& claim) {
  Snapshot snapshot;
  snapshot.meta.name = SnapshotName(identity, claim);
  snapshot.source_claim = claim;
  snapshot.managed = true;
  snapshot.policy_uid = identity.policy_uid;
  snapshot.claim_uid = identity.claim_uid;
  snapshot.instant = identity.instant;
  snapshot.trigger = identity.instant == "manual" ? "manual" : "schedule";
  snapshot.identity = identity.Annotation();
  snapshot.claim = claim;
  return snapshot;
}

TEST(NamesTest, OurOwnSnapshotsProveTheirIdentity) {
  EXPECT_EQ(ProvenIdentity(OurSnapshot(GoldenIdentity(), "data-0")), GoldenIdentity());
  const Identity manual{kPolicyUid, "manual", kClaimUid};
  EXPECT_EQ(ProvenIdentity(OurSnapshot(manual, std::string(253, 'a'))), manual);
}

TEST(NamesTest, WhatDoesNotAgreeWithTheNameProvesNothing) {
  const Identity golden = GoldenIdentity();
  const struct {
    const char* what;
    void (*change)(Snapshot&);
  } cases[] = {
      {"labels copied onto another object", [](Snapshot& s) { s.meta.name = "foreign"; }},
      {"name of another instant",
       [](Snapshot& s) {
         s.meta.name = SnapshotName({kPolicyUid, "20261122T160000Z", kClaimUid}, "data-0");
       }},
      {"no managed-by label", [](Snapshot& s) { s.managed = false; }},
      {"source is a content, not a PVC", [](Snapshot& s) { s.source_claim = ""; }},
      {"another source", [](Snapshot& s) { s.source_claim = "data-1"; }},
      {"another source, annotation changed too",
       [](Snapshot& s) { s.source_claim = s.claim = "data-1"; }},
      {"source of the same first 36 characters",
       [](Snapshot& s) {
         s.claim.assign(37, 'a');
         s.source_claim.assign(38, 'a');
         s.meta.name = SnapshotName(GoldenIdentity(), s.source_claim);
       }},
      {"policy-uid label changed", [](Snapshot& s) { s.policy_uid = kClaimUid; }},
      {"pvc-uid label changed", [](Snapshot& s) { s.claim_uid = kPolicyUid; }},
      {"instant label changed", [](Snapshot& s) { s.instant = "20261122T160000Z"; }},
      {"labels and annotation changed, not the name",
       [](Snapshot& s) {
         s.instant = "20261122T160000Z";
         s.identity = Identity{kPolicyUid, s.instant, kClaimUid}.Annotation();
       }},
      {"labels missing", [](Snapshot& s) { s.policy_uid = s.claim_uid = s.instant = ""; }},
      {"annotation missing", [](Snapshot& s) { s.identity = ""; }},
      {"annotation of another version",
       [](Snapshot& s) { s.identity.replace(0, 13, "snapkeeper/v2"); }},
      {"manual by its trigger only", [](Snapshot& s) { s.trigger = "manual"; }},
      {"no trigger", [](Snapshot& s) { s.trigger = ""; }},
  };
  for (const auto& c : cases) {
    Snapshot snapshot = OurSnapshot(golden, "data-0");
    c.change(snapshot);
    EXPECT_EQ(ProvenIdentity(snapshot), std::nullopt) << c.what;
  }
  // Consistent in itself, but of no form that we ever write.
  for (const Identity& identity :
       {Identity{kPolicyUid, "yesterday", kClaimUid}, Identity{"", "20261122T150000Z", kClaimUid},
        Identity{kPolicyUid, "20261122T150000Z", ""}}) {
    EXPECT_EQ(ProvenIdentity(OurSnapshot(identity, "data-0")), std::nullopt)
        << identity.Annotation();
  }
}

TEST(NamesTest, AContentRefersToASnapshotByNamespaceNameAndUid) {
  Snapshot snapshot;
  snapshot.meta = {.ns = "default", .name = "s", .uid = "u"};
  const auto refers = [&snapshot](const char* ns, const char* name, const char* uid) {
    Content content;
    content.snapshot_ns = ns;
    content.snapshot_name = name;
    content.snapshot_uid = uid;
    return RefersTo(content, snapshot);
  };
  EXPECT_TRUE(refers("default", "s", "u"));
  EXPECT_FALSE(refers("other", "s", "u"));
  EXPECT_FALSE(refers("default", "other", "u"));
  EXPECT_FALSE(refers("default", "s", "other"));
  EXPECT_FALSE(refers("default", "s", ""));
}

}  // namespace
}  // namespace snapkeeper
