"""The student: one pass of a small network that stands in for the slow explanation of a class.

It is distilled from what the explainer makes in mode ``full`` (line tracks, templates, Score-CAM, insertion and
deletion of each track): for a window and a class it gives the map of the cells that prove the class. Its time axis is
coarse inside (tonals last), its frequency axis is never pooled, and a dense layer over all rows lets it see which lines
stand together, so that it can tell a line of the class from a foreign one at the same place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Student", "StudentConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentConfig:
    """Sizes of the network."""

    n_labels: int
    n_planes: int = 1
    n_freq: int = 256
    n_time: int = 64
    channels: tuple[int, int] = (8, 16)
    n_reduced: int = 4
    n_context: int = 64
    n_class: int = 16

    def __post_init__(self) -> None:
        if self.n_time % 8:
            raise ValueError(f"n_time={self.n_time} is not a multiple of 8, its time axis is pooled by that")


class Student(nn.Module):
    """The network of a configuration; see the module text."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        c = self.config = config
        first, second = c.channels
        self.cells = nn.Sequential(
            nn.AvgPool2d((1, 4)),
            nn.Conv2d(c.n_planes, first, 3, padding=1), nn.ReLU(), nn.AvgPool2d((1, 2)),
            nn.Conv2d(first, second, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.reduce = nn.Conv1d(second, c.n_reduced, 1)
        self.context = nn.Linear(c.n_reduced * c.n_freq, c.n_context)
        self.classes = nn.Embedding(c.n_labels, c.n_class)
        self.prior = nn.Embedding(c.n_labels, c.n_freq)
        self.gate_hidden = nn.Linear(c.n_context + c.n_class, c.n_context)
        self.gate = nn.Linear(c.n_context, c.n_freq)
        self.mixed = nn.Conv2d(second + 1, first, 3, padding=1)
        self.out = nn.Conv2d(first, 1, 1)
        nn.init.zeros_(self.prior.weight)

    def logits(self, features: Tensor, cls: Tensor) -> Tensor:
        """Log-odds ``(B, n_freq, n_time)`` that a cell proves class ``cls`` ``(B,)``."""
        c = self.config
        a = self.cells(features)  # (B, channels, n_freq, n_time / 8)
        rows = self.reduce(a.mean(3))  # (B, n_reduced, n_freq)
        context = torch.relu(self.context(rows.flatten(1)))
        which = cls.long()
        hidden = torch.relu(self.gate_hidden(torch.cat([context, self.classes(which)], 1)))
        gate = self.gate(hidden) + self.prior(which)  # (B, n_freq)
        column = gate[:, None, :, None].expand(-1, 1, c.n_freq, c.n_time // 8)
        seen = torch.relu(self.mixed(torch.cat([a, column], 1)))
        coarse = self.out(seen) + column  # (B, 1, n_freq, n_time / 8)
        fine = functional.interpolate(coarse, size=(c.n_freq, c.n_time), mode="bilinear", align_corners=False)
        return fine[:, 0]

    def forward(self, features: Tensor, cls: Tensor) -> Tensor:
        """Map ``(B, n_freq, n_time)`` in 0..1 of ``features`` ``(B, n_planes, n_freq, n_time)`` for ``cls`` int32."""
        return torch.sigmoid(self.logits(features, cls))
