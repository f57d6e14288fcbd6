"""The self-supervised denoiser: blind to the cell it predicts, repeatable, and safe to load."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.experiments.scene import Scene
from calibration.peers.noise2self import SelfDenoised, trained_on
from calibration.thresholds import auroc
from models.errors import InputError, UsageError
from models.features import FeatureSpec
from models.noise2self import Noise2Self, Noise2SelfConfig, first_lag

SMALL = Noise2SelfConfig(width=4, n_epochs=2)
NOBODY = np.zeros(3, np.int64)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def trained(tone: Scene) -> SelfDenoised:
    return trained_on(tone, SMALL)


def test_columns_looked_at_share_no_sample_with_the_one_predicted() -> None:
    spec = FeatureSpec()
    assert first_lag(spec) * spec.hop >= spec.n_fft > (first_lag(spec) - 1) * spec.hop


@pytest.mark.parametrize("column", [0, 5, 30, 63])
def test_a_column_is_predicted_without_being_seen(column: int) -> None:
    x = np.random.default_rng(0).random((1, 32, 64)).astype(np.float32)
    model = Noise2Self(SMALL)
    before = model.denoise(x)
    near = [t for t in range(column - SMALL.lag_lo + 1, column + SMALL.lag_lo) if 0 <= t < 64]
    x[:, :, near] = 7.0
    after = model.denoise(x)
    np.testing.assert_array_equal(before[:, :, column], after[:, :, column])
    assert not np.array_equal(before, after)


def lines_in_noise(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows ``(n, 40, 32)`` of unit noise, each with one row raised by 1.5, and that row."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(40, size=n)
    x = rng.normal(size=(n, 40, 32))
    x[np.arange(n), rows] += 1.5
    return x.astype(np.float32), rows


def test_lines_rise_out_of_the_noise_after_training_without_truth() -> None:
    x, _ = lines_in_noise(120, 0)
    model = Noise2Self.fit(x, Noise2SelfConfig(width=6, n_epochs=12, learning_rate=1e-2))
    fresh, rows = lines_in_noise(30, 1)
    line = np.zeros(fresh.shape, bool)
    line[np.arange(30), rows] = True

    def ranked(score: np.ndarray) -> float:
        return 1.0 - auroc(score[line], score[~line])

    # of single cells, raised by 1.5 standard deviations: Phi(1.5 / sqrt 2) = 0.86
    assert ranked(fresh) == pytest.approx(0.856, abs=0.03)
    assert ranked(model.denoise(fresh)) > 0.97


def test_same_seed_same_denoiser_another_seed_another(trained: SelfDenoised, tone: Scene) -> None:
    again = trained_on(tone, SMALL).maps(tone, NOBODY)
    np.testing.assert_array_equal(again, trained.maps(tone, NOBODY))
    other = trained_on(tone, Noise2SelfConfig(width=4, n_epochs=2, seed=1))
    assert not np.array_equal(other.maps(tone, NOBODY), again)


def test_training_leaves_the_callers_random_numbers_alone(tone: Scene) -> None:
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    trained_on(tone, Noise2SelfConfig(width=2, n_epochs=1))
    assert torch.equal(torch.rand(3), want)


def test_what_is_saved_loads_to_the_bit(trained: SelfDenoised, tone: Scene, tmp_path: Path) -> None:
    path = tmp_path / "denoiser.npz"
    trained.model.save(path)
    loaded = Noise2Self.load(path)
    assert loaded.config == trained.model.config
    x = tone.features[:, 0]
    np.testing.assert_array_equal(loaded.denoise(x), trained.model.denoise(x))


def test_files_that_are_none_are_refused_in_one_line(tmp_path: Path) -> None:
    evil = tmp_path / "evil.npz"
    np.savez(evil, config=np.array([{"width": 4}], object))
    text = tmp_path / "text.npz"
    text.write_text("hello")
    pickled = tmp_path / "pickled.npz"
    pickled.write_bytes(pickle.dumps({"a": 1}))
    half = tmp_path / "half.npz"
    Noise2Self(SMALL).save(half)
    half.write_bytes(half.read_bytes()[:500])
    strange = tmp_path / "strange.npz"
    np.savez(strange, weights=np.zeros(3))
    for path in (evil, text, pickled, half, strange, tmp_path / "missing.npz", tmp_path):
        with pytest.raises(InputError) as refused:
            Noise2Self.load(path)
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)


def test_unusable_input_is_named() -> None:
    with pytest.raises(UsageError, match="no windows"):
        Noise2Self.fit(np.zeros((0, 8, 64), np.float32))
    with pytest.raises(UsageError, match="24 columns"):
        Noise2Self(SMALL).denoise(np.zeros((1, 8, 20), np.float32))
    with pytest.raises(ValueError, match=r"lags 5\.\.4"):
        Noise2SelfConfig(lag_lo=5, lag_hi=4)
    with pytest.raises(ValueError, match="width=0"):
        Noise2SelfConfig(width=0)
