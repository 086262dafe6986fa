"""The judge is judged: what it must accuse, and what not."""

import dataclasses
import json

import oracle
from audit import AuditLog, SnapshotLife

POLICY = {"metadata": {"uid": "11111111-1111-1111-1111-111111111111"}}
CLAIM = {"metadata": {"uid": "22222222-2222-2222-2222-222222222222", "name": "data"}}
FIRST = 1795359600  # 2026-11-22T15:00:00Z
DUE = [FIRST, FIRST + 10, FIRST + 20]


def life(instant, **changes):
    name = oracle.snapshot_name(POLICY["metadata"]["uid"], instant, CLAIM["metadata"]["uid"], "data")
    made = {"spec": {"source": {"persistentVolumeClaimName": "data"}}}
    return dataclasses.replace(
        SnapshotLife("ns", name, f"uid-{instant}", made, "executor", instant + 0.01, ready=instant + 1), **changes)


def accused(lives, keep=1):
    verdict = oracle.check(POLICY, [CLAIM], DUE, lives, keep, max_late=5)
    return {field: lines for field, lines in dataclasses.asdict(verdict).items() if lines}


def test_names_are_those_of_the_design():
    assert life(FIRST).name == "data-d2blg63bses24tt42xpiojfrcu"
    assert oracle.snapshot_name("p", FIRST, "c", "a.b" + "-" * 40).startswith("a-b-")


def test_instants_are_those_between_both_ends():
    assert oracle.instants("@every 10s", FIRST, FIRST + 20) == DUE
    assert oracle.instants("@every 10s", FIRST + 0.1, FIRST + 19.9) == [FIRST + 10]
    assert len(oracle.instants("* * * * *", FIRST, FIRST + 86400 - 1)) == 1440


def test_a_faultless_history_is_clean():
    lives = [life(i) for i in DUE]
    lives[0] = life(FIRST, deleted=FIRST + 15, deleted_by="executor")
    assert accused(lives) == {}


def test_each_fault_is_found_and_called_by_its_name():
    good = [life(i) for i in DUE]
    assert list(accused(good[1:])) == ["missing"]
    assert list(accused([*good, life(FIRST + 5)])) == ["extra"]
    assert list(accused([*good, life(FIRST, uid="second", posted=FIRST + 3)])) == ["extra"]
    assert list(accused([life(FIRST, posted=FIRST + 5.1), *good[1:]])) == ["late"]
    assert list(accused([life(FIRST, posted=FIRST - 0.1), *good[1:]])) == ["late"]
    assert list(accused([life(FIRST, ready=None), *good[1:]])) == ["unready"]
    assert list(accused([life(FIRST, deleted=FIRST + 5), *good[1:]])) == ["deleted_good"]
    assert list(accused([life(FIRST, deleted=FIRST + 15), *good[1:]], keep=2)) == ["deleted_good"]


def test_what_was_carried_out_although_its_client_was_gone_counts_from_then(tmp_path):
    made = {"metadata": {"name": "s", "uid": "u"}, "spec": {"source": {"persistentVolumeClaimName": "data"}}}
    ready = {**made, "status": {"readyToUse": True}}
    deleting = {**ready, "metadata": {**made["metadata"], "deletionTimestamp": "2026-11-22T15:00:03Z"}}

    def event(second, verb, code, body=None, answer=None, resource="volumesnapshots"):
        at = f"2026-11-22T15:00:{second:02}.000000Z"
        return {"stage": "ResponseComplete", "verb": verb, "user": {"username": verb + "r"}, "requestURI": "/",
                "objectRef": {"resource": resource, "namespace": "ns", "name": "s"}, "requestReceivedTimestamp": at,
                "stageTimestamp": at, "responseStatus": {"code": code}, "requestObject": body, "responseObject": answer}

    def lives(*events):
        log = tmp_path / "audit.log"
        log.write_text("".join(json.dumps(e) + "\n" for e in events))
        [life] = AuditLog(log).snapshots()
        return (life.ready and life.ready - FIRST, life.deleted and life.deleted - FIRST, life.deleted_by)

    create = event(0, "create", 201, made, made)
    lost_ready, lost_delete = event(1, "update", 504, ready), event(3, "delete", 504)
    assert lives(create, lost_ready, event(2, "update", 200, ready, ready)) == (1, None, None)
    assert lives(create, lost_ready, event(2, "update", 200, made, made)) == (None, None, None)
    assert lives(create, event(2, "update", 200, ready, ready)) == (2, None, None)
    assert lives(create, lost_delete, event(5, "update", 200, deleting, deleting)) == (5, 3, "deleter")
    assert lives(create, lost_delete) == (None, None, None)


def status(*runs, epoch=1, watermark="2026-11-22T15:00:00Z"):
    entries = [{"scheduledTime": t, "state": state, "counts": counts} for t, state, counts in runs]
    return {"epoch": epoch, "lastScheduleTime": watermark, "recentRuns": entries}


def test_each_fault_of_the_record_is_found():
    first, second = "2026-11-22T15:00:00Z", "2026-11-22T15:00:10Z"
    open_run = (first, "Settling", {"selected": 2, "pending": 1, "succeeded": 1})
    failed = (first, "PartiallySucceeded", {"selected": 2, "failed": 1, "succeeded": 1})
    late = (first, "Succeeded", {"selected": 2, "succeededLate": 1, "succeeded": 1})
    assert oracle.record_faults([{}, status(open_run), status(failed), status(late, epoch=2, watermark=second)]) == []
    accused = [
        ([status(late), status(failed)], "after"),
        ([status(failed), status(open_run)], "Settling after"),
        ([status(epoch=2), status()], "epoch 1 after 2"),
        ([status(watermark=second), status()], "watermark"),
        ([status((first, "Succeeded", {"selected": 2, "succeeded": 1}))], "do not add up"),
        ([status(failed, failed)], "two entries"),
    ]
    for statuses, words in accused:
        [fault] = oracle.record_faults(statuses)
        assert words in fault
