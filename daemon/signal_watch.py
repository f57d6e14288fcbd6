"""Whether samples can come from a converter at all: not all the same, not without numbers, not the same block again.

Looked at in tiles of about 20 ms on a grid counted in samples, so that the answer does not depend on the blocks. A
tile of a channel is *without signal* if all its samples are equal (0: nothing is connected; else: the converter
hangs), if some are no numbers, or if it holds values that no converter gives. A tile of all channels is *repeated* if
its bytes came before within the last 2 s: a driver that plays the same buffer over and over. Noise of a converter does
neither, not even in a quiet sea.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

__all__ = ["Fault", "SignalWatch", "Tile"]

F32 = npt.NDArray[np.float32]

TILE_S = 0.02
MEMORY_S = 2.0
LEAST, MOST = 1e-9, 1e3
"""Of full scale: the last bit of 24 is 1e-7; a float beyond is memory that nobody filled."""
N_HASHED = 8
"""Channels whose bytes are compared: a driver repeats all or none."""


class Fault(IntEnum):
    """Why a tile holds no signal."""

    NONE = 0
    ZERO = 1
    STUCK = 2
    NO_NUMBER = 3
    WILD = 4
    REPEATED = 5

    @property
    def words(self) -> str:
        """For people."""
        return (
            "signal", "no signal: all samples are 0", "no signal: all samples have the same value",
            "no signal: samples that are no numbers", "no signal: values that no converter gives",
            "no signal: the same block again and again",
        )[self]  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One tile of all channels."""

    first: int
    last: int
    """The sample after it."""
    faults: npt.NDArray[np.int8]
    """``(n_channels,)`` of :class:`Fault`."""

    @property
    def heard(self) -> bool:
        """Any channel has signal."""
        return not self.faults.all()


class SignalWatch:
    """State of one stream: the tile under way and what the last ones were.

    Parameters
    ----------
    fs : int
        Hz.
    n_channels : int
    """

    def __init__(self, fs: int, n_channels: int) -> None:
        self.n_tile = 1 << max(4, round(np.log2(TILE_S * fs)))
        self._n_kept = max(2, round(MEMORY_S * fs / self.n_tile))
        self._rest: F32 = np.empty((n_channels, 0), np.float32)
        self.reset(0)

    def reset(self, at_sample: int) -> None:
        """After a gap: the next sample is ``at_sample``."""
        self._at = at_sample  # of the first sample in rest
        self._rest = self._rest[:, :0]
        self._known: set[int] = set()
        self._order: deque[int] = deque()

    def process(self, x: F32) -> Iterator[Tile]:
        """Feed ``(n_channels, n)``; the tiles completed."""
        n = self.n_tile
        x = x if not self._rest.shape[1] else np.concatenate([self._rest, x], axis=1)
        skip = min(-self._at % n, x.shape[1])  # after a gap: up to the next tile
        n_tiles = (x.shape[1] - skip) // n
        whole = x[:, skip : skip + n_tiles * n].reshape(len(x), n_tiles, n)
        first = self._at + skip
        faults = _faults(whole)
        for k in range(n_tiles):
            column = faults[:, k]
            if self._repeated(whole[:N_HASHED, k]) and not column.any():
                column = np.full(len(x), Fault.REPEATED, np.int8)
            yield Tile(first + k * n, first + (k + 1) * n, column)
        self._at = first + n_tiles * n
        self._rest = x[:, skip + n_tiles * n :].copy()

    def _repeated(self, tile: F32) -> bool:
        """Whether these bytes came before, within the memory."""
        key = hash(tile.tobytes())
        again = key in self._known
        self._order.append(key)
        self._known.add(key)
        if len(self._order) > self._n_kept and (old := self._order.popleft()) not in self._order:
            self._known.discard(old)
        return again


def _faults(x: F32) -> npt.NDArray[np.int8]:
    """``(n_channels, n_tiles)`` of faults that one tile shows by itself, from ``(n_channels, n_tiles, n)``."""
    high, low = x.max(axis=2), x.min(axis=2)  # nan if one sample is
    most = np.maximum(np.abs(high), np.abs(low))
    found = [most < LEAST, ~np.isfinite(most), most > MOST, high == low]
    return np.select(found, [Fault.ZERO, Fault.NO_NUMBER, Fault.WILD, Fault.STUCK], Fault.NONE).astype(np.int8)
