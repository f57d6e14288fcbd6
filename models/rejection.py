r"""Windows like nothing known: by lines nobody accounts for, doubt of the network, distance of the embedding.

A classifier learns to overlook lines that belong to no class, so a strange vessel falls onto ``ambient``, with an
embedding like that of an empty sea. What it cannot hide are its lines. Three parts are added up:

1. *Lines.* The line evidence of a window (`line_evidence`) is blind to classes. Where a row ``f`` holds a line with
   weight ``q_f`` in 0..1, lines are taken as a Poisson process: a window named ``c`` has them at the rate
   ``lambda_c(f)`` per row learned from windows of that label (foreign lines at sea included), a stranger as many as
   the vessels known, but anywhere: at the constant rate ``lambda_s``. The log-likelihood ratio is

   .. math:: L_c = \sum_f q_f \ln\frac{\lambda_s}{\lambda_c(f)} - \sum_f (\lambda_s - \lambda_c(f))

   so lines the class explains speak for it, others against it, and too many lines speak against ``ambient``.
2. *Doubt.* ``ln(1 - p + 1e-4)`` of the largest probability ``p`` (Hendrycks and Gimpel, 2017).
3. *Distance.* Mahalanobis distance of the embedding to the mean of the named label, one covariance for all labels
   (Lee et al., 2018).

Each part is centred by its median and divided by the distance from there to its 90 % point, over held-out windows of
the label named, then weighted and added. A window is unknown above the limit of its label, a conformal quantile over
the same held-out windows. Everything is learned without truth and without a strange window (`calibration.open_set`).
Numpy only; windows are judged one by one, so a batch changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.signal
import scipy.special

from models.errors import BundleError
from models.feature_spec import FeatureSpec

__all__ = ["PARTS", "Rejection", "line_evidence", "line_weight"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Real = npt.NDArray[np.floating[Any]]

#: The parts of the score, in the order of its arrays.
PARTS = ("lines", "doubt", "distance")
#: Evidence (nats) at which a peak counts half as a line, and the width of that passage.
EVEN_EVIDENCE, EVIDENCE_WIDTH = 6.0, 0.3
#: A block of columns counts at most this many times the median block of its row: a burst proves no line.
BURST = 2.5
#: Mains frequencies, Hz; lines on at least `MAINS_LINES` multiples of one of them are hum of the recorder or the ship.
MAINS_HZ, MAINS_LINES = (50.0, 60.0), 2
#: Windows worked on at once: a bound on memory.
CHUNK = 64


def line_evidence(features: Real, spec: FeatureSpec) -> F32:
    """Evidence of a steady line in each row, blind to classes.

    The excess over background, limited as the features are, is averaged over the window in blocks of ``n_time_step``
    columns; each block is divided by its median row (a click lifts all rows) and limited to `BURST` times the row's
    median block. Of the mean ``m`` over ``n`` independent frames, with noise at 1, the log-likelihood ratio of a raised
    level is ``n (m - 1 - ln m)``. Local maxima along frequency keep it, all other rows read 0. So do multiples of 50 or
    of 60 Hz where a window has at least two of them: hum, which an empty sea has as well, would count as many lines.

    Parameters
    ----------
    features
        ``(n, n_planes, n_freq, n_time)`` in 0..1 of the front end ``spec``; plane 0 is read.

    Returns
    -------
    ``(n, n_freq)``, nats, at least 0; a window that is not finite reads nan throughout.

    Raises
    ------
    ValueError
        If the shape is not that of the front end.
    """
    x = np.asarray(features)
    if x.ndim != 4 or x.shape[1:] != spec.shape:
        raise ValueError(f"windows of shape {x.shape[1:]}, the front end gives {spec.shape}")
    out = np.zeros((len(x), spec.n_freq), np.float32)
    n_frames = _independent_frames(spec)
    for i in range(0, len(x), CHUNK):
        out[i : i + CHUNK] = _evidence(x[i : i + CHUNK, 0], spec, n_frames)
    return out


def _evidence(plane: Real, spec: FeatureSpec, n_frames: float) -> F64:
    """Evidence ``(n, n_freq)`` of feature planes ``(n, n_freq, n_time)``."""
    scale = np.float32((spec.ceil_db - spec.floor_db) * np.log(10.0) / 10.0)
    power = np.exp(plane.astype(np.float32) * scale + np.float32(spec.floor_db * np.log(10.0) / 10.0))
    n_blocks = spec.n_time // spec.n_time_step
    blocks = power.reshape(len(plane), spec.n_freq, n_blocks, spec.n_time_step).mean(axis=3).astype(np.float64)
    lo = min(spec.row_lo, spec.n_freq - 1)
    blocks /= np.median(blocks[:, lo:], axis=1, keepdims=True)
    mean = np.minimum(blocks, BURST * np.median(blocks, axis=2, keepdims=True)).mean(axis=2)
    mean /= np.median(mean[:, lo:], axis=1, keepdims=True)
    raised = np.maximum(mean, 1.0)  # of nan: nan
    evidence = n_frames * (raised - 1.0 - np.log(raised))
    odd = ~np.isfinite(evidence).all(axis=1)
    peak = np.zeros(evidence.shape, np.bool_)
    peak[:, 1:-1] = (evidence[:, 1:-1] > evidence[:, :-2]) & (evidence[:, 1:-1] >= evidence[:, 2:])
    peak[:, : lo + 1] = False  # the first row in use leans on what is not
    out: F64 = np.where(peak, evidence, 0.0)
    for comb in _mains_rows(spec):
        hum = (out[:, comb] >= EVEN_EVIDENCE).sum(axis=1) >= MAINS_LINES
        out[np.ix_(hum, comb)] = 0.0
    out[odd] = np.nan
    return out


def _mains_rows(spec: FeatureSpec) -> list[npt.NDArray[np.int64]]:
    """Rows of the multiples of each mains frequency."""
    out = []
    for mains in MAINS_HZ:
        multiples = np.arange(mains, (spec.n_freq - 1) * spec.bin_hz, mains)
        out.append(np.unique(np.round(multiples / spec.bin_hz).astype(np.int64)))
    return out


def _independent_frames(spec: FeatureSpec) -> float:
    """Independent frames that average as well as a window's overlapping Hann frames (Welch, 1967)."""
    w = scipy.signal.get_window("hann", spec.n_fft).astype(np.float64)
    total = 1.0
    for k in range(1, spec.n_time):
        if (shift := k * spec.hop) >= spec.n_fft:
            break
        rho = float((w[shift:] * w[: spec.n_fft - shift]).sum()) / float((w**2).sum())
        total += 2.0 * (1.0 - k / spec.n_time) * rho**2
    return spec.n_time / total


