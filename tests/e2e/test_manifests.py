"""What deploy/ makes the API server do: the schema of policies, the fence for late creates, the daemons' rights."""

import datetime
import json

import pytest

import manifests
from api import Api, ApiError, path_of
from conftest import REPOSITORY
from process import wait_until

pytestmark = pytest.mark.usefixtures("deployment")


def test_a_smallest_policy_gets_the_defaults(cluster, namespace):
    spec = cluster.admin.create(manifests.policy(namespace, "p", "@daily"))["spec"]
    assert spec == {
        "schedule": "@daily", "timeZone": "UTC", "suspend": False, "missedRunPolicy": "Latest",
        "concurrencyPolicy": "Forbid", "selector": {}, "retention": {"minReady": 1, "unreadyTtl": "24h"},
        "runHistoryLimit": 5}


@pytest.mark.parametrize("spec", [
    {"timeZone": "America/Argentina/ComodRivadavia"},
    {"timeZone": "Mars/Olympus"},  # judged by the scheduler, not by the schema
    {"schedule": "61 * * * *"},
    {"schedule": ",".join(map(str, range(60))) + " " + ",".join(map(str, range(24))) + " "
                 + ",".join(map(str, range(1, 32))) + " * *"},
    {"suspend": True},
    {"startingDeadlineSeconds": 1},
    {"startingDeadlineSeconds": 2**40},
    {"missedRunPolicy": "Skip"},
    {"concurrencyPolicy": "Forbid"},
    {"snapshotClassName": ""},
    {"snapshotClassName": "csi.fast-0"},
    {"readyTimeoutSeconds": 7200},
    {"retention": {}},
    {"retention": {"keepLast": 1}},
    {"retention": {"keepLast": 24, "maxAge": "2160h", "minReady": 0, "unreadyTtl": "1h30m5s"}},
    {"retention": {"keepLast": 1, "minReady": 5}},
    {"retention": {"maxAge": "0h1s"}},
    {"retention": {"maxAge": "9223372036s"}},
    {"runHistoryLimit": 1},
    {"runHistoryLimit": 20},
    {"selector": {"matchLabels": {"app": "db", "empty": "", "example.com/Tier_1.x": "a.B_c-1"}}},
    {"selector": {"matchLabels": {"a" * 63: "b" * 63}}},
    {"selector": {"matchLabels": {".".join(["a" * 63] * 3 + ["a" * 61]) + "/" + "b" * 63: ""}}},
    {"selector": {"matchLabels": {f"example.com/key-{n}": "v" for n in range(64)}}},
    {"selector": {"matchExpressions": []}},
    {"selector": {"matchExpressions": [
        {"key": "app", "operator": "In", "values": ["db", ""]}, {"key": "x.io/a", "operator": "NotIn", "values": ["b"]},
        {"key": "app", "operator": "Exists"}, {"key": "app", "operator": "DoesNotExist", "values": []}]}},
    {"selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": [str(n) for n in range(256)]}] * 64}},
], ids=lambda spec: json.dumps(spec)[:50])
def test_a_valid_policy_is_taken(cluster, namespace, spec):
    policy = cluster.admin.create({**(p := manifests.policy(namespace, "p", "@daily")), "spec": {**p["spec"], **spec}})
    for key, value in spec.items():
        stored = policy["spec"][key]
        assert ({k: stored[k] for k in value} if key == "retention" else stored) == value


