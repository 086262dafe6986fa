"""How much memory the daemons take, and how much time thousands of snapshots that never become ready cost."""

import time

from world import NAMESPACE, World, in_parallel, manifests, wait_until

VOLUMES = 500
FIRES = 3
POLICIES = 10
SECONDS = 60


def run(figures, directory):
    for part in (many_snapshots, never_ready):
        place = directory / part.__name__[:4]  # short: it becomes part of socket paths
        place.mkdir()
        part(figures, place)


def many_snapshots(figures, directory):
    with World(directory, VOLUMES) as world:
        world.admin.create(manifests.policy(NAMESPACE, "all", next_minutes(FIRES)))
        wait_until("the last fire to settle", lambda: len(runs(world, "completionTime")) == FIRES,
                   (FIRES + 2) * 60, alive=world.daemons.all)
        world.settled()
        made = len(world.admin.list("VolumeSnapshot", NAMESPACE))
        assert made == FIRES * VOLUMES, f"{made} snapshots, not {FIRES} of each volume"
        for daemon in world.daemons.all:
            figures.add(f"{daemon.name.split('-')[0]}: memory with {VOLUMES} PVCs and {made} snapshots",
                        megabytes(daemon), 40.0, " MB")


def never_ready(figures, directory):
    with World(directory, VOLUMES, ["--never-ready"]) as world:
        once = next_minutes(1)
        in_parallel(lambda n: world.admin.create(manifests.policy(NAMESPACE, f"all-{n}", once)), range(POLICIES))
        count = POLICIES * VOLUMES
        [executor] = world.daemons.executors
        wait_until("all snapshots to be awaited", lambda: len(runs(world, "postedTime")) == POLICIES, 180,
                   alive=world.daemons.all)
        world.settled()
        begin = executor.cpu_seconds()
        end = time.monotonic() + SECONDS
        wait_until("a minute to pass", lambda: time.monotonic() > end, SECONDS + 10, alive=world.daemons.all)
        used = 100 * (executor.cpu_seconds() - begin) / SECONDS
        cut = [s for s in world.admin.list("VolumeSnapshot", NAMESPACE) if s.get("status", {}).get("creationTime")]
        assert len(cut) == count, f"{len(cut)} snapshots were cut, not {count}"
        what = f"with {count} snapshots that never become ready"
        figures.add(f"executor: memory {what}", megabytes(executor), 64.0, " MB")
        figures.add(f"executor: time of a core over {SECONDS} s {what}", used, 1.0, " %")
        figures.note(f"scheduler: memory {what}", megabytes(world.daemons.scheduler), " MB")


def next_minutes(count):
    """A schedule of the next minutes, beginning in 10 s or more, and no others for most of an hour."""
    first = int(time.time() + 10) // 60 + 1
    return ",".join(str((first + n) % 60) for n in range(count)) + " * * * *"


def runs(world, having):
    """The entries of all policies' runs that have this field."""
    return [run for policy in world.admin.list("SnapshotPolicy", NAMESPACE)
            for run in policy.get("status", {}).get("recentRuns", []) if having in run]


def megabytes(daemon):
    return daemon.peak_memory_kb() / 1000
