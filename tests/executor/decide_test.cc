#include "executor/decide.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "common/model/names.h"
#include "common/model/reason.h"

namespace snapkeeper {
namespace {

using ::testing::HasSubstr;
using Kind = Step::Kind;
using Object = Observed::Object;

const absl::Time kNow = absl::FromUnixSeconds(1'767'225'660);

CreateSnapshot TheJob() {
  CreateSnapshot job;
  job.identity = {"policy-uid", "20260101T000100Z", "claim-uid"};
  job.target = {.ns = "shop",
                .claim = "data-0",
                .claim_uid = "claim-uid",
                .snapshot_class = "fast",
                .driver = "csi.example.com",
                .volume_handle = "vol-1",
                .source_json = "{}"};
  job.name = SnapshotName(job.identity, job.target.claim);
  job.policy = "shop/hourly";
  job.post_before = kNow + absl::Seconds(60);
  job.ready_timeout = absl::Minutes(10);
  return job;
}

Snapshot TheSnapshot() {
  const CreateSnapshot job = TheJob();
  Snapshot snapshot;
  snapshot.meta.ns = job.target.ns;
  snapshot.meta.name = job.name;
  snapshot.meta.uid = "snapshot-uid";
  snapshot.meta.created = kNow;
  snapshot.source_claim = snapshot.claim = job.target.claim;
  snapshot.managed = true;
  snapshot.policy_uid = job.identity.policy_uid;
  snapshot.claim_uid = job.identity.claim_uid;
  snapshot.instant = job.identity.instant;
  snapshot.trigger = job.trigger;
  snapshot.identity = job.identity.Annotation();
  return snapshot;
}

Content TheContent() {
  Content content;
  content.meta.name = "content-1";
  content.volume_handle = "vol-1";
  content.snapshot_ns = "shop";
  content.snapshot_name = TheJob().name;
  content.snapshot_uid = "snapshot-uid";
  return content;
}

// What Decide is given; a row changes it.
struct Case {
  CreateSnapshot job = TheJob();
  Observed observed;
  absl::Time now = kNow;
  std::optional<absl::Duration> offset = absl::ZeroDuration();

  // The object is there; `change` says how it differs from a new one of ours.
  void Sees(const std::function<void(Snapshot&)>& change = [](Snapshot&) {}) {
    Snapshot snapshot = TheSnapshot();
    change(snapshot);
    observed.object = Object::kPresent;
    observed.snapshot = std::make_shared<const Snapshot>(std::move(snapshot));
  }
  void SeesReady() {
    Sees([](Snapshot& s) {
      s.ready_to_use = true;
      s.bound_content = "content-1";
    });
  }
  void ContentIs(const std::function<void(Content&)>& change = [](Content&) {}) {
    Content content = TheContent();
    change(content);
    observed.content = std::make_shared<const Content>(std::move(content));
  }
};

struct Row {
  std::string name;
  std::function<void(Case&)> given;
  Kind kind;
  bool ours = false;
  absl::StatusCode code = absl::StatusCode::kOk;  // of kDone
  Reason reason = Reason::kNone;
  std::string message = "";
  absl::Duration wait = absl::InfiniteDuration();
};

void Check(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    Case c;
    row.given(c);
    const Step step = Decide(c.job, c.observed, c.now, c.offset);
    EXPECT_EQ(step.kind, row.kind);
    EXPECT_EQ(step.ours, row.ours);
    EXPECT_EQ(step.status.code(), row.code) << step.status;
    EXPECT_EQ(ReasonOf(step.status), row.reason) << step.status;
    EXPECT_THAT(std::string(step.status.message()), HasSubstr(row.message));
    EXPECT_EQ(step.wait, row.wait);
  }
}

TEST(DecideTest, PostsOnlyInTimeAndWithARightClockAndNeverAgain) {
  Check({
      {"nothing is known", [](Case&) {}, Kind::kPost},
      {"the last moment of post-before", [](Case& c) { c.now = c.job.post_before; }, Kind::kPost},
      {"past post-before: another attempt may come",
       [](Case& c) { c.now = c.job.post_before + absl::Nanoseconds(1); }, Kind::kDone, false,
       absl::StatusCode::kDeadlineExceeded, Reason::kNone, "is not posted after"},
      {"the clock is as far ahead as is allowed", [](Case& c) { c.offset = absl::Seconds(30); },
       Kind::kPost},
      {"the last moment of post-before by the server's clock",
       [](Case& c) {
         c.offset = absl::Seconds(30);
         c.now = c.job.post_before + absl::Seconds(30);
       },
       Kind::kPost},
      {"past post-before by the server's clock",
       [](Case& c) {
         c.offset = -absl::Seconds(30);
         c.now = c.job.post_before - absl::Seconds(29);
       },
       Kind::kDone, false, absl::StatusCode::kDeadlineExceeded, Reason::kNone,
       "is not posted after"},
      {"the clock is ahead, as far as was known", [](Case& c) { c.offset = absl::Seconds(31); },
       Kind::kLookUp},
      {"the server's time is not known", [](Case& c) { c.offset.reset(); }, Kind::kLookUp},
      {"the clock is ahead, as it was told just now",
       [](Case& c) {
         c.offset = absl::Seconds(31);
         c.observed.object = Object::kAbsent;
       },
       Kind::kDone, false, absl::StatusCode::kUnavailable, Reason::kNone,
       "31s ahead of the API server's"},
      {"the clock is behind, as it was told just now",
       [](Case& c) {
         c.offset = -absl::Hours(8760);
         c.observed.object = Object::kAbsent;
       },
       Kind::kDone, false, absl::StatusCode::kUnavailable, Reason::kNone,
       "behind the API server's"},
      {"the server answers without its time",
       [](Case& c) {
         c.offset.reset();
         c.observed.object = Object::kAbsent;
       },
       Kind::kDone, false, absl::StatusCode::kUnavailable, Reason::kNone, "has not told its time"},
      {"the clock is ahead, and the server does not answer",
       [](Case& c) {
         c.offset = absl::Seconds(31);
         c.observed.look = absl::UnavailableError("down");
       },
       Kind::kDone, false, absl::StatusCode::kUnavailable, Reason::kNone, "down"},
      {"the object was seen before, the cache has it not",
       [](Case& c) { c.job.known_uid = "snapshot-uid"; }, Kind::kLookUp},
      {"the object was seen before, the cache is not there yet",
       [](Case& c) {
         c.job.known_uid = "snapshot-uid";
         c.observed.cache_synced = false;
       },
       Kind::kAwait},
      {"nothing is known, the cache is not there yet: the name is the lock",
       [](Case& c) { c.observed.cache_synced = false; }, Kind::kPost},
      {"never asked for, and the server has none",
       [](Case& c) { c.observed.object = Object::kAbsent; }, Kind::kPost},
  });
}

TEST(DecideTest, AnAnswerToThePostIsAVerdictOrLookedInto) {
  const auto post = [](absl::Status status) {
    return [status](Case& c) { c.observed.post = status; };
  };
  const auto then_absent = [](absl::Status status) {
    return [status](Case& c) {
      c.observed.post = status;
      c.observed.object = Object::kAbsent;
    };
  };
  const auto then_fails = [](absl::Status status, absl::Status look) {
    return [status, look](Case& c) {
      c.observed.post = status;
      c.observed.look = look;
    };
  };
  using Code = absl::StatusCode;
  Check({
      {"the name is taken", post(absl::AlreadyExistsError("x")), Kind::kLookUp},
      {"the reply was lost", post(absl::DeadlineExceededError("x")), Kind::kLookUp},
      {"the connection broke, or 5xx", post(absl::UnavailableError("x")), Kind::kLookUp},
      {"an answer nobody understands", post(absl::UnknownError("x")), Kind::kLookUp},
      {"credentials were refused", post(absl::UnauthenticatedError("why")), Kind::kDone, false,
       Code::kUnauthenticated, Reason::kNone, "why"},
      {"too many requests", post(absl::ResourceExhaustedError("why")), Kind::kDone, false,
       Code::kResourceExhausted, Reason::kNone, "why"},
      {"forbidden by an API server that refuses our watch too",
       [](Case& c) {
         c.observed.watching = false;
         c.observed.post = WithReason(absl::PermissionDeniedError("why"), Reason::kForbidden);
       },
       Kind::kDone, false, Code::kUnavailable, Reason::kApiUnavailable, "why"},
      {"forbidden", post(WithReason(absl::PermissionDeniedError("why"), Reason::kForbidden)),
       Kind::kDone, false, Code::kPermissionDenied, Reason::kForbidden, "why"},
      {"over quota", post(WithReason(absl::PermissionDeniedError("why"), Reason::kQuotaExceeded)),
       Kind::kDone, false, Code::kPermissionDenied, Reason::kQuotaExceeded, "why"},
      {"the namespace is terminating",
       post(WithReason(absl::PermissionDeniedError("why"), Reason::kNamespaceTerminating)),
       Kind::kDone, false, Code::kPermissionDenied, Reason::kNamespaceTerminating, "why"},
      {"the namespace is gone", post(absl::NotFoundError("why")), Kind::kDone, false,
       Code::kNotFound, Reason::kNamespaceTerminating, "why"},
      {"the kind is not installed", post(absl::FailedPreconditionError("why")), Kind::kDone, false,
       Code::kFailedPrecondition, Reason::kDriverUnhealthy, "why"},
      {"a validation or webhook refused", post(absl::InvalidArgumentError("why")), Kind::kDone,
       false, Code::kInvalidArgument, Reason::kForbidden, "why"},
      {"the admission policy refused a late create: another attempt may come",
       post(absl::InvalidArgumentError("denied request: created after snapkeeper.io/post-before")),
       Kind::kDone, false, Code::kDeadlineExceeded, Reason::kNone, "posted too late"},
      {"something else we did wrong", post(absl::OutOfRangeError("why")), Kind::kDone, false,
       Code::kOutOfRange, Reason::kApiUnavailable, "why"},
      {"the reply was lost, and there is none", then_absent(absl::DeadlineExceededError("lost")),
       Kind::kDone, false, Code::kDeadlineExceeded, Reason::kNone, "lost"},
      {"the connection broke, or 5xx, and there is none",
       then_absent(absl::UnavailableError("reset")), Kind::kDone, false, Code::kUnavailable,
       Reason::kNone, "reset"},
      {"the name was taken, and is free: it is not taken again",
       then_absent(absl::AlreadyExistsError("x")), Kind::kDone, false, Code::kNotFound,
       Reason::kDeleted, "was there and is gone"},
      {"the reply was lost, and looking fails",
       then_fails(absl::UnavailableError("post"), absl::UnavailableError("look")), Kind::kDone,
       false, Code::kUnknown, Reason::kNone, "post"},
      {"the name was taken, and looking fails",
       then_fails(absl::AlreadyExistsError("post"), absl::UnavailableError("look")), Kind::kDone,
       false, Code::kUnknown, Reason::kNone, "look"},
      {"the name was taken, and looking is forbidden",
       then_fails(absl::AlreadyExistsError("post"),
                  WithReason(absl::PermissionDeniedError("look"), Reason::kForbidden)),
       Kind::kDone, false, Code::kPermissionDenied, Reason::kForbidden, "look"},
  });
}

TEST(DecideTest, AfterAPostThatRanIntoItsDeadlineTheServerHasTimeToEndIt) {
  Case c;
  c.observed.post = absl::DeadlineExceededError("lost");
  c.observed.object = Object::kAbsent;
  const Step step = Decide(c.job, c.observed, c.now, c.offset);
  EXPECT_GE(RetryAfterOf(step.status), absl::Seconds(5));
}

TEST(DecideTest, PassesOnWhenTheServerSaysToLookAgain) {
  Case c;
  c.observed.post = absl::UnavailableError("reset");
  c.observed.look = WithRetryAfter(absl::ResourceExhaustedError("later"), absl::Seconds(5));
  const Step step = Decide(c.job, c.observed, c.now, c.offset);
  EXPECT_EQ(step.kind, Kind::kDone);
  EXPECT_EQ(step.status.message(), "reset");
  EXPECT_EQ(RetryAfterOf(step.status), absl::Seconds(5));
}

TEST(DecideTest, AnObjectOfTheNameIsAdoptedOrRefused) {
  const auto sees = [](std::function<void(Snapshot&)> change) {
    return [change](Case& c) { c.Sees(change); };
  };
  using Code = absl::StatusCode;
  const absl::Duration ten_minutes = absl::Minutes(10);
  Check({
      {"ours", [](Case& c) { c.Sees(); }, Kind::kAwait, true, Code::kOk, Reason::kNone, "",
       ten_minutes},
      {"ours, though post-before has passed and the clock is wrong",
       [](Case& c) {
         c.Sees();
         c.job.post_before = absl::InfinitePast();
         c.offset = absl::Seconds(31);
       },
       Kind::kAwait, true, Code::kOk, Reason::kNone, "", ten_minutes + absl::Seconds(31)},
      {"ours, by a clock that is a little ahead and a timeout that is shorter",
       [](Case& c) {
         c.Sees([&c](Snapshot& s) { s.meta.created = c.now - absl::Seconds(20); });
         c.job.ready_timeout = absl::Seconds(2);
         c.offset = absl::Seconds(20);
       },
       Kind::kAwait, true, Code::kOk, Reason::kNone, "", absl::Seconds(2)},
      {"ours, after our POST found the name taken",
       [](Case& c) {
         c.Sees();
         c.observed.post = absl::AlreadyExistsError("x");
       },
       Kind::kAwait, true, Code::kOk, Reason::kNone, "", ten_minutes},
      {"ours, the one seen before",
       [](Case& c) {
         c.Sees();
         c.job.known_uid = "snapshot-uid";
       },
       Kind::kAwait, true, Code::kOk, Reason::kNone, "", ten_minutes},
      {"ours, but not the one seen before",
       [](Case& c) {
         c.Sees();
         c.job.known_uid = "earlier-uid";
       },
       Kind::kDone, false, Code::kNotFound, Reason::kDeleted, "earlier-uid"},
      {"ours, being deleted", sees([](Snapshot& s) { s.meta.deleting = true; }), Kind::kDone, false,
       Code::kNotFound, Reason::kDeleted, "being deleted"},
      {"ours, ready and being deleted", sees([](Snapshot& s) {
         s.meta.deleting = s.ready_to_use = true;
         s.bound_content = "content-1";
       }),
       Kind::kDone, false, Code::kNotFound, Reason::kDeleted, "being deleted"},
      {"no label of ours", sees([](Snapshot& s) { s.managed = false; }), Kind::kDone, false,
       Code::kFailedPrecondition, Reason::kNameConflict, "is not ours"},
      {"foreign and being deleted", sees([](Snapshot& s) {
         s.managed = false;
         s.meta.deleting = true;
       }),
       Kind::kDone, false, Code::kFailedPrecondition, Reason::kNameConflict, "is not ours"},
      {"another identity in the annotation", sees([](Snapshot& s) { s.identity += "x"; }),
       Kind::kDone, false, Code::kFailedPrecondition, Reason::kNameConflict, "is not ours"},
      {"of another claim", sees([](Snapshot& s) { s.source_claim = "data-1"; }), Kind::kDone, false,
       Code::kFailedPrecondition, Reason::kNameConflict, "is not ours"},
      {"pre-provisioned", sees([](Snapshot& s) { s.source_claim = ""; }), Kind::kDone, false,
       Code::kFailedPrecondition, Reason::kNameConflict, "is not ours"},
      {"ours and gone",
       [](Case& c) {
         c.job.known_uid = "snapshot-uid";
         c.observed.object = Object::kAbsent;
       },
       Kind::kDone, false, Code::kNotFound, Reason::kDeleted, "is gone"},
      {"looking for the one seen before fails",
       [](Case& c) {
         c.job.known_uid = "snapshot-uid";
         c.observed.look = absl::UnavailableError("look");
       },
       Kind::kDone, false, Code::kUnavailable, Reason::kNone, "look"},
  });
}

TEST(DecideTest, WhatItsOwnPostCreatedTooLateIsRemoved) {
  const auto created = [](absl::Duration after, bool by_us) {
    return [after, by_us](Case& c) {
      c.Sees([&c, after](Snapshot& s) { s.meta.created = c.job.post_before + after; });
      c.observed.posted_by_us = by_us;
    };
  };
  Check({
      {"in the very second", created(absl::ZeroDuration(), true), Kind::kAwait, true,
       absl::StatusCode::kOk, Reason::kNone, "", absl::Minutes(11)},
      {"a second late", created(absl::Seconds(1), true), Kind::kRemove},
      {"a second late, but perhaps another's: a later attempt may have had a later post-before",
       created(absl::Seconds(1), false), Kind::kAwait, true, absl::StatusCode::kOk, Reason::kNone,
       "", absl::Minutes(11) + absl::Seconds(1)},
  });

  const Snapshot late = TheSnapshot();
  const absl::Status removed = CreatedTooLate(TheJob(), late, absl::OkStatus());
  EXPECT_EQ(removed.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ReasonOf(removed), Reason::kDeadlineExceeded);
  EXPECT_FALSE(IsRetryable(removed));
  EXPECT_THAT(std::string(removed.message()), HasSubstr("it was deleted"));
  EXPECT_THAT(std::string(CreatedTooLate(TheJob(), late, absl::UnavailableError("down")).message()),
              HasSubstr("deleting it failed: down"));
}

TEST(DecideTest, ReadyMeansBoundBothWaysAndOfTheRightVolume) {
  const auto content = [](std::function<void(Content&)> change) {
    return [change](Case& c) {
      c.SeesReady();
      c.ContentIs(change);
    };
  };
  const auto answer = [](absl::Status status) {
    return [status](Case& c) {
      c.SeesReady();
      c.observed.content = status;
    };
  };
  using Code = absl::StatusCode;
  const absl::Duration ten_minutes = absl::Minutes(10);
  Check({
      {"ready and bound: the content must prove it", [](Case& c) { c.SeesReady(); }, Kind::kVerify,
       true},
      {"ready but not bound", [](Case& c) { c.Sees([](Snapshot& s) { s.ready_to_use = true; }); },
       Kind::kAwait, true, Code::kOk, Reason::kNone, "", ten_minutes},
      {"bound but not ready",
       [](Case& c) { c.Sees([](Snapshot& s) { s.bound_content = "content-1"; }); }, Kind::kAwait,
       true, Code::kOk, Reason::kNone, "", ten_minutes},
      {"cut but not ready", [](Case& c) { c.Sees([](Snapshot& s) { s.cut_time = kNow; }); },
       Kind::kAwait, true, Code::kOk, Reason::kNone, "", ten_minutes},
      {"proven", content([](Content&) {}), Kind::kDone, true},
      {"an error text beside it is history",
       [](Case& c) {
         c.Sees([](Snapshot& s) {
           s.ready_to_use = true;
           s.bound_content = "content-1";
           s.error = "earlier trouble";
         });
         c.ContentIs();
       },
       Kind::kDone, true},
      {"another volume", content([](Content& x) { x.volume_handle = "vol-2"; }), Kind::kDone, true,
       Code::kFailedPrecondition, Reason::kWrongVolume, "is of volume \"vol-2\", not of \"vol-1\""},
      {"a pre-provisioned content", content([](Content& x) { x.volume_handle = ""; }), Kind::kDone,
       true, Code::kFailedPrecondition, Reason::kWrongVolume, "is of volume \"\""},
      {"preflight saw no handle",
       [](Case& c) {
         c.SeesReady();
         c.ContentIs();
         c.job.target.volume_handle = "";
       },
       Kind::kDone, true},
      {"bound back to another object", content([](Content& x) { x.snapshot_uid = "other"; }),
       Kind::kAwait, true, Code::kOk, Reason::kNone, "", ten_minutes},
      {"bound back to another name", content([](Content& x) { x.snapshot_name = "other"; }),
       Kind::kAwait, true, Code::kOk, Reason::kNone, "", ten_minutes},
      {"bound back to another namespace", content([](Content& x) { x.snapshot_ns = "other"; }),
       Kind::kAwait, true, Code::kOk, Reason::kNone, "", ten_minutes},
      {"of another volume, and not bound back: it proves nothing",
       content([](Content& x) { x.snapshot_uid = x.volume_handle = "other"; }), Kind::kAwait, true,
       Code::kOk, Reason::kNone, "", ten_minutes},
      {"the content is being deleted", content([](Content& x) { x.meta.deleting = true; }),
       Kind::kAwait, true, Code::kOk, Reason::kNone, "", ten_minutes},
      {"the content is missing", answer(absl::NotFoundError("x")), Kind::kAwait, true, Code::kOk,
       Reason::kNone, "", ten_minutes},
      {"the content cannot be read now", answer(absl::UnavailableError("down")), Kind::kDone, true,
       Code::kUnavailable, Reason::kNone, "down"},
      {"the content must not be read",
       answer(WithReason(absl::PermissionDeniedError("no"), Reason::kForbidden)), Kind::kDone, true,
       Code::kPermissionDenied, Reason::kForbidden, "no"},
  });
}

TEST(DecideTest, TheReadyDeadlineIsJudgedByAFreshLook) {
  const auto at = [](
                      absl::Duration age, bool fresh,
                      std::function<void(Snapshot&)> change = [](Snapshot&) {}) {
    return [=](Case& c) {
      c.Sees(change);
      c.observed.fresh = fresh;
      c.now = kNow + age;
    };
  };
  const auto error = [](Snapshot& s) { s.error = "rpc error: disk full"; };
  using Code = absl::StatusCode;
  const absl::Duration ten_minutes = absl::Minutes(10), second = absl::Seconds(1);
  Check({
      {"a second before", at(ten_minutes - second, false), Kind::kAwait, true, Code::kOk,
       Reason::kNone, "", second},
      {"an error text before the deadline is progress", at(ten_minutes - second, true, error),
       Kind::kAwait, true, Code::kOk, Reason::kNone, "", second},
      {"at the deadline, by the cache", at(ten_minutes, false, error), Kind::kLookUp, true},
      {"at the deadline, by the server", at(ten_minutes, true, error), Kind::kDone, true,
       Code::kDeadlineExceeded, Reason::kNotReadyInTime,
       "not ready within 10m: rpc error: disk full"},
      {"an error text that has gone since",
       [](Case& c) {
         c.Sees();
         c.observed.fresh = true;
         c.observed.last_error = "rpc error: disk full";
         c.now = kNow + absl::Minutes(10);
       },
       Kind::kDone, true, Code::kDeadlineExceeded, Reason::kNotReadyInTime,
       "not ready within 10m: rpc error: disk full"},
      {"an error text that another has replaced",
       [&](Case& c) {
         at(ten_minutes, true, error)(c);
         c.observed.last_error = "rpc error: busy";
       },
       Kind::kDone, true, Code::kDeadlineExceeded, Reason::kNotReadyInTime,
       "not ready within 10m: rpc error: disk full"},
      {"without an error text", at(ten_minutes, true), Kind::kDone, true, Code::kDeadlineExceeded,
       Reason::kNotReadyInTime, "no error was reported"},
      {"ready just in time for the look",
       [](Case& c) {
         c.SeesReady();
         c.observed.fresh = true;
         c.now = kNow + absl::Minutes(11);
       },
       Kind::kVerify, true},
      {"ready, but its content does not prove it",
       [](Case& c) {
         c.SeesReady();
         c.ContentIs([](Content& x) { x.snapshot_uid = "other"; });
         c.observed.fresh = true;
         c.now = kNow + absl::Minutes(11);
       },
       Kind::kDone, true, Code::kDeadlineExceeded, Reason::kNotReadyInTime,
       "content-1 does not refer back"},
      {"the look fails",
       [](Case& c) {
         c.Sees();
         c.observed.look = absl::UnavailableError("down");
         c.now = kNow + absl::Minutes(11);
       },
       Kind::kDone, true, Code::kUnavailable, Reason::kNone, "down"},
      {"our clock is a year ahead: the server's says that there is time",
       [](Case& c) {
         c.Sees();
         c.observed.fresh = true;
         c.now = kNow + absl::Hours(8760);
         c.offset = absl::Hours(8760);
       },
       Kind::kAwait, true, Code::kOk, Reason::kNone, "", ten_minutes},
      {"no patience at all",
       [](Case& c) {
         c.Sees();
         c.observed.fresh = true;
         c.job.ready_timeout = absl::ZeroDuration();
       },
       Kind::kDone, true, Code::kDeadlineExceeded, Reason::kNotReadyInTime, "not ready within 0"},
  });
}

TEST(DecideTest, OnlyAttemptErrorsAreRetryable) {
  Case late;
  late.now = late.job.post_before + absl::Seconds(1);
  EXPECT_TRUE(IsRetryable(Decide(late.job, late.observed, late.now, late.offset).status));
  Case gone;
  gone.job.known_uid = "snapshot-uid";
  gone.observed.object = Object::kAbsent;
  EXPECT_FALSE(IsRetryable(Decide(gone.job, gone.observed, gone.now, gone.offset).status));
}

}  // namespace
}  // namespace snapkeeper
