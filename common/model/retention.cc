#include "common/model/retention.h"

#include <absl/strings/string_view.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <tuple>

#include "common/model/due.h"
#include "common/model/names.h"

namespace snapkeeper {
namespace {

constexpr absl::Duration kOrphanUnreadyTtl = absl::Hours(24);
constexpr absl::Duration kPlausibleCutBeforeObject = absl::Hours(1);

// InfinitePast if not held, InfiniteFuture if held without an end.
absl::Time HeldUntil(const Snapshot& snapshot) {
  if (snapshot.hold != "true") return absl::InfinitePast();
  // A label value cannot hold RFC 3339's colons: there the instant's form serves.
  if (auto instant = ParseInstant(snapshot.hold_until)) return *instant;
  absl::Time until;
  const absl::string_view text(snapshot.hold_until);
  if (absl::ParseTime(absl::RFC3339_full, text, &until, nullptr) && until > absl::InfinitePast()) {
    return until;
  }
  return absl::InfiniteFuture();
}

// What keeps one member, each rule up to a moment of its own, and what would let it go: it is
// pruned once nothing keeps it.
class Judgement {
 public:
  explicit Judgement(absl::Time now) : now_(now) {}

  void Keep(std::string_view rule, absl::Time until = absl::InfiniteFuture()) {
    prunable_at_ = std::max(prunable_at_, until);
    if (until > now_) keeping_.push_back(rule);
  }
  void LetGo(std::string_view rule) { letting_go_.push_back(rule); }

  absl::Time prunable_at() const { return prunable_at_; }
  Verdict verdict() const { return prunable_at_ > now_ ? Verdict::kKeep : Verdict::kPrune; }
  std::string rule() const {
    return fmt::format("{}", fmt::join(keeping_.empty() ? letting_go_ : keeping_, ","));
  }

