"""A sound card with a known clock: stamped blocks whose true times are known, and a machine whose clock can be set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from daemon.clock_system import ClockReading
from daemon.frames import AudioBlock, ClockState, Event, StreamEnd, StreamStart

MONOTONIC_0 = 5_000_000_000_000
UTC_0 = 1_790_000_000_250_000_000


class Machine:
    """CLOCK_MONOTONIC and CLOCK_REALTIME; only who runs it moves them, only ``step`` sets the second."""

    def __init__(self) -> None:
        self.monotonic_ns, self.offset_ns = MONOTONIC_0, UTC_0 - MONOTONIC_0

    def __call__(self) -> ClockReading:
        return ClockReading(self.monotonic_ns, self.monotonic_ns + self.offset_ns)

    def step(self, seconds: float) -> None:
        self.offset_ns += round(seconds * 1e9)


class Card:
    """Blocks of a card that is ``ppm`` fast and stamps them ``late_ns()`` after their last sample.

    Sample 0 is taken at MONOTONIC_0. ``at`` maps a sample to what happens when it is read.
    """

    live = True
    name = "card"

    def __init__(
        self,
        machine: Machine,
        x: np.ndarray,
        fs: int,
        ppm: float = 0.0,
        late_ns: Callable[[], int] = lambda: 0,
        latency_ns: int = 0,
        n_block: int | None = None,
        at: dict[int, Callable[[], None]] | None = None,
        label: str = "known card",
    ) -> None:
        self._machine, self._x, self.fs = machine, np.atleast_2d(x), fs
        self.fs_true = fs * (1 + ppm * 1e-6)
        self._late_ns, self._latency_ns, self._n_block = late_ns, latency_ns, n_block or fs // 4
        self._at, self._label, self._position, self._began, self._over = dict(at or {}), label, 0, False, False

    def monotonic(self, sample: float) -> float:
        """When a sample is truly taken, ns."""
        return MONOTONIC_0 + sample / self.fs_true * 1e9

    def backlog(self) -> None:
        """It waits."""

    def read(self, timeout_s: float) -> Event | None:
        if self._over:
            return None
        names = tuple(f"ch{c}" for c in range(len(self._x)))
        if not self._began:
            self._began = True
            clock = ClockState("system", est_error_ns=self._latency_ns)
            t_utc = self._machine().utc_ns + 300_000_000  # the first block came late
            return StreamStart(self.name, 0, self.fs, names, self._label, t_utc, clock)
        first, self._position = self._position, min(self._position + self._n_block, self._x.shape[1])
        if first == self._position:
            self._over = True
            return StreamEnd(self.name, 0, first, final=True)
        for sample in [s for s in self._at if s <= first]:
            self._at.pop(sample)()
        end = self._position
        stamp = round(self.monotonic(end)) + self._latency_ns + self._late_ns()
        self._machine.monotonic_ns = max(self._machine.monotonic_ns, stamp)
        x = self._x[:, first:end].astype(np.float32)
        return AudioBlock(self.name, 0, first, self.fs, x, (end, stamp))

    def close(self) -> None:
        self._over = True


def pulses(n: int, edges: Sequence[float], fs: int, height: float = 0.5, width_s: float = 0.1) -> np.ndarray:
    """``(n,)`` pulses that rise at ``edges`` (samples and parts of them), as a converter's filter leaves them."""
    from scipy.special import sici

    x = np.zeros(n)
    for edge in edges:
        for sign, place in ((1, edge), (-1, edge + width_s * fs)):
            begin, end = (min(max(0, round(place) + k), n) for k in (-2000, 2000))  # beyond: below -90 dB
            t = np.arange(begin, end)
            x[begin:end] += sign * height * (0.5 + sici(np.pi * 0.9 * (t - place))[0] / np.pi)
            x[end:] += sign * height
    return x
