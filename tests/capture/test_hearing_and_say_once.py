"""When a card that gives samples counts as lost, from where on it is heard again; and what of it is logged."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from daemon.capture.hearing import HEARD_S, Hearing
from daemon.config import Config
from daemon.frames import Gap, SourceState
from daemon.ring import SampleRing
from daemon.say_once import SayOnce
from daemon.service import MAX_PROBLEMS, Service

FS = 8000


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(0, 0.01, (2, n)).astype(np.float32)


def test_card_is_lost_when_all_channels_are_silent_for_so_long_and_not_before() -> None:
    hearing = Hearing(FS, 2, 2.0)
    hearing.process(noise(FS))
    one = noise(4 * FS)
    one[0] = 0.0
    hearing.process(one)
    assert not hearing.lost  # the other channel is heard
    zeros = np.zeros((2, FS), np.float32)
    hearing.process(zeros)
    assert not hearing.lost
    hearing.process(zeros)
    hearing.process(zeros)
    assert hearing.lost == "no signal: all samples are 0, on all channels for 2 s"
    hearing.process(noise(FS))
    assert not hearing.lost


def test_card_without_a_number_is_lost_too() -> None:
    hearing = Hearing(FS, 2, 2.0)
    hearing.process(np.full((2, 3 * FS), np.nan, np.float32))
    assert "samples that are no numbers" in hearing.lost


def test_zero_seconds_mean_never() -> None:
    hearing = Hearing(FS, 2, 0.0)
    hearing.process(np.zeros((2, 60 * FS), np.float32))
    assert not hearing.lost


def test_samples_before_a_loss_do_not_count() -> None:
    hearing = Hearing(FS, 2, 2.0)
    hearing.process(np.zeros((2, round(1.9 * FS)), np.float32))
    hearing.reset(10 * FS)
    hearing.process(np.zeros((2, round(1.9 * FS)), np.float32))
    assert not hearing.lost


def test_listening_finds_where_signal_begins_even_if_the_ring_came_round() -> None:
    ring = SampleRing.create(bytearray(SampleRing.n_bytes(2, 2 * FS)), 2, 2 * FS)
    hearing = Hearing(FS, 2, 2.0)
    ring.write(np.zeros((3 * FS, 2), np.float32), 0)  # more than it holds
    assert hearing.listen(ring) is None
    ring.write(noise(round(HEARD_S * FS / 2)).T, 0)
    assert hearing.listen(ring) is None
    ring.write(noise(FS).T, 0)
    begin = hearing.listen(ring)
    assert 3 * FS <= begin < 3 * FS + 0.04 * FS


def test_line_that_comes_again_is_logged_a_few_times_and_then_counted() -> None:
    say = SayOnce(n_burst=2, span_s=60.0)
    assert say.passes("child 1: died", 0.0) == "child 1: died"
    assert say.passes("child 2: died", 1.0).startswith("child 2: died (more of these within 60 s are counted only")
    assert [say.passes(f"child {n}: died", 2.0) for n in range(3, 20)] == [None] * 17
    assert say.passes("card is back", 2.0) == "card is back"
    assert say.passes("child 99: died", 61.0) == "child 99: died (the same 17 times in between, not logged)"


def test_memory_of_what_was_logged_is_bounded() -> None:
    say = SayOnce(n_kept=10)
    for k in range(1000):
        say.passes("x" * (k + 1), 0.0)
    assert len(say._said) == 10


def test_source_that_dies_all_day_does_not_fill_log_or_memory(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    service = Service(Config(state_dir=str(tmp_path)))
    with caplog.at_level(logging.INFO, "daemon.service"):
        for n in range(3000):
            service._count(SourceState("card", "waiting", f"the capture process died (exit code {n})", n))
            service._count(SourceState("card", "refused", f"does not open at {n} Hz", n))
            service._count(Gap("card", n, 48_000 * n, None, 10**9 + n, 10**6, "the capture process died"))
            service._count(SourceState("card", "running", "hydro is back", n))
    assert len(caplog.records) <= 4 * 3
    assert len(service.problems) == MAX_PROBLEMS
    assert service.counts.n_gaps == 3000
