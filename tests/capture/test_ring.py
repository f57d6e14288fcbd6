from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.ring import SampleRing


def make(n_channels: int, n_capacity: int) -> SampleRing:
    return SampleRing.create(bytearray(SampleRing.n_bytes(n_channels, n_capacity)), n_channels, n_capacity)


def ramp(first: int, n: int, n_channels: int) -> np.ndarray:
    return (np.arange(first, first + n, dtype=np.float32)[:, None] * 10 + np.arange(n_channels)).astype(np.float32)


@given(
    n_channels=st.integers(1, 3),
    n_capacity=st.integers(1, 17),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=60),
)
def test_ring_against_a_plain_list_gives_the_same(n_channels: int, n_capacity: int, steps: list) -> None:
    """Model: all samples ever written; the last capacity's worth can be read."""
    ring = make(n_channels, n_capacity)
    n_total, at = 0, 0
    for is_write, n in steps:
        if is_write:
            ring.write(ramp(n_total, n, n_channels), n_total)
            n_total += n
            assert ring.position() == (n_total, n_total - n)
        else:
            got = ring.read(at, n)
            oldest = max(at, n_total - n_capacity)
            assert (got.first, got.n_lost) == (oldest, oldest - at)
            n_given = min(n, n_total - oldest)
            np.testing.assert_array_equal(got.x, ramp(oldest, n_given, n_channels).T)
            at = oldest + n_given


def test_ring_with_a_writer_in_its_own_thread_never_gives_a_wrong_sample() -> None:
    ring = make(2, 257)
    n_total = 200_000
    stop = threading.Event()

    def run() -> None:
        rng = np.random.default_rng(1)
        at = 0
        while at < n_total:
            n = int(rng.integers(1, 64))
            ring.write(ramp(at, n, 2), 0)
            at += n
        stop.set()

    writer = threading.Thread(target=run)
    writer.start()
    at = n_given = n_lost = 0
    while not stop.is_set() or at < ring.n_written:
        got = ring.read(at, 100)
        np.testing.assert_array_equal(got.x, ramp(got.first, got.x.shape[1], 2).T)
        n_given, n_lost = n_given + got.x.shape[1], n_lost + got.n_lost
        at = got.first + got.x.shape[1]
    writer.join()
    assert n_given + n_lost == ring.n_written == at


@pytest.mark.parametrize("words_done", range(5))
def test_ring_whose_writer_died_within_a_write_gives_only_whole_samples(words_done: int) -> None:
    """The steps of a write, cut after each: claim, copy, odd sequence, time."""
    ring = make(1, 8)
    ring.write(ramp(0, 6, 1), 60)
    words = ring._words
    if words_done > 0:
        words[3] = 6 + 5
    if words_done > 1:
        ring._samples[6:8] = -1
        ring._samples[0:3] = -1  # samples 0 to 2 are overwritten
    if words_done > 2:
        words[6] += np.uint64(1)
    if words_done > 3:
        words[5] = 70
    got = ring.read(0, 100)
    expected_first = 3 if words_done > 0 else 0
    assert (got.first, got.n_lost) == (expected_first, expected_first)
    np.testing.assert_array_equal(got.x, ramp(expected_first, 6 - expected_first, 1).T)
    assert ring.position()[0] == 6


def test_ring_whose_writer_claims_more_than_its_capacity_gives_nothing_and_counts_it() -> None:
    ring = make(1, 8)
    ring.write(ramp(0, 6, 1), 0)
    ring._words[3] = 6 + 20
    got = ring.read(2, 100)
    assert (got.first, got.n_lost, got.x.shape) == (6, 4, (1, 0))
    assert ring.read(6, 1).x.shape == (1, 0)


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 40))
def test_ring_breaks_after_those_known_tell_where_samples_were_lost(blocks: list, n_known: int) -> None:
    ring = make(1, 8)
    places = []
    for n in blocks:
        ring.mark_break()
        places.append(ring.n_written)
        ring.write(ramp(0, n, 1), 0)
    n_breaks, last = ring.breaks(n_known)
    assert n_breaks == len(places)
    assert last == places[n_known:][-16:]


def test_ring_with_wrong_arguments_says_which() -> None:
    ring = make(1, 8)
    with pytest.raises(ValueError, match="first=1"):
        ring.read(1, 1)
    with pytest.raises(ValueError, match="no sample ring"):
        SampleRing(bytearray(200))
    with pytest.raises(ValueError, match="too few"):
        SampleRing.create(bytearray(64), 1, 1)
