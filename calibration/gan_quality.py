r"""How good generated windows are: distances between sets, and whether training windows were copied.

**KID** (Binkowski et al., 2018): unbiased squared maximum mean discrepancy of embeddings with the kernel
``k(a, b) = (a . b / d + 1)^3``; unlike FID it has no bias at a hundred windows.

**Tonal distance**: Wasserstein-1 distance, in rows, between the histograms of line rows of both sets. Embeddings can
forgive a line that stands one row beside; the user of a signature cannot.

**Precision, recall, density, coverage** (Kynkaanniemi et al., 2019; Naeem et al., 2020) of embeddings.

**Memorisation**: distance to the nearest training window over the median distance to all of them, least over all time
rolls. The ratio forgives smoothness, which brings a window nearer to all; a copy is near to one only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = [
    "Memorised", "Prdc", "kid", "line_histogram", "memorisation", "nearest_ratio", "prdc", "tonal_distance",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: A row is a line's where its mean over time is a local maximum so far (0..1) above the window's median row.
LINE_MARGIN = 0.15


def kid(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Kernel inception distance of embeddings ``(n, d)`` and ``(m, d)``; about 0 for sets alike, may be negative.

    Raises
    ------
    ValueError
        If a set has fewer than two rows or the widths differ.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    _same_width(x, y, least=2)
    n, m, d = len(x), len(y), x.shape[1]
    kxx, kyy, kxy = (((p @ q.T) / d + 1.0) ** 3 for p, q in ((x, x), (y, y), (x, y)))
    within = (kxx.sum() - np.trace(kxx)) / (n * (n - 1)) + (kyy.sum() - np.trace(kyy)) / (m * (m - 1))
    return float(within - 2.0 * kxy.mean())


def line_histogram(features: F32, margin: float = LINE_MARGIN) -> F64:
    """Line rows of windows ``(n, 1, n_freq, n_time)``: how often each row holds a line, ``(n_freq,)``."""
    profile = features[:, 0].mean(2, dtype=np.float64)  # (n, n_freq)
    inner = profile[:, 1:-1]
    top = (inner > profile[:, :-2]) & (inner >= profile[:, 2:])
    line = top & (inner > np.median(profile, axis=1, keepdims=True) + margin)
    return np.pad(line.sum(0).astype(np.float64), 1)


def tonal_distance(a: F32, b: F32) -> float:
    """Wasserstein-1 distance in rows between the line histograms of two sets of windows.

    A shift of all lines by one row gives 1, identical sets give 0. NaN where one set has no line at all.
    """
    p, q = line_histogram(a), line_histogram(b)
    if not p.any() or not q.any():
        return float("nan")
    rows = np.arange(len(p))
    return float(stats.wasserstein_distance(rows, rows, p, q))


@dataclass(frozen=True, slots=True)
class Prdc:
    """Fidelity (precision, density) and variety (recall, coverage); 1 is alike, density may exceed it."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: npt.ArrayLike, made: npt.ArrayLike, k: int = 5) -> Prdc:
    """Of embeddings ``(n, d)`` and ``(m, d)``, with balls reaching the ``k``-th neighbour.

    Raises
    ------
    ValueError
        If a set has no more than ``k`` rows or the widths differ.
    """
    x, y = np.asarray(real, np.float64), np.asarray(made, np.float64)
    _same_width(x, y, least=k + 1)
    across = _distances(x, y)  # (n, m)
    of_real = np.partition(_distances(x, x), k, axis=1)[:, k]  # the 0-th neighbour is the row itself
    of_made = np.partition(_distances(y, y), k, axis=1)[:, k]
    inside = across < of_real[:, None]
    return Prdc(
        precision=float(inside.any(0).mean()),
        recall=float((across < of_made[None]).any(1).mean()),
        density=float(inside.sum(0).mean() / k),
        coverage=float((across.min(1) < of_real).mean()),
    )


@dataclass(frozen=True, slots=True)
class Memorised:
    """Result of `memorisation`."""

    share: float
    """Share of windows nearer to one training window than all but a hundredth of real ones from other recordings."""
    median_ratio: float
    """Median of `nearest_ratio`; 1 would be equally far from all training windows."""
    real_ratio: float
    """The same of the real windows."""


def memorisation(made: F32, train: F32, others: F32) -> Memorised:
    """Whether windows copy training windows, judged against real windows of ``others`` recordings of the class.

    All are ``(n, 1, n_freq, n_time)`` of one class.
    """
    of_made, of_real = nearest_ratio(made, train), nearest_ratio(others, train)
    limit = np.quantile(of_real, 0.01)
    return Memorised(float((of_made < limit).mean()), float(np.median(of_made)), float(np.median(of_real)))


def nearest_ratio(windows: F32, train: F32) -> F64:
    """Distance to the nearest training window over the median distance, least over time rolls, ``(n,)``.

    Raises
    ------
    ValueError
        If there are fewer than two training windows or the shapes differ.
    """
    if len(train) < 2 or windows.shape[1:] != train.shape[1:]:
        raise ValueError(f"windows {windows.shape} cannot be held against training windows {train.shape}")
    n_time = train.shape[3]
    spectrum = np.conj(np.fft.rfft(train[:, 0], axis=2))  # (m, n_freq, n_time / 2 + 1)
    power = np.square(train, dtype=np.float64).sum((1, 2, 3))
    out = np.empty(len(windows))
    for i, w in enumerate(windows[:, 0]):
        across = np.fft.irfft(np.einsum("ft,mft->mt", np.fft.rfft(w, axis=1), spectrum), n_time, axis=1).max(1)
        d = np.sqrt(np.maximum(power + np.square(w, dtype=np.float64).sum() - 2.0 * across, 0.0))
        middle = np.median(d)
        out[i] = d.min() / middle if middle > 0 else 0.0
    return out


def _distances(x: F64, y: F64) -> F64:
    return np.asarray(np.sqrt(np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2.0 * x @ y.T, 0.0)))


def _same_width(x: F64, y: F64, *, least: int) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < least:
        raise ValueError(f"embeddings {x.shape} and {y.shape}: need one width and at least {least} rows each")
