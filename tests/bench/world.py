"""What the benchmarks run in, and how they tell what they measured."""

import concurrent.futures
import contextlib
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).parent
REPOSITORY = HERE.parent.parent
sys.path.append(str(REPOSITORY / "tests" / "e2e"))

import manifests  # noqa: E402
import oracle  # noqa: E402
from audit import AuditLog  # noqa: E402
from cluster import Cluster, build_control_plane  # noqa: E402
from daemons import Daemons, Deployment  # noqa: E402
from process import Process, wait_until  # noqa: E402

BINARIES = pathlib.Path(os.environ.get("SNAPKEEPER_BIN", REPOSITORY / "build" / "bin"))
NAMESPACE = "bench"
DRIVER = "bench.snapkeeper.io"
FAST_PROFILE = f"drivers: {{{DRIVER}: {{maxCreating: 1000}}}}\n"


class Figures:
    """One line per figure: what, measured, bound, ok or over."""

    def __init__(self, bench):
        self._bench = bench
        self.over = 0

    def add(self, what, measured, bound, unit=""):
        ok = measured <= bound
        self.over += not ok
        self._line(what, _text(measured, unit), f"<= {_text(bound, unit)}", "ok" if ok else "OVER")

    def note(self, what, measured, unit=""):
        """A figure without a bound."""
        self._line(what, _text(measured, unit), "", "")

    def _line(self, *columns):
        print("{:11}{:62}{:>12}  {:>12}  {}".format(self._bench, *columns).rstrip(), flush=True)


def _text(value, unit):
    return f"{value:.3g}{unit}" if isinstance(value, float) else f"{value}{unit}"


class World:
    """etcd, the API server and our daemons; in place of all controllers the stub (stub.cc). `flags`: the stub's."""

    def __init__(self, directory, claims, flags=(), executors=1):
        self._stack = contextlib.ExitStack()
        try:
            self.directory = directory
            self.cluster = self._stack.enter_context(Cluster(directory, build_control_plane(), lightweight=True))
            self.admin = self.cluster.admin
            self.deployment = Deployment(self.cluster, REPOSITORY)
            create_claims(self.admin, claims)
            self.stub = Process("stub", [BINARIES / "snapkeeper-bench-stub",
                                         f"--kubeconfig={self.cluster.admin_kubeconfig}", f"--driver={DRIVER}", *flags],
                                directory / "stub.log")
            self._stack.callback(self.stub.close)
            self.stub.start()
            wait_until("the stub", lambda: "msg=watching" in self.stub.log_text(), alive=[self.stub])
            profiles = directory / "profiles.yaml"
            profiles.write_text(FAST_PROFILE)
            self.daemons = self._stack.enter_context(Daemons(
                self.cluster, self.deployment, BINARIES, directory, executors, proxied=False,
                scheduler_flags=["--driver-profiles", profiles]))
            for daemon in self.daemons.all:
                daemon.wait_ready()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def settled(self):
        settled(self.cluster, [self.stub, *self.daemons.all])
        assert "level=error" not in self.stub.log_text(), self.stub.log_tail()


def settled(cluster, alive, timeout=120):
    """Waits until the API server has answered nothing for two seconds. To wait costs it, and us, nothing."""
    size, since = -1, 0

    def quiet():
        nonlocal size, since
        length, now = os.path.getsize(cluster.audit_log), time.monotonic()
        if length != size:
            size, since = length, now
        return now - since > 2
    wait_until("the API server to be idle", quiet, timeout, alive=alive)


def create_claims(admin, count):
    """Bound claims data-0… with the label volume: data-…, in a namespace of their own; nobody else binds them here."""
    admin.create(manifests.namespace(NAMESPACE))
    admin.create({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass",
                  "metadata": {"name": "bench", "annotations": {
                      "snapshot.storage.kubernetes.io/is-default-class": "true"}},
                  "driver": DRIVER, "deletionPolicy": "Delete"})

    def create(n):
        claim = manifests.claim(NAMESPACE, f"data-{n}", labels={"volume": f"data-{n}"})
        claim["spec"]["volumeName"] = f"pv-{n}"
        made = admin.create(claim)
        admin.create({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"pv-{n}"},
                      "spec": {"capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"],
                               "storageClassName": claim["spec"]["storageClassName"],
                               "persistentVolumeReclaimPolicy": "Retain",
                               "csi": {"driver": DRIVER, "volumeHandle": f"volume-{n}"},
                               "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                                            "namespace": NAMESPACE, "name": f"data-{n}",
                                            "uid": made["metadata"]["uid"]}}})
        admin.patch("PersistentVolumeClaim", NAMESPACE, f"data-{n}", {"status": {"phase": "Bound"}}, "status")

    in_parallel(create, range(count))


def create_policies(admin, count, schedule, **spec):
    """policy-0…, each of one claim."""
    in_parallel(lambda n: admin.create(manifests.policy(
        NAMESPACE, f"policy-{n}", schedule, selector={"matchLabels": {"volume": f"data-{n}"}}, **spec)), range(count))


def in_parallel(do, items):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(do, items))
