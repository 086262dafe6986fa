#include "common/model/retention.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "common/model/names.h"

namespace snapkeeper {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const absl::Time kNow = absl::FromUnixSeconds(1795359600);
constexpr absl::Duration kQuarantine = absl::Minutes(5);

RetentionContext ContextAt(absl::Time now) {
  return {.now = now,
          .quarantine = kQuarantine,
          .leader_since = kNow - absl::Hours(1000),
          .claim_exists = true,
          .second_newest_due = std::nullopt};
}

// A ready scheduled snapshot, cut and made `hours` ago.
SeriesMember Ready(const std::string& name, double hours) {
  SeriesMember member;
  member.name = name;
  member.uid = "uid-" + name;
  member.resource_version = "rv-" + name;
  member.created = member.cut = member.posted = kNow - absl::Hours(hours);
  member.scheduled = member.ready = member.was_cut = true;
  return member;
}

SeriesMember Unready(const std::string& name, double hours, bool was_cut) {
  SeriesMember member = Ready(name, hours);
  member.ready = false;
  member.was_cut = was_cut;
  return member;
}

template <class Change>
SeriesMember With(SeriesMember member, Change change) {
  change(member);
  return member;
}

RetentionRule KeepLast(int n) {
  RetentionRule rule;
  rule.keep_last = n;
  return rule;
}

RetentionRule MaxAge(absl::Duration age) {
  RetentionRule rule;
  rule.max_age = age;
  return rule;
}

// "name: keep(rules)" and so on, newest first.
std::vector<std::string> Told(const RetentionPlan& plan) {
  std::vector<std::string> told;
  for (const Decision& decision : plan.decisions) {
    const char* verdict = decision.verdict == Verdict::kKeep    ? "keep"
                          : decision.verdict == Verdict::kPrune ? "prune"
                                                                : "ignore";
    told.push_back(fmt::format("{}: {}({})", decision.name, verdict, decision.rule));
  }
  return told;
}

TEST(RetentionTest, AnEmptySeriesNeedsNothing) {
  const RetentionPlan plan = PlanRetention({}, KeepLast(3), ContextAt(kNow));
  EXPECT_THAT(plan.decisions, IsEmpty());
  EXPECT_EQ(plan.next_change, absl::InfiniteFuture());
}

TEST(RetentionTest, DecisionsByTable) {
  auto held = [](SeriesMember& m) { m.held = true; };
  auto pinned = [](SeriesMember& m) { m.pinned = true; };
  auto retained = [](SeriesMember& m) { m.retained = true; };
  auto grouped = [](SeriesMember& m) { m.grouped = true; };
  auto deleting = [](SeriesMember& m) { m.deleting = true; };
  auto foreign = [](SeriesMember& m) { m.scheduled = false; };
  auto not_posted = [](SeriesMember& m) { m.quarantined = true; };
  RetentionRule last1_age2h = KeepLast(1);
  last1_age2h.max_age = absl::Hours(2);
  RetentionRule last4_age2h = KeepLast(4);
  last4_age2h.max_age = absl::Hours(2);
  RetentionRule min0_age = MaxAge(absl::Hours(2));
  min0_age.min_ready = 0;
  RetentionRule min3 = KeepLast(1);
  min3.min_ready = 3;
  RetentionRule age_min2 = MaxAge(absl::Minutes(30));
  age_min2.min_ready = 2;
  const RetentionContext plain = ContextAt(kNow);
  RetentionContext claim_gone = plain;
  claim_gone.claim_exists = false;
  RetentionContext fresh_leader = plain;
  fresh_leader.leader_since = kNow - kQuarantine + absl::Seconds(1);
  RetentionContext outage = plain;
  outage.second_newest_due = kNow - absl::Hours(1) + absl::Seconds(1);
  RetentionContext healthy = plain;
  healthy.second_newest_due = kNow - absl::Hours(1);

  const struct {
    const char* what;
    std::vector<SeriesMember> members;
    std::optional<RetentionRule> rule;
    RetentionContext context;
    std::vector<std::string> told;
  } cases[] = {
      {"without a keep rule all are kept",
       {Ready("a", 1), Ready("b", 9999)},
       RetentionRule{},
       plain,
       {"a: keep(keepAll,minReady,lastReady)", "b: keep(keepAll)"}},
      {"keepLast counts from the newest",
       {Ready("c", 3), Ready("a", 1), Ready("b", 2)},
       KeepLast(2),
       plain,
       {"a: keep(keepLast,minReady,lastReady)", "b: keep(keepLast)", "c: prune(keepLast)"}},
      {"equal cuts go by name, descending",
       {Ready("a", 1), Ready("c", 1), Ready("b", 1)},
       KeepLast(1),
       plain,
       {"c: keep(keepLast,minReady,lastReady)", "b: prune(keepLast)", "a: prune(keepLast)"}},
      {"maxAge alone keeps what is not older",
       {Ready("a", 1), Ready("b", 2), Ready("c", 2.001)},
       MaxAge(absl::Hours(2)),
       plain,
       {"a: keep(maxAge,minReady,lastReady)", "b: keep(maxAge)", "c: prune(maxAge)"}},
      {"maxAge overrules keepLast",
       {Ready("a", 1), Ready("b", 3)},
       last4_age2h,
       plain,
       {"a: keep(keepLast,minReady,lastReady)", "b: prune(maxAge)"}},
      {"both limits are told",
       {Ready("a", 1), Ready("b", 1.5), Ready("c", 3)},
       last1_age2h,
       plain,
       {"a: keep(keepLast,minReady,lastReady)", "b: prune(keepLast)", "c: prune(keepLast,maxAge)"}},
      {"the age pauses in an outage, keepLast does not",
       {Ready("a", 1), Ready("b", 3), Ready("c", 4), Ready("d", 5), Ready("e", 6)},
       last4_age2h,
       outage,
       {"a: keep(keepLast,minReady,lastReady)", "b: keep(agePaused)", "c: keep(agePaused)",
        "d: keep(agePaused)", "e: prune(keepLast)"}},
      {"a cut at the second-newest due instant ends the pause",
       {Ready("a", 1), Ready("b", 3)},
       last4_age2h,
       healthy,
       {"a: keep(keepLast,minReady,lastReady)", "b: prune(maxAge)"}},
      {"a manual snapshot does not end the pause of the series",
       {With(Ready("m", 0.5), foreign), Ready("a", 1), Ready("b", 3)},
       last4_age2h,
       outage,
       {"m: ignore(otherOrigin)", "a: keep(keepLast,minReady)", "b: keep(agePaused)"}},
      {"a held snapshot of the series does",
       {With(Ready("h", 0.5), held), Ready("a", 1), Ready("b", 3)},
       last4_age2h,
       outage,
       {"h: keep(lastReady,held)", "a: keep(keepLast,minReady)", "b: prune(maxAge)"}},
      {"an unready one does not end the pause",
       {Unready("u", 0.5, true), Ready("a", 1), Ready("b", 3)},
       last4_age2h,
       outage,
       {"u: keep(unreadyTtl,newestCut)", "a: keep(keepLast,minReady,lastReady)",
        "b: keep(agePaused)"}},
      {"minReady outlives age",
       {Ready("a", 1), Ready("b", 2), Ready("c", 3)},
       age_min2,
       plain,
       {"a: keep(minReady,lastReady)", "b: keep(minReady)", "c: prune(maxAge)"}},
      {"minReady above keepLast keeps more",
       {Ready("a", 1), Ready("b", 2), Ready("c", 3), Ready("d", 4)},
       min3,
       plain,
       {"a: keep(keepLast,minReady,lastReady)", "b: keep(minReady)", "c: keep(minReady)",
        "d: prune(keepLast)"}},
      {"minReady 0: the last ready one stays while the claim exists",
       {Ready("a", 3), Ready("b", 4)},
       min0_age,
       plain,
       {"a: keep(lastReady)", "b: prune(maxAge)"}},
      {"minReady 0 of a claim that is gone: all may go",
       {Ready("a", 3), Ready("b", 4)},
       min0_age,
       claim_gone,
       {"a: prune(maxAge)", "b: prune(maxAge)"}},
      {"minReady holds for a claim that is gone",
       {Ready("a", 3), Ready("b", 4)},
       MaxAge(absl::Hours(2)),
       claim_gone,
       {"a: keep(minReady)", "b: prune(maxAge)"}},
      {"the last ready one may be of another origin",
       {With(Ready("f", 1), foreign), Ready("a", 3)},
       min0_age,
       plain,
       {"f: ignore(otherOrigin)", "a: prune(maxAge)"}},
      {"others are neither pruned nor counted",
       {With(Ready("f", 1), foreign), Ready("a", 2), Ready("b", 3), With(Ready("g", 9), foreign)},
       KeepLast(1),
       plain,
       {"f: ignore(otherOrigin)", "a: keep(keepLast,minReady)", "b: prune(keepLast)",
        "g: ignore(otherOrigin)"}},
      {"made before every clock was set back: neither pruned nor counted",
       {Ready("x", -2), Ready("y", -1), Ready("a", 1), Ready("b", 2)},
       KeepLast(1),
       plain,
       {"x: keep(madeAhead,quarantine)", "y: keep(madeAhead,quarantine)",
        "a: keep(keepLast,minReady,lastReady)", "b: prune(keepLast)"}},
      {"others that are unready are not pruned",
       {Ready("a", 2), With(Unready("f", 999, false), foreign)},
       KeepLast(1),
       plain,
       {"a: keep(keepLast,minReady,lastReady)", "f: ignore(otherOrigin)"}},
      {"held ones stay and are not counted",
       {With(Ready("h", 1), held), Ready("a", 2), Ready("b", 3), With(Ready("i", 4), held)},
       KeepLast(1),
       plain,
       {"h: keep(lastReady,held)", "a: keep(keepLast,minReady)", "b: prune(keepLast)",
        "i: keep(held)"}},
      {"pinned, retained and grouped ones stay and are counted",
       {With(Ready("p", 1), pinned), With(Ready("g", 2), grouped), Ready("a", 3),
        With(Ready("q", 4), pinned), With(Ready("r", 5), retained)},
       KeepLast(2),
       plain,
       {"p: keep(keepLast,minReady,lastReady,pinned)", "g: keep(keepLast,grouped)",
        "a: prune(keepLast)", "q: keep(pinned)", "r: keep(retained)"}},
      {"what is being deleted is as good as gone",
       {With(Ready("d", 1), deleting), Ready("a", 2), Ready("b", 3)},
       KeepLast(1),
       plain,
       {"d: ignore(deleting)", "a: keep(keepLast,minReady,lastReady)", "b: prune(keepLast)"}},
      {"unready ones are never counted and do not evict",
       {Unready("u", 1, true), Unready("v", 2, false), Ready("a", 3), Ready("b", 4)},
       KeepLast(1),
       plain,
       {"u: keep(unreadyTtl,newestCut)", "v: keep(unreadyTtl)",
        "a: keep(keepLast,minReady,lastReady)", "b: prune(keepLast)"}},
      {"unready past its ttl, never cut",
       {Unready("u", 24, false), Unready("v", 23.99, false)},
       KeepLast(1),
       plain,
       {"v: keep(unreadyTtl)", "u: prune(unreadyTtl)"}},
      {"unready past its ttl, cut, nothing newer is ready",
       {Unready("u", 25, true), Ready("a", 26)},
       KeepLast(1),
       plain,
       {"u: keep(newestCut)", "a: keep(keepLast,minReady,lastReady)"}},
      {"unready past its ttl, cut, an equal cut is not newer",
       {Unready("u", 25, true), Ready("a", 25)},
       KeepLast(1),
       plain,
       {"u: keep(newestCut)", "a: keep(keepLast,minReady,lastReady)"}},
      {"unready past its ttl, cut, a newer one is ready",
       {Unready("u", 26, true), Ready("a", 25)},
       KeepLast(1),
       plain,
       {"a: keep(keepLast,minReady,lastReady)", "u: prune(unreadyTtl)"}},
      {"unready past its ttl, cut, a newer one of another origin is ready",
       {Unready("u", 26, true), With(Ready("f", 25), foreign)},
       KeepLast(1),
       plain,
       {"f: ignore(otherOrigin)", "u: prune(unreadyTtl)"}},
      {"unready past its ttl, cut, the newer one is being deleted",
       {Unready("u", 26, true), With(Ready("d", 25), deleting)},
       KeepLast(1),
       plain,
       {"d: ignore(deleting)", "u: keep(newestCut)"}},
      {"the ttl runs from the object, not from the cut",
       {With(Unready("u", 30, true), [](SeriesMember& m) { m.created = kNow - absl::Hours(1); }),
        Ready("a", 25)},
       KeepLast(1),
       plain,
       {"a: keep(keepLast,minReady,lastReady)", "u: keep(unreadyTtl)"}},
      {"unready and held, pinned, grouped or in quarantine",
       {With(Unready("h", 30, false), held), With(Unready("p", 31, false), pinned),
        With(Unready("g", 32, false), grouped), With(Unready("q", 33, false), not_posted),
        With(Unready("r", 34, false), retained)},
       KeepLast(1),
       plain,
       {"h: keep(held)", "p: keep(pinned)", "g: keep(grouped)", "q: keep(quarantine)",
        "r: keep(retained)"}},
      {"maxAge does not touch unready ones",
       {Unready("u", 3, false)},
       MaxAge(absl::Hours(2)),
       plain,
       {"u: keep(unreadyTtl)"}},
      {"a run that is not posted is in quarantine, however old",
       {Ready("a", 1), With(Ready("b", 999), not_posted)},
       KeepLast(1),
       plain,
       {"a: keep(keepLast,minReady,lastReady)", "b: keep(quarantine)"}},
      {"quarantine from the object's creation",
       {Ready("a", 1),
        With(Ready("b", 2),
             [](SeriesMember& m) { m.created = kNow - kQuarantine + absl::Seconds(1); })},
       KeepLast(1),
       plain,
       {"a: keep(keepLast,minReady,lastReady)", "b: keep(quarantine)"}},
      {"quarantine from the posting of the run",
       {Ready("a", 1),
        With(Ready("b", 2),
             [](SeriesMember& m) { m.posted = kNow - kQuarantine + absl::Seconds(1); })},
       KeepLast(1),
       plain,
       {"a: keep(keepLast,minReady,lastReady)", "b: keep(quarantine)"}},
      {"quarantine from the leader's beginning",
       {Ready("a", 1), Ready("b", 2), Unready("u", 30, false)},
       KeepLast(1),
       fresh_leader,
       {"a: keep(keepLast,minReady,lastReady,quarantine)", "b: keep(quarantine)",
        "u: keep(quarantine)"}},
      {"an object from the future is in quarantine",
       {Ready("a", 1),
        With(Ready("b", 2), [](SeriesMember& m) { m.created = kNow + absl::Hours(24 * 365); })},
       KeepLast(1),
       plain,
       {"a: keep(keepLast,minReady,lastReady)", "b: keep(madeAhead,quarantine)"}},
      {"of a policy that is gone only unready ones go",
       {Ready("a", 1), Ready("b", 9999), Unready("u", 24, false), Unready("v", 10000, true),
        Unready("w", 0.5, true)},
       std::nullopt,
       plain,
       {"w: keep(unreadyTtl,newestCut)", "a: keep(policyGone,lastReady)", "u: prune(unreadyTtl)",
        "b: keep(policyGone)", "v: prune(unreadyTtl)"}},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(Told(PlanRetention(c.members, c.rule, c.context)),
                testing::ElementsAreArray(c.told))
        << c.what;
  }
}

TEST(RetentionTest, DecisionsNameTheObjectThatWasJudged) {
  const auto pruned =
      PlanRetention({Ready("a", 1), Ready("b", 2)}, KeepLast(1), ContextAt(kNow)).Pruned();
  EXPECT_THAT(pruned, ElementsAre(Decision{"b", "uid-b", "rv-b", Verdict::kPrune, "keepLast"}));
}

TEST(RetentionTest, QuarantineEndsAtItsLastSecond) {
  SeriesMember old = Ready("b", 2);
  old.posted = kNow - kQuarantine;
  EXPECT_THAT(PlanRetention({Ready("a", 1), old}, KeepLast(1), ContextAt(kNow)).Pruned(),
              testing::SizeIs(1));
}

TEST(RetentionTest, NextChangeIsWhenTimeAloneChangesThePlan) {
  RetentionRule aged = KeepLast(2);
  aged.max_age = absl::Hours(10);
  RetentionContext outage = ContextAt(kNow);
  outage.second_newest_due = kNow;
  SeriesMember young = Ready("b", 2);
  young.created = young.posted = kNow - absl::Minutes(1);
  SeriesMember posted_later = young;
  posted_later.posted = kNow - absl::Seconds(10);
  SeriesMember held = Ready("h", 3);
  held.held = true;
  held.stale_at = kNow + absl::Hours(7);
  SeriesMember stale_before = Ready("b", 2);
  stale_before.stale_at = kNow - absl::Hours(1);
  const absl::Duration moment = absl::Nanoseconds(1);

  const struct {
    const char* what;
    std::vector<SeriesMember> members;
    std::optional<RetentionRule> rule;
    RetentionContext context;
    absl::Time next_change;
  } cases[] = {
      {"nothing to wait for",
       {Ready("a", 1)},
       KeepLast(1),
       ContextAt(kNow),
       absl::InfiniteFuture()},
      {"pruned now, nothing to wait for",
       {Ready("a", 1), Ready("b", 2)},
       KeepLast(1),
       ContextAt(kNow),
       absl::InfiniteFuture()},
      {"end of quarantine of one that will go",
       {Ready("a", 1), young},
       KeepLast(1),
       ContextAt(kNow),
       kNow + absl::Minutes(4)},
      {"the later of creation and posting",
       {Ready("a", 1), posted_later},
       KeepLast(1),
       ContextAt(kNow),
       kNow + kQuarantine - absl::Seconds(10)},
      {"not the end of quarantine of one that stays",
       {Ready("a", 1), young},
       KeepLast(2),
       ContextAt(kNow),
       absl::InfiniteFuture()},
      {"just past maxAge, the floor aside",
       {Ready("a", 1), Ready("b", 2), Ready("c", 3)},
       aged,
       ContextAt(kNow),
       kNow + absl::Hours(8) + moment},
      {"age is paused: the end of the outage is no matter of time",
       {Ready("a", 1), Ready("b", 2)},
       aged,
       outage,
       absl::InfiniteFuture()},
      {"end of the ttl",
       {Ready("a", 1), Unready("u", 20, false)},
       KeepLast(1),
       ContextAt(kNow),
       kNow + absl::Hours(4)},
      {"end of the ttl of a policy that is gone",
       {Unready("u", 20, false)},
       std::nullopt,
       ContextAt(kNow),
       kNow + absl::Hours(4)},
      {"cut and not superseded: time does nothing",
       {Unready("u", 20, true)},
       KeepLast(1),
       ContextAt(kNow),
       absl::InfiniteFuture()},
      {"a hold that ends",
       {Ready("a", 1), Ready("b", 2), held},
       KeepLast(1),
       ContextAt(kNow),
       kNow + absl::Hours(7)},
      {"what has been stale already",
       {Ready("a", 1), stale_before},
       KeepLast(2),
       ContextAt(kNow),
       absl::InfiniteFuture()},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(PlanRetention(c.members, c.rule, c.context).next_change, c.next_change) << c.what;
  }
}

// The rules of docs/guarantees.md once more, sentence by sentence, for one snapshot and without any
// shared step.
bool PrunedByTheBook(const SeriesMember& me, const std::vector<SeriesMember>& all,
                     const std::optional<RetentionRule>& rule, const RetentionContext& context) {
  auto count = [&all](auto&& wanted) { return std::count_if(all.begin(), all.end(), wanted); };
  auto newer_than_me = [&me](const SeriesMember& other) {
    return other.cut > me.cut || (other.cut == me.cut && other.name > me.name);
  };
  auto made_ahead = [&context](const SeriesMember& m) {
    return m.created > context.now + absl::Minutes(1);
  };
  auto ready = [&made_ahead](const SeriesMember& m) {
    return m.ready && !m.deleting && !made_ahead(m);
  };
  auto counted = [&ready](const SeriesMember& m) { return ready(m) && !m.held && m.scheduled; };

  if (!me.scheduled || me.deleting || made_ahead(me)) return false;
  if (me.held || me.pinned || me.retained || me.grouped || me.quarantined) return false;
  if (context.now - me.posted < context.quarantine) return false;
  if (context.now - me.created < context.quarantine) return false;
  if (context.now - context.leader_since < context.quarantine) return false;
  if (!me.ready) {
    if (context.now - me.created < (rule ? rule->unready_ttl : absl::Hours(24))) return false;
    return !me.was_cut ||
           count([&](const SeriesMember& m) { return ready(m) && m.cut > me.cut; }) > 0;
  }
  if (!rule) return false;
  if (context.claim_exists &&
      count([&](const SeriesMember& m) { return ready(m) && newer_than_me(m); }) == 0) {
    return false;
  }
  const auto rank = count([&](const SeriesMember& m) { return counted(m) && newer_than_me(m); });
  if (rank < rule->min_ready) return false;
  if (rule->keep_last && rank >= *rule->keep_last) return true;
  if (!rule->max_age || context.now - me.cut <= *rule->max_age) return false;
  return !context.second_newest_due ||
         count([&](const SeriesMember& m) {
           return ready(m) && m.scheduled && m.cut >= *context.second_newest_due;
         }) > 0;
}

std::set<std::string> PrunedByTheBook(const std::vector<SeriesMember>& all,
                                      const std::optional<RetentionRule>& rule,
                                      const RetentionContext& context) {
  std::set<std::string> pruned;
  for (const SeriesMember& me : all) {
    if (PrunedByTheBook(me, all, rule, context)) pruned.insert(me.uid);
  }
  return pruned;
}

std::set<std::string> Pruned(const RetentionPlan& plan) {
  std::set<std::string> uids;
  for (const Decision& decision : plan.Pruned()) uids.insert(decision.uid);
  return uids;
}

// A series, a rule and a context on a grid of minutes so narrow that ties and exact limits are
// frequent.
struct RandomCase {
  std::vector<SeriesMember> members;
  std::optional<RetentionRule> rule;
  RetentionContext context;

