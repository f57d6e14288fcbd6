"""A live channel that gives no signal is a hole and a gap, to the tile; sound and files are left alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.frames import AudioBlock, Gap
from daemon.grid import Hole
from daemon.no_signal import HOLD_S, NoSignal
from daemon.signal_watch import SignalWatch

FS, N_CHANNELS = 8000, 2
TILE = SignalWatch(FS, 1).n_tile
SECONDS = 10


def noise(seed: int = 0, n_bits: int = 16) -> np.ndarray:
    """As quiet as a converter of 16 bits can be and still move: rms of one step."""
    x = np.random.default_rng(seed).normal(0.0, 1.0, (N_CHANNELS, SECONDS * FS))
    return (np.rint(x) / (1 << (n_bits - 1))).astype(np.float32)


def through(x: np.ndarray, cuts: list[int]) -> tuple[list[tuple[int, Hole]], list[Gap]]:
    stage = NoSignal("card", 3, FS, len(x))
    holes: list[tuple[int, Hole]] = []
    gaps: list[Gap] = []
    edges = sorted({0, x.shape[1], *(c for c in cuts if c < x.shape[1])})
    for a, b in itertools.pairwise(edges):
        new, over = stage.process(AudioBlock("card", 3, a, FS, x[:, a:b]))
        holes, gaps = holes + new, gaps + over
    return holes, gaps + stage.finish()


def merged(holes: list[tuple[int, Hole]], channel: int) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for first, last in [(h.first, h.last) for c, h in holes if c == channel]:
        if spans and spans[-1][1] == first:
            first = spans.pop()[0]
        spans.append((first, last))
    return spans


def within(first: int, last: int) -> tuple[int, int]:
    """The whole tiles of a stretch."""
    return -(-first // TILE) * TILE, last // TILE * TILE


FAULTS = {
    "all samples are 0": lambda x: np.zeros_like(x),
    "the same value": lambda x: np.full_like(x, -0.125),
    "values that no converter gives": lambda x: x * np.float32(1e9),
    "the same block again and again": lambda x: np.tile(x[:, :960], x.shape[1] // 960 + 1)[:, : x.shape[1]],
}


@pytest.mark.parametrize("words", FAULTS)
def test_stretch_of_all_channels_is_one_gap_and_a_hole_of_each(words: str) -> None:
    x = noise()
    first, last = 3 * FS + 100, 8 * FS + 33
    x[:, first:last] = FAULTS[words](x[:, first:last])
    holes, gaps = through(x, list(range(0, x.shape[1], 480)))
    (gap,) = gaps
    assert words in gap.reason
    assert (gap.source, gap.epoch, gap.channel, gap.err_ns) == ("card", 3, None, 0)
    for c in range(N_CHANNELS):
        assert merged(holes, c) == [(gap.first_sample, gap.first_sample + gap.n_missing)]
    if "converter" in words:  # one such value is enough
        assert (gap.first_sample, gap.first_sample + gap.n_missing) == (first // TILE * TILE, -(-last // TILE) * TILE)
    elif "again" not in words:
        assert (gap.first_sample, gap.first_sample + gap.n_missing) == within(first, last)
    else:  # known as a repeat only once it was repeated: 960 and the tile have 15 tiles in common
        assert first < gap.first_sample <= first + 16 * TILE
        assert gap.first_sample + gap.n_missing == within(first, last)[1]
    assert gap.duration_ns == round(gap.n_missing * 1e9 / FS)


def test_one_channel_without_signal_leaves_the_other_alone() -> None:
    x = noise()
    x[1, 2 * FS : 4 * FS] = 0.0
    holes, gaps = through(x, [])
    assert [(g.channel, g.first_sample, g.n_missing) for g in gaps] == [
        (1, within(2 * FS, 4 * FS)[0], within(2 * FS, 4 * FS)[1] - within(2 * FS, 4 * FS)[0])
    ]
    assert {c for c, _ in holes} == {1}


def test_quiet_noise_and_short_silence_are_signal() -> None:
    x = noise()
    x[:, FS : FS + round(HOLD_S * FS) - TILE] = 0.0
    assert through(x, list(range(0, x.shape[1], 1000))) == ([], [])


def test_stretch_that_never_ends_is_told_of_once_a_minute_and_at_the_end() -> None:
    stage = NoSignal("card", 0, FS, 1)
    second = np.zeros((1, FS), np.float32)
    gaps = [g for k in range(150) for g in stage.process(AudioBlock("card", 0, k * FS, FS, second))[1]]
    assert len(gaps) == 2
    gaps += stage.finish()
    assert len(gaps) == 3
    position = 0
    for g in gaps:  # without overlap, nothing left out
        assert g.first_sample == position
        position += g.n_missing
    assert position == within(0, 150 * FS)[1]


def test_samples_that_are_no_numbers_are_left_to_the_sieve() -> None:
    x = noise()
    x[:, 2 * FS : 5 * FS] = np.nan
    assert through(x, []) == ([], [])


def test_loss_of_samples_ends_a_stretch_where_they_were_lost() -> None:
    stage = NoSignal("card", 0, FS, N_CHANNELS)
    zeros = np.zeros((N_CHANNELS, 2 * FS), np.float32)
    stage.process(AudioBlock("card", 0, 0, FS, zeros))
    (gap,) = stage.reset(7 * FS + 5)
    assert (gap.first_sample, gap.n_missing) == within(0, 2 * FS)
    holes, _ = stage.process(AudioBlock("card", 0, 7 * FS + 5, FS, zeros))
    assert merged(holes, 0) == [within(7 * FS + 5, 9 * FS + 5)]


@given(st.lists(st.integers(1, SECONDS * FS - 1), max_size=40), st.sampled_from(sorted(FAULTS)))
@settings(max_examples=40, deadline=None)
def test_size_of_the_blocks_changes_neither_holes_nor_gaps(cuts: list[int], words: str) -> None:
    x = noise()
    x[:, 3 * FS + 5 : 6 * FS] = FAULTS[words](x[:, 3 * FS + 5 : 6 * FS])
    x[1, 8 * FS :] = 0.5
    want, got = through(x, []), through(x, cuts)
    assert [merged(got[0], c) for c in (0, 1)] == [merged(want[0], c) for c in (0, 1)]
    assert got[1] == want[1]
