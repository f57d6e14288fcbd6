r"""Harmonic families among the tracks of a window: lines that are multiples of one fundamental.

A shaft or an engine sounds at multiples of its rate. A fundamental ``f0`` explains a track at ``f`` if
``|f - n f0| <= tol`` for a whole ``n``; by chance each track does so with probability ``p = min(1, 2 tol / f0)``. Of
all fundamentals ``f / n`` of all tracks the one wins whose members are least likely by chance,

.. math:: -\ln P(\text{at least } m \text{ of } K) \;\approx\; K \, KL(m / K \,\|\, p) ,

if it has ``MIN_MEMBERS`` and stands beyond ``MIN_SURPRISE``; its tracks are taken out and the rest searched again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["families"]

F64 = npt.NDArray[np.float64]

#: Fundamentals looked for, Hz; highest multiple a first track may be; members of a family.
LOWEST_HZ, HIGHEST_HZ, MAX_ORDER, MIN_MEMBERS = 1.5, 100.0, 24, 4
#: Nats against chance, after paying for the number of fundamentals tried.
MIN_SURPRISE = 3.0


def families(freq_hz: npt.ArrayLike, tolerance_hz: float) -> F64:
    """Fundamental of each line's family, Hz, ``(n,)``; nan for lines of none.

    Parameters
    ----------
    freq_hz
        ``(n,)`` frequencies of the lines.
    tolerance_hz
        By which a frequency may be wrong.
    """
    freq = np.asarray(freq_hz, np.float64)
    out = np.full(freq.size, np.nan)
    left = np.arange(freq.size)
    while left.size >= MIN_MEMBERS:
        found = _strongest(freq[left], tolerance_hz)
        if found is None:
            break
        f0, members = found
        out[left[members]] = f0
        left = left[~members]
    return out


def _strongest(freq: F64, tolerance_hz: float) -> tuple[float, npt.NDArray[np.bool_]] | None:
    f0 = (freq[:, None] / np.arange(1, MAX_ORDER + 1)).ravel()
    f0 = np.unique(f0[(f0 >= LOWEST_HZ) & (f0 <= HIGHEST_HZ) & (f0 > 4.0 * tolerance_hz)])
    if not f0.size:
        return None
    order = np.maximum(np.round(freq / f0[:, None]), 1.0)
    near = np.abs(freq - order * f0[:, None]) <= tolerance_hz  # (n_fundamentals, n)
    n = freq.size
    share = np.clip(near.sum(axis=1) / n, 1e-9, 1.0 - 1e-9)
    chance = np.minimum(2.0 * tolerance_hz / f0, 1.0 - 1e-9)
    surprise = n * (share * np.log(share / chance) + (1.0 - share) * np.log((1.0 - share) / (1.0 - chance)))
    surprise = np.where((near.sum(axis=1) >= MIN_MEMBERS) & (share > chance), surprise - np.log(f0.size), -np.inf)
    best = int(surprise.argmax())
    if surprise[best] < MIN_SURPRISE:
        return None
    multiples = order[best][near[best]]
    # the best fit of the fundamental to its members, weighted by their order
    return float((freq[near[best]] * multiples).sum() / (multiples**2).sum()), near[best]
