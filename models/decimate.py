"""Whole-number decimation of many channels as a few small matrix products, the same bits wherever the stream is cut.

With the input as rows of ``M`` samples and the low-pass of ``N`` taps as ``J`` rows of as many, turned round
(``h[0]`` meets the newest sample),

    v[m] = sum_j  H[j, :] . X[m + j, :],     X[r, :] = x[r M .. r M + M),

so one product ``H X^T`` of ``J x M`` by ``M x n`` holds all that the outputs need; each is then the sum of a diagonal.
The product is made in units of always the same number of outputs, at the same place of the stream: whatever order of
sums the library chooses for that shape, it is the same for every cut, start, channel and step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.resample import Resampler

__all__ = ["Decimator"]

F32 = npt.NDArray[np.float32]

#: Multiplications in one product. Above 2^18 OpenBLAS shares a product among threads, which costs more than it brings.
MOST_PRODUCTS = 200_000
#: Outputs in one product, at least: below, too much of it is cut off at the ends.
LEAST_UNIT = 32


class Decimator:
    """What `Resampler` computes where the rates divide, for ``n_channels`` at once; holds its scratch, no state.

    Parameters
    ----------
    resampler : Resampler
        With ``up == 1``.
    unit : int
        Outputs in one product, see `unit_of`.
    n_channels, n_most : int
        Channels, and most outputs of a call.
    """

    def __init__(self, resampler: Resampler, unit: int, n_channels: int, n_most: int) -> None:
        self._m, n_taps = resampler.down, resampler.taps.size
        n_rows = -(-n_taps // self._m)
        padded = np.zeros(n_rows * self._m, np.float32)
        padded[:n_taps] = resampler.taps[::-1]
        self.n_pad = padded.size - n_taps
        """Samples behind the last one needed that are read, and multiplied by zero."""
        self._rows = padded.reshape(n_rows, self._m)
        self._unit = unit
        self._product: F32 = np.empty((n_channels, n_most // unit, n_rows, unit + n_rows - 1), np.float32)
        a, b, row, one = self._product.strides
        shape = (n_channels, n_most // unit, n_rows, unit)
        self._diagonals = np.lib.stride_tricks.as_strided(self._product, shape, (a, b, row + one, one))

    @staticmethod
    def unit_of(resampler: Resampler, common: int) -> int:
        """Outputs in one product where every call asks for a multiple of ``common``; 0 if it would not pay."""
        if resampler.up != 1 or resampler.down == 1:
            return 0
        n_rows = -(-resampler.taps.size // resampler.down)
        most = MOST_PRODUCTS // (n_rows * resampler.down) - n_rows + 1
        unit = max((d for d in range(1, min(common, most) + 1) if common % d == 0), default=0)
        return unit if unit >= LEAST_UNIT else 0

    def __call__(self, x: F32, out: F32) -> None:
        """Outputs 0, 1, ... of ``x`` ``(n_channels, n_in + n_pad)`` into ``out`` ``(n_channels, n)``.

        ``n`` is a multiple of the unit. The ``n_pad`` samples behind must be finite.
        """
        n_channels, n_units = len(x), out.shape[1] // self._unit
        n_rows, n_columns = self._product.shape[2:]
        if (
            x.shape[1] < (out.shape[1] + n_rows - 1) * self._m
            or out.shape[1] % self._unit
            or x.strides[1] != x.itemsize
        ):
            raise ValueError(f"{x.shape=} does not hold {out.shape[1]} outputs in units of {self._unit}")
        one = x.itemsize
        columns = np.lib.stride_tricks.as_strided(
            x,
            (n_channels, n_units, self._m, n_columns),
            (x.strides[0], self._unit * self._m * one, one, self._m * one),
            writeable=False,
        )
        np.matmul(self._rows, columns, out=self._product[:, :n_units])
        units = out.reshape(n_channels, n_units, self._unit)  # a view: only the last axis is split
        np.add.reduce(self._diagonals[:, :n_units], axis=2, out=units)
