"""What should have happened, computed without a line of the daemons' code, and how it compares with what did.

Names follow section "What is promised" of the design. Instants come from the brute-force reading of cron expressions that
also checks `snapkeeper schedule preview`.
"""

import base64
import dataclasses
import datetime
import hashlib
import math
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent.parent / "cli"))
import preview_oracle  # noqa: E402


OPEN = ("Posting", "Settling")  # states of a run that has not ended


def instants(schedule, first, last, time_zone="UTC"):
    """The Unix seconds in [first, last] at which a schedule fires, in order."""
    zone = preview_oracle.Zone(time_zone)
    count = 64
    while True:
        found = preview_oracle.expected(schedule, zone, math.ceil(first) - 1, count)
        if len(found) < count or found[-1] > last:
            return [i for i in found if i <= last]
        count *= 4


def parse_time(text):
    """Unix seconds of an RFC 3339 time."""
    return datetime.datetime.fromisoformat(text).timestamp()


def instant_text(instant):
    return datetime.datetime.fromtimestamp(instant, datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def snapshot_name(policy_uid, instant, claim_uid, claim_name):
    identity = f"snapkeeper/v1\n{policy_uid}\n{instant_text(instant)}\n{claim_uid}\n"
    digest = hashlib.sha256(identity.encode()).digest()[:16]
    return f"{claim_name[:36].replace('.', '-').rstrip('-')}-{base64.b32encode(digest).decode().rstrip('=').lower()}"


@dataclasses.dataclass
class Verdict:
    """Each list holds readable lines; all empty means that the guarantees held."""
    missing: list = dataclasses.field(default_factory=list)  # an expected snapshot was never made
    extra: list = dataclasses.field(default_factory=list)  # made, but nothing asked for it, or made twice
    late: list = dataclasses.field(default_factory=list)
    unready: list = dataclasses.field(default_factory=list)
    deleted_good: list = dataclasses.field(default_factory=list)  # a delete left fewer ready ones than are to be kept

    def __str__(self):
        return "\n".join(f"{field.name}: {len(lines)}\n  " + "\n  ".join(lines[:10])
                         for field in dataclasses.fields(self) if (lines := getattr(self, field.name))) or "clean"

    @property
    def clean(self):
        return str(self) == "clean"


def check(policy, claims, expected, lives, keep, max_late=None, all_ready=True):
    """Holds the snapshots of one policy against what was due.

    `claims`: objects as the API returned them, all selected for the whole time; `expected`: instants that must have one
    snapshot per claim; `lives`: SnapshotLife of every snapshot that our accounts created in the namespace; `keep`: a
    delete must leave at least that many ready ones of its claim.
    """
    verdict = Verdict()
    policy_uid = policy["metadata"]["uid"]
    due = {}  # name -> (instant, claim name)
    for claim in claims:
        meta = claim["metadata"]
        for instant in expected:
            due[snapshot_name(policy_uid, instant, meta["uid"], meta["name"])] = (instant, meta["name"])
    seen = set()
    for life in sorted(lives, key=lambda l: l.posted):
        what = f"{life.name} of {life.claim}, posted {life.posted:.3f}"
        if life.name not in due or due[life.name][1] != life.claim:
            verdict.extra.append(f"{what}: not due")
            continue
        if life.name in seen:
            verdict.extra.append(f"{what}: a second object of this name")
            continue
        seen.add(life.name)
        delay = life.posted - due[life.name][0]
        if delay < 0 or (max_late is not None and delay > max_late):
            verdict.late.append(f"{what}: {delay:+.3f} s from its instant")
        if all_ready and life.ready is None:
            verdict.unready.append(what)
    for name, (instant, claim) in due.items():
        if name not in seen:
            verdict.missing.append(f"{name}: {instant_text(instant)} of {claim}")
    for life in lives:
        if life.deleted is None or life.ready is None or life.ready > life.deleted:
            continue
        left = sum(1 for other in lives if other.claim == life.claim and ready_at(other, life.deleted))
        if left < keep:
            verdict.deleted_good.append(f"{life.name} of {life.claim}, deleted {life.deleted:.3f}: {left} ready ones left")
    return verdict


def ready_at(life, time):
    """Ready, and not asked to be deleted at or before `time`."""
    return life.ready is not None and life.ready <= time and (life.deleted is None or life.deleted > time)


def alive_at(life, time):
    return life.posted <= time and (life.deleted is None or life.deleted > time)


def _amends(counts, before):
    """Some that had failed have become ready after all."""
    late = counts.get("succeededLate", 0) - before.get("succeededLate", 0)
    failed = before.get("failed", 0) - late
    return late > 0 and failed >= 0 and counts == {
        **{k: n for k, n in before.items() if k != "failed"}, "succeededLate": counts["succeededLate"],
        **({"failed": failed} if failed else {})}


def record_faults(statuses):
    """What the successive statuses of one policy must not show, as readable lines.

    Epoch and watermark go forward only; what has its outcome keeps it, but for Failed that becomes SucceededLate; the
    counts of a run add up.
    """
    faults = []
    outcomes = {}  # scheduledTime -> counts, once it is settled
    epoch, watermark = 0, 0
    for status in statuses:
        if status.get("epoch", 0) < epoch:
            faults.append(f"epoch {status.get('epoch', 0)} after {epoch}")
        epoch = max(epoch, status.get("epoch", 0))
        time = parse_time(status["lastScheduleTime"]) if status.get("lastScheduleTime") else 0
        if time < watermark:
            faults.append(f"watermark {instant_text(time)} after {instant_text(watermark)}")
        watermark = max(watermark, time)
        entries = status.get("recentRuns") or []
        times = [run["scheduledTime"] for run in entries]
        faults += [f"{time}: two entries" for time in sorted(set(times)) if times.count(time) > 1]
        for run in entries:
            when, counts = run["scheduledTime"], {k: n for k, n in run.get("counts", {}).items() if n}
            if counts.get("selected", 0) != sum(n for k, n in counts.items() if k != "selected"):
                faults.append(f"{when}: {counts} do not add up")
            if run["state"] in OPEN:
                if when in outcomes:
                    faults.append(f"{when}: {run['state']} after {outcomes[when]}")
                continue
            if before := outcomes.get(when):
                if counts != before and not _amends(counts, before):
                    faults.append(f"{when}: {counts} after {before}")
            outcomes[when] = counts
    return faults
