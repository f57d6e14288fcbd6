"""Background of a spectrum along frequency: the two-pass split window (TPSW) of LOFAR processing."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

__all__ = ["SplitWindow"]

F64 = npt.NDArray[np.float64]


class SplitWindow:
    """Mean of the rows around each row, lines left out.

    First pass: the mean over ``half`` rows to either side without the inner ``gap``. Then cells above ``clip`` times
    that mean are replaced by it, and the mean is taken again (Struzinski & Lowe, J. Acoust. Soc. Am. 76(6), 1984,
    compare such normalisers). The clipping biases the mean of exponentially distributed noise power to
    ``1 - c exp(-c)``, which is divided out.

    Parameters
    ----------
    n_freq : int
        Rows of a spectrum.
    row_lo : int
        First row that counts; the rows below are too steep for a mean.
    half, gap : int
        Rows to either side, outer and inner limit.
    clip : float
    """

    def __init__(self, n_freq: int, row_lo: int, half: int, gap: int, clip: float) -> None:
        rows = np.arange(n_freq)
        edge = functools.partial(np.clip, a_min=row_lo, a_max=n_freq)
        n_outer = edge(rows + half + 1) - edge(rows - half)
        n_inner = edge(rows + gap + 1) - edge(rows - gap)
        self._weight = (1.0 / np.maximum(n_outer - n_inner, 1)).astype(np.float64)
        self._n_freq, self._row_lo, self._half, self._gap, self._clip = n_freq, row_lo, half, gap, clip
        self._bias = 1.0 - clip * math.exp(-clip)
        self._scratch((0,))

    def __call__(self, power: npt.NDArray[np.float32]) -> F64:
        """Background ``(..., n_freq)`` of ``power`` ``(..., n_freq)``, along the last axis, same unit.

        The array handed back is good until the next call, which must come from the same thread.
        """
        if power.shape != self._power.shape:
            self._scratch(power.shape)
        p, mean = self._power, self._mean
        p[...] = power
        self._split_mean(p)
        np.multiply(mean, self._clip, out=self._other)
        np.greater(p, self._other, out=self._above)
        np.copyto(p, mean, where=self._above)
        self._split_mean(p)
        np.divide(mean, self._bias, out=mean)
        return mean

    def _scratch(self, shape: tuple[int, ...]) -> None:
        """Buffers for ``power`` of this shape; the steady state of a stream needs no others."""
        self._power, self._mean, self._other = (np.empty(shape) for _ in range(3))
        self._above = np.empty(shape, np.bool_)
        # running sum along frequency, and as much of its first and last value as the split window looks beyond the ends
        self._total = np.zeros((*shape[:-1], shape[-1] + 1 + 2 * self._half))

    def _split_mean(self, power: F64) -> None:
        total, half, n, mean, other = self._total, self._half, self._n_freq, self._mean, self._other
        first, last = half + self._row_lo, half + n
        np.cumsum(power, axis=-1, out=total[..., half + 1 : last + 1])
        total[..., half] = 0.0
        total[..., :first] = total[..., first, None]
        total[..., last + 1 :] = total[..., last, None]
        for reach, into in ((half, mean), (self._gap, other)):
            a, b = half - reach, half + reach + 1
            np.subtract(total[..., b : b + n], total[..., a : a + n], out=into)
        np.subtract(mean, other, out=mean)
        np.maximum(mean, 0.0, out=mean)
        np.multiply(mean, self._weight, out=mean)
