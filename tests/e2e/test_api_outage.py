"""The API server freezes, dies, or falls silent: the daemons wait, do not spin, say so, and go on by themselves."""

import time

import pytest

import manifests
from cluster import write_atomically
from daemons import Daemons
from process import wait_until
from proxy import ApiProxy
from workload import Workload

PERIOD = 7
LATE_PERIOD = 5
STOPPED = 60
DOWN = 12
STALL_RECOVERY = 150  # seconds from when it began
# Nothing tries again sooner than every 3 s on average, once it has done so for 8 s: in the scheduler 8 reflectors, the
# status and a job for each of two claims; in an executor a reflector, and a POST and a GET for each attempt of a job.
BACKED_OFF = 8
MAX_REQUESTS_PER_SECOND = 5


@pytest.fixture(scope="module", autouse=True)
def silenced(cluster, deployment, binaries, tmp_path_factory):
    """A scheduler and an executor for a namespace of its own, and their workload. All their watches have fallen silent,
    and stay so whatever becomes of the API server meanwhile; then the claim and the policy "late" were made.
    """
    workload = Workload(cluster, "silenced", period=15, starting_deadline=300)
    proxy = ApiProxy(cluster)
    deployment.allow_lease(workload.namespace)

    def kubeconfig(role):
        token = cluster.directory / f"silenced-{role}.token"
        write_atomically(token, cluster.token(*deployment.account(role)))
        return cluster.kubeconfig(f"silenced-{role}", {"tokenFile": str(token)}, proxy.url, workload.namespace)

    with Daemons(cluster, deployment, binaries, tmp_path_factory.mktemp("silenced"), executors=1,
                 kubeconfigs={role: kubeconfig(role) for role in ("scheduler", "executor")},
                 scheduler_flags=_flags(workload)) as workload.daemons:
        workload.daemons.scheduler.wait_ready()
        workload.wait_settled_since(0)
        workload.silenced_at = time.time()
        assert proxy.silence_streams() >= 9  # 7 kinds and the Lease; the executor's snapshots
        cluster.admin.create(manifests.claim(workload.namespace, "late", labels={"app": "late"}))
        cluster.wait_bound(workload.namespace, "late")
        cluster.admin.create(manifests.policy(workload.namespace, "late", f"@every {LATE_PERIOD}s",
                                              selector={"matchLabels": {"app": "late"}}))
        workload.late_at = time.time()
        yield workload
        for daemon in workload.daemons.all:
            print(daemon.log_tail())
    proxy.close()
    workload.delete()


@pytest.fixture
def workload(cluster):
    workload = Workload(cluster, "outage", PERIOD)
    yield workload
    workload.delete()


@pytest.fixture
def daemons(cluster, deployment, workload, binaries, tmp_path):
    with Daemons(cluster, deployment, binaries, tmp_path, scheduler_flags=_flags(workload)) as daemons:
        daemons.scheduler.wait_ready()
        workload.wait_settled_since(0)
        yield daemons
        for daemon in daemons.all:
            print(daemon.log_tail(40))


def test_new_policies_and_claims_are_out_of_sight_of_silent_watches(cluster, silenced):
    wait_until("two of its instants", lambda: time.time() >= silenced.late_at + 2 * LATE_PERIOD)
    assert "status" not in cluster.admin.get("SnapshotPolicy", silenced.namespace, "late")


def test_api_server_stopped_for_60_seconds(cluster, deployment, daemons, workload):
    cpu = [daemon.cpu_seconds() for daemon in daemons.all]
    cluster.apiserver.stop()
    begin = time.time()
    try:
        # The scheduler has nothing to ask for meanwhile: its watches stand.
        reasons = [executor.wait_not_ready("within 30s", timeout=STOPPED - 5) for executor in daemons.executors]
        wait_until("the time to pass", lambda: time.time() >= begin + STOPPED, timeout=STOPPED)
        cpu = [daemon.cpu_seconds() - before for daemon, before in zip(daemons.all, cpu)]
    finally:
        cluster.apiserver.cont()
        since = time.time()
        cluster.wait_api()
    print(f"stopped: {reasons}, CPU seconds {cpu}")
    assert max(cpu) <= 0.02 * STOPPED, cpu
    cluster.restart_controllers()
    workload.wait_recovered("stopped for 60 s", daemons, since)
    workload.end(daemons.scheduler, deployment.user("executor"))


def test_api_server_killed_and_started_again(cluster, deployment, daemons, workload):
    workload.wait_calm()
    cluster.apiserver.kill()
    begin = time.time()
    try:
        reasons = [daemon.wait_not_ready("Couldn't connect", timeout=10) for daemon in daemons.all]
        wait_until("delays to grow", lambda: time.time() >= begin + BACKED_OFF)
        before = [daemon.metric("rest_client_requests_total") for daemon in daemons.all]
        counted_from = time.time()
        wait_until("the time to pass", lambda: time.time() >= begin + DOWN)
    finally:
        cluster.apiserver.start()
        cluster.wait_api()
    since = time.time()
    rates = {daemon.name: (daemon.metric("rest_client_requests_total") - n) / (since - counted_from)
             for daemon, n in zip(daemons.all, before)}
    print(f"killed for {since - begin:.1f} s: {reasons}, requests per second {rates}")
    assert max(rates.values()) <= MAX_REQUESTS_PER_SECOND, rates
    cluster.restart_controllers()
    workload.wait_recovered("killed and started", daemons, since)
    workload.end(daemons.scheduler, deployment.user("executor"))


def test_silent_watches_are_noticed(cluster, deployment, silenced):
    def seen():
        late = cluster.admin.get("SnapshotPolicy", silenced.namespace, "late")
        return late.get("status", {}).get("lastSuccessfulTime")
    # Instants up to 130 s back have just been asked for one after the other.
    deadline = silenced.silenced_at + STALL_RECOVERY
    silenced.wait_recovered("silent watches", silenced.daemons, silenced.silenced_at, within=STALL_RECOVERY)
    wait_until("the first outcome of the late policy", seen, timeout=max(1, deadline - time.time()))
    print(f"late policy served {time.time() - silenced.silenced_at:.1f} s after the watches fell silent")
    silenced.end(silenced.daemons.scheduler, deployment.user("executor"))


def _flags(workload):
    return ["--prune-quarantine", "5s", "--watch-namespace", workload.namespace]