  explicit RandomCase(uint64_t seed) : random_(seed) {
    const int size = Below(11);
    const int ready_of_10 = Below(11);
    for (int i = 0; i < size; ++i) {
      SeriesMember& m = members.emplace_back();
      m.name = fmt::format("s{}", (i * 7) % 11);
      m.uid = fmt::format("uid{}", i);
      m.created = MinutesAgo(60);
      m.cut = OneIn(2) ? m.created : MinutesAgo(60);
      m.posted = OneIn(8) ? absl::InfinitePast() : MinutesAgo(60);
      m.scheduled = !OneIn(6);
      m.ready = Below(10) < ready_of_10;
      m.was_cut = m.ready || OneIn(2);
      m.deleting = OneIn(10);
      m.ready = m.ready && !m.deleting;
      m.held = OneIn(10);
      m.pinned = OneIn(12);
      m.retained = OneIn(40);
      m.grouped = OneIn(12);
      m.quarantined = OneIn(12);
    }
    if (!OneIn(12)) {
      rule.emplace();
      if (!OneIn(3)) rule->keep_last = 1 + Below(5);
      if (OneIn(2)) rule->max_age = absl::Minutes(1 + Below(50));
      rule->min_ready = Below(4);
      rule->unready_ttl = absl::Minutes(1 + Below(40));
    }
    context.now = kNow;
    context.quarantine = absl::Minutes(Below(12));
    context.leader_since = MinutesAgo(OneIn(2) ? 500 : 15);
    context.claim_exists = !OneIn(4);
    if (OneIn(2)) context.second_newest_due = MinutesAgo(60);
  }

