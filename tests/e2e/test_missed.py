"""A scheduler that is away for a while: what it makes up for, what it counts as missed, and what it never fires."""

import dataclasses
import time

import pytest

import manifests
import oracle
import records
from audit import AuditLog
from daemons import Daemons
from process import wait_until

PERIOD = 10
EVERY = f"@every {PERIOD}s"
YEARLY = "@every 8760h"  # no instant of it comes
STARTING_DEADLINE = 60
AWAY = 5  # instants
# Seconds from the last instant before the outage:
SETTLING_FROM = -17  # more than the 10 s after which a posted run is written down unsettled, and up to 9 s until fires_once finds one
KILL, EDIT, START, END = 3.5, 25, (AWAY + 0.2) * PERIOD, (AWAY + 1.4) * PERIOD


@dataclasses.dataclass
class Case:
    spec: dict = dataclasses.field(default_factory=lambda: {"schedule": EVERY})
    edit: dict | None = None  # of the spec while the scheduler is there, seconds before the last instant
    edit_away: dict | None = None  # while it is away
    missed: int = 0
    caught_up: bool = False
    before: bool = True  # the instants before the outage have snapshots: since creation, or since `edit`
    after: str = EVERY  # the schedule in force when the scheduler is back


CASES = {
    "latest": Case(missed=AWAY - 1, caught_up=True),
    "skip": Case({"schedule": EVERY, "missedRunPolicy": "Skip"}, missed=AWAY),
    "edited": Case({"schedule": YEARLY}, edit={"schedule": EVERY}, missed=AWAY - 1, caught_up=True),
    "resumed": Case({"schedule": EVERY, "suspend": True}, edit={"suspend": False}, missed=AWAY - 1, caught_up=True),
    "suspended": Case(edit_away={"suspend": True}, after=""),
    "edited-away": Case(edit_away={"schedule": "@every 15s"}, after="@every 15s"),
    "hastened-away": Case({"schedule": YEARLY}, edit_away={"schedule": EVERY}, before=False),
    "resumed-away": Case({"schedule": EVERY, "suspend": True}, edit_away={"suspend": False}, before=False),
    # Its run of the last instant is not ready, and not written down, when the scheduler dies.
    "under-way": Case(missed=AWAY - 1, caught_up=True),
    # A run that is written down as settling when the scheduler dies; it fires once.
    "settling": Case({}, after=""),
}


