"""A policy on a real control plane, held against the oracle."""

import os
import time

import manifests
import oracle
import records
from audit import AuditLog
from process import wait_until

PERIOD = 5
CLAIMS = 20
KEEP = 3
SECONDS = 90


def test_every_instant_has_one_snapshot_of_each_claim_and_the_newest_stay(cluster, deployment, daemons, namespace):
    claims, contents = [], {}
    for n in range(CLAIMS):
        cluster.admin.create(manifests.claim(namespace, f"data-{n}", labels={"app": "db"}))
    for n in range(CLAIMS):
        claim = cluster.wait_bound(namespace, f"data-{n}")
        claims.append(claim)
        contents[f"data-{n}"] = {"blob": os.urandom(50_000), "deep/er/name": claim["metadata"]["uid"].encode()}
        write_files(cluster.volume_files(claim), contents[f"data-{n}"])
    cluster.admin.create(manifests.claim(namespace, "other", labels={"app": "web"}))
    cluster.admin.create(manifests.snapshot(namespace, "foreign", "data-0"))
    log_begin = AuditLog(cluster.audit_log).offset

    policy = cluster.admin.create(manifests.policy(
        namespace, "often", f"@every {PERIOD}s", selector={"matchLabels": {"app": "db"}}, retention={"keepLast": KEEP}))
    begin = time.time()
    ours = wait_until("the first snapshot", lambda: cluster.admin.list(
        "VolumeSnapshot", namespace, labels=f"snapkeeper.io/policy-uid={policy['metadata']['uid']}"))[0]
    # Bears our labels and annotations, but not the name that they stand for.
    cluster.admin.create(manifests.snapshot(
        namespace, "copied", ours["spec"]["source"]["persistentVolumeClaimName"],
        ours["metadata"]["labels"],
        {k: v for k, v in ours["metadata"]["annotations"].items() if k != "snapkeeper.io/post-before"}))
    # Ends in the middle between two instants, so that it is clear which were due.
    end = (int(begin + SECONDS) // PERIOD + 0.5) * PERIOD
    wait_until("the time to pass", lambda: time.time() >= end, timeout=SECONDS + PERIOD)
    policy = cluster.admin.patch("SnapshotPolicy", namespace, "often", {"spec": {"suspend": True}})
    instants = oracle.instants(f"@every {PERIOD}s", created_second(policy) + 1, end)
    record = records.settled_run(cluster, policy, instants[-1])

    log = AuditLog(cluster.audit_log, log_begin)
    lives = log.snapshots(namespace)
    ours = [life for life in lives if life.created_by == deployment.user("executor")]
    verdict = oracle.check(policy, claims, instants, ours, keep=KEEP, max_late=PERIOD / 2)
    assert verdict.clean, str(verdict)
    assert len(ours) == len(instants) * CLAIMS >= (SECONDS // PERIOD - 1) * CLAIMS
    # Nobody but us makes or takes ours, and we take nobody else's.
    assert {life.created_by for life in lives} == {deployment.user("executor"), "admin"}
    for name in ("foreign", "copied"):
        assert "deletionTimestamp" not in cluster.admin.get("VolumeSnapshot", namespace, name)["metadata"]
    assert {life.deleted_by for life in ours} == {deployment.user("executor"), None}
    assert not [r for r in log.deletes() if r.namespace == namespace and r.name in ("foreign", "copied")]
    # Pruning keeps up.
    for claim in contents:
        of_claim = [life for life in ours if life.claim == claim]
        for time_of_post in (life.posted for life in of_claim if life.posted >= begin + 20):
            alive = sum(oracle.alive_at(life, time_of_post) for life in of_claim)
            assert alive <= 5, f"{claim}: {alive} not being deleted at {time_of_post:.3f}"
    assert record["state"] == "Succeeded", record
    assert (record["counts"]["selected"], record["counts"]["succeeded"]) == (CLAIMS, CLAIMS)

    # A claim made from one of them holds what the source held at the cut.
    life = next(life for life in ours if life.deleted is None and life.claim == "data-7")
    write_files(cluster.volume_files(claims[7]), {"blob": b"changed after the cut", "new": b""})
    cluster.admin.create(manifests.claim(namespace, "restored", from_snapshot=life.name))
    restored = cluster.volume_files(cluster.wait_bound(namespace, "restored"))
    assert read_files(restored) == contents["data-7"]


def created_second(policy):
    return int(oracle.parse_time(policy["metadata"]["creationTimestamp"]))


def write_files(directory, files):
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def read_files(directory):
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