  int Below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  bool OneIn(int n) { return Below(n) == 0; }
  // Rarely a little ahead of now, as with clocks that disagree.
  absl::Time MinutesAgo(int most) { return kNow + absl::Minutes(2 - Below(most)); }

  std::mt19937_64 random_;
};

constexpr uint64_t kSeeds = 20'000;

TEST(RetentionTest, AgreesWithTheRulesByTheBook) {
  size_t pruned = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const RandomCase c(seed);
    const auto plan = PlanRetention(c.members, c.rule, c.context);
    ASSERT_EQ(Pruned(plan), PrunedByTheBook(c.members, c.rule, c.context)) << "seed " << seed;
    ASSERT_EQ(plan.decisions.size(), c.members.size()) << "seed " << seed;
    for (const Decision& decision : plan.decisions) ASSERT_NE(decision.rule, "") << seed;
    pruned += plan.Pruned().size();
  }
  EXPECT_GT(pruned, kSeeds / 2);
}

TEST(RetentionTest, TheLastGoodOnesSurviveEveryPlan) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const RandomCase c(seed);
    const auto pruned = Pruned(PlanRetention(c.members, c.rule, c.context));
    const SeriesMember* newest = nullptr;
    int counted = 0, left = 0;
    for (const SeriesMember& m : c.members) {
      const bool gone = pruned.contains(m.uid);
      ASSERT_FALSE(gone && (!m.scheduled || m.deleting || m.held || m.pinned || m.retained ||
                            m.grouped || m.quarantined))
          << "seed " << seed << " " << m.name;
      if (!m.ready) continue;
      counted += m.scheduled && !m.held;
      left += m.scheduled && !m.held && !gone;
      if (newest == nullptr || std::tie(m.cut, m.name) > std::tie(newest->cut, newest->name)) {
        newest = &m;
      }
    }
    const int floor = c.rule ? c.rule->min_ready : counted;
    ASSERT_GE(left, std::min(floor, counted)) << "seed " << seed;
    if (newest != nullptr && c.context.claim_exists) {
      ASSERT_FALSE(pruned.contains(newest->uid)) << "seed " << seed;
    }
  }
}

