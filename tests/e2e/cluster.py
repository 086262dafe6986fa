"""A real Kubernetes control plane with CSI sidecars and a CSI driver, all processes of this machine.

What runs, and with which flags, is in facts that were tried together: no kubelet, no containers, no nodes. Volumes are
directories of the tests' CSI driver (tests/csi_driver), so a test reads and writes a volume's files directly.
"""

import json
import os
import pathlib
import socket
import subprocess

import yaml

import manifests
from api import Api, path_of
from certificates import Authority, TokenSigner
from process import Process, free_port, wait_until

DRIVER = "csi.snapkeeper.io"
SNAPSHOT_CLASS = "snapshots"
ISSUER = "https://kubernetes.default.svc"
ADMINS = "system:masters"

_CONTROLLERS = ",".join([
    "persistentvolume-binder-controller", "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller", "namespace-controller", "garbage-collector-controller",
    "resourcequota-controller", "serviceaccount-controller", "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller", "validatingadmissionpolicy-status-controller",
])

# Bodies of what the checks read; of everything else who, what, when and with which result.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "nonResourceURLs": ["/livez*", "/readyz*", "/openapi*", "/version"]},
        {"level": "RequestResponse", "verbs": ["create", "update", "patch", "delete"], "omitManagedFields": True,
         "resources": [{"group": "snapshot.storage.k8s.io",
                        "resources": ["volumesnapshots", "volumesnapshots/status"]}]},
        {"level": "Request", "verbs": ["update", "patch"],
         "resources": [{"group": "snapkeeper.io", "resources": ["snapshotpolicies/status"]}]},
        {"level": "Metadata"},
    ],
}