class Outage:
    """All cases in one namespace, a claim each, through one outage."""

    def __init__(self, cluster, daemons, namespace):
        self.cluster = cluster
        self.scheduler = daemons.scheduler
        self._namespace = namespace
        self.claims, self.policies = {}, {}

    def run(self):
        log_begin = AuditLog(self.cluster.audit_log).offset
        for name in CASES:
            self.cluster.admin.create(manifests.claim(self._namespace, name, labels={"case": name}))
        self.claims = {name: self.cluster.wait_bound(self._namespace, name) for name in CASES}
        handles = {name: self.cluster.volume_handle(claim) for name, claim in self.claims.items()}
        never = {name: {"method": "CreateSnapshot", "volume": handles[name], "readyAfterSeconds": -1} for name in CASES}
        self.cluster.control_csi(never["settling"])

        # Between creation and edit there is an instant that the edit must not fire.
        self.created = time.time()
        self.last = (int(self.created + 2) // PERIOD + 3) * PERIOD
        schedule, self.once = records.fires_once(self.last + SETTLING_FROM)
        for name, case in CASES.items():
            spec = {"schedule": schedule, "readyTimeoutSeconds": 300, "startingDeadlineSeconds": STARTING_DEADLINE,
                    "runHistoryLimit": 20, "selector": {"matchLabels": {"case": name}}, **case.spec}
            self.policies[name] = self.cluster.admin.create(manifests.policy(self._namespace, name, **spec))
        self._wait_for(self.last - PERIOD / 2)
        self.edited = time.time()
        self._edit("edit")
        self.cluster.control_csi(never["settling"], never["under-way"])
        self._wait_for(self.last + KILL)
        self.before = {name: records.status(self.cluster, policy) for name, policy in self.policies.items()}
        self.scheduler.kill()

        self._wait_for(self.last + EDIT)
        self._edit("edit_away")
        self._wait_for(self.last + START)
        self.scheduler.start()
        self.cluster.control_csi()
        self._wait_for(self.last + END)
        self.missed_total = self.scheduler.metric("snapkeeper_missed_runs_total")
        for name, policy in self.policies.items():
            wait_until(f"the runs of {name} to end", lambda: all(
                run["state"] not in oracle.OPEN for run in records.status(self.cluster, policy).get("recentRuns", [])))
        self.after = {name: records.status(self.cluster, policy) for name, policy in self.policies.items()}
        self.lives = AuditLog(self.cluster.audit_log, log_begin).snapshots(self._namespace)
        return self

    def _edit(self, when):
        for name, case in CASES.items():
            if spec := getattr(case, when):
                self.cluster.admin.patch("SnapshotPolicy", self._namespace, name, {"spec": spec})

    def _wait_for(self, moment):
        assert time.time() < moment, "too slow a machine"
        wait_until("the time to come", lambda: time.time() >= moment, timeout=moment - time.time() + 1)

    def due(self, name):
        """The instants that must have a snapshot, and no other may have one."""
        case = CASES[name]
        if name == "settling":
            return [self.once]
        created = oracle.parse_time(self.policies[name]["metadata"]["creationTimestamp"])
        since = self.edited if case.edit else created + 1
        before = oracle.instants(EVERY, since, self.last) if case.before else []
        caught_up = [self.last + AWAY * PERIOD] if case.caught_up else []
        after = oracle.instants(case.after, self.last + START, self.last + END - 1) if case.after else []
        return before + caught_up + after


@pytest.fixture(scope="module")
def outage(cluster, deployment, binaries, tmp_path_factory):
    namespace = "missed"
    cluster.admin.create(manifests.namespace(namespace))
    try:
        with Daemons(cluster, deployment, binaries, tmp_path_factory.mktemp("missed")) as daemons:
            daemons.scheduler.wait_ready()
            try:
                yield Outage(cluster, daemons, namespace).run()
            finally:
                print(daemons.scheduler.log_tail(60))
    finally:
        cluster.control_csi()
        cluster.admin.delete("Namespace", None, namespace)


@pytest.mark.parametrize("name", CASES)
def test_what_fires_is_what_is_due_and_never_the_past(outage, name):
    lives = [life for life in outage.lives if life.claim == name]
    verdict = oracle.check(outage.policies[name], [outage.claims[name]], outage.due(name), lives, keep=0)
    assert verdict.clean, f"last instant {oracle.instant_text(outage.last)}, edited {outage.edited:.3f}\n{verdict}"


@pytest.mark.parametrize("name", CASES)
def test_every_instant_that_was_due_is_taken_or_counted_as_missed(outage, name):
    status, missed = outage.after[name], CASES[name].missed
    assert status.get("missedRuns", 0) == missed, status
    outcomes = {oracle.parse_time(run["scheduledTime"]): run["state"] for run in status.get("recentRuns", [])}
    assert outcomes == {instant: "Succeeded" for instant in outage.due(name)}
    labels = {"namespace": outage.policies[name]["metadata"]["namespace"], "policy": name}
    assert outage.scheduler.metric("snapkeeper_policy_missed_runs", **labels) == missed
    lines = records.log_lines(outage.scheduler, "missed", policy="{namespace}/{policy}".format(**labels))
    assert [int(line["instants"]) for line in lines] == ([missed] if missed else [])
    newest = outage.last + (AWAY - 1 if CASES[name].caught_up else AWAY) * PERIOD
    events = records.events(outage.cluster, outage.policies[name])
    told = [message for reason, message in events if reason == "MissedRuns"]
    assert told == ([f"{missed} instants were missed, the newest at {oracle.instant_text(newest)}"] if missed else [])


def test_the_metric_counts_all_that_were_missed(outage):
    assert outage.missed_total == sum(case.missed for case in CASES.values())


def test_the_leader_died_with_one_run_written_down_unsettled_and_one_not_written(outage):
    def state(name, instant):
        return next((run["state"] for run in outage.before[name].get("recentRuns", [])
                     if oracle.parse_time(run["scheduledTime"]) == instant), None)
    assert state("settling", outage.once) == "Settling"
    assert state("under-way", outage.last) is None
    assert oracle.parse_time(outage.before["under-way"]["lastScheduleTime"]) < outage.last