TEST(RetentionTest, AskingForMoreNeverKeepsLess) {
  auto minutes = [](RandomCase& c) { return absl::Minutes(1 + c.Below(10)); };
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    RandomCase c(seed);
    if (!c.rule) continue;
    RetentionRule more = *c.rule;
    RetentionContext careful = c.context;
    switch (c.Below(5)) {
      case 0:
        more.min_ready += 1 + c.Below(3);
        break;
      case 1:
        if (more.keep_last) *more.keep_last += 1 + c.Below(3);
        break;
      case 2:
        if (more.max_age) *more.max_age += minutes(c);
        break;
      case 3:
        more.unready_ttl += minutes(c);
        break;
      case 4:
        careful.quarantine += minutes(c);
        break;
    }
    const auto before = Pruned(PlanRetention(c.members, c.rule, c.context));
    const auto after = Pruned(PlanRetention(c.members, more, careful));
    ASSERT_TRUE(std::includes(before.begin(), before.end(), after.begin(), after.end()))
        << "seed " << seed;
  }
}

TEST(RetentionTest, APlanThatWasCarriedOutAsksForNothingMore) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    RandomCase c(seed);
    const auto pruned = Pruned(PlanRetention(c.members, c.rule, c.context));
    // Some are gone; some still hang on a finalizer.
    std::vector<SeriesMember> left;
    for (SeriesMember m : c.members) {
      if (pruned.contains(m.uid)) {
        if (c.OneIn(2)) continue;
        m.deleting = true;
        m.ready = false;
      }
      left.push_back(m);
    }
    ASSERT_THAT(Pruned(PlanRetention(left, c.rule, c.context)), IsEmpty()) << "seed " << seed;
  }
}

