"""Snapshots that are not ready in time, or never, or late; and daemons whose clocks are wrong."""

import os
import random
import time

import pytest

import manifests
import oracle
import records
from audit import AuditLog
from daemons import Daemons, clock_ahead
from process import wait_until

PERIOD, READY_TIMEOUT, READY_LATE = 15, 6, 10
SOON = 2  # seconds: a POST that nothing holds up
TTL, QUARANTINE = 6, 5
OFTEN = 4
MIXED = [f"mixed-{n}" for n in range(3)]  # claims
PLENTY = 4  # snapshots of a claim that nothing happens to
SEED = int(os.environ.get("SNAPKEEPER_E2E_SEED", random.randrange(10**6)))

NEVER_READY = {"readyAfterSeconds": -1}
# What a driver may do to a volume's snapshots; "times" is counted from when it begins to.
MOODS = {
    "fine": [],
    "full": [{"code": "RESOURCE_EXHAUSTED", "message": "the disk is full"}],
    "never": [NEVER_READY],
    "late": [{"readyAfterSeconds": READY_LATE}],
    "slow": [{"delaySeconds": 1.5}],
    "busy-then-never": [{"code": "UNAVAILABLE", "message": "the array is busy", "times": 2}, NEVER_READY],
    "busy": [{"code": "UNAVAILABLE", "message": "the array is busy", "times": 2}],
}
# By claim: the driver's mood, and retention.
CASES = {
    "full": ("full", {}),
    "full-ttl": ("full", {"unreadyTtl": f"{TTL}s"}),
    "never": ("never", {"unreadyTtl": f"{TTL}s"}),
    "busy-then-never": ("busy-then-never", {}),
    "late": ("late", {}),
}


