"""Auto-encoder of windows: turns cluster centroids, which are no windows, into pictures (Elias, section VI, Figure 10).

The encoder has the structure of the Spec-CNN up to its second dense layer, the decoder that of a GAN's generator:
a dense layer, then transposed convolutions that double both axes, a sigmoid at the end.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.spec_cnn import SpecCnn, SpecCnnConfig

__all__ = ["Autoencoder", "train_autoencoder"]

F32 = npt.NDArray[np.float32]

#: Times the decoder doubles both axes.
N_DOUBLINGS = 3
CHANNELS = (16, 16, 8)


class Autoencoder(nn.Module):
    """Encoder and decoder for windows of a Spec-CNN's size.

    Raises
    ------
    ValueError
        If an axis cannot be halved as often as the decoder doubles it.
    """

    def __init__(self, config: SpecCnnConfig) -> None:
        super().__init__()
        step = 2**N_DOUBLINGS
        if config.n_freq % step or config.n_time % step:
            raise ValueError(f"n_freq={config.n_freq}, n_time={config.n_time}: both must be multiples of {step}")
        self.encoder = SpecCnn(config)
        self.small = (CHANNELS[0], config.n_freq // step, config.n_time // step)
        self.dense = nn.Linear(config.n_embedding, int(np.prod(self.small)))
        layers: list[nn.Module] = []
        outs = (*CHANNELS[1:], config.n_planes)
        for n_in, n_out in zip(CHANNELS, outs, strict=True):
            layers += [nn.ReLU(), nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1)]
        self.up = nn.Sequential(*layers)

    def encode(self, x: Tensor) -> Tensor:
        """Embedding ``(B, n_embedding)`` of ``x`` ``(B, n_planes, n_freq, n_time)``."""
        return self.encoder.head(self.encoder.trunk(x))[1]

    def logits(self, embedding: Tensor) -> Tensor:
        """Log-odds of each cell."""
        up: Tensor = self.up(self.dense(embedding).reshape(-1, *self.small))
        return up

    def decode(self, embedding: Tensor) -> Tensor:
        """Windows ``(B, n_planes, n_freq, n_time)`` in 0..1 of ``embedding`` ``(B, n_embedding)``."""
        return torch.sigmoid(self.logits(embedding))

    def forward(self, x: Tensor) -> Tensor:
        """Windows through the bottleneck and back."""
        return self.decode(self.encode(x))


def train_autoencoder(
    features: F32, config: SpecCnnConfig, *, n_epochs: int, batch: int = 40, seed: int = 0
) -> Autoencoder:
    """Train on windows ``(n, n_planes, n_freq, n_time)`` by binary cross-entropy, as the paper does.

    Returns
    -------
    Autoencoder
        In evaluation mode; the same for the same windows and seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        network = Autoencoder(config).train()
        optimiser = torch.optim.Adam(network.parameters(), 2e-3)
        x = torch.from_numpy(np.ascontiguousarray(features))
        for _ in range(n_epochs):
            for part in torch.split(torch.randperm(len(x), generator=generator), batch):
                if len(part) == 1:
                    continue  # batch normalisation has no deviation of one window
                loss = functional.binary_cross_entropy_with_logits(network.logits(network.encode(x[part])), x[part])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    return network.eval()
