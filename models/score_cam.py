r"""Score-CAM, the readable reference.

H. Wang et al., *Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks*, CVPR workshops 2020.
For an input :math:`X`, a class :math:`c` and the maps :math:`A_k` of the last convolution:

.. math::
    H_k = s(Up(A_k)), \qquad w_k^c = f^c(X \circ H_k + b (1 - H_k)), \qquad L^c = ReLU(\sum_k w_k^c M_k)

========== =====================================================================================================
X          window ``(n_planes, n_freq, n_time)``
A_k        map k of the last convolution, after its ReLU, ``(n_freq, n_time / 4)``
Up         bilinear upsampling to the size of the window (half-pixel centres); here only time is coarser
s          min-max to 0..1, per map; a flat map has no shape to show and gets weight 0
H_k        mask of map k
b          fill: what stands where the mask is 0. The paper has 0; the background keeps the masked window a likely one
f^c        ``prob``: softmax probability of class c. ``softmax``: softmax over the maps of the logit of c (the paper's
           Algorithm 1; any baseline cancels there, because softmax does not see a shift). ``cic``: increase of the
           probability over that of the baseline window (all fill), not below 0
M_k        what is summed: ``H_k`` (default, so that no single loud map outweighs the rest) or ``Up(A_k)`` as published
L^c        the class activation map, min-max to 0..1
========== =====================================================================================================

The final ReLU changes nothing while all ``w_k >= 0`` and ``A_k >= 0``, as here; it is kept because the method has it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from models.spec_cnn import SpecCnn

__all__ = ["FLAT", "Weighting", "min_max", "score_cam", "top_channels"]

Weighting = Literal["prob", "softmax", "cic"]
Criterion = Literal["std", "max"]

FLAT = 1e-6
"""Maps whose largest and smallest value differ by less are flat."""


def min_max(a: Tensor) -> Tensor:
    """``a`` scaled to 0..1 over its last two axes; a flat map stays below 1.

    The range is bounded below, not raised by a small number: exporters take ``+ 1e-8`` for nothing and drop it.
    """
    low = a.amin((-2, -1), keepdim=True)
    return (a - low) / (a.amax((-2, -1), keepdim=True) - low).clamp(min=FLAT)


def top_channels(a: Tensor, k: int, criterion: Criterion = "std") -> Tensor:
    """Indices ``(B, k)`` of the maps of ``a`` ``(B, K, ...)`` that vary most (``std``) or peak highest (``max``)."""
    flat = a.flatten(2)
    rank = flat.var(2, unbiased=False) if criterion == "std" else flat.amax(2)
    return torch.topk(rank, k, dim=1).indices


@torch.no_grad()
def score_cam(
    network: SpecCnn,
    x: Tensor,
    cls: Tensor,
    *,
    fill: float,
    weighting: Weighting = "prob",
    channels: int | None = None,
    criterion: Criterion = "std",
    sum_activations: bool = False,
    chunk: int = 64,
) -> Tensor:
    """Class activation maps.

    Parameters
    ----------
    network : SpecCnn
        In evaluation mode.
    x : Tensor ``(B, n_planes, n_freq, n_time)``
    cls : Tensor int64 ``(B,)``
        The class to explain in each window.
    fill : float
        Value where the mask is 0; 0 is the paper's.
    weighting : {"prob", "softmax", "cic"}
    channels : int, optional
        Only the so many maps that rank highest by ``criterion``; None: all. All by number gives the same bits.
    criterion : {"std", "max"}
    sum_activations : bool
        Sum ``Up(A_k)`` instead of ``H_k``.
    chunk : int
        Masked windows in one forward pass; changes nothing but memory.

    Returns
    -------
    Tensor ``(B, n_freq, n_time)`` in 0..1.

    Raises
    ------
    ValueError
        If the network is in training mode or ``channels`` is not in 1..K.
    """
    if network.training:
        raise ValueError("the network is in training mode: call eval() first")
    a = network.trunk(x)  # (B, K, n_freq, n_time')
    n_batch, n_maps = a.shape[:2]
    if channels is not None:
        if not 1 <= channels <= n_maps:
            raise ValueError(f"{channels=} is not in 1..{n_maps}")
        # in the order of the network, so that the sum over all maps is the same to the bit
        index = top_channels(a, channels, criterion).sort(1).values  # (B, k)
        a = torch.gather(a, 1, index[:, :, None, None].expand(-1, -1, *a.shape[2:]))
    up = functional.interpolate(a, size=x.shape[2:], mode="bilinear", align_corners=False)  # (B, k, n_freq, n_time)
    masks = min_max(up)
    shaped = (up.amax((2, 3)) - up.amin((2, 3)) > FLAT).to(x.dtype)  # (B, k)
    masked = x[:, None] * masks[:, :, None] + fill * (1.0 - masks[:, :, None])  # (B, k, n_planes, n_freq, n_time)
    flat = masked.flatten(0, 1)
    parts = [network(flat[i : i + chunk]) for i in range(0, flat.shape[0], chunk)]
    logits = torch.cat(parts).reshape(n_batch, a.shape[1], -1)  # (B, k, n_labels)
    own = cls[:, None, None].expand(-1, logits.shape[1], 1)
    if weighting == "softmax":
        weights = torch.softmax(logits.gather(2, own)[..., 0], 1)
    else:
        weights = torch.softmax(logits, 2).gather(2, own)[..., 0]  # (B, k)
        if weighting == "cic":
            blank = torch.softmax(network(torch.full_like(x[:1], fill)), 1)[0, cls]
            weights = torch.relu(weights - blank[:, None])
    summed = ((weights * shaped)[:, :, None, None] * (up if sum_activations else masks)).sum(1)
    return min_max(torch.relu(summed))
