r"""Fits `models.rejection.Rejection`: what is known, how it scatters, and the limits beyond which it is unknown.

**Fit.** No truth, no strange window. Line rates and the Gaussians of the embedding come from windows the network may
have seen (``train``). Rates are kernel estimates; the width of the kernel, and how much of a broad estimate is mixed
in, are the smoothest under which the lines of recordings left out are as good as likeliest (two folds). Scales and
limits come from windows apart (``held``): limits on the windows that shaped a score would be too low.

**Limits.** Windows of ``held`` are grouped by the label the network *names*, and the limit is the value of rank
``ceil((n + 1)(1 - share))``: of further windows of known labels that get this name at most ``share`` are rejected, as
long as windows are alike. Windows of one recording are not independent; many recordings matter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from calibration.samples import Sample
from calibration.thresholds import conformal_quantile
from models.feature_spec import FeatureSpec
from models.line_evidence import line_weight
from models.rejection import PARTS, Rejection

__all__ = ["SHARE", "WEIGHTS", "fit", "gaussians", "limits"]

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
