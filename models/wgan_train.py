r"""Training of a generator by three recipes, from the same loop.

``printed``
    Algorithm 1 of the paper (Arjovsky et al., 2017): the critic climbs ``E f(x) - E f(G(z))`` by RMSProp with step
    5e-5, weights clipped to +-0.01, batches of 64, five critic steps per generator step. A Wasserstein critic has no
    accuracy; the share of (real, generated) pairs it ranks rightly is given in its place.
``text``
    The paper's words: latent 100, batches of 20, binary cross-entropy on both networks, 100 to 150 epochs; the sign to
    stop is a discriminator right half of the time. Looked for from epoch 100 on, over ten epochs.
``modern``
    R3GAN-type (Huang et al., 2024): relativistic loss ``E softplus(-(f(x) - f(G(z))))`` with zero-centred gradient
    penalties on real (R1) and generated (R2) windows, light augmentation before the critic, and the moving average of
    the generator as the result.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from models.dataset import Dataset
from models.errors import InputError, UsageError
from models.wgan import Critic, GanConfig, Generator
from models.wgan_generated import Generated, Provenance, refuse_generated
from models.wgan_losses import Ema, augment, clip_weights, gradient_penalty

__all__ = ["GanOptions", "Row", "Trained", "train_generator"]

Recipe = Literal["printed", "text", "modern"]
Row = dict[str, float]
#: The sign to stop: mean accuracy of so many epochs, from this one on, within so much of one half.
STOP_EPOCHS, STOP_FROM, STOP_WITHIN = 10, 100, 0.05
#: Gradient penalties are taken every so many-th step and as many times as strong (Karras et al., 2020).
LAZY = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class GanOptions:
    """How to train."""

    recipe: Recipe
    seed: int = 0
    n_epochs: int = 150
    n_steps: int | None = None
    """Critic steps at most; None for as many as the epochs hold."""
    batch: int = 64
    n_critic: int = 1
    learning_rate: float = 5e-5
    generator_rate: float | None = None
    """Of the generator; None for the critic's."""
    clip: float = 0.01
    gamma: float = 1.0
    """Weight of R1 and R2, each by half of it."""
    ema: float = 0.99

    @classmethod
    def preset(cls, recipe: Recipe, *, seed: int = 0, n_steps: int | None = None) -> GanOptions:
        """The numbers of the paper, or ours."""
        if recipe == "printed":
            return cls(recipe=recipe, seed=seed, n_steps=n_steps, batch=64, n_critic=5, learning_rate=5e-5, clip=0.01)
        if recipe == "text":
            return cls(recipe=recipe, seed=seed, n_steps=n_steps, batch=20, learning_rate=2e-4)
        if recipe == "modern":
            return cls(recipe=recipe, seed=seed, n_steps=n_steps, n_epochs=10_000 if n_steps else 150, batch=20,
                       learning_rate=1e-3, generator_rate=2e-3, gamma=3.0)  # fmt: skip
        raise UsageError(f"no recipe '{recipe}': choose printed, text or modern")


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A generator and how it came about."""

    generator: Generator
    options: GanOptions
    labels: tuple[str, ...]
    trained_on: str
    """SHA-256 of the training set."""
    curve: tuple[Row, ...]
    """Per epoch: critic, generator (losses), accuracy_real, accuracy_made, accuracy (0..1)."""
    stop_epoch: int | None
    """Where the sign to stop was seen; None where it was not, or is not looked for."""

    def generate(self, y: np.typing.ArrayLike, seed: int) -> Generated:
        """One window for each label of ``y``; the same seed gives the same windows."""
        labels = np.asarray(y, np.int64)
        c = self.generator.config
        parts = []
        with torch.random.fork_rng([]), torch.no_grad():
            torch.manual_seed(seed)
            for i in range(0, len(labels), 64):
                chunk = torch.from_numpy(labels[i : i + 64])
                parts.append(self.generator(torch.randn(len(chunk), c.n_latent), chunk).numpy())
        provenance = Provenance(method=self.options.recipe, seed=seed, trained_on=self.trained_on)
        return Generated(np.concatenate(parts), labels, self.labels, provenance)

    def save(self, path: Path) -> None:
        """Write as npz, without pickle.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        about = {
            "config": self.generator.config.to_dict(), "options": dataclasses.asdict(self.options),
            "labels": self.labels, "trained_on": self.trained_on, "curve": self.curve, "stop_epoch": self.stop_epoch,
        }  # fmt: skip
        arrays = {f"w/{k}": v.numpy() for k, v in self.generator.state_dict().items()}
        part = path.with_name(path.name + ".part")
        try:
            with part.open("wb") as f:
                np.savez(f, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)
            part.replace(path)
        except OSError as e:
            raise InputError(f"{path}: cannot be written: {e.strerror or e}") from e

    @classmethod
    def load(cls, path: Path) -> Trained:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the file is missing or damaged.
        """
        try:
            with path.open("rb") as f, np.load(f, allow_pickle=False) as stored:
                about = json.loads(str(stored["about"]))
                generator = Generator(GanConfig(**about["config"]))
                generator.load_state_dict({k[2:]: torch.from_numpy(stored[k]) for k in stored.files if k[:2] == "w/"})
            return cls(
                generator.eval().requires_grad_(False), GanOptions(**about["options"]), tuple(about["labels"]),
                about["trained_on"], tuple(about["curve"]), about["stop_epoch"],
            )  # fmt: skip
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (ValueError, KeyError, TypeError, RuntimeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as e:
            raise InputError(f"{path}: no generator, or damaged: {' '.join(str(e).split())[:200]}") from e


def train_generator(
    real: Dataset,
    options: GanOptions,
    *,
    row_lo: int = 5,
    fill: float = 0.2,
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train a generator on ``real``; the same seed gives the same weights.

    Parameters
    ----------
    real
        Windows of recordings; several labels give one conditional generator.
    row_lo, fill
        Of the front end: rows below ``row_lo`` hold ``fill``.
    progress
        Told after each epoch of steps done, of how many.

    Raises
    ------
    UsageError
        If the set holds generated windows, or fewer than two.
    """
    refuse_generated(real.groups, "the training of a generator")
    if len(real.y) < 2:
        raise UsageError(f"{len(real.y)} windows: a generator needs at least two")
    kind: Literal["paper", "modern"] = "modern" if options.recipe == "modern" else "paper"
    config = GanConfig(
        kind=kind, n_labels=len(real.labels), n_freq=real.features.shape[2], n_time=real.features.shape[3],
        row_lo=row_lo, fill=fill,
    )  # fmt: skip
    with torch.random.fork_rng([]):
        torch.manual_seed(options.seed)
        game = _Game(config, options)
        curve, stop = game.play(real, progress)
    result = game.ema.network if game.ema is not None else game.generator.eval().requires_grad_(False)
    assert isinstance(result, Generator)
    return Trained(result, options, real.labels, real.fingerprint(), tuple(curve), stop)


