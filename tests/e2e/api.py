"""The Kubernetes API over the standard library: JSON in, JSON out, nothing cached, nothing retried."""

import http.client
import json
import ssl
import threading
import time
import urllib.parse

REUSE_WITHIN = 30  # seconds; the server closes connections that were idle for longer than a minute or two
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

# Where the kinds that tests use live: kind -> (path of the group and version, plural, namespaced).
KINDS = {
    "Namespace": ("/api/v1", "namespaces", False),
    "PersistentVolume": ("/api/v1", "persistentvolumes", False),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims", True),
    "ServiceAccount": ("/api/v1", "serviceaccounts", True),
    "ResourceQuota": ("/api/v1", "resourcequotas", True),
    "Event": ("/api/v1", "events", True),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases", True),
    "StorageClass": ("/apis/storage.k8s.io/v1", "storageclasses", False),
    "CSIDriver": ("/apis/storage.k8s.io/v1", "csidrivers", False),
    "CustomResourceDefinition": ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", False),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings", True),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "ValidatingAdmissionPolicy": ("/apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicies", False),
    "ValidatingAdmissionPolicyBinding": (
        "/apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings", False),
    "VolumeSnapshot": ("/apis/snapshot.storage.k8s.io/v1", "volumesnapshots", True),
    "VolumeSnapshotContent": ("/apis/snapshot.storage.k8s.io/v1", "volumesnapshotcontents", False),
    "VolumeSnapshotClass": ("/apis/snapshot.storage.k8s.io/v1", "volumesnapshotclasses", False),
    "SnapshotPolicy": ("/apis/snapkeeper.io/v1alpha1", "snapshotpolicies", True),
}


class ApiError(Exception):
    def __init__(self, method, path, code, body):
        self.code = code
        self.body = body
        self.reason = body.get("reason", "") if isinstance(body, dict) else ""
        message = body.get("message") if isinstance(body, dict) else body
        super().__init__(f"{method} {path}: {code} {self.reason} {message}")


class Api:
    """One caller's view of one API server. Threads may share it; each has its own connection."""

    def __init__(self, url, ca, cert=None, key=None, token=None, timeout=60):
        self._host = urllib.parse.urlsplit(url).netloc
        self._tls = ssl.create_default_context(cafile=ca)
        if cert:
            self._tls.load_cert_chain(cert, key)
        self._headers = {"Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._timeout = timeout
        self._local = threading.local()

    def call(self, method, path, body=None, content_type="application/json"):
        """(status code, body): the body parsed if it is JSON. Raises OSError or HTTPException if there is no answer."""
        connection = getattr(self._local, "connection", None)
        if connection is None or time.monotonic() > self._local.used + REUSE_WITHIN:
            connection = http.client.HTTPSConnection(self._host, timeout=self._timeout, context=self._tls)
            self._local.connection, self._local.used = connection, time.monotonic()
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {**self._headers, "Content-Type": content_type})
            response = connection.getresponse()
            text = response.read()
            self._local.used = time.monotonic()
        except Exception:
            connection.close()
            self._local.connection = None
            raise
        if response.headers.get_content_type() == "application/json":
            return response.status, json.loads(text)
        return response.status, text.decode(errors="replace")

    def request(self, method, path, body=None, content_type="application/json"):
        code, answer = self.call(method, path, body, content_type)
        if code >= 400:
            raise ApiError(method, path, code, answer)
        return answer

    def get(self, kind, namespace, name):
        """None if there is no such object."""
        try:
            return self.request("GET", path_of(kind, namespace, name))
        except ApiError as e:
            if e.code == 404:
                return None
            raise

    def list(self, kind, namespace=None, labels=""):
        query = "?labelSelector=" + urllib.parse.quote(labels) if labels else ""
        return self.request("GET", path_of(kind, namespace) + query)["items"]

    def create(self, manifest):
        meta = manifest["metadata"]
        return self.request("POST", path_of(manifest["kind"], meta.get("namespace")), manifest)

    def apply(self, manifest):
        """Server-side apply; creates it or changes it."""
        meta = manifest["metadata"]
        path = path_of(manifest["kind"], meta.get("namespace"), meta["name"])
        return self.request("PATCH", path + "?fieldManager=e2e&force=true", manifest, APPLY_PATCH)

    def patch(self, kind, namespace, name, merge_patch, subresource=""):
        path = path_of(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        return self.request("PATCH", path, merge_patch, MERGE_PATCH)

    def delete(self, kind, namespace, name):
        """True unless it was gone already."""
        try:
            self.request("DELETE", path_of(kind, namespace, name))
            return True
        except ApiError as e:
            if e.code == 404:
                return False
            raise


def path_of(kind, namespace=None, name=None):
    group, plural, namespaced = KINDS[kind]
    path = group
    if namespaced and namespace:
        path += f"/namespaces/{namespace}"
    path += f"/{plural}"
    return f"{path}/{name}" if name else path
