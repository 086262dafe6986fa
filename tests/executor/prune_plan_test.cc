#include "executor/prune_plan.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "common/model/names.h"
#include "common/model/reason.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const absl::Time kNow = absl::FromUnixSeconds(1'767'225'600);

// An hourly series of one claim, all ready: "uid-0" is the newest, an hour old. The scheduler's
// plan is keepLast 2.
struct Case {
  static constexpr int kSize = 4;

  Case() {
    job.ns = "shop";
    job.policy_name = "hourly";
    job.policy_uid = "policy-uid";
    job.policy_generation = 3;
    job.planned_at = kNow;
    job.quarantine = absl::Minutes(5);
    job.leader_since = kNow - absl::Hours(24);
    PruneSnapshots::Series series;
    series.claim_uid = "claim-uid";
    series.candidates = {"uid-2", "uid-3"};
    for (int i = 0; i < kSize; ++i) {
      fresh.push_back(Ours(i));
      series.members.push_back(Known(fresh.back()));
    }
    job.series = {series};
    rule.emplace().keep_last = 2;
  }

  static Snapshot Ours(int i) {
    const absl::Time instant = kNow - absl::Hours(i + 1);
    const Identity identity{"policy-uid", FormatInstant(instant), "claim-uid"};
    Snapshot s;
    s.meta.ns = "shop";
    s.meta.name = SnapshotName(identity, "data-0");
    s.meta.uid = fmt::format("uid-{}", i);
    s.meta.resource_version = fmt::format("rv-{}", i);
    s.meta.created = instant;
    s.cut_time = instant;
    s.ready_to_use = true;
    s.bound_content = fmt::format("content-{}", i);
    s.source_claim = s.claim = "data-0";
    s.managed = true;
    s.policy_uid = identity.policy_uid;
    s.claim_uid = identity.claim_uid;
    s.instant = identity.instant;
    s.trigger = "schedule";
    s.identity = identity.Annotation();
    return s;
  }
  // Ready, of the same claim, and nobody of ours.
  static Snapshot Foreign(absl::Time cut) {
    Snapshot s;
    s.meta.ns = "shop";
    s.meta.name = s.meta.uid = "foreign";
    s.meta.created = cut;
    s.cut_time = cut;
    s.ready_to_use = true;
    s.bound_content = "content-foreign";
    s.source_claim = "data-0";
    return s;
  }
  static PruneMember Known(const Snapshot& s) {
    return {.name = s.meta.name,
            .uid = s.meta.uid,
            .bound_content = s.bound_content,
            .bound = true,
            .posted_known = true,
            .posted = s.meta.created};
  }

  PruneSnapshots::Series& series() { return job.series[0]; }
  std::vector<std::string> Pruned() const {
    Snapshots shared;
    for (const Snapshot& s : fresh) shared.push_back(std::make_shared<const Snapshot>(s));
    std::vector<std::string> uids;
    for (const Decision& d : ConfirmedPrunes(job, rule, shared, kNow)) uids.push_back(d.uid);
    return uids;
  }

  PruneSnapshots job;
  std::optional<RetentionRule> rule;
  std::vector<Snapshot> fresh;
};

TEST(ConfirmedPrunesTest, AreTheOldestWhereTheJobHasNoRoomForNewerCandidates) {
  Case c;
  c.series().candidates = {"uid-3"};
  std::erase_if(c.series().members, [](const PruneMember& m) { return m.uid == "uid-2"; });
  EXPECT_THAT(c.Pruned(), ElementsAre("uid-3"));
}

