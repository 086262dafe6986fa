"""Misfortunes at random, several at a time, for minutes: each instant is taken once or counted as missed all the same."""

import os
import random
import time

import manifests
import oracle
from audit import AuditLog
from daemons import Daemons
from process import wait_until
from proxy import (BLACKHOLE, DROP_REPLIES, PASS, REFUSE, ApiProxy, Fault, expired_watch, lost_reply,
                   timeout_after_commit, too_many_requests)

SECONDS = int(os.environ.get("SNAPKEEPER_SOAK_SECONDS", 300))
PERIODS = {"often": 5, "seldom": 15}  # of the policies
CLAIMS = 4  # of each policy
KEEP = 2


class Misfortunes:
    """What goes wrong, each for a while. Who suffers one is spared others until it is over."""

    def __init__(self, chance, cluster, api, daemons):
        self._chance = chance
        self._cluster = cluster
        self._api = api
        self._daemons = daemons
        self.scheduler = daemons.scheduler
        self._schedulers = 1
        self._suffering = {}  # who -> (until, how it ends)
        self.told = []

    def go_on(self, end):
        while time.time() < end:
            self._end_those_due(time.time())
            what = self._chance.choice([
                self._kill_scheduler, self._freeze_scheduler, self._rival_scheduler, self._kill_executor,
                self._freeze_executor, self._cut_off_executor, self._fail_requests, self._fail_requests,
                self._break_watches, self._fail_driver, self._kill_sidecar, self._freeze_api_server])
            what()
            pause = time.time() + self._chance.uniform(0.1, 3)
            wait_until("the next one's time", lambda: time.time() >= pause)
        self._end_those_due(float("inf"))

    def _end_those_due(self, now):
        for who, (until, end) in list(self._suffering.items()):
            if until <= now:
                del self._suffering[who]
                end()

    def _suffer(self, who, begin, end, longest):
        if who in self._suffering:
            return
        seconds = self._chance.uniform(0.1, longest)
        self.told.append(f"{time.time():.3f} {who}: {begin.__qualname__}, {seconds:.1f} s")
        begin()
        self._suffering[who] = (time.time() + seconds, end)

    def _kill_scheduler(self):
        self._suffer("scheduler", self.scheduler.kill, self.scheduler.start, 10)

    def _freeze_scheduler(self):
        self._suffer("scheduler", self.scheduler.stop, self.scheduler.cont, 40)

    def _rival_scheduler(self):
        if "API server" in self._suffering:
            return  # its token comes from there
        two = [self.scheduler]

        def rival():
            self._schedulers += 1
            two.append(self._daemons.start_scheduler(f"scheduler-{self._schedulers}"))

        def settle():
            # The older one, but where that was still trying to take its epoch.
            loser = wait_until("one of two schedulers to leave",
                               lambda: next((s for s in two if s.exit_code() is not None), None), timeout=60)
            assert loser.exit_code() == 3
            self.scheduler = next(s for s in two if s is not loser)
        self._suffer("scheduler", rival, settle, 5)

    def _kill_executor(self):
        executor = self._chance.choice(self._daemons.executors)
        self._suffer(executor.name, executor.kill, executor.start, 10)

    def _freeze_executor(self):
        executor = self._chance.choice(self._daemons.executors)
        self._suffer(executor.name, executor.stop, executor.cont, 40)

    def _cut_off_executor(self):
        executor = self._chance.choice(self._daemons.executors)
        mode = self._chance.choice([REFUSE, BLACKHOLE, DROP_REPLIES])

        def cut_off():
            executor.proxy.mode = mode

        def connect():
            executor.proxy.mode = PASS
            executor.proxy.reset()  # what was dropped would never be missed
        self._suffer(executor.name, cut_off, connect, 30)

    def _fail_requests(self):
        match = self._chance.choice([
            {"method": "POST", "path": "/volumesnapshots"}, {"method": "DELETE"}, {"method": "PATCH"},
            {"method": "GET"}, {}])
        times = self._chance.randint(1, 10)
        fault = self._chance.choice([
            lost_reply(times=times, **match), timeout_after_commit(times=times, **match),
            too_many_requests(2, times=times, **match), Fault(cut=True, times=times, **match),
            Fault(code=500, reason="InternalError", times=times, **match),
            Fault(hold=True, times=times, **match), Fault(hold=True, commit=True, times=times, **match),
            expired_watch(times=times)])
        self._suffer("API requests", lambda: self._api.add(fault), lambda: self._api.remove(fault), 15)

    def _break_watches(self):
        self._suffer("API watches", self._api.break_streams, lambda: None, 5)

    def _freeze_api_server(self):
        self._suffer("API server", self._cluster.apiserver.stop, self._cluster.apiserver.cont, 12)

    def _fail_driver(self):
        rules = [{"method": self._chance.choice(["CreateSnapshot", "DeleteSnapshot"]), "code": "UNAVAILABLE",
                  "message": "not now"}]
        if self._chance.random() < 0.5:
            rules = [{"method": "CreateSnapshot", "readyAfterSeconds": -1}]
        self._suffer("CSI driver", lambda: self._cluster.control_csi(*rules), self._cluster.control_csi, 10)

    def _kill_sidecar(self):
        process = self._chance.choice([self._cluster.snapshot_controller, self._cluster.csi_snapshotter])
        self._suffer(process.name, process.kill, process.start, 5)


