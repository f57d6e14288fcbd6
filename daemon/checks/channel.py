"""The stage: tiles of one second on a grid counted in samples, whatever the blocks; records when a state changes."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from daemon.checks.judge import Judge
from daemon.checks.measure import Measured, measure
from daemon.config import ChecksConfig
from daemon.frames import Health, Quality, StreamStart

__all__ = ["ChannelChecks"]

F32 = npt.NDArray[np.float32]

REPORT_TILES = 60
"""Measured values are told anew after so many tiles, if no state changed before."""


class ChannelChecks:
    """State of one stream. Tile k covers samples ``[k fs, (k + 1) fs)``; one with a gap is not judged."""

    def __init__(self, limits: ChecksConfig, start: StreamStart) -> None:
        n_channels = len(start.channels)
        self._start, self._n = start, start.fs
        self._judge = Judge(limits, n_channels)
        self._tile: F32 = np.empty((n_channels, self._n), np.float32)
        self._known = np.ones(n_channels, bool)
        self._holes: deque[tuple[int, int, int]] = deque()
        self._changes: list[deque[tuple[int, Quality]]] = [deque([(0, ())]) for _ in range(n_channels)]
        self._n_judged = 0
        self.reset(0)

    def reset(self, at_sample: int) -> None:
        """After a gap: the next sample is ``at_sample``."""
        self._at = at_sample
        self._from = -(-at_sample // self._n) * self._n  # the tile under way begins here

    def hole(self, channel: int, first: int, last: int) -> None:
        """Samples ``[first, last)`` of a channel are unfit; told before they are fed."""
        self._holes.append((channel, first, last))

    def process(self, x: F32) -> list[Health]:
        """Feed ``(n_channels, n)`` samples; records of tiles completed, in order."""
        told: list[Health] = []
        end = self._at + x.shape[1]
        while (tile_end := self._from + self._n) <= end:
            self._fill(x, end, tile_end)
            told += self._complete(tile_end)
            self._at = self._from = tile_end
        self._fill(x, end, end)
        self._at = end
        return told

    def at(self, channel: int, end: int) -> Quality:
        """Checks that the channel fails as of sample ``end``; ask in order, earlier ones are forgotten."""
        changes = self._changes[channel]
        while len(changes) > 1 and changes[1][0] <= end:
            changes.popleft()
        return changes[0][1]

    def _fill(self, x: F32, end: int, until: int) -> None:
        """Copy what of ``x``, which ends at sample ``end``, belongs to the tile under way before ``until``."""
        first = max(self._at, self._from)
        if first < until:
            begin = end - x.shape[1]
            self._tile[:, first - self._from : until - self._from] = x[:, first - begin : until - begin]

    def _complete(self, end: int) -> list[Health]:
        self._known[:] = True
        for channel, first, last in self._holes:
            if first < end and last > self._from:
                self._known[channel] = False
        while self._holes and self._holes[0][2] <= end:
            self._holes.popleft()
        measured = measure(self._tile)
        changed = self._judge.process(measured, self._known)
        report = self._n_judged % REPORT_TILES == 0
        self._n_judged += 1
        for c in np.flatnonzero(changed):
            self._changes[c].append((end, self._judge.quality(int(c))))
        due = range(len(self._known)) if report else map(int, np.flatnonzero(changed))
        return [self._health(c, end, measured) for c in due if self._known[c]]

    def _health(self, c: int, end: int, m: Measured) -> Health:
        s = self._start
        hum = float(m.hum_db[c])
        return Health(
            s.source, s.channels[c], s.epoch, s.fs, end - self._n, self._n, self._judge.quality(c),
            float(m.level_db[c]), float(m.peak[c]), float(m.dc[c]), float(m.clipped[c]), int(m.low_bit[c]),
            int(m.n_stuck[c]), hum if math.isfinite(hum) else None, float(m.alike[c]),
            s.channels[int(m.alike_to[c])] if m.alike[c] else None,
        )  # fmt: skip
