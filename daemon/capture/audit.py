"""Samples against the clock: the only test of a sound card that works on every host API."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ClockAudit", "Finding"]

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """What one span of the audit found."""

    fs: float
    """Rate over the span, Hz."""
    lost_s: float
    """Audio that should have come and did not; negative if too much came. 0 within the tolerance."""


class ClockAudit:
    """Compares sample counts with CLOCK_MONOTONIC, span by span.

    A block can come late but never early, so the least lateness ``t - n / fs`` of a span is that of the card; a busy
    machine does not move it. If it grows from one span to the next by more than ``tolerance_s``, so much audio is
    missing, flag or no flag. A card whose quartz is off by 100 ppm moves it by 0.4 ms in 4 s.

    Parameters
    ----------
    fs : float
        Nominal rate, Hz.
    span_s : float
    tolerance_s : float
        Below one JACK period of 1024 samples at 48 kHz (21.3 ms), above the jitter left in a span.
    """

    def __init__(self, fs: float, span_s: float = 4.0, tolerance_s: float = 0.02) -> None:
        self.fs, self._span_ns, self._tolerance_ns = fs, span_s * _NS, tolerance_s * _NS
        self._first: tuple[int, int] | None = None  # of this span
        self._last = (0, 0)
        self._least = self._before = float("inf")

    def add(self, n: int, t_ns: int) -> Finding | None:
        """Note that ``n`` samples had come at ``t_ns``; a finding whenever a span is over."""
        if self._first is None:
            self._first = self._last = (n, t_ns)
        if n == self._last[0] and n != self._first[0]:
            return None
        self._last = (n, t_ns)
        self._least = min(self._least, t_ns - n * _NS / self.fs)
        if t_ns - self._first[1] < self._span_ns:
            return None
        fs = (n - self._first[0]) * _NS / (t_ns - self._first[1])
        step = self._least - self._before if self._before != float("inf") else 0.0
        self._before, self._least, self._first = self._least, float("inf"), self._last
        return Finding(fs, step / _NS if abs(step) > self._tolerance_ns else 0.0)
