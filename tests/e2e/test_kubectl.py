"""A current kubectl works against the simulator as it does against a cluster: the same tests over both."""

import contextlib
import json
import select
import subprocess

import pytest
import yaml

import manifests
from process import Process, wait_until


@contextlib.contextmanager
def simulator(request, directory):
    """A kubeconfig for a simulator with two volumes."""
    kubeconfig = directory / "kubeconfig"
    process = Process("simulator", [request.getfixturevalue("binaries") / "snapkeeper-simulator", "--listen",
                                    "127.0.0.1:0", "--kubeconfig-out", kubeconfig, "--volumes", "2"],
                      directory / "simulator.log")
    try:
        process.start()
        wait_until("the kubeconfig", kubeconfig.exists, alive=[process])
        yield kubeconfig
    finally:
        process.close()


@contextlib.contextmanager
def real_cluster(request, directory):
    """A kubeconfig for a namespace with two volumes."""
    cluster = request.getfixturevalue("cluster")
    request.getfixturevalue("deployment")
    cluster.admin.create(manifests.namespace("kubectl"))
    for name in ("data-0", "data-1"):
        cluster.admin.create(manifests.claim("kubectl", name, labels={"app": "db"}))
        cluster.wait_bound("kubectl", name)
    text = cluster.admin_kubeconfig.read_text()
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(text.replace("namespace: default", "namespace: kubectl"))
    yield kubeconfig
    cluster.admin.delete("Namespace", None, "kubectl")


@pytest.fixture(scope="module", params=[simulator, real_cluster], ids=lambda f: f.__name__)
def kubectl(request, control_plane, tmp_path_factory):
    directory = tmp_path_factory.mktemp("kubectl")
    with request.param(request, directory) as kubeconfig:
        command = [control_plane / "kubectl", "--kubeconfig", kubeconfig]
        options = {"text": True, "env": {"HOME": str(directory)}}

        def run(*args, stdin=None, check=True):
            """The output; without `check` the completed process."""
            done = subprocess.run([*command, *args], input=yaml.safe_dump(stdin) if stdin else None,
                                  capture_output=True, timeout=30, **options)
            assert not check or done.returncode == 0, f"kubectl {args}: {done.stdout}{done.stderr}"
            return done.stdout if check else done

        run.popen = lambda *args: subprocess.Popen([*command, *args], stdout=subprocess.PIPE, **options)
        yield run


@pytest.fixture(autouse=True)
def no_policies(kubectl):
    yield
    kubectl("delete", "snapshotpolicies", "--all", "--ignore-not-found")


def policy(schedule="0 * * * *"):
    return here(manifests.policy("", "hourly", schedule, selector={"matchLabels": {"app": "db"}},
                                 retention={"keepLast": 3}))


def here(manifest):
    """In the namespace of the kubeconfig."""
    del manifest["metadata"]["namespace"]
    return manifest


def get(kubectl, *args):
    return json.loads(kubectl("get", *args, "-o", "json"))


def test_its_claims_are_bound(kubectl):
    claims = get(kubectl, "pvc")["items"]
    assert [c["metadata"]["name"] for c in claims] == ["data-0", "data-1"]
    assert {c["status"]["phase"] for c in claims} == {"Bound"}
    assert {c["metadata"]["labels"]["app"] for c in claims} == {"db"}


def test_apply_creates_then_changes_then_leaves_alone(kubectl):
    assert "created" in kubectl("apply", "-f", "-", stdin=policy())
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=policy())
    assert "configured" in kubectl("apply", "-f", "-", stdin=policy("5 * * * *"))
    stored = get(kubectl, "snapshotpolicy", "hourly")
    assert stored["spec"]["schedule"] == "5 * * * *"
    assert stored["spec"]["timeZone"] == "UTC"  # a default of the schema
    assert stored["metadata"]["generation"] == 2


