"""Digest of the source samples under a window, so that a record can be checked against a recording.

The samples of one channel, as little-endian float32, are cut at the slots of the grid. Each piece is hashed with
BLAKE2b to 16 bytes; the window's digest is the BLAKE2b-128 over the digests of its pieces, the last piece being what
of a slot the window still covers. So each sample is hashed about once, although windows overlap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["AudioDigest", "digest_of"]

F32 = npt.NDArray[np.float32]


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _piece(x: F32) -> bytes:
    return _hash(np.ascontiguousarray(x, "<f4").tobytes())


def digest_of(x: F32, step: int) -> str:
    """Digest of one window's samples ``x`` ``(n_samples,)`` with slots of ``step`` samples, as hex."""
    return _hash(b"".join(_piece(x[i : i + step]) for i in range(0, x.size, step))).hex()


class AudioDigest:
    """Streaming form: feed blocks, ask for the digest of each window as soon as its last sample was fed.

    Parameters
    ----------
    step, n_samples : int
        Grid step and window length in source samples.
    n_channels : int
    """

    def __init__(self, step: int, n_samples: int, n_channels: int) -> None:
        self._step, self._n_channels = step, n_channels
        self._n_whole, self._n_rest = divmod(n_samples, step)
        self._x: F32 = np.zeros((n_channels, 2 * step), np.float32)
        self.reset()

    def reset(self, at_sample: int = 0) -> None:
        """Forget everything; the next block starts at ``at_sample`` of the epoch."""
        self._position = at_sample
        self._slot = -(-at_sample // self._step)
        self._n = 0
        self._pieces: dict[int, list[bytes]] = {}  # by slot
        self._rests: dict[int, list[bytes]] = {}

    def process(self, x: F32) -> None:
        """Feed ``x`` ``(n_channels, n)``, the samples that follow; forgets windows that ended before this call."""
        for old in (self._pieces, self._rests):
            for slot in [s for s in old if s < self._slot - self._n_whole]:
                del old[slot]
        start = max(0, self._slot * self._step + self._n - self._position)
        self._position += x.shape[1]
        while start < x.shape[1]:
            n = min(x.shape[1] - start, self._step - self._n)
            before, self._n = self._n, self._n + n
            self._x[:, before : self._n] = x[:, start : start + n]
            start += n
            if before < self._n_rest <= self._n:
                self._rests[self._slot] = [_piece(c[: self._n_rest]) for c in self._x]
            if self._n == self._step:
                self._pieces[self._slot] = [_piece(c[: self._step]) for c in self._x]
                self._slot, self._n = self._slot + 1, 0

    def of(self, grid_index: int) -> Sequence[str]:
        """Digest per channel of window ``grid_index``.

        Raises
        ------
        LookupError
            If not all of its samples were fed since the last reset.
        """
        last = grid_index + self._n_whole
        rest = self._rests.get(last) if self._n_rest else [b""] * self._n_channels
        if rest is None or any(slot not in self._pieces for slot in range(grid_index, last)):
            raise LookupError(f"window {grid_index} is not wholly in what was fed since the last reset")
        pieces = [self._pieces[slot] for slot in range(grid_index, last)]
        return [_hash(b"".join([p[c] for p in pieces] + [rest[c]])).hex() for c in range(self._n_channels)]