TEST(RetentionTest, TheOrderOfTheListDoesNotMatter) {
  for (uint64_t seed = 0; seed < kSeeds / 10; ++seed) {
    RandomCase c(seed);
    const auto plan = PlanRetention(c.members, c.rule, c.context);
    std::shuffle(c.members.begin(), c.members.end(), c.random_);
    const auto again = PlanRetention(c.members, c.rule, c.context);
    ASSERT_EQ(plan.decisions, again.decisions) << "seed " << seed;
    ASSERT_EQ(plan.next_change, again.next_change) << "seed " << seed;
  }
}

TEST(RetentionTest, ATimerOnNextChangeMissesNothing) {
  int changes = 0;
  for (uint64_t seed = 0; seed < kSeeds / 4; ++seed) {
    const RandomCase c(seed);
    const auto plan = PlanRetention(c.members, c.rule, c.context);
    const auto now = Pruned(plan);
    auto pruned_at = [&c](absl::Time time) {
      RetentionContext later = c.context;
      later.now = time;
      return PrunedByTheBook(c.members, c.rule, later);
    };
    // Every limit in the cases is a whole minute, or the moment after one.
    for (int minute = 0; minute < 130; ++minute) {
      for (absl::Time time :
           {kNow + absl::Minutes(minute), kNow + absl::Minutes(minute) + absl::Nanoseconds(1)}) {
        if (time < plan.next_change) {
          ASSERT_EQ(pruned_at(time), now) << "seed " << seed << " minute " << minute;
        }
      }
    }
    if (plan.next_change == absl::InfiniteFuture()) continue;
    ASSERT_GT(plan.next_change, kNow) << "seed " << seed;
    // One that was made ahead may count again and change nothing by it.
    const bool ahead = std::any_of(
        c.members.begin(), c.members.end(),
        [](const SeriesMember& member) { return member.created > kNow + absl::Minutes(1); });
    ASSERT_TRUE(ahead || pruned_at(plan.next_change) != now) << "seed " << seed;
    ++changes;
  }
  EXPECT_GT(changes, 1000);
}

