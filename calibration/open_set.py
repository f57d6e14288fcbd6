r"""Fits `models.rejection.Rejection` and says how well a score tells strangers from what is known.

**Fit.** No truth, no strange window. Line rates and the Gaussians of the embedding come from windows the network may
have seen (``train``). Rates are kernel estimates; the width of the kernel, and how much of a broad estimate is mixed
in, are the smoothest under which the lines of recordings left out are as good as likeliest (two folds). Scales and
limits come from windows apart (``held``): limits on the windows that shaped a score would be too low.

**Limits.** Windows of ``held`` are grouped by the label the network *names*, and the limit is the value of rank
``ceil((n + 1)(1 - share))``: of further windows of known labels that get this name at most ``share`` are rejected, as
long as windows are alike. Windows of one recording are not independent; many recordings matter.

**Figures.** AUROC, and FPR95: the share of known windows called strange at the limit that finds 95 % of the strangers.
Standard errors are by bootstrap over recordings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from calibration.thresholds import auroc, conformal_quantile
from models.feature_spec import FeatureSpec
from models.rejection import PARTS, Rejection, line_weight

__all__ = ["SHARE", "WEIGHTS", "Sample", "Separation", "fit", "fpr95", "limits", "separation"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Share of windows of a known label that may be called unknown.
SHARE = 0.02
#: Weights of lines, doubt, distance; chosen on simulated development recordings, see docs/decisions.md.
WEIGHTS = (1.0, 0.1, 0.1)
#: Kernel widths (rows) and shares of the broad estimate that are tried, and the width of the broad estimate.
WIDTHS = (0.7, 1.0, 1.5, 2.5, 4.0, 8.0)
MIXES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
BROAD_ROWS = 30.0
#: A sharper estimate must make the lines of recordings left out likelier by this, nats per window.
LEAST_GAIN = 0.1
#: Least rate of lines per row.
LEAST_RATE = 1e-4
#: Share of the mean variance that is added to the covariance of the embedding.
RIDGE = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What a network says of windows; one entry per window in each array.

    Raises
    ------
    ValueError
        If lengths differ or a value is not finite.
    """

    y: I64
    """``(n,)`` index of the true label; -1 for a stranger."""
    groups: I64
    """``(n,)`` recording of each window."""
    logits: F64
    """``(n, n_labels)``"""
    embedding: F64
    """``(n, n_embedding)``"""
    evidence: F64
    """``(n, n_freq)``, from `models.rejection.line_evidence`."""

    def __post_init__(self) -> None:
        n = len(self.y)
        for name in ("groups", "logits", "embedding", "evidence"):
            a = np.asarray(getattr(self, name))
            if len(a) != n:
                raise ValueError(f"{len(a)} {name} for {n} windows")
            if not np.isfinite(a).all():
                raise ValueError(f"{name} holds values that are not finite")

    def __len__(self) -> int:
        return len(self.y)

    @property
    def named(self) -> I64:
        """``(n,)`` label the network names."""
        out: I64 = np.asarray(self.logits).argmax(axis=1)
        return out

    def take(self, index: npt.ArrayLike) -> Sample:
        """The windows of ``index`` (indices or a mask)."""
        i = np.asarray(index)
        return Sample(self.y[i], self.groups[i], self.logits[i], self.embedding[i], self.evidence[i])


def fit(
    train: Sample,
    held: Sample,
    labels: tuple[str, ...],
    spec: FeatureSpec,
    *,
    ambient: str = "ambient",
    share: float = SHARE,
    weights: tuple[float, float, float] = WEIGHTS,
) -> Rejection:
    """Fit the rejection of a trained network.

    Parameters
    ----------
    train
        Windows of all labels; the network may have been trained on them.
    held
        Windows of all labels that the network never saw: scales and limits come from them.
    labels
        In the order of the logits, ``ambient`` among them.
    share
        Of windows that get a label's name, the share that may be called unknown.

    Raises
    ------
    ValueError
        If a label has no windows in either sample, or ``share`` is not inside 0..1.
    """
    n_labels = len(labels)
    for name, sample in (("train", train), ("held", held)):
        if missing := [labels[c] for c in range(n_labels) if not np.any(sample.y == c)]:
            raise ValueError(f"{name} holds no windows of {missing[0]!r}")
    rows = np.arange(spec.n_freq) > spec.row_lo
    rates, strange = _rates(train, n_labels, labels.index(ambient), rows)
    log_odds = np.where(rows, np.log(strange / rates), 0.0)
    offset = ((rates - strange) * rows).sum(axis=1)
    mean, precision = gaussians(train.embedding, train.y, n_labels)
    ones = np.ones((n_labels, len(PARTS)))
    bare = Rejection(
        labels, log_odds, offset, mean, precision, 0.0 * ones, ones, np.asarray(weights, np.float64),
        np.full(n_labels, np.inf),
    )  # fmt: skip
    parts = bare.parts(held.logits, held.embedding, held.evidence)
    centre, scale = 0.0 * ones, ones
    for c in range(n_labels):
        own = held.named == c
        values = parts[own] if own.any() else parts  # a label that is never named takes the scale of all
        centre[c] = np.median(values, axis=0)
        scale[c] = np.maximum(np.quantile(values, 0.9, axis=0) - centre[c], 1e-6 + 1e-3 * np.abs(centre[c]))
    standard = Rejection(labels, log_odds, offset, mean, precision, centre, scale, bare.weight, bare.limit)
    scores = standard.score(held.logits, held.embedding, held.evidence)
    return standard.with_limit(limits(scores, held.named, n_labels, share))


