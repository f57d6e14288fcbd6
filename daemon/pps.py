"""Rising edges of a pulse per second, found in samples to a small part of one.

An edge of a GPS receiver is far faster than a sample; the converter's filter turns it into a band-limited step whose
middle, half way between the level before and the level after, is the edge. Between samples the step is computed by
sinc interpolation, so that the place of the middle is not tied to the samples.

Samples are looked at in tiles of one second, fixed on the sample grid, each with a margin on both sides: blocks of any
size give the same edges. Whether an edge is of the receiver is not decided here (`daemon.pps_clock`).
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

__all__ = ["PulseFinder"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

N_TAPS = 16
"""Samples on each side of the sinc."""
N_STEPS = 16
"""Points computed per sample; between them the step is a straight line."""
N_GUARD = 3
"""Samples beside the edge that belong to neither level."""
MIN_RISE = 0.01
"""Of full scale: less is hum or noise."""
N_NOISE = 8.0
"""Times the noise that an edge must rise."""
REF_SHARE = 0.5
"""An edge rises at least so much of what the highest edge in a second usually does."""
N_HEIGHTS = 15


class PulseFinder:
    """Streaming: feed the samples of the channel, get the edges.

    Parameters
    ----------
    fs : int
        Hz.
    """

    def __init__(self, fs: int) -> None:
        self._fs = fs
        self._n_level = max(4, fs // 2000)  # half a millisecond: shorter than any pulse, longer than its ringing
        self.margin = self._n_level + N_GUARD + N_TAPS + 2
        self.reset()

    def reset(self, at_sample: int = 0) -> None:
        """Forget the samples; the next block starts at ``at_sample``. How high pulses usually are is kept."""
        if not hasattr(self, "_heights"):
            self._heights: deque[float] = deque(maxlen=N_HEIGHTS)
        self._first = at_sample  # of the buffer
        self._core = at_sample + self.margin  # the next sample at which an edge may be
        self._x: F32 = np.empty(0, np.float32)

    def process(self, x: F32) -> list[float]:
        """Feed ``x`` ``(n,)``, the samples that follow; return the edges found, as places between samples."""
        self._x = np.concatenate([self._x, x])
        edges: list[float] = []
        while True:
            end = (self._core // self._fs + 1) * self._fs
            if self._first + self._x.size < end + self.margin:
                return edges
            edges += self._tile(self._core, end)
            self._core = end
            keep = end - self.margin - self._first
            self._x, self._first = self._x[max(0, keep) :], self._first + max(0, keep)

    def _tile(self, begin: int, end: int) -> list[float]:
        """Edges whose steepest sample lies in ``[begin, end)``."""
        x = np.nan_to_num(self._x, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float64)
        total = np.concatenate([[0.0], np.cumsum(x)])
        at = np.arange(begin, end) - self._first
        w, g = self._n_level, N_GUARD
        after = total[at + g + w] - total[at + g]
        before = total[at - g] - total[at - g - w]
        rise = (after - before) / w  # (n_tile,)
        noise = 1.4826 * float(np.median(np.abs(rise - np.median(rise))))
        self._heights.append(float(rise.max()))
        least = max(MIN_RISE, N_NOISE * noise, REF_SHARE * float(np.median(self._heights)))
        edges = []
        for first, last in _runs(rise > least):
            if (edge := self._middle(x, int(at[first]), int(at[last - 1]))) is not None:
                edges.append(edge)
        return edges

    def _middle(self, x: F64, first: int, last: int) -> float | None:
        """Where the step within ``x[first : last + 1]`` passes the middle of its levels; None if it does not."""
        w, g = self._n_level, N_GUARD
        steepest = first + int(np.argmax(np.diff(x[first : last + 2]))) if last > first else first
        begin, end = steepest - g - w, steepest + 1 + g + w
        if begin < 0 or end > x.size:
            return None
        low, high = float(np.median(x[begin : begin + w])), float(np.median(x[end - w : end]))
        fine = _between(x, steepest - 1, 3)
        middle = (low + high) / 2
        above = fine > middle
        k = int(np.argmax(above))
        if not above[k] or k == 0:
            return None
        part = (middle - fine[k - 1]) / (fine[k] - fine[k - 1])
        return float(self._first + steepest - 1 + (k - 1 + part) / N_STEPS)


def _runs(yes: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs ``(first, last + 1)`` of True."""
    edges = np.flatnonzero(np.diff(yes.astype(np.int8), prepend=0, append=0))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _between(x: F64, first: int, n: int) -> F64:
    """``x`` at ``first, first + 1 / N_STEPS, …``, ``n`` samples long, by a sinc under a Hann window."""
    t = np.arange(n * N_STEPS + 1) / N_STEPS  # (n_fine,)
    taps = np.arange(-N_TAPS, n + N_TAPS + 1)
    distance = t[:, None] - taps[None, :]
    weight = np.sinc(distance) * np.where(np.abs(distance) < N_TAPS, np.cos(np.pi * distance / (2 * N_TAPS)) ** 2, 0.0)
    weight /= weight.sum(axis=1, keepdims=True)  # a constant stays itself
    index = np.clip(first + taps, 0, x.size - 1)
    fine: F64 = weight @ x[index]
    return fine
