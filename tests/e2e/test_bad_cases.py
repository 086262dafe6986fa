"""What cannot be snapshotted fails at once and with one word everywhere: in status, event, metric and log."""

import collections
import contextlib
import dataclasses
import os
import time
from typing import Callable

import pytest
import yaml

import manifests
import oracle
import proxy
import records
from api import Api
from audit import AuditLog
from daemons import Daemons
from process import wait_until

CLAIM, FIRST = "data", "a-first"
# Nobody runs these drivers: claims are bound to volumes made by hand, snapshots of them are never cut.
UNCLASSED, TWICE, NARROW, NARROW_TOO = (
    f"{name}.example.com" for name in ("unclassed", "twice", "narrow", "narrow-too"))
DEFAULT_CLASSES = {"twice-a": TWICE, "twice-b": TWICE, "narrow": NARROW, "narrow-too": NARROW_TOO}
PROFILES = {"drivers": {NARROW: {"maxCreating": 1}, NARROW_TOO: {"maxCreating": 1}}}
SOON = 2  # seconds: "at once", on a machine that does other things too


# --- how the claim of a case comes to be as it is; called before the policy is made

def provisioned(site, namespace, **options):
    site.admin.create(manifests.claim(namespace, CLAIM, **options))
    site.cluster.wait_bound(namespace, CLAIM)


def made_by_hand(source):
    def make(site, namespace, claim=CLAIM):
        site.make(manifests.volume(f"{namespace}-{claim}", source, namespace, claim))
        site.admin.create(manifests.claim(namespace, claim, storage_class=""))
        site.cluster.wait_bound(namespace, claim)
    return make


def of_driver(driver):
    return made_by_hand({"csi": {"driver": driver, "volumeHandle": "made-by-hand"}})


def second_in_line(driver):
    """`driver` takes one snapshot at a time, and that of another claim comes first."""
    def make(site, namespace):
        for claim in (FIRST, CLAIM):
            of_driver(driver)(site, namespace, claim)
    return make


def unbound(site, namespace):
    site.admin.create(manifests.claim(namespace, CLAIM, storage_class="nobody-provisions-it"))


def terminating(site, namespace):
    provisioned(site, namespace, finalizers=["snapkeeper.io/test"])
    site.admin.delete("PersistentVolumeClaim", namespace, CLAIM)


def over_quota(site, namespace):
    provisioned(site, namespace)
    site.admin.create(manifests.no_snapshots(namespace))
    site.cluster.wait_snapshots_refused(namespace, 403)


def refused(reason):
    """By an admission policy of the cluster's owner; the reason decides the HTTP code."""
    def make(site, namespace):
        provisioned(site, namespace)
        for manifest in manifests.refusal(namespace, "false", reason):
            site.make(manifest)
        site.cluster.wait_snapshots_refused(namespace, {"Forbidden": 403, "Invalid": 422}[reason])
    return make


@dataclasses.dataclass
class Case:
    reason: str
    claims: Callable = provisioned
    spec: dict = dataclasses.field(default_factory=dict)  # of the policy
    posts: int = 0  # how many creates reach the API server
    event: bool = True


# The API server takes no new object in a namespace that is being deleted, not even an event.
IMMEDIATE = {
    "class-missing": Case("ClassNotFound", spec={"snapshotClassName": "missing"}),
    "no-default-class": Case("NoDefaultClass", of_driver(UNCLASSED)),
    "two-default-classes": Case("MultipleDefaultClasses", of_driver(TWICE)),
    "class-of-another-driver": Case("DriverMismatch", spec={"snapshotClassName": "twice-a"}),
    "claim-not-bound": Case("ClaimNotBound", unbound),
    "claim-terminating": Case("ClaimTerminating", terminating),
    "not-csi": Case("NotCSI", made_by_hand({"hostPath": {"path": "/nowhere"}})),
    "over-quota": Case("QuotaExceeded", over_quota, posts=1),
    "forbidden-by-admission": Case("Forbidden", refused("Forbidden"), posts=1),
    "invalid-by-admission": Case("Forbidden", refused("Invalid"), posts=1),
    "name-taken": Case("NameConflict", posts=1),
    "namespace-terminating": Case("NamespaceTerminating", event=False),
    "namespace-terminating-unseen": Case("NamespaceTerminating", event=False, posts=1),
    "forbidden": Case("Forbidden", posts=1),  # by RBAC; at an instant of its own
}
# The claim goes while its snapshot waits to be dispatched.
WAITING = {
    "claim-gone": Case("ClaimNotFound", second_in_line(NARROW), posts=1),  # of the one before it
    "claim-replaced": Case("ClaimReplaced", second_in_line(NARROW_TOO), posts=1),
}
# The claim goes when its snapshot was asked for and is not cut.
POSTED = {
    "claim-gone-later": Case("NotReadyInTime", spec={"readyTimeoutSeconds": 12}, posts=1),
    "claim-replaced-later": Case("WrongVolume", spec={"readyTimeoutSeconds": 60}, posts=1),
}
CASES = {**IMMEDIATE, **WAITING, **POSTED}


