"""What a snapshot costs the API server in requests of our accounts, from its creation to its deletion."""

import math
import time

from world import BINARIES, REPOSITORY, AuditLog, Cluster, Daemons, Deployment, build_control_plane, in_parallel
from world import manifests, settled, wait_until

PERIOD = 10
FIRES = 6
KEEP = 2
SINGLE, VOLUMES = 10, 50  # policies of one volume each; volumes of one policy
IDLE_POLICIES = 1000
IDLE_SECONDS = 60
WRITES = ("create", "update", "patch", "delete")


def run(figures, directory):
    with Cluster(directory, build_control_plane(), BINARIES / "snapkeeper-csi-driver", metadata_only=True) as cluster:
        deployment = Deployment(cluster, REPOSITORY)
        accounts = {deployment.user("scheduler"), deployment.user("executor")}
        with Daemons(cluster, deployment, BINARIES, directory, proxied=False) as daemons:
            for daemon in daemons.all:
                daemon.wait_ready()
            lives(figures, cluster, accounts, daemons)
            idle(figures, cluster, accounts, daemons)


def lives(figures, cluster, accounts, daemons):
    create_claims(cluster, "single", SINGLE)
    create_claims(cluster, "fifty", VOLUMES)
    every, retention = f"@every {PERIOD}s", {"keepLast": KEEP}
    cluster.admin.create(manifests.policy("fifty", "all", every, retention=retention))
    for n in range(SINGLE):
        cluster.admin.create(manifests.policy("single", f"policy-{n}", every, retention=retention,
                                              selector={"matchLabels": {"volume": f"data-{n}"}}))
    # As many are pruned as are made once the first ones are. Cut in the middle, when all of an instant has been done.
    begin = (math.floor(time.time() / PERIOD) + KEEP + 3.9) * PERIOD
    end = begin + FIRES * PERIOD
    wait_until("the fires", lambda: time.time() > end, end - time.time() + PERIOD, alive=daemons.all)
    for p in cluster.admin.list("SnapshotPolicy"):
        cluster.admin.patch("SnapshotPolicy", p["metadata"]["namespace"], p["metadata"]["name"],
                            {"spec": {"suspend": True}})
    log = AuditLog(cluster.audit_log)
    home = {life.uid: life.namespace for life in log.snapshots()}
    window = [r for r in log.requests if begin <= r.received < end and r.user in accounts and r.verb != "watch"]
    for namespace, what, bound, writes_bound in [("single", "one volume per policy", 7.0, 3.0),
                                                 ("fifty", f"{VOLUMES} volumes per policy", 3.3, 2.1)]:
        of_lives = [r for r in window
                    if namespace in (r.namespace, home.get(r.name.removeprefix("snapcontent-")))]
        made = sum(r.verb == "create" and r.resource == "volumesnapshots" for r in of_lives)
        pruned = sum(r.verb == "delete" for r in of_lives)
        wanted = FIRES * (SINGLE if namespace == "single" else VOLUMES)
        assert made == pruned == wanted, f"{what}: {made} made, {pruned} pruned, {wanted} due"
        writes = sum(r.verb in WRITES for r in of_lives)
        figures.add(f"{what}: requests per snapshot", len(of_lives) / made, bound)
        figures.add(f"{what}: writes per snapshot", writes / made, writes_bound)
    rest = [r for r in window if r.namespace not in ("single", "fifty") and r.resource != "volumesnapshotcontents"]
    assert not rest, f"requests of no snapshot: {rest[:3]}"


def idle(figures, cluster, accounts, daemons):
    in_parallel(lambda n: cluster.admin.create(manifests.policy("fifty", f"yearly-{n}", "0 0 1 1 *")),
                range(IDLE_POLICIES))
    settled(cluster, daemons.all)
    seen = [p for p in cluster.admin.list("SnapshotPolicy") if p.get("status", {}).get("nextScheduleTime")]
    assert len(seen) >= IDLE_POLICIES, f"{len(seen)} policies have a next instant, not {IDLE_POLICIES}"
    begin = time.time()
    wait_until("a minute to pass", lambda: time.time() > begin + IDLE_SECONDS, IDLE_SECONDS + 10, alive=daemons.all)
    ours = [r for r in AuditLog(cluster.audit_log).requests if r.received > begin and r.user in accounts]
    figures.add(f"idle with {IDLE_POLICIES} policies: requests per second", len(ours) / IDLE_SECONDS, 1.0)
    figures.add(f"idle with {IDLE_POLICIES} policies: GETs and LISTs, none of which would be due",
                sum(r.verb in ("get", "list") for r in ours), 0)


def create_claims(cluster, namespace, count):
    cluster.admin.create(manifests.namespace(namespace))
    for n in range(count):
        cluster.admin.create(manifests.claim(namespace, f"data-{n}", labels={"volume": f"data-{n}"}))
    for n in range(count):
        cluster.wait_bound(namespace, f"data-{n}", timeout=120)
