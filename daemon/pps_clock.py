"""Whole UTC seconds on the samples where pulses begin: the best clock a recorder can have.

A pulse says where a second begins, not which. The second is named by the coarse time of the edge (the system clock, or
the start time of a file), which must be right within 0.4 s. False pulses and missing ones do no harm: true ones are
those that lie on one line, and a false one does so by chance only.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from daemon.clock_fit import ClockFit, fit_marks

__all__ = ["PulseClock"]

NS_PER_S = 1_000_000_000
SPAN_S = 120
"""Seconds looked back upon."""
MAX_PULSES = 20 * SPAN_S
MIN_PULSES = 5
LOST_S = 20
"""Without a true pulse for so long the pulses are lost."""
AMBIGUOUS_NS = 400_000_000
MAX_PPM = 500.0
"""By which the card may be off for its pulses to be recognised as one line."""
JITTER_NS = 10_000_000


class PulseClock:
    """Fits UTC to edges.

    Parameters
    ----------
    fs : int
        Nominal rate, Hz.
    named : bool
        Whether the coarse time names seconds. If not, the line serves for the rate alone.
    """

    def __init__(self, fs: int, *, named: bool = True) -> None:
        self._fs, self.named = fs, named
        self.reset()

    def reset(self) -> None:
        """Forget all pulses: the clock that names the seconds was set, or samples are missing in unknown number."""
        self._edges: deque[tuple[float, int]] = deque(maxlen=MAX_PULSES)
        """Place of the edge, and what it is off a coarse second, ns: ``second - coarse``."""
        self._seconds: deque[int] = deque(maxlen=MAX_PULSES)

    def add(self, edge: float, coarse_ns: int) -> None:
        """Note an edge at sample ``edge``, at about ``coarse_ns`` UTC (or of any clock that runs on)."""
        second = (2 * coarse_ns + NS_PER_S) // (2 * NS_PER_S)
        self._edges.append((edge, second * NS_PER_S - coarse_ns))
        self._seconds.append(second)

    def fit(self, sample: float) -> ClockFit | None:
        """UTC of samples about ``sample``; None while no pulses can be told, or since they were lost."""
        oldest = sample - SPAN_S * self._fs
        while self._edges and self._edges[0][0] < oldest:
            self._edges.popleft()
            self._seconds.popleft()
        if len(self._edges) < MIN_PULSES:
            return None
        off = np.array([o for _, o in self._edges], float)
        width = JITTER_NS + MAX_PPM * 1e3 * (self._edges[-1][0] - self._edges[0][0]) / self._fs
        up = np.zeros(off.size, int)  # added to the second
        chosen = _densest(off, width)
        if not self.named:  # half way between two coarse seconds, where rounding goes this way and that, is as good
            round_half = (off < 0).astype(int)
            other = _densest(off + NS_PER_S * round_half, width)
            if len(other) > len(chosen):
                chosen, up = other, round_half
        elif abs(float(np.median(off[chosen]))) > AMBIGUOUS_NS:
            return None  # which second a pulse begins cannot be said
        marks = [(self._edges[k][0], (self._seconds[k] + int(up[k])) * NS_PER_S) for k in chosen]
        if len(marks) < MIN_PULSES or sample - marks[-1][0] > LOST_S * self._fs:
            return None
        enough = len(marks) >= MIN_PULSES + math.floor(len(off) * 0.1)  # a tenth may fall into any place by chance
        return fit_marks(self._fs, marks) if enough else None


def _densest(values: np.ndarray, width: float) -> list[int]:
    """Indices, in their order, of the most values that lie within ``width``."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    n_in = np.searchsorted(ranked, ranked + width, side="right") - np.arange(ranked.size)
    k = int(np.argmax(n_in))
    return sorted(int(i) for i in order[k : k + int(n_in[k])])
