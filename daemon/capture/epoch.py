"""One stream out of a capture process's ring: where it began, what was given of it, and its stamps of time."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.capture.request import Ready
from daemon.ring import SampleRing

__all__ = ["CardEpoch"]

_NS = 1_000_000_000


@dataclass(slots=True)
class CardEpoch:
    """The stream under way; positions count from the start of the child's ring."""

    ready: Ready
    ring: SampleRing
    base: int
    """Ring index of the epoch's sample 0."""
    at: int
    """Ring index of the next sample to give."""
    t_first_ns: int
    """CLOCK_MONOTONIC of sample 0."""
    stamp: tuple[int, int] | None = None
    """Sample count of the epoch and CLOCK_MONOTONIC, the least late since the last block given."""

    def note(self, n_written: int, t_ns: int) -> None:
        """Keep the stamp if it is the least late one: one can come late but hardly early."""
        n = n_written - self.base
        if n <= 0:
            return
        if self.stamp is None or t_ns - self.stamp[1] < (n - self.stamp[0]) * _NS // self.ready.fs:
            self.stamp = n, t_ns

    @property
    def n_given(self) -> int:
        """Samples given, gaps included."""
        return self.at - self.base
