"""A straight line through marks ``(sample, time)``, some of which are late and some plainly wrong.

Time of sample ``n``::

    t(n) = t_ref + (n - n_ref) · T,    T = 10⁹ / fs · (1 - ppm / 10⁶) ns,    fs_measured = 10⁹ / T

The line starts from the medians of Theil and Sen, which up to 29 % of wrong marks do not move, and is refined by
weighted least squares with Tukey's biweight, in which a mark more than 4.7 standard deviations off counts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ClockFit", "fit_marks"]

F64 = npt.NDArray[np.float64]

NS_PER_S = 1_000_000_000
MIN_MARKS = 5
TUKEY = 4.685
N_THEIL = 120
"""Marks between which slopes are taken; more are thinned."""
MAX_PPM = 2000.0
"""No clock of a sound card is that far off: such a line is of wrong marks."""


@dataclass(frozen=True, slots=True)
class ClockFit:
    """The line."""

    fs: int
    """Nominal rate, Hz."""
    n_ref: int
    t_ref_ns: int
    ppm: float
    """Deviation of the rate from nominal, parts per million; positive: the card is fast."""
    err_ppm: float
    """Standard error of ``ppm``."""
    err_ns: float
    """Standard error of ``t_ref_ns``."""
    scatter_ns: float
    """Standard deviation of one good mark about the line."""
    n_used: int
    n_rejected: int

    @property
    def fs_measured(self) -> float:
        """Hz."""
        return self.fs * (1.0 + self.ppm * 1e-6)

    def t_ns(self, sample: float) -> int:
        """Time of a sample, which may lie between two."""
        n = sample - self.n_ref
        whole = math.floor(n)
        nominal = whole * NS_PER_S // self.fs
        rest = (n - whole + (whole * NS_PER_S % self.fs) / NS_PER_S) * NS_PER_S / self.fs
        return self.t_ref_ns + nominal + round(rest - n * NS_PER_S / self.fs * self.ppm * 1e-6 / (1 + self.ppm * 1e-6))

    def sample(self, t_ns: int) -> int:
        """Last sample taken at or before a time."""
        return self.n_ref + math.floor((t_ns - self.t_ref_ns) / NS_PER_S * self.fs_measured)

    def error_ns(self, sample: float) -> float:
        """Standard error of the time of a sample."""
        return math.hypot(self.err_ns, (sample - self.n_ref) / self.fs * 1e3 * self.err_ppm)


def fit_marks(fs: int, marks: Sequence[tuple[float, int]]) -> ClockFit | None:
    """Line through ``marks`` (sample, ns); None while they are too few to tell the good from the bad, or no line."""
    if len(marks) < MIN_MARKS:
        return None
    n_ref = int(marks[-1][0])
    t_ref = marks[-1][1]
    x = np.array([(n - n_ref) / fs for n, _ in marks])  # s
    # what the marks are late by a clock of nominal rate, ns: small numbers, exact in float64
    y = np.array([float(t - t_ref) - (n - n_ref) * (NS_PER_S / fs) for n, t in marks])
    if np.ptp(x) <= 0:
        return None
    slope, at = _theil_sen(x, y)
    weights, scale = _biweight(y - at - slope * x)
    for _ in range(30):
        before = slope, at
        slope, at = _line(x, y, weights)
        weights, scale = _biweight(y - at - slope * x)
        if abs(slope - before[0]) < 1e-6 and abs(at - before[1]) < 1e-3:
            break
    good = weights > 0
    n_good = int(good.sum())
    if n_good < MIN_MARKS or 2 * n_good <= len(marks) or abs(slope) > MAX_PPM * 1e3:
        return None
    mean = float(np.average(x, weights=weights))
    spread = float((weights * (x - mean) ** 2).sum())
    if spread <= 0:
        return None
    residual = y - at - slope * x
    s = math.sqrt(float((weights * residual**2).sum()) / max(1.0, float(weights.sum()) - 2.0))
    s = max(s, 1.0)  # ns: stamps are whole
    err_slope, err_mean = s / math.sqrt(spread), s / math.sqrt(float(weights.sum()))
    ppm = -slope * 1e-3 / (1.0 + slope * 1e-9)  # late by ``slope`` ns per s of nominal time: that much slow
    err_ns = math.hypot(err_mean, err_slope * mean)
    return ClockFit(fs, n_ref, t_ref + round(at), ppm, err_slope * 1e-3, err_ns, scale, n_good, len(marks) - n_good)


def _theil_sen(x: F64, y: F64) -> tuple[float, float]:
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), N_THEIL)).round().astype(int))
    xs, ys = x[some], y[some]
    i, j = np.triu_indices(len(some), 1)
    dx, dy = xs[j] - xs[i], ys[j] - ys[i]
    slope = float(np.median(dy[dx > 0] / dx[dx > 0]))
    return slope, float(np.median(y - slope * x))


def _biweight(residual: F64) -> tuple[F64, float]:
    """Weights 0..1, and the standard deviation of what is no outlier, ns."""
    scale = max(1.4826 * float(np.median(np.abs(residual))), 1.0)
    u = residual / (TUKEY * scale)
    return np.where(np.abs(u) < 1, (1 - u**2) ** 2, 0.0), scale


def _line(x: F64, y: F64, weights: F64) -> tuple[float, float]:
    total = weights.sum()
    mx, my = (weights * x).sum() / total, (weights * y).sum() / total
    spread = (weights * (x - mx) ** 2).sum()
    slope = float((weights * (x - mx) * (y - my)).sum() / spread) if spread > 0 else 0.0
    return slope, float(my - slope * mx)
