#!/usr/bin/python3
"""How snapkeeper-simulator refuses to start."""

import os
import subprocess
import sys
import tempfile
import unittest

PROGRAM = ""


def start(*args):
    """Exit code and stderr of a simulator that is to end at once."""
    done = subprocess.run([PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=10)
    return done.returncode, done.stderr


class ProgramTest(unittest.TestCase):
    def test_an_api_without_authentication_stays_on_this_machine(self):
        for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0"):
            code, error = start("--listen", address)
            self.assertEqual(code, 2, address)
            self.assertIn(f"--listen {address} must be a loopback address", error)
            self.assertEqual(error.count("\n"), 1)

    def test_a_kubeconfig_that_cannot_be_written_is_one_line_and_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as directory:
            taken = os.path.join(directory, "taken")
            os.mkdir(taken)
            for path in (taken, os.path.join(directory, "none", "kubeconfig")):
                code, error = start("--listen", "127.0.0.1:0", "--kubeconfig-out", path)
                self.assertEqual(code, 1)
                self.assertIn(f"cannot write {path}", error)
                self.assertEqual(error.count("\n"), 1)
            self.assertEqual(os.listdir(directory), ["taken"])


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