TEST(CutTest, IsTheDriversTimeWhereThatIsPlausible) {
  const absl::Time created = kNow - absl::Hours(10);
  const struct {
    const char* what;
    std::optional<absl::Time> status_time;
    absl::Time cut;
  } cases[] = {
      {"absent", std::nullopt, created},
      {"as the driver says", created + absl::Seconds(3), created + absl::Seconds(3)},
      {"much later, as with a queue", created + absl::Hours(9), created + absl::Hours(9)},
      {"now", kNow, kNow},
      {"in the future", kNow + absl::Seconds(1), created},
      {"one hour before the object", created - absl::Hours(1), created - absl::Hours(1)},
      {"more than that", created - absl::Hours(1) - absl::Seconds(1), created},
      {"the driver left it out", absl::UnixEpoch(), created},
      {"before 1970", absl::FromUnixSeconds(-62135596800), created},
  };
  for (const auto& c : cases) {
    Snapshot snapshot;
    snapshot.meta.created = created;
    snapshot.cut_time = c.status_time;
    EXPECT_EQ(CutOf(snapshot, kNow), c.cut) << c.what;
  }
}

TEST(CutTest, TheEpochIsNoCutEvenOfAnObjectOfThatTime) {
  Snapshot snapshot;
  snapshot.meta.created = absl::FromUnixSeconds(60);
  snapshot.cut_time = absl::UnixEpoch();
  EXPECT_EQ(CutOf(snapshot, kNow), snapshot.meta.created);
}

