r"""Published scores of strangeness, as peers of `models.rejection`; higher is stranger. All see the network only.

With logits ``z``, embedding ``e``, mean ``m_c`` of class ``c`` and covariance ``S``:

* *max softmax* (Hendrycks & Gimpel 2017): ``-max_c softmax(z)_c``;
* *energy* (Liu et al. 2020): ``-ln sum_c exp z_c``;
* *Gaussians* (Lee et al. 2018): ``min_c (e - m_c)^T S^-1 (e - m_c) + ln|S|`` with one ``S`` for all classes, one each,
  or one diagonal each; *relative* (Ren et al. 2021) subtracts the same for one Gaussian over all classes;
* *k nearest* (Sun et al. 2022): Euclidean distance of ``e / |e|`` to the ``k``-th nearest training window;
* *residual* (after ViM, Wang et al. 2022): norm of what the principal directions of the training embeddings leave over,
  scaled to the logits, less ``ln sum_c exp z_c``; the origin is the mean, the network's own bias is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import scipy.special

from calibration.open_set import RIDGE
from calibration.samples import Sample
from models.explainer import nearest

__all__ = ["Score", "network_scores"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Score = Callable[[Sample], F64]

K_NEAREST = 5
#: Principal directions of the embedding that count as explained by training.
N_PRINCIPAL = 16


def network_scores(train: Sample, n_labels: int, representatives: F32) -> Mapping[str, Score]:
    """All peers by name, fitted on ``train`` ``(y, logits, embedding)``.

    Parameters
    ----------
    representatives
        ``(n, n_embedding)``, for the distance to the nearest one.
    """
    shared = gaussian(train, n_labels, "shared")
    return {
        "nearest representative": lambda s: nearest(s.embedding.astype(np.float32), representatives)[1],
        "max softmax": lambda s: -scipy.special.softmax(s.logits, axis=1).max(axis=1),
        "energy": lambda s: -_energy(s.logits),
        "Gaussians, shared covariance": shared,
        "Gaussians, full covariance": gaussian(train, n_labels, "full"),
        "Gaussians, diagonal covariance": gaussian(train, n_labels, "diagonal"),
        "relative Mahalanobis": relative(train, n_labels),
        f"{K_NEAREST} nearest": k_nearest(train, K_NEAREST),
        "principal residual": residual(train, N_PRINCIPAL),
    }


def _energy(logits: F64) -> F64:
    out: F64 = scipy.special.logsumexp(np.asarray(logits, np.float64), axis=1)
    return out


def _ridged(covariance: F64) -> F64:
    ridge = RIDGE * float(np.trace(covariance)) / len(covariance)
    out: F64 = covariance + (ridge if ridge > 0 else 1.0) * np.eye(len(covariance))
    return out


def _squares(away: F64, covariance: F64) -> F64:
    """Squared Mahalanobis length of each row, plus the logarithm of the determinant."""
    factor = np.linalg.cholesky(covariance)
    white = np.linalg.solve(factor, away.T)
    out: F64 = (white**2).sum(axis=0) + 2.0 * np.log(np.diag(factor)).sum()
    return out


def gaussian(train: Sample, n_labels: int, kind: str) -> Score:
    """Distance to the nearest of one Gaussian per class: ``shared``, ``full`` or ``diagonal`` covariance.

    Raises
    ------
    ValueError
        If ``kind`` is none of the three.
    """
    e = np.asarray(train.embedding, np.float64)
    mean = np.stack([e[train.y == c].mean(axis=0) for c in range(n_labels)])
    within = [e[train.y == c] - mean[c] for c in range(n_labels)]
    away = np.concatenate(within)
    shared = away.T @ away / len(away)
    if kind == "shared":
        covariances = [_ridged(shared)] * n_labels
    elif kind == "full":
        # shrunk halfway to the shared one: a class has few windows for so many numbers
        covariances = [_ridged(0.5 * (a.T @ a / len(a)) + 0.5 * shared) for a in within]
    elif kind == "diagonal":
        covariances = [_ridged(np.diag((a**2).mean(axis=0))) for a in within]
    else:
        raise ValueError(f"{kind=} is none of shared, full, diagonal")

    def score(s: Sample) -> F64:
        x = np.asarray(s.embedding, np.float64)
        out: F64 = np.min([_squares(x - m, c) for m, c in zip(mean, covariances, strict=True)], axis=0)
        return out

    return score


def relative(train: Sample, n_labels: int) -> Score:
    """Shared-covariance distance less that to one Gaussian over everything."""
    e = np.asarray(train.embedding, np.float64)
    mean, covariance = e.mean(axis=0), _ridged(np.cov(e.T))
    per_class = gaussian(train, n_labels, "shared")
    return lambda s: per_class(s) - _squares(np.asarray(s.embedding, np.float64) - mean, covariance)


def _unit(e: npt.NDArray[np.floating]) -> F64:
    wide = np.asarray(e, np.float64)
    out: F64 = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return out


def k_nearest(train: Sample, k: int) -> Score:
    """Distance to the ``k``-th nearest training window on the unit sphere."""
    known = _unit(train.embedding)

    def score(s: Sample) -> F64:
        squares = np.maximum(2.0 - 2.0 * _unit(s.embedding) @ known.T, 0.0)
        out: F64 = np.sqrt(np.partition(squares, k - 1, axis=1)[:, k - 1])
        return out

    return score


def residual(train: Sample, n_principal: int) -> Score:
    """Norm outside the ``n_principal`` directions of most variance, in units of logits, less the energy."""
    e = np.asarray(train.embedding, np.float64)
    mean = e.mean(axis=0)
    _, _, directions = np.linalg.svd(e - mean, full_matrices=False)
    rest = directions[n_principal:]

    def norm(s: Sample) -> F64:
        out: F64 = np.linalg.norm((np.asarray(s.embedding, np.float64) - mean) @ rest.T, axis=1)
        return out

    scale = float(train.logits.max(axis=1).mean()) / max(float(norm(train).mean()), 1e-12)
    return lambda s: scale * norm(s) - _energy(s.logits)
