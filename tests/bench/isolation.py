"""How much later the last of many snapshots is asked for where one volume's is refused each time."""

import random
import statistics
import time

from world import NAMESPACE, AuditLog, World, manifests, oracle, wait_until

VOLUMES = 20
BAD = "data-0"
PERIOD = 2  # seconds
PAIRS = 40
SEED = 20261122


def run(figures, directory):
    with World(directory, VOLUMES) as world:
        for manifest in manifests.refusal(NAMESPACE, f"object.spec.source.persistentVolumeClaimName != '{BAD}'"):
            world.admin.create(manifest)
        world.admin.create(manifests.policy(NAMESPACE, "often", f"@every {PERIOD}s"))
        begin = AuditLog(world.cluster.audit_log).offset
        first = (int(time.time()) // PERIOD + 3) * PERIOD  # a fire or two to warm up with
        turns = [bad for _ in range(PAIRS) for bad in random.Random(SEED).sample([True, False], 2)]
        for n, bad in enumerate(turns):
            half_before(world, first + n * PERIOD)
            world.admin.patch("PersistentVolumeClaim", NAMESPACE, BAD, {
                "metadata": {"annotations": {"snapkeeper.io/exclude": "false" if bad else "true"}}})
        half_before(world, first + (len(turns) + 1) * PERIOD)
        world.admin.delete("SnapshotPolicy", NAMESPACE, "often")

        lasts = last_posts(AuditLog(world.cluster.audit_log, begin))
    ratios = []
    for pair in range(PAIRS):
        times = dict(lasts.get(first + (2 * pair + n) * PERIOD, (None, 0)) for n in (0, 1))
        if True in times and False in times:  # else the machine was so busy that a patch came too late
            ratios.append(times[True] / times[False])
    assert len(ratios) > PAIRS / 2, lasts
    figures.note(f"{VOLUMES} volumes: from the instant to the last POST, none refused",
                 1000 * statistics.median(seconds for bad, seconds in lasts.values() if not bad), " ms")
    figures.add(f"{VOLUMES} volumes: last POST of the others, one refused / none, {len(ratios)} pairs",
                statistics.median(ratios), 1.1)


def half_before(world, instant):
    wait_until("half a period before the instant", lambda: time.time() > instant - PERIOD / 2, 5 * PERIOD,
               alive=world.daemons.all)


def last_posts(log):
    """{instant: (whether the bad claim was asked for, seconds to the last POST of the others)}"""
    bad, late = set(), {}
    for r in log.creates():
        instant = int(oracle.parse_time(r.body["metadata"]["labels"]["snapkeeper.io/instant"]))
        if r.body["spec"]["source"]["persistentVolumeClaimName"] == BAD:
            bad.add(instant)
        else:
            late.setdefault(instant, []).append(r.received - instant)
    return {instant: (instant in bad, max(seconds)) for instant, seconds in late.items() if len(seconds) == VOLUMES - 1}
