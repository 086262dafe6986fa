"""The control plane and the CSI driver that all other tests stand on."""

import os
import re

import pytest

import audit
import manifests
from api import Api, ApiError
from process import wait_until


def bound_claim(cluster, namespace, name="data", **options):
    cluster.admin.create(manifests.claim(namespace, name, **options))
    return cluster.wait_bound(namespace, name)


def status_of(cluster, namespace, name):
    return (cluster.admin.get("VolumeSnapshot", namespace, name) or {}).get("status", {})


def test_a_restored_claim_holds_the_bytes_that_were_written_before_the_cut(cluster, namespace):
    source = cluster.volume_files(bound_claim(cluster, namespace))
    written = {"a": os.urandom(100_000), "deep/er/b": b"", "c": b"text\n"}
    for name, data in written.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    cluster.admin.create(manifests.snapshot(namespace, "snap", "data"))
    snapshot = cluster.wait_ready(namespace, "snap")
    (source / "a").write_bytes(b"later")
    (source / "new").write_bytes(b"later")

    restored = cluster.volume_files(bound_claim(cluster, namespace, "restored", from_snapshot="snap"))

    assert {str(p.relative_to(restored)): p.read_bytes() for p in restored.rglob("*") if p.is_file()} == written
    assert snapshot["status"]["creationTime"]


def test_the_audit_log_tells_the_life_of_a_snapshot(cluster, namespace):
    bound_claim(cluster, namespace)
    offset = audit.AuditLog(cluster.audit_log).offset
    cluster.admin.create(manifests.snapshot(namespace, "snap", "data"))
    created = cluster.wait_ready(namespace, "snap")
    cluster.admin.delete("VolumeSnapshot", namespace, "snap")
    wait_until("the snapshot to be gone", lambda: cluster.admin.get("VolumeSnapshot", namespace, "snap") is None)

    log = audit.AuditLog(cluster.audit_log, offset)

    [life] = log.snapshots(namespace)
    assert (life.name, life.claim, life.uid) == ("snap", "data", created["metadata"]["uid"])
    assert life.posted < life.ready < life.deleted
    assert life.created_by == life.deleted_by == "admin"
    assert log.counts("admin")["admin", "create", "volumesnapshots"] == 1
    assert [r.code for r in log.deletes() if r.namespace == namespace] == [200]


def test_a_snapshot_is_not_ready_as_long_as_the_driver_says_so(cluster, namespace):
    handle = cluster.volume_handle(bound_claim(cluster, namespace))
    cluster.control_csi({"method": "CreateSnapshot", "volume": handle, "readyAfterSeconds": -1})
    cluster.admin.create(manifests.snapshot(namespace, "snap", "data"))
    wait_until("the cut", lambda: status_of(cluster, namespace, "snap").get("creationTime"))
    assert status_of(cluster, namespace, "snap")["readyToUse"] is False
    cluster.control_csi()
    cluster.wait_ready(namespace, "snap")


def test_the_driver_fails_as_often_as_it_is_told_with_the_text_it_is_told(cluster, namespace):
    handle = cluster.volume_handle(bound_claim(cluster, namespace))
    cluster.control_csi({"method": "CreateSnapshot", "volume": handle, "times": 3, "code": "RESOURCE_EXHAUSTED",
                         "message": "rate exceeded"})
    cluster.admin.create(manifests.snapshot(namespace, "snap", "data"))
    error = wait_until("the error", lambda: status_of(cluster, namespace, "snap").get("error"))
    assert "rate exceeded" in error["message"]
    snapshot = cluster.wait_ready(namespace, "snap")
    calls = re.findall(rf"CreateSnapshot snapshot-{snapshot['metadata']['uid']}: (\w+)", cluster.csi_driver.log_text())
    assert calls[:4] == ["RESOURCE_EXHAUSTED"] * 3 + ["OK"]


def test_a_driver_that_hangs_holds_up_its_volume_alone(cluster, namespace):
    handle = cluster.volume_handle(bound_claim(cluster, namespace, "slow"))
    bound_claim(cluster, namespace, "quick")
    cluster.control_csi({"method": "CreateSnapshot", "volume": handle, "delaySeconds": 3600})
    cluster.admin.create(manifests.snapshot(namespace, "slow", "slow"))
    cluster.admin.create(manifests.snapshot(namespace, "quick", "quick"))
    cluster.wait_ready(namespace, "quick")
    assert "creationTime" not in status_of(cluster, namespace, "slow")


def test_a_service_account_may_do_what_its_role_says_and_nothing_else(cluster, namespace):
    cluster.kubectl("-n", namespace, "create", "serviceaccount", "reader")
    cluster.kubectl("-n", namespace, "create", "role", "reader", "--verb=list", "--resource=persistentvolumeclaims")
    cluster.kubectl("-n", namespace, "create", "rolebinding", "reader", "--role=reader",
                    f"--serviceaccount={namespace}:reader")
    account = cluster.admin.get("ServiceAccount", namespace, "reader")
    for token in (cluster.token(namespace, "reader"), cluster.token_signer.sign(account, seconds=30)):
        reader = Api(cluster.url, cluster.authority.certificate, token=token)
        assert wait_until("the role to count", lambda: reader.call(
            "GET", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")[0] == 200)
        with pytest.raises(ApiError, match="403"):
            reader.list("ServiceAccount", namespace)
    expired = Api(cluster.url, cluster.authority.certificate, token=cluster.token_signer.sign(account, seconds=-120))
    with pytest.raises(ApiError, match="401"):
        expired.list("PersistentVolumeClaim", namespace)


def test_a_quota_on_snapshots_is_enforced(cluster, namespace):
    cluster.admin.create(manifests.no_snapshots(namespace))
    cluster.wait_snapshots_refused(namespace, 403)
    with pytest.raises(ApiError, match="403 Forbidden .*exceeded quota"):
        cluster.admin.create(manifests.snapshot(namespace, "snap", "data"))


def test_without_controllers_objects_stay_as_they_are(bare_cluster):
    bare_cluster.admin.create(manifests.snapshot("default", "snap", "data"))
    bare_cluster.admin.patch("VolumeSnapshot", "default", "snap", {"status": {"readyToUse": True}}, "status")
    assert bare_cluster.wait_ready("default", "snap")["status"] == {"readyToUse": True}


def test_every_part_survives_a_kill_and_a_freeze(cluster, namespace):
    bound_claim(cluster, namespace)
    for part in (cluster.etcd, cluster.apiserver):
        part.kill()
        part.start()
        cluster.wait_api()
        part.stop()
        part.cont()
    for part in (cluster.controller_manager, cluster.snapshot_controller, cluster.csi_snapshotter,
                 cluster.csi_provisioner, cluster.csi_driver):
        if part.exit_code() is None:  # some end by themselves when the API server goes away
            part.kill()
        part.start()
    cluster.admin.create(manifests.snapshot(namespace, "snap", "data"))
    cluster.wait_ready(namespace, "snap", timeout=60)
    bound_claim(cluster, namespace, "restored", from_snapshot="snap")
