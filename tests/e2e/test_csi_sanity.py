"""The tests' CSI driver is a real one: it passes the conformance tests of what it implements."""

import re
import subprocess

from process import Process, wait_until


def test_the_controller_and_snapshot_cases_pass(control_plane, binaries, tmp_path):
    socket = tmp_path / "csi.sock"
    driver = Process("csi-driver", [binaries / "snapkeeper-csi-driver", f"--endpoint=unix://{socket}",
                                    f"--state={tmp_path}/state"], tmp_path / "driver.log")
    try:
        driver.start()
        wait_until("the driver's socket", socket.exists, alive=[driver])
        done = subprocess.run(
            [control_plane / "csi-sanity", f"--csi.endpoint=unix://{socket}", f"--csi.stagingdir={tmp_path}/stage",
             f"--csi.mountdir={tmp_path}/mount", "--ginkgo.focus=Controller Service|Snapshot|Identity Service",
             "--ginkgo.no-color"],
            capture_output=True, text=True, timeout=120)
    finally:
        driver.close()
    assert done.returncode == 0, done.stdout[-5000:]
    passed = int(re.search(r"(\d+) Passed", done.stdout)[1])
    assert passed >= 30, done.stdout[-2000:]