TEST(HoldTest, HoldsUntilItsTimeHasPassed) {
  const struct {
    const char *hold, *until;
    bool held;
  } cases[] = {
      {"", "", false},
      {"false", "", false},
      {"true", "", true},
      {"false", "2099-01-01T00:00:00Z", false},
      {"true", "2026-11-22T15:00:01Z", true},
      {"true", "2026-11-22T15:00:00Z", false},
      {"true", "2026-11-22T16:00:01+01:00", true},
      {"true", "2026-11-22T16:00:00+01:00", false},
      {"true", "20261122T150001Z", true},
      {"true", "20261122T150000Z", false},
      {"true", "2020-01-01", true},
      {"true", "yesterday", true},
      {"true", "infinite-past", true},
      {"true", "infinite-future", true},
  };
  for (const auto& c : cases) {
    Snapshot snapshot;
    snapshot.hold = c.hold;
    snapshot.hold_until = c.until;
    EXPECT_EQ(IsHeld(snapshot, kNow), c.held) << c.hold << " " << c.until;
  }
}

class MemberTest : public testing::Test {
 protected:
  MemberTest() {
    const Identity identity{"p", "20261122T140000Z", "c"};
    snapshot_.meta.name = SnapshotName(identity, "data-0");
    snapshot_.meta.uid = "u";
    snapshot_.meta.resource_version = "7";
    snapshot_.meta.created = kNow - absl::Hours(1);
    snapshot_.source_claim = snapshot_.claim = "data-0";
    snapshot_.managed = true;
    snapshot_.policy_uid = identity.policy_uid;
    snapshot_.claim_uid = identity.claim_uid;
    snapshot_.instant = identity.instant;
    snapshot_.trigger = "schedule";
    snapshot_.identity = identity.Annotation();
    snapshot_.bound_content = "snapcontent-u";
    snapshot_.ready_to_use = true;
    snapshot_.cut_time = kNow - absl::Minutes(59);
    known_.name = snapshot_.meta.name;
    known_.uid = "u";
    known_.bound_content = "snapcontent-u";
    known_.bound = known_.posted_known = true;
    known_.posted = kNow - absl::Minutes(58);
  }