def line_weight(evidence: Real) -> F64:
    """How far a peak of that evidence counts as a line, 0..1; 0 where there is no peak."""
    e = np.asarray(evidence, np.float64)
    out: F64 = np.where(e > 0.0, scipy.special.expit((e - EVEN_EVIDENCE) / EVIDENCE_WIDTH), e)  # nan stays nan
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Rejection:
    """What is needed to call a window unknown; see the module text.

    Raises
    ------
    ValueError
        If shapes do not fit together or a value is not finite; infinite limits are allowed ("never unknown").
    """

    labels: tuple[str, ...]
    """In the order of the network's outputs."""
    log_odds: F64
    """``(n_labels, n_freq)``, ``ln(lambda_s / lambda_c)``; 0 in rows not in use."""
    offset: F64
    """``(n_labels,)``, sum over rows of ``lambda_c - lambda_s``"""
    mean: F64
    """``(n_labels, n_embedding)``"""
    precision: F64
    """``(n_embedding, n_embedding)``, inverse of the common covariance."""
    centre: F64
    """``(n_labels, 3)``, of each part."""
    scale: F64
    """``(n_labels, 3)``, positive."""
    weight: F64
    """``(3,)``, at least 0."""
    limit: F64
    """``(n_labels,)``: above it a window of that name is unknown."""

    def __post_init__(self) -> None:
        n, n_parts, d = len(self.labels), len(PARTS), self.mean.shape[-1]
        n_freq = self.log_odds.shape[-1]
        shapes = {
            "log_odds": (n, n_freq), "offset": (n,), "mean": (n, d), "precision": (d, d), "centre": (n, n_parts),
            "scale": (n, n_parts), "weight": (n_parts,), "limit": (n,),
        }  # fmt: skip
        for name, shape in shapes.items():
            a = np.array(getattr(self, name), np.float64)
            if a.shape != shape:
                raise ValueError(f"{name} of shape {a.shape}, expected {shape}")
            if np.isnan(a).any() or (name != "limit" and not np.isfinite(a).all()):
                raise ValueError(f"{name} holds values that are not finite")
            a.setflags(write=False)
            object.__setattr__(self, name, a)
        if self.scale.min(initial=1.0) <= 0.0 or self.weight.min() < 0.0:
            raise ValueError("scale must be positive and weight not negative")

    def parts(self, logits: Real, embedding: Real, evidence: Real) -> F64:
        """The three parts ``(n, 3)`` before they are centred; for the arguments see `score`."""
        z, e, s = self._checked(logits, embedding, evidence)
        out = np.full((len(z), len(PARTS)), np.inf)
        weights = line_weight(s)
        for i in range(len(z)):  # one by one: sums in an order that no batch changes
            if not (np.isfinite(z[i]).all() and np.isfinite(e[i]).all() and np.isfinite(s[i]).all()):
                continue
            c = int(z[i].argmax())
            away = e[i] - self.mean[c]
            rest = np.delete(z[i], c) - z[i, c]
            doubt = 1.0 - 1.0 / (1.0 + np.exp(rest).sum())
            out[i, 0] = (weights[i] * self.log_odds[c]).sum() + self.offset[c]
            out[i, 1] = np.log(doubt + 1e-4)
            out[i, 2] = np.sqrt(max(float((self.precision * np.outer(away, away)).sum()), 0.0))
        return out

    def score(self, logits: Real, embedding: Real, evidence: Real) -> F64:
        """How strange each window is ``(n,)``; higher is stranger, infinite where an input is not finite.

        Parameters
        ----------
        logits
            ``(n, n_labels)``, before softmax (logarithms of probabilities do as well: only differences enter).
        embedding
            ``(n, n_embedding)``
        evidence
            ``(n, n_freq)``, from `line_evidence`.

        Raises
        ------
        ValueError
            If a shape does not fit.
        """
        parts = self.parts(logits, embedding, evidence)
        named = _named(logits)
        finite = np.isfinite(parts).all(axis=1)
        out = np.full(len(parts), np.inf)
        standard = (parts[finite] - self.centre[named[finite]]) / self.scale[named[finite]]
        out[finite] = (standard * self.weight).sum(axis=1)
        return out

    def unknown(self, logits: Real, embedding: Real, evidence: Real) -> npt.NDArray[np.bool_]:
        """Whether each window is unknown ``(n,)``: its score is not at or below the limit of the label named."""
        score = self.score(logits, embedding, evidence)
        known = np.isfinite(score) & (score <= self.limit[_named(logits)])
        return ~known

    def with_limit(self, limit: npt.ArrayLike) -> Rejection:
        """The same scores with other limits ``(n_labels,)``."""
        return dataclasses.replace(self, limit=np.asarray(limit, np.float64))

    def to_arrays(self) -> dict[str, F64]:
        """All numbers by name, for an npz file; `from_arrays` takes them with the labels."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "labels"}

    @classmethod
    def from_arrays(cls, labels: tuple[str, ...], arrays: Mapping[str, npt.ArrayLike]) -> Rejection:
        """Inverse of `to_arrays`.

        Raises
        ------
        BundleError
            If a name is missing or unknown, or the numbers do not fit together.
        """
        wanted = {f.name for f in dataclasses.fields(cls)} - {"labels"}
        if odd := sorted(wanted ^ set(arrays)):
            raise BundleError(f"rejection: {odd[0]} is missing or unknown; calibrate the bundle again")
        try:
            return cls(tuple(labels), **{name: np.asarray(arrays[name], np.float64) for name in wanted})
        except (TypeError, ValueError, IndexError) as e:
            raise BundleError(f"rejection: {e}; calibrate the bundle again") from e

    def _checked(self, logits: Real, embedding: Real, evidence: Real) -> tuple[F64, F64, F64]:
        n = len(logits)
        wanted = {
            "logits": (n, len(self.labels)), "embedding": (n, self.mean.shape[1]),
            "evidence": (n, self.log_odds.shape[1]),
        }  # fmt: skip
        arrays = []
        for (name, shape), a in zip(wanted.items(), (logits, embedding, evidence), strict=True):
            wide = np.asarray(a, np.float64)
            if wide.shape != shape:
                raise ValueError(f"{name} of shape {wide.shape}, expected {shape}")
            arrays.append(wide)
        return arrays[0], arrays[1], arrays[2]


def _named(logits: Real) -> npt.NDArray[np.int64]:
    """Index of the likeliest label ``(n,)``."""
    out: npt.NDArray[np.int64] = np.asarray(logits).argmax(axis=1)
    return out
