"""Training of a generator: what its recipes promise, and that a seed gives the same windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import models.wgan_train as wgan_train
from models.dataset import Dataset
from models.errors import InputError, UsageError
from models.wgan_train import GanOptions, Trained, train_generator


def windows(n: int = 24, n_labels: int = 2, seed: int = 0) -> Dataset:
    """Small windows whose label is the row of their line."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_labels
    x = rng.uniform(0.0, 0.3, (n, 1, 32, 32)).astype(np.float32)
    x[np.arange(n), 0, 10 + 8 * y] = 0.9
    return Dataset(x, y, [f"r{i}" for i in range(n)], tuple("abcd"[:n_labels]))


@pytest.mark.parametrize("recipe", ["printed", "text", "modern"])
def test_the_same_seed_gives_the_same_windows_and_another_others(recipe: wgan_train.Recipe) -> None:
    def run(seed: int) -> Trained:
        return train_generator(windows(), GanOptions.preset(recipe, seed=seed, n_steps=6))

    torch.manual_seed(1)
    a = run(3)
    torch.manual_seed(2)  # what others draw from torch does not enter
    b, other = run(3), run(4)
    assert a.curve == b.curve
    y = [0, 1, 1]
    np.testing.assert_array_equal(a.generate(y, 5).to_judge(), b.generate(y, 5).to_judge())
    assert np.abs(a.generate(y, 5).to_judge() - a.generate(y, 6).to_judge()).max() > 0
    assert np.abs(a.generate(y, 5).to_judge() - other.generate(y, 5).to_judge()).max() > 0


def test_training_leaves_the_global_generator_of_torch_as_it_was() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    train_generator(windows(), GanOptions.preset("modern", n_steps=2)).generate([0], 1)
    assert torch.equal(state, torch.get_rng_state())


def test_algorithm_1_keeps_the_critic_within_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    games: list[wgan_train._Game] = []
    init = wgan_train._Game.__init__

    def kept(self: wgan_train._Game, *args: object) -> None:
        init(self, *args)  # type: ignore[arg-type]
        games.append(self)

    monkeypatch.setattr(wgan_train._Game, "__init__", kept)
    train_generator(windows(), GanOptions.preset("printed", n_steps=7))
    largest = max(float(p.detach().abs().max()) for p in games[0].critic.parameters())
    assert 0.0 < largest <= np.float32(0.01)


def test_presets_hold_the_numbers_of_the_paper() -> None:
    printed, text = GanOptions.preset("printed"), GanOptions.preset("text")
    assert (printed.learning_rate, printed.clip, printed.batch, printed.n_critic) == (5e-5, 0.01, 64, 5)
    assert (text.batch, text.n_epochs) == (20, 150)
    with pytest.raises(UsageError, match="printed, text or modern"):
        GanOptions.preset("other")  # type: ignore[arg-type]


def test_algorithm_1_steps_the_generator_once_in_five() -> None:
    curve = train_generator(windows(64), GanOptions.preset("printed", n_steps=10)).curve
    assert [("generator" in row) for row in curve] == [False] * 4 + [True] + [False] * 4 + [True]


def test_modern_generator_learns_which_rows_are_a_labels_lines() -> None:
    trained = train_generator(windows(48), GanOptions.preset("modern", n_steps=150))
    for label in (0, 1):
        rows = trained.generate([label] * 16, 1).to_judge().mean((0, 1, 3))
        own, foreign = rows[10 + 8 * label], rows[10 + 8 * (1 - label)]
        assert own > foreign + 0.2  # of 0.75 in the real windows


def test_stopping_sign_needs_accuracy_of_one_half_after_epoch_100() -> None:
    def row(v: float) -> dict[str, float]:
        return {"accuracy": v}

    half = [row(0.5)] * 99
    assert not wgan_train._told_to_stop(half)
    assert wgan_train._told_to_stop([*half, row(0.52)])
    assert not wgan_train._told_to_stop([row(0.5)] * 100 + [row(0.9)] * 10)
    assert wgan_train._told_to_stop([row(0.9)] * 100 + [row(0.46)] * 10)


def test_checkpoint_gives_the_same_windows_and_the_same_story(tmp_path: Path) -> None:
    trained = train_generator(windows(), GanOptions.preset("modern", n_steps=3))
    trained.save(tmp_path / "g.npz")
    with np.load(tmp_path / "g.npz", allow_pickle=False) as stored:
        assert all(stored[k].dtype.kind in "fU" for k in stored.files)
    again = Trained.load(tmp_path / "g.npz")
    np.testing.assert_array_equal(trained.generate([0, 1], 3).to_judge(), again.generate([0, 1], 3).to_judge())
    assert (again.options, again.labels, again.curve) == (trained.options, trained.labels, trained.curve)
    assert again.trained_on == windows().fingerprint()


def test_damaged_and_missing_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Trained.load(tmp_path / "none.npz")
    path = tmp_path / "g.npz"
    train_generator(windows(), GanOptions.preset("text", n_steps=1)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match=r"g\.npz.*damaged"):
        Trained.load(path)


def test_a_single_window_is_too_few() -> None:
    with pytest.raises(UsageError, match="at least two"):
        train_generator(windows(1, 1), GanOptions.preset("text", n_steps=1))
