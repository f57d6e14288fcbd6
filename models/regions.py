r"""Region Score-CAM: what each line track alone does to the network's score for a class.

Score-CAM masks the window with the maps of its last convolution and asks what is left of the class. Here the masks are
the line tracks, so that the answer is about tonals. For track ``k`` with cells ``R_k``, the margin
``f = logit_c - logsumexp(other logits)``, the window ``X`` and its background ``b``:

.. math:: s_k = \tfrac12 \left[ f(b + R_k (X - b)) - f(b) \right] + \tfrac12 \left[ f(X) - f(X - R_k (X - b)) \right]

the mean of insertion and deletion, divided by the largest ``|s|`` of the window. It costs ``2 n + 2`` forward passes
for ``n`` tracks; `models.student` amortises it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from models.engines.base import Engine
from models.tracks import Tracks

__all__ = ["region_scores"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: Tracks of less evidence are left at 0: mostly noise.
LEAST_EVIDENCE = 4.0
#: Rows to either side that are shown or hidden with a track: the whole main lobe.
HALF = 1.6


def region_scores(engine: Engine, features: F32, tracks: Tracks, label: int, fill: float) -> F64:
    """Region scores ``(n_tracks,)`` in -1..1 of one window.

    Parameters
    ----------
    features
        ``(n_planes, n_freq, n_time)``
    label
        Index of the class asked for.
    fill
        Feature value of the background.

    Raises
    ------
    EngineError
        If the engine fails.
    """
    out = np.zeros(len(tracks))
    chosen = np.flatnonzero(tracks.evidence >= LEAST_EVIDENCE)
    if not chosen.size:
        return out
    region = tracks.bands(HALF)[chosen][:, None].astype(np.float32)  # (n, 1, n_freq, n_time)
    inserted = features * region + fill * (1.0 - region)
    deleted = features * (1.0 - region) + fill * region
    whole = np.stack([features, np.full_like(features, fill)])
    f = _margins(engine, np.concatenate([inserted, deleted, whole]).astype(np.float32), label)
    n = chosen.size
    score = 0.5 * (f[:n] - f[-1]) + 0.5 * (f[-2] - f[n : 2 * n])
    top = float(np.abs(score).max())
    out[chosen] = score / top if top > 0.0 else score
    return out


def _margins(engine: Engine, x: F32, label: int) -> F64:
    """Logit of the class less the logarithm of the sum of all others' exponentials, ``(n,)``."""
    parts = [
        np.array(engine.run("classify", {"features": x[i : i + engine.max_batch]})["logits"], np.float64)
        for i in range(0, len(x), engine.max_batch)
    ]
    logits = np.concatenate(parts)
    rest = logsumexp(np.delete(logits, label, axis=1), axis=1)
    margin: F64 = logits[:, label] - rest
    return margin
