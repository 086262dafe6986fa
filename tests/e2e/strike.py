"""One installation of ours, struck while its snapshots stand at every step of their life."""

import contextlib
import re
import threading
import time

import manifests
import oracle
import records
from daemons import Daemons
from process import wait_until
from proxy import BLACKHOLE, PASS, REFUSE, ApiProxy, Fault

# Where a volume's instant stands when the strike comes.
STEPS = {
    "before-post": "the POST has left the executor and never arrives",
    "post-delayed": "the POST has left the executor and arrives after the strike",
    "reply-lost": "the POST was carried out, the executor never hears of it",
    "created": "the object exists, its volume is not cut",
    "awaiting": "cut, not ready",
    "ready-untold": "ready, and the executor is about to make sure of it",
    "outcome-sent": "ready and said so; the stream to the scheduler stands still, and ends with whoever is killed",
    "plan-read": "ready and told; the executor's fresh LIST for the prune of the earlier one is on its way back",
    "delete-sent": "the earlier one's DELETE was carried out, the executor never hears of it",
    "delete-delayed": "the earlier one's DELETE has left the executor and arrives after the strike",
}
NOT_POSTED = ("before-post", "post-delayed")
PRUNING = ("plan-read", "delete-sent", "delete-delayed")
POSTING = (*NOT_POSTED, "reply-lost")
NOT_READY = (*POSTING, "created", "awaiting")
PERIOD = 6  # of the policy that goes on firing through the strike
PASSING = "passing"
POLL = 0.5
LEAD = 5  # seconds from the writing of a schedule to its instant


class CsiRules:
    """The CSI driver's switches, which all installations share."""

    def __init__(self, cluster):
        self._cluster = cluster
        self._lock = threading.Lock()
        self._rules = {}

    def set(self, owner, rules):
        with self._lock:
            self._rules[owner] = rules
            self._cluster.control_csi(*(rule for rules in self._rules.values() for rule in rules))


