"""Table I on masks whose figures are known by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calibration.metrics import (
    WindowTruth,
    foreign_lines,
    line_table,
    mask_metrics,
    mean_by_recording,
    score_metrics,
)
from calibration.truth import LineTrack, Truth
from models.features import FeatureSpec

SPEC = FeatureSpec()
F, T = SPEC.n_freq, SPEC.n_time
TABLES = {"a": [100.0, 200.0], "b": [101.0, 300.0, 400.0], "c": [50.0, 700.0]}


def line(label: str | None, f_hz: float, snr_db: float = 8.0) -> LineTrack:
    return LineTrack(label, np.array([0.0, 100.0]), np.full(2, f_hz), np.full(2, snr_db))


@pytest.fixture(scope="module")
def truth() -> WindowTruth:
    lines = (line("a", 100.0), line("a", 200.0), line("a", 320.0, snr_db=1.0), line("b", 300.0), line(None, 440.0))
    return WindowTruth.of(Truth(("a",), lines), SPEC, 2000, 0, "a")


def test_truth_of_a_window_keeps_the_lines_that_are_strong_enough(truth: WindowTruth) -> None:
    assert len(truth.lines) == 2
    assert all(band.sum() == 3 * T for band in truth.lines)
    assert not (truth.noise & truth.target).any()


def test_oracle_mask_removes_all_noise_and_no_tone(truth: WindowTruth) -> None:
    m = mask_metrics(truth.tone, truth, foreign_lines(TABLES, "a", SPEC.bin_hz, F))
    assert m["removed_noise"] == 1.0
    assert m["overwritten_tones"] == 0.0
    assert m["intersecting_regions"] == 0
    assert m["pixel_f1"] == m["line_f1"] == m["line_pd"] == 1.0


def test_full_mask_removes_nothing_and_intersects_the_whole_table(truth: WindowTruth) -> None:
    foreign = foreign_lines(TABLES, "a", SPEC.bin_hz, F)
    m = mask_metrics(np.ones((F, T), bool), truth, foreign)
    assert m["removed_noise"] == m["removed_noise_int"] == m["overwritten_tones"] == 0.0
    assert m["intersecting_regions"] == len(foreign) == 3
    assert m["line_pd"] == 1.0
    assert m["line_precision"] == m["line_f1"] == 0.0  # one blob is no line


def test_empty_mask_overwrites_every_tone(truth: WindowTruth) -> None:
    m = mask_metrics(np.zeros((F, T), bool), truth)
    assert m["removed_noise"] == m["overwritten_tones"] == 1.0
    assert m["precision"] == m["pixel_f1"] == m["line_f1"] == 0.0


def test_random_mask_removes_and_overwrites_alike(truth: WindowTruth) -> None:
    kept = 0.14
    mask = np.random.default_rng(1).random((F, T)) < kept
    m = mask_metrics(mask, truth, foreign_lines(TABLES, "a", SPEC.bin_hz, F))
    # six standard errors of a binomial share, of 16 000 noise and 384 tone cells
    assert m["removed_noise"] == pytest.approx(1 - kept, abs=6 * math.sqrt(kept * (1 - kept) / 15000))
    assert m["overwritten_tones"] == pytest.approx(1 - kept, abs=6 * math.sqrt(kept * (1 - kept) / 384))
    assert m["intersecting_regions"] == 0


def test_mask_on_a_foreign_line_costs_interferer_removal_and_line_precision(truth: WindowTruth) -> None:
    mask = truth.tone.copy()
    mask[150] = True  # the middle of the three rows of vessel b's line
    m = mask_metrics(mask, truth)
    # vessel b's line at row 150 and the foreign one at row 220, three rows each: one of six is kept
    assert m["removed_noise_int"] == pytest.approx(5 / 6)
    assert m["line_precision"] == pytest.approx(2 / 3)


def test_guard_ring_counts_neither_way(truth: WindowTruth) -> None:
    m = mask_metrics(truth.tone | truth.guard, truth)
    assert m["removed_noise"] == m["precision"] == m["line_precision"] == 1.0


def test_rows_below_the_band_never_count(truth: WindowTruth) -> None:
    mask = truth.tone.copy()
    mask[: SPEC.row_lo] = True
    assert mask_metrics(mask, truth)["removed_noise"] == 1.0


def test_mask_of_another_shape_is_refused(truth: WindowTruth) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        mask_metrics(np.zeros((F, T + 1), bool), truth)


def test_score_metrics_of_the_oracle_and_of_chance(truth: WindowTruth) -> None:
    best = score_metrics(truth.tone.astype(np.float32), truth)
    assert best["tone_auc"] == 1.0
    assert best["ot_at_rn_99"] == 0.0
    chance = score_metrics(np.random.default_rng(2).random((F, T)), truth)
    assert chance["tone_auc"] == pytest.approx(0.5, abs=0.09)  # six standard errors, sqrt(1 / (12 * 384)) each
    assert chance["ot_at_rn_86"] == pytest.approx(0.86, abs=6 * math.sqrt(0.86 * 0.14 / 384))


def test_score_metrics_of_a_constant_map_is_chance_with_every_tone_lost(truth: WindowTruth) -> None:
    m = score_metrics(np.ones((F, T)), truth)
    assert m["tone_auc"] == 0.5
    assert m["ot_at_rn_86"] == 1.0


def test_window_without_tones_has_no_tone_figures() -> None:
    truth = WindowTruth.of(Truth((), ()), SPEC, 2000, 0, "ambient")
    m = mask_metrics(np.zeros((F, T), bool), truth)
    assert m["removed_noise"] == 1.0
    assert math.isnan(m["overwritten_tones"])
    assert math.isnan(score_metrics(np.ones((F, T)), truth)["tone_auc"])


def test_foreign_lines_leave_out_those_near_own_ones_and_those_above_the_band() -> None:
    assert foreign_lines(TABLES, "a", SPEC.bin_hz, F).tolist() == [150.0, 200.0, 25.0]


def test_line_table_finds_the_lines_that_recordings_share() -> None:
    rng = np.random.default_rng(3)
    recordings = [[f * rng.uniform(0.99, 1.01) for f in (48.0, 120.0, 400.0)] for _ in range(30)]
    recordings[0].append(222.0)  # one recording's own
    assert line_table(recordings, SPEC.bin_hz) == pytest.approx([48.0, 120.0, 400.0], rel=0.01)


def test_mean_by_recording_counts_recordings_not_windows() -> None:
    rows = [{"x": 0.0}, {"x": 0.0}, {"x": 0.0}, {"x": 1.0}, {"x": math.nan}]
    mean = mean_by_recording(rows, ["r0", "r0", "r0", "r1", "r2"])["x"]
    assert (mean.value, mean.se, mean.n_recordings) == (0.5, 0.5, 2)
