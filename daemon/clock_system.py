"""The clocks of the machine, and sample counts against them.

CLOCK_MONOTONIC never steps and is slewed together with CLOCK_REALTIME; so their difference changes only when somebody
sets the clock, a leap second is put in, or the machine slept. It is the whole of step detection.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from daemon.clock_fit import ClockFit, fit_marks

__all__ = ["STEP_NS", "ClockReading", "Clocks", "StampFit", "StepWatch", "read_clocks"]

STEP_NS = 5_000_000
"""From here on a change of UTC against CLOCK_MONOTONIC is a step; two looks at both clocks differ by some µs."""
MAX_BRACKET_NS = 100_000
MAX_TRIES = 5
SPAN = 600
"""Marks looked back upon, one per second of sound: long enough for 0.1 ppm, short enough to follow a warming card."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """Both clocks at one moment, ns."""

    monotonic_ns: int
    utc_ns: int

    @property
    def offset_ns(self) -> int:
        """UTC less CLOCK_MONOTONIC."""
        return self.utc_ns - self.monotonic_ns


Clocks: TypeAlias = Callable[[], ClockReading]
"""What reads both; an argument wherever it is used, so that a test can set the clock."""


def read_clocks() -> ClockReading:
    """Read CLOCK_REALTIME between two readings of CLOCK_MONOTONIC, again if something came between."""
    best: tuple[int, ClockReading] | None = None
    for _ in range(MAX_TRIES):
        before, utc, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        bracket = after - before
        if best is None or bracket < best[0]:
            best = bracket, ClockReading((before + after) // 2, utc)
        if bracket <= MAX_BRACKET_NS:
            break
    assert best is not None
    return best[1]


class StepWatch:
    """Tells steps of UTC from one reading to the next."""

    def __init__(self, reading: ClockReading) -> None:
        self.last = reading
        self.n_steps = 0

    def look(self, reading: ClockReading) -> int:
        """Ns by which UTC stepped since the last reading; 0: it did not."""
        moved = reading.offset_ns - self.last.offset_ns
        self.last = reading
        if abs(moved) < STEP_NS:
            return 0
        self.n_steps += 1
        return moved


class StampFit:
    """Sample count against CLOCK_MONOTONIC.

    A block can be stamped late but hardly early. So of each second of sound the one stamp with the least lateness is
    kept, as the card's own delay; a line goes through those, and what is off it (a glitch, a false stamp) is rejected.
    """

    def __init__(self, fs: int) -> None:
        self._fs = fs
        self._marks: deque[tuple[float, int]] = deque(maxlen=SPAN)
        self._second = -1
        self._lateness = 0

    def add(self, n: int, t_ns: int) -> None:
        """Note that ``n`` samples of the epoch had been taken at ``t_ns`` of CLOCK_MONOTONIC."""
        lateness = t_ns - n * 1_000_000_000 // self._fs
        second = n // self._fs
        if second != self._second:
            self._second, self._lateness = second, lateness
            self._marks.append((n, t_ns))
        elif lateness < self._lateness:
            self._lateness = lateness
            self._marks[-1] = (n, t_ns)

    def fit(self) -> ClockFit | None:
        """The line at present; None while there are too few stamps."""
        return fit_marks(self._fs, self._marks)

    @property
    def newest(self) -> tuple[float, int] | None:
        """The least late stamp of the newest second."""
        return self._marks[-1] if self._marks else None
