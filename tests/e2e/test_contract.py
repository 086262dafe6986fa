"""The suite that the simulator passes, over the real API server."""

import os
import re
import subprocess

from conftest import REPOSITORY


def test_the_real_api_server_passes_the_contract_suite(bare_cluster, binaries):
    bare_cluster.apply_files(REPOSITORY / "deploy" / "crds")
    done = subprocess.run([binaries / "contract_test", "--gtest_filter=*ApiServer*"], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "SNAPKEEPER_CONTRACT_KUBECONFIG": str(bare_cluster.admin_kubeconfig)})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"\[  PASSED  \] (\d+) tests", done.stdout)
    assert passed and int(passed[1]) >= 30, done.stdout[-1000:]
