"""Programs that a test starts, freezes, kills and starts again."""

import ctypes
import os
import random
import signal
import socket
import subprocess
import time

POLL = 0.02
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def wait_until(what, condition, timeout=30, alive=(), poll=POLL):
    """Polls until `condition()` is true and returns its value. `alive`: processes without which waiting is in vain."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        for process in alive:
            if process.exit_code() is not None:
                raise RuntimeError(
                    f"waiting for {what}: {process.name} has exited ({process.exit_code()})\n{process.log_tail()}")
        if time.monotonic() > deadline:
            tails = "\n".join(process.log_tail() for process in alive)
            raise TimeoutError(f"{what}: not within {timeout} s\n{tails}")
        time.sleep(poll)


def free_port():
    """A TCP port for a server that must keep it over restarts: below the range that outgoing connections take theirs from."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        lowest_ephemeral = int(f.read().split()[0])
    for _ in range(1000):
        port = random.randrange(min(10000, lowest_ephemeral // 2), lowest_ephemeral)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


class Process:
    """One program with its log. It dies with us, however we end."""

    def __init__(self, name, args, log, env=None):
        self.name = name
        self.args = [str(a) for a in args]
        self.log = log
        self.env = env or {}
        self._popen = None

    def start(self):
        assert self.exit_code() is not None or self._popen is None, f"{self.name} runs already"
        if not os.path.exists(self.args[0]):
            raise FileNotFoundError(f"{self.args[0]}: build it first")
        with open(self.log, "ab") as log:
            self.log_offset = log.tell()  # where the log of this start begins
            self._popen = subprocess.Popen(
                self.args,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.env},
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        return self

    @property
    def pid(self):
        return self._popen.pid

    def exit_code(self):
        """None while it runs, or before the first start; negative: ended by that signal."""
        return self._popen.poll() if self._popen else None

    def kill(self):
        """SIGKILL; returns when it is gone."""
        self.signal(signal.SIGKILL)
        self._popen.wait()

    def terminate(self, timeout=15):
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self._popen.wait(timeout)

    def stop(self):
        """SIGSTOP; returns when it stands still."""
        self.signal(signal.SIGSTOP)
        wait_until(f"{self.name} to stop", lambda: self._state() == "T")

    def cont(self):
        self.signal(signal.SIGCONT)

    def restart(self):
        self.close()
        return self.start()

    def close(self):
        if self._popen and self._popen.poll() is None:
            self.kill()

    def signal(self, number):
        self._popen.send_signal(number)

    def log_text(self):
        """What it has logged since its last start."""
        with open(self.log, errors="replace") as f:
            f.seek(self.log_offset)
            return f.read()

    def log_tail(self, lines=15):
        return f"--- end of {self.log}\n" + "\n".join(self.log_text().splitlines()[-lines:])

    def peak_memory_kb(self):
        return int(self._proc("status").split("VmHWM:")[1].split()[0])

    def cpu_seconds(self):
        fields = self._proc("stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _state(self):
        return self._proc("stat").rsplit(")", 1)[1].split()[0]

    def _proc(self, file):
        with open(f"/proc/{self.pid}/{file}") as f:
            return f.read()