TEST(ConfirmedPrunesTest, AreThoseThatBothPlansName) {
  struct Row {
    std::string name;
    std::function<void(Case&)> meanwhile;
    std::vector<std::string> pruned;
  };
  const std::vector<Row> rows = {
      {"nothing has changed: oldest first", [](Case&) {}, {"uid-3", "uid-2"}},
      {"this plan would prune more: only what the scheduler's prunes",
       [](Case& c) { c.rule->keep_last = 1; },
       {"uid-3", "uid-2"}},
      {"this plan prunes less", [](Case& c) { c.rule->keep_last = 3; }, {"uid-3"}},
      {"a candidate is held", [](Case& c) { c.fresh[3].hold = "true"; }, {"uid-2"}},
      {"a survivor is held: the next one survives in its place",
       [](Case& c) { c.fresh[0].hold = "true"; },
       {"uid-3"}},
      {"a survivor is gone", [](Case& c) { c.fresh.erase(c.fresh.begin()); }, {"uid-3"}},
      {"a survivor is being deleted", [](Case& c) { c.fresh[0].meta.deleting = true; }, {"uid-3"}},
      {"a survivor is not ready any more",
       [](Case& c) { c.fresh[0].ready_to_use = false; },
       {"uid-3"}},
      {"a survivor is bound to another content",
       [](Case& c) { c.fresh[0].bound_content = "content-x"; },
       {"uid-3"}},
      {"a survivor's labels are gone", [](Case& c) { c.fresh[0].identity = ""; }, {"uid-3"}},
      {"a candidate is being deleted", [](Case& c) { c.fresh[3].meta.deleting = true; }, {"uid-2"}},
      {"a candidate is gone", [](Case& c) { c.fresh.pop_back(); }, {"uid-2"}},
      {"a candidate is now somebody else's",
       [](Case& c) { c.fresh[3].identity = "copied"; },
       {"uid-2"}},
      {"a candidate became a member of a group",
       [](Case& c) { c.fresh[3].group = "g"; },
       {"uid-2"}},
      {"a candidate was replaced: a UID of which the scheduler knows nothing",
       [](Case& c) { c.fresh[3].meta.uid = "new"; },
       {"uid-2"}},
      {"a new snapshot came: it counts for nothing yet",
       [](Case& c) {
         c.fresh.push_back(Case::Ours(-1));
         c.fresh.back().meta.uid = "new";
       },
       {"uid-3", "uid-2"}},
      {"a new snapshot came in place of a survivor",
       [](Case& c) { c.fresh[0].meta.uid = "new"; },
       {"uid-3"}},
      {"a candidate is the data source of a Pending claim",
       [](Case& c) { c.series().members[3].pinned = true; },
       {"uid-2"}},
      {"a candidate's content is retained",
       [](Case& c) { c.series().members[3].retained = true; },
       {"uid-2"}},
      {"an old unready candidate has another content than the scheduler knows of",
       [](Case& c) {
         c.fresh[3].ready_to_use = false;
         c.fresh[3].meta.created = kNow - absl::Hours(25);
         c.series().members[3].bound_content = "another";
       },
       {"uid-2"}},
      {"a candidate's run is not posted",
       [](Case& c) { c.series().members[3].posted_known = false; },
       {"uid-2"}},
      {"a candidate's run was posted a minute ago",
       [](Case& c) { c.series().members[3].posted = kNow - absl::Minutes(1); },
       {"uid-2"}},
      {"the leader is new", [](Case& c) { c.job.leader_since = kNow - absl::Minutes(1); }, {}},
      {"all are too old, and the claim exists: its newest ready one stays",
       [](Case& c) {
         c.rule->keep_last.reset();
         c.rule->max_age = absl::Minutes(1);
         c.rule->min_ready = 0;
         c.series().candidates = {"uid-0", "uid-1", "uid-2", "uid-3"};
       },
       {"uid-3", "uid-2", "uid-1"}},
      {"all are too old, and the claim is gone",
       [](Case& c) {
         c.rule->keep_last.reset();
         c.rule->max_age = absl::Minutes(1);
         c.rule->min_ready = 0;
         c.series().candidates = {"uid-0", "uid-1", "uid-2", "uid-3"};
         c.series().claim_exists = false;
       },
       {"uid-3", "uid-2", "uid-1", "uid-0"}},
      {"all are too old, but none was taken lately: ages do not count",
       [](Case& c) {
         c.rule->keep_last.reset();
         c.rule->max_age = absl::Minutes(1);
         c.job.second_newest_due = kNow - absl::Minutes(30);
       },
       {}},
      {"the scheduler's plan prunes nothing", [](Case& c) { c.series().candidates.clear(); }, {}},
      {"the policy is gone: only what never became ready goes",
       [](Case& c) { c.rule.reset(); },
       {}},
      {"the policy is gone, an old unready one has a newer ready one",
       [](Case& c) {
         c.rule.reset();
         c.fresh[3].ready_to_use = false;
         c.fresh[3].meta.created = kNow - absl::Hours(25);
       },
       {"uid-3"}},
      {"an old unready one, and the newer ready one is foreign",
       [](Case& c) {
         c.fresh = {c.fresh[3], Case::Foreign(kNow - absl::Hours(1))};
         c.fresh[0].ready_to_use = false;
         c.fresh[0].meta.created = kNow - absl::Hours(25);
         c.series().members = {Case::Known(c.fresh[0]), Case::Known(c.fresh[1])};
       },
       {"uid-3"}},
      {"an old unready one, and nothing that is ready is newer",
       [](Case& c) {
         c.fresh = {c.fresh[3], Case::Foreign(kNow - absl::Hours(48))};
         c.fresh[0].ready_to_use = false;
         c.fresh[0].meta.created = kNow - absl::Hours(25);
         c.series().members = {Case::Known(c.fresh[0]), Case::Known(c.fresh[1])};
       },
       {}},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    Case c;
    row.meanwhile(c);
    EXPECT_EQ(c.Pruned(), row.pruned);
  }
}

TEST(ConfirmedPrunesTest, CarryTheVersionsOfTheFreshList) {
  Case c;
  c.fresh[3].meta.resource_version = "newer";
  Snapshots fresh;
  for (const Snapshot& s : c.fresh) fresh.push_back(std::make_shared<const Snapshot>(s));
  const std::vector<Decision> confirmed = ConfirmedPrunes(c.job, c.rule, fresh, kNow);
  ASSERT_EQ(confirmed.size(), 2);
  EXPECT_EQ(confirmed[0].resource_version, "newer");
  EXPECT_EQ(confirmed[0].name, c.fresh[3].meta.name);
}

