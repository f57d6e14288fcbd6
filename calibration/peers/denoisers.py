r"""Denoisers that learn: two that are told the truth (upper references), two of the literature that are not.

All take a window's features and give an estimate of what a vessel's tonals alone would look like; the estimate is the
score map. Convolutional ones share the network of Zhang et al. (*Beyond a Gaussian denoiser*, 2017): it predicts the
noise, which is subtracted; here with five layers of sixteen maps.

``DnCNN, supervised``
    learns from windows and the simulator's truth: the features inside the tone cells, nothing elsewhere.
``auto-encoder, supervised``
    the same target through a bottleneck, as in the paper's Experiment 1.
``SURE``
    Stein's unbiased risk estimate stands in for the truth (Soltanayev and Chun, 2018):
    :math:`\|f(x) - x\|^2 / N - \sigma^2 + (2 \sigma^2 / N)\, div f`, the divergence by one random probe, sigma from the
    window itself. It presumes Gaussian noise without correlation, which the overlapping frames of a LOFARgram have not.
``GAN noise model``
    a generator learns what source-free windows look like and makes more of them; lines drawn by hand are laid over, and
    the network learns to take the noise away again (after Chen et al., 2018).

Needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from calibration.dataset import AMBIENT
from calibration.experiments.scene import Scene
from calibration.metrics import WindowTruth
from models.autoencoder import Autoencoder
from models.dataset import Dataset
from models.feature_spec import FeatureSpec
from models.spec_cnn import SpecCnnConfig
from models.wgan_train import GanOptions, train_generator

__all__ = ["Denoiser", "autoencoder", "clean_targets", "drawn_lines", "gan_noise", "supervised", "sure"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

N_LAYERS, N_MAPS = 5, 16
N_STEPS, BATCH, RATE = 300, 16, 2e-3
N_STEPS_AUTOENCODER, BATCH_AUTOENCODER = 600, 40
#: Convolutional networks learn from pieces of the windows, rows and columns.
PIECE = (128, 32)
#: Probe of the divergence, in units of the features.
PROBE = 1e-3
#: Critic steps of the generator of noise, and windows it makes.
GAN_STEPS, N_MADE = 120, 400
#: Lines drawn per window, their level in units of the features.
DRAWN, LEVEL = (3, 14), (0.25, 1.0)


class _DnCnn(nn.Module):
    """What is left when the noise predicted is subtracted."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, N_MAPS, 3, padding=1), nn.ReLU()]
        for _ in range(N_LAYERS - 2):
            layers += [nn.Conv2d(N_MAPS, N_MAPS, (3, 5), padding=(1, 2), bias=False), nn.BatchNorm2d(N_MAPS), nn.ReLU()]
        self.noise = nn.Sequential(*layers, nn.Conv2d(N_MAPS, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 1, n_freq, n_time)`` in and out."""
        out: Tensor = x - self.noise(x)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Denoiser:
    """A trained denoiser as a method: its estimate is the score."""

    name: str
    network: Callable[[Tensor], Tensor]

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Estimates ``(n, n_freq, n_time)``; whatever class is asked for."""
        with torch.no_grad(), _one_thread():
            parts = [self.network(x) for x in torch.split(torch.from_numpy(scene.features[:, :1]), BATCH)]
        out: F32 = torch.cat(parts)[:, 0].numpy()
        return out


def supervised(scene: Scene, seed: int = 0) -> Denoiser:
    """DnCNN from windows with truth."""
    x, y = torch.from_numpy(scene.features[:, :1]), torch.from_numpy(clean_targets(scene))

    def loss(network: nn.Module, index: Tensor) -> Tensor:
        part, want = _pieces(x[index], y[index])
        return functional.mse_loss(network(part), want)

    return Denoiser("DnCNN, supervised", _trained(_DnCnn, loss, len(x), N_STEPS, BATCH, seed))


def autoencoder(scene: Scene, seed: int = 0) -> Denoiser:
    """Auto-encoder from windows with truth."""
    spec = scene.spec
    x, y = torch.from_numpy(scene.features[:, :1]), torch.from_numpy(clean_targets(scene))
    config = SpecCnnConfig(n_labels=2, n_planes=1, n_freq=spec.n_freq, n_time=spec.n_time)

    def loss(network: nn.Module, index: Tensor) -> Tensor:
        assert isinstance(network, Autoencoder)
        return functional.binary_cross_entropy_with_logits(network.logits(network.encode(x[index])), y[index])

    network = _trained(lambda: Autoencoder(config), loss, len(x), N_STEPS_AUTOENCODER, BATCH_AUTOENCODER, seed)
    return Denoiser("auto-encoder, supervised", network)


def sure(scene: Scene, seed: int = 0) -> Denoiser:
    """DnCNN from windows alone, by Stein's unbiased risk estimate."""
    x = torch.from_numpy(scene.features[:, :1])
    inside = x[:, :, scene.spec.row_lo :]
    middle = inside.flatten(1).median(1).values
    # cells above the median hold the tonals: the spread is taken from those below it
    below = (middle[:, None] - inside.flatten(1)).clamp(min=0.0)
    sigma = 1.4826 * torch.stack([row[row > 0].median() for row in below])

    def loss(network: nn.Module, index: Tensor) -> Tensor:
        (part,), variance = _pieces(x[index]), (sigma[index] ** 2)[:, None, None, None]
        out = network(part)
        probe = torch.randint(0, 2, part.shape).float() * 2.0 - 1.0
        divergence = probe * (network(part + PROBE * probe) - out) / PROBE
        risk: Tensor = ((out - part) ** 2 + 2.0 * variance * divergence - variance).mean()
        return risk

    return Denoiser("SURE", _trained(_DnCnn, loss, len(x), N_STEPS, BATCH, seed))


def gan_noise(scene: Scene, seed: int = 0) -> Denoiser:
    """DnCNN from drawn lines in generated noise; sees source-free windows only."""
    spec, windows = scene.spec, scene.windows
    quiet = np.flatnonzero(windows.y == windows.labels.index(AMBIENT))
    real = Dataset(
        np.ascontiguousarray(windows.features[quiet, :1]), np.zeros(quiet.size, np.int64),
        [windows.groups[i] for i in quiet], ("sea",),
    )  # fmt: skip
    with _one_thread():
        trained = train_generator(
            real, GanOptions.preset("modern", seed=seed, n_steps=GAN_STEPS), row_lo=spec.row_lo, fill=spec.fill
        )
    # a peer that is made of nothing but generated noise; nothing of it goes further than this table
    made = trained.generate(np.zeros(N_MADE, np.int64), seed + 1).to_judge()
    noise = np.concatenate([real.features, made])
    lines = drawn_lines(len(noise), spec, seed)
    x, y = torch.from_numpy(np.maximum(noise, lines)), torch.from_numpy(lines)

    def loss(network: nn.Module, index: Tensor) -> Tensor:
        part, want = _pieces(x[index], y[index])
        return functional.mse_loss(network(part), want)

    return Denoiser("GAN noise model", _trained(_DnCnn, loss, len(x), N_STEPS, BATCH, seed))


def clean_targets(scene: Scene) -> F32:
    """Features inside the cells of vessels' lines, 0 elsewhere: ``(n, 1, n_freq, n_time)``.

    Raises
    ------
    ValueError
        If a window has no truth.
    """
    w = scene.windows
    out = np.zeros_like(scene.features[:, :1])
    for i, c in enumerate(w.clip):
        truth = w.truths[c]
        if truth is None:
            raise ValueError("a window without truth cannot teach a supervised denoiser")
        mask = WindowTruth.of(truth, w.spec, w.clips[c].fs, int(w.first_sample[i]), w.labels[w.y[i]]).target
        out[i, 0][mask] = scene.features[i, 0][mask]
    return out


def drawn_lines(n: int, spec: FeatureSpec, seed: int) -> F32:
    """Pictures of lines, without noise: steady or slowly drifting, one or two rows wide, ``(n, 1, n_freq, n_time)``."""
    rng = np.random.default_rng(seed)
    out = np.zeros((n, 1, spec.n_freq, spec.n_time), np.float32)
    columns = np.arange(spec.n_time)
    for picture in out[:, 0]:
        for _ in range(int(rng.integers(DRAWN[0], DRAWN[1] + 1))):
            row = rng.uniform(spec.row_lo, spec.n_freq - 1) + rng.normal(0.0, 0.01) * columns
            level = rng.uniform(*LEVEL) * rng.uniform(0.7, 1.0, spec.n_time)
            for beside in (0, 1) if rng.random() < 0.5 else (0,):
                at = np.clip(np.round(row).astype(int) + beside, spec.row_lo, spec.n_freq - 1)
                picture[at, columns] = np.maximum(picture[at, columns], level)
    return out


def _pieces(*windows: Tensor) -> tuple[Tensor, ...]:
    """The same piece of each, at random."""
    rows, columns = (min(n, size) for n, size in zip(PIECE, windows[0].shape[2:], strict=True))
    row = int(torch.randint(windows[0].shape[2] - rows + 1, (1,)))
    column = int(torch.randint(windows[0].shape[3] - columns + 1, (1,)))
    return tuple(w[:, :, row : row + rows, column : column + columns] for w in windows)


def _trained(
    make: Callable[[], nn.Module],
    loss: Callable[[nn.Module, Tensor], Tensor],
    n: int,
    n_steps: int,
    batch: int,
    seed: int,
) -> nn.Module:
    """A network trained by ``loss(network, indices)``; the same for the same seed, on one thread."""
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        network = make().train()
        optimiser = torch.optim.Adam(network.parameters(), RATE)
        order = torch.zeros(0, dtype=torch.int64)
        for _ in range(n_steps):
            if len(order) < batch:
                order = torch.cat([order, torch.randperm(n, generator=generator)])
            index, order = order[:batch], order[batch:]
            value = loss(network, index)
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return network.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums come out the same however many processors there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
