"""The front end against scipy, and the properties it promises.

Groups: equality with offline computations, block size and start, physics (levels, aliases, silence, DC), refusals.
"""

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from models.background import SplitWindow
from models.errors import SampleRateError
from models.feature_spec import resampler
from models.features import FeatureSpec, FrontEnd, windows_of
from models.normalise import POWER_FLOOR

SPEC = FeatureSpec()
SPLIT = SplitWindow(SPEC.n_freq, SPEC.row_lo, SPEC.tpsw_half, SPEC.tpsw_gap, SPEC.tpsw_clip)
RATES = (2000, 4000, 8000, 16000, 32000, 44100, 44150, 48000, 96000, 192000)


def noise(fs: int, seconds: float, n_channels: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = 0.01 * rng.standard_normal((n_channels, int(fs * seconds)))
    x += 0.02 * np.sin(2 * np.pi * 123.4 * np.arange(x.shape[1]) / fs)
    return x.astype(np.float32)


def tone(fs: int, f_hz: float, amplitude: float, seconds: float = 9.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * f_hz * np.arange(int(fs * seconds)) / fs))[None].astype(np.float32)


def feed(front_end: FrontEnd, x: np.ndarray, cuts: list[int]) -> list:
    edges = [0, *cuts, x.shape[1]]
    return [w for a, b in itertools.pairwise(edges) for w in front_end.process(x[:, a:b])]


def assert_same_bits(a: list, b: list) -> None:
    assert [w.grid_index for w in a] == [w.grid_index for w in b]
    for v, w in zip(a, b, strict=True):
        assert v.first_sample == w.first_sample
        for name in ("features", "spectrum_db", "background_db", "level_db"):
            np.testing.assert_array_equal(getattr(v, name), getattr(w, name), err_msg=name)


@pytest.mark.parametrize("fs", RATES)
def test_front_end_any_rate_equals_offline_scipy(fs: int) -> None:
    x = noise(fs, 9.6)
    window = next(windows_of(SPEC, fs, x))
    r = resampler(SPEC, fs)
    up, down = SPEC.ratio(fs)
    if fs == SPEC.fs_model:
        y = x[0].astype(np.float64)
    else:  # resample_poly centres its filter on each output: shift so that output 0 falls on our first centre
        shift = -(-r.half // down) * down
        taps = np.asarray(r.taps, np.float64) / up
        padded = np.concatenate([np.zeros(shift - r.half), x[0].astype(np.float64)])
        y = scipy.signal.resample_poly(padded, up, down, window=taps)[shift // down * up :]
    w = scipy.signal.get_window("hann", SPEC.n_fft)
    stft = scipy.signal.ShortTimeFFT(w, SPEC.hop, SPEC.fs_model, fft_mode="onesided", scale_to="magnitude")
    frames = stft.stft_detrend(y, "constant", p0=2, p1=2 + SPEC.n_time)  # frame p is centred at sample p * hop
    power = 2.0 * np.abs(frames[: SPEC.n_freq]) ** 2
    got = 10.0 ** (window.spectrum_db[0].astype(np.float64) / 10.0)
    # float32: resampling and FFT each carry a relative error near 1e-6 of the largest value of a frame, squared here
    np.testing.assert_allclose(np.sqrt(got), np.sqrt(power), rtol=0, atol=3e-6 * np.sqrt(power.max()))


def test_background_equals_plain_loops() -> None:
    rng = np.random.default_rng(3)
    power = rng.exponential(1.0, (2, SPEC.n_freq)).astype(np.float32)
    power[1, 60:63] = 400.0

    def split_mean(p: np.ndarray) -> np.ndarray:
        out = np.zeros(SPEC.n_freq)
        for r in range(SPEC.n_freq):
            near = [
                k
                for k in range(max(SPEC.row_lo, r - SPEC.tpsw_half), min(SPEC.n_freq, r + SPEC.tpsw_half + 1))
                if abs(k - r) > SPEC.tpsw_gap
            ]
            out[r] = np.mean([p[k] for k in near])
        return out

    for row, got in zip(power.astype(np.float64), SPLIT(power), strict=True):
        first = split_mean(row)
        second = split_mean(np.where(row > SPEC.tpsw_clip * first, first, row))
        expected = second / (1 - SPEC.tpsw_clip * np.exp(-SPEC.tpsw_clip))
        np.testing.assert_allclose(got[SPEC.row_lo :], expected[SPEC.row_lo :], rtol=1e-9)  # running sums in float64


def test_background_of_white_noise_has_mean_one() -> None:
    power = np.random.default_rng(0).exponential(1.0, (4000, SPEC.n_freq)).astype(np.float32)
    mean = SPLIT(power)[:, SPEC.row_lo :].mean()
    assert mean == pytest.approx(1.0, abs=0.04)  # the first pass clips around a mean of 20 cells, itself uncertain


@pytest.mark.parametrize("fs", [2000, 32000, 44100, 44150])
@pytest.mark.parametrize("block", [480, 1000])
def test_front_end_block_size_changes_no_bit(fs: int, block: int) -> None:
    x = noise(fs, 11.3, 2)
    whole = list(windows_of(SPEC, fs, x))
    assert_same_bits(whole, feed(FrontEnd(SPEC, fs, 2), x, list(range(block, x.shape[1], block))))


def test_front_end_blocks_of_one_sample_change_no_bit() -> None:
    x = noise(4000, 10.0)
    assert_same_bits(list(windows_of(SPEC, 4000, x)), feed(FrontEnd(SPEC, 4000, 1), x, list(range(1, x.shape[1]))))


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 52000), max_size=12).map(sorted))
def test_front_end_any_cuts_change_no_bit(cuts: list[int]) -> None:
    x = noise(5000, 10.4)
    assert_same_bits(list(windows_of(SPEC, 5000, x)), feed(FrontEnd(SPEC, 5000, 1), x, cuts))


