"""A policy over claims of its own that fires while a test does harm, and is held against the oracle in the end."""

import collections
import os
import re
import time

import manifests
import oracle
from audit import AuditLog
from process import wait_until

POLICY = "often"
LABELS = {"app": "db"}  # of its claims
KEEP = 2
HISTORY = 20  # the most that a status may hold
RECOVERY = 15  # seconds from when a cause has gone


class Workload:
    """Claims and a policy in a namespace of their own. Lasts at most HISTORY periods: the status must know all runs."""

    def __init__(self, cluster, name, period, claims=2, starting_deadline=120):
        self.cluster = cluster
        self.namespace = f"{name}-{os.urandom(3).hex()}"
        self.period = period
        self._starting_deadline = starting_deadline
        self._log_begin = AuditLog(cluster.audit_log).offset
        cluster.admin.create(manifests.namespace(self.namespace))
        names = [f"data-{n}" for n in range(claims)]
        for claim in names:
            cluster.admin.create(manifests.claim(self.namespace, claim, labels=LABELS))
        self.claims = [cluster.wait_bound(self.namespace, claim) for claim in names]
        self.policy = cluster.admin.create(manifests.policy(
            self.namespace, POLICY, f"@every {period}s", startingDeadlineSeconds=starting_deadline,
            selector={"matchLabels": LABELS}, runHistoryLimit=HISTORY,
            retention={"keepLast": KEEP}))

    def settled(self):
        """{instant: entry} of the runs that have ended, as the status has them."""
        status = self.cluster.admin.get("SnapshotPolicy", self.namespace, POLICY).get("status", {})
        return {oracle.parse_time(run["scheduledTime"]): run for run in status.get("recentRuns", [])
                if run["state"] not in ("Posting", "Settling")}

    def wait_settled_since(self, since, timeout=30):
        """Until an instant at or after `since` has its outcome in the status, a good one."""
        def run():
            return next((r for i, r in sorted(self.settled().items()) if i >= since), None)
        entry = wait_until(f"an outcome in {self.namespace}", run, timeout)
        assert entry["state"] == "Succeeded", entry

    def wait_calm(self):
        """Until the middle between two instants: nothing is posted then. When an API server is killed, what it has
        carried out but not logged is missing in the oracle's eyes.
        """
        wait_until("the time between two instants", lambda: abs(time.time() % self.period - self.period / 2) < 0.2,
                   timeout=self.period)

    def wait_recovered(self, what, daemons, since, within=RECOVERY):
        """Until all daemons are ready and the first instant at or after `since` has its outcome; nobody restarted."""
        took = []
        for daemon in daemons.all:
            daemon.wait_ready(within + 30)
            took.append((f"{daemon.name} ready", time.time() - since))
        self.wait_settled_since(since, within + 30)
        took.append(("outcome", time.time() - since))
        assert [d.name for d in daemons.all if d.exit_code() is not None] == []
        line = f"{what}: " + ", ".join(f"{name} after {seconds:.1f} s" for name, seconds in took)
        print(line)
        assert max(seconds for _, seconds in took) <= within, line

    def end(self, scheduler, executor_user, timeout=30):
        """Suspends the policy. Each instant until then has exactly one ready snapshot of each claim, one outcome in the
        status and one in the log of the scheduler; no delete was wrong. Returns the lives of the snapshots.
        """
        self.wait_calm()  # so that it is clear which were due
        end = time.time()
        self.cluster.admin.patch("SnapshotPolicy", self.namespace, POLICY, {"spec": {"suspend": True}})
        created = int(oracle.parse_time(self.policy["metadata"]["creationTimestamp"]))
        due = oracle.instants(f"@every {self.period}s", created + 1, end)
        assert 0 < len(due) <= HISTORY, f"{len(due)} instants of {self.namespace}"
        settled = wait_until(f"the last outcome in {self.namespace}",
                             lambda: (s := self.settled()) and due[-1] in s and s, timeout)
        assert sorted(settled) == due, f"recorded {sorted(settled)}, due {due}"
        for instant, run in settled.items():
            counts = run["counts"]
            assert run["state"] == "Succeeded" and counts["selected"] == counts["succeeded"] == len(self.claims), run
        outcomes = collections.Counter(re.findall(
            rf"msg=outcome policy={self.namespace}/{POLICY} instant=(\S+) claim=(\S+) .*outcome=Succeeded",
            scheduler.log_text()))
        expected = {(oracle.instant_text(i), c["metadata"]["name"]) for i in due for c in self.claims}
        assert set(outcomes) == expected and set(outcomes.values()) == {1}, outcomes

        lives = [life for life in AuditLog(self.cluster.audit_log, self._log_begin).snapshots(self.namespace)
                 if life.claim in {c["metadata"]["name"] for c in self.claims}]
        verdict = oracle.check(self.policy, self.claims, due, lives, keep=KEEP, max_late=self._starting_deadline)
        assert verdict.clean, f"{self.namespace}: {verdict}"
        assert {life.created_by for life in lives} == {executor_user}
        assert {life.deleted_by for life in lives} <= {executor_user, None}
        return lives

    def delete(self):
        self.cluster.admin.delete("Namespace", None, self.namespace)
