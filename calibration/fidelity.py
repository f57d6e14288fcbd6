"""How true cheaper maps are to Score-CAM by all channels, and what weighing only some channels leaves of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional

from models.score_cam import FLAT, min_max
from models.spec_cnn import SpecCnn

__all__ = ["chosen_channels", "fidelity"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Share of the cells of a map that the overlap looks at.
KEPT_SHARE = 0.05


def fidelity(exact: F32, quick: F32) -> tuple[float, float]:
    """Mean over the maps ``(n, n_freq, n_time)`` of the overlap of their highest cells and of the rank correlation.

    A map without shape counts as nothing in common.
    """
    overlap, rank = [], []
    for a, b in zip(exact, quick, strict=True):
        if np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
            overlap.append(float(np.ptp(a) == np.ptp(b)))
            rank.append(overlap[-1])
            continue
        high_a, high_b = (m >= np.quantile(m, 1.0 - KEPT_SHARE) for m in (a, b))
        overlap.append(float((high_a & high_b).sum() / (high_a | high_b).sum()))
        rank.append(float(np.corrcoef(rankdata(a), rankdata(b))[0, 1]))
    return float(np.mean(overlap)), float(np.mean(rank))


def chosen_channels(
    network: SpecCnn, x: F32, cls: I64, log_weights: F64, usual: F64, passes: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Maps of Score-CAM with only ``k`` channels, chosen in four ways, against all channels.

    Parameters
    ----------
    x, cls
        Windows ``(n, n_planes, n_freq, n_time)`` and the class asked in each ``(n,)``.
    log_weights
        ``(n, K, n_labels)`` true weights of these windows, logarithms.
    usual
        ``(m, K, n_labels)`` those of other windows, for the choices made once and for all.

    Returns
    -------
    list of dict
        ``k``, ``criterion``, ``iou``, ``rank_correlation``. Criteria: ``spread`` and ``peak`` of a map in the window,
        ``weight`` (its own weight for the class, which costs all passes to know: a bound), ``class list`` (largest mean
        weight for the class, fixed beforehand).
    """
    rows = []
    maps = [h for part in torch.split(torch.from_numpy(x), 8) for h in _enlarged(network, part)]
    weights = np.exp(log_weights[np.arange(len(x)), :, cls])  # (n, K)
    spread = np.stack([h.var((1, 2), unbiased=False).numpy() for h in maps])
    peak = np.stack([h.amax((1, 2)).numpy() for h in maps])
    listed = np.exp(usual).mean(axis=0).T[cls]  # (n, K)
    scaled = [min_max(h) * (h.amax((1, 2)) - h.amin((1, 2)) > FLAT)[:, None, None] for h in maps]
    exact = _summed(scaled, weights)
    ranks = {"spread": spread, "peak": peak, "weight": weights, "class list": listed}
    for criterion, rank in ranks.items():
        order = np.argsort(-rank, axis=1, kind="stable")
        for k in (k for k in passes if k < weights.shape[1]):
            kept = np.zeros_like(weights)
            np.put_along_axis(kept, order[:, :k], 1.0, axis=1)
            iou, told = fidelity(exact, _summed(scaled, weights * kept))
            rows.append({"k": k, "criterion": criterion, "iou": iou, "rank_correlation": told})
    return rows


@torch.no_grad()
def _enlarged(network: SpecCnn, x: Tensor) -> Iterator[Tensor]:
    yield from functional.interpolate(network.trunk(x), size=x.shape[2:], mode="bilinear", align_corners=False)


def _summed(scaled: list[Tensor], weights: F64) -> F32:
    maps = [
        min_max(torch.relu(torch.einsum("k,kft->ft", torch.from_numpy(w).float(), h)))
        for h, w in zip(scaled, weights, strict=True)
    ]
    out: F32 = torch.stack(maps).numpy()
    return out
