r"""Score-CAM at the cost of a few coarse forward passes: a *weigher* and the readable reference of what it makes.

Score-CAM needs one forward pass per map of the last convolution, only to learn one number of it, the weight
:math:`w_k = f^c(X \circ H_k + b (1 - H_k))`. Three things make that cheap, at a fidelity that calibration measures:

1. The network averages over time in the end, so its answer to a masked window changes little when window and mask are
   averaged over neighbouring columns first: the pass runs at the columns of the last convolution, or at half of them.
2. Weights of different maps are strongly related. ``k`` maps, chosen at calibration, are weighed by a pass; the
   logarithm of the weights of *all* maps, for all labels, follows linearly from theirs, from the probabilities of the
   window itself and from spread and mean of each map.
3. Upsampling is linear: the maps are weighed and added before it, and one map is enlarged instead of all.

With the inputs ``v`` as `weigh_inputs` gathers them,

.. math:: \ln w = \min(0, v M + m), \qquad L^c = ReLU(Up(\sum_k w_k^c (A_k - lo_k) / (hi_k - lo_k)))

where ``lo`` and ``hi`` are the extremes of the map (Score-CAM takes those of the enlarged one, a little inside).
``M`` and ``m`` come from `calibration.weighing`. Needs torch; the static graphs hold the same sums (`models.graphs`).
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from models.errors import BundleError
from models.score_cam import FLAT, min_max
from models.spec_cnn import SpecCnn

__all__ = ["STD_FLOOR", "Weigher", "masks_of", "quick_score_cam", "weigh_inputs"]

F32 = npt.NDArray[np.float32]

#: Added to a map's standard deviation before the logarithm.
STD_FLOOR = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Weigher:
    """How the weights of all maps follow from a few coarse passes.

    Raises
    ------
    ValueError
        If shapes do not fit together or a number is not finite.
    """

    channels: tuple[int, ...]
    """Maps weighed by a forward pass each."""
    pool: int
    """Columns of the last convolution averaged into one for that pass."""
    matrix: F32
    """``(n_inputs, n_channels * n_labels)``"""
    offset: F32
    """``(n_channels * n_labels,)``"""

    def __post_init__(self) -> None:
        if not self.channels or len(set(self.channels)) != len(self.channels) or min(self.channels) < 0:
            raise ValueError(f"channels={self.channels} are not different maps")
        if self.pool < 1 or self.matrix.ndim != 2 or self.offset.shape != self.matrix.shape[1:]:
            raise ValueError(f"pool={self.pool}, matrix {self.matrix.shape} and offset {self.offset.shape} do not fit")
        if not (np.isfinite(self.matrix).all() and np.isfinite(self.offset).all()):
            raise ValueError("the matrix holds values that are not finite")

    @property
    def k(self) -> int:
        """Forward passes per window."""
        return len(self.channels)

    def save(self, path: Path) -> None:
        """Write it as ``.npz``."""
        np.savez(
            path, channels=np.array(self.channels), pool=np.array(self.pool), matrix=self.matrix, offset=self.offset
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Weigher:
        """Read what `save` wrote.

        Raises
        ------
        BundleError
            If the file cannot be read or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as kept:
                return cls(tuple(kept["channels"].tolist()), int(kept["pool"]), kept["matrix"], kept["offset"])
        except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as e:
            raise BundleError(f"{path}: holds no weights of Score-CAM: {e}") from e

    @staticmethod
    def n_inputs(k: int, n_channels: int, n_labels: int) -> int:
        """Length of ``v``."""
        return (k + 1) * n_labels + 2 * n_channels


def masks_of(a: Tensor) -> tuple[Tensor, Tensor]:
    """Maps ``(B, K, n_freq, n_time')`` of the last convolution scaled to 0..1, and which have a shape ``(B, K)``."""
    low, high = a.amin((2, 3), keepdim=True), a.amax((2, 3), keepdim=True)
    return (a - low) / (high - low).clamp(min=FLAT), (high - low > FLAT).to(a.dtype)[..., 0, 0]


def weigh_inputs(
    network: SpecCnn, x: Tensor, a: Tensor, scaled: Tensor, fill: float, channels: tuple[int, ...], pool: int
) -> Tensor:
    """What the weights are told from: ``(B, n_inputs)``.

    In this order: logarithms of the probabilities of each window masked by one of ``channels``, of the window itself,
    logarithm of each map's spread, mean of each scaled map.
    """
    n_batch, n_columns = len(x), a.shape[3] // pool
    coarse = functional.avg_pool2d(x, (1, x.shape[3] // n_columns))  # (B, n_planes, n_freq, n_columns)
    h = functional.avg_pool2d(scaled[:, list(channels)], (1, pool))[:, :, None]
    masked = coarse[:, None] * h + fill * (1.0 - h)
    probs = torch.log_softmax(network(masked.flatten(0, 1)), 1).reshape(n_batch, -1)
    spread = torch.log(a.flatten(2).var(2, unbiased=False).sqrt() + STD_FLOOR)
    return torch.cat([probs, torch.log_softmax(network.head(a)[0], 1), spread, scaled.mean((2, 3))], 1)


@torch.no_grad()
def quick_score_cam(network: SpecCnn, x: Tensor, cls: Tensor, *, fill: float, weigher: Weigher) -> Tensor:
    """Class activation maps ``(B, n_freq, n_time)`` in 0..1, as the static graphs make them.

    Parameters
    ----------
    network : SpecCnn
        In evaluation mode.
    x : Tensor ``(B, n_planes, n_freq, n_time)``
    cls : Tensor int64 ``(B,)``
    fill : float
        Value where a mask is 0.
    """
    a = network.trunk(x)
    scaled, shaped = masks_of(a)
    v = weigh_inputs(network, x, a, scaled, fill, weigher.channels, weigher.pool)
    told = v @ torch.from_numpy(weigher.matrix) + torch.from_numpy(weigher.offset)
    every = told.reshape(len(x), a.shape[1], -1).clamp(max=0.0).exp()
    weights = every[torch.arange(len(x)), :, cls] * shaped
    summed = (weights[:, :, None, None] * scaled).sum(1, keepdim=True)
    up = functional.interpolate(summed, size=x.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return min_max(torch.relu(up))
