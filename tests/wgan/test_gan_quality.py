"""Measures of generated windows: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.gan_quality import kid, line_histogram, memorisation, prdc, tonal_distance


def lines(rows: list[int], n: int = 6, seed: int = 0, noise: float = 0.1) -> np.ndarray:
    x = np.random.default_rng(seed).uniform(0.0, noise, (n, 1, 64, 32)).astype(np.float32)
    x[:, :, rows] = 0.9
    return x


def test_tonal_distance_sees_a_shift_of_one_row_and_identical_sets_are_at_zero() -> None:
    a = lines([10, 30, 45])
    assert tonal_distance(a, a) == 0.0
    assert tonal_distance(a, lines([11, 31, 46], seed=1)) == pytest.approx(1.0, abs=1e-12)
    assert tonal_distance(a, lines([12, 32, 47], seed=2)) == pytest.approx(2.0, abs=1e-12)


def test_tonal_distance_does_not_depend_on_the_number_of_windows_or_on_noise() -> None:
    assert tonal_distance(lines([10, 40], n=4), lines([10, 40], n=9, seed=3)) == pytest.approx(0.0, abs=1e-12)


def test_tonal_distance_without_lines_is_no_number() -> None:
    assert np.isnan(tonal_distance(lines([10]), lines([])))


def test_a_line_counts_once_in_each_window() -> None:
    h = line_histogram(lines([10, 30], n=7))
    assert h[10] == h[30] == 7
    assert h.sum() == 14


def test_kid_is_unbiased_about_zero_and_rises_with_the_distance() -> None:
    rng = np.random.default_rng(0)
    same = [kid(rng.normal(size=(40, 8)), rng.normal(size=(40, 8))) for _ in range(200)]
    spread = np.std(same) / np.sqrt(200)
    assert abs(np.mean(same)) < 4 * spread
    near, far = (kid(rng.normal(size=(60, 8)), rng.normal(size=(60, 8)) + s) for s in (0.5, 1.5))
    assert 0 < near < far


def test_kid_of_two_points_each_by_hand() -> None:
    # k(0, .) = 1, k(2, 2) = (4 + 1)^3 with d = 1: within 0: 1, within 2: 125, across: 1
    assert kid([[0.0], [0.0]], [[2.0], [2.0]]) == pytest.approx(1 + 125 - 2)


def test_fidelity_and_variety_of_sets_alike_and_of_sets_apart() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 4)), rng.normal(size=(200, 4))
    alike = prdc(a, b)
    assert alike.precision > 0.85
    assert alike.recall > 0.85
    assert alike.density == pytest.approx(1.0, abs=0.15)
    assert alike.coverage > 0.9
    apart = prdc(a, b + 100.0)
    assert (apart.precision, apart.recall, apart.density, apart.coverage) == (0.0, 0.0, 0.0, 0.0)


def test_a_generator_with_a_single_answer_has_fidelity_but_no_variety() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200, 4))
    one = prdc(a, a[:1] + 1e-3 * rng.normal(size=(50, 4)))
    assert one.precision == 1.0
    assert one.recall < 0.1
    assert one.coverage < 0.2


def test_measures_refuse_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="one width"):
        kid(np.zeros((3, 2)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="at least 6 rows"):
        prdc(np.zeros((9, 2)), np.zeros((5, 2)))


def noise(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.0, 1.0, (n, 1, 32, 32)).astype(np.float32)


def test_memorisation_flags_copies_even_rolled_and_noisy_and_not_fresh_windows() -> None:
    train, others = noise(20, 0), noise(200, 1)
    copies = np.roll(train[:10], 11, axis=3) + 0.05 * noise(10, 2)
    assert memorisation(copies, train, others).share == 1.0
    assert memorisation(train, train, others).median_ratio < 1e-3
    fresh = memorisation(noise(100, 3), train, others)
    assert fresh.share < 0.08  # one in a hundred expected; 8 of 100 has odds of 1 in 10^4 or less
    assert fresh.median_ratio == pytest.approx(fresh.real_ratio, abs=0.02)


def test_smooth_windows_are_not_taken_for_copies() -> None:
    train, others = noise(20, 0), noise(100, 1)
    smooth = np.full((10, 1, 32, 32), 0.5, np.float32) + 0.01 * noise(10, 4)
    assert memorisation(smooth, train, others).share == 0.0
