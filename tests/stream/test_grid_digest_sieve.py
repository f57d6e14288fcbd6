"""One record per slot, each bad sample accounted for, digests that follow from the samples alone."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.digest import AudioDigest, digest_of
from daemon.frames import AudioBlock
from daemon.grid import Grid, Hole
from daemon.sieve import Sieve


@given(
    step=st.integers(1, 9),
    n=st.integers(1, 40),
    steps=st.lists(st.integers(0, 60), max_size=8),
    holes=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 20)), max_size=4),
)
def test_grid_gives_each_slot_once_whatever_the_blocks(step: int, n: int, steps: list, holes: list) -> None:
    grid = Grid(step, n, 2)
    spans = sorted({first: first + length for first, length in holes}.items())
    for first, last in spans:
        grid.add_hole(Hole(first, last, "gap"), 1)
    position, got = 0, []
    for s in steps:
        position += s
        got += list(grid.due(position))
    assert [s[0].grid_index for s in got] == list(range(max(0, (position - n) // step + 1)))
    for clean, holed in got:
        covered = range(clean.grid_index * step, clean.grid_index * step + n)
        lost = {i for a, b in spans for i in range(a, b)} & set(covered)
        assert clean.reason is None
        assert (holed.reason == "gap") == bool(lost)


def test_grid_counts_the_lost_samples_of_a_slot() -> None:
    grid = Grid(10, 30, 1)
    grid.add_hole(Hole(5, 12, "gap"))
    assert [(s[0].reason, s[0].lost_samples) for s in grid.due(60)] == [("gap", 7), ("gap", 2), (None, 0), (None, 0)]


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=10).map(sorted), start=st.integers(0, 30))
def test_digest_depends_on_the_samples_alone(cuts: list[int], start: int) -> None:
    x = np.random.default_rng(1).standard_normal((2, 400)).astype(np.float32)
    step, n = 20, 75
    digest = AudioDigest(step, n, 2)
    digest.reset(start)
    edges = sorted({start, 400, *(c for c in cuts if c > start)})
    asked = -(-start // step)
    for a, b in itertools.pairwise(edges):
        digest.process(x[:, a:b])
        while asked * step + n <= b:
            first = asked * step
            assert digest.of(asked) == [digest_of(c[first : first + n], step) for c in x]
            asked += 1


def test_digest_changes_with_one_bit_of_one_sample() -> None:
    x = np.random.default_rng(1).standard_normal(75).astype(np.float32)
    y = x.copy()
    y[74] = np.nextafter(y[74], np.float32(9))
    assert digest_of(x, 20) != digest_of(y, 20)


def test_digest_of_a_window_not_fed_is_an_error() -> None:
    digest = AudioDigest(20, 75, 1)
    digest.process(np.zeros((1, 60), np.float32))
    with pytest.raises(LookupError, match="window 0"):
        digest.of(0)


@given(
    bad=st.sets(st.integers(0, 59), max_size=20),
    size=st.integers(1, 60),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_sieve_accounts_for_every_bad_sample_once(bad: set[int], size: int, value: float) -> None:
    x = np.ones((2, 60), np.float32)
    x[1, list(bad)] = value
    sieve = Sieve("s", 0, 1000, 2)
    gaps, holes = [], []
    for a in range(0, 60, size):
        clean, h, g = sieve.process(AudioBlock("s", 0, a, 1000, x[:, a : a + size]))
        assert np.isfinite(clean).all()
        np.testing.assert_array_equal(clean[0], 1.0)
        holes += h
        gaps += g
    gaps += sieve.finish()
    assert {c for c, _ in holes} <= {1}
    inside = {i for _, h in holes for i in range(h.first, h.last)}
    assert bad <= inside
    reported = [i for g in gaps for i in range(g.first_sample, g.first_sample + (g.n_missing or 0))]
    assert len(reported) == len(set(reported))
    assert set(reported) == inside
