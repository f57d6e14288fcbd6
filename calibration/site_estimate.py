r"""Thresholds of a site from score maps of its source-free windows, and how far they can be relied on.

Split conformal (Vovk et al., 2005): of all ``n`` source-free cells the one of rank ``ceil((n + 1) q)``. Windows are the
same number of cells each, so each window weighs alike. A cell of a further window like these exceeds the threshold with
a probability of about ``1 - q``; exactly so for single exchangeable cells, but the cells of one window, and the windows
of one recording, resemble each other. What counts is how many *recordings* there are: so the removal that is reported
is measured on each recording with the threshold of all the others, and its interval is Student's over recordings.
Recordings longer than `SEGMENT_S` are cut into pieces of that length, which count as recordings: what changes more
slowly than that (a storm) is not in the interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.special

from calibration.site import SiteThreshold
from calibration.thresholds import NOMINAL_LEVELS

__all__ = ["MIN_SEGMENTS", "MIN_WINDOWS", "SEGMENT_S", "rank_of", "removed_by_others", "segment_of", "site_thresholds"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: Fewest windows of a channel, and of independent pieces of recordings.
MIN_WINDOWS, MIN_SEGMENTS = 24, 6
#: Length at which a recording is cut, s.
SEGMENT_S = 120.0


def segment_of(recording: str, first_s: float) -> str:
    """Piece of a recording that a window belongs to, which begins ``first_s`` s after the recording."""
    return f"{recording}#{math.floor(first_s / SEGMENT_S)}"


def rank_of(n: int, level: float) -> int:
    """Rank, from 1, of the conformal quantile among ``n``: ``ceil((n + 1) level)``, ``n`` at most."""
    # (n + 1) * level is a whole number up to rounding now and then
    return min(math.ceil((n + 1) * level - 1e-9), n)


def site_thresholds(scores: F32, segments: Sequence[str]) -> dict[str, SiteThreshold]:
    """Thresholds at all nominal levels.

    Parameters
    ----------
    scores
        ``(n_windows, n_cells)`` score map of one label in source-free windows, the rows in use.
    segments
        Independent piece that each window belongs to; at least two different ones.

    Raises
    ------
    ValueError
        If there are fewer than two pieces, or a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise ValueError("a score map holds values that are not finite")
    pool = np.sort(scores, axis=None)
    out = {}
    for q in NOMINAL_LEVELS:
        removed = removed_by_others(scores, segments, float(q), pool)
        mean, margin = float(removed.mean()), _margin(removed)
        value = float(pool[rank_of(pool.size, float(q)) - 1])
        out[q] = SiteThreshold(value, mean, max(0.0, mean - margin), min(1.0, mean + margin))
    return out


def _margin(removed: F64) -> float:
    """Half of Student's 95 % interval of the mean."""
    return float(scipy.special.stdtrit(removed.size - 1, 0.975) * removed.std(ddof=1) / math.sqrt(removed.size))


def removed_by_others(scores: F32, segments: Sequence[str], level: float, pool: F32 | None = None) -> F64:
    """Share of the cells of each piece that the threshold of all other pieces removes, ``(n_segments,)``.

    Parameters
    ----------
    pool
        All of ``scores``, sorted, where that is known.
    """
    names = sorted(set(segments))
    if len(names) < 2:
        raise ValueError(f"{len(names)} independent recordings: at least 2 are needed to leave one out")
    pool = np.sort(scores, axis=None) if pool is None else pool
    which = np.array([names.index(s) for s in segments])
    out = np.empty(len(names))
    for i in range(len(names)):
        own = np.sort(scores[which == i], axis=None)
        out[i] = np.searchsorted(own, _nth_of_rest(pool, own, level), side="right") / own.size
    return out


def _nth_of_rest(pool: F32, own: F32, level: float) -> float:
    """Conformal quantile of ``pool`` without ``own``, both sorted, ``own`` a part of ``pool``."""
    rank = rank_of(pool.size - own.size, level)
    lo, hi = rank - 1, pool.size - 1  # the value sought stands there in the pool
    while lo < hi:
        mid = (lo + hi) // 2
        v = pool[mid]
        n_below = np.searchsorted(pool, v, side="right") - np.searchsorted(own, v, side="right")
        lo, hi = (lo, mid) if n_below >= rank else (mid + 1, hi)
    return float(pool[lo])
