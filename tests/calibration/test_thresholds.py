"""Conformal quantiles hold their promise; distances and class masks are what their formulas say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calibration.dataset import AMBIENT, WindowSet
from calibration.masks import class_masks, minmax
from calibration.representatives import Clusters
from calibration.thresholds import (
    auroc,
    conformal_quantile,
    least_probability,
    unknown_distance,
)
from models.features import FeatureSpec


def test_conformal_quantile_is_the_value_of_its_rank() -> None:
    values = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))  # 99 values
    assert conformal_quantile(values, 0.95) == 95.0  # ceil(100 * 0.95)
    assert conformal_quantile(values, 0.951) == 96.0
    assert conformal_quantile(np.arange(10.0), 0.99) == 9.0  # rank 11 of 10: the largest


def test_conformal_quantile_is_exceeded_by_no_more_than_promised() -> None:
    rng = np.random.default_rng(1)
    exceeded = [rng.standard_normal() > conformal_quantile(rng.standard_normal(60), 0.9) for _ in range(2000)]
    assert np.mean(exceeded) < 0.1 + 4 * math.sqrt(0.09 / 2000)  # four standard errors


@pytest.mark.parametrize(("values", "level"), [([], 0.9), ([1.0, math.nan], 0.9), ([1.0], 1.0)])
def test_conformal_quantile_refuses_what_has_none(values: list[float], level: float) -> None:
    with pytest.raises(ValueError, match=r"finite|between"):
        conformal_quantile(values, level)


def test_unknown_distance_lets_nearly_all_of_a_label_pass() -> None:
    d = np.random.default_rng(3).gamma(4.0, size=500)
    assert np.mean(d > unknown_distance(d)) <= 0.01


def test_least_probability_stays_within_bounds() -> None:
    assert least_probability(np.full(50, 0.99)) == 0.6
    assert least_probability(np.full(50, 0.05)) == 0.3


def test_auroc_of_separate_equal_and_absent_sets() -> None:
    assert auroc([1, 2, 3], [4, 5]) == 1.0
    assert auroc([1, 2, 3], [1, 2, 3]) == 0.5
    assert math.isnan(auroc([1.0], []))


def test_class_masks_are_means_weighted_by_cluster_size_and_zero_for_ambient() -> None:
    spec = FeatureSpec(n_freq=8, n_time=8)
    rng = np.random.default_rng(4)
    y = np.array([0, 1, 0, 2, 0, 1], np.int64)
    zeros = np.zeros(6, np.int64)
    windows = WindowSet(spec, ("a", "b", AMBIENT), (), (), rng.random((6, 1, 8, 8), np.float32), y, zeros, zeros, zeros)
    clusters = {
        "a": Clusters(np.array([0, 2]), np.array([3, 1]), (2,), (0.0,)),
        "b": Clusters(np.array([1]), np.array([2]), (1,), (0.0,)),
    }

    def cam(features: np.ndarray, label_index: int) -> np.ndarray:
        return features[:, 0] * (label_index + 1)

    masks = class_masks(cam, windows, clusters)
    f = windows.features[:, 0]
    rows_a, rows_b = ((3 * f[0] + f[4]) / 4).mean(axis=1), f[5].mean(axis=1)
    for column in range(8):
        np.testing.assert_allclose(masks[0, :, column], minmax(rows_a), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(masks[1, :, column], minmax(rows_b), rtol=1e-5, atol=1e-6)
    assert not masks[2].any()