class Cluster:
    """`lightweight`: etcd, the API server and the snapshot CRDs only. Attributes name the processes."""

    def __init__(self, directory, binaries, csi_driver=None, lightweight=False, apiserver_flags=(), fsync=False,
                 api_qps=1000, metadata_only=False):
        self.directory = directory
        self.binaries = binaries
        self._csi_driver = csi_driver
        self._lightweight = lightweight
        self._apiserver_flags = list(apiserver_flags)
        self._fsync = fsync
        self._qps = [f"--kube-api-qps={api_qps}", f"--kube-api-burst={api_qps}"]
        self._metadata_only = metadata_only
        self.processes = []

    def start(self):
        # A port that was free may be taken by the time its server starts.
        for attempts_left in (2, 1, 0):
            try:
                return self._start()
            except BaseException:
                in_use = any("address already in use" in p.log_text() for p in self.processes)
                self.close()
                if not (in_use and attempts_left):
                    raise

    def close(self):
        for process in reversed(self.processes):
            process.close()
        self.processes = []

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    # --- callers

    def kubeconfig(self, name, user, server=None, namespace="default"):
        """Writes NAME.kubeconfig; `user` is the user entry's content."""
        path = self.directory / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "e2e",
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": name, "namespace": namespace}}],
            "clusters": [{"name": "e2e", "cluster": {"server": server or self.url,
                                                     "certificate-authority": str(self.authority.certificate)}}],
            "users": [{"name": name, "user": user}],
        }))
        return path

    def certificate_kubeconfig(self, user, group=ADMINS):
        certificate, key = self.authority.issue(user, user, group)
        return self.kubeconfig(user, {"client-certificate": str(certificate), "client-key": str(key)})

    def account_kubeconfig(self, namespace, account, server=None, name=None, context_namespace=None):
        """The kubeconfig of a service account, with a real token in the file NAME.token beside it."""
        name = name or account
        token_file = self.directory / f"{name}.token"
        write_atomically(token_file, self.token(namespace, account))
        return self.kubeconfig(name, {"tokenFile": str(token_file)}, server, context_namespace or namespace)

    def token(self, namespace, account, seconds=24 * 3600):
        answer = self.admin.request(
            "POST", path_of("ServiceAccount", namespace, account) + "/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
             "spec": {"expirationSeconds": seconds}})
        return answer["status"]["token"]

    def kubectl(self, *args, stdin=None, kubeconfig=None, timeout=60, check=True):
        """The completed process, output as text. Raises if it failed, unless `check` is false."""
        done = subprocess.run(
            [self.binaries / "kubectl", "--kubeconfig", kubeconfig or self.admin_kubeconfig, *map(str, args)],
            input=stdin, capture_output=True, text=True, timeout=timeout, env={**os.environ, "HOME": str(self.directory)})
        if check and done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def apply_files(self, directory):
        """Applies the manifests of a folder; CRDs among them are served when this returns."""
        files = sorted(directory.glob("*.yaml"))
        if not files:
            return
        options = [o for f in files for o in ("-f", f)]
        self.kubectl("apply", "--server-side", "--force-conflicts", *options)
        documents = [d for f in files for d in yaml.safe_load_all(f.read_text()) if d]
        for crd in (d["spec"] for d in documents if d["kind"] == "CustomResourceDefinition"):
            # An established one still answers 404 or 429 for a moment.
            path = f"/apis/{crd['group']}/{crd['versions'][0]['name']}/{crd['names']['plural']}"
            wait_until(path, lambda: self.admin.call("GET", path)[0] == 200)

    # --- volumes

    def control_csi(self, *rules):
        """Switches the CSI driver's behaviour from its next call on (tests/csi_driver/control.h); none: all succeeds."""
        write_atomically(self._control_file, json.dumps({"rules": rules}))

    def volume_files(self, claim):
        """The directory that holds the files of a bound claim (an object as the API returned it)."""
        return self.directory / "csi" / "volumes" / self.volume_handle(claim) / "data"

    def volume_handle(self, claim):
        volume = self.admin.get("PersistentVolume", None, claim["spec"]["volumeName"])
        return volume["spec"]["csi"]["volumeHandle"]

    def wait_bound(self, namespace, name, timeout=30):
        """The claim, once it is bound."""
        def bound():
            claim = self.admin.get("PersistentVolumeClaim", namespace, name)
            return claim if claim and claim.get("status", {}).get("phase") == "Bound" else None
        return wait_until(f"claim {namespace}/{name} to be bound", bound, timeout)

    def wait_ready(self, namespace, name, timeout=30):
        """The VolumeSnapshot, once it is ready."""
        def ready():
            snapshot = self.admin.get("VolumeSnapshot", namespace, name)
            return snapshot if snapshot and snapshot.get("status", {}).get("readyToUse") else None
        return wait_until(f"snapshot {namespace}/{name} to be ready", ready, timeout)

    def wait_snapshots_refused(self, namespace, code):
        """Until the API server refuses snapshots here: what its admission knows is a moment old."""
        wait_until("snapshots to be refused", lambda: self.admin.call(
            "POST", path_of("VolumeSnapshot", namespace) + "?dryRun=All",
            manifests.snapshot(namespace, "try", "none"))[0] == code)

    # --- start

    def _start(self):
        self._start_api()
        self.apply_files(self.binaries.parent / "crds")
        if not self._lightweight:
            self._start_storage()
        return self

    def _process(self, name, *args):
        process = Process(name, [self.binaries / name, *args], self.directory / f"{name}.log")
        self.processes.append(process)
        return process.start()

    def _start_api(self):
        d = self.directory
        self.authority = Authority(d)
        self.token_signer = TokenSigner(d, ISSUER)
        self.audit_log = d / "audit.log"
        (d / "audit-policy.yaml").write_text(yaml.safe_dump(_AUDIT_POLICY))
        etcd_url = f"http://127.0.0.1:{free_port()}"
        port = free_port()
        self.url = f"https://127.0.0.1:{port}"
        certificate, key = self._issue_serving(self.authority)
        self.etcd = self._process(
            "etcd", f"--data-dir={d}/etcd", f"--listen-client-urls={etcd_url}", f"--advertise-client-urls={etcd_url}",
            "--listen-peer-urls=http://127.0.0.1:0", "--log-level=warn",
            *([] if self._fsync else ["--unsafe-no-fsync"]))
        self.apiserver = self._process(
            "kube-apiserver", f"--etcd-servers={etcd_url}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={d}",
            f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}",
            f"--client-ca-file={self.authority.certificate}",
            f"--service-account-issuer={ISSUER}", f"--service-account-key-file={self.token_signer.public_key}",
            f"--service-account-signing-key-file={self.token_signer.private_key}",
            "--service-account-extend-token-expiration=false", "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC", "--allow-privileged=true", "--endpoint-reconciler-type=none",
            f"--audit-policy-file={d}/audit-policy.yaml", f"--audit-log-path={self.audit_log}",
            "--audit-log-maxsize=1000000",  # MB: never rotated
            *self._apiserver_flags)
        self.admin_kubeconfig = self.certificate_kubeconfig("admin")
        self._connect_admin()
        self.wait_api()

    def _issue_serving(self, authority):
        return authority.issue("apiserver", "kube-apiserver", addresses="IP:127.0.0.1,IP:10.0.0.1,DNS:localhost")

    def _connect_admin(self):
        d = self.directory
        self.admin = Api(self.url, self.authority.certificate, d / "admin.crt", d / "admin.key")

    def wait_api(self, timeout=60):
        """Until the API server says that it is ready, as it must after a restart."""
        def ready():
            try:
                return self.admin.call("GET", "/readyz")[0] == 200
            except OSError:
                return False
        wait_until("the API server", ready, timeout, alive=[self.etcd, self.apiserver])

    def restart_controllers(self):
        """After an outage: how soon they recover by themselves (client-go waits 30 s and more) is another matter."""
        for process in (self.snapshot_controller, self.csi_snapshotter, self.csi_provisioner, self.controller_manager):
            process.restart()

    def replace_serving_authority(self, new):
        """The API server starts again, with a certificate of this authority, which the cluster's own kubeconfigs trust
        from here on beside the old one.
        """
        both = self.authority.certificate.read_text() + new.certificate.read_text()
        write_atomically(self.authority.certificate, both)
        self._issue_serving(new)
        self._connect_admin()
        self.apiserver.restart()
        self.wait_api()
        self.restart_controllers()

    def _start_storage(self):
        d = self.directory
        socket_path = d / "csi.sock"
        assert len(str(socket_path)) < 108, f"{socket_path}: too long a path for a unix socket; set TMPDIR"
        self._control_file = d / "csi-control.json"
        self.csi_driver = Process(
            "csi-driver", [self._csi_driver, f"--endpoint=unix://{socket_path}", f"--state={d}/csi",
                           f"--control={self._control_file}", f"--name={DRIVER}",
                           *(["--metadata-only"] if self._metadata_only else [])], d / "csi-driver.log")
        self.processes.append(self.csi_driver.start())
        for manifest in _storage_manifests():
            self.admin.apply(manifest)
        self.controller_manager = self._process(
            "kube-controller-manager", f"--kubeconfig={self.certificate_kubeconfig('kube-controller-manager')}",
            "--leader-elect=false", "--secure-port=0", f"--controllers={_CONTROLLERS}",
            f"--service-account-private-key-file={self.token_signer.private_key}",
            f"--root-ca-file={self.authority.certificate}")
        self.snapshot_controller = self._process(
            "snapshot-controller", f"--kubeconfig={self.certificate_kubeconfig('snapshot-controller')}", *self._qps)
        wait_until("the CSI driver", lambda: _accepts(socket_path), alive=[self.csi_driver])
        self.csi_provisioner = self._process(
            "csi-provisioner", f"--kubeconfig={self.certificate_kubeconfig('csi-provisioner')}",
            f"--csi-address={socket_path}", "--timeout=60s", *self._qps)
        self.csi_snapshotter = self._process(
            "csi-snapshotter", f"--kubeconfig={self.certificate_kubeconfig('csi-snapshotter')}",
            f"--csi-address={socket_path}",
            # How soon it asks again about a snapshot that is not ready; by default up to 5 minutes.
            "--retry-interval-start=200ms", "--retry-interval-max=1s",
            # It happens under load that it asks no more until this; by default after 15 minutes.
            "--resync-period=10s", *self._qps)
        # Each namespace gets this account from the controllers, so from here on they work.
        wait_until("the controllers", lambda: self.admin.get("ServiceAccount", "default", "default"),
                   alive=[self.controller_manager])


def _storage_manifests():
    return [
        {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": DRIVER},
         "spec": {"attachRequired": False}},
        {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
         "metadata": {"name": manifests.STORAGE_CLASS,
                      "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
         "provisioner": DRIVER, "volumeBindingMode": "Immediate"},
        {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass",
         "metadata": {"name": SNAPSHOT_CLASS,
                      "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"}},
         "driver": DRIVER, "deletionPolicy": "Delete"},
    ]


def build_control_plane():
    """The directory of the control plane's programs; builds them where they are missing."""
    build = pathlib.Path(__file__).parent / "controlplane" / "build"
    output = subprocess.run([build], check=True, stdout=subprocess.PIPE, text=True).stdout
    return pathlib.Path(output.splitlines()[-1]) / "bin"


def write_atomically(path, text):
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    temporary.rename(path)


def _accepts(socket_path):
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(str(socket_path))
            return True
        except OSError:
            return False
