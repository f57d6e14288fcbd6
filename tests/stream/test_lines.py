"""Tonal lines: what is reported of tones whose frequency, level and duration are known."""

import numpy as np
import pytest

from daemon.lines import LineTrace, lines_of
from models.features import FeatureSpec, windows_of
from models.tracks import TrackFinder

SPEC, FS = FeatureSpec(), 2000
ENBW_HZ = 1.5 * SPEC.bin_hz
PSD = 1e-4 / 1000.0  # one-sided, of noise with standard deviation 0.01 at 2 kHz


def window(
    tones: list[tuple[float, float]], seed: int, drift: float = 0.0, until_s: float = 99.0
) -> tuple[np.ndarray, np.ndarray]:
    """Noise and tones ``(f_hz, snr_db)``; the first window's level and background."""
    rng = np.random.default_rng(seed)
    t = np.arange(17000) / FS
    x = 0.01 * rng.standard_normal(t.size)
    for f, snr in tones:
        a = np.sqrt(2 * PSD * ENBW_HZ * 10 ** (snr / 10))
        x += a * np.cos(2 * np.pi * (f * t + drift * t**2 / 2) + rng.uniform(0, 6)) * (t < until_s)
    w = next(windows_of(SPEC, FS, x[None].astype(np.float32)))
    return w.spectrum_db[0], w.background_db[0]


def find_lines(spectrum_db: np.ndarray, _: np.ndarray, min_snr_db: float) -> list[LineTrace]:
    return lines_of(SPEC, FS, TrackFinder(SPEC).find(spectrum_db), spectrum_db, min_snr_db)


def test_lines_of_steady_tones_are_found_where_they_are() -> None:
    errors, claimed, snrs, levels = [], [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        tones = [(rng.uniform(40 + 90 * k, 80 + 90 * k), 10.0) for k in range(5)]
        lines = [t.line for t in find_lines(*window(tones, seed), 3.0)]
        assert len(lines) == 5
        for line, (f, snr) in zip(lines, tones, strict=True):
            errors.append(line.freq_hz - f)
            claimed.append(line.freq_err_hz)
            snrs.append(line.snr_db - snr)
            levels.append(line.level_db - 10 * np.log10(PSD * ENBW_HZ * 10 ** (snr / 10)))
            assert line.t_end_s - line.t_start_s > 7.0
    assert abs(np.mean(errors)) < 0.05  # rms 0.07 Hz measured, 60 tones
    assert np.sqrt(np.mean(np.square(errors))) < 2 * np.mean(claimed)
    assert abs(np.mean(snrs)) < 1.5
    assert abs(np.mean(levels)) < 0.5


def test_noise_alone_gives_hardly_a_line() -> None:
    n = sum(len(find_lines(*window([], seed), 3.0)) for seed in range(40))
    assert n <= 4  # 0.02 per window measured over 60 windows; 4 of 40 would be five times that


def test_line_that_stops_is_reported_with_its_end() -> None:
    (trace,) = find_lines(*window([(200.0, 14.0)], 1, until_s=4.0), 3.0)
    assert trace.line.t_end_s == pytest.approx(4.0, abs=0.7)  # a frame of 0.5 s and a mean over 1.1 s blur the end
    assert trace.cells(SPEC.n_freq)[100, :20].all()
    assert not trace.cells(SPEC.n_freq)[:, 45:].any()


def test_drift_is_measured() -> None:
    (trace,) = find_lines(*window([(300.0, 14.0)], 2, drift=0.25), 3.0)
    assert trace.line.drift_hz_per_s == pytest.approx(0.25, abs=0.1)
    assert trace.line.freq_hz == pytest.approx(300 + 0.25 * 4.2, abs=0.3)


def test_line_below_the_limit_is_left_out() -> None:
    data = window([(200.0, 4.0)], 3)
    assert find_lines(*data, 0.0)
    assert not find_lines(*data, 9.0)


def test_silence_has_no_line() -> None:
    flat = np.full((SPEC.n_freq, SPEC.n_time), -180.0, np.float32)
    assert find_lines(flat, flat, 3.0) == []
