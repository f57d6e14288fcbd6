"""Denoisers that learn: the supervised one beats its input, the others run on what they may see."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calibration.dataset import AMBIENT, simulated_clips
from calibration.experiments.scene import Scene, scene_of
from calibration.peers import denoisers
from calibration.scenarios import scenario_named
from models.feature_spec import FeatureSpec

SPEC = FeatureSpec()
SEA = scenario_named("standard")


@pytest.fixture(scope="module")
def scene() -> Scene:
    clips = simulated_clips(SEA, "train", 1, 17.0, first=39_000_000, fs=2000)
    return scene_of(clips, SPEC, (*SEA.labels, AMBIENT), every=8)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denoisers, "N_STEPS", 25)
    monkeypatch.setattr(denoisers, "N_STEPS_AUTOENCODER", 3)
    monkeypatch.setattr(denoisers, "BATCH_AUTOENCODER", 4)
    monkeypatch.setattr(denoisers, "GAN_STEPS", 2)
    monkeypatch.setattr(denoisers, "N_MADE", 4)


def contrast(maps: np.ndarray, scene: Scene) -> float:
    """Mean over tone cells less that over the others, in standard deviations of the others."""
    tones = denoisers.clean_targets(scene)[:, 0] > 0
    inside = np.zeros_like(tones)
    inside[:, SPEC.row_lo :] = True
    rest = maps[inside & ~tones]
    return float((maps[tones].mean() - rest.mean()) / rest.std())


def test_a_supervised_denoiser_sets_tones_apart(scene: Scene) -> None:
    cls = np.zeros(len(scene), np.int64)
    maps = denoisers.supervised(scene).maps(scene, cls)
    assert maps.shape == (len(scene), SPEC.n_freq, SPEC.n_time)
    assert contrast(maps, scene) > contrast(scene.features[:, 0], scene) + 0.3
    assert np.array_equal(maps, denoisers.supervised(scene).maps(scene, cls))


@pytest.mark.parametrize("make", [denoisers.autoencoder, denoisers.sure, denoisers.gan_noise])
def test_the_others_give_finite_maps(scene: Scene, make) -> None:  # noqa: ANN001
    maps = make(scene).maps(scene, np.zeros(len(scene), np.int64))
    assert maps.shape == (len(scene), SPEC.n_freq, SPEC.n_time)
    assert np.isfinite(maps).all()
    assert maps.std() > 0.0


def test_truthless_ones_never_ask_for_truth(scene: Scene) -> None:
    blind = dataclasses.replace(
        scene, windows=dataclasses.replace(scene.windows, truths=(None,) * len(scene.windows.clips))
    )
    with pytest.raises(ValueError, match="without truth"):
        denoisers.supervised(blind)
    for make in (denoisers.sure, denoisers.gan_noise):
        seeing, not_seeing = make(scene), make(blind)
        cls = np.zeros(len(scene), np.int64)
        assert np.array_equal(seeing.maps(scene, cls), not_seeing.maps(scene, cls))


def test_drawn_lines_stand_in_rows_in_use() -> None:
    lines = denoisers.drawn_lines(5, SPEC, 3)
    assert (lines[:, :, : SPEC.row_lo] == 0.0).all()
    share = (lines > 0).mean()
    assert 0.01 < share < 0.12
    assert lines.max() <= 1.0
