"""The objects that tests create."""

STORAGE_CLASS = "standard"


def namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def claim(namespace, name, labels=None, storage_class=STORAGE_CLASS, from_snapshot=None, size="1Mi", finalizers=()):
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": storage_class,
            "resources": {"requests": {"storage": size}}}
    if from_snapshot:
        spec["dataSourceRef"] = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot",
                                 "name": from_snapshot}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": namespace, "name": name, "labels": labels or {}, "finalizers": [*finalizers]},
            "spec": spec}


def volume(name, source, claim_namespace, claim):
    """One that a claim of storage class "" is bound to without a driver's help; `source`: of the data, {TYPE: {...}}."""
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Mi"}, "storageClassName": "",
                     "persistentVolumeReclaimPolicy": "Retain", **source,
                     "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim_namespace,
                                  "name": claim}}}


def snapshot(namespace, name, claim, labels=None, annotations=None, snapshot_class=None):
    spec = {"source": {"persistentVolumeClaimName": claim}}
    if snapshot_class:
        spec["volumeSnapshotClassName"] = snapshot_class
    return {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
            "metadata": {"namespace": namespace, "name": name, "labels": labels or {},
                         "annotations": annotations or {}}, "spec": spec}


def no_snapshots(namespace):
    """A quota that is exceeded from the beginning."""
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"namespace": namespace, "name": "none"},
            "spec": {"hard": {"count/volumesnapshots.snapshot.storage.k8s.io": "0"}}}


def refusal(namespace, expression, reason="Forbidden"):
    """An admission policy of the cluster's owner that takes snapshots only where `expression` is true."""
    group = "admissionregistration.k8s.io/v1"
    return [
        {"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": namespace},
         "spec": {"matchConstraints": {
             "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
             "resourceRules": [{"apiGroups": ["snapshot.storage.k8s.io"], "apiVersions": ["v1"],
                                "operations": ["CREATE"], "resources": ["volumesnapshots"]}]},
             "validations": [{"expression": expression, "reason": reason, "message": "no snapshots here"}]}},
        {"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": namespace},
         "spec": {"policyName": namespace, "validationActions": ["Deny"]}}]


def policy(namespace, name, schedule, **spec):
    """Selects every claim of the namespace unless `selector` says otherwise."""
    return {"apiVersion": "snapkeeper.io/v1alpha1", "kind": "SnapshotPolicy",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"schedule": schedule, "selector": {}, **spec}}
