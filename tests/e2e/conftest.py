import os
import pathlib
import re

import pytest

import manifests
from cluster import Cluster, build_control_plane
from daemons import Daemons, Deployment

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


def pytest_sessionfinish(session, exitstatus):
    """A run that skipped something has not passed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == 0 and reporter and reporter.stats.get("skipped"):
        session.exitstatus = 1


@pytest.fixture(scope="session")
def control_plane():
    """The directory of the control plane's programs."""
    return build_control_plane()


@pytest.fixture(scope="session")
def binaries():
    """The directory of our own programs."""
    return pathlib.Path(os.environ.get("SNAPKEEPER_BIN", REPOSITORY / "build" / "bin"))


@pytest.fixture(scope="session")
def cluster(control_plane, binaries, tmp_path_factory):
    """One control plane for all tests; each keeps to a namespace of its own."""
    with Cluster(tmp_path_factory.mktemp("cluster"), control_plane, binaries / "snapkeeper-csi-driver") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def bare_cluster(control_plane, tmp_path_factory):
    """etcd, an API server and the snapshot CRDs: objects without anybody who acts on them."""
    with Cluster(tmp_path_factory.mktemp("bare"), control_plane, lightweight=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def deployment(cluster):
    return Deployment(cluster, REPOSITORY)


@pytest.fixture
def daemons(cluster, deployment, binaries, tmp_path):
    """A scheduler and two executors, fresh for each test."""
    with Daemons(cluster, deployment, binaries, tmp_path) as daemons:
        daemons.scheduler.wait_ready()
        yield daemons
        for daemon in daemons.all:  # pytest shows it if the test failed
            print(daemon.log_tail())


@pytest.fixture
def namespace(cluster, request):
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-") + f"-{os.urandom(3).hex()}"
    cluster.admin.create(manifests.namespace(name))
    yield name
    cluster.control_csi()
    cluster.admin.delete("Namespace", None, name)