class _Game:
    """Both networks and their optimisers."""

    def __init__(self, config: GanConfig, options: GanOptions) -> None:
        self.generator, self.critic, self.options = Generator(config), Critic(config), options
        self.ema = Ema(self.generator, options.ema) if options.recipe == "modern" else None
        rates = options.learning_rate, options.generator_rate or options.learning_rate
        self._optimizers = [self._optimizer(self.critic, rates[0]), self._optimizer(self.generator, rates[1])]
        self._rng = torch.Generator().manual_seed(options.seed)
        self._n_steps = 0

    def _optimizer(self, network: nn.Module, rate: float) -> torch.optim.Optimizer:
        o = self.options
        if o.recipe == "printed":
            return torch.optim.RMSprop(network.parameters(), rate)
        betas = (0.5, 0.999) if o.recipe == "text" else (0.0, 0.99)
        return torch.optim.Adam(network.parameters(), rate, betas)

    def play(self, real: Dataset, progress: Callable[[int, int], None] | None) -> tuple[list[Row], int | None]:
        o = self.options
        features, labels = torch.from_numpy(real.features), torch.from_numpy(real.y)
        per_epoch = -(-len(labels) // o.batch)
        total = min(o.n_epochs * per_epoch, o.n_steps or o.n_epochs * per_epoch)
        curve: list[Row] = []
        while self._n_steps < total:
            order = torch.randperm(len(labels), generator=self._rng)
            rows = []
            for i in range(0, len(order), o.batch):
                pick = order[i : i + o.batch]
                rows.append(self._step(features[pick], labels[pick]))
                if self._n_steps >= total:
                    break
            means = {k: [r[k] for r in rows if k in r] for k in ("critic", "generator", *ACCURACIES)}
            curve.append({k: float(np.mean(v)) for k, v in means.items() if v})
            if progress is not None:
                progress(self._n_steps, total)
            if o.recipe == "text" and _told_to_stop(curve):
                return curve, len(curve)
        return curve, None

    def _step(self, x: Tensor, y: Tensor) -> Row:
        """One step of the critic, and one of the generator when its turn has come."""
        o = self.options
        self._n_steps += 1
        with torch.no_grad():
            made = self._make(y)
        real, fake = self._seen(x), self._seen(made)
        on_real, on_fake = self.critic(real, y), self.critic(fake, y)
        loss = critic_loss(o.recipe, on_real, on_fake)
        if o.recipe == "modern" and self._n_steps % LAZY == 1:
            penalty = gradient_penalty(lambda a: self.critic(a, y), real) + gradient_penalty(
                lambda a: self.critic(a, y), fake
            )
            loss = loss + 0.5 * LAZY * o.gamma * penalty
        self._descend(0, loss)
        if o.recipe == "printed":
            clip_weights(self.critic, o.clip)
        row = {"critic": float(loss.detach()), **_accuracy(o.recipe, on_real.detach(), on_fake.detach())}
        if self._n_steps % o.n_critic == 0:
            row["generator"] = self._generator_step(real, y)
        return row

    def _generator_step(self, real: Tensor, y: Tensor) -> float:
        on_fake = self.critic(self._seen(self._make(y)), y)
        loss = generator_loss(
            self.options.recipe, self.critic(real, y).detach() if self.ema is not None else on_fake, on_fake
        )
        self._descend(1, loss)
        if self.ema is not None:
            self.ema.update(self.generator)
        return float(loss.detach())

    def _make(self, y: Tensor) -> Tensor:
        z = torch.randn(len(y), self.generator.config.n_latent, generator=self._rng)
        made: Tensor = self.generator(z, y)
        return made

    def _seen(self, x: Tensor) -> Tensor:
        """What the critic sees of windows."""
        return augment(x, self._rng, fill=self.generator.config.fill) if self.ema is not None else x

    def _descend(self, which: int, loss: Tensor) -> None:
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizers[which].step()


ACCURACIES = ("accuracy", "accuracy_real", "accuracy_made")


def critic_loss(recipe: Recipe, on_real: Tensor, on_fake: Tensor) -> Tensor:
    """What the critic descends, without penalties, of its scores ``(B,)``."""
    if recipe == "printed":
        return on_fake.mean() - on_real.mean()
    if recipe == "text":
        ones = torch.ones_like(on_real)
        bce = nn.functional.binary_cross_entropy_with_logits
        return 0.5 * (bce(on_real, ones) + bce(on_fake, 0.0 * ones))
    return nn.functional.softplus(on_fake - on_real).mean()


def generator_loss(recipe: Recipe, on_real: Tensor, on_fake: Tensor) -> Tensor:
    """What the generator descends, of the critic's scores ``(B,)``."""
    if recipe == "printed":
        return -on_fake.mean()
    if recipe == "text":
        return nn.functional.binary_cross_entropy_with_logits(on_fake, torch.ones_like(on_fake))
    return nn.functional.softplus(on_real - on_fake).mean()


def _accuracy(recipe: Recipe, on_real: Tensor, on_fake: Tensor) -> Row:
    """Accuracies in 0..1; of pairs ranked rightly for critics without a zero."""
    if recipe == "text":
        real, made = float((on_real > 0).float().mean()), float((on_fake <= 0).float().mean())
        return {"accuracy": 0.5 * (real + made), "accuracy_real": real, "accuracy_made": made}
    return {"accuracy": float((on_real[:, None] > on_fake[None]).float().mean())}


def _told_to_stop(curve: list[Row]) -> bool:
    last = [r["accuracy"] for r in curve[-STOP_EPOCHS:]]
    return len(curve) >= STOP_FROM and abs(float(np.mean(last)) - 0.5) <= STOP_WITHIN