def limits(scores: npt.ArrayLike, named: npt.ArrayLike, n_labels: int, share: float) -> F64:
    """Conformal limit ``(n_labels,)`` of the scores of known windows that get each name; infinite without any."""
    s, names = np.asarray(scores, np.float64), np.asarray(named)
    out = np.full(n_labels, np.inf)
    for c in range(n_labels):
        if (names == c).any():
            out[c] = conformal_quantile(s[names == c], 1.0 - share)
    return out


def gaussians(embedding: npt.NDArray[np.floating], y: I64, n_labels: int) -> tuple[F64, F64]:
    """Mean of each label ``(n_labels, d)`` and inverse of the covariance within labels ``(d, d)``, with a ridge."""
    e = np.asarray(embedding, np.float64)
    mean = np.stack([e[y == c].mean(axis=0) for c in range(n_labels)])
    known = y >= 0
    away = e[known] - mean[y[known]]
    covariance = away.T @ away / max(len(away) - n_labels, 1)
    ridge = RIDGE * float(np.trace(covariance)) / len(covariance)
    precision = np.linalg.inv(covariance + (ridge if ridge > 0 else 1.0) * np.eye(len(covariance)))
    return mean, 0.5 * (precision + precision.T)


def _rates(sample: Sample, n_labels: int, ambient: int, rows: npt.NDArray[np.bool_]) -> tuple[F64, float]:
    """Lines per row and window: of each label ``(n_labels, n_freq)``, and of a stranger; in the rows in use."""
    weight = line_weight(sample.evidence)
    broad = np.stack([_smooth(weight[sample.y == c].mean(axis=0), BROAD_ROWS) for c in range(n_labels)])
    sea = np.maximum(broad[ambient], LEAST_RATE)
    rates = np.empty((n_labels, weight.shape[1]))
    for c in range(n_labels):
        own = sample.y == c
        floor = broad[c] if c == ambient else sea
        rates[c] = _likeliest(weight[own], sample.groups[own], floor)
    vessels = [c for c in range(n_labels) if c != ambient] or [ambient]
    return rates, float(rates[vessels][:, rows].mean())


def _likeliest(weight: F64, groups: I64, floor: F64) -> F64:
    """Kernel estimate of a rate, width and share of ``floor`` by the likelihood of recordings left out."""
    fold = np.unique(groups, return_inverse=True)[1] % 2
    halves = [(weight[fold != k].mean(axis=0), weight[fold == k].mean(axis=0)) for k in (0, 1) if (fold == k).any()]
    if len(halves) < 2:
        return _mixed(weight.mean(axis=0), WIDTHS[1], 0.5, floor)
    tried = [(width, mix) for mix in MIXES[::-1] for width in WIDTHS[::-1]]  # from smooth to sharp
    gains = [
        sum(float((left_out * np.log(rate) - rate).sum()) for rest, left_out in halves
            for rate in [_mixed(rest, width, mix, floor)]) / len(halves)
        for width, mix in tried
    ]  # fmt: skip
    chosen = next(choice for choice, gain in zip(tried, gains, strict=True) if gain >= max(gains) - LEAST_GAIN)
    return _mixed(weight.mean(axis=0), *chosen, floor)


def _mixed(mean: F64, width: float, mix: float, floor: F64) -> F64:
    out: F64 = np.maximum((1.0 - mix) * _smooth(mean, width) + mix * floor, LEAST_RATE)
    return out


def _smooth(mean: F64, width: float) -> F64:
    out: F64 = scipy.ndimage.gaussian_filter1d(mean, width, mode="nearest")
    return out


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