  SeriesMember Make() const { return MakeMember(snapshot_, known_, "p", "c", kNow); }

  Snapshot snapshot_;
  PruneMember known_;
};

TEST_F(MemberTest, CarriesWhatIsKnown) {
  SeriesMember expected;
  expected.name = snapshot_.meta.name;
  expected.uid = "u";
  expected.resource_version = "7";
  expected.created = kNow - absl::Hours(1);
  expected.cut = kNow - absl::Minutes(59);
  expected.posted = kNow - absl::Minutes(58);
  expected.scheduled = expected.ready = expected.was_cut = true;
  EXPECT_EQ(Make(), expected);
}

TEST_F(MemberTest, OfAnotherSeriesOrOriginIsNotScheduled) {
  EXPECT_FALSE(MakeMember(snapshot_, known_, "other policy", "c", kNow).scheduled);
  EXPECT_FALSE(MakeMember(snapshot_, known_, "p", "other claim", kNow).scheduled);
  Snapshot copied = snapshot_;
  copied.meta.name = "copy";
  EXPECT_FALSE(MakeMember(copied, known_, "p", "c", kNow).scheduled);
  Snapshot manual = snapshot_;
  const Identity identity{"p", "manual", "c"};
  manual.instant = manual.trigger = "manual";
  manual.identity = identity.Annotation();
  manual.meta.name = SnapshotName(identity, "data-0");
  ASSERT_TRUE(ProvenIdentity(manual));
  EXPECT_FALSE(MakeMember(manual, known_, "p", "c", kNow).scheduled);
  EXPECT_TRUE(MakeMember(manual, known_, "p", "c", kNow).ready);
}

TEST_F(MemberTest, ReadyNeedsTheBindingThatWasJudged) {
  known_.bound = false;
  EXPECT_FALSE(Make().ready);
  known_.bound = true;
  snapshot_.bound_content = "snapcontent-other";
  EXPECT_FALSE(Make().ready);
  snapshot_.bound_content = known_.bound_content = "";
  EXPECT_FALSE(Make().ready);
}

TEST_F(MemberTest, ReadyNeedsTheObjectReadyAndAlive) {
  snapshot_.meta.deleting = true;
  EXPECT_FALSE(Make().ready);
  EXPECT_TRUE(Make().deleting);
  snapshot_.meta.deleting = false;
  snapshot_.ready_to_use = false;
  EXPECT_FALSE(Make().ready);
}

TEST_F(MemberTest, WhatTheSchedulerDidNotNameIsNeitherReadyNorPastQuarantine) {
  known_ = {};
  EXPECT_FALSE(Make().ready);
  EXPECT_TRUE(Make().quarantined);
}

TEST_F(MemberTest, ProtectionsAreTaken) {
  known_.pinned = known_.retained = true;
  snapshot_.group = "nightly";
  snapshot_.hold = "true";
  const SeriesMember member = Make();
  EXPECT_TRUE(member.pinned);
  EXPECT_TRUE(member.retained);
  EXPECT_TRUE(member.grouped);
  EXPECT_TRUE(member.held);
  EXPECT_EQ(member.stale_at, absl::InfiniteFuture());
}

TEST_F(MemberTest, TellsWhenTimeMakesItStale) {
  snapshot_.cut_time = kNow + absl::Minutes(3);
  EXPECT_EQ(Make().cut, snapshot_.meta.created);
  EXPECT_EQ(Make().stale_at, kNow + absl::Minutes(3));
  snapshot_.hold = "true";
  snapshot_.hold_until = FormatInstant(kNow + absl::Minutes(2));
  EXPECT_EQ(Make().stale_at, kNow + absl::Minutes(2));
  snapshot_.hold_until = FormatInstant(kNow - absl::Minutes(2));
  EXPECT_FALSE(Make().held);
  EXPECT_EQ(Make().stale_at, kNow + absl::Minutes(3));
}

}  // namespace
}  // namespace snapkeeper
