"""From sample index to UTC, in whole numbers."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.frames import StreamStart

__all__ = ["SampleClock"]

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SampleClock:
    """Time of one epoch: ``t(n) = t_first_sample_ns + n 10^9 / fs``, rounded to the nearest ns.

    Each time is computed from the anchor, so no error accumulates however long the stream is.
    """

    epoch: int
    fs: int
    """Hz."""
    t_first_sample_ns: int | None
    """UTC of sample 0, Unix ns; None when unknown."""

    @classmethod
    def of(cls, start: StreamStart) -> SampleClock:
        """Clock of the epoch that ``start`` begins."""
        return cls(start.epoch, start.fs, start.t_first_sample_ns)

    def utc_ns(self, epoch: int, sample: int) -> int | None:
        """UTC of a sample, Unix ns; None when unknown, also for a sample of another epoch."""
        if self.t_first_sample_ns is None or epoch != self.epoch:
            return None
        return self.t_first_sample_ns + (2 * sample * NS_PER_S + self.fs) // (2 * self.fs)
