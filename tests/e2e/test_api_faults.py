"""Each request that the daemons make fails in each way, some of them carried out all the same: nothing is lost, doubled
or deleted wrongly, and a server that says when to come again is not asked before.
"""

import collections
import json
import math
import re

import pytest

import proxy as faults
from daemons import Daemons
from process import wait_until
from proxy import ApiProxy, Fault
from workload import KEEP, RECOVERY, Workload

PERIOD = 7
RETRY_AFTER = 3
SCHEDULER, EXECUTOR = "snapkeeper-scheduler", "snapkeeper-executor"
WATCHED = [(EXECUTOR, "/volumesnapshots")] + [(SCHEDULER, f"/{resource}") for resource in (
    "snapshotpolicies", "volumesnapshots", "persistentvolumeclaims", "persistentvolumes", "volumesnapshotcontents",
    "volumesnapshotclasses", "namespaces", "leases")]

FAILURES = {
    "429": lambda **match: faults.too_many_requests(RETRY_AFTER, **match),
    "500": lambda **match: Fault(code=500, reason="InternalError", **match),
    "503": lambda **match: Fault(code=503, reason="ServiceUnavailable", **match),
    "504": faults.timeout_after_commit,
    "lost": faults.lost_reply,
}


def in_namespace(namespace):
    """What is done in it, and how often that shall fail."""
    snapshots, policies = f"/{namespace}/volumesnapshots", f"/{namespace}/snapshotpolicies"
    return [
        dict(agent=EXECUTOR, method="POST", path=f"{snapshots}$", times=3),
        dict(agent=EXECUTOR, method="GET", path=f"{snapshots}/", times=1),
        dict(agent=SCHEDULER, method="PATCH", path=f"{policies}/.*/status$", times=2),
        dict(agent=EXECUTOR, method="GET", path=f"{policies}/", times=1),
        dict(agent=EXECUTOR, method="GET", path=rf"{snapshots}\?", times=1),
        dict(agent=EXECUTOR, method="DELETE", path=f"{snapshots}/", times=2),
    ]


@pytest.fixture
def proxy(cluster):
    proxy = ApiProxy(cluster)
    yield proxy
    proxy.close()


def test_each_request_fails_in_each_way(cluster, deployment, binaries, tmp_path, proxy):
    # At the start: the first lists, and the Lease that is there already.
    cluster.admin.apply({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {
        "namespace": deployment.account("scheduler")[0], "name": "snapkeeper-scheduler"}})
    struck = [proxy.add(fail(agent=agent, method="GET", path=rf"{resource}\?limit=", times=1))
              for agent, resource in WATCHED for fail in FAILURES.values()]
    struck += [proxy.add(fail(agent=SCHEDULER, method="PATCH", path="/leases/", times=1)) for fail in FAILURES.values()]
    with Daemons(cluster, deployment, binaries, tmp_path, executors=1, api_url=proxy.url) as daemons:
        wait_used_up("first lists", proxy, struck)
        for daemon in daemons.all:
            daemon.wait_ready(RECOVERY)
        workloads = {name: Workload(cluster, f"faults-{name}", PERIOD, claims=1) for name in FAILURES}

        def wait_recovered(what):
            since = wait_used_up(what, proxy, struck)
            for workload in workloads.values():
                workload.wait_recovered(f"{what}, {workload.namespace}", daemons, since)

        # What each policy's life takes, each in a way of its own.
        struck = [proxy.add(fail(agent=EXECUTOR, path="/volumesnapshotcontents/", times=2))
                  for fail in FAILURES.values()]  # they have no namespace
        for name, workload in workloads.items():
            matches = in_namespace(workload.namespace)
            if name == "429":
                # Else nobody would look whether the snapshot is there.
                proxy.add(faults.lost_reply(**{**matches[0], "times": 1}))
            struck += [proxy.add(FAILURES[name](**match)) for match in matches]
        wait_recovered("requests")

        # All watches, while the policies go on.
        struck = [proxy.add(fail(agent=agent, path=rf"{resource}\?watch=", times=1))
                  for agent, resource in WATCHED for fail in [*FAILURES.values(), expired]]
        assert proxy.break_streams() >= len(WATCHED)
        print([daemon.wait_not_ready("429 injected by the test") for daemon in daemons.all])
        wait_recovered("watches")
        # 410 in a stream that the server has accepted, of all watches at once.
        struck = [proxy.add(faults.expired_watch(agent=agent, path=rf"{resource}\?watch=", times=1))
                  for agent, resource in WATCHED]
        proxy.break_streams()
        wait_recovered("expired watches")

        for workload in workloads.values():
            lives = workload.end(daemons.scheduler, deployment.user("executor"))
            left = collections.Counter(life.claim for life in lives if life.deleted is None)
            assert max(left.values()) <= KEEP + 3, f"{workload.namespace} is not pruned: {left}"
        see_retry_after_kept(proxy.requests)
        for daemon in daemons.all:
            print(daemon.log_tail(40))
    for workload in workloads.values():
        workload.delete()


def expired(**match):
    return Fault(code=410, reason="Expired", **match)


def wait_used_up(what, proxy, struck):
    """Until each fault has struck as often as it should; when the last did."""
    def left():
        return [f"{f.agent} {f.method} {f.path}: {f.hits} of {f.times}" for f in struck if not f.used_up()]
    try:
        wait_until(f"faults of {what}", lambda: not left(), timeout=90)
    except TimeoutError:
        pytest.fail(f"{what}: these did not strike: {left()}")
    return wait_until("the last of them", lambda: (
        (last := max(r.answered for r in proxy.requests if r.fault in struck)) < math.inf and last))


def see_retry_after_kept(requests):
    """Who is told to come again later does so, each request by itself."""
    last = {}
    kept = collections.Counter()
    for request in requests:
        key = identity(request)
        before = last.get(key)
        if before and before.fault and before.fault.code == 429:
            pause = request.time - before.answered
            assert pause >= RETRY_AFTER, f"{key} again after {pause:.3f} s"
            kept[key[0], key[1]] += 1
        last[key] = request
    print(f"Retry-After kept: {dict(kept)}")
    assert set(kept) == {(SCHEDULER, "GET"), (SCHEDULER, "PATCH"), (EXECUTOR, "GET"), (EXECUTOR, "POST"),
                         (EXECUTOR, "DELETE")}, kept


def identity(request):
    """What makes it the same request as another one."""
    path = re.sub(r"&(resourceVersion|timeoutSeconds)=[^&]*", "", request.path)
    name = json.loads(request.body)["metadata"]["name"] if request.method == "POST" else ""
    return request.agent.split("/")[0], request.method, path, name
