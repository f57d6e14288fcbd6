"""Line tracks on noise and tones that are known."""

from __future__ import annotations

import numpy as np
import pytest

from models.features import FeatureSpec, windows_of
from models.tracks import HALF_BAND, TrackFinder, tone_probability

SPEC, FS = FeatureSpec(), 2000
FINDER = TrackFinder(SPEC)
#: One-sided power density of noise of deviation 0.01 at 2 kHz; noise bandwidth of the Hann frame.
PSD, ENBW_HZ = 1e-4 / 1000.0, 1.5 * SPEC.bin_hz


def spectrum(
    tones: list[tuple[float, float]], seed: int, *, drift: float = 0.0, until_s: float = 99.0, click_at_s: float = -1.0
) -> np.ndarray:
    """First window of noise with tones ``(f_hz, in-bin SNR in dB)``."""
    rng = np.random.default_rng(seed)
    t = np.arange(17000) / FS
    x = 0.01 * rng.standard_normal(t.size)
    for f, snr in tones:
        a = np.sqrt(2 * PSD * ENBW_HZ * 10 ** (snr / 10))
        x += a * np.cos(2 * np.pi * (f * t + drift * t**2 / 2) + rng.uniform(0, 6)) * (t < until_s)
    if click_at_s >= 0:
        at = int(click_at_s * FS)
        x[at : at + 40] += 2.0 * rng.standard_normal(40)
    return next(windows_of(SPEC, FS, x[None].astype(np.float32))).spectrum_db[0]


def test_tones_are_tracked_once_each_to_a_fraction_of_a_row() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        tones = [(rng.uniform(40 + 90 * k, 80 + 90 * k), 10.0) for k in range(5)]
        found = FINDER.find(spectrum(tones, seed))
        rows = np.sort(found.row[found.evidence > 12])
        assert rows.size == 5, "a shoulder or a gap"
        assert np.abs(rows - np.array([f for f, _ in tones]) / SPEC.bin_hz).max() < 0.3


def test_weak_tones_are_tracked_where_the_old_mean_of_neighbours_hid_them() -> None:
    # 3 dB, four rows apart, as the low harmonics of a slow shaft are
    tones = [(32.0 + 8.0 * k, 4.0) for k in range(6)]
    hits = 0
    for seed in range(12):
        found = FINDER.find(spectrum(tones, seed))
        rows = found.row[found.evidence > 8]
        hits += sum(rows.size > 0 and np.abs(rows - f / SPEC.bin_hz).min() < 0.6 for f, _ in tones)
    assert hits / (12 * len(tones)) > 0.9


def test_noise_gives_hardly_a_track_of_evidence() -> None:
    evidence = np.concatenate([FINDER.find(spectrum([], seed)).evidence for seed in range(60)])
    assert (
        evidence > 10
    ).sum() <= 10  # 0.05 per window measured over 160; 10 of 60 would be more than three times that
    assert tone_probability(np.array([0.0, 5.0, 30.0])) == pytest.approx([0.015, 0.5, 1.0], abs=0.01)


def test_a_click_over_all_rows_is_no_line() -> None:
    quiet = [FINDER.find(spectrum([], seed)) for seed in range(10)]
    clicked = [FINDER.find(spectrum([], seed, click_at_s=4.0)) for seed in range(10)]
    assert sum((t.evidence > 10).sum() for t in clicked) <= sum((t.evidence > 10).sum() for t in quiet) + 2


def test_track_follows_a_drifting_tone() -> None:
    found = FINDER.find(spectrum([(300.0, 12.0)], 2, drift=0.5))
    track = found.rows[found.evidence.argmax()]
    t = SPEC.column_centres(FS) / FS
    assert np.abs(track - (300.0 + 0.5 * t) / SPEC.bin_hz).max() < 0.5


def test_line_of_one_half_of_the_window_is_tracked() -> None:
    found = FINDER.find(spectrum([(200.0, 12.0)], 1, until_s=4.0))
    assert np.abs(found.row[found.evidence > 10] - 100.0).min() < 0.5


def test_level_of_the_recording_changes_nothing() -> None:
    s = spectrum([(100.0, 8.0), (310.0, 6.0)], 3)
    a, b = FINDER.find(s), FINDER.find(s - 60.0)
    np.testing.assert_allclose(a.rows, b.rows, atol=1e-3)  # float32 spectra of other magnitude
    np.testing.assert_allclose(a.evidence, b.evidence, rtol=1e-3, atol=1e-2)


def test_paint_is_the_union_of_the_bands() -> None:
    found = FINDER.find(spectrum([(100.0, 8.0), (104.0, 8.0), (310.0, 6.0)], 4))
    values = np.linspace(0.1, 1.0, len(found))
    expected = (found.bands() * values[:, None, None]).max(axis=0)
    np.testing.assert_allclose(found.paint(values), expected, atol=1e-6)
    assert found.bands(HALF_BAND).sum(axis=1).max() <= 3


def test_silence_and_wrong_shapes_do_no_harm() -> None:
    flat = np.full(SPEC.shape[1:], -180.0, np.float32)
    assert len(FINDER.find(flat)) == 0
    with pytest.raises(ValueError, match="front end gives"):
        FINDER.find(flat[:, :10])
    with pytest.raises(ValueError, match="multiple of 8"):
        TrackFinder(FeatureSpec(n_time=12, n_time_step=4))
