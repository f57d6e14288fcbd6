r"""Parts of adversarial training that stand alone: clipping, gradient penalty, moving average, augmentation."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["Ema", "augment", "clip_weights", "gradient_penalty"]


@torch.no_grad()
def clip_weights(critic: nn.Module, limit: float) -> None:
    """Algorithm 1, line 7: each weight into ``-limit..limit``."""
    for p in critic.parameters():
        p.clamp_(-limit, limit)


def gradient_penalty(score: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    r"""Mean of :math:`\|\nabla_x f(x)\|^2` over a batch (Mescheder et al., 2018: R1 on real, R2 on generated windows).

    Parameters
    ----------
    score
        ``(B, ...)`` to ``(B,)``, each window's score from that window alone.
    x
        ``(B, ...)``

    Returns
    -------
    Tensor
        A number that can be differentiated with respect to the critic's weights.
    """
    x = x.detach().requires_grad_()
    (g,) = torch.autograd.grad(score(x).sum(), x, create_graph=True)
    return g.square().flatten(1).sum(1).mean()


class Ema:
    """Exponential moving average of a network's weights.

    ``w' <- d w' + (1 - d) w`` with ``d = min(decay, (1 + n) / (10 + n))`` at step ``n``, so that a short training does
    not remember its random start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"{decay=} is not in 0..1")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay, self._n = decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one step."""
        d = min(self._decay, (1 + self._n) / (10 + self._n))
        self._n += 1
        for mine, theirs in zip(self.network.parameters(), network.parameters(), strict=True):
            mine.lerp_(theirs, 1.0 - d)


def augment(x: Tensor, rng: torch.Generator, *, fill: float = 0.2, level: float = 0.05, cutout: int = 12) -> Tensor:
    """Light augmentation for a critic (as DiffAugment, Zhao et al., 2020), each window by itself; no row ever moves.

    Time is rolled by any number of columns, the level shifted by up to ``level`` of full scale, and up to ``cutout``
    columns in a row are set to ``fill``. Differentiable with respect to ``x`` ``(B, planes, n_freq, n_time)``.
    """
    b, n_time = x.shape[0], x.shape[3]
    shift = torch.randint(n_time, (b, 1), generator=rng)
    index = (torch.arange(n_time)[None] + shift) % n_time  # (B, n_time)
    x = x.gather(3, index[:, None, None, :].expand_as(x))
    x = x + level * (2.0 * torch.rand((b, 1, 1, 1), generator=rng) - 1.0)
    start = torch.randint(n_time, (b, 1), generator=rng)
    length = torch.randint(cutout + 1, (b, 1), generator=rng)
    cut = ((torch.arange(n_time)[None] - start) % n_time) < length
    return x.masked_fill(cut[:, None, None, :], fill)
