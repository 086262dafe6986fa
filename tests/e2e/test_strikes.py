"""Kills, freezes and rival schedulers at each step of a snapshot's life: one snapshot and one outcome all the same.

Each strike has an installation of its own (scheduler, two executors, one Lease, one namespace); they overlap. In
each, volumes are brought to every step (strike.STEPS) by holding the executor's requests in a proxy before the API
server and by switches of the CSI driver; then one strike hits them all. What was held goes on after the strike: at once
(kills), or past its post-before (freezes, two schedulers). A policy that fires every 6 seconds goes on through it.

How long a freeze lasts: a stream is given up after 15 s of silence, a request after 30 s, a prune plan is void
after 30 s, post-before is 2.5 s after dispatch (half the quarantine): 35 s are beyond all of these. Watches are given
up after 130 s of silence: too long for CI. The chaos form freezes for 140 s; it strikes 4 volumes a step in each of 5
rounds, up to 8 s after all have come to their steps, and lets go of what was held up to 8 s later.
"""

import concurrent.futures
import dataclasses
import os
import random
import threading

import pytest

import oracle
import records
from audit import AuditLog
from strike import NOT_POSTED, NOT_READY, PASSING, PERIOD, PRUNING, STEPS, CsiRules, Site

KILLS = ("kill_executor", "kill_scheduler", "kill_both")
FREEZES = ("freeze_executor", "freeze_scheduler", "freeze_both", "replaced_scheduler")
STRIKES = (*FREEZES, "two_schedulers", *KILLS)  # the long ones first
AT_ONCE = 8
CHAOS_ROUNDS = 5
CHAOS_COUNT = 4  # volumes at each step


@dataclasses.dataclass
class Outcome:
    site: Site
    lives: list  # of snapshots in its namespace
    writes: dict  # by policy: the successful status writes (Request)
    executor: str  # user


@pytest.fixture(scope="module")
def outcomes(request, cluster, deployment, binaries, tmp_path_factory):
    """strike -> [Outcome], of the strikes that the selected tests ask for."""
    def sites(strike, rules, turn):
        return [Site(cluster, deployment, binaries, tmp_path_factory.mktemp(strike) / "daemons", namespace(strike),
                     rules, turn, count=1, wait=0, release_after=0 if strike in KILLS else 4, freeze=35)]
    yield from strike_all(request, "outcomes", sites, cluster, deployment, coming=4)


@pytest.fixture(scope="module")
def chaos_outcomes(request, cluster, deployment, binaries, tmp_path_factory):
    seed = int(os.environ.get("SNAPKEEPER_CHAOS_SEED", random.randrange(10**6)))
    print(f"SNAPKEEPER_CHAOS_SEED={seed}")

    def sites(strike, rules, turn):
        for n in range(CHAOS_ROUNDS):
            chance = random.Random(f"{seed} {strike} {n}")
            yield Site(cluster, deployment, binaries, tmp_path_factory.mktemp(strike) / "daemons", namespace(strike),
                       rules, turn, count=CHAOS_COUNT, wait=chance.uniform(0, 8),
                       release_after=chance.uniform(0, 8), freeze=140)
    yield from strike_all(request, "chaos_outcomes", sites, cluster, deployment, coming=2)


def namespace(strike):
    return f"{strike.replace('_', '-')}-{os.urandom(3).hex()}"


def strike_all(request, fixture, sites, cluster, deployment, coming):
    """`coming`: how many may be on their way to the strike at a time."""
    wanted = {item.callspec.params["strike"] for item in request.session.items if fixture in item.fixturenames}
    strikes = [strike for strike in STRIKES if strike in wanted]
    log_begin = AuditLog(cluster.audit_log).offset
    rules = CsiRules(cluster)
    turn = threading.Semaphore(coming)
    all_sites = {strike: list(sites(strike, rules, turn)) for strike in strikes}
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        runs = {strike: [pool.submit(site.run, strike) for site in all_sites[strike]] for strike in strikes}
    log = AuditLog(cluster.audit_log, log_begin)
    executor = deployment.user("executor")

    def judged(run):
        site = run.result()
        writes = {name: [] for name in site.policies}
        for r in log.requests:
            if r.resource == "snapshotpolicies/status" and r.code == 200 and r.namespace == site.namespace:
                writes[r.name].append(r)
        return Outcome(site, log.snapshots(site.namespace), writes, executor)

    yield lambda strike: [judged(run) for run in runs[strike]]
    cluster.kubectl("delete", "namespace", "--wait=false", "--ignore-not-found",
                    *(site.namespace for of_strike in all_sites.values() for site in of_strike))


@pytest.mark.parametrize("strike", STRIKES)
@pytest.mark.parametrize("step", STEPS)
def test_a_struck_instant_has_one_snapshot_and_one_outcome(outcomes, strike, step):
    for outcome in outcomes(strike):
        check_step(outcome, step)


