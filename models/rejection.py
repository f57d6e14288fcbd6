r"""Windows like nothing known: by lines nobody accounts for, doubt of the network, distance of the embedding.

A classifier learns to overlook lines that belong to no class, so a strange vessel falls onto ``ambient``, with an
embedding like that of an empty sea. What it cannot hide are its lines. Three parts are added up:

1. *Lines.* The line evidence of a window (`models.line_evidence`) is blind to classes. Where a row ``f`` holds a line
   with weight ``q_f`` in 0..1, lines are taken as a Poisson process: a window named ``c`` has them at the rate
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

from models.errors import BundleError
from models.line_evidence import line_weight

__all__ = ["PARTS", "Rejection"]

F64 = npt.NDArray[np.float64]
Real = npt.NDArray[np.floating[Any]]

#: The parts of the score, in the order of its arrays.
PARTS = ("lines", "doubt", "distance")


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
        shapes = self.shapes(len(self.labels), self.log_odds.shape[-1], self.mean.shape[-1])
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

    @staticmethod
    def shapes(n_labels: int, n_freq: int, n_embedding: int) -> dict[str, tuple[int, ...]]:
        """Shape of each array of `to_arrays`; all are float64."""
        n_parts = len(PARTS)
        return {
            "log_odds": (n_labels, n_freq), "offset": (n_labels,), "mean": (n_labels, n_embedding),
            "precision": (n_embedding, n_embedding), "centre": (n_labels, n_parts), "scale": (n_labels, n_parts),
            "weight": (n_parts,), "limit": (n_labels,),
        }  # fmt: skip

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
            ``(n, n_freq)``, from `models.line_evidence.line_evidence`.

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
