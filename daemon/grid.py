"""The grid: every slot of every channel becomes exactly one record, analysed or with the reason why not.

Slot ``g`` covers samples ``[g * step, g * step + n_samples)`` of the epoch and is due once the stream has reached its
end. A hole is a run of samples that are missing or unusable, of one channel or of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from daemon.frames import Reason

__all__ = ["Grid", "Hole", "Slot"]


@dataclass(frozen=True, slots=True)
class Hole:
    """Samples ``[first, last)`` that cannot be used."""

    first: int
    last: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Slot:
    """One due slot of one channel."""

    channel: int
    grid_index: int
    reason: Reason | None
    """None: all samples are good."""
    lost_samples: int


class Grid:
    """Keeps the holes of each channel and says which slots are due."""

    def __init__(self, step: int, n_samples: int, n_channels: int) -> None:
        self.step, self.n_samples = step, n_samples
        self._holes: list[list[Hole]] = [[] for _ in range(n_channels)]
        self._next = 0

    def add_hole(self, hole: Hole, channel: int | None = None) -> None:
        """Note a hole, of one channel or of all; holes come in order of their first sample."""
        for c in range(len(self._holes)) if channel is None else (channel,):
            holes = self._holes[c]
            if holes and holes[-1].last == hole.first and holes[-1].reason == hole.reason:
                holes[-1] = Hole(holes[-1].first, hole.last, hole.reason)
            else:
                holes.append(hole)

    def due(self, position: int) -> Iterator[list[Slot]]:
        """Yield, in order, the slots whose last sample lies before ``position``, each slot for all channels."""
        while (end := self._next * self.step + self.n_samples) <= position:
            first = self._next * self.step
            yield [self._slot(c, first, end) for c in range(len(self._holes))]
            self._next += 1
            for c, holes in enumerate(self._holes):
                self._holes[c] = [h for h in holes if h.last > self._next * self.step]

    def _slot(self, channel: int, first: int, end: int) -> Slot:
        hit = [h for h in self._holes[channel] if h.first < end and h.last > first]
        lost = sum(min(h.last, end) - max(h.first, first) for h in hit)
        return Slot(channel, self._next, hit[0].reason if hit else None, lost)
