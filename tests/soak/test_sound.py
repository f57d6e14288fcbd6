"""The sound of a soak is spoilt where it says so, to the sample, over as many rounds as it is played."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from tests.soak.sound import N_SPOILT, Loop


@pytest.fixture(scope="module")
def loop() -> Loop:
    return Loop.render(2000, 2, 10.0)


def test_spoilt_samples_are_counted_as_they_are(loop: Loop) -> None:
    bad = np.isnan(np.concatenate([loop.x] * 3, axis=1))
    rng = np.random.default_rng(1)
    for _ in range(200):
        first, n = int(rng.integers(0, 50_000)), int(rng.integers(0, 10_000))
        for c in range(2):
            assert loop.n_spoilt(c, first, n) == bad[c, first : first + n].sum()
    assert loop.n_spoilt(0, 0, 2 * loop.x.shape[1]) == 2 * N_SPOILT


def test_what_is_played_is_the_loop_over_and_over(loop: Loop) -> None:
    n = loop.x.shape[1] + 777
    read_end, write_end = os.pipe()

    def play() -> None:
        loop.play(write_end, n)
        os.close(write_end)

    player = threading.Thread(target=play)
    player.start()
    with os.fdopen(read_end, "rb") as f:
        data = f.read()
    player.join()
    got = np.frombuffer(data, "<f4").reshape(-1, 2).T
    np.testing.assert_array_equal(got, np.concatenate([loop.x, loop.x[:, :777]], axis=1))
