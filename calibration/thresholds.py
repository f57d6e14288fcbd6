r"""Thresholds that a bundle carries: what of a score map counts, and what is like nothing known.

**Score map.** A map that is stretched to 0..1 is no confidence: on an empty sea it also reaches 1. So thresholds are
quantiles of the map over source-free windows, explained for the label (split conformal): of ``n`` cells the one of
rank ``ceil((n + 1) q)``. A cell of a further source-free window then exceeds it with probability of at most ``1 - q``,
as long as windows are alike; cells of one window are not independent, so many recordings matter, not many cells.

**Unknown.** The distance of a window's embedding to the nearest representative, and the quantile of it over windows of
the label that the network never saw, times a margin.

**Least probability.** A low quantile of the probability of the label over the same windows, within bounds.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["NOMINAL_LEVELS", "auroc", "conformal_quantile", "least_probability", "unknown_distance"]

#: Nominal shares of noise removed; written as the paper writes its thresholds.
NOMINAL_LEVELS = ("0.86", "0.95", "0.99")
#: Share of windows of a known label that may be called unknown.
UNKNOWN_SHARE = 0.01
#: Margin on the distance, for sites that differ from the calibration.
UNKNOWN_MARGIN = 1.1
#: Bounds of the least probability: below the lower a label is a guess, above the upper a good window may fail.
PROBABILITY_BOUNDS = (0.3, 0.6)


def conformal_quantile(values: npt.ArrayLike, level: float) -> float:
    """Value of rank ``ceil((n + 1) level)`` among ``n``; the largest where that rank is ``n + 1``.

    Raises
    ------
    ValueError
        If there are no values, some are not finite, or ``level`` is not inside 0..1.
    """
    v = np.ravel(np.asarray(values))
    if not 0.0 < level < 1.0:
        raise ValueError(f"{level=} is not between 0 and 1")
    if not v.size or not np.isfinite(v).all():
        raise ValueError(f"{v.size} values, of which {np.count_nonzero(~np.isfinite(v))} are not finite")
    # (n + 1) * level is a whole number up to rounding now and then: 0.95 * 100 must not become 96
    rank = min(math.ceil((v.size + 1) * level - 1e-9), v.size)
    return float(np.partition(v, rank - 1)[rank - 1])


def unknown_distance(distances: npt.ArrayLike) -> float:
    """Distance beyond which a window is like nothing known, from windows of one known label."""
    return UNKNOWN_MARGIN * conformal_quantile(distances, 1.0 - UNKNOWN_SHARE)


def least_probability(probabilities: npt.ArrayLike) -> float:
    """Probability below which a label is not named, from windows of that label."""
    lo, hi = PROBABILITY_BOUNDS
    return float(np.clip(np.quantile(np.asarray(probabilities, np.float64), 0.01), lo, hi))


def auroc(known: npt.ArrayLike, strange: npt.ArrayLike) -> float:
    """Probability that a strange window is farther off than a known one; nan if either is absent."""
    a, b = np.ravel(np.asarray(known, np.float64)), np.ravel(np.asarray(strange, np.float64))
    if not a.size or not b.size:
        return math.nan
    from scipy import stats  # ashore only, and half a second

    ranks = stats.rankdata(np.concatenate([b, a]))
    return (float(ranks[: b.size].sum()) - b.size * (b.size + 1) / 2) / (a.size * b.size)
