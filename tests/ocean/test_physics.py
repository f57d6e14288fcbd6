from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from calibration.ocean_physics import (
    CHUNK_S,
    Passage,
    ShapedNoise,
    Walk,
    cavitation_pattern,
    jomopans_echo,
    lloyd_mirror,
    rng_of,
    wenz,
)  # fmt: skip


def test_wenz_each_part_dominates_where_wenz_has_it() -> None:
    db = lambda f, w=10.0, s=4.0: float(10 * np.log10(wenz(np.array([f]), w, s)[0]))  # noqa: E731
    assert db(1.0) == pytest.approx(107.0, abs=0.1)  # turbulence alone at 1 Hz
    assert db(100.0, s=7.0) - db(100.0, s=1.0) > 15  # shipping rules at 100 Hz: 6 steps of 5 dB, less what wind adds
    assert db(5000.0, w=25.0) - db(5000.0, w=3.0) == pytest.approx(np.sqrt(525) - np.sqrt(63), abs=0.2)  # wind rules
    assert db(90e3) == pytest.approx(
        10 * np.log10(10 ** (24.08 / 10) + 10 ** (25.27 / 10)), abs=0.1
    )  # thermal and wind


def test_jomopans_echo_follows_speed_and_length_laws() -> None:
    f = np.array([20.0, 90.0, 110.0, 1000.0])
    base = jomopans_echo(f, 13.9, 13.9, 91.44, 0.8)
    np.testing.assert_allclose(jomopans_echo(f, 27.8, 13.9, 91.44, 0.8) / base, 2.0**6)
    np.testing.assert_allclose(jomopans_echo(f, 13.9, 13.9, 182.88, 0.8) / base, 4.0)
    f1 = 480 / 13.9
    expected = 191 - 20 * np.log10(f1) - 10 * np.log10((1 - 1000 / f1) ** 2 + 9)
    assert 10 * np.log10(base[3]) == pytest.approx(expected)


def test_lloyd_mirror_has_nulls_and_doublings_where_the_paths_say() -> None:
    r, zs, zr = np.array([500.0]), 6.0, 50.0
    difference = float(np.hypot(r, zr + zs)[0] - np.hypot(r, zr - zs)[0])
    null, peak = 1500.0 / difference, 750.0 / difference  # whole, half wavelength
    gain = lloyd_mirror(np.array([null, peak]), r, zs, zr, 1.0)
    r1, r2 = np.hypot(r, zr - zs), np.hypot(r, zr + zs)
    assert gain[0] == pytest.approx(float(((1 / r1 - 1 / r2) ** 2)[0]), rel=1e-6)
    assert gain[1] == pytest.approx(float(((1 / r1 + 1 / r2) ** 2)[0]), rel=1e-6)


def test_lloyd_mirror_without_reflection_is_spherical_spreading() -> None:
    gain = lloyd_mirror(np.array([100.0]), np.array([300.0]), 5.0, 5.0 + 400.0, 0.0)
    assert gain[0] == pytest.approx(1.0 / 500.0**2)


def test_passage_range_rate_and_emission_are_derivatives() -> None:
    path = Passage(600.0, 900.0, 7.0, 1.0)
    t = np.arange(0.0, 600.0, 0.01)
    rate = np.gradient(path.range_m(t), t)
    np.testing.assert_allclose(path.range_rate(t)[1:-1], rate[1:-1], atol=1e-4)
    doppler = np.gradient(path.emission_s(t), t)
    np.testing.assert_allclose(doppler[1:-1], 1 - path.range_rate(t)[1:-1] / 1500.0, atol=1e-7)
    assert path.range_rate(t).min() < -1.0 < 1.0 < path.range_rate(t).max()  # it comes and it goes


def test_walk_integral_is_the_exact_integral_of_its_value() -> None:
    walk = Walk.draw(rng_of("walk"), 60.0, 3.0)
    t = np.arange(0.0, 60.0, 1e-3)
    v = walk.value(t)
    numeric = np.concatenate([[0.0], np.cumsum((v[1:] + v[:-1]) / 2 * 1e-3)])
    # the trapezium rule is exact on straight pieces, whose joints lie on the grid
    np.testing.assert_allclose(walk.integral(t), numeric, atol=1e-9)


@pytest.mark.parametrize("depth", [0.1, 0.5])
def test_cavitation_pattern_has_unit_power_and_strongest_line_at_blade_rate(depth: float) -> None:
    p = cavitation_pattern(4, depth)[:-1]
    assert np.mean(p**2) == pytest.approx(1.0, rel=1e-9)
    a = np.abs(np.fft.rfft(p))[1:20]
    assert int(np.argmax(a)) + 1 == 4
    assert a[0] > 0.2 * a[3]  # shaft rate is there as well
    assert p.min() > 0


@pytest.mark.parametrize("fs", [2000, 12000])
def test_shaped_noise_has_the_density_asked_for(fs: int) -> None:
    f = ShapedNoise.frequencies_hz(fs)
    density = wenz(f, 10.0, 4.0) * (f / 5) ** 4 / (1 + (f / 5) ** 4)
    noise = ShapedNoise(fs, "density", (1,), lambda _: density)
    x = np.concatenate([noise.chunk(k) for k in range(60)])
    fw, p = scipy.signal.welch(x, fs, nperseg=fs)
    for lo, hi in ((20, 40), (40, 80), (80, 160), (160, 320), (320, 640)):
        band = (fw >= lo) & (fw < hi)
        truth = np.interp(fw[band], f, density)
        # 120 s x 20 Hz = 2400 degrees of freedom at least: 0.13 dB standard deviation, four of them
        assert 10 * np.log10((p[band] / truth).mean()) == pytest.approx(0.0, abs=0.5)


def test_shaped_noise_is_level_across_the_seams() -> None:
    fs = 2000
    white = np.ones(ShapedNoise.frequencies_hz(fs).size)
    x = np.stack([ShapedNoise(fs, f"seam {i}", (0,), lambda _: white).chunk(3) for i in range(400)])
    power = (x**2).reshape(400, 40, -1).mean(axis=(0, 2))  # 40 stretches of 0.05 s over the chunk
    # each is a mean of 40 000 squares: 0.7 % standard deviation; density 1 over 1 kHz is a power of 1000
    np.testing.assert_allclose(power, fs / 2, rtol=0.035)


def test_shaped_noise_chunks_do_not_depend_on_order() -> None:
    white = np.ones(ShapedNoise.frequencies_hz(2000).size)
    a, b = (ShapedNoise(2000, "order", (0,), lambda _: white) for _ in range(2))
    forward = [a.chunk(k) for k in range(4)]
    backward = [b.chunk(k) for k in (3, 2, 1, 0)][::-1]
    np.testing.assert_array_equal(forward, backward)
    assert forward[0].shape == (CHUNK_S * 2000,)