class Trouble:
    """A policy for each case, and one over MIXED for which everything changes all the time."""

    def __init__(self, cluster, daemons, namespace):
        self.cluster = cluster
        self.scheduler = daemons.scheduler
        self.daemons = daemons
        self.namespace = namespace
        self._moods = {}  # of claims
        self._rng = random.Random(SEED)

    def run(self):
        self._log_begin = AuditLog(self.cluster.audit_log).offset
        names = [*CASES, *MIXED, "plenty"]
        for name in names:
            label = "mixed" if name in MIXED else name
            self.cluster.admin.create(manifests.claim(self.namespace, name, labels={"case": label}))
        self.claims = {name: self.cluster.wait_bound(self.namespace, name) for name in names}
        self._handles = {name: self.cluster.volume_handle(claim) for name, claim in self.claims.items()}
        self._set_moods({name: mood for name, (mood, _) in CASES.items()})
        # No instant comes while policies are being made.
        wait_until("a new period", lambda: 1 < time.time() % PERIOD < PERIOD - 2, timeout=5)
        self.policies = {name: self._create(name, PERIOD, retention) for name, (_, retention) in CASES.items()}
        self.policies["mixed"] = self._create("mixed", OFTEN, {
            "keepLast": 1, "maxAge": "3s", "minReady": 0, "unreadyTtl": "3s"}, ready_timeout=2)
        self.policies["plenty"] = self._create("plenty", OFTEN, {"keepLast": PLENTY}, ready_timeout=60)
        self.first = (int(time.time()) // PERIOD + 1) * PERIOD
        self.last = self.first + 2 * PERIOD

        self._wait_for(self.first + READY_TIMEOUT)
        self.early = {name: records.settled_run(self.cluster, self.policies[name], self.first) for name in CASES}
        self._mix(until=self.first + READY_LATE + 1)
        self._set_moods({"late": "fine"})
        self._mix(until=self.last - 2)
        self._set_moods(dict(zip(MIXED, ("full", "never", "busy-then-never"))))
        for name in CASES:
            records.settled_run(self.cluster, self.policies[name], self.last)
        # Until all that fails and ages could have had its effect on the mixed ones.
        self._wait_for(self.last + PERIOD - 2)
        self.entries = {name: records.run_of(self.cluster, self.policies[name], self.first) for name in CASES}
        self.next_entries = {
            name: records.run_of(self.cluster, self.policies[name], self.first + PERIOD) for name in CASES}
        self.lives = AuditLog(self.cluster.audit_log, self._log_begin).snapshots(self.namespace)
        self.ready_at_the_end = {claim for claim in MIXED if self.ready(claim)}
        return self

    def calm_down(self):
        """From here on only the policy "plenty" takes snapshots."""
        for name in {*CASES, "mixed"}:
            self.cluster.admin.patch("SnapshotPolicy", self.namespace, name, {"spec": {"suspend": True}})
        self._set_moods({claim: "fine" for claim in self.claims})

    def ready(self, claim):
        return [s for s in self.cluster.admin.list("VolumeSnapshot", self.namespace)
                if s["spec"]["source"]["persistentVolumeClaimName"] == claim
                and s.get("status", {}).get("readyToUse") and "deletionTimestamp" not in s["metadata"]]

    def lives_of(self, *claims):
        """Of claims of CASES those of the three instants alone: a busy machine may have got to the next."""
        return [life for life in self.lives
                if life.claim in claims and (life.claim in MIXED or life.posted < self.last + PERIOD)]

    def _create(self, name, period, retention, ready_timeout=READY_TIMEOUT):
        return self.cluster.admin.create(manifests.policy(
            self.namespace, name, f"@every {period}s", readyTimeoutSeconds=ready_timeout, retention=retention,
            selector={"matchLabels": {"case": name}}, runHistoryLimit=20))

    def _set_moods(self, moods):
        self._moods.update(moods)
        self.cluster.control_csi(*({"method": "CreateSnapshot", "volume": self._handles[claim], **rule}
                                   for claim, mood in self._moods.items() for rule in MOODS[mood]))

    def _mix(self, until):
        """Another mood for each of MIXED every other instant."""
        for instant in oracle.instants(f"@every {2 * OFTEN}s", time.time() + 1, until):
            self._wait_for(instant - 1)
            self._set_moods({claim: self._rng.choice(list(MOODS)) for claim in MIXED})
        self._wait_for(until)

    def _wait_for(self, moment):
        wait_until("the time to come", lambda: time.time() >= moment, timeout=max(0, moment - time.time()) + 1)


@pytest.fixture(scope="module")
def daemons(cluster, deployment, binaries, tmp_path_factory):
    with Daemons(cluster, deployment, binaries, tmp_path_factory.mktemp("readiness"),
                 scheduler_flags=["--prune-quarantine", f"{QUARANTINE}s"]) as daemons:
        daemons.scheduler.wait_ready()
        yield daemons


@pytest.fixture(scope="module")
def trouble(cluster, daemons):
    namespace = "readiness"
    cluster.admin.create(manifests.namespace(namespace))
    print("seed", SEED)
    try:
        yield Trouble(cluster, daemons, namespace).run()
    finally:
        cluster.control_csi()
        cluster.admin.delete("Namespace", None, namespace)


@pytest.mark.parametrize("name, words", [
    ("full", "the disk is full"), ("full-ttl", "the disk is full"), ("never", "no error was reported"),
    ("busy-then-never", "the array is busy"), ("late", "no error was reported")])
def test_one_that_is_not_ready_in_time_has_failed_with_the_drivers_last_words(trouble, name, words):
    failure = records.failure_of(trouble.early[name], name)
    assert (failure["outcome"], failure["reason"]) == ("Failed", "NotReadyInTime")
    assert words in failure["message"] and failure["message"].startswith(f"not ready within {READY_TIMEOUT}s")
    assert trouble.early[name]["state"] == "Failed"
    [life] = [life for life in trouble.lives_of(name) if life.name == failure["snapshot"]]
    took = oracle.parse_time(trouble.early[name]["completionTime"]) - life.posted
    assert READY_TIMEOUT - 1.1 < took < READY_TIMEOUT + SOON  # times of objects are whole seconds


@pytest.mark.parametrize("name", CASES)
def test_the_next_instant_is_unaffected(trouble, name):
    due = oracle.instants(f"@every {PERIOD}s", trouble.first, trouble.last)
    verdict = oracle.check(trouble.policies[name], [trouble.claims[name]], due, trouble.lives_of(name), keep=1,
                           max_late=SOON, all_ready=False)
    assert verdict.clean, str(verdict)
    state = trouble.next_entries[name]["state"]
    assert state == ("Succeeded" if name == "late" else "Failed"), trouble.next_entries[name]


def test_one_that_is_ready_late_has_succeeded_late(trouble):
    entry = trouble.entries["late"]
    assert (entry["state"], entry["counts"].get("succeededLate")) == ("Succeeded", 1), entry
    assert records.failure_of(entry, "late") is None
    lines = records.outcome_lines(trouble.scheduler, trouble.policies["late"], trouble.first)
    assert [line["outcome"] for line in lines] == ["Failed", "SucceededLate"]
    assert trouble.scheduler.metric(records.OUTCOMES, outcome="SucceededLate") >= 1


def test_what_is_not_ready_is_kept_until_its_ttl_and_beyond_where_it_was_cut(trouble):
    """Unready ones are pruned at their ttl, 24 h by default, if they were never cut or a newer one is ready."""
    for name in ("full", "busy-then-never", "never"):
        assert [life.deleted for life in trouble.lives_of(name)] == [None] * 3
    first, second, third = sorted(trouble.lives_of("full-ttl"), key=lambda life: life.posted)
    for life in (first, second):
        assert life.deleted and life.deleted - life.posted > TTL - 1, life
    assert third.deleted is None or third.deleted - third.posted > TTL - 1


def test_the_last_ready_one_survives_every_mix_of_failures_and_max_age(trouble):
    lives = trouble.lives_of(*MIXED)
    verdict = oracle.check(trouble.policies["mixed"], [trouble.claims[claim] for claim in MIXED], [], lives, keep=1)
    assert verdict.deleted_good == [], f"seed {SEED}: {verdict}"
    assert trouble.ready_at_the_end == set(MIXED), f"seed {SEED}"
    # So it does not hold for want of trouble, or of pruning.
    outcomes = records.outcome_lines(trouble.scheduler, trouble.policies["mixed"])
    assert {line["outcome"] for line in outcomes} >= {"Succeeded", "Failed"}, f"seed {SEED}"
    for claim in MIXED:
        assert [life for life in lives if life.claim == claim and life.ready and life.deleted], f"seed {SEED}: {claim}"
        newest = max(life.ready for life in lives if life.claim == claim and life.ready)
        assert newest < trouble.last + SOON, f"seed {SEED}: {claim} was ready in the end"


def test_with_clocks_a_year_ahead_nothing_is_posted_or_deleted(cluster, deployment, trouble):
    daemons, policy = trouble.daemons, trouble.policies["plenty"]
    users = [deployment.user(role) for role in ("scheduler", "executor")]
    trouble.calm_down()
    wait_until("snapshots to prune", lambda: len(trouble.ready("plenty")) >= PLENTY)
    for daemon in daemons.all:
        daemon.kill()
    cluster.admin.patch("SnapshotPolicy", trouble.namespace, "plenty", {"spec": {"retention": {"keepLast": 1}}})
    log_begin = AuditLog(cluster.audit_log).offset
    for wrong in (daemons.all, daemons.executors, []):
        for daemon in daemons.all:
            daemon.kill()
            daemon.env = clock_ahead(365) if daemon in wrong else {}
            daemon.start()
        for daemon in wrong:
            wait_until(f"{daemon.name} to say why it is not ready", lambda: (page := daemon.page("/readyz"))[0] == 503
                       and "ahead of the API server's" in page[1])
        if not wrong:
            break
        begin = time.time()
        wait_until("two instants and the quarantine to pass",
                   lambda: time.time() > begin + max(2 * OFTEN, QUARANTINE + 2), timeout=20)
        ours = {(r.verb, r.resource) for r in AuditLog(cluster.audit_log, log_begin).requests if r.user in users}
        assert ("watch", "volumesnapshots") in ours
        writes = {(verb, resource) for verb, resource in ours if verb not in ("get", "list", "watch")}
        assert writes <= {("create", "events"), ("update", "leases"), ("patch", "leases"),
                          ("patch", "snapshotpolicies/status")}, f"ahead: {[d.name for d in wrong]}"
        assert [daemon.page("/readyz")[0] for daemon in wrong] == [503] * len(wrong)
        assert oracle.parse_time(records.status(cluster, policy)["lastScheduleTime"]) < time.time()
        if daemons.scheduler not in wrong:
            refused = [line for e in daemons.executors for line in records.log_lines(e, "failed", claim="plenty")]
            assert [line for line in refused if "ahead of the API server's" in line["error"]], refused

    # All of it was due: with the right time it is done.
    def done(requests):
        return [r for r in requests if r.namespace == trouble.namespace and r.user in users and r.code < 300
                and r.name.startswith("plenty-")]
    wait_until("snapshots to be taken and pruned", lambda: (log := AuditLog(cluster.audit_log, log_begin))
               and done(log.creates()) and len(done(log.deletes())) >= PLENTY - 1, alive=daemons.all)
