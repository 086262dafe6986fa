"""What our daemons say of a policy: in its status, in events, in their logs. Policies that fire when a test wants it."""

import collections
import json
import re
import time

import manifests
import oracle
from process import wait_until

OUTCOMES = "snapkeeper_snapshot_outcomes_total"


def fires_once(after):
    """(schedule, instant): `@every` that fires soon after `after`, and then not for a quarter of an hour."""
    instant = int(after) + 1
    while True:
        for seconds in range(900, 9000):
            if instant % seconds == 0:
                return f"@every {seconds}s", instant
        instant += 1


def create_policy(cluster, namespace, name, schedule, instant=None, **spec):
    """The policy as created: before `instant`, or the test has no meaning."""
    policy = cluster.admin.create(manifests.policy(namespace, name, schedule, **spec))
    assert instant is None or time.time() < instant - 0.5, f"too slow a machine: {name} was made too late"
    return policy


def status(cluster, policy):
    meta = policy["metadata"]
    return (cluster.admin.get("SnapshotPolicy", meta["namespace"], meta["name"]) or {}).get("status", {})


def run_in(status, instant):
    """The entry of an instant in a policy's status; None if there is none."""
    runs = status.get("recentRuns", [])
    return next((run for run in runs if oracle.parse_time(run["scheduledTime"]) == instant), None)


def run_of(cluster, policy, instant):
    """The entry of an instant, as it is now."""
    return run_in(status(cluster, policy), instant)


def settled_run(cluster, policy, instant, timeout=30, alive=()):
    """The entry of an instant, once the run has ended."""
    def ended():
        run = run_of(cluster, policy, instant)
        return run if run and run["state"] not in oracle.OPEN else None
    name = "{namespace}/{name}".format(**policy["metadata"])
    return wait_until(f"the end of {oracle.instant_text(instant)} of {name}", ended, timeout, alive)


def failure_of(run, claim):
    """What the entry of a run says of a claim that has no ready snapshot; None if nothing."""
    return next((f for f in run.get("failures", []) if f["claim"] == claim), None)


def events(cluster, policy):
    """[(reason, message)] of the policy's events, as far as they are written."""
    meta = policy["metadata"]
    return [(e["reason"], e["message"]) for e in cluster.admin.list("Event", meta["namespace"])
            if e["involvedObject"].get("uid") == meta["uid"]]


def log_lines(daemon, msg, **fields):
    """The lines of a daemon's log since its start, as dicts, whose `msg` is this and that have these fields."""
    found = []
    for line in daemon.log_text().splitlines():
        values = {key: json.loads(value) if value.startswith('"') else value
                  for key, value in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)', line)}
        if values.get("msg") == msg and fields.items() <= values.items():
            found.append(values)
    return found


def outcome_lines(scheduler, policy, instant=None):
    """The outcomes that the scheduler has logged of a policy."""
    which = {} if instant is None else {"instant": oracle.instant_text(instant)}
    return log_lines(scheduler, "outcome", policy="{namespace}/{name}".format(**policy["metadata"]), **which)


def counted_outcomes(scheduler):
    """{(outcome, reason): how many}, as the metric has them."""
    counted = collections.Counter()
    for labels, value in re.findall(rf"^{OUTCOMES}\{{(.*)\}} (\S+)$", scheduler.page("/metrics")[1], re.MULTILINE):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        counted[labels["outcome"], labels["reason"]] += int(float(value))
    return counted
