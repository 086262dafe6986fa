#!/usr/bin/env python3
"""A simulated cluster, a scheduler and two executors on loopback, with two policies. See ./dev quickstart."""
import argparse
import ctypes
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

BIN = pathlib.Path(__file__).resolve().parent.parent / "build" / "bin"
SNAPSHOTS = "/apis/snapshot.storage.k8s.io/v1/namespaces/default/volumesnapshots"
POLICIES = "/apis/snapkeeper.io/v1alpha1/namespaces/default/snapshotpolicies"
KEEP = 3
CHECK_SECONDS = 90
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Failed(Exception):
    pass


class Processes:
    """Started in order, ended together, at the latest with this process; each with a log file of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []

    def start(self, name, *command):
        """Starts it and answers the addresses of its `msg=listening` line, by their key."""
        log = self.folder / f"{name}.log"
        with open(log, "wb") as out:
            process = subprocess.Popen([str(BIN / command[0]), *command[1:]], stdout=out, stderr=out, start_new_session=True,
                                       preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM))
        self.running.append((name, process))
        end = time.monotonic() + 20
        while time.monotonic() < end and process.poll() is None:
            line = re.search(r"msg=listening (.*)", log.read_text(errors="replace"))
            if line:
                return dict(re.findall(r"(\w+)=(\S+)", line.group(1)))
            time.sleep(0.05)
        raise Failed(f"{name} did not start:\n{log.read_text(errors='replace')[-2000:]}")

    def dead(self):
        return [name for name, process in self.running if process.poll() is not None]

    def stop(self):
        for _, process in self.running:
            process.terminate()
        end = time.monotonic() + 10
        for _, process in reversed(self.running):
            try:
                process.wait(max(0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()


class Api:
    def __init__(self, server):
        self.server = server

    def call(self, path, body=None):
        request = urllib.request.Request(self.server + path, json.dumps(body).encode() if body else None,
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            raise Failed(f"{path}: {error.code} {error.read().decode(errors='replace')[:500]}") from None
        except OSError as error:
            raise Failed(f"{path}: {error}") from None

    def items(self, path):
        return self.call(path)["items"]


def policy(name, schedule):
    return {"apiVersion": "snapkeeper.io/v1alpha1", "kind": "SnapshotPolicy",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"schedule": schedule, "selector": {"matchLabels": {"app": "db"}}, "retention": {"keepLast": KEEP}}}


class View:
    """What the API has shown so far."""

    def __init__(self, api):
        self.api = api
        self.seen = {}  # UID to (claim, policy)
        self.was_ready = set()

    def refresh(self):
        self.policies = {p["metadata"]["uid"]: p for p in self.api.items(POLICIES)}
        self.snapshots = [s for s in self.api.items(SNAPSHOTS) if "deletionTimestamp" not in s["metadata"]]
        for s in self.snapshots:
            labels = s["metadata"].get("labels", {})
            owner = self.policies.get(labels.get("snapkeeper.io/policy-uid"))
            if owner:
                self.seen[s["metadata"]["uid"]] = (s["spec"]["source"]["persistentVolumeClaimName"], owner["metadata"]["name"])
            if s.get("status", {}).get("readyToUse"):
                self.was_ready.add(s["metadata"]["uid"])
        self.alive = {s["metadata"]["uid"]: s for s in self.snapshots}

    def rows(self):
        claims = sorted(c["metadata"]["name"] for c in self.api.items("/api/v1/namespaces/default/persistentvolumeclaims"))
        for p in sorted(self.policies.values(), key=lambda p: p["metadata"]["name"]):
            status = p.get("status", {})
            for claim in claims:
                mine = [uid for uid, key in self.seen.items() if key == (claim, p["metadata"]["name"])]
                ready = [self.alive[uid]["status"].get("creationTime", "") for uid in mine
                         if uid in self.alive and self.alive[uid].get("status", {}).get("readyToUse")]
                failures = sum(f["claim"] == claim for run in status.get("recentRuns", []) for f in run.get("failures", []))
                yield (claim, p["metadata"]["name"], clock(max(ready, default="")), clock(status.get("nextScheduleTime", "")),
                       str(len(ready)), str(sum(uid not in self.alive for uid in mine)), str(failures))


def clock(text):
    if not text:
        return "-"
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone().strftime("%H:%M:%S")


def table(view):
    rows = [("VOLUME", "POLICY", "LAST-READY", "NEXT-FIRE", "KEPT", "PRUNED", "FAILURES"), *view.rows()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def run_checks(view, processes):
    """One line per check, in the order in which they come true; False at the end of the time."""
    def of(name):
        return [uid for uid, (_, owner) in view.seen.items() if owner == name]

    def kept(name):
        per_claim = {}
        for uid in of(name):
            if uid in view.alive and uid in view.was_ready:
                claim = view.seen[uid][0]
                per_claim[claim] = per_claim.get(claim, 0) + 1
        return per_claim

    def settled(name):
        return any(run["state"] == "Succeeded" for p in view.policies.values() if p["metadata"]["name"] == name
                   for run in p.get("status", {}).get("recentRuns", []))

    checks = {
        "every-10s fired: snapshots appeared": lambda: of("every-10s"),
        "every-10s: snapshots became ready": lambda: any(uid in view.was_ready for uid in of("every-10s")),
        "every-10s: the record says Succeeded": lambda: settled("every-10s"),
        f"every-10s: pruned to {KEEP} ready snapshots of each volume": lambda: (
            len(of("every-10s")) > 4 * KEEP and kept("every-10s") and all(n == KEEP for n in kept("every-10s").values())
            and any(uid not in view.alive for uid in of("every-10s"))),
        "every-minute fired: snapshots appeared": lambda: of("every-minute"),
        "every-minute: snapshots became ready": lambda: any(uid in view.was_ready for uid in of("every-minute")),
        "every-minute: the record says Succeeded": lambda: settled("every-minute"),
    }
    end = time.monotonic() + CHECK_SECONDS
    while checks and time.monotonic() < end and not processes.dead():
        view.refresh()
        for name in [name for name, check in checks.items() if check()]:
            print(f"ok    {name}", flush=True)
            del checks[name]
        time.sleep(0.5)
    for name in processes.dead():
        print(f"FAIL  {name} ended by itself")
    for name in checks:
        print(f"FAIL  {name}")
    return not checks and not processes.dead()


def be_deaf():
    """Whoever is impatient: nothing may be left running."""
    for ending in ENDINGS:
        signal.signal(ending, lambda *_: None)


def end(*_):
    be_deaf()
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(prog="./dev quickstart")
    parser.add_argument("--check", action="store_true", help=f"verify within {CHECK_SECONDS} s and exit, without a table")
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="snapkeeper-quickstart-"))
    processes = Processes(folder)
    # Ctrl-C, or the end of the terminal, reaches this process alone; the others end when it says so.
    for ending in ENDINGS:
        signal.signal(ending, end)
    good = False
    try:
        kubeconfig = str(folder / "kubeconfig")
        simulator = processes.start("simulator", "snapkeeper-simulator", "--listen", "127.0.0.1:0", "--kubeconfig-out", kubeconfig,
                                    "--volumes", "4", "--ready-after", "2s")
        common = ("--kubeconfig", kubeconfig, "--insecure", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0")
        executors = [processes.start(f"executor-{i}", "snapkeeper-executor", *common) for i in range(2)]
        scheduler = processes.start("scheduler", "snapkeeper-scheduler", *common, "--prune-quarantine", "5s",
                                    *(arg for e in executors for arg in ("--executor", e["grpc"])))
        api = Api("http://" + simulator["http"])
        for name, schedule in (("every-10s", "@every 10s"), ("every-minute", "* * * * *")):
            api.call(POLICIES, policy(name, schedule))
        view = View(api)
        if arguments.check:
            good = run_checks(view, processes)
            return 0 if good else 1
        where = "\n".join([f"  kubectl --kubeconfig {kubeconfig} get spol,vs", f"  curl http://{scheduler['http']}/metrics    (also /readyz)",
                           *(f"  curl http://{e['http']}/metrics" for e in executors), f"  logs: {folder}", "", "Ctrl-C ends everything."])
        refresh = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        if not refresh:
            print(f"{where}\n", flush=True)
        while not processes.dead():
            view.refresh()
            print(f"\033[H\033[2J{table(view)}\n\n{where}" if refresh else f"{table(view)}\n", flush=True)
            time.sleep(1)
        print(f"{', '.join(processes.dead())} ended by itself", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        good = not arguments.check
        return 0 if good else 130
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # nobody reads on
        return 1
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    finally:
        be_deaf()
        processes.stop()
        if good:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"logs: {folder}", file=sys.stderr)


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
