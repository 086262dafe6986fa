"""Tokens and certificate authorities end and are replaced under the daemons' feet, in files; nobody restarts them."""

import time
import urllib.parse

import pytest

from certificates import Authority
from cluster import write_atomically
from daemons import Daemons
from process import wait_until
from proxy import TcpProxy
from workload import RECOVERY, Workload

PERIOD = 7
LIFE = 30  # of a token, seconds
LEEWAY = 60  # that the API server grants an expired one
REMEMBERED = 10  # seconds that the API server takes a good one for good without looking
ROLES = ("scheduler", "executor")
OUTAGE = 2 * PERIOD
MAX_REQUESTS_PER_SECOND = 12  # from its beginning, while delays still grow; see test_api_outage.py


class Files:
    """What the daemons' kubeconfigs point to, each in a file of its own; the API server is behind `proxy`."""

    def __init__(self, cluster, deployment, directory):
        self._cluster = cluster
        self._deployment = deployment
        self._directory = directory
        address = urllib.parse.urlsplit(cluster.url)
        self.proxy = TcpProxy((address.hostname, address.port))
        self.kubeconfigs = {}
        for role in ROLES:
            self.trust(role, cluster.authority.certificate.read_text())
            self.renew_token(role)
            usual = cluster.kubeconfig(f"files-{role}", {"tokenFile": str(self._token(role))},
                                       f"https://{self.proxy.address}", deployment.account(role)[0])
            self.kubeconfigs[role] = directory / usual.name
            self.kubeconfigs[role].write_text(
                usual.read_text().replace(str(cluster.authority.certificate), str(self._ca(role))))

    def trust(self, role, certificates):
        write_atomically(self._ca(role), certificates)

    def renew_token(self, role, life=None):
        """One that is good for `life` seconds; default: a day."""
        namespace, name = self._deployment.account(role)
        if life is None:
            token = self._cluster.token(namespace, name)
        else:
            account = self._cluster.admin.get("ServiceAccount", namespace, name)
            token = self._cluster.token_signer.sign(account, life - LEEWAY)
        write_atomically(self._token(role), token)

    def _token(self, role):
        return self._directory / f"{role}.token"

    def _ca(self, role):
        return self._directory / f"{role}-ca.crt"


@pytest.fixture
def workload(cluster):
    workload = Workload(cluster, "credentials", PERIOD)
    yield workload
    workload.delete()


@pytest.fixture
def files(cluster, deployment, tmp_path):
    files = Files(cluster, deployment, tmp_path)
    yield files
    files.proxy.close()


@pytest.fixture
def daemons(cluster, deployment, binaries, tmp_path, workload, files):
    with Daemons(cluster, deployment, binaries, tmp_path, kubeconfigs=files.kubeconfigs) as daemons:
        daemons.scheduler.wait_ready()
        workload.wait_settled_since(0)
        yield daemons
        for daemon in daemons.all:
            print(daemon.log_tail(40))


def test_tokens_are_replaced_before_and_after_they_expire(deployment, daemons, workload, files):
    def refused():
        return sum(daemon.metric("rest_client_requests_total", code="401") for daemon in daemons.all)

    # In time: the second tokens take over from the first, and nothing is refused.
    first = time.time()
    for role in ROLES:
        files.renew_token(role, LIFE)
    wait_until("half of their life to pass", lambda: time.time() > first + LIFE / 2, timeout=LIFE)
    second = time.time()
    for role in ROLES:
        files.renew_token(role, LIFE)
    wait_until("the first tokens to expire", lambda: time.time() > first + LIFE + REMEMBERED + 1, timeout=LIFE)
    assert refused() == 0

    # Too late: what was watched before goes on, but requests are refused, and then new watches too.
    until = second + LIFE + REMEMBERED + 10
    for executor in daemons.executors:
        executor.wait_not_ready("does not accept our credentials", until - time.time())
    print(f"refused {time.time() - second:.1f} s after they were signed")
    files.proxy.reset()
    print(f"scheduler not ready: {daemons.scheduler.wait_not_ready('does not accept our credentials')}")
    see_no_spin(daemons)
    assert refused() > 0
    for role in ROLES:
        files.renew_token(role)
    workload.wait_recovered("expired tokens replaced", daemons, time.time())
    workload.end(daemons.scheduler, deployment.user("executor"))


def test_the_certificate_authority_is_replaced(cluster, deployment, daemons, workload, files):
    old = cluster.authority.certificate.read_text()
    new = Authority(cluster.directory, "ca-2")
    # In time for the executors, too late for the scheduler.
    files.trust("executor", old + new.certificate.read_text())
    for executor in daemons.executors:
        wait_until("the executors to have read it", lambda: "credentials reloaded" in executor.log_text())
    workload.wait_calm()
    cluster.replace_serving_authority(new)
    since = time.time()
    for executor in daemons.executors:
        executor.wait_ready(RECOVERY)
    print(f"both trusted: executors ready after {time.time() - since:.1f} s")
    print(f"not trusted: {daemons.scheduler.wait_not_ready('certificate')}")
    see_no_spin(daemons)
    files.trust("scheduler", new.certificate.read_text())
    since = time.time()
    files.trust("executor", new.certificate.read_text())
    workload.wait_recovered("new authority trusted", daemons, since)
    workload.end(daemons.scheduler, deployment.user("executor"))


def see_no_spin(daemons):
    """Lets some instants of an outage pass."""
    begin = time.time()
    before = [daemon.metric("rest_client_requests_total") for daemon in daemons.all]
    wait_until("instants to pass", lambda: time.time() > begin + OUTAGE)
    rates = {daemon.name: (daemon.metric("rest_client_requests_total") - count) / OUTAGE
             for daemon, count in zip(daemons.all, before)}
    print(f"requests per second {rates}")
    assert max(rates.values()) <= MAX_REQUESTS_PER_SECOND, rates
