"""Decimation by matrix products: the same numbers as the polyphase filter, the same bits wherever it is cut."""

import dataclasses

import numpy as np
import pytest
import scipy.signal

from models.decimate import LEAST_UNIT, MOST_PRODUCTS, Decimator
from models.feature_spec import FeatureSpec, resampler
from models.features import windows_of
from models.hann import hann
from models.stft import Stft

SPEC = FeatureSpec()
UNIT = 250


def decimator(fs: int, n_channels: int, n_most: int, unit: int = UNIT) -> Decimator:
    return Decimator(resampler(SPEC, fs), unit, n_channels, n_most)


def sound(fs: int, n_out: int, n_channels: int = 1, seed: int = 0) -> np.ndarray:
    n = resampler(SPEC, fs).n_in(n_out) + decimator(fs, 1, UNIT).n_pad
    return np.random.default_rng(seed).standard_normal((n_channels, n)).astype(np.float32)


@pytest.mark.parametrize("fs", [4000, 32000, 48000, 96000, 192000])
def test_same_numbers_as_the_polyphase_filter_in_float64(fs: int) -> None:
    x = sound(fs, 1000, 2)
    r = resampler(SPEC, fs)
    out = np.full((2, 1000), np.nan, np.float32)
    decimator(fs, 2, 1000)(x, out)
    n = r.n_in(1000)
    want = np.stack(
        [np.convolve(row[:n].astype(np.float64), r.taps.astype(np.float64), "valid")[:: r.down] for row in x]
    )
    # N products of order h x, each rounded to 2^-24, as are their sums
    np.testing.assert_allclose(out, want, rtol=0, atol=2**-24 * np.sqrt(r.taps.size) * np.abs(want).max())


@pytest.mark.parametrize("fs", [4000, 32000, 192000])
def test_units_channels_and_number_of_outputs_change_no_bit(fs: int) -> None:
    x = sound(fs, 2750, 3, seed=1)
    whole = np.empty((3, 2750), np.float32)
    decimator(fs, 3, 2750)(x, whole)
    alone = decimator(fs, 1, UNIT)
    m = resampler(SPEC, fs).down
    for c in range(3):
        for k in range(0, 2750, UNIT):
            part = np.empty((1, UNIT), np.float32)
            alone(x[c : c + 1, k * m :], part)
            np.testing.assert_array_equal(part[0], whole[c, k : k + UNIT])


@pytest.mark.parametrize(
    ("fs", "common", "unit"),
    [(32000, 250, 250), (192000, 250, 125), (2000, 250, 0), (44100, 250, 0), (32000, 1, 0), (32000, 256, 256)],
)
def test_unit_is_the_largest_that_one_thread_does(fs: int, common: int, unit: int) -> None:
    r = resampler(SPEC, fs)
    assert Decimator.unit_of(r, common) == unit
    if unit:
        n_rows = -(-r.taps.size // r.down)
        assert n_rows * r.down * (unit + n_rows - 1) <= MOST_PRODUCTS
        assert unit >= LEAST_UNIT


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="does not hold 500 outputs"):
        decimator(32000, 1, 500)(sound(32000, 250), np.empty((1, 500), np.float32))


def test_what_lies_behind_a_window_does_not_reach_it_even_if_it_is_no_number() -> None:
    fs = 32000
    n = SPEC.n_samples(fs)
    x = np.random.default_rng(4).standard_normal((1, n + 100)).astype(np.float32)
    (want,) = windows_of(SPEC, fs, x[:, :n])
    x[:, n:] = np.nan
    (got,) = windows_of(SPEC, fs, x)
    np.testing.assert_array_equal(got.spectrum_db, want.spectrum_db)
    assert np.isfinite(got.spectrum_db).all()


def test_frames_without_a_common_unit_take_the_polyphase_filter_and_read_the_same() -> None:
    fs = 32000
    x = np.random.default_rng(5).standard_normal((1, 4 * fs)).astype(np.float32)
    odd = dataclasses.replace(SPEC, n_fft=999, hop=250, n_time=8)  # nothing in common
    assert np.gcd(odd.hop, odd.n_fft) == 1
    tiles = [p.copy() for _, p in Stft(odd, fs, 1).process(x)]
    r = resampler(odd, fs)
    model = r(x, (x.shape[1] - r.taps.size) // r.down + 1)[0].astype(np.float64)
    frames = np.stack([model[k * 250 : k * 250 + 999] for k in range(8)])
    w = hann(999).astype(np.float64)
    spectrum = np.fft.rfft((frames - frames.mean(axis=1, keepdims=True)) * w)[:, : odd.n_freq]
    want = 2.0 * np.abs(spectrum) ** 2 / w.sum() ** 2
    np.testing.assert_allclose(np.sqrt(tiles[0][0]), np.sqrt(want), rtol=0, atol=3e-6 * np.sqrt(want.max()))


@pytest.mark.parametrize("n", [16, 999, 1000, 320, 442])
def test_hann_is_scipys(n: int) -> None:
    np.testing.assert_array_equal(hann(n), scipy.signal.get_window("hann", n))
    np.testing.assert_array_equal(hann(n, symmetric=True), scipy.signal.windows.hann(n))


@pytest.mark.parametrize("fs", [4000, 32000, 44100, 192000])
@pytest.mark.parametrize("stopband_db", [30.0, 60.0, 100.0])
def test_low_pass_is_scipys(fs: int, stopband_db: float) -> None:
    r = resampler(dataclasses.replace(SPEC, stopband_db=stopband_db), fs)
    window = ("kaiser", scipy.signal.kaiser_beta(stopband_db))
    want = scipy.signal.firwin(r.taps.size, 1000.0, window=window, fs=float(fs * r.up)) * r.up
    np.testing.assert_allclose(r.taps, want, rtol=2**-23, atol=1e-12)  # rounded to float32
