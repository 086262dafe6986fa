"""How soon after its instant a snapshot is asked for, and how near many at once come to what the API server can take."""

import json
import math
import statistics
import subprocess
import time
import uuid

from world import BINARIES, NAMESPACE, AuditLog, World, create_policies, manifests, oracle, wait_until

FIRES = 60
# Of the policies that are held against the raw client, in seconds: a fire and the raw client's turns fit in one.
PERIOD = 60
PAIRS = 5
VOLUMES = 500
POLICIES = 300
IN_FLIGHT = 16  # of the raw client: more do not help it while it is alone
SLOTS = 64  # of the executor, which the stub's requests keep from the API server less than they do 16
PATH = f"/apis/snapshot.storage.k8s.io/v1/namespaces/{NAMESPACE}/volumesnapshots"


def run(figures, directory):
    with World(directory, VOLUMES) as world:
        world.raw_kubeconfig = world.cluster.account_kubeconfig(*world.deployment.account("executor"), name="raw")
        one_volume(world, figures)
        world.admin.create(manifests.policy(NAMESPACE, "all", f"@every {PERIOD}s"))
        against_raw_client(world, figures, f"one policy of {VOLUMES} volumes", VOLUMES, 1.3)
        world.admin.delete("SnapshotPolicy", NAMESPACE, "all")
        create_policies(world.admin, POLICIES, f"@every {PERIOD}s")
        against_raw_client(world, figures, f"{POLICIES} policies of one volume", POLICIES, 1.5)


def one_volume(world, figures):
    begin = AuditLog(world.cluster.audit_log).offset
    world.admin.create(manifests.policy(NAMESPACE, "one", "@every 1s", selector={"matchLabels": {"volume": "data-0"}}))
    first = math.ceil(time.time()) + 2  # a fire or two to warm up with
    wait_until("the fires", lambda: time.time() > first + FIRES, FIRES + 10, alive=world.daemons.all)
    world.admin.delete("SnapshotPolicy", NAMESPACE, "one")
    world.settled()
    posts = {instant_of(r): r.received for r in AuditLog(world.cluster.audit_log, begin).creates() if r.code == 201}
    late = sorted(1000 * (posts.get(instant, math.inf) - instant) for instant in range(first, first + FIRES))
    figures.note("one volume: from the instant to the POST, median", statistics.median(late), " ms")
    figures.add(f"one volume: the same, all but one of {FIRES}", late[-2], 10.0, " ms")


def against_raw_client(world, figures, what, count, bound):
    """Fire and raw client take turns, `count` POSTs each; the policies are there already."""
    begin = AuditLog(world.cluster.audit_log).offset
    await_fire(world)  # to warm up with, and to have bodies from
    bodies = raw_bodies(AuditLog(world.cluster.audit_log, begin), count)
    turns = []
    for _ in range(3 * PAIRS):
        instant = await_fire(world)
        if time.time() + 2 * (time.time() - instant) < instant + PERIOD:
            for in_flight in (IN_FLIGHT, SLOTS):
                post_raw(world, f"{instant}-{in_flight}", bodies, in_flight)
                world.settled()
            if time.time() < instant + PERIOD:  # else the next fire came between
                turns.append(instant)
        if len(turns) == PAIRS:
            break
    assert len(turns) == PAIRS, f"{what}: this machine is too busy for a turn within {PERIOD} s"

    creates = AuditLog(world.cluster.audit_log, begin).creates()
    firsts, lasts, raws = [], [], {IN_FLIGHT: [], SLOTS: []}
    for instant in turns:
        fired = [r.received - instant for r in creates if instant_of(r) == instant and not is_raw(r)]
        assert len(fired) == count, f"{what}: {len(fired)} POSTs, not {count}"
        firsts.append(min(fired))
        lasts.append(max(fired))
        for in_flight, spans in raws.items():
            posts = [r.received for r in creates if r.name.startswith(f"raw-{instant}-{in_flight}-")]
            assert len(posts) == count, f"{what}: {len(posts)} POSTs of the raw client, not {count}"
            spans.append(max(posts) - min(posts))
    median = statistics.median
    figures.note(f"{what}: from the instant to the first POST", 1000 * median(firsts), " ms")
    figures.note(f"{what}: to the last POST", median(lasts), " s")
    figures.note(f"{what}: raw client, first to last", median(raws[IN_FLIGHT]), " s")
    ratio = {n: median(fire / raw for fire, raw in zip(lasts, spans)) for n, spans in raws.items()}
    figures.add(f"{what}: fire / raw client, {PAIRS} pairs", ratio[IN_FLIGHT], bound)
    figures.note(f"{what}: the same with {SLOTS} in flight, as ours", ratio[SLOTS])


def await_fire(world):
    """Returns the instant once all that it brought about is done."""
    instant = (math.floor(time.time() / PERIOD) + 1) * PERIOD
    wait_until("the next fire", lambda: time.time() > instant + 0.5, PERIOD + 10)
    world.settled()
    return instant


def raw_bodies(log, count):
    """What was posted just now, as nobody's."""
    objects = [r.body for r in log.creates() if r.code == 201][-count:]
    assert len(objects) == count
    for o in objects:
        for key in ("creationTimestamp", "generation", "uid"):
            o["metadata"].pop(key, None)
        o["metadata"]["labels"].update({"app.kubernetes.io/managed-by": "raw-client",
                                        "snapkeeper.io/policy-uid": str(uuid.uuid4())})
        o["metadata"]["annotations"]["snapkeeper.io/post-before"] = "2999-01-01T00:00:00Z"
    return objects


def post_raw(world, turn, bodies, in_flight):
    file = world.directory / "bodies"
    with file.open("w") as f:
        for n, o in enumerate(bodies):
            name = f"raw-{turn}-{n}-".ljust(len(o["metadata"]["name"]), "x")
            named = {**o, "metadata": {**o["metadata"], "name": name}}
            print(json.dumps(named, separators=(",", ":")), file=f)
    subprocess.run([BINARIES / "snapkeeper-bench-post", f"--kubeconfig={world.raw_kubeconfig}", f"--path={PATH}",
                    f"--bodies={file}", f"--in-flight={in_flight}"], check=True)


def is_raw(request):
    return request.name.startswith("raw-")


def instant_of(request):
    return int(oracle.parse_time(request.body["metadata"]["labels"]["snapkeeper.io/instant"]))
