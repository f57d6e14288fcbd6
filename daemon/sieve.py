"""Takes samples that are no numbers out of the stream and accounts for each of them.

A channel's NaN or infinite samples become zeros, so that the other channels go on, and a hole of that channel: no
window of it that touches the hole is analysed. Each run of bad samples is reported as one gap; where a block holds more
than ``MAX_RUNS``, they and the samples between count as one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from daemon.frames import AudioBlock, Gap
from daemon.grid import Hole

__all__ = ["Sieve"]

F32 = npt.NDArray[np.float32]


MAX_RUNS = 8


class Sieve:
    """State of one stream: the run of bad samples that may go on in the next block, per channel."""

    def __init__(self, source: str, epoch: int, fs: int, n_channels: int) -> None:
        self._source, self._epoch, self._fs = source, epoch, fs
        self._open: list[tuple[int, int] | None] = [None] * n_channels

    def process(self, block: AudioBlock) -> tuple[F32, list[tuple[int, Hole]], list[Gap]]:
        """Samples fit for use, the holes ``(channel, hole)`` of this block, and the gaps that ended before it."""
        good = np.isfinite(block.x)  # (n_channels, n)
        if good.all():
            return block.x, [], self.finish()
        holes: list[tuple[int, Hole]] = []
        gaps: list[Gap] = []
        for c, row in enumerate(good):
            runs = _bad_runs(row)
            if not runs:
                gaps += self._close(c)
            for first, last in runs:
                first, last = block.first_sample + first, block.first_sample + last
                holes.append((c, Hole(first, last, "invalid")))
                run = self._open[c]
                if run is not None and run[1] == first and last - run[0] <= self._fs:
                    self._open[c] = (run[0], last)  # a record per second at most, while it lasts
                else:
                    gaps += self._close(c)
                    self._open[c] = (first, last)
        return np.where(good, block.x, np.float32(0.0)), holes, gaps

    def finish(self) -> list[Gap]:
        """The gaps still open; call it at the end of the stream."""
        return [g for c in range(len(self._open)) for g in self._close(c)]

    def _close(self, c: int) -> list[Gap]:
        run, self._open[c] = self._open[c], None
        if run is None:
            return []
        n = run[1] - run[0]
        return [Gap(self._source, self._epoch, run[0], n, round(n * 1e9 / self._fs), 0, "invalid", channel=c)]


def _bad_runs(good: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs ``(first, last + 1)`` of False in ``good`` ``(n,)``."""
    edges = np.flatnonzero(np.diff(good.astype(np.int8), prepend=1, append=1))
    runs = [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return runs if len(runs) <= MAX_RUNS else [(runs[0][0], runs[-1][1])]
