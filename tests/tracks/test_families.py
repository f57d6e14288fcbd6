"""Harmonic families: found where there is one, not found where lines stand anywhere."""

import numpy as np

from models.families import families


def test_multiples_of_one_fundamental_are_a_family() -> None:
    freq = np.array([24.0, 36.0, 60.0, 84.0, 101.3, 209.5])
    f0 = families(freq, 0.25)
    np.testing.assert_allclose(f0[:4], 12.0, atol=0.05)
    assert np.isnan(f0[4:]).all()


def test_two_families_are_told_apart() -> None:
    a, b = 17.0 * np.arange(2, 8), 23.1 * np.array([1, 2, 3, 5, 7, 9])
    f0 = families(np.concatenate([a, b]), 0.3)
    np.testing.assert_allclose(f0[:6], 17.0, atol=0.1)
    np.testing.assert_allclose(f0[6:], 23.1, atol=0.1)


def test_lines_anywhere_are_hardly_ever_a_family() -> None:
    rng = np.random.default_rng(0)
    claimed = [np.isfinite(families(rng.uniform(10, 500, 8), 0.5)).any() for _ in range(100)]
    assert np.mean(claimed) < 0.1
    assert families([], 0.5).size == 0