class Site:
    """All cases, a namespace each, under one scheduler; and what there was to see of each."""

    def __init__(self, cluster, deployment, binaries, directory):
        self.cluster = cluster
        self.admin = cluster.admin
        self._deployment = deployment
        self._binaries = binaries
        self._directory = directory
        self._made = []  # objects outside of namespaces
        self.executor = deployment.user("executor")
        self.namespaces, self.policies, self.instants = {}, {}, {}  # by case
        self.runs, self.events, self.outcomes = {}, {}, {}  # by case: the status entry, events, log lines
        self.causes = {}  # by case: when what makes it fail was done

    def make(self, manifest):
        self._made.append(self.admin.create(manifest))

    def run(self):
        log_begin = AuditLog(self.cluster.audit_log).offset
        profiles = self._directory / "profiles.yaml"
        profiles.write_text(yaml.safe_dump(PROFILES))
        self._proxy = proxy.ApiProxy(self.cluster)
        try:
            self._prepare()
            with Daemons(self.cluster, self._deployment, self._binaries, self._directory, api_url=self._proxy.url,
                         scheduler_flags=["--driver-profiles", profiles]) as daemons:
                self.scheduler = daemons.scheduler.wait_ready()
                self._fire()
                self._see(name for name in IMMEDIATE if name != "forbidden")
                self.cluster.controller_manager.cont()
                self._take_away_claims_of_waiting()
                self._take_away_claims_of_posted()
                self._fire_without_right()
                self._see(["forbidden", *WAITING, *POSTED])
                self.counted = records.counted_outcomes(self.scheduler)
                self.retries = self.scheduler.metric("snapkeeper_job_retries_total")
                self.logged = records.log_lines(self.scheduler, "outcome")
        except Exception as e:
            e.add_note(self.scheduler.log_tail(60))
            raise
        finally:
            self._clean_up()
        self.log = AuditLog(self.cluster.audit_log, log_begin)
        return self

    def _prepare(self):
        for name, driver in DEFAULT_CLASSES.items():
            self.make({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass",
                       "metadata": {"name": name, "annotations": {
                           "snapshot.storage.kubernetes.io/is-default-class": "true"}},
                       "driver": driver, "deletionPolicy": "Delete"})
        for name, case in CASES.items():
            self.namespaces[name] = f"{name}-{os.urandom(3).hex()}"
            self.admin.create(manifests.namespace(self.namespaces[name]))
            case.claims(self, self.namespaces[name])

    def _create_policy(self, name, schedule, instant):
        self.policies[name] = records.create_policy(
            self.cluster, self.namespaces[name], "policy", schedule, instant, **CASES[name].spec)
        self.instants[name] = self.causes[name] = instant

    def _fire(self):
        # What these would do is done later, when it matters that it comes after something else.
        self.cluster.controller_manager.stop()
        self.cluster.snapshot_controller.stop()
        schedule, instant = records.fires_once(time.time() + 4)
        for name in ("namespace-terminating", *(n for n in CASES if n not in ("namespace-terminating", "forbidden"))):
            self._create_policy(name, schedule, instant)
            if name == "namespace-terminating":
                self.admin.delete("Namespace", None, self.namespaces[name])
        name = oracle.snapshot_name(self.policies["name-taken"]["metadata"]["uid"], instant,
                                    self._claim("name-taken")["metadata"]["uid"], CLAIM)
        self.admin.create(manifests.snapshot(self.namespaces["name-taken"], name, CLAIM))
        # From here on the scheduler learns nothing of namespaces.
        self._unseen = self._proxy.add(proxy.Fault(path=r"/namespaces\?.*watch=", stall=True))
        self.admin.delete("Namespace", None, self.namespaces["namespace-terminating-unseen"])
        assert time.time() < instant - 0.5, "too slow a machine"

    def _take_away_claims_of_waiting(self):
        for name in WAITING:
            wait_until("the first in line", lambda: self._snapshots(name))
        self.causes["claim-gone"] = time.time()
        self._delete_claim("claim-gone")
        # It learns of the other one by a list, where there is another claim of that name already.
        watch = r"/persistentvolumeclaims\?.*watch="
        stall = self._proxy.add(proxy.Fault(path=watch, stall=True))
        self._delete_claim("claim-replaced")
        unbound(self, self.namespaces["claim-replaced"])
        self._proxy.add(proxy.expired_watch(path=watch, times=1))
        self.causes["claim-replaced"] = time.time()
        self._proxy.remove(stall)
        for name, case in WAITING.items():
            wait_until(f"{name} to fail", lambda: records.outcome_lines(self.scheduler, self.policies[name]))
            for snapshot in self._snapshots(name):
                self.admin.delete("VolumeSnapshot", self.namespaces[name], snapshot["metadata"]["name"])

    def _take_away_claims_of_posted(self):
        for name in POSTED:
            wait_until("the snapshot", lambda: self._snapshots(name))
            self._delete_claim(name)
        provisioned(self, self.namespaces["claim-replaced-later"])
        self.cluster.snapshot_controller.cont()

    def _fire_without_right(self):
        with self._without_right_to_create():
            schedule, instant = records.fires_once(time.time() + 1)
            self._create_policy("forbidden", schedule, instant)
            wait_until("the outcome", lambda: records.outcome_lines(self.scheduler, self.policies["forbidden"]))

    @contextlib.contextmanager
    def _without_right_to_create(self):
        _, role = self._deployment.account("executor")
        rules = self.admin.get("ClusterRole", None, role)["rules"]
        fewer = [{**rule, "verbs": [verb for verb in rule["verbs"] if verb != "create"]} for rule in rules]
        try:
            self.admin.patch("ClusterRole", None, role, {"rules": fewer})
            wait_until("the right to be gone", lambda: not self._executor_may_create())
            yield
        finally:
            self.admin.patch("ClusterRole", None, role, {"rules": rules})
            wait_until("the right to be back", self._executor_may_create)

    def _executor_may_create(self):
        token = self.cluster.token(*self._deployment.account("executor"))
        answer = Api(self.cluster.url, self.cluster.authority.certificate, token=token).request(
            "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {"namespace": "default", "verb": "create", "resource": "volumesnapshots",
                                                "group": "snapshot.storage.k8s.io"}}})
        return answer["status"]["allowed"]

    def _see(self, names):
        for name in names:
            policy, instant = self.policies[name], self.instants[name]
            self.runs[name] = records.settled_run(self.cluster, policy, instant, alive=[self.scheduler])
            self.outcomes[name] = records.outcome_lines(self.scheduler, policy, instant)
            if CASES[name].event:
                wait_until(f"the event of {name}", lambda: [
                    reason for reason, _ in records.events(self.cluster, policy) if reason == CASES[name].reason])
            self.events[name] = records.events(self.cluster, policy)

    def _claim(self, name):
        return self.admin.get("PersistentVolumeClaim", self.namespaces[name], CLAIM)

    def _delete_claim(self, name):
        self.admin.delete("PersistentVolumeClaim", self.namespaces[name], CLAIM)
        wait_until(f"the claim of {name} to be gone", lambda: self._claim(name) is None)

    def _snapshots(self, name):
        return self.admin.list("VolumeSnapshot", self.namespaces[name])

    def _clean_up(self):
        self._proxy.close()
        for controller in (self.cluster.controller_manager, self.cluster.snapshot_controller):
            controller.cont()
        for name, namespace in self.namespaces.items():
            if self._claim(name):
                self.admin.patch("PersistentVolumeClaim", namespace, CLAIM, {"metadata": {"finalizers": None}})
            self.admin.delete("Namespace", None, namespace)
        for made in self._made:
            self.admin.delete(made["kind"], None, made["metadata"]["name"])


