"""Faults of the process: signals under load and in storms, too few files, threads and memory, floods of log lines."""

from __future__ import annotations

import contextlib
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.faults.card import hydrophone
from tests.faults.catalogue import NotRun, fault, promise
from tests.faults.ear import Ear
from tests.faults.sea import OCEAN, of_file, recording
from tests.faults.security import free_port
from tests.faults.shim import Shim
from tests.faults.vessel import ROOT, Daemon, Manager, gone, wait_for

N_KILLS = 200


@fault(19, "SIGTERM while the sound server is frozen (SIGSTOP of jackd) and a dead stream is held",
       "STOPPING=1, records drained, exit 0 within 5 s, no child left")  # fmt: skip
def term_with_dead_stream(folder: Path) -> str:
    manager = Manager(folder)
    try:
        with hydrophone(folder, env=manager.env) as (server, daemon, ear):
            child = daemon.child().pid
            server.server.send_signal(signal.SIGSTOP)
            time.sleep(0.5)
            began = time.monotonic()
            code = daemon.end(timeout_s=20)
            took_s = time.monotonic() - began
            ear.await_end(10)
            account = ear.account()
            promise(gone(child), "the child is left")
            stopping = manager.said("STOPPING=1")
    finally:
        manager.close()
    promise(code == 0 and took_s <= 6.0 and len(stopping) == 1, f"exit {code} after {took_s:.1f} s, {stopping}")
    return f"exit 0 after {took_s:.1f} s, STOPPING=1 said; {account}"


@fault(67, "SIGTERM under load: a file at full speed, a subscriber that never reads",
       "exit 0 within the drain's deadline; all that was read of the file is accounted for")  # fmt: skip
def term_under_load(folder: Path) -> str:
    import zmq

    settings = of_file(recording(600.0, 4000)) | {"publish.spectrogram": True, "window.hop_s": 0.25}
    with Daemon(folder, settings) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("window")
        context = zmq.Context()
        dead = context.socket(zmq.SUB)
        dead.setsockopt(zmq.RCVHWM, 10_000)
        dead.subscribe(b"window/")
        dead.connect(daemon.endpoint)
        ear.await_some("window", 100)
        began = time.monotonic()
        code = daemon.end(timeout_s=40)
        took_s = time.monotonic() - began
        ear.await_end()
        context.destroy(linger=0)
        account = ear.account()
    promise(code == 0 and took_s < 12.0, f"exit {code} after {took_s:.1f} s")
    return f"exit 0 after {took_s:.1f} s in the middle of the file; {account}"


@fault(
    66, "storm of 1000 SIGHUP in about 5 s while listening", "no sample lost, no record missing, still the same process"
)
def hup_storm(folder: Path) -> str:
    with Daemon(folder, OCEAN) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("window", 3)
        before = daemon.footprint
        for _ in range(1000):
            daemon.process.send_signal(signal.SIGHUP)
            time.sleep(0.005)
        n = len(ear.of("window"))
        ear.await_some("window", n + 4)
        after = daemon.footprint
        code = daemon.end()
        ear.await_end()
        account = ear.account()
    promise(code == 0 and account.n_slots == account.n_analysed and not account.gaps, f"exit {code}, {account}")
    promise(after[1] <= before[1] + 3 and after[2] <= before[2] + 2, f"files and threads {before[1:]} to {after[1:]}")
    return f"files and threads {before[1:]} to {after[1:]}, RSS {before[0]:.0f} to {after[0]:.0f} MB; {account}"


@fault(68, "out of file descriptors (limit 80, all taken by connections) while the capture process must be replaced",
       "told as waiting; taken up again when files are free; never a crash")  # fmt: skip
def no_files(folder: Path) -> str:
    port = free_port()
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))  # noqa: E731
    settings = {"publish.endpoints": [f"ipc://{folder}/tonald.ipc", f"tcp://127.0.0.1:{port}"]}
    with hydrophone(folder, settings, before=limit) as (_server, daemon, ear):
        held = []
        end = time.monotonic() + 60
        while daemon.footprint[1] < 80 and time.monotonic() < end:
            s = socket.socket()
            s.settimeout(0.1)
            with contextlib.suppress(OSError):
                s.connect(("127.0.0.1", port))
            held.append(s)
        n_files = daemon.footprint[1]
        daemon.child().kill()
        stop = time.monotonic() + 8
        while time.monotonic() < stop:  # who is hung up on comes again
            s = socket.socket()
            s.settimeout(0.05)
            with contextlib.suppress(OSError):
                s.connect(("127.0.0.1", port))
            held.append(s)
        told = {b["detail"] for b in ear.of("status", state="waiting")}
        for s in held:
            s.close()
        ear.await_some("window", epoch=1, timeout_s=90, test=lambda b: b["analysed"])
        wait_for(lambda: daemon.footprint[1] < 60, 30, "files given back")
        after = daemon.footprint
        code = daemon.end()
        ear.await_end(15)
        account = ear.account()
    promise(code == 0, f"exit {code}")
    said = next((t for t in told if "Too many open files" in t), "; ".join(told))
    return f"{n_files} of 80 files taken; told: {said[:110]}; back to {after[1]} files; {account}"


