"""Whether the system clock is disciplined, and how far it may be off: kernel, chrony or systemd, whoever answers.

The kernel's own state (adjtimex(2), asked only, never set) comes first: it costs a microsecond, needs no rights, and
holds for every NTP or PTP daemon. A system-call filter may refuse it; then ``chronyc -c tracking`` and after it
``timedatectl show`` are asked, and if none answers nothing is claimed.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

__all__ = ["SyncState", "SyncWatch", "from_chrony", "from_kernel", "from_timedatectl", "parse_tracking", "read_sync"]

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
TOOL_TIMEOUT_S = 2.0
EVERY_S = 16.0
"""Between two looks; no NTP daemon adjusts the clock much more often."""
_CHRONY_FIELDS = 14
_LOCAL = "7F7F0101"
"""Reference of a chrony that follows nothing but this very clock."""


@dataclass(frozen=True, slots=True)
class SyncState:
    """State of the system clock."""

    synced: bool | None = None
    """None: nobody knows."""
    est_error_ns: int | None = None
    """How far UTC may be off; None when unknown, and when not synchronised: then it may be off by anything."""
    by: Literal["kernel", "chrony", "timedatectl", "unknown"] = "unknown"
    """Who said so."""


class _Timex(ctypes.Structure):
    """``struct timex`` of <sys/timex.h>, with what follows ``tai`` left blank."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("constant", ctypes.c_long),
        ("precision", ctypes.c_long), ("tolerance", ctypes.c_long), ("time_s", ctypes.c_long),
        ("time_us", ctypes.c_long), ("tick", ctypes.c_long), ("ppsfreq", ctypes.c_long), ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int), ("stabil", ctypes.c_long), ("jitcnt", ctypes.c_long), ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long), ("stbcnt", ctypes.c_long), ("tai", ctypes.c_int), ("blank", ctypes.c_int * 11),
    )  # fmt: skip


def from_kernel() -> SyncState | None:
    """What the kernel says; None if it may not be asked.

    The error is the kernel's estimate; a daemon that keeps none (systemd-timesyncd writes 0) leaves the upper bound,
    which grows by 500 ppm between two corrections.
    """
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (AttributeError, OSError):  # no Linux
        return None
    timex = _Timex()  # modes 0: read only
    state = adjtimex(ctypes.byref(timex))
    if state < 0:  # EPERM: refused by a system-call filter
        return None
    if timex.status & _STA_UNSYNC or state == _TIME_ERROR:
        return SyncState(False, None, "kernel")
    return SyncState(True, 1000 * int(timex.esterror or timex.maxerror), "kernel")


def from_chrony() -> SyncState | None:
    """What ``chronyc -c tracking`` says; None if chrony is not there or does not run.

    The error is chrony's own bound: what remains of the last offset, plus dispersion, plus half the delay to the root.
    """
    out = _run(["chronyc", "-c", "tracking"])
    return None if out is None else parse_tracking(out)


def parse_tracking(text: str) -> SyncState | None:
    """State from one line of ``chronyc -c tracking``; None if it is no such line."""
    fields = text.strip().split(",")
    if len(fields) != _CHRONY_FIELDS:
        return None
    try:
        offset_s, delay_s, dispersion_s = abs(float(fields[4])), float(fields[10]), float(fields[11])
    except ValueError:
        return None
    if not math.isfinite(offset_s + dispersion_s + delay_s):
        return None
    if fields[13].lower().startswith("not") or fields[0] == _LOCAL:
        return SyncState(False, None, "chrony")
    return SyncState(True, round(1e9 * (offset_s + dispersion_s + delay_s / 2)), "chrony")


def from_timedatectl() -> SyncState | None:
    """What systemd says, which does not know an error; None if it does not answer."""
    out = _run(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    word = "" if out is None else out.strip()
    return SyncState(word == "yes", None, "timedatectl") if word in ("yes", "no") else None


def read_sync() -> SyncState:
    """State of the system clock, by the first that answers."""
    return from_kernel() or from_chrony() or from_timedatectl() or SyncState()


def _run(command: list[str]) -> str | None:
    """Output of a tool; None if it is missing, fails, or does not answer in time."""
    tool = shutil.which(command[0])
    if tool is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603  (fixed words, no shell)
            [tool, *command[1:]], capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


class SyncWatch:
    """Looks at the state now and then in a thread of its own: a tool that hangs holds up no sample.

    Parameters
    ----------
    read : callable
        What is asked.
    every_s : float
    """

    def __init__(self, read: Callable[[], SyncState] = read_sync, every_s: float = EVERY_S) -> None:
        self._read, self._every_s = read, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)
        self.state = SyncState()
        """As of the last look."""
        self.failure: BaseException | None = None
        """What ended the thread before its time."""

    def start(self) -> None:
        """Look for the first time, then begin."""
        self.state = self._read()
        self._thread.start()

    def close(self) -> None:
        """End the thread; may be called twice."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(3 * TOOL_TIMEOUT_S)

    def __enter__(self) -> SyncWatch:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while not self._over.wait(self._every_s):
                self.state = self._read()
        except BaseException as e:  # noqa: BLE001  (raised again by whoever asks for the state, see TimedSource)
            self.failure = e