@pytest.mark.parametrize("fs", [2000, 44100])
def test_front_end_started_anywhere_gives_the_same_windows(fs: int) -> None:
    x = noise(fs, 13.0)
    whole = {w.grid_index: w for w in windows_of(SPEC, fs, x)}
    for start in (1, fs - 1, fs, fs + 7, 3 * fs):
        front_end = FrontEnd(SPEC, fs, 1)
        front_end.reset(start)
        got = list(front_end.process(x[:, start:]))
        assert got[0].grid_index == -(-start // SPEC.step(fs))
        assert_same_bits(got, [whole[w.grid_index] for w in got])


def test_front_end_depends_on_nothing_outside_the_window() -> None:
    fs = 32000
    x = noise(fs, 12.0)
    w = list(windows_of(SPEC, fs, x))[2]
    y = np.random.default_rng(9).standard_normal(x.shape).astype(np.float32)
    y[:, w.first_sample : w.first_sample + w.n_samples] = x[:, w.first_sample : w.first_sample + w.n_samples]
    assert_same_bits([list(windows_of(SPEC, fs, y))[2]], [w])
    for i in (w.first_sample, w.first_sample + w.n_samples - 1):  # and the first and last sample do enter
        z = x.copy()
        z[:, i] += 0.5
        assert not np.array_equal(list(windows_of(SPEC, fs, z))[2].spectrum_db, w.spectrum_db)


@pytest.mark.parametrize("hop_steps", [1, 2, 4, 8, 16, 32])
def test_front_end_step_between_windows_changes_no_window(hop_steps: int) -> None:
    x = noise(4000, 13.0)
    every = {w.first_sample: w for w in windows_of(dataclasses.replace(SPEC, n_time_step=1), 4000, x)}
    for w in windows_of(dataclasses.replace(SPEC, n_time_step=hop_steps), 4000, x):
        np.testing.assert_array_equal(w.features, every[w.first_sample].features)


def test_front_end_channels_do_not_touch_each_other() -> None:
    x = noise(32000, 9.5, 3, seed=5)
    x[1] *= 100.0
    together = next(windows_of(SPEC, 32000, x))
    for c in range(3):
        alone = next(windows_of(SPEC, 32000, x[c : c + 1]))
        np.testing.assert_array_equal(together.features[c], alone.features[0])


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 60000), fs=st.sampled_from([2000, 4410, 5000]))
def test_number_of_windows_follows_from_the_number_of_samples(n: int, fs: int) -> None:
    x = np.zeros((1, n), np.float32)
    spec = dataclasses.replace(SPEC, n_time=16)
    assert len(list(windows_of(spec, fs, x))) == spec.n_windows(fs, n)


@pytest.mark.parametrize("fs", [2000, 8000, 44100])
def test_tone_in_a_row_reads_its_mean_square(fs: int) -> None:
    w = next(windows_of(SPEC, fs, tone(fs, 200.0, 0.1)))
    # 0.1^2 / 2 = -23.01 dB; the pass band of a 100 dB Kaiser design ripples by less than 1e-4 dB, float32 adds as much
    np.testing.assert_allclose(w.spectrum_db[0, 100], 10 * np.log10(0.1**2 / 2), atol=0.002)
    assert w.level_db[0] == pytest.approx(10 * np.log10(0.1**2 / 2), abs=0.05)


