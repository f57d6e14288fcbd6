"""Tonals linked over windows: identity kept through drift, crossing and silence; never two lines on one track."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.contact_lines import MAX_LOST, LineTracks
from tests.contact_records import contacts_of, line, stream

BIN_HZ = 2.0


def tracks(windows: list[list[float]], n_lost: int = 5, hop_s: float = 1.0) -> LineTracks:
    t = LineTracks(BIN_HZ, n_lost)
    for i, frequencies in enumerate(windows):
        t.process([line(f) for f in frequencies], i * hop_s)
    return t


def test_steady_lines_keep_their_numbers_and_means() -> None:
    told = tracks([[60.0, 72.1, 144.2]] * 10).alive
    assert [(x.number, x.freq_hz, x.n_windows) for x in told] == [(0, 60.0, 10), (1, 72.1, 10), (2, 144.2, 10)]
    assert all(x.drift_hz_per_s == pytest.approx(0.0, abs=1e-9) for x in told)


def test_drift_is_the_slope_and_first_and_last_are_the_ends() -> None:
    (only,) = tracks([[100.0 + 0.5 * i] for i in range(40)]).alive
    assert only.drift_hz_per_s == pytest.approx(0.5)
    assert (only.freq_first_hz, only.freq_last_hz) == (100.0, 119.5)
    assert only.freq_hz == pytest.approx(109.75)


@pytest.mark.parametrize("seed", range(5))
def test_crossing_lines_go_straight_on(seed: int) -> None:
    """They meet between windows 20 and 21; measured frequencies scatter by 0.1 Hz, as those of the line finder do."""
    rng = random.Random(seed)
    windows = [[100.0 + 0.5 * i + rng.gauss(0, 0.1), 120.5 - 0.5 * i + rng.gauss(0, 0.1)] for i in range(41)]
    told = tracks(windows).all
    assert sorted(x.n_windows for x in told) == [41, 41]
    assert sorted(round(x.drift_hz_per_s, 1) for x in told) == [-0.5, 0.5]


def test_crossing_lines_that_merge_for_a_while_part_again_as_they_were() -> None:
    """While they are within two rows the finder sees one line; it goes to one track, the other waits."""
    windows = []
    for i in range(41):
        a, b = 100.0 + 1.0 * i, 140.0 - 1.0 * i
        windows.append([a, b] if abs(a - b) >= 4.0 else [(a + b) / 2])
    told = tracks(windows).all
    assert sorted(round(x.drift_hz_per_s) for x in told if x.n_windows > 30) == [-1, 1]


@pytest.mark.parametrize(("n_missing", "n_tracks"), [(1, 1), (4, 1), (5, 2), (9, 2)])
def test_line_is_lost_after_n_windows_without_it(n_missing: int, n_tracks: int) -> None:
    told = tracks([[80.0]] * 6 + [[]] * n_missing + [[80.0]] * 6, n_lost=5).all
    assert len(told) == n_tracks
    assert sum(x.n_windows for x in told) == 12
    assert [x.alive for x in told].count(True) == 1


def test_drifting_line_is_found_again_where_it_is_expected() -> None:
    """Four windows of silence at 1.5 Hz/s: it comes back 7.5 Hz higher, three tolerances away."""
    windows = [[100.0 + 1.5 * i] if not 10 <= i < 14 else [] for i in range(20)]
    (only,) = tracks(windows).all
    assert only.n_windows == 16


def test_line_beyond_the_tolerance_is_another() -> None:
    assert len(tracks([[100.0]] * 4 + [[100.0 + BIN_HZ + 0.01]] * 4).all) == 2
    assert len(tracks([[100.0]] * 4 + [[100.0 + BIN_HZ - 0.01]] * 4).all) == 1


def test_nearest_pairs_go_first() -> None:
    """At 101.2 both tracks are in reach; 100.2 belongs to the lower, so the upper takes the other."""
    told = tracks([[100.0, 102.0]] * 3 + [[101.2, 100.2]]).alive
    assert [(x.number, x.freq_last_hz) for x in told] == [(0, 100.2), (1, 101.2)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.floats(10.0, 60.0), max_size=8, unique=True), max_size=25), st.integers(1, 6))
def test_every_line_goes_to_exactly_one_track(windows: list[list[float]], n_lost: int) -> None:
    t = LineTracks(BIN_HZ, n_lost)
    heard = 0
    for i, frequencies in enumerate(windows):
        before = {x.number: x.n_windows for x in t.alive}
        t.process([line(f) for f in frequencies], float(i))
        after = {x.number: x.n_windows for x in t.alive}
        heard += len(frequencies)
        grown = [n for n in after if after[n] > before.get(n, 0)]
        assert len(grown) == len(frequencies)
        assert all(after[n] == before.get(n, 0) + 1 for n in grown)
    numbers = [x.number for x in t.all]
    assert len(numbers) == len(set(numbers))
    assert sum(x.n_windows for x in t.all) <= heard
    assert all(10.0 - 1e-9 <= x.freq_hz <= 60.0 + 1e-9 for x in t.all)


@given(st.lists(st.lists(st.floats(10.0, 500.0), max_size=6, unique=True), max_size=15), st.randoms())
@settings(max_examples=50, deadline=None)
def test_order_of_the_lines_in_a_window_does_not_matter(windows: list[list[float]], rng: random.Random) -> None:
    mixed = [rng.sample(w, len(w)) for w in windows]
    assert tracks(windows).all == tracks(mixed).all


def test_memory_of_a_contact_of_many_days_is_bounded() -> None:
    t = LineTracks(BIN_HZ, 1)
    for i in range(1000):
        for _ in range(3):
            t.process([line(20.0 + 5.0 * (i % 90))], float(i))
    assert len(t.all) <= MAX_LOST + 1


def test_contact_tells_lines_of_its_own_label_from_its_first_window_on() -> None:
    slots = [{"a": 0.9, "unknown": [line(200.0), line(300.0)]} for _ in range(6)]
    ends = {c.label: c for c in contacts_of(stream(slots)) if c.event == "end"}
    assert [(x.freq_hz, x.n_windows) for x in ends["unknown"].lines] == [(200.0, 6), (300.0, 6)]
    assert ends["a"].lines == ()


def test_lost_lines_are_told_at_the_end_only() -> None:
    slots = [{"unknown": [line(71.0), line(93.0)]}] * 8 + [{"unknown": [line(71.0)]}] * 8
    got = contacts_of(stream(slots))
    assert [x.freq_hz for x in got[-2].lines] == [71.0]
    assert [(x.freq_hz, x.alive) for x in got[-1].lines] == [(71.0, True), (93.0, False)]


@pytest.mark.parametrize(("tolerance", "n_lost"), [(0.0, 5), (2.0, 0)])
def test_senseless_settings_are_refused(tolerance: float, n_lost: int) -> None:
    with pytest.raises(ValueError, match="is not positive"):
        LineTracks(tolerance, n_lost)