def test_apply_of_a_claim(kubectl):
    storage_class = get(kubectl, "pvc", "data-0")["spec"]["storageClassName"]
    assert "created" in kubectl("apply", "-f", "-", stdin=here(manifests.claim("", "applied", storage_class=storage_class)))
    kubectl("wait", "pvc/applied", "--for=jsonpath={.status.phase}=Bound", "--timeout=10s")
    kubectl("delete", "pvc", "applied")


def test_apply_takes_a_list_and_tells_of_a_kind_that_is_unknown(kubectl):
    assert "created" in kubectl("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": [policy()]})
    unknown = {"apiVersion": "none.io/v1", "kind": "Thing", "metadata": {"name": "x"}}
    refused = kubectl("apply", "-f", "-", stdin=unknown, check=False)
    assert refused.returncode == 1 and 'no matches for kind "Thing" in version "none.io/v1"' in refused.stderr


def test_create_refuses_a_second_one_and_an_invalid_one(kubectl):
    assert "created" in kubectl("create", "-f", "-", stdin=policy())
    second = kubectl("create", "-f", "-", stdin=policy(), check=False)
    assert second.returncode == 1 and "AlreadyExists" in second.stderr
    invalid = policy()
    del invalid["spec"]["selector"]
    refused = kubectl("create", "-f", "-", stdin=invalid, check=False)
    assert refused.returncode == 1 and "spec.selector" in refused.stderr


def test_get_prints_the_columns_of_the_crd(kubectl):
    kubectl("apply", "-f", "-", stdin=policy())
    header, row = kubectl("get", "spol").splitlines()
    assert header.split()[:2] == ["NAME", "SCHEDULE"]
    assert row.startswith("hourly") and "0 * * * *" in row
    assert kubectl("get", "pvc", "data-0").splitlines()[0].split()[:2] == ["NAME", "STATUS"]


def next_line(process, timeout=30):
    assert select.select([process.stdout], [], [], timeout)[0], f"nothing was printed within {timeout} s"
    return process.stdout.readline()


def test_get_watch_shows_changes(kubectl):
    kubectl("apply", "-f", "-", stdin=policy())
    watch = kubectl.popen("get", "snapshotpolicy", "-w", "-o", "jsonpath={.spec.schedule}{'\\n'}")
    try:
        assert next_line(watch) == "0 * * * *\n"
        kubectl("patch", "snapshotpolicy", "hourly", "--type=merge", "-p", '{"spec": {"schedule": "1 * * * *"}}')
        assert next_line(watch) == "1 * * * *\n"
    finally:
        watch.kill()
        watch.wait()


def test_describe_shows_the_spec(kubectl):
    kubectl("apply", "-f", "-", stdin=policy())
    text = kubectl("describe", "snapshotpolicy", "hourly")
    assert "Kind:         SnapshotPolicy" in text and "Schedule:" in text
    assert "data-0" in kubectl("describe", "pvc", "data-0")


def test_patch_merge_and_json(kubectl):
    kubectl("apply", "-f", "-", stdin=policy())
    kubectl("patch", "spol", "hourly", "--type=merge",
            "-p", '{"spec": {"suspend": true, "retention": {"keepLast": null, "minReady": 2}}}')
    kubectl("patch", "spol", "hourly", "--type=json",
            "-p", '[{"op": "replace", "path": "/spec/schedule", "value": "2 * * * *"},'
                  ' {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]')
    stored = get(kubectl, "spol", "hourly")
    assert stored["spec"]["suspend"] is True
    assert stored["spec"]["retention"] == {"minReady": 2, "unreadyTtl": "24h"}
    assert stored["spec"]["schedule"] == "2 * * * *"
    assert stored["metadata"]["labels"] == {"a": "b"}


def test_a_snapshot_becomes_ready_and_is_deleted(kubectl):
    kubectl("create", "-f", "-", stdin=here(manifests.snapshot("", "snap", "data-0")))
    kubectl("wait", "volumesnapshot/snap", "--for=jsonpath={.status.readyToUse}=true", "--timeout=20s")
    kubectl("delete", "volumesnapshot", "snap")
    missing = kubectl("get", "volumesnapshot", "snap", check=False)
    assert missing.returncode == 1 and "NotFound" in missing.stderr