 private:
  absl::Time now_;
  absl::Time prunable_at_ = absl::InfinitePast();
  std::vector<std::string_view> keeping_, letting_go_;
};

// What the decision on one member needs to know of the others.
struct SeriesFacts {
  const SeriesMember* newest_ready = nullptr;  // of any origin
  // The ready one of any origin that was created last.
  const SeriesMember* last_made = nullptr;
  bool age_paused = false;
};

// Every clock was set back since it was made: until its time comes again it says nothing of which
// one is the newest.
bool IsMadeAhead(const SeriesMember& member, absl::Time now) {
  return member.created > now + kMaxClockStep;
}

using Sorted = std::vector<const SeriesMember*>;

Sorted NewestFirst(const std::vector<SeriesMember>& members) {
  Sorted sorted;
  for (const SeriesMember& member : members) sorted.push_back(&member);
  std::sort(sorted.begin(), sorted.end(), [](const SeriesMember* a, const SeriesMember* b) {
    return std::tie(a->cut, a->name) > std::tie(b->cut, b->name);
  });
  return sorted;
}

SeriesFacts FactsOf(const Sorted& sorted, const RetentionContext& context) {
  auto ready = [now = context.now](const SeriesMember* member) {
    return member->ready && !member->deleting && !IsMadeAhead(*member, now);
  };
  auto of_any_origin = std::find_if(sorted.begin(), sorted.end(), ready);
  auto of_series = std::find_if(of_any_origin, sorted.end(), [&ready](const SeriesMember* member) {
    return ready(member) && member->scheduled;
  });
  SeriesFacts facts;
  if (of_any_origin != sorted.end()) facts.newest_ready = *of_any_origin;
  for (const SeriesMember* member : sorted) {
    if (ready(member) && (!facts.last_made || member->created > facts.last_made->created))
      facts.last_made = member;
  }
  facts.age_paused = context.second_newest_due &&
                     (of_series == sorted.end() || (*of_series)->cut < *context.second_newest_due);
  return facts;
}

// Rules 2 to 4, for the counted member that `rank` counted ones are newer than.
void JudgeCounted(const SeriesMember& member, int rank, const RetentionRule& rule,
                  const SeriesFacts& facts, absl::Time now, Judgement& judgement) {
  absl::Time aged = absl::InfiniteFuture();  // the first moment that is older than maxAge
  if (rule.max_age) aged = member.cut + *rule.max_age + absl::Nanoseconds(1);
  const bool old = aged <= now;
  const bool beyond_last = rule.keep_last && rank >= *rule.keep_last;
  if (beyond_last) {
    judgement.LetGo("keepLast");
  } else {
    const std::string_view keeper = rule.keep_last ? "keepLast"
                                    : rule.max_age ? "maxAge"
                                                   : "keepAll";
    judgement.Keep(old && facts.age_paused ? "agePaused" : keeper,
                   facts.age_paused ? absl::InfiniteFuture() : aged);
  }
  if (old && !facts.age_paused) judgement.LetGo("maxAge");
  if (rank < rule.min_ready) judgement.Keep("minReady");
}

// Rule 6.
void JudgeUnready(const SeriesMember& member, absl::Duration ttl, const SeriesFacts& facts,
                  Judgement& judgement) {
  judgement.LetGo("unreadyTtl");
  judgement.Keep("unreadyTtl", member.created + ttl);
  const bool superseded = facts.newest_ready != nullptr && facts.newest_ready->cut > member.cut;
  if (member.was_cut && !superseded) judgement.Keep("newestCut");
}

// Rule 5.
void JudgeProtected(const SeriesMember& member, const RetentionContext& context,
                    Judgement& judgement) {
  if (member.held) judgement.Keep("held");
  if (member.pinned) judgement.Keep("pinned");
  if (member.retained) judgement.Keep("retained");
  if (member.grouped) judgement.Keep("grouped");
  const absl::Time since = std::max({member.posted, member.created, context.leader_since});
  judgement.Keep("quarantine",
                 member.quarantined ? absl::InfiniteFuture() : since + context.quarantine);
}

}  // namespace

absl::Time CutOf(const Snapshot& snapshot, absl::Time now) {
  const absl::Time created = snapshot.meta.created;
  const absl::Time cut = snapshot.cut_time.value_or(created);
  const bool plausible =
      cut > absl::UnixEpoch() && cut >= created - kPlausibleCutBeforeObject && cut <= now;
  return plausible ? cut : created;
}

bool IsHeld(const Snapshot& snapshot, absl::Time now) { return HeldUntil(snapshot) > now; }

SeriesMember MakeMember(const Snapshot& snapshot, const PruneMember& known,
                        std::string_view policy_uid, std::string_view claim_uid, absl::Time now) {
  const auto identity = ProvenIdentity(snapshot);
  const bool bound = known.bound && !snapshot.bound_content.empty() &&
                     known.bound_content == snapshot.bound_content;
  SeriesMember member;
  member.name = snapshot.meta.name;
  member.uid = snapshot.meta.uid;
  member.resource_version = snapshot.meta.resource_version;
  member.created = snapshot.meta.created;
  member.cut = CutOf(snapshot, now);
  member.scheduled = identity && identity->policy_uid == policy_uid &&
                     identity->claim_uid == claim_uid && ParseInstant(identity->instant);
  member.ready = snapshot.ready_to_use && bound && !snapshot.meta.deleting;
  member.was_cut = snapshot.cut_time.has_value();
  member.deleting = snapshot.meta.deleting;
  member.held = IsHeld(snapshot, now);
  member.pinned = known.pinned;
  member.retained = known.retained;
  member.grouped = !snapshot.group.empty();
  member.quarantined = !known.posted_known;
  member.posted = known.posted;
  if (member.held) member.stale_at = HeldUntil(snapshot);
  member.cut_ahead = snapshot.cut_time > now;
  if (member.cut_ahead) member.stale_at = std::min(member.stale_at, *snapshot.cut_time);
  return member;
}

std::vector<Decision> RetentionPlan::Pruned() const {
  std::vector<Decision> pruned;
  std::copy_if(decisions.begin(), decisions.end(), std::back_inserter(pruned),
               [](const Decision& decision) { return decision.verdict == Verdict::kPrune; });
  return pruned;
}

RetentionPlan PlanRetention(const std::vector<SeriesMember>& members,
                            const std::optional<RetentionRule>& rule,
                            const RetentionContext& context) {
  const Sorted sorted = NewestFirst(members);
  const SeriesFacts facts = FactsOf(sorted, context);
  RetentionPlan plan;
  auto change_at = [&plan, &context](absl::Time time) {
    if (time > context.now) plan.next_change = std::min(plan.next_change, time);
  };
  int counted = 0;
  for (const SeriesMember* member : sorted) {
    Decision& decision = plan.decisions.emplace_back(
        Decision{member->name, member->uid, member->resource_version, Verdict::kIgnore, ""});
    if (member->deleting) {
      decision.rule = "deleting";
      continue;
    }
    change_at(member->stale_at);
    change_at(member->created - kMaxClockStep);
    if (!member->scheduled) {
      decision.rule = "otherOrigin";
      continue;
    }
    Judgement judgement(context.now);
    if (IsMadeAhead(*member, context.now)) {
      judgement.Keep("madeAhead", member->created - kMaxClockStep);
    } else if (!member->ready) {
      JudgeUnready(*member, rule ? rule->unready_ttl : kOrphanUnreadyTtl, facts, judgement);
    } else if (!rule) {
      judgement.Keep("policyGone");
    } else if (!member->held) {
      JudgeCounted(*member, counted++, *rule, facts, context.now, judgement);
    }
    // Where a driver's clock is ahead, an older one's cut may have become plausible before its own.
    const bool last_made = member == facts.last_made && member->cut_ahead;
    if (context.claim_exists && (member == facts.newest_ready || last_made))
      judgement.Keep("lastReady");
    JudgeProtected(*member, context, judgement);
    decision.verdict = judgement.verdict();
    decision.rule = judgement.rule();
    change_at(judgement.prunable_at());
  }
  return plan;
}

}  // namespace snapkeeper