@pytest.fixture(scope="module")
def site(cluster, deployment, binaries, tmp_path_factory):
    return Site(cluster, deployment, binaries, tmp_path_factory.mktemp("bad")).run()


@pytest.mark.parametrize("name", CASES)
def test_status_event_metric_and_log_have_the_same_word(site, name):
    case = CASES[name]
    failure = records.failure_of(site.runs[name], CLAIM)
    assert (failure["outcome"], failure["reason"]) == ("Failed", case.reason), failure
    assert failure["message"]
    [line] = [line for line in site.outcomes[name] if line["claim"] == CLAIM]
    assert (line["outcome"], line["reason"], line["message"]) == ("Failed", case.reason, failure["message"])
    assert site.counted["Failed", case.reason] > 0
    told = [message for reason, message in site.events[name] if reason == case.reason]
    assert len(told) == (1 if case.event else 0), site.events[name]
    for message in told:
        assert message == f"{CLAIM}: {failure['message']}"


@pytest.mark.parametrize("name", CASES)
def test_one_attempt_is_all(site, name):
    creates = [r for r in site.log.creates() if r.namespace == site.namespaces[name] and r.user == site.executor]
    assert len(creates) == CASES[name].posts, creates
    assert site.runs[name]["state"] == "Failed"


@pytest.mark.parametrize("name", [*IMMEDIATE, *WAITING])
def test_the_verdict_comes_at_once(site, name):
    [line] = [line for line in site.outcomes[name] if line["claim"] == CLAIM]
    took = oracle.parse_time(line["time"]) - site.causes[name]
    assert -0.1 < took < SOON, f"{took:.3f} s after the cause"


def test_the_metric_counts_what_the_log_tells(site):
    assert site.retries == 0
    assert site.counted == collections.Counter((line["outcome"], line["reason"]) for line in site.logged)
    assert site.counted.total() == len(CASES) + len(WAITING)  # and those that were first in line
    assert site.counted["Failed", "Deleted"] == len(WAITING)


def test_what_became_of_a_claim_that_was_gone_is_in_the_drivers_words(site):
    assert CLAIM in records.failure_of(site.runs["claim-gone-later"], CLAIM)["message"]


def test_a_foreign_object_stays_as_it_was(site):
    namespace = site.namespaces["name-taken"]
    assert [r.user for r in site.log.deletes() if r.namespace == namespace and r.user == site.executor] == []
