"""How well a score tells strange windows from known ones: AUROC and FPR95, with errors over recordings.

FPR95 is the share of known windows called strange at the limit that finds 95 % of the strangers. Standard errors are by
bootstrap over recordings: windows of one recording are no independent draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.thresholds import auroc

__all__ = ["Separation", "fpr95", "separation"]


def fpr95(known: npt.ArrayLike, strange: npt.ArrayLike) -> float:
    """Share of ``known`` at or above the score that 95 % of ``strange`` reach; nan if either is absent."""
    a, b = np.ravel(np.asarray(known, np.float64)), np.ravel(np.asarray(strange, np.float64))
    if not a.size or not b.size:
        return math.nan
    # the score of rank ceil(0.95 n) from above: no interpolation, scores may be infinite
    cut = np.sort(b)[::-1][math.ceil(0.95 * b.size - 1e-9) - 1]
    return float(np.mean(a >= cut))


@dataclass(frozen=True, slots=True)
class Separation:
    """How well a score tells strange windows from known ones, with standard errors over recordings."""

    auroc: float
    auroc_se: float
    fpr95: float
    fpr95_se: float


def separation(
    scores: npt.ArrayLike,
    strange: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    n_boot: int = 200,
    seed: int = 0,
) -> Separation:
    """AUROC and FPR95 of ``scores`` ``(n,)``, with bootstrap errors over the recordings ``groups``.

    Parameters
    ----------
    strange
        ``(n,)`` whether the window is a stranger.
    """
    s, is_strange = np.asarray(scores, np.float64), np.asarray(strange, bool)
    if np.isnan(s).any():
        raise ValueError(f"{np.count_nonzero(np.isnan(s))} scores are nan")
    _, recording = np.unique(np.asarray(groups), return_inverse=True)
    sides = [[np.flatnonzero(side & (recording == r)) for r in np.unique(recording[side])]
             for side in (~is_strange, is_strange)]  # fmt: skip
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(n_boot if all(sides) else 0):
        known, strangers = (
            s[np.concatenate([side[i] for i in rng.integers(len(side), size=len(side))])] for side in sides
        )
        draws.append((auroc(known, strangers), fpr95(known, strangers)))
    se = np.std(np.array(draws), axis=0, ddof=1) if len(draws) > 1 else (math.nan, math.nan)
    known, strangers = s[~is_strange], s[is_strange]
    return Separation(auroc(known, strangers), float(se[0]), fpr95(known, strangers), float(se[1]))
