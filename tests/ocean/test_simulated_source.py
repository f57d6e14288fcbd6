from __future__ import annotations

import gc
from collections.abc import Sequence

import numpy as np
import pytest

from calibration.ocean import SCENARIOS, OceanStream, ScheduleItem
from calibration.ocean_scene import Encounter
from daemon.frames import AudioBlock, Event, Source, StreamEnd, StreamStart
from daemon.sources.simulated import SimulatedSource
from models.errors import SampleRateError, UsageError


class FakeTime:
    """Clocks that only move when someone sleeps."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000
        self.naps: list[float] = []

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return 1_700_000_000_000_000_000 + self.now_ns

    def sleep(self, s: float) -> None:
        self.naps.append(s)
        self.now_ns += round(s * 1e9)


def make(
    t: FakeTime, *, realtime: bool, duration_s: float | None, channels: Sequence[str] = ("bow", "keel")
) -> SimulatedSource:
    return SimulatedSource(
        fs=2000, channels=channels, realtime=realtime, duration_s=duration_s,
        monotonic_ns=t.monotonic_ns, utc_ns=t.utc_ns, sleep=t.sleep,
    )  # fmt: skip


def drain(source: SimulatedSource, timeout_s: float = 1.0, n_max: int = 10_000) -> list[Event]:
    events: list[Event] = []
    for _ in range(n_max):
        e = source.read(timeout_s)
        if e is not None:
            events.append(e)
        if isinstance(e, StreamEnd):
            return events
    raise AssertionError("the stream does not end")


def test_source_is_a_source_that_can_wait() -> None:
    source: Source = make(FakeTime(), realtime=True, duration_s=1.0)
    assert source.live is False
    assert source.name == "ocean"


def test_source_as_fast_as_possible_gives_the_whole_stream_in_order() -> None:
    t = FakeTime()
    events = drain(make(t, realtime=False, duration_s=5.03))
    start, *blocks, end = events
    assert isinstance(start, StreamStart)
    assert start.channels == ("bow", "keel")
    assert start.t_first_sample_ns is None
    assert start.clock.source == "none"
    position = 0
    for b in blocks:
        assert isinstance(b, AudioBlock)
        assert b.first_sample == position
        assert not b.x.flags.writeable
        position += b.n_samples
    assert position == 10060
    assert end == StreamEnd("ocean", 0, 10060, final=True)
    x = np.concatenate([b.x for b in blocks if isinstance(b, AudioBlock)], axis=1)
    np.testing.assert_array_equal(x, OceanStream(SCENARIOS["standard"], "demo", 0, 2000, 2).read(10060))
    assert t.naps == []


def test_source_after_the_end_gives_nothing() -> None:
    source = make(FakeTime(), realtime=False, duration_s=0.5)
    drain(source)
    assert source.read(0.1) is None
    source.close()
    source.close()
    assert source.read(0.1) is None


def test_source_realtime_gives_the_head_at_once_then_follows_the_clock() -> None:
    t = FakeTime()
    source = make(t, realtime=True, duration_s=12.0)
    start = source.read(0.0)
    assert isinstance(start, StreamStart)
    # sample 0 is as old as the head start is long
    assert start.t_first_sample_ns == t.utc_ns() - 10_000_000_000
    assert start.clock.source == "system"
    assert start.clock.synced is None
    t0 = t.now_ns
    n_at_once = 0
    while (e := source.read(0.0)) is not None:
        assert isinstance(e, AudioBlock)
        n_at_once += e.n_samples
    assert n_at_once == 20000
    assert t.now_ns == t0
    while not isinstance(e := source.read(0.03), StreamEnd):
        if e is not None:
            elapsed = (t.now_ns - t0) / 1e9
            assert isinstance(e, AudioBlock)
            # never before its last sample is over; and, read at once, not later than one timeout
            assert 0.0 <= 10.0 + elapsed - (e.first_sample + e.n_samples) / 2000 <= 0.03 + 1e-6
    assert t.now_ns - t0 == pytest.approx(2e9, abs=1e3)
    assert max(t.naps) <= 0.03


def test_source_realtime_late_reader_loses_nothing() -> None:
    t = FakeTime()
    source = make(t, realtime=True, duration_s=30.0)
    source.read(0.0)
    t.now_ns += 60_000_000_000
    events = drain(source, 0.0)
    assert sum(e.n_samples for e in events if isinstance(e, AudioBlock)) == 60000
    assert t.naps == []


def test_source_tells_what_truly_sounds() -> None:
    source = make(FakeTime(), realtime=False, duration_s=None)
    for _ in range(30):
        source.read(0.0)
    assert len(source.truth_labels_at(0, "bow")) == 1
    assert source.truth_labels_at(0, "keel") == source.truth_labels_at(0, 1)
    with pytest.raises(ValueError, match="stern"):
        source.truth_labels_at(0, "stern")


def test_source_refuses_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="unknown scenario 'calm'"):
        SimulatedSource(scenario="calm")
    with pytest.raises(SampleRateError, match="500 Hz"):
        SimulatedSource(fs=500)
    with pytest.raises(UsageError, match="empty"):
        SimulatedSource(duration_s=0.0)
    with pytest.raises(UsageError, match="head_start_s"):
        SimulatedSource(head_start_s=-1.0)


def test_scenes_that_are_over_are_let_go_at_once() -> None:
    """Without the collector of cycles: an endless sea must not grow between two of its visits."""
    stream = OceanStream(SCENARIOS["standard"], "demo", 3, 2000, 2, [ScheduleItem("vessel_1", 4.0)])
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            stream.read(4 * 2000)
        assert sum(type(o) is Encounter for o in gc.get_objects()) <= 2
    finally:
        gc.enable()
