"""Takes stretches without signal out of a live stream: no window is made of them, and each is accounted for as a gap.

Only live sources: silence in a file is what was recorded. A stretch counts from ``HOLD_S`` on; windows that ended
within its first ``HOLD_S`` may hold so much of it. Samples that are no numbers are the business of daemon.sieve.
"""

from __future__ import annotations

from dataclasses import dataclass

from daemon.frames import AudioBlock, Gap
from daemon.grid import Hole
from daemon.signal_watch import Fault, SignalWatch, Tile

__all__ = ["NoSignal"]

HOLD_S = 0.25
TOLD_S = 60.0
"""A stretch that goes on is told of so often."""


@dataclass(slots=True)
class _Run:
    """A stretch of one channel that is not over."""

    first: int
    last: int
    fault: Fault
    holed_to: int
    """Samples before this one are holes already, or told of in an earlier record."""
    told_to: int


class NoSignal:
    """State of one stream: the stretch each channel is in."""

    def __init__(self, source: str, epoch: int, fs: int, n_channels: int) -> None:
        self._source, self._epoch, self._fs, self._n_channels = source, epoch, fs, n_channels
        self._watch = SignalWatch(fs, n_channels)
        self._runs: dict[int, _Run] = {}

    def process(self, block: AudioBlock) -> tuple[list[tuple[int, Hole]], list[Gap]]:
        """New holes ``(channel, hole)``, some of which began before this block, and gaps that are over."""
        holes: list[tuple[int, Hole]] = []
        over: list[tuple[int, _Run]] = []
        for tile in self._watch.process(block.x):
            tile.faults[tile.faults == Fault.NO_NUMBER] = Fault.NONE
            if not self._runs and not tile.faults.any():
                continue
            over += [(c, self._runs.pop(c)) for c in [c for c in self._runs if not tile.faults[c]]]
            self._extend(tile, holes)
        return holes, self._gaps(over) + self._gaps(self._long())

    def reset(self, at_sample: int) -> list[Gap]:
        """After samples were lost: gaps that are over; the next sample is ``at_sample``."""
        self._watch.reset(at_sample)
        return self.finish()

    def finish(self) -> list[Gap]:
        """Gaps still open; call it at the end of the stream."""
        over, self._runs = list(self._runs.items()), {}
        return self._gaps(over)

    def _extend(self, tile: Tile, holes: list[tuple[int, Hole]]) -> None:
        for c in map(int, tile.faults.nonzero()[0]):
            run = self._runs.get(c)
            if run is None:
                run = self._runs[c] = _Run(tile.first, tile.last, Fault(int(tile.faults[c])), tile.first, tile.first)
            run.last = tile.last
            if run.last - run.first >= HOLD_S * self._fs:
                holes.append((c, Hole(run.holed_to, run.last, "invalid")))
                run.holed_to = run.last

    def _long(self) -> list[tuple[int, _Run]]:
        """Parts of stretches that go on and were not told of for a minute."""
        parts = []
        for c, run in self._runs.items():
            if run.last - run.told_to >= TOLD_S * self._fs:
                parts.append((c, _Run(run.first, run.last, run.fault, run.holed_to, run.told_to)))
                run.told_to = run.last
        return parts

    def _gaps(self, runs: list[tuple[int, _Run]]) -> list[Gap]:
        """One record per channel, or one for all where all are concerned alike."""
        spans: dict[tuple[int, int, Fault], list[int]] = {}
        for c, run in runs:
            if run.holed_to > run.told_to:
                spans.setdefault((run.told_to, run.holed_to, run.fault), []).append(c)
        gaps = []
        for (first, last, fault), channels in spans.items():
            concerned = [None] if len(channels) == self._n_channels else channels
            duration_ns = round((last - first) * 1e9 / self._fs)
            gaps += [
                Gap(self._source, self._epoch, first, last - first, duration_ns, 0, fault.words, channel=c)
                for c in concerned
            ]
        return gaps
