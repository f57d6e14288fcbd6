"""Auto-encoder and reverse extraction: shapes, determinism, and what the maps say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration.experiments.paper_rows import CentroidMap, ReverseMap
from models.autoencoder import Autoencoder, train_autoencoder
from models.spec_cnn import SpecCnnConfig

CONFIG = SpecCnnConfig(n_labels=2, n_freq=32, n_time=16, channels=(4, 4), n_hidden=16, n_embedding=8)


def windows(n: int) -> np.ndarray:
    x = np.random.default_rng(0).uniform(0.0, 0.3, (n, 1, 32, 16)).astype(np.float32)
    x[: n // 2, 0, 8] = 1.0
    x[n // 2 :, 0, 24] = 1.0
    return x


def test_decoder_gives_windows_of_the_right_size_and_range() -> None:
    network = Autoencoder(CONFIG).eval()
    out = network(torch.rand(3, 1, 32, 16))
    assert out.shape == (3, 1, 32, 16)
    assert float(out.min().detach()) >= 0.0
    assert float(out.max().detach()) <= 1.0
    with pytest.raises(ValueError, match="multiples of 8"):
        Autoencoder(SpecCnnConfig(n_labels=2, n_freq=30, n_time=16, channels=(4, 4)))


def test_autoencoder_learns_where_the_lines_of_each_kind_stand_and_repeats() -> None:
    x = windows(80)
    one, two = (train_autoencoder(x, CONFIG, n_epochs=60, seed=1) for _ in range(2))
    with torch.no_grad():
        seen = one(torch.from_numpy(x)).numpy()[:, 0].mean(axis=2)
        again = two(torch.from_numpy(x)).numpy()[:, 0].mean(axis=2)
    np.testing.assert_array_equal(seen, again)
    assert seen[:40, 8].mean() > 0.7
    assert seen[40:, 24].mean() > 0.7
    assert seen[:, 16].mean() < 0.4  # where there is only noise of mean 0.15


class Scene:
    """As much of a scene as the maps look at."""

    class spec:  # noqa: N801  (stands for an attribute)
        shape = (1, 4, 2)

    def __len__(self) -> int:
        return 2


class FixedCams:
    """Score-CAM of class c is 1 in row c."""

    class_masks = np.zeros((3, 4, 2), np.float32)

    def __call__(self, scene: Scene, cls: np.ndarray) -> np.ndarray:
        out = np.zeros((len(scene), 4, 2), np.float32)
        out[np.arange(len(scene)), cls] = 1.0
        return out


def test_reverse_removes_what_other_classes_claim_and_keeps_the_rest() -> None:
    maps = ReverseMap(FixedCams(), ("a", "b", "ambient")).maps(Scene(), np.array([0, 1]))
    np.testing.assert_array_equal(maps[0, :, 0], [1.0, 0.5, 1.0, 1.0])
    np.testing.assert_array_equal(maps[1, :, 0], [0.5, 1.0, 1.0, 1.0])


def test_centroid_masks_are_laid_over_the_window_s_own_map() -> None:
    masks = np.zeros((3, 4, 2), np.float32)
    masks[0, 3] = 1.0
    maps = CentroidMap(FixedCams(), masks).maps(Scene(), np.array([0, 1]))
    np.testing.assert_array_equal(maps[0, :, 0], [0.5, 0.0, 0.0, 0.5])
    np.testing.assert_array_equal(maps[1, :, 0], [0.0, 0.5, 0.0, 0.0])