def test_chaos_of_all_kinds_leaves_each_instant_taken_once_or_counted(cluster, deployment, binaries, tmp_path):
    seed = int(os.environ.get("SNAPKEEPER_CHAOS_SEED", random.randrange(10**6)))
    print(f"SNAPKEEPER_CHAOS_SEED={seed}")
    namespace = f"soak-{os.urandom(3).hex()}"
    cluster.admin.create(manifests.namespace(namespace))
    log_begin = AuditLog(cluster.audit_log).offset
    api = ApiProxy(cluster)
    claims, policies = {}, {}
    for policy in PERIODS:
        for n in range(CLAIMS):
            cluster.admin.create(manifests.claim(namespace, f"{policy}-{n}", labels={"policy": policy}))
        claims[policy] = [cluster.wait_bound(namespace, f"{policy}-{n}") for n in range(CLAIMS)]
        cluster.admin.create(manifests.snapshot(namespace, f"foreign-{policy}", f"{policy}-0"))
    with Daemons(cluster, deployment, binaries, tmp_path, api_url=api.url, only_namespace=namespace) as daemons:
        daemons.scheduler.wait_ready()
        for policy, period in PERIODS.items():
            policies[policy] = cluster.admin.create(manifests.policy(
                namespace, policy, f"@every {period}s", selector={"matchLabels": {"policy": policy}},
                startingDeadlineSeconds=SECONDS + 300, retention={"keepLast": KEEP}, runHistoryLimit=20))
        misfortunes = Misfortunes(random.Random(seed), cluster, api, daemons)
        try:
            misfortunes.go_on(time.time() + SECONDS)
            api.clear()
            healed = time.time()
            for daemon in (misfortunes.scheduler, *daemons.executors):
                daemon.wait_ready(timeout=60)

            def quiet(policy):
                status = cluster.admin.get("SnapshotPolicy", namespace, policy)["status"]
                runs = status["recentRuns"]
                return (oracle.parse_time(runs[0]["scheduledTime"]) > healed + 30
                        and all(run["state"] not in oracle.OPEN for run in runs)
                        and 1 < time.time() % PERIODS[policy] < PERIODS[policy] - 1)
            statuses, ends = {}, {}
            for policy in PERIODS:
                wait_until(f"{policy} to be quiet", lambda: quiet(policy), timeout=240, poll=0.2)
                cluster.admin.patch("SnapshotPolicy", namespace, policy, {"spec": {"suspend": True}})
                ends[policy] = time.time()
                statuses[policy] = wait_until("the suspension to be seen", lambda: (
                    s := cluster.admin.get("SnapshotPolicy", namespace, policy)["status"])
                    and s["observedGeneration"] == 2 and s)
        except Exception as e:
            e.add_note("\n".join(misfortunes.told))
            raise
        finally:
            for line in misfortunes.told:
                print(line)
            for daemon in daemons.all:
                print(daemon.log_tail(60))
            cluster.apiserver.cont()
            cluster.control_csi()
    api.close()

    log = AuditLog(cluster.audit_log, log_begin)
    lives = log.snapshots(namespace)
    executor = deployment.user("executor")
    for policy, period in PERIODS.items():
        names = {claim["metadata"]["name"] for claim in claims[policy]}
        ours = [life for life in lives if life.claim in names and life.created_by == executor]
        created = oracle.parse_time(policies[policy]["metadata"]["creationTimestamp"])
        due = oracle.instants(f"@every {period}s", created + 1, ends[policy])
        labels = {life.object["metadata"]["labels"]["snapkeeper.io/instant"] for life in ours}
        taken = [i for i in due if oracle.instant_text(i) in labels]
        verdict = oracle.check(policies[policy], claims[policy], taken, ours, keep=KEEP)
        assert verdict.clean, f"{policy}: {verdict}"
        writes = [r.body["status"] for r in log.requests if r.resource == "snapshotpolicies/status" and r.code == 200
                  and r.namespace == namespace and r.name == policy]
        faults = oracle.record_faults(writes)
        assert not faults, faults
        last = {oracle.parse_time(run["scheduledTime"]): run for write in writes for run in write.get("recentRuns", [])}
        # Where both executors are away for long, an instant comes while ten runs are open.
        skipped = [time for time, run in last.items() if run["state"] == "Skipped"]
        assert all({f["reason"] for f in last[time]["failures"]} == {"TooManyOpen"} for time in skipped), last
        assert sorted(set(last) - set(skipped)) == taken
        assert {last[time]["state"] for time in taken} == {"Succeeded"}, last
        missed = [oracle.instant_text(i) for i in due if i not in taken and i not in skipped]
        print(f"{policy}: {len(due)} instants, {len(missed)} missed, {len(skipped)} skipped")
        assert len(missed) == statuses[policy].get("missedRuns", 0), (missed, statuses[policy])
    assert [life.deleted for life in lives if life.created_by != executor] == [None] * len(PERIODS)