@fault(
    69, "out of threads: 0 to 12 can be started, the next fails", "ends non-zero with a last line, or serves; no hang"
)
def no_threads(folder: Path) -> str:
    shim = Shim(folder)
    words = []
    for n in (0, 1, 2, 3, 4, 5, 6, 8, 12):
        sub, env = folder / str(n), shim.env | {"SHIM_THREADS": str(n)}
        with Daemon(sub, OCEAN | {"publish.wait_subscriber_s": 0.0}, env=env) as daemon:
            end = time.monotonic() + 40
            while daemon.alive() and "publishing on" not in daemon.log and time.monotonic() < end:
                time.sleep(0.1)
            if daemon.alive():
                promise("publishing on" in daemon.log, f"{n} threads: it hangs")
                daemon.end()
                words.append(f"{n}: serves")
            else:
                code = daemon.process.returncode
                promise(code != 0, f"{n} threads: exit {code}, '{daemon.last_line}'")
                words.append(f"{n}: exit {code} '{daemon.last_line[:60]}'")
    return "; ".join(words)


@fault(
    39,
    "memory: ten minutes of sound of 4 channels at full speed (make soak does a day)",
    "RSS within 3 % after warm-up",
)
def memory(folder: Path) -> str:
    settings = of_file(_four(folder)) | {"publish.stall_timeout_s": 60.0}
    with Daemon(folder, settings) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("window", 1500)
        early = daemon.footprint
        ear.await_some("window", 2300, timeout_s=300)
        late = daemon.footprint
        ear.await_end(120)
        account = ear.account()
    grown = late[0] / early[0] - 1.0
    promise(grown < 0.03, f"RSS {early[0]:.1f} to {late[0]:.1f} MB")
    promise(early[1:] == late[1:], f"files and threads {early[1:]} to {late[1:]}")
    return f"RSS {early[0]:.1f} to {late[0]:.1f} MB ({100 * grown:+.1f} %), files and threads constant; {account}"


def _four(folder: Path) -> Path:
    import numpy as np

    from tests.faults.sea import sound, write

    x = sound(600.0, 4000)
    return write(folder / "four.wav", np.stack([np.roll(x, 4000 * 100 * c) for c in range(4)]), 4000)


@fault(42, "log flood: the capture process crashes 6 times in a row (SIGSEGV as soon as it lives)",
       "state changes are logged, once each; a bounded number of lines per crash")  # fmt: skip
def log_flood(folder: Path) -> str:
    with hydrophone(folder) as (_server, daemon, ear):
        n_before = len(daemon.log.splitlines())
        for _ in range(6):
            child = daemon.child()
            time.sleep(0.3)
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGSEGV)
            wait_for(lambda pid=child.pid: gone(pid), 10, "its end")
        time.sleep(1)
        n_lines = len(daemon.log.splitlines()) - n_before
        n_waiting = len(ear.of("status", state="waiting", channel="ch0"))
        daemon.end()
        ear.await_end(15)
        account = ear.account()
    promise(n_lines <= 6 * 8, f"{n_lines} lines for 6 crashes")
    return f"{n_lines} lines for 6 crashes, waiting told {n_waiting} times; {account}"


@fault(56, f"SIGKILL at {N_KILLS} random moments", "no child, no lock, no socket that hinders the next start; "
       "records heard before each kill are a whole beginning")  # fmt: skip
def killed_often(folder: Path) -> str:
    rng = random.Random(56)
    path = recording(600.0, 4000)
    n_windows = n_before_start = 0
    for i in range(N_KILLS):
        with Ear(f"ipc://{folder}/tonald.ipc") as ear:
            with Daemon(folder, of_file(path) | {"source.realtime": rng.random() < 0.7}) as daemon:
                time.sleep(rng.uniform(0.05, 2.5))
                promise(daemon.alive(), f"start {i} after a kill ended with {daemon.process.poll()}")
                n_before_start += "publishing on" not in daemon.log
                daemon.end(signal.SIGKILL)
                daemon.log_path.unlink()
            time.sleep(0.05)
            n_windows += ear.account(whole=False).n_slots
    with Ear(f"ipc://{folder}/tonald.ipc") as ear, Daemon(folder, of_file(path)):
        ear.await_end(120)
        account = ear.account()
    words = f"{N_KILLS} kills, {n_before_start} of them during the start; {n_windows} records in whole beginnings"
    return f"{words}; then {account}"


@fault(
    41,
    "sandbox too tight (the unit under systemd, booted for real)",
    "the unit serves under its own sandbox, or CI says so",
)
def sandbox(_folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit"], cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False
    )
    *table, last = done.stdout.splitlines() or [done.stderr[-200:]]
    if done.returncode == 2:  # no root, no systemd-nspawn, or no container comes up
        raise NotRun(last.removeprefix("unit: not run: "))
    broken = "; ".join(row for row in table if "BROKEN" in row)
    promise(done.returncode == 0, f"{last}; {broken}")
    return last
