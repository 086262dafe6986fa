#include "scheduler/run.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/kube/json.h"
#include "common/kube/text.h"

namespace snapkeeper {
namespace {

// At most, as JSON: an entry without its failures, a failure without its texts, and the rest of a
// status, with four conditions.
constexpr size_t kRecordBytes = 480, kFailureBytes = 160, kOtherBytes = 6 << 10;

RunState StateOf(const Run& run, const RunCounts& counts) {
  if (!run.completion_time) return run.posted_time ? RunState::kSettling : RunState::kPosting;
  const int good = counts.succeeded + counts.succeeded_late;
  if (good == counts.selected) return good > 0 ? RunState::kSucceeded : RunState::kSkipped;
  if (good > 0) return RunState::kPartiallySucceeded;
  return counts.failed > 0 ? RunState::kFailed : RunState::kSkipped;
}

bool IsBad(Outcome outcome) {
  return outcome == Outcome::kFailed || outcome == Outcome::kSkipped ||
         outcome == Outcome::kCancelled;
}

}  // namespace

int& CountOf(RunCounts& counts, Outcome outcome) {
  switch (outcome) {
    case Outcome::kPending:
      return counts.pending;
    case Outcome::kSucceeded:
      return counts.succeeded;
    case Outcome::kSucceededLate:
      return counts.succeeded_late;
    case Outcome::kFailed:
      return counts.failed;
    case Outcome::kSkipped:
      return counts.skipped;
    case Outcome::kCancelled:
      return counts.cancelled;
  }
  return counts.pending;
}

RunVolume* Run::Find(const std::string& claim_uid) {
  const auto it = volumes.find(claim_uid);
  return it == volumes.end() ? nullptr : &it->second;
}

bool Run::AllPosted() const {
  return std::all_of(volumes.begin(), volumes.end(),
                     [](const auto& v) { return v.second.posted || v.second.final(); });
}

bool Run::AllFinal() const {
  return std::all_of(volumes.begin(), volumes.end(),
                     [](const auto& v) { return v.second.final(); });
}

RunRecord ToRecord(const Run& run) {
  RunRecord record{.instant = run.instant,
                   .generation = run.generation,
                   .start_time = run.start_time,
                   .posted_time = run.posted_time,
                   .completion_time = run.completion_time,
                   .counts = run.carried};
  int named = 0;
  for (const auto& [uid, volume] : run.volumes) {
    ++CountOf(record.counts, volume.outcome);
    if (!IsBad(volume.outcome)) continue;
    ++named;
    record.failures.push_back({.claim = volume.claim,
                               .claim_uid = volume.claim_uid,
                               .snapshot = volume.posted ? volume.snapshot : "",
                               .outcome = volume.outcome,
                               .reason = volume.reason,
                               .message = Truncate(volume.message, kMaxMessage)});
  }
  record.counts.selected = record.counts.succeeded + record.counts.succeeded_late +
                           record.counts.failed + record.counts.skipped + record.counts.cancelled +
                           record.counts.pending;
  std::sort(record.failures.begin(), record.failures.end(),
            [](const RunFailure& a, const RunFailure& b) { return a.claim < b.claim; });
  if (record.failures.size() > kMaxFailures) record.failures.resize(kMaxFailures);
  record.failures_omitted = run.carried.failed + run.carried.skipped + run.carried.cancelled +
                            named - static_cast<int>(record.failures.size());
  record.state = StateOf(run, record.counts);
  return record;
}

void FitFailures(std::vector<RunRecord>& newest_first) {
  size_t left = kMaxStatusBytes - kOtherBytes - newest_first.size() * kRecordBytes;
  for (RunRecord& record : newest_first) {
    size_t kept = 0;
    for (const RunFailure& failure : record.failures) {
      const size_t size = kFailureBytes + failure.claim.size() + failure.claim_uid.size() +
                          failure.snapshot.size() + Dump(failure.message).size();
      if (size > left) {
        left = 0;  // nor anything older
        break;
      }
      left -= size;
      ++kept;
    }
    record.failures_omitted += static_cast<int>(record.failures.size() - kept);
    record.failures.resize(kept);
  }
}

Run FromRecord(const RunRecord& record) {
  Run run{.instant = record.instant,
          .generation = record.generation,
          .start_time = record.start_time.value_or(record.instant),
          .posted_time = record.posted_time,
          .completion_time = record.completion_time,
          .carried = record.counts,
          .recorded = record.counts.selected};
  run.carried.selected = 0;
  if (!record.completion_time)
    run.carried.pending = run.carried.succeeded = run.carried.succeeded_late = 0;
  for (const RunFailure& failure : record.failures) {
    run.volumes[failure.claim_uid] = {.claim = failure.claim,
                                      .claim_uid = failure.claim_uid,
                                      .snapshot = failure.snapshot,
                                      .posted = !failure.snapshot.empty(),
                                      .outcome = failure.outcome,
                                      .reason = failure.reason,
                                      .message = failure.message};
    int& count = CountOf(run.carried, failure.outcome);
    count = std::max(0, count - 1);
  }
  return run;
}

}  // namespace snapkeeper
