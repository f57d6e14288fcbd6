"""Generated windows reach the training of classifiers and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.experiments.wgan_classifier import accuracy, train_classifier
from calibration.experiments.wgan_remix import remix
from calibration.masks import class_masks
from calibration.representatives import Clusters, cluster
from calibration.thresholds import conformal_quantile
from models.dataset import Dataset
from models.errors import UsageError
from models.features import FeatureSpec
from models.train import TrainOptions, train
from models.wgan_generated import GROUP_PREFIX, Generated, Provenance, is_generated, with_generated
from models.wgan_train import GanOptions, train_generator


def real(n: int = 12) -> Dataset:
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    x = rng.uniform(0.0, 0.3, (n, 1, 32, 32)).astype(np.float32)
    x[np.arange(n), 0, 10 + 8 * y] = 0.9
    return Dataset(x, y, [f"r{i}" for i in range(n)], ("vessel", "ambient"))


def made(data: Dataset, n: int = 6) -> Generated:
    x = np.random.default_rng(1).uniform(0, 1, (n, *data.features.shape[1:])).astype(np.float32)
    about = Provenance(method="modern", seed=1, trained_on=data.fingerprint())
    return Generated(x, np.arange(n) % 2, data.labels, about)


def no_cam(features: Any, label_index: int) -> Any:
    raise AssertionError("must be refused before a map is made")


CLUSTERS = {"vessel": Clusters(np.array([0]), np.array([3]), (1,), (0.0,))}

FORBIDDEN: dict[str, Callable[[Any], object]] = {
    "masks": lambda g: class_masks(no_cam, g, CLUSTERS),
    "representatives": lambda g: cluster(g),
    "thresholds": lambda g: conformal_quantile(g, 0.95),
    "test": lambda g: accuracy(train_classifier(real(), 1, 0), g),
    "array": lambda g: np.asarray(g),
    "stack": lambda g: np.concatenate([g, g]),
    "loop": lambda g: list(g),
    "index": lambda g: g[0],
    "features": lambda g: g.features,
    "labels of windows": lambda g: g.y,
}


@pytest.mark.parametrize("use", FORBIDDEN)
def test_every_other_use_is_refused_in_words(use: str) -> None:
    with pytest.raises(UsageError, match="generated windows train classifiers only"):
        FORBIDDEN[use](made(real()))


def test_training_sets_take_them_in_and_mark_each() -> None:
    data = real()
    mixed = with_generated(data, made(data), made(data, 4))
    assert len(mixed.y) == 12 + 6 + 4
    assert [is_generated(g) for g in mixed.groups] == [False] * 12 + [True] * 10
    np.testing.assert_array_equal(mixed.features[:12], data.features)
    np.testing.assert_array_equal(mixed.y[12:18], [0, 1] * 3)


def test_a_mixed_set_is_no_test_no_validation_set_and_teaches_no_generator(tmp_path: Path) -> None:
    data = real()
    mixed = with_generated(data, made(data))
    with pytest.raises(UsageError, match="cannot be used for a test"):
        accuracy(train_classifier(data, 1, 0), mixed)
    with pytest.raises(UsageError, match="cannot be used for the training of a generator"):
        train_generator(mixed, GanOptions.preset("text", n_steps=1))
    other = Dataset(data.features, data.y, [f"v{i}" for i in range(12)], data.labels)
    with pytest.raises(UsageError, match="cannot be used for validation"):
        train(other, mixed, FeatureSpec(n_freq=32, n_time=32), tmp_path, TrainOptions(n_epochs=1))


def test_windows_generated_from_other_recordings_are_refused() -> None:
    data = real()
    foreign = made(real(10))
    with pytest.raises(UsageError, match="come from another training set"):
        with_generated(data, foreign)


def test_other_labels_are_refused() -> None:
    data = real()
    renamed = Dataset(data.features, data.y, data.groups, ("tug", "ambient"))
    with pytest.raises(UsageError, match="labels"):
        with_generated(renamed, made(data))


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1])
def test_values_outside_the_features_range_are_refused(bad: float) -> None:
    x = np.full((2, 1, 32, 32), 0.5, np.float32)
    x[1, 0, 3, 3] = bad
    with pytest.raises(ValueError, match=r"0\.\.1"):
        Generated(x, np.array([0, 1]), ("a", "b"), Provenance(method="m", seed=0, trained_on=""))


def test_what_is_judged_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        made(real()).to_judge()[0] = 0.0


def test_remix_is_tagged_and_moves_no_line() -> None:
    rng = np.random.default_rng(0)
    spec = FeatureSpec()
    x = rng.uniform(0.0, 0.3, (8, *spec.shape)).astype(np.float32)
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    x[:4, :, 100] = 1.0
    data = Dataset(x, y, [f"r{i}" for i in range(8)], ("vessel", "ambient"))
    rows = remix(data, 1, 0).to_judge(0)[:, 0].mean(2)  # (4, n_freq)
    assert (rows.argmax(1) == 100).all()
    mixed = with_generated(data, remix(data, 1, 0))
    assert mixed.groups[-1] == f"{GROUP_PREFIX}remix/0"