@pytest.mark.parametrize("spec, said", [
    ({"schedule": None}, "spec.schedule: Required value"),
    ({"schedule": ""}, "spec.schedule"),
    ({"schedule": 5}, "spec.schedule"),
    ({"schedule": "1" * 513}, "spec.schedule: Too long"),
    ({"selector": None}, "spec.selector: Required value"),
    ({"selector": []}, "spec.selector"),
    ({"timeZone": "Local"}, "IANA name"),
    ({"timeZone": "local"}, "IANA name"),
    ({"timeZone": ""}, "spec.timeZone"),
    ({"suspend": "yes"}, "spec.suspend"),
    ({"startingDeadlineSeconds": 0}, "spec.startingDeadlineSeconds"),
    ({"startingDeadlineSeconds": 1.5}, "spec.startingDeadlineSeconds"),
    ({"missedRunPolicy": "All"}, 'supported values: "Latest", "Skip"'),
    ({"concurrencyPolicy": "Allow"}, 'supported values: "Forbid"'),
    ({"snapshotClassName": "Not_A_Name"}, "spec.snapshotClassName"),
    ({"snapshotClassName": "a" * 254}, "spec.snapshotClassName"),
    ({"readyTimeoutSeconds": 0}, "spec.readyTimeoutSeconds"),
    ({"runHistoryLimit": 0}, "spec.runHistoryLimit"),
    ({"runHistoryLimit": 21}, "spec.runHistoryLimit"),
    ({"retention": {"keepLast": 0}}, "spec.retention.keepLast"),
    ({"retention": {"keepLast": -1}}, "spec.retention.keepLast"),
    ({"retention": {"keepLast": 2**31}}, "spec.retention.keepLast"),
    ({"retention": {"minReady": -1}}, "spec.retention.minReady"),
    ({"retention": {"minReady": 2**31}}, "spec.retention.minReady"),
    ({"retention": {"maxAge": "0s"}}, "must be above zero"),
    ({"retention": {"maxAge": "0h0m00s"}}, "must be above zero"),
    ({"retention": {"maxAge": "5d"}}, "spec.retention.maxAge"),
    ({"retention": {"maxAge": "1.5h"}}, "spec.retention.maxAge"),
    ({"retention": {"maxAge": "-1h"}}, "spec.retention.maxAge"),
    ({"retention": {"maxAge": "24"}}, "spec.retention.maxAge"),
    ({"retention": {"maxAge": ""}}, "spec.retention.maxAge"),
    ({"retention": {"maxAge": 24}}, "spec.retention.maxAge"),
    ({"retention": {"maxAge": "9999999999999h"}}, "spec.retention.maxAge"),
    ({"retention": {"unreadyTtl": "0h"}}, "must be above zero"),
    ({"retention": {"unreadyTtl": "1day"}}, "spec.retention.unreadyTtl"),
    ({"selector": {"matchLabels": {"app": 5}}}, "spec.selector.matchLabels"),
    ({"selector": {"matchLabels": {"app": "-db"}}}, "spec.selector.matchLabels"),
    ({"selector": {"matchLabels": {"app": "b" * 64}}}, "spec.selector.matchLabels"),
    ({"selector": {"matchLabels": {"a" * 64: "b"}}}, "must be a label key"),
    ({"selector": {"matchLabels": {"_app": "b"}}}, "must be a label key"),
    ({"selector": {"matchLabels": {"": "b"}}}, "must be a label key"),
    ({"selector": {"matchLabels": {"Example.com/app": "b"}}}, "must be a label key"),
    ({"selector": {"matchLabels": {"a/b/c": "b"}}}, "must be a label key"),
    ({"selector": {"matchLabels": {"/app": "b"}}}, "must be a label key"),
    ({"selector": {"matchLabels": {"a" * 254 + "/app": "b"}}}, "must be a label key"),
    ({"selector": {"matchLabels": {f"key-{n}": "v" for n in range(65)}}}, "must have at most 64 items"),
    ({"selector": {"matchExpressions": [{"key": "app", "operator": "Gt", "values": ["1"]}]}}, "operator"),
    ({"selector": {"matchExpressions": [{"operator": "Exists"}]}}, "key: Required value"),
    ({"selector": {"matchExpressions": [{"key": "app"}]}}, "operator: Required value"),
    ({"selector": {"matchExpressions": [{"key": "app", "operator": "In"}]}}, "need values"),
    ({"selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": []}]}}, "need values"),
    ({"selector": {"matchExpressions": [{"key": "app", "operator": "NotIn"}]}}, "need values"),
    ({"selector": {"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["a"]}]}}, "take none"),
    ({"selector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist", "values": ["a"]}]}}, "take none"),
    ({"selector": {"matchExpressions": [{"key": "a b", "operator": "Exists"}]}}, "matchExpressions[0].key"),
    ({"selector": {"matchExpressions": [{"key": "a" * 254 + "/b", "operator": "Exists"}]}}, "253 characters"),
    ({"selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]}}, "values[0]"),
    ({"selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}] * 65}}, "must have at most 64 items"),
], ids=lambda value: json.dumps(value)[:60])
def test_an_invalid_policy_is_refused_with_the_fields_name(cluster, namespace, spec, said):
    policy = manifests.policy(namespace, "p", "@daily")
    policy["spec"] = {k: v for k, v in {**policy["spec"], **spec}.items() if v is not None}
    with pytest.raises(ApiError) as refused:
        cluster.admin.create(policy)
    assert refused.value.code == 422
    assert said in str(refused.value)


def test_a_selector_that_says_null_is_not_every_claim(cluster, namespace):
    policy = manifests.policy(namespace, "p", "@daily")
    policy["spec"]["selector"] = None
    with pytest.raises(ApiError, match="422"):
        cluster.admin.create(policy)


@pytest.mark.parametrize("field", ["jitterSeconds", "adopt", "storageClassNames"])
def test_a_field_that_does_not_work_yet_is_not_in_the_schema(cluster, namespace, field):
    policy = manifests.policy(namespace, "p", "@daily", **{field: 5})
    with pytest.raises(ApiError, match=f'400 .*unknown field "spec.{field}"'):
        cluster.admin.request("POST", path_of("SnapshotPolicy", namespace) + "?fieldValidation=Strict", policy)


STATUS = {
    "observedGeneration": 1,
    "conditions": [{"type": t, "status": "True", "reason": "AsExpected", "message": "", "observedGeneration": 1,
                    "lastTransitionTime": "2026-11-22T15:00:00Z"} for t in ("Ready", "Protected")],
    "lastScheduleTime": "2026-11-22T15:00:00Z", "scheduleHash": "64jru3rdfd2f5mzt2ukwz3ocyi",
    "scheduleSince": "2026-11-22T14:00:00Z", "epoch": 2**40, "lastSuccessfulTime": "2026-11-22T15:00:00Z",
    "nextScheduleTime": "2099-11-22T16:00:00Z", "selectedVolumes": 20, "readySnapshots": 60, "missedRuns": 2**40,
    "recentRuns": [{
        "scheduledTime": "2026-11-22T15:00:00Z", "generation": 1, "state": "PartiallySucceeded",
        "startTime": "2026-11-22T15:00:00Z", "postedTime": "2026-11-22T15:00:01Z",
        "completionTime": "2026-11-22T15:00:02Z",
        "counts": {"selected": 6, "succeeded": 1, "succeededLate": 1, "failed": 1, "skipped": 1, "cancelled": 1,
                   "pending": 1},
        "failures": [{"claim": "d" * 253, "claimUID": "22222222-2222-2222-2222-222222222222", "snapshot": "s" * 253,
                      "outcome": "Failed", "reason": "NotReadyInTime", "message": "m" * 256}] * 10,
        "failuresOmitted": 3}] * 40,
}


def test_the_whole_status_is_stored_through_its_subresource_alone(cluster, namespace):
    cluster.admin.create({**manifests.policy(namespace, "p", "@daily"), "status": STATUS})
    assert "status" not in cluster.admin.get("SnapshotPolicy", namespace, "p")
    patched = cluster.admin.patch("SnapshotPolicy", namespace, "p", {"status": STATUS}, "status")
    assert patched["status"] == STATUS
    assert patched["metadata"]["generation"] == 1
    # Absent times are written as null, which a merge patch deletes.
    patched = cluster.admin.patch("SnapshotPolicy", namespace, "p", {"status": {
        "lastSuccessfulTime": None, "recentRuns": [], "conditions": [], "scheduleHash": ""}}, "status")
    assert "lastSuccessfulTime" not in patched["status"]


def test_the_columns_tell_what_matters(cluster, namespace):
    cluster.admin.create(manifests.policy(namespace, "hourly", "0 * * * *"))
    cluster.admin.patch("SnapshotPolicy", namespace, "hourly", {"status": STATUS}, "status")
    for name in ("spol", "snapkeeper"):
        header, row = cluster.kubectl("-n", namespace, "get", name).stdout.splitlines()
        assert header.split() == ["NAME", "SCHEDULE", "SUSPEND", "VOLUMES", "LAST-SUCCESS", "NEXT", "READY", "AGE"]
        cells = row.split()
        assert cells[:8] == ["hourly", "0", "*", "*", "*", "*", "false", "20"]
        assert cells[9:11] == ["2099-11-22T16:00:00Z", "True"]


def snapshot(namespace, post_before, name="snap"):
    return manifests.snapshot(namespace, name, "data", annotations={"snapkeeper.io/post-before": post_before})


def from_now(**delta):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**delta)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_late_create_is_refused_with_both_times(cluster, namespace):
    late = from_now(seconds=-5)
    with pytest.raises(ApiError) as refused:
        cluster.admin.create(snapshot(namespace, late))
    assert refused.value.code == 422 and refused.value.reason == "Invalid"
    assert f"after snapkeeper.io/post-before {late}" in str(refused.value)
    assert "created at 20" in str(refused.value)


def test_the_servers_type_check_has_nothing_against_the_fence(cluster):
    def checked():
        fence = cluster.admin.get("ValidatingAdmissionPolicy", "", "snapkeeper-late-create")
        status = fence.get("status", {})
        return status if status.get("observedGeneration") == fence["metadata"]["generation"] else None

    assert wait_until("the type check", checked).get("typeChecking", {}) == {}


@pytest.mark.parametrize("text", ["", "soon", "2026-11-22", "1795359600"])
def test_an_unreadable_post_before_is_refused(cluster, namespace, text):
    with pytest.raises(ApiError, match="422"):
        cluster.admin.create(snapshot(namespace, text))


def test_what_is_in_time_or_not_ours_passes(cluster, namespace):
    cluster.admin.create(snapshot(namespace, from_now(seconds=60), "in-time"))
    cluster.admin.create(snapshot(namespace, from_now(seconds=60)[:-1] + ".123456Z", "fraction"))
    cluster.admin.create(manifests.snapshot(namespace, "foreign", "data"))
    # A restore tool brings our annotations back with a content as source: that is no new cut.
    restored = snapshot(namespace, "2020-01-01T00:00:00Z", "restored")
    restored["spec"]["source"] = {"volumeSnapshotContentName": "content"}
    cluster.admin.create(restored)
    # Only creates are fenced.
    cluster.admin.patch("VolumeSnapshot", namespace, "in-time", {"metadata": {"annotations": {
        "snapkeeper.io/post-before": "2020-01-01T00:00:00Z"}}})


SCHEDULER_MAY = {
    "snapshotpolicies.snapkeeper.io": {"get", "list", "watch"},
    **{r: {"list", "watch"} for r in (
        "persistentvolumeclaims", "persistentvolumes", "namespaces",
        "volumesnapshots.snapshot.storage.k8s.io", "volumesnapshotcontents.snapshot.storage.k8s.io",
        "volumesnapshotclasses.snapshot.storage.k8s.io")},
    "snapshotpolicies.snapkeeper.io/status": {"patch"},
    "events": {"create"},
}
EXECUTOR_MAY = {
    "volumesnapshots.snapshot.storage.k8s.io": {"get", "list", "watch", "create", "delete"},
    "volumesnapshotcontents.snapshot.storage.k8s.io": {"get"},
    "snapshotpolicies.snapkeeper.io": {"get"},
}
LEASES = {"leases.coordination.k8s.io": {"get", "list", "watch", "create", "patch"}}
RESOURCES = sorted({*SCHEDULER_MAY, *EXECUTOR_MAY, *LEASES, "secrets", "configmaps", "pods", "serviceaccounts",
                    "serviceaccounts/token", "storageclasses.storage.k8s.io",
                    "volumesnapshots.snapshot.storage.k8s.io/status", "clusterroles.rbac.authorization.k8s.io"})
VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]


@pytest.mark.parametrize("role, where, may", [
    ("scheduler", "default", SCHEDULER_MAY),
    ("scheduler", "snapkeeper-system", {**SCHEDULER_MAY, **LEASES}),
    ("executor", "default", EXECUTOR_MAY),
    ("executor", "snapkeeper-system", EXECUTOR_MAY),
])
def test_an_account_may_do_what_it_must_and_nothing_else(cluster, deployment, role, where, may):
    account = Api(cluster.url, cluster.authority.certificate, token=cluster.token(*deployment.account(role)))
    allowed = {}
    for full in RESOURCES:
        resource, _, sub = full.partition("/")
        plural, _, group = resource.partition(".")
        for verb in VERBS:
            answer = account.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {"namespace": where, "verb": verb, "group": group, "resource": plural,
                                                "subresource": sub}}})
            if answer["status"]["allowed"]:
                allowed.setdefault(full, set()).add(verb)
    assert allowed == may


def test_the_manifests_apply_as_they_stand_in_an_empty_cluster(bare_cluster):
    """kubectl takes a folder's files by name, so the namespace must come first."""
    for folder in ("crds", "admission", "rbac"):
        bare_cluster.kubectl("apply", "-f", REPOSITORY / "deploy" / folder)