def test_noise_reads_its_band_level() -> None:
    x = 0.01 * np.random.default_rng(1).standard_normal((1, 19000)).astype(np.float32)
    expected = 10 * np.log10(1e-4 * (SPEC.f_hi_hz - SPEC.f_lo_hz) / 1000.0)  # its share of 0..1000 Hz
    assert next(windows_of(SPEC, 2000, x)).level_db[0] == pytest.approx(expected, abs=0.3)  # 8 s of 500 Hz: sd 0.1 dB


@pytest.mark.parametrize("fs", [4000, 32000, 44100, 192000])
def test_tone_that_would_alias_is_stopped(fs: int) -> None:
    f_alias = min(SPEC.fs_model - 300.0, fs / 2 - 10.0)
    w = next(windows_of(SPEC, fs, tone(fs, f_alias, 0.5)))
    rows = slice(SPEC.row_lo, SPEC.n_freq)
    # 95 dB below the tone: the filter's 100 dB less the float32 rounding of 0.5
    assert w.spectrum_db[0, rows].max() < 10 * np.log10(0.5**2 / 2) - 95.0


def test_time_of_a_burst_falls_into_its_column() -> None:
    fs = 32000
    centres = SPEC.column_centres(fs)
    for column in (10, 40):
        x = np.zeros((1, 10 * fs), np.float32)
        n = np.arange(-2000, 2000)
        x[0, round(centres[column]) + n] = (np.hanning(4000) * np.sin(2 * np.pi * 300 * n / fs)).astype(np.float32)
        w = next(windows_of(SPEC, fs, x))
        assert int(w.spectrum_db[0, 150].argmax()) == column


def test_silence_reads_background_everywhere() -> None:
    w = next(windows_of(SPEC, 2000, np.zeros((1, 17000), np.float32)))
    np.testing.assert_allclose(w.features, SPEC.fill, atol=1e-6)
    np.testing.assert_allclose(w.spectrum_db, 10 * np.log10(POWER_FLOOR), atol=1e-3)


def test_constant_offset_changes_nothing_in_the_band() -> None:
    x = noise(32000, 9.5)
    a, b = next(windows_of(SPEC, 32000, x)), next(windows_of(SPEC, 32000, x + np.float32(0.03)))
    # the offset rounds each sample to a coarser float32 grid (2e-9): seen only below -150 dB
    np.testing.assert_allclose(a.features, b.features, atol=2e-3)


def test_features_lie_between_zero_and_one() -> None:
    w = next(windows_of(SPEC, 2000, noise(2000, 9.0)))
    assert w.features.dtype == np.float32
    assert w.features.min() >= 0.0
    assert w.features.max() <= 1.0
    assert not w.features.flags.writeable


def test_rate_below_the_model_rate_is_refused_with_both_rates() -> None:
    with pytest.raises(SampleRateError, match=r"1000 Hz.*2000 Hz"):
        FrontEnd(SPEC, 1000, 1)


def test_rate_without_whole_step_is_refused() -> None:
    spec = dataclasses.replace(SPEC, n_time_step=1)  # 0.125 s of 44100 Hz is 5512.5 samples
    with pytest.raises(SampleRateError, match="no whole number"):
        spec.step(44100)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hop": 0}, "hop=0 is not in 1..n_fft=1000"),
        ({"n_freq": 600}, "n_freq=600"),
        ({"n_time_step": 7}, "n_time=64 is not a multiple of n_time_step=7"),
        ({"tpsw_gap": 12}, "tpsw_gap=12"),
        ({"floor_db": 1.0}, "floor_db=1.0"),
    ],
)
def test_spec_that_contradicts_itself_is_refused(change: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        dataclasses.replace(SPEC, **change)


def test_spec_survives_the_manifest_and_refuses_strangers() -> None:
    assert FeatureSpec.from_dict(SPEC.to_dict()) == SPEC
    with pytest.raises(ValueError, match="unknown keys"):
        FeatureSpec.from_dict({**SPEC.to_dict(), "fs": 1})


def test_block_of_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="n_channels=2"):
        list(FrontEnd(SPEC, 2000, 2).process(np.zeros((1, 10), np.float32)))
