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
        self._outer = edge(rows - half), edge(rows + half + 1)
        self._inner = edge(rows - gap), edge(rows + gap + 1)
        n_rows = (self._outer[1] - self._outer[0]) - (self._inner[1] - self._inner[0])
        self._weight = (1.0 / np.maximum(n_rows, 1)).astype(np.float64)
        self._clip = clip
        self._bias = 1.0 - clip * math.exp(-clip)

    def __call__(self, power: npt.NDArray[np.float32]) -> F64:
        """Background ``(..., n_freq)`` of ``power`` ``(..., n_freq)``, along the last axis, same unit."""
        p = power.astype(np.float64)
        mean = self._mean(p)
        return self._mean(np.where(p > self._clip * mean, mean, p)) / self._bias

    def _mean(self, power: F64) -> F64:
        total = np.zeros((*power.shape[:-1], power.shape[-1] + 1))  # (..., n_freq + 1), running sum along frequency
        np.cumsum(power, axis=-1, out=total[..., 1:])
        outer = total[..., self._outer[1]] - total[..., self._outer[0]]
        inner = total[..., self._inner[1]] - total[..., self._inner[0]]
        mean: F64 = np.maximum(outer - inner, 0.0) * self._weight
        return mean
