"""Parts of adversarial training: clipping, gradient penalty, moving average, augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from models.wgan import Critic, GanConfig, Generator
from models.wgan_losses import Ema, augment, clip_weights, gradient_penalty
from models.wgan_train import critic_loss, generator_loss

SMALL = {"n_labels": 3, "n_freq": 32, "n_time": 32, "n_latent": 8, "n_hidden": 16}


def test_clipping_bounds_every_weight_and_leaves_small_ones() -> None:
    critic = Critic(GanConfig(kind="paper", **SMALL))
    before = [p.detach().clone() for p in critic.parameters()]
    assert max(float(p.abs().max()) for p in before) > 0.01
    clip_weights(critic, 0.01)
    for old, new in zip(before, critic.parameters(), strict=True):
        assert float(new.detach().abs().max()) <= np.float32(0.01)
        small = old.abs() < 0.01
        assert torch.equal(old[small], new.detach()[small])


def test_gradient_penalty_of_a_linear_critic_is_the_squared_norm_of_its_weights() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(24, 1).double()
    x = torch.randn(7, 24, dtype=torch.float64)
    penalty = gradient_penalty(lambda a: linear(a)[:, 0], x)
    assert float(penalty.detach()) == pytest.approx(float(linear.weight.detach().square().sum()), rel=1e-12)
    penalty.backward()
    assert linear.weight.grad is not None
    # d |w|^2 / dw = 2 w
    assert torch.allclose(linear.weight.grad, 2.0 * linear.weight.detach(), rtol=1e-12)


def test_gradient_penalty_of_a_quadratic_critic() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 0.0]], dtype=torch.float64)
    # f = |x|^2 / 2 has gradient x: the mean of |x|^2 is (5 + 9) / 2
    penalty = gradient_penalty(lambda a: 0.5 * a.square().sum(1), x).detach()
    assert float(penalty) == pytest.approx(7.0, rel=1e-12)


def test_moving_average_follows_its_formula_and_leaves_the_network_alone() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    ema = Ema(network, 0.15)
    nn.init.constant_(network.weight, 2.0)
    ema.update(network)  # decay min(0.15, 1 / 10)
    assert float(ema.network.weight) == pytest.approx(0.1 * 1.0 + 0.9 * 2.0, rel=1e-6)
    ema.update(network)  # decay min(0.15, 2 / 11)
    assert float(ema.network.weight) == pytest.approx(0.15 * 1.9 + 0.85 * 2.0, rel=1e-6)
    assert float(network.weight.detach()) == 2.0
    assert not ema.network.weight.requires_grad


def test_moving_average_refuses_a_decay_that_never_learns() -> None:
    with pytest.raises(ValueError, match="decay"):
        Ema(nn.Linear(1, 1), 1.0)


def test_augmentation_never_moves_a_row() -> None:
    n_freq, n_time = 32, 64
    for row in (0, 7, 31):
        x = torch.zeros(16, 1, n_freq, n_time)
        x[:, :, row] = 0.8
        rng = torch.Generator().manual_seed(row)
        y = augment(x, rng, fill=0.5, level=0.0, cutout=12)
        lit = y[:, 0].eq(0.8)  # (16, n_freq, n_time)
        assert lit[:, row].sum(1).ge(n_time - 12).all()
        others = torch.cat([y[:, 0, :row], y[:, 0, row + 1 :]], 1)
        assert set(others.unique().tolist()) <= {0.0, 0.5}


def test_augmentation_rolls_each_window_as_one_and_shifts_its_level_as_one() -> None:
    x = torch.rand(8, 1, 16, 32, generator=torch.Generator().manual_seed(1))
    y = augment(x, torch.Generator().manual_seed(2), level=0.05, cutout=0)
    for a, b in zip(x[:, 0], y[:, 0], strict=True):
        offsets = [(b - a.roll(k, 1)) for k in range(32)]
        spread = [float(o.max() - o.min()) for o in offsets]
        best = int(np.argmin(spread))
        assert spread[best] < 1e-6
        assert float(offsets[best].abs().max()) <= 0.05 + 1e-6


def test_augmentation_lets_the_gradient_through() -> None:
    x = torch.rand(4, 1, 8, 32, requires_grad=True)
    augment(x, torch.Generator().manual_seed(0), cutout=0).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("kind", ["paper", "modern"])
def test_generator_keeps_range_and_the_rows_of_the_front_end(kind: str) -> None:
    torch.manual_seed(0)
    config = GanConfig(kind=kind, row_lo=5, fill=0.25, **SMALL)  # type: ignore[arg-type]
    with torch.no_grad():
        x = Generator(config)(torch.randn(6, 8), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert x.shape == (6, 1, 32, 32)
    assert float(x.min()) >= 0.0
    assert float(x.max()) <= 1.0
    assert (x[:, :, :5] == 0.25).all()
    assert x[:, :, 5:].std() > 0.0


def test_critic_scores_each_window_by_itself() -> None:
    torch.manual_seed(0)
    critic = Critic(GanConfig(kind="modern", **SMALL))
    x, y = torch.rand(5, 1, 32, 32), torch.tensor([0, 1, 2, 1, 0])
    one_by_one = torch.cat([critic(x[i : i + 1], y[i : i + 1]) for i in range(5)])
    assert torch.allclose(critic(x, y), one_by_one, atol=1e-6)


def test_losses_are_those_written_down() -> None:
    real, fake = torch.tensor([2.0, 1.0]), torch.tensor([0.0, -1.0])
    assert float(critic_loss("printed", real, fake)) == pytest.approx(-0.5 - 1.5)
    assert float(generator_loss("printed", real, fake)) == pytest.approx(0.5)
    expected = 0.5 * (np.log1p(np.exp(-real.numpy())).mean() + np.log1p(np.exp(fake.numpy())).mean())
    assert float(critic_loss("text", real, fake)) == pytest.approx(expected, rel=1e-6)
    assert float(generator_loss("text", real, fake)) == pytest.approx(np.log1p(np.exp(-fake.numpy())).mean(), rel=1e-6)
    assert float(critic_loss("modern", real, fake)) == pytest.approx(np.log1p(np.exp(-2.0)), rel=1e-6)
    assert float(generator_loss("modern", real, fake)) == pytest.approx(np.log1p(np.exp(2.0)), rel=1e-6)


@pytest.mark.parametrize(
    ("values", "words"),
    [({"n_time": 40}, "multiple of 16"), ({"kind": "big"}, "neither"), ({"row_lo": 32}, "row_lo"),
     ({"n_latent": 0}, "at least 1")],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GanConfig(**{"kind": "paper", **SMALL, **values})  # type: ignore[arg-type]
