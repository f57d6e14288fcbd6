r"""Generator and critic of windows (Elias, section IV.A and Figure 2), in the paper's manner and in a modern one.

Both know the class, so that one pair of networks serves all: the sea between the lines is common to the classes, and
twenty windows of one class are too few to learn it from. With a single label the condition is constant and the pair is
the paper's, one generator per class.

Neither ever pools or interpolates along frequency: a tonal is one or two rows wide.

``paper``
    latent -> dense -> ``(maps, n_freq, n_time / 16)`` -> twice (stretch time by 4, convolution) -> sigmoid.
``modern``
    latent -> dense -> the tones' amplitude per row, which slow courses let fade, in noise drawn per cell with a scale
    per row: a hundred latent numbers cannot hold the 16384 cells of a noisy sea, and a generator without noise of its
    own repeats its textures.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

__all__ = ["Critic", "GanConfig", "Generator"]

Kind = Literal["paper", "modern"]
LEAK = 0.2
#: Columns between the nodes of a fading course: tones fade over seconds.
SLOW = 16
#: Where learning starts: features are ``(10 lg p + 3) / 15`` of power over background ``p`` (floor -3, ceiling 12 dB).
SCALE_DB, OFFSET_DB = 10.0 / math.log(10.0) / 15.0, 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class GanConfig:
    """Sizes of both networks.

    Raises
    ------
    ValueError
        If a number does not fit.
    """

    kind: Kind
    n_labels: int
    n_freq: int = 256
    n_time: int = 64
    n_latent: int = 100
    n_maps: int = 4
    """Maps of the generator's convolutions, ``paper``; profiles per window, ``modern``."""
    n_hidden: int = 128
    n_embedding: int = 64
    """Width of the critic's last layer."""
    row_lo: int = 5
    """Rows below hold ``fill``, as in the front end."""
    fill: float = 0.2

    def __post_init__(self) -> None:
        if self.kind not in ("paper", "modern"):
            raise ValueError(f"kind={self.kind!r} is neither 'paper' nor 'modern'")
        if self.n_time % 16:
            raise ValueError(f"n_time={self.n_time} is not a multiple of 16")
        if self.n_labels < 1 or self.n_latent < 1:
            raise ValueError(f"n_labels={self.n_labels} and n_latent={self.n_latent} must be at least 1")
        if not 0 <= self.row_lo < self.n_freq:
            raise ValueError(f"row_lo={self.row_lo} is not in 0..n_freq-1={self.n_freq - 1}")

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for the file."""
        return dataclasses.asdict(self)


class Generator(nn.Module):
    """``G(z, y)``: windows in 0..1."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        c = self.config = config
        n_in = c.n_latent + c.n_labels
        self.hidden = nn.Sequential(nn.Linear(n_in, c.n_hidden), nn.LeakyReLU(LEAK))
        self.body: nn.Module = _Stretching(c) if c.kind == "paper" else _Profiles(c)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Windows ``(B, 1, n_freq, n_time)`` of ``z`` ``(B, n_latent)`` and labels ``y`` ``(B,)``.

        The modern body also draws from torch's global generator.
        """
        c = self.config
        condition = nn.functional.one_hot(y, c.n_labels).to(z.dtype)
        x = cast("Tensor", self.body(self.hidden(torch.cat([z, condition], 1))))
        edge = torch.full_like(x[:, :, : c.row_lo], c.fill)
        return torch.cat([edge, x[:, :, c.row_lo :]], 2)


class _Stretching(nn.Module):
    """Body of the paper's kind."""

    def __init__(self, c: GanConfig) -> None:
        super().__init__()
        self._shape = (c.n_maps, c.n_freq, c.n_time // 16)
        self.start = nn.Linear(c.n_hidden, c.n_maps * c.n_freq * (c.n_time // 16))
        self.first = nn.Conv2d(c.n_maps, c.n_maps, 3, padding=1)
        self.second = nn.Conv2d(c.n_maps, 1, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        """``h`` ``(B, n_hidden)``."""
        a = nn.functional.leaky_relu(self.start(h), LEAK).reshape(-1, *self._shape)
        a = nn.functional.leaky_relu(self.first(a.repeat_interleave(4, 3)), LEAK)
        return torch.sigmoid(self.second(a.repeat_interleave(4, 3)))


class _Profiles(nn.Module):
    r"""Body of the modern kind: the square of a tone in noise, in dB as the front end writes it.

    ``x = clip(b + c ln(|A + s (n_1 + i n_2)|^2))`` with ``A(f, t) = a(f) (1 + tanh(sum_k u_k(f) v_k(t)) / 2)``, noise
    scale ``s(f)`` and white noise ``n`` filtered along time (frames overlap); ``c`` and ``b`` begin at the front end's
    scale, all are learned.
    """

    def __init__(self, c: GanConfig) -> None:
        super().__init__()
        self._k, self._n_freq, self._n_time = c.n_maps, c.n_freq, c.n_time
        n_wide = 2 * c.n_hidden
        self.wide = nn.Sequential(nn.Linear(c.n_hidden, n_wide), nn.LeakyReLU(LEAK))
        self.rows = nn.Linear(n_wide, (c.n_maps + 2) * c.n_freq)
        self.courses = nn.Linear(n_wide, c.n_maps * (c.n_time // SLOW))
        self.filter = nn.Parameter(torch.tensor([0.1, 0.4, 0.7, 0.4, 0.1])[None, None, None])
        self.scale = nn.Parameter(torch.tensor([SCALE_DB, OFFSET_DB]))

    def forward(self, h: Tensor) -> Tensor:
        """``h`` ``(B, n_hidden)``."""
        h = self.wide(h)
        rows = self.rows(h).unflatten(1, (self._k + 2, self._n_freq))  # (B, k + 2, n_freq)
        nodes = self.courses(h).unflatten(1, (self._k, self._n_time // SLOW))
        courses = nn.functional.interpolate(nodes, self._n_time, mode="linear")  # (B, k, n_time)
        fading = 1.0 + 0.5 * torch.tanh(torch.einsum("bkf,bkt->bft", rows[:, 2:], courses))
        amplitude = rows[:, 0, :, None] * fading
        white = torch.randn(len(h), 2, self._n_freq, self._n_time + 4)
        noise = self.filter[0, 0, 0, 0] * white[..., : self._n_time]
        for i in range(1, 5):
            noise = noise + self.filter[0, 0, 0, i] * white[..., i : i + self._n_time]
        spread = nn.functional.softplus(rows[:, 1, :, None] + 0.5)
        power = (amplitude + spread * noise[:, 0]).square() + (spread * noise[:, 1]).square()
        return _clip(self.scale[1] + self.scale[0] * torch.log(power + 1e-3))[:, None]


def _clip(x: Tensor) -> Tensor:
    """Clip to 0..1 as the front end does; a tenth of the gradient passes beyond the ends, or cells there die."""
    return x.clamp(0.0, 1.0) + 0.1 * (x - x.detach())


class Critic(nn.Module):
    """``f(x, y)``: one number per window, no normalisation between windows (it would couple their gradients).

    The label enters by projection (Miyato & Koyama, 2018): ``f = w . h(x) + e_y . h(x)``.
    """

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, (3, 8), stride=(1, 4), padding=(1, 2)),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(8, 16, (3, 4), stride=(1, 4), padding=(1, 0)),
            nn.LeakyReLU(LEAK),
        )
        self.embedding = nn.Sequential(
            nn.Linear(16 * config.n_freq * (config.n_time // 16), config.n_embedding), nn.LeakyReLU(LEAK)
        )
        self.score = nn.Linear(config.n_embedding, 1)
        self.label = nn.Embedding(config.n_labels, config.n_embedding)
        nn.init.zeros_(self.label.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores ``(B,)`` of windows ``(B, 1, n_freq, n_time)`` with labels ``(B,)``."""
        h = self.embedding(self.features(x).flatten(1))
        return cast("Tensor", self.score(h)[:, 0] + (self.label(y) * h).sum(1))
