"""Figures of `tonald experiments vessels`, each with an interval over what could have been drawn otherwise.

Windows of one vessel resemble each other, and so do all windows of one place; a bootstrap over windows would be far too
sure. Drawn anew, with repetition, are vessels and ambient sessions; where folds are pairs of sites, vessels and the
*pairs'* ambient sites. Two judges are compared over the same draws. Two sites of vessels are too few to be drawn anew:
how far another vessels' recorder would move the figures, no interval here can say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.experiments.vessels_windows import Windows

__all__ = ["N_BOOT", "Scores", "compared", "judged"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]

N_BOOT = 500
MEASURES = ("auc", "balanced_accuracy")
Scores = list[tuple[I64, F64]]
"""Of each test fold: which windows, and the probability of a vessel in each."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Windows whose scores are compared with each other."""

    index: I64
    y: Bits
    called: Bits
    rank: I64
    """Place of the score among the different scores, from 0."""

    @classmethod
    def of(cls, index: I64, score: F64, w: Windows) -> _Part:
        rank = np.unique(score, return_inverse=True)[1].astype(np.int64)
        return cls(index, w.is_vessel[index], score > 0.5, rank)

    def both(self, times: npt.NDArray[np.floating[Any]]) -> F64:
        """Area under the curve (ties count half) and balanced accuracy, each window counted ``times``."""
        vessel, sea = np.where(self.y, times, 0.0), np.where(self.y, 0.0, times)
        if not vessel.any() or not sea.any():
            return np.full(len(MEASURES), np.nan)
        at, below = np.bincount(self.rank, vessel), np.bincount(self.rank, sea)
        auc = (at * (np.cumsum(below) - 0.5 * below)).sum() / (vessel.sum() * sea.sum())
        right = vessel[self.called].sum() / vessel.sum(), sea[~self.called].sum() / sea.sum()
        return np.array([auc, 0.5 * sum(right)])


def judged(folds: Scores, w: Windows, seed: int = 0) -> dict[str, Any] | None:
    """Area under the curve and balanced accuracy with 95 % intervals, per cent; None without folds.

    Folds that share no window are pooled. Otherwise each is a pair of sites and their mean is taken, so that no pair
    outweighs another.
    """
    if not folds:
        return None
    parts = _parts(folds, w)
    value, drawn = _drawn(parts, w, seed)
    out = _told(value, drawn) | {"n_folds": len(folds)}
    if len(parts) > 1:
        each = 100.0 * np.array([p.both(np.ones(len(p.y))) for p in parts])
        out |= {f"{name}_of_folds": each[:, k].tolist() for k, name in enumerate(MEASURES)}
    return out


def compared(folds: Scores, other: Scores, w: Windows, seed: int = 0) -> dict[str, Any] | None:
    """By how much ``folds`` are better than ``other`` over the same windows and draws, per cent points.

    Raises
    ------
    ValueError
        If the folds are not the same.
    """
    if len(folds) != len(other) or any(not np.array_equal(a, b) for (a, _), (b, _) in zip(folds, other, strict=True)):
        raise ValueError("folds of two judges differ")
    if not folds:
        return None
    (value, drawn), (rival, rival_drawn) = (_drawn(_parts(f, w), w, seed) for f in (folds, other))
    return _told(value - rival, drawn - rival_drawn)


def _told(value: F64, drawn: F64) -> dict[str, Any]:
    low, high = np.nanquantile(drawn, (0.025, 0.975), axis=0)
    out: dict[str, Any] = {}
    for k, name in enumerate(MEASURES):
        out[name] = 100.0 * float(value[k])
        out[f"{name}_95"] = [100.0 * float(low[k]), 100.0 * float(high[k])]
    return out


def _parts(folds: Scores, w: Windows) -> list[_Part]:
    index = np.concatenate([i for i, _ in folds])
    if np.unique(index).size < index.size:
        return [_Part.of(i, s, w) for i, s in folds]
    return [_Part.of(index, np.concatenate([s for _, s in folds]), w)]


def _drawn(parts: Sequence[_Part], w: Windows, seed: int) -> tuple[F64, F64]:
    """Both measures, and ``(N_BOOT, 2)`` of them over draws; equal seeds and folds draw equally."""
    rng = np.random.default_rng(seed)
    pairs = len(parts) > 1
    sea = [str(w.site[p.index][~p.y][0]) if pairs else "" for p in parts]
    sites = sorted(set(sea))
    index = np.unique(np.concatenate([p.index for p in parts]))
    value = _mean([p.both(np.ones(len(p.y))) for p in parts], np.ones(len(parts)))
    drawn = np.empty((N_BOOT, len(MEASURES)))
    for n in range(N_BOOT):
        site_times = dict(zip(sites, _times(len(sites), rng).tolist(), strict=True))
        copies = _copies(w, index, rng)
        weight = np.array([site_times[s] if pairs else 1.0 for s in sea])
        drawn[n] = _mean([p.both(np.where(p.y | (not pairs), copies[p.index], 1.0)) for p in parts], weight)
    return value, drawn


def _times(n: int, rng: np.random.Generator) -> I64:
    """How often each of ``n`` is drawn in ``n`` draws with repetition."""
    out: I64 = np.bincount(rng.integers(n, size=n), minlength=n).astype(np.int64)
    return out


def _copies(w: Windows, index: I64, rng: np.random.Generator) -> F64:
    """How often each window of ``w`` is drawn, by groups within kind; 0 outside ``index``."""
    out = np.zeros(len(w))
    for kind in (True, False):
        own = index[w.is_vessel[index] == kind]
        groups, number = np.unique(w.group[own], return_inverse=True)
        out[own] = _times(len(groups), rng)[number]
    return out


def _mean(rows: Sequence[F64], weight: F64) -> F64:
    values = np.array(rows)
    use = np.isfinite(values).all(axis=1) & (weight > 0.0)
    if not use.any():
        return np.full(len(MEASURES), np.nan)
    out: F64 = np.average(values[use], axis=0, weights=weight[use])
    return out
