"""Our own programs, run as a cluster would run them: with their service accounts' real tokens and shipped manifests."""

import pathlib
import re
import urllib.error
import urllib.request

import yaml

import manifests
from api import ApiError, path_of
from process import Process, wait_until
from proxy import TcpProxy

def clock_ahead(days):
    """Environment of a process whose wall clock is wrong; its monotonic clock, and so its timers, are not."""
    [library] = pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return {"LD_PRELOAD": str(library), "FAKETIME": f"+{days}d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


class Deployment:
    """What an administrator installs once: the manifests of deploy/."""

    def __init__(self, cluster, repository):
        deploy = repository / "deploy"
        cluster.apply_files(deploy / "crds")
        self._cluster = cluster
        rbac = sorted((deploy / "rbac").glob("*.yaml"))
        self._rbac = [d for f in rbac for d in yaml.safe_load_all(f.read_text()) if d]
        self._accounts = [d["metadata"] for d in self._rbac if d["kind"] == "ServiceAccount"]
        cluster.apply_files(deploy / "rbac")
        cluster.apply_files(deploy / "admission")
        if any((deploy / "admission").glob("*.yaml")):
            wait_until("late creates to be denied", lambda: _denies_late_create(cluster))

    def allow_lease(self, namespace):
        """Schedulers may keep their Lease in this namespace too: a second installation beside the first."""
        for document in self._rbac:
            if document["kind"] in ("Role", "RoleBinding"):
                self._cluster.admin.apply(
                    {**document, "metadata": {**document["metadata"], "namespace": namespace}})

    def account(self, role):
        """(namespace, name) of the scheduler's or the executor's service account."""
        found = [a for a in self._accounts if role in a["name"]]
        assert len(found) == 1, f"deploy/rbac has {len(found)} service accounts for the {role}"
        return found[0]["namespace"], found[0]["name"]

    def user(self, role):
        """As the audit log names it."""
        return "system:serviceaccount:%s:%s" % self.account(role)


class Daemon(Process):
    """A scheduler or an executor. After start(): `grpc` and `http` are the addresses that it has taken."""

    def __init__(self, name, binary, kubeconfig, directory, flags=(), env=None):
        super().__init__(
            name, [binary, "--kubeconfig", kubeconfig, "--insecure", "--listen", "127.0.0.1:0",
                   "--http-listen", "127.0.0.1:0", *flags], directory / f"{name}.log", env)

    def start(self):
        super().start()
        line = wait_until(f"{self.name} to listen", lambda: re.search(
            r"msg=listening.* grpc=(\S+) http=(\S+)", self.log_text()), alive=[self])
        self.grpc, self.http = line.groups()
        return self

    def page(self, path):
        """(status code, text) of a page of its HTTP port, for instance /readyz or /metrics."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def metric(self, name, **labels):
        """The sum of a metric over all its series that have these labels."""
        total = 0.0
        for line in self.page("/metrics")[1].splitlines():
            if m := re.fullmatch(r"([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)(?: \d+)?", line):
                have = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', m[2] or ""))
                if m[1] == name and labels.items() <= have.items():
                    total += float(m[3])
        return total

    def wait_ready(self, timeout=30):
        wait_until(f"{self.name} to be ready", lambda: self.page("/readyz")[0] == 200, timeout, alive=[self])
        return self

    def wait_not_ready(self, words, timeout=30):
        """What /readyz says, once that is 503 with these words."""
        def reason():
            code, text = self.page("/readyz")
            return text.strip() if code == 503 and words in text else None
        return wait_until(f"{self.name} to say: not ready: {words}", reason, timeout, alive=[self])


class Executor(Daemon):
    """An executor behind a proxy, at whose address the scheduler finds it over every restart; or at its own address."""

    def __init__(self, *args, proxied=True, **kwargs):
        super().__init__(*args, **kwargs)
        self.proxy = TcpProxy() if proxied else None

    @property
    def address(self):
        return self.proxy.address if self.proxy else self.grpc

    def start(self):
        super().start()
        if self.proxy:
            host, port = self.grpc.rsplit(":", 1)
            self.proxy.target = (host, int(port))
        return self

    def close(self):
        super().close()
        if self.proxy:
            self.proxy.close()


class Daemons:
    """A scheduler and its executors. `api_url`: where they find the API server, for instance a proxy; a dict: by role.

    `kubeconfigs`: by role, where not the usual ones. `only_namespace`: they work there alone and keep their Lease there,
    beside other such installations. `proxied`: whether executors are behind a proxy, which costs time.
    """

    def __init__(self, cluster, deployment, binaries, directory, executors=2, api_url=None,
                 scheduler_flags=("--prune-quarantine", "5s"), executor_flags=(), env=None, kubeconfigs=None,
                 only_namespace=None, proxied=True):
        self._cluster = cluster
        self._deployment = deployment
        self._binaries = binaries
        self._directory = directory
        self._api_url = api_url
        self._kubeconfigs = kubeconfigs or {}
        self._scheduler_flags = list(scheduler_flags)
        self._env = env
        self._only_namespace = only_namespace
        if only_namespace:
            deployment.allow_lease(only_namespace)
            self._scheduler_flags += ["--watch-namespace", only_namespace]
        self.all = []
        try:
            self.executors = [
                self._start(Executor(f"executor-{n}", binaries / "snapkeeper-executor", self._kubeconfig("executor"),
                                     directory, executor_flags, env, proxied=proxied)) for n in range(executors)]
            self.scheduler = self.start_scheduler("scheduler")
        except Exception:
            self.close()
            raise

    def start_scheduler(self, name):
        """One more scheduler; the constructor has started the first."""
        flags = [o for executor in self.executors for o in ("--executor", executor.address)]
        return self._start(Daemon(name, self._binaries / "snapkeeper-scheduler", self._kubeconfig("scheduler"),
                                  self._directory, flags + self._scheduler_flags, self._env))

    def close(self):
        for daemon in reversed(self.all):
            daemon.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _start(self, daemon):
        self.all.append(daemon)
        return daemon.start()

    def _kubeconfig(self, role):
        if role in self._kubeconfigs:
            return self._kubeconfigs[role]
        namespace, account = self._deployment.account(role)
        url = self._api_url.get(role) if isinstance(self._api_url, dict) else self._api_url
        name = f"{account}-{self._only_namespace}" if self._only_namespace else account
        return self._cluster.account_kubeconfig(namespace, account, url, name, self._only_namespace)


def _denies_late_create(cluster):
    late = manifests.snapshot("default", "late", "none",
                              annotations={"snapkeeper.io/post-before": "2000-01-01T00:00:00Z"})
    try:
        cluster.admin.request("POST", path_of("VolumeSnapshot", "default") + "?dryRun=All", late)
        return False
    except ApiError as e:
        return e.code == 422