@pytest.mark.parametrize("strike", STRIKES)
def test_instants_that_pass_meanwhile_fire_or_are_counted(outcomes, strike):
    for outcome in outcomes(strike):
        check_passing(outcome)


@pytest.mark.parametrize("strike", ["two_schedulers", "replaced_scheduler"])
def test_the_later_scheduler_wins_and_the_older_one_leaves(outcomes, strike):
    for outcome in outcomes(strike):
        check_succession(outcome)


@pytest.mark.parametrize("strike", STRIKES)
def test_chaos_struck_instants_have_one_snapshot_and_one_outcome(chaos_outcomes, strike):
    struck = 0
    for outcome in chaos_outcomes(strike):
        for step in STEPS:
            check_step(outcome, step)
        check_passing(outcome)
        if strike in ("two_schedulers", "replaced_scheduler"):
            check_succession(outcome)
        struck += CHAOS_COUNT
    assert struck >= 20  # (claim, instant) at each step


def check_step(outcome, step):
    site = outcome.site
    instants = [site.first, site.second[step]]
    for name in site.names(step):
        lives = [life for life in outcome.lives if life.claim == name and life.name != "foreign"]
        verdict = oracle.check(site.policies[name], [site.claims[name]], instants, lives, keep=1)
        assert verdict.clean, str(verdict)
        first, second = by_instant(lives)
        # The strike fell where it was meant to.
        assert (second.posted < site.struck) == (step not in NOT_POSTED), second
        assert (second.ready < site.struck) == (step not in NOT_READY), second
        if step in PRUNING:
            assert (first.deleted < site.struck) == (step == "delete-sent"), first
        assert first.created_by == second.created_by == first.deleted_by == outcome.executor
        assert second.deleted is None

        status = site.statuses[name]
        assert status.get("missedRuns", 0) == 0, status
        assert len(status["recentRuns"]) == 2, status
        for life, instant in zip((first, second), instants):
            run = records.run_in(status, instant)
            assert run["state"] == "Succeeded" and not run["failures"], run
            assert {k: count for k, count in run["counts"].items() if count} == {"selected": 1, "succeeded": 1}, run
            for write in outcome.writes[name]:
                said = records.run_in(write.body["status"], instant)
                assert not (said and said["counts"]["succeeded"]) or life.ready < write.received, "said too early"
        check_record(outcome, name)


def check_passing(outcome):
    site = outcome.site
    claim = site.claims[PASSING]
    status = site.statuses[PASSING]
    policy = site.policies[PASSING]
    lives = [life for life in outcome.lives if life.claim == claim["metadata"]["name"]]
    due = oracle.instants(f"@every {PERIOD}s", oracle.parse_time(policy["metadata"]["creationTimestamp"]) + 1, site.end)
    taken = [i for i in due if oracle.instant_text(i) in {instant_of(life) for life in lives}]
    missed = [i for i in due if i not in taken]
    verdict = oracle.check(policy, [claim], taken, lives, keep=1)
    assert verdict.clean, str(verdict)
    assert len(missed) == status.get("missedRuns", 0), f"{missed} not taken; {status}"
    # One catch-up run for all that passed while nobody scheduled, and for those that had to wait for an earlier one's
    # snapshot, so that nothing of them was to be seen when their scheduler died.
    seen = max((i for i, life in zip(taken, by_instant(lives)) if life.posted < site.struck), default=0)
    assert all(seen < i <= site.back for i in missed), (seen, missed, site.struck, site.back)
    assert not missed or site.back > site.struck, missed  # a scheduler that was well misses none
    dark = [i for i in due if site.struck < i < site.dark_until]
    assert [i for i in dark if i in taken] in ([], dark[-1:]), (dark, taken)
    assert max(i for i in due if i <= site.back) in taken
    assert [oracle.parse_time(run["scheduledTime"]) for run in status["recentRuns"]] == taken[::-1][:20]
    ended = [run for write in outcome.writes[PASSING] for run in write.body["status"].get("recentRuns", [])
             if run["state"] not in oracle.OPEN]
    assert sorted({oracle.parse_time(run["scheduledTime"]) for run in ended}) == taken
    for run in ended:
        assert run["state"] == "Succeeded" and run["counts"]["selected"] == 1, run
    check_record(outcome, PASSING)
    [foreign] = [life for life in outcome.lives if life.name == "foreign"]
    assert foreign.deleted is None


def check_record(outcome, name):
    faults = oracle.record_faults([write.body["status"] for write in outcome.writes[name]])
    assert not faults, faults


def check_succession(outcome):
    assert outcome.site.exit_code == 3
    assert len({write.body["status"]["epoch"] for write in outcome.writes[PASSING]}) == 2


def by_instant(lives):
    return sorted(lives, key=instant_of)


def instant_of(life):
    return life.object["metadata"]["labels"]["snapkeeper.io/instant"]
