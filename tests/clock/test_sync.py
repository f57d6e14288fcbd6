"""Whether the system clock is disciplined: the kernel asked for real, a filter that refuses, tools that are absent."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from daemon.clock_sync import SyncState, SyncWatch, from_chrony, from_kernel, parse_tracking, read_sync
from daemon.sources.timed import TimedSource
from tests.clock.card import Card, Machine

ROOT = Path(__file__).resolve().parents[2]

#: A child that forbids itself adjtimex and clock_adjtime by seccomp, as ProtectClock= of systemd does, then asks.
REFUSED = """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
code = [
    (0x20, 0, 0, 0),           # load the number of the system call
    (0x15, 1, 0, 159),         # adjtimex
    (0x15, 0, 1, 305),         # clock_adjtime
    (0x06, 0, 0, 0x00050001),  # fail with EPERM
    (0x06, 0, 0, 0x7FFF0000),  # allow
]
program = b"".join(struct.pack("<HBBI", *step) for step in code)
class Filter(ctypes.Structure):
    _fields_ = [("n", ctypes.c_ushort), ("program", ctypes.c_char_p)]
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Filter(len(code), program)), 0, 0) == 0
from daemon.clock_sync import from_kernel, read_sync
print(from_kernel(), read_sync().by)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="adjtimex is of Linux")
def test_kernel_says_whether_the_clock_is_disciplined() -> None:
    state = from_kernel()
    if state is None:
        pytest.skip("this machine refuses adjtimex")
    assert state.by == "kernel"
    assert state.synced in (True, False)
    assert (state.est_error_ns is None) == (state.synced is False)
    assert read_sync() == state or read_sync().by == "kernel"


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="numbers of x86-64 system calls")
def test_unit_that_refuses_the_kernel_leaves_the_tools_or_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", REFUSED], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said, by = done.stdout.split()
    assert said == "None"
    assert by in ("chrony", "timedatectl", "unknown")


# as chronyd 4.3 prints it when it follows nothing (its local reference); and the same with the numbers of a follower
LOCAL = (
    "7F7F0101,,8,1795447238.959986908,0.000000000,0.000000000,0.000000000,0.000,0.000,0.000,"
    "0.000000000,0.000000000,0.0,Normal\n"
)
TRACKING = (
    "C0A80101,gps.local,2,1795447238.959986908,-0.000012500,0.000003100,0.000021000,-12.345,0.001,0.052,"
    "0.000400000,0.000250000,64.2,Normal\n"
)


def test_chrony_is_read() -> None:
    assert parse_tracking(TRACKING) == SyncState(True, 462_500, "chrony")  # 12.5 + 250 + 400 / 2 us
    assert parse_tracking(TRACKING.replace("Normal", "Not synchronised")) == SyncState(False, None, "chrony")
    assert parse_tracking(LOCAL) == SyncState(False, None, "chrony")
    for bad in ("", "506 Cannot talk to daemon\n", TRACKING.replace("0.000250000", "?"), TRACKING + ",1"):
        assert parse_tracking(bad) is None


def test_machine_without_tools_says_unknown_for_chrony(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert from_chrony() is None
    tool = tmp_path / "chronyc"
    tool.write_text("#!/bin/sh\nexit 1\n")
    tool.chmod(0o755)
    assert from_chrony() is None


def test_watch_looks_again_and_again_until_closed() -> None:
    looks, enough = [], threading.Event()

    def read() -> SyncState:
        looks.append(1)
        if len(looks) > 3:
            enough.set()
        return SyncState(True, len(looks), "kernel")

    with SyncWatch(read, every_s=0.001) as watch:
        assert enough.wait(60)
    assert (watch.state.est_error_ns or 0) >= 4
    assert not any(t.name == "clock" for t in threading.enumerate())
    watch.close()


def test_watch_that_dies_is_no_silent_unknown() -> None:
    def read() -> SyncState:
        if threading.current_thread().name == "clock":
            raise OSError("broken")
        return SyncState()

    machine = Machine()
    watch = SyncWatch(read, every_s=0.001)
    source = TimedSource(Card(machine, [[0.0] * 100], 100), clocks=machine, sync=watch)
    watch._thread.join(60)
    with pytest.raises(RuntimeError, match="watches the system clock died"):
        source.read(0.0)
    source.close()
