"""Ring of samples addressed by absolute sample index; one writer, any number of readers, over any buffer.

Layout, little-endian, 192-byte header then data::

    0   magic            8 bytes
    8   n_channels       u32
    12  reserved         u32
    16  n_capacity       u64, samples per channel
    24  n_claimed        u64, the writer may be overwriting everything before n_claimed - n_capacity
    32  n_written        u64, samples before this index are whole
    40  t_written_ns     u64, CLOCK_MONOTONIC of the newest sample
    48  sequence         u64, odd while n_written and t_written_ns change
    56  n_breaks         u64, how often the source said that samples were lost before a block
    64  breaks           16 u64, first sample after the k-th break at word k mod 16
    192 samples          float32 (n_capacity, n_channels), sample i at row i mod n_capacity

The writer first raises ``n_claimed``, then copies, then raises ``n_written``: if it dies at any point, what lies before
``n_written`` is whole or recognised as overwritten. A reader copies, then looks whether ``n_claimed`` has meanwhile
passed what it copied; what may have been overwritten is not given but counted as lost. Each number is one aligned
64-bit store, and stores are seen in the order made on x86-64; on ARM the system call between two blocks of audio
(the reader polls, the writer waits for its card) orders them.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["HEADER_BYTES", "RingRead", "SampleRing"]

HEADER_BYTES = 192
Buffer: TypeAlias = memoryview | bytearray | mmap.mmap
_MAGIC = int.from_bytes(b"tnldrng1", "little")
_CAPACITY, _CLAIMED, _WRITTEN, _TIME, _SEQUENCE, _N_BREAKS, _BREAKS = 2, 3, 4, 5, 6, 7, 8  # as u64 words of the header
_MAX_TRIES = 1000
_N_BREAKS_KEPT = 16


@dataclass(frozen=True, slots=True, eq=False)
class RingRead:
    """What a reader got."""

    first: int
    """Index of the first sample given; later than asked if the reader was lapped."""
    n_lost: int
    """Samples between the index asked and ``first``: overwritten before they were read."""
    x: npt.NDArray[np.float32]
    """``(n_channels, n)``, a copy; n = 0 if nothing new is there."""


class SampleRing:
    """See the module's docstring.

    Parameters
    ----------
    buffer : buffer
        At least ``SampleRing.n_bytes(n_channels, n_capacity)`` bytes, writable for the writer.
    """

    def __init__(self, buffer: Buffer) -> None:
        words = np.frombuffer(buffer, "<u8", HEADER_BYTES // 8)
        if int(words[0]) != _MAGIC:
            raise ValueError("the buffer holds no sample ring")
        self._words = words
        self.n_channels = int(np.frombuffer(buffer, "<u4", 1, 8)[0])
        self.n_capacity = int(words[_CAPACITY])
        n_values = self.n_channels * self.n_capacity
        self._samples = np.frombuffer(buffer, "<f4", n_values, HEADER_BYTES).reshape(self.n_capacity, self.n_channels)

    @staticmethod
    def n_bytes(n_channels: int, n_capacity: int) -> int:
        """Size of the buffer for ``n_capacity`` samples of ``n_channels``."""
        return HEADER_BYTES + 4 * n_channels * n_capacity

    @classmethod
    def create(cls, buffer: Buffer, n_channels: int, n_capacity: int) -> SampleRing:
        """Lay out an empty ring.

        Raises
        ------
        ValueError
            If a number is not positive or the buffer is too small.
        """
        if n_channels < 1 or n_capacity < 1:
            raise ValueError(f"{n_channels=} and {n_capacity=} must be positive")
        if len(buffer) < cls.n_bytes(n_channels, n_capacity):
            raise ValueError(f"{len(buffer)} bytes are too few for {n_channels} channels of {n_capacity} samples")
        words = np.frombuffer(buffer, "<u8", HEADER_BYTES // 8)
        words[:] = 0
        words[1], words[_CAPACITY] = n_channels, n_capacity
        words[0] = _MAGIC
        return cls(buffer)

    @property
    def n_written(self) -> int:
        """Samples written since the start; the next one has this index."""
        return int(self._words[_WRITTEN])

    def position(self) -> tuple[int, int]:
        """``n_written`` and CLOCK_MONOTONIC (ns) of that moment, of one and the same write."""
        words = self._words
        pair = (0, 0)
        for _ in range(_MAX_TRIES):
            before = int(words[_SEQUENCE])
            pair = (int(words[_WRITTEN]), int(words[_TIME]))
            if before % 2 == 0 and int(words[_SEQUENCE]) == before:
                return pair
        return pair  # the writer died between the two stores: its last word

    def write(self, x: npt.NDArray[np.float32], t_ns: int) -> None:
        """Append ``x`` ``(n, n_channels)``, the newest sample taken at ``t_ns``; the last capacity stays."""
        words, n_capacity, n = self._words, self.n_capacity, len(x)
        at = int(words[_WRITTEN])
        words[_CLAIMED] = at + n
        skip = max(0, n - n_capacity)
        row = (at + skip) % n_capacity
        n_head = min(n - skip, n_capacity - row)
        self._samples[row : row + n_head] = x[skip : skip + n_head]
        self._samples[: n - skip - n_head] = x[skip + n_head :]
        words[_SEQUENCE] += np.uint64(1)
        words[_TIME] = t_ns
        words[_WRITTEN] = at + n
        words[_SEQUENCE] += np.uint64(1)

    def mark_break(self) -> None:
        """Note that the source lost samples before the next one written. It does not say how many."""
        n = int(self._words[_N_BREAKS])
        self._words[_BREAKS + n % _N_BREAKS_KEPT] = self._words[_WRITTEN]
        self._words[_N_BREAKS] = n + 1

    def breaks(self, n_known: int) -> tuple[int, list[int]]:
        """How many breaks there are, and where those after the first ``n_known`` lie (only the last 16 are kept)."""
        n = int(self._words[_N_BREAKS])
        kept = range(max(n_known, n - _N_BREAKS_KEPT), n)
        return n, [int(self._words[_BREAKS + k % _N_BREAKS_KEPT]) for k in kept]

    def read(self, first: int, n_max: int) -> RingRead:
        """Copy up to ``n_max`` samples from index ``first`` on.

        Raises
        ------
        ValueError
            If ``first`` is negative or not yet written, or ``n_max`` is negative.
        """
        n_written = self.n_written
        if not 0 <= first <= n_written or n_max < 0:
            raise ValueError(f"{first=} is not in 0..{n_written}, or {n_max=} is negative")
        start = max(first, min(self._oldest(), n_written))
        n = max(0, min(n_max, n_written - start))
        row = start % self.n_capacity
        n_head = min(n, self.n_capacity - row)
        x = np.empty((self.n_channels, n), np.float32)
        x[:, :n_head] = self._samples[row : row + n_head].T
        x[:, n_head:] = self._samples[: n - n_head].T
        oldest = self._oldest()  # the writer may have come round while we copied
        if oldest > start:
            n_spoilt = min(oldest - start, n)
            x = np.ascontiguousarray(x[:, n_spoilt:])
            start += n_spoilt
        return RingRead(start, start - first, x)

    def _oldest(self) -> int:
        return max(0, int(self._words[_CLAIMED]) - self.n_capacity)

    def release(self) -> None:
        """Let go of the buffer, so that shared memory can be closed."""
        del self._words, self._samples
