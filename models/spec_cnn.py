"""Spec-CNN: few convolutions and two dense layers before the classes (Elias, section IV.B and VII).

Pooling runs along time only, frequency keeps its resolution: a tonal is one or two rows wide, and a network that pools
rows cannot tell which of them it saw. The second dense layer is the embedding.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

__all__ = ["SpecCnn", "SpecCnnConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecCnnConfig:
    """Sizes of the network.

    Raises
    ------
    ValueError
        If the columns cannot be pooled as often as asked.
    """

    n_labels: int
    n_planes: int = 1
    n_freq: int = 256
    n_time: int = 64
    channels: tuple[int, ...] = (8, 16, 32)
    """Maps after each convolution."""
    n_reduced: int = 4
    """Maps left by the 1 x 1 convolution before the dense layers."""
    n_hidden: int = 64
    n_embedding: int = 64
    dropout: float = 0.4

    def __post_init__(self) -> None:
        n_pooled = 2 ** len(self.channels)
        if self.n_time % n_pooled:
            raise ValueError(f"n_time={self.n_time} is not a multiple of {n_pooled}, pooled {len(self.channels)} times")

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for the run's files."""
        return {**dataclasses.asdict(self), "channels": list(self.channels)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SpecCnnConfig:
        """Inverse of ``to_dict``."""
        return cls(**{**values, "channels": tuple(values["channels"])})


class SpecCnn(nn.Module):
    """The network of a configuration; see the module text."""

    def __init__(self, config: SpecCnnConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        n_in = config.n_planes
        for i, n_out in enumerate(config.channels):
            if i:
                layers.append(nn.MaxPool2d((1, 2)))
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
            n_in = n_out
        self.features = nn.Sequential(*layers)
        self.pool = nn.MaxPool2d((1, 2))
        self.reduce = nn.Conv2d(n_in, config.n_reduced, 1)
        self.drop = nn.Dropout(config.dropout)
        self.hidden = nn.Linear(config.n_reduced * config.n_freq, config.n_hidden)
        self.embedding = nn.Linear(config.n_hidden, config.n_embedding)
        self.classes = nn.Linear(config.n_embedding, config.n_labels)

    @property
    def n_channels(self) -> int:
        """Maps of the last convolution, the ones Score-CAM weighs."""
        return self.config.channels[-1]

    def trunk(self, x: Tensor) -> Tensor:
        """Last convolution's maps ``(B, K, n_freq, n_time / 4)`` of ``x`` ``(B, n_planes, n_freq, n_time)``."""
        return cast("Tensor", self.features(x))

    def head(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """``(logits (B, n_labels), embedding (B, n_embedding))`` of the trunk's output ``a``."""
        h = self.reduce(self.pool(a)).mean(3)  # (B, n_reduced, n_freq)
        h = torch.relu(self.hidden(self.drop(h.flatten(1))))
        e = torch.relu(self.embedding(h))
        return self.classes(e), e

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, n_labels)``."""
        return self.head(self.trunk(x))[0]
