r"""Robust principal components: what is alike in all columns, less what is sparse.

``M = L + S`` with ``L`` of low rank and ``S`` sparse minimises ``|L|_* + lambda |S|_1`` (Candes, Li, Ma & Wright, J.
ACM 58(3), 2011, ``lambda = 1 / sqrt(max(n, m))``), here by augmented Lagrangians (Lin, Chen & Ma 2010). Steady tonals
are of low rank, clicks and calls are sparse; noise is neither and is shared out between the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.experiments.scene import Scene

__all__ = ["RobustPca", "low_rank"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Factor by which the penalty grows in each step.
GROWTH = 1.5


@dataclass(frozen=True, slots=True)
class RobustPca:
    """The low-rank part of the level over background.

    Raises
    ------
    ImportError
        If threadpoolctl, which comes with scikit-learn, is not installed (when maps are asked for).
    """

    @property
    def name(self) -> str:
        """For tables."""
        return "robust PCA, low-rank part"

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Level over background, dB."""
        from threadpoolctl import threadpool_limits

        lo = scene.spec.row_lo
        out = np.zeros(scene.spectrum_db.shape, np.float32)
        with threadpool_limits(1, "blas"):  # thousands of small matrices: threads would only wait for each other
            for i, level in enumerate((scene.spectrum_db - scene.background_db)[:, lo:]):
                out[i, lo:] = low_rank(level.astype(np.float64))
        return out


def low_rank(m: F64, *, tolerance: float = 1e-5, max_steps: int = 100) -> F64:
    """Low-rank part of ``m`` ``(n, k)``, ``k`` the smaller; ends when ``L + S`` meets ``m`` within ``tolerance``."""
    weight = 1.0 / math.sqrt(max(m.shape))
    norm = float(np.linalg.norm(m))
    if norm == 0.0:
        return np.zeros_like(m)
    largest = float(np.linalg.norm(m, 2))
    mu = 1.25 / largest
    dual = m / max(largest, float(np.abs(m).max()) / weight)
    sparse, low = np.zeros_like(m), np.zeros_like(m)
    for _ in range(max_steps):
        low = _shrunk(m - sparse + dual / mu, 1.0 / mu)
        rest = m - low + dual / mu
        sparse = np.sign(rest) * np.maximum(np.abs(rest) - weight / mu, 0.0)
        miss = m - low - sparse
        if float(np.linalg.norm(miss)) < tolerance * norm:
            break
        dual += mu * miss
        mu *= GROWTH
    return low


def _shrunk(a: F64, by: float) -> F64:
    """Singular values of ``a`` made smaller by ``by``, down to 0; by way of the small Gram matrix."""
    squares, v = np.linalg.eigh(a.T @ a)
    s = np.sqrt(np.maximum(squares, 0.0))
    share = np.divide(np.maximum(s - by, 0.0), s, out=np.zeros_like(s), where=s > 0.0)
    out: F64 = a @ (v * share) @ v.T
    return out
