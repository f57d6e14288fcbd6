"""Fits `models.weigher.Weigher`: the fewest forward passes that keep the fidelity to full Score-CAM.

The windows it learns from are training windows, and made-up ones: two laid over each other, the lines of one moved
along frequency. A daemon explains windows with several ships and with lines that belong nowhere, and the weights must
be told there, too. How true the maps are is judged on windows of other recordings, half of them made up alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor

from calibration.dataset import Progress, no_progress
from models.score_cam import score_cam
from models.spec_cnn import SpecCnn
from models.weigher import Weigher, masks_of, quick_score_cam, weigh_inputs

__all__ = ["LEAST_IOU", "LEAST_RANK", "Weighed", "fidelity", "fit_weigher", "made_up"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Windows learned from and judged at most.
N_LEARN, N_JUDGE = 800, 80
#: Passes tried.
PASSES = (2, 4, 6, 8, 12, 16, 24, 32)
#: Columns averaged for a pass, as far as the network can pool what is left.
POOLS = (2, 1)
#: Means over the judged windows that suffice: overlap of the highest twentieth of the cells, rank correlation.
LEAST_IOU, LEAST_RANK = 0.92, 0.99
#: Ridge, in units of one window.
RIDGE = 10.0
KEPT_SHARE = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """What came out."""

    weigher: Weigher
    curve: tuple[dict[str, Any], ...]
    """One row per number of passes and columns tried: ``k``, ``n_columns``, ``iou``, ``rank_correlation``."""


def made_up(features: F32, row_lo: int, fill: float, seed: int) -> F32:
    """As many windows again: each laid over another one whose lines are moved along frequency by a random shift.

    Laid over each other the stronger one shows, as good as the sum of powers where levels are in decibels.
    """
    rng = np.random.default_rng(seed)
    other = features[rng.permutation(len(features))]
    out: F32 = features.copy()
    for i, shift in enumerate(rng.integers(0, features.shape[2] - row_lo, len(features))):
        moved = np.roll(other[i][:, row_lo:], int(shift), axis=1)
        np.maximum(out[i][:, row_lo:], moved, out=out[i][:, row_lo:])
    out[:, :, :row_lo] = fill
    return out


def fit_weigher(
    network: SpecCnn,
    learn: F32,
    judge: F32,
    judge_cls: I64,
    *,
    row_lo: int,
    fill: float,
    k: int | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Weighed:
    """The cheapest weigher whose maps are true enough, or with ``k`` passes the truest.

    Parameters
    ----------
    network
        In evaluation mode.
    learn
        ``(n, n_planes, n_freq, n_time)`` training windows of all labels.
    judge, judge_cls
        Windows ``(m, ...)`` of other recordings, and the class asked in each ``(m,)``.
    k
        Passes, if they are to be so many; None: the fewest that suffice, or all maps where none do.
    """
    rng = np.random.default_rng(seed)
    learn = _some(learn, N_LEARN // 2, rng)
    learn = np.concatenate([learn, made_up(learn, row_lo, fill, seed)])
    pick = rng.permutation(len(judge))[: N_JUDGE // 2]
    judge, judge_cls = judge[pick], judge_cls[pick]
    judge = np.concatenate([judge, made_up(judge, row_lo, fill, seed + 1)])
    judge_cls = np.concatenate([judge_cls, judge_cls])
    targets = _true_weights(network, learn, fill, progress)  # (n, K, n_labels), logarithms
    exact = _exact(network, judge, judge_cls, fill)
    order = _telling(targets)
    n_channels = targets.shape[1]
    passes = sorted({min(n, n_channels) for n in (PASSES if k is None else (k,))})
    columns = {pool: n for pool in POOLS if (n := _columns(network, pool))}
    tried = sorted(((n, pool) for n in passes for pool in columns), key=lambda t: (t[0] * columns[t[1]], t[0]))
    curve: list[dict[str, Any]] = []
    found: list[Weigher] = []
    for i, (n, pool) in enumerate(tried):
        progress("passes of Score-CAM", i, len(tried))
        weigher = _fitted(network, learn, targets, tuple(order[:n]), pool, fill)
        iou, rank = fidelity(exact, _quick(network, judge, judge_cls, fill, weigher))
        curve.append({"k": n, "n_columns": columns[pool], "iou": iou, "rank_correlation": rank})
        found.append(weigher)
        if k is None and iou >= LEAST_IOU and rank >= LEAST_RANK:
            break
    progress("passes of Score-CAM", len(tried), len(tried))
    good = k is None and curve[-1]["iou"] >= LEAST_IOU and curve[-1]["rank_correlation"] >= LEAST_RANK
    best = len(curve) - 1 if good else int(np.argmax([row["iou"] for row in curve]))
    return Weighed(found[best], tuple(curve))


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


def _some(x: F32, n: int, rng: np.random.Generator) -> F32:
    out: F32 = x if len(x) <= n else x[np.sort(rng.choice(len(x), n, replace=False))]
    return out


def _columns(network: SpecCnn, pool: int) -> int:
    """Columns of a pass, 0 if the network cannot pool them."""
    c = network.config
    n_trunk = c.n_time // 2 ** (len(c.channels) - 1)
    n = n_trunk // pool
    return n if n_trunk % pool == 0 and n % 2 ** len(c.channels) == 0 else 0


@torch.no_grad()
def _true_weights(network: SpecCnn, x: F32, fill: float, progress: Progress) -> F64:
    """Logarithm of the weight of every map for every label, ``(n, K, n_labels)``."""
    out = []
    for i, window in enumerate(x):
        progress("true weights", i, len(x))
        t = torch.from_numpy(window[None])
        up = torch.nn.functional.interpolate(
            network.trunk(t), size=t.shape[2:], mode="bilinear", align_corners=False
        )  # fmt: skip
        low, high = up.amin((2, 3), keepdim=True), up.amax((2, 3), keepdim=True)
        h = ((up - low) / (high - low).clamp(min=1e-6))[0, :, None]  # (K, 1, n_freq, n_time)
        out.append(torch.log_softmax(network(t * h + fill * (1.0 - h)), 1).double().numpy())
    progress("true weights", len(x), len(x))
    return np.stack(out)


def _telling(targets: F64) -> list[int]:
    """All maps, those first whose weights tell most of what is left open by the ones before them."""
    scale = np.exp(targets.mean(axis=0))  # errors of heavy maps cost most
    left = ((targets - targets.mean(axis=0)) * scale).transpose(0, 2, 1).reshape(-1, targets.shape[1])
    order: list[int] = []
    for _ in range(targets.shape[1]):
        gram = left.T @ left
        gain = (gram**2).sum(axis=0) / np.maximum(np.diag(gram), 1e-12)
        gain[order] = -1.0
        order.append(int(gain.argmax()))
        told = left[:, order[-1] : order[-1] + 1]
        left = left - told @ (told.T @ left) / max(float((told * told).sum()), 1e-12)
    return order


@torch.no_grad()
def _fitted(network: SpecCnn, x: F32, targets: F64, channels: tuple[int, ...], pool: int, fill: float) -> Weigher:
    """Ridge regression of the true weights on what the passes tell."""
    inputs = []
    for t in torch.split(torch.from_numpy(x), 32):
        a = network.trunk(t)
        scaled, _ = masks_of(a)
        inputs.append(weigh_inputs(network, t, a, scaled, fill, channels, pool).double().numpy())
    v = np.concatenate(inputs)
    y = targets.reshape(len(targets), -1)
    mean, spread, level = v.mean(axis=0), np.maximum(v.std(axis=0), 1e-6), y.mean(axis=0)
    z = (v - mean) / spread
    told = np.linalg.solve(z.T @ z + RIDGE * np.eye(z.shape[1]), z.T @ (y - level))
    matrix = told / spread[:, None]
    return Weigher(channels, pool, matrix.astype(np.float32), (level - mean @ matrix).astype(np.float32))


def _exact(network: SpecCnn, x: F32, cls: I64, fill: float) -> F32:
    parts = zip(torch.split(torch.from_numpy(x), 4), torch.split(torch.from_numpy(cls), 4), strict=True)
    return _joined([score_cam(network, t, c, fill=fill) for t, c in parts])


def _quick(network: SpecCnn, x: F32, cls: I64, fill: float, weigher: Weigher) -> F32:
    parts = zip(torch.split(torch.from_numpy(x), 16), torch.split(torch.from_numpy(cls), 16), strict=True)
    return _joined([quick_score_cam(network, t, c, fill=fill, weigher=weigher) for t, c in parts])


def _joined(parts: list[Tensor]) -> F32:
    out: F32 = torch.cat(parts).numpy()
    return out
