"""Fits `models.weigher.Weigher`: the fewest forward passes that keep the fidelity to full Score-CAM.

The windows it learns from are training windows, and four times as many made-up ones (`made_up`): a daemon explains
windows with several ships, and with lines and bursts that belong nowhere, and the weights must be told there, too. How
true the maps are is judged on windows of other recordings, half of them made up alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from calibration.dataset import Progress, no_progress
from calibration.fidelity import chosen_channels, fidelity
from models.score_cam import score_cam
from models.spec_cnn import SpecCnn
from models.weigher import Weigher, masks_of, quick_score_cam, weigh_inputs

__all__ = ["LEAST_IOU", "LEAST_RANK", "Weighed", "fit_weigher", "made_up"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Windows learned from and judged at most.
N_LEARN, N_JUDGE = 1000, 80
#: Passes tried.
PASSES = (2, 4, 6, 8, 12, 16, 24, 32)
#: Columns averaged for a pass, as far as the network can pool what is left.
POOLS = (2, 1)
#: Means over the judged windows that suffice: overlap of the highest twentieth of the cells, rank correlation.
LEAST_IOU, LEAST_RANK = 0.91, 0.99
#: Ridge, in units of one window.
RIDGE = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """What came out."""

    weigher: Weigher | None
    """None: windows of this network are too short for a coarse pass, its maps are weighed one by one."""
    k: int
    """Forward passes per window."""
    curve: tuple[dict[str, Any], ...]
    """One row per number of passes and columns tried: ``k``, ``n_columns``, ``iou``, ``rank_correlation``."""
    chosen: tuple[dict[str, Any], ...]
    """What `calibration.fidelity.chosen_channels` says of the same windows."""


def made_up(features: F32, n: int, row_lo: int, fill: float, seed: int) -> F32:
    """``n`` windows ``(n, n_planes, n_freq, n_time)`` such as no training recording holds, made of ``features``.

    Contrast, place and company are drawn: lines stronger or weaker than usual, moved along frequency, beside drawn
    lines that drift or pause, or bursts over many rows; half of them laid over another window whose lines are moved.
    Laid over each other the stronger one shows, as good as the sum of powers where levels are in decibels.
    """
    rng = np.random.default_rng(seed)
    changes = (_contrast, _moved, _drawn_lines, _bursts)
    out = np.empty((n, *features.shape[1:]), np.float32)
    for i in range(n):
        x = np.array(features[rng.integers(len(features))][:, row_lo:])
        x = changes[rng.integers(len(changes))](x, fill, rng)
        if rng.random() < 0.5:
            x = np.maximum(x, _moved(features[rng.integers(len(features))][:, row_lo:], fill, rng))
        out[i, :, :row_lo], out[i, :, row_lo:] = fill, x
    return out


def _contrast(x: F32, fill: float, rng: np.random.Generator) -> F32:
    return np.asarray(np.clip(fill + (x - fill) * rng.uniform(0.5, 2.0), 0.0, 1.0), np.float32)


def _moved(x: F32, fill: float, rng: np.random.Generator) -> F32:  # noqa: ARG001  (one signature for all)
    return np.roll(x, int(rng.integers(x.shape[1])), axis=1)


def _drawn_lines(x: F32, fill: float, rng: np.random.Generator) -> F32:
    n_rows, n_time = x.shape[1:]
    rows, along = np.arange(n_rows)[:, None], np.linspace(0.0, 1.0, n_time)
    for _ in range(rng.integers(1, 30)):
        middle = rng.uniform(0.0, n_rows) + rng.normal(0.0, 1.5) * along
        level = (fill + rng.uniform(0.1, 0.6)) * np.exp(-0.5 * ((rows - middle) / rng.uniform(0.4, 1.5)) ** 2)
        if rng.random() < 0.4:
            on, off = np.sort(rng.uniform(0.0, 1.0, 2))
            level = level * ((along >= on) & (along <= off))
        x = np.maximum(x, np.minimum(level, 1.0).astype(np.float32))
    return x


def _bursts(x: F32, fill: float, rng: np.random.Generator) -> F32:  # noqa: ARG001  (one signature for all)
    n_rows, n_time = x.shape[1:]
    for _ in range(rng.integers(1, 6)):
        lo, hi = np.sort(rng.integers(0, n_rows + 1, 2))
        first, length = rng.integers(n_time), rng.integers(1, 6)
        x[:, lo:hi, first : first + length] += rng.uniform(0.1, 0.6)
    out: F32 = np.minimum(x, np.float32(1.0))
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

    A network whose windows are too short for coarse passes gets none, and as many passes as it has maps.

    Parameters
    ----------
    network
        In evaluation mode.
    learn
        ``(n, n_planes, n_freq, n_time)`` training windows of all labels.
    judge, judge_cls
        Windows ``(m, ...)`` of other recordings, and the class asked in each ``(m,)``.
    k
        Passes, if they are to be so many; None: as few as suffice, or the truest where none do.
    """
    rng = np.random.default_rng(seed)
    learn = _some(learn, N_LEARN // 5, rng)
    learn = np.concatenate([learn, made_up(learn, 4 * len(learn), row_lo, fill, seed)])
    pick = rng.permutation(len(judge))[: N_JUDGE // 2]
    judge, judge_cls = judge[pick], judge_cls[pick]
    judge = np.concatenate([judge, made_up(judge, len(judge), row_lo, fill, seed + 1)])
    with torch.no_grad():
        likeliest = network(torch.from_numpy(judge[len(pick) :]))[:, np.unique(judge_cls)].argmax(1).numpy()
    judge_cls = np.concatenate([judge_cls, np.unique(judge_cls)[likeliest]])
    targets = _true_weights(network, learn, fill, progress)  # (n, K, n_labels), logarithms
    exact = _exact(network, judge, judge_cls, fill)
    order = _telling(targets)
    n_channels = targets.shape[1]
    passes = sorted({min(n, n_channels) for n in (PASSES if k is None else (k,))})
    columns = {pool: n for pool in POOLS if (n := _columns(network, pool))}
    own = _true_weights(network, judge, fill, progress)
    chosen = tuple(chosen_channels(network, judge, judge_cls, own, targets, PASSES))
    if not columns:
        return Weighed(None, passes[-1], (), chosen)
    tried = sorted(((n, pool) for n in passes for pool in columns), key=lambda t: (t[0] * columns[t[1]], t[0]))
    told = {pool: _inputs(network, learn, tuple(order[: passes[-1]]), pool, fill, progress) for pool in columns}
    curve: list[dict[str, Any]] = []
    found: list[Weigher] = []
    for i, (n, pool) in enumerate(tried):
        progress("passes of Score-CAM", i, len(tried))
        weigher = _fitted(told[pool], targets, tuple(order[:n]), pool)
        iou, rank = fidelity(exact, _quick(network, judge, judge_cls, fill, weigher))
        curve.append({"k": n, "n_columns": columns[pool], "iou": iou, "rank_correlation": rank})
        found.append(weigher)
    progress("passes of Score-CAM", len(tried), len(tried))
    good = [i for i, row in enumerate(curve) if row["iou"] >= LEAST_IOU and row["rank_correlation"] >= LEAST_RANK]
    best = good[0] if good and k is None else int(np.argmax([row["iou"] for row in curve]))
    return Weighed(found[best], found[best].k, tuple(curve), chosen)


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
def _inputs(network: SpecCnn, x: F32, channels: tuple[int, ...], pool: int, fill: float, progress: Progress) -> F64:
    """What passes of all ``channels`` tell, ``(n, n_inputs)``."""
    inputs = []
    for i in range(0, len(x), 32):
        progress("coarse passes", i, len(x))
        t = torch.from_numpy(x[i : i + 32])
        a = network.trunk(t)
        inputs.append(weigh_inputs(network, t, a, masks_of(a)[0], fill, channels, pool).double().numpy())
    progress("coarse passes", len(x), len(x))
    return np.concatenate(inputs)


def _fitted(inputs: F64, targets: F64, channels: tuple[int, ...], pool: int) -> Weigher:
    """Ridge regression of the true weights on what passes tell; ``channels`` are the first of those in ``inputs``."""
    n, n_channels, n_labels = targets.shape
    n_others = Weigher.n_inputs(0, n_channels, n_labels)
    v = np.concatenate([inputs[:, : len(channels) * n_labels], inputs[:, inputs.shape[1] - n_others :]], axis=1)
    y = targets.reshape(n, -1)
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
