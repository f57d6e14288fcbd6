"""Thresholds of a site: their rank, what they remove, and how honestly that is said."""

import numpy as np
import pytest

from calibration.site_estimate import removed_by_others, segment_of, site_thresholds
from calibration.thresholds import NOMINAL_LEVELS, conformal_quantile


def scores(n_recordings: int, n_each: int, spread: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Windows of 500 cells whose level differs from recording to recording."""
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.normal(0.0, spread, n_recordings), n_each)[:, None]
    x = np.exp(level + rng.normal(0.0, 1.0, (n_recordings * n_each, 500))).astype(np.float32)
    return x, [f"r{i // n_each}" for i in range(len(x))]


def test_threshold_is_the_conformal_quantile_and_removes_at_least_nominal_where_it_was_set() -> None:
    x, segments = scores(8, 3, 0.3)
    out = site_thresholds(x, segments)
    for q in NOMINAL_LEVELS:
        assert out[q].value == conformal_quantile(x, float(q))
        assert (x <= out[q].value).mean() >= float(q)
        assert out[q].low <= out[q].removed <= out[q].high


def test_leaving_out_equals_the_plain_way() -> None:
    x, segments = scores(5, 4, 0.5)
    x[3, :400] = x[7, :400] = 0.25  # ties
    for level in (0.86, 0.95, 0.99):
        got = removed_by_others(x, segments, level)
        for i in range(5):
            own = np.array([s == f"r{i}" for s in segments])
            assert got[i] == (x[own] <= np.float32(conformal_quantile(x[~own], level))).mean()


def test_interval_covers_what_is_removed_of_a_new_recording_on_average() -> None:
    # the removal by a threshold from 12 recordings, of the population: known here, as 400 more recordings
    fresh, _ = scores(400, 1, 0.3, seed=999)
    hits = []
    for seed in range(60):
        t = site_thresholds(*scores(12, 2, 0.3, seed=seed))["0.95"]
        hits.append(t.low <= (fresh <= t.value).mean() <= t.high)
    # two errors meet, the threshold's and the interval's: 95 % nominal may fall to about 83 %; 60 draws: +- 10 %
    assert np.mean(hits) > 0.7


def test_interval_counts_recordings_not_windows() -> None:
    x, segments = scores(6, 8, 0.4)
    as_windows = site_thresholds(x, [f"w{i}" for i in range(len(x))])["0.95"]
    by_recording = site_thresholds(x, segments)["0.95"]
    assert by_recording.value == as_windows.value
    assert by_recording.high - by_recording.low > 1.5 * (as_windows.high - as_windows.low)


def test_one_recording_alone_is_refused_and_so_are_numbers_that_are_none() -> None:
    x, _ = scores(4, 1, 0.1)
    with pytest.raises(ValueError, match="at least 2 are needed"):
        site_thresholds(x, ["a"] * 4)
    x[2, 7] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        site_thresholds(x, ["a", "b", "c", "d"])


def test_long_recordings_are_cut() -> None:
    assert segment_of("a", 0.0) == segment_of("a", 119.9)
    assert len({segment_of("a", t) for t in range(0, 600, 10)} | {segment_of("b", 0.0)}) == 6