class Site:
    """A scheduler, the executor that has all the work, another one, and `count` policies of one claim for each step.

    Each policy has two instants: the first is undisturbed, the second is struck; keepLast is 1, so that the first
    instant's snapshot goes once the second's is ready. `wait`: seconds between the last volume's arrival at its step
    and the strike; `release_after`: from the strike to the end of what held the steps up; `freeze`: how long a frozen
    process stands still. `turn`: a semaphore, held until the strike: what leads to it makes work for all, and some of
    it must be done in time.
    """

    def __init__(self, cluster, deployment, binaries, directory, namespace, rules, turn,
                 count, wait, release_after, freeze):
        self.namespace = namespace
        self._cluster = cluster
        self._admin = cluster.admin
        self._deployment = deployment
        self._binaries = binaries
        self._directory = directory
        self._rules = rules
        self._turn = turn
        self._count = count
        self._wait = wait
        self._release_after = release_after
        self._freeze = freeze
        self.claims, self.policies = {}, {}  # by name: a policy is called as its claim
        self.second = {}  # by step
        self.exit_code = None  # of a scheduler that had to leave

    def run(self, strike):
        """The strike is the name of one of the methods below."""
        with contextlib.ExitStack() as self._until_struck:
            self._until_struck.enter_context(self._turn)
            return self._run(strike)

    def _run(self, strike):
        self._directory.mkdir()
        self._make_claims()
        self._api = ApiProxy(self._cluster)
        daemons = []
        try:
            with Daemons(self._cluster, self._deployment, self._binaries, self._directory, 
                         api_url={"executor": self._api.url}, only_namespace=self.namespace) as self._daemons:
                daemons = self._daemons.all
                self._executor, self._other = self._daemons.executors
                self._scheduler = self._daemons.scheduler.wait_ready()
                self._other.proxy.mode = REFUSE
                self._take_first()
                self._bring_to_steps()
                self._pass_seconds(self._wait)
                self._send_outcomes()
                self._strike(strike)
                self._settle()
        except Exception as e:
            e.add_note("\n".join([f"while {strike} in {self.namespace}", *(d.log_tail(40) for d in daemons)]))
            raise
        finally:
            self._let_go()
            self._api.close()
        return self

    def names(self, *steps):
        return [f"{step}-{n}" for step in steps for n in range(self._count)]

    # --- strikes

    def kill_executor(self):
        self._executor.kill()
        self._executor.proxy.reset()
        self._begin()
        self._executor.start()

    def kill_scheduler(self):
        self._scheduler.kill()
        self._executor.proxy.reset()
        self._begin()
        self._return(self._scheduler.start)

    def kill_both(self):
        self._executor.kill()
        self._scheduler.kill()
        self._executor.proxy.reset()
        self._begin()
        self._executor.start()
        self._return(self._scheduler.start)

    def freeze_executor(self):
        self._executor.stop()
        self._begin(stream=BLACKHOLE)
        self._pass_seconds(self._freeze)
        self._executor.cont()
        self._executor.proxy.mode = PASS

    def freeze_scheduler(self):
        self._scheduler.stop()
        self._begin()
        self._pass_seconds(self._freeze)
        self._return(self._scheduler.cont)

    def freeze_both(self):
        self._scheduler.stop()
        self._executor.stop()
        self._begin()
        self._pass_seconds(self._freeze)
        self._executor.cont()
        self._return(self._scheduler.cont)

    def two_schedulers(self):
        """The second one comes while the first is well."""
        old = self._scheduler
        self._begin()
        self._return(self._second)
        self._await_exit(old)

    def replaced_scheduler(self):
        """The second one comes while the first is frozen, which then goes on as if nothing had been."""
        old = self._scheduler
        old.stop()
        self._begin()
        self._return(self._second)
        self._pass_seconds(self._freeze)
        old.cont()
        self._await_exit(old)

    # --- the course

    def _make_claims(self):
        self._admin.create(manifests.namespace(self.namespace))
        names = [*self.names(*STEPS), PASSING]
        for name in names:
            self._admin.create(manifests.claim(self.namespace, name, labels={"policy": name}))
        self.claims = {name: self._cluster.wait_bound(self.namespace, name, timeout=60) for name in names}
        self._handles = {name: self._cluster.volume_handle(claim) for name, claim in self.claims.items()}

    def _take_first(self):
        self._admin.create(manifests.snapshot(self.namespace, "foreign", "delete-sent-0"))
        schedule, self.first = records.fires_once(time.time() + LEAD)
        for name in self.names(*STEPS):
            self._make_policy(name, schedule)
        self._make_policy(PASSING, f"@every {PERIOD}s")
        assert time.time() < self.first, f"making the policies took longer than {LEAD} s"
        self._wait_until("the first instant's outcomes", lambda: all(
            self._settled(status, self.first) for name, status in self._statuses().items() if name != PASSING))

    def _make_policy(self, name, schedule):
        self.policies[name] = self._admin.create(manifests.policy(
            self.namespace, name, schedule, selector={"matchLabels": {"policy": name}}, startingDeadlineSeconds=300,
            retention={"keepLast": 1}, runHistoryLimit=20))

    def _bring_to_steps(self):
        def post(step, **what):
            return Fault("POST", "/volumesnapshots", asks=f'"persistentVolumeClaimName": ?"{step}-', hold=True,
                         times=self._count, **what)

        def delete(step, **what):
            return Fault("DELETE", f"/volumesnapshots/{step}-", hold=True, times=self._count, **what)

        def rule(step, **what):
            return [{"method": "CreateSnapshot", "volume": self._handles[name], **what}
                    for name in self.names(step)]

        faults = {
            "before-post": post("before-post", cut=True),
            "post-delayed": post("post-delayed"),
            "reply-lost": post("reply-lost", commit=True, cut=True),
            "plan-read": Fault("GET", r"/volumesnapshots\?.*(%s)" % "|".join(
                self.policies[name]["metadata"]["uid"] for name in self.names("plan-read")),
                commit=True, hold=True, times=self._count),
            "delete-sent": delete("delete-sent", commit=True, cut=True),
            "delete-delayed": delete("delete-delayed"),
        }
        for fault in faults.values():
            self._api.add(fault)
        failing = rule("created", code="UNAVAILABLE", message="not yet")
        unready = {step: rule(step, readyAfterSeconds=-1) for step in STEPS if step != "created"}

        # First all that may take its time. What is held after that stands for no longer than its deadline.
        self._rules.set(self.namespace, sum(unready.values(), failing))
        self._fire_second([step for step in STEPS if step not in POSTING])
        made = self._wait_until("the second instant's cuts", self._all_cut)
        faults["ready-untold"] = self._api.add(Fault(
            "GET", "/volumesnapshotcontents/snapcontent-(%s)" % "|".join(
                s["metadata"]["uid"] for s in made["ready-untold"]), hold=True, times=self._count))
        self._fire_second(POSTING)
        self._still_unready = sum((unready[step] for step in ("awaiting", *POSTING)), failing)
        self._rules.set(self.namespace, self._still_unready + unready["outcome-sent"])
        try:
            self._wait_until("each volume to be at its step", lambda: self._all_held(faults), timeout=LEAD + 25)
        except TimeoutError as e:
            e.add_note(f"held requests: { {step: fault.hits for step, fault in faults.items()} }")
            raise

    def _send_outcomes(self):
        self._executor.proxy.mode = BLACKHOLE
        self._rules.set(self.namespace, self._still_unready)
        self._wait_until("the outcomes to be sent", lambda: len(re.findall(
            r"msg=ready .*policy=\S+/outcome-sent-", self._executor.log_text())) == 2 * self._count)

    def _fire_second(self, steps):
        schedule, instant = records.fires_once(time.time() + LEAD)
        for step in steps:
            self.second[step] = instant
        for name in self.names(*steps):
            self._admin.patch("SnapshotPolicy", self.namespace, name, {"spec": {"schedule": schedule}})

    def _made(self, steps):
        """The second instant's snapshots, by step; None until all of these steps are made."""
        found = {}
        for snapshot in self._admin.list("VolumeSnapshot", self.namespace):
            step = snapshot["spec"]["source"]["persistentVolumeClaimName"].rpartition("-")[0]
            instant = snapshot["metadata"].get("labels", {}).get("snapkeeper.io/instant")
            if step in self.second and instant == oracle.instant_text(self.second[step]):
                found.setdefault(step, []).append(snapshot)
        return found if all(len(found.get(step, [])) == self._count for step in steps) else None

    def _all_cut(self):
        """The second instant's snapshots, once all are cut, or known to the executor where they are not to be cut."""
        made = self._made(self.second)
        log = self._executor.log_text()
        return made if made and all(
            re.search(rf"msg=created .*snapshot={s['metadata']['name']} ", log) if step == "created"
            else s.get("status", {}).get("creationTime") for step in made for s in made[step]) else None

    def _all_held(self, faults):
        return all(fault.hits >= fault.times for fault in faults.values()) and self._made(["reply-lost"])

    def _strike(self, strike):
        self._timer = threading.Timer(self._release_after, self._let_go)
        getattr(self, strike)()
        self._timer.join()

    def _begin(self, stream=PASS):
        """Called when the strike has fallen: from now on the other executor helps, and soon nothing is held up."""
        self.struck = self.dark_until = self.back = time.time()
        self._until_struck.close()
        self._executor.proxy.mode = stream
        self._other.proxy.mode = PASS
        self._timer.start()

    def _return(self, how):
        """A scheduler comes, or comes back."""
        self.dark_until = time.time()
        how()
        self._scheduler.wait_ready()
        self.back = time.time()

    def _second(self):
        self._scheduler = self._daemons.start_scheduler("scheduler-2")

    def _await_exit(self, old):
        wait_until("the older scheduler to leave", lambda: old.exit_code() is not None)
        self.exit_code = old.exit_code()

    def _let_go(self):
        self._api.clear()
        self._rules.set(self.namespace, [])

    def _settle(self):
        """Until every instant has its outcome and what was to be pruned is; ends the firing."""
        def done():
            statuses = self._statuses()
            firsts = self._admin.list("VolumeSnapshot", self.namespace, labels=(
                f"snapkeeper.io/instant={oracle.instant_text(self.first)},"
                f"snapkeeper.io/policy-uid!={self.policies[PASSING]['metadata']['uid']}"))
            return (all(self._settled(statuses[name], instant) for step in STEPS for name in self.names(step)
                        for instant in (self.first, self.second[step]))
                    and all("deletionTimestamp" in s["metadata"] for s in firsts))

        def quiet():
            now = time.time()
            newest = now // PERIOD * PERIOD
            runs = self._statuses()[PASSING].get("recentRuns", [])
            return (now < newest + PERIOD - 1 and newest > self.back and runs and
                    oracle.parse_time(runs[0]["scheduledTime"]) == newest and
                    all(run["state"] not in oracle.OPEN for run in runs))

        self._wait_until("every outcome", done, timeout=90)
        self._wait_until("the last run", quiet, timeout=60)
        self._admin.patch("SnapshotPolicy", self.namespace, PASSING, {"spec": {"suspend": True}})
        self.end = time.time()
        self._wait_until("the suspension to be seen", lambda: (
            self._statuses()[PASSING]["observedGeneration"] == 2))
        self.statuses = self._statuses()

    def _statuses(self):
        return {p["metadata"]["name"]: p.get("status", {}) for p in self._admin.list("SnapshotPolicy", self.namespace)}

    @staticmethod
    def _settled(status, instant):
        run = records.run_in(status, instant)
        return run is not None and run["state"] not in oracle.OPEN

    def _wait_until(self, what, condition, timeout=60):
        running = [d for d in self._daemons.all if d.exit_code() is None]
        try:
            return wait_until(what, condition, timeout, alive=running, poll=POLL)
        except TimeoutError as e:
            for step, status in self._statuses().items():
                e.add_note(f"{step}: {status.get('recentRuns')}")
            raise

    @staticmethod
    def _pass_seconds(seconds):
        end = time.monotonic() + seconds
        wait_until("time to pass", lambda: time.monotonic() >= end, timeout=seconds + 60, poll=POLL)