TEST(ConfirmedPrunesTest, JudgeEachClaimByItself) {
  Case c;
  PruneSnapshots::Series other = c.series();
  other.claim_uid = "other-claim";
  for (PruneMember& member : other.members) member.uid += "-other";
  other.candidates = {"uid-3-other"};
  c.job.series.push_back(other);
  EXPECT_THAT(c.Pruned(),
              ElementsAre("uid-3", "uid-2"));  // none of the other claim's is in the list
}

TEST(MissingSurvivorsTest, AreTheReadyOnesThatTheListOfThePolicyDoesNotShow) {
  Case c;
  Snapshots fresh = {std::make_shared<const Snapshot>(c.fresh[0]),
                     std::make_shared<const Snapshot>(c.fresh[1])};
  c.series().members[3].bound = false;
  EXPECT_THAT(MissingSurvivors(c.job, fresh), ElementsAre(c.fresh[2].meta.name));
  c.series().members.clear();
  EXPECT_THAT(MissingSurvivors(c.job, fresh), IsEmpty());
}

TEST(CheckPlanAgeTest, APlanIsVoidAfter30Seconds) {
  const Case c;
  EXPECT_THAT(CheckPlanAge(c.job, kNow), IsOk());
  EXPECT_THAT(CheckPlanAge(c.job, kNow + absl::Seconds(30)), IsOk());
  EXPECT_THAT(CheckPlanAge(c.job, kNow + absl::Seconds(30) + absl::Nanoseconds(1)),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("void")));
  EXPECT_THAT(CheckPlanAge(c.job, kNow - absl::Seconds(31)),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("void")));
}

TEST(CheckPolicyTest, ThePolicyMustBeTheOneThatWasPlannedFor) {
  struct Row {
    std::string name;
    bool job_says_gone;
    std::function<void(absl::StatusOr<std::shared_ptr<const Policy>>&)> answer;
    absl::StatusCode code;
    std::string message;
  };
  const auto is = [](std::function<void(Policy&)> change) {
    return [change](absl::StatusOr<std::shared_ptr<const Policy>>& answer) {
      Policy policy;
      policy.meta.uid = "policy-uid";
      policy.meta.generation = 3;
      policy.spec.retention.keep_last = 7;
      policy.status.epoch = 5;
      change(policy);
      answer = std::make_shared<const Policy>(policy);
    };
  };
  const auto fails = [](absl::Status status) {
    return [status](absl::StatusOr<std::shared_ptr<const Policy>>& answer) { answer = status; };
  };
  using Code = absl::StatusCode;
  const std::vector<Row> rows = {
      {"unchanged", false, is([](Policy&) {}), Code::kOk, ""},
      {"edited", false, is([](Policy& p) { p.meta.generation = 4; }), Code::kFailedPrecondition,
       "was edited"},
      {"suspended", false, is([](Policy& p) { p.spec.suspend = true; }), Code::kFailedPrecondition,
       "was suspended"},
      {"being deleted", false, is([](Policy& p) { p.meta.deleting = true; }),
       Code::kFailedPrecondition, "be deleted"},
      {"deleted", false, fails(absl::NotFoundError("x")), Code::kFailedPrecondition, "was deleted"},
      {"replaced", false, is([](Policy& p) { p.meta.uid = "other"; }), Code::kFailedPrecondition,
       "was deleted"},
      {"written by a later scheduler", false, is([](Policy& p) { p.status.epoch = 6; }),
       Code::kFailedPrecondition, "later scheduler"},
      {"not to be read now", false, fails(absl::UnavailableError("down")), Code::kUnavailable,
       "down"},
      {"not served at all", false, fails(absl::FailedPreconditionError("no CRD")),
       Code::kFailedPrecondition, "no CRD"},
      {"gone as the job says", true, fails(absl::NotFoundError("x")), Code::kOk, ""},
      {"gone as the job says, and made anew", true, is([](Policy& p) { p.meta.uid = "other"; }),
       Code::kOk, ""},
      {"there against the job's word", true, is([](Policy&) {}), Code::kFailedPrecondition,
       "to exist"},
      {"gone by the job's word, which cannot be checked", true,
       fails(absl::UnavailableError("down")), Code::kUnavailable, "down"},
      {"gone by the job's word, but nothing is served", true,
       fails(absl::FailedPreconditionError("no CRD")), Code::kFailedPrecondition, "no CRD"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    Case c;
    c.job.policy_gone = row.job_says_gone;
    absl::StatusOr<std::shared_ptr<const Policy>> answer;
    row.answer(answer);
    const auto rule = CheckPolicy(c.job, 5, answer);
    EXPECT_THAT(rule, StatusIs(row.code, HasSubstr(row.message)));
    if (!rule.ok()) continue;
    EXPECT_EQ(rule->has_value(), !row.job_says_gone);
    if (*rule) {
      EXPECT_EQ((*rule)->keep_last, 7);
    }
  }
}

}  // namespace
}  // namespace snapkeeper
