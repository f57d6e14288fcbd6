"""A pulse per second on a spare channel: simulated with exact truth, missing and false pulses, drift and noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from daemon.clock import StreamClock
from daemon.clock_sync import SyncState, SyncWatch
from daemon.config import SourceConfig
from daemon.frames import AudioBlock, ClockUpdate, Event, Gap, StreamStart
from daemon.open_source import open_source
from daemon.pps import PulseFinder
from daemon.pps_clock import PulseClock
from daemon.sources.timed import TimedSource
from models.errors import AudioFormatError, ConfigError
from tests.clock.card import UTC_0, Card, Machine, pulses

FS = 8000
SYNCED = SyncState(True, 1_000_000, "kernel")


def edges_of(seconds: int, fs_true: float, utc_0_ns: int = UTC_0) -> list[float]:
    """Samples at which whole UTC seconds begin."""
    first = -utc_0_ns % 1_000_000_000 / 1e9
    return [(first + k) * fs_true for k in range(seconds) if (first + k + 0.2) < seconds]


def gps_card(machine: Machine, seconds: int, ppm: float, edges: list[float], latency_ns: int = 0, **more) -> Card:  # noqa: ANN003
    rng = np.random.default_rng(5)
    n = seconds * FS
    sea = rng.normal(0, 0.1, n)
    wire = pulses(n, edges, FS) + rng.normal(0, 0.002, n)
    return Card(machine, np.stack([sea, wire]), FS, ppm, lambda: round(rng.exponential(3e6)), latency_ns, **more)


def through(source: TimedSource) -> tuple[StreamClock, list[Event]]:
    events = []
    while (event := source.read(1.0)) is not None:
        events.append(event)
    source.close()
    clock = StreamClock(next(e for e in events if isinstance(e, StreamStart)))
    for e in events:
        if isinstance(e, ClockUpdate):
            clock.put(e)
    return clock, events


def words(events: list[Event]) -> list[str]:
    return [e.words for e in events if isinstance(e, ClockUpdate) and e.words]


@pytest.mark.parametrize("fs", [2000, 8000, 48_000, 192_000])
def test_edges_are_found_to_a_fiftieth_of_a_sample(fs: int) -> None:
    seconds = 12
    fs_true = fs * (1 + 200e-6)
    true = [(k + 0.37123) * fs_true for k in range(seconds - 1)]
    noise = np.random.default_rng(1).normal(0, 0.002, seconds * fs)
    x = (pulses(seconds * fs, true, fs) + noise).astype(np.float32)
    found = PulseFinder(fs).process(x)
    assert len(found) == len(true)
    assert np.abs(np.array(found) - true).max() < 0.02


@pytest.mark.parametrize("offset", [-0.3, 0.2])
def test_offset_hum_and_ac_coupling_do_not_hide_the_edges(offset: float) -> None:
    true = [(k + 0.6) * FS + 0.25 * k for k in range(14)]
    t = np.arange(15 * FS) / FS
    x = pulses(t.size, true, FS) + offset + 0.02 * np.sin(2 * np.pi * 50 * t)
    decay = np.exp(-1 / (0.5 * FS))  # a converter's high pass, 0.3 Hz
    y, state, before = np.empty(t.size), 0.0, x[0]
    for n in range(t.size):
        state = decay * (state + x[n] - before)
        before = x[n]
        y[n] = state
    found = PulseFinder(FS).process(y.astype(np.float32))
    assert len(found) == len(true)
    assert np.abs(np.array(found) - true).max() < 0.1


def test_blocks_of_any_size_give_the_same_edges() -> None:
    x = (pulses(6 * FS, [0.4 * FS + k * FS for k in range(6)], FS)).astype(np.float32)
    whole = PulseFinder(FS).process(x)
    assert len(whole) == 5  # the last second waits for what follows it
    for size in (1, 480, 1000, 7919):
        finder = PulseFinder(FS)
        cut = [edge for k in range(0, x.size, size) for edge in finder.process(x[k : k + size])]
        assert cut == whole, size


def test_noise_alone_holds_no_edge() -> None:
    x = np.random.default_rng(3).normal(0, 0.1, 60 * FS).astype(np.float32)
    assert PulseFinder(FS).process(x) == []
    assert PulseFinder(FS).process(np.zeros(3 * FS, np.float32)) == []


def test_utc_by_pulses_through_drift_missing_and_false_pulses_is_right_to_microseconds() -> None:
    rng = np.random.default_rng(11)
    seconds, ppm = 150, 200.0
    machine = Machine()
    fs_true = FS * (1 + ppm * 1e-6)
    true = edges_of(seconds, fs_true)
    heard = [e for e in true if rng.random() > 0.2]  # one in five is missing
    false = [float(rng.uniform(0, (seconds - 1) * FS)) for _ in range(seconds // 5)]
    card = gps_card(machine, seconds, ppm, heard + false, latency_ns=400_000_000)  # the card's blocks come 0.4 s late
    source = TimedSource(card, pps="ch1", clocks=machine, sync=SyncWatch(lambda: SYNCED))
    clock, events = through(source)
    assert words(events) == ["pulses found: UTC is by the pulse per second"]
    start = next(e for e in events if isinstance(e, StreamStart))
    assert start.channels == ("ch0",)
    assert start.clock.source == "system"
    assert {e.x.shape[0] for e in events if isinstance(e, AudioBlock)} == {1}
    state = clock.state()
    assert (state.source, state.synced, state.n_steps) == ("pps", True, 0)
    assert state.rate_ppm == pytest.approx(ppm, abs=0.2)
    assert state.rate_err_ppm is not None
    assert abs(state.rate_ppm - ppm) <= 4 * state.rate_err_ppm
    errors = []
    for sample in range(25 * FS, seconds * FS, FS):  # with so many missing it takes that long to be sure
        got, said = clock.utc_ns(0, sample), clock.state(sample).est_error_ns
        assert got is not None
        assert said is not None
        assert clock.state(sample).source == "pps"
        errors.append((abs(got - (UTC_0 + sample / fs_true * 1e9)), said))
    assert max(e for e, _ in errors) < 20_000  # ns: a sixth of a sample
    assert np.mean([e <= said for e, said in errors]) > 0.9
    assert max(said for _, said in errors) < 50_000


def test_as_many_false_pulses_as_true_ones_are_told_apart() -> None:
    rng = np.random.default_rng(2)
    clock = PulseClock(FS)
    marks = [(k * 8000.4, True) for k in range(1, 100)] + [(rng.uniform(0, 99 * FS), False) for _ in range(100)]
    for edge, _ in sorted(marks):
        clock.add(edge, round(edge / FS * 1e9) + 120_000_000)
    fit = clock.fit(99 * FS)
    assert fit is not None
    assert fit.ppm == pytest.approx(50.0, abs=0.01)
    assert abs(fit.t_ns(80_004.0) - 10_000_000_000) < 1_000  # edge 10 begins second 10


def test_pulses_that_stop_are_told_and_the_system_clock_takes_over() -> None:
    machine = Machine()
    edges = [e for e in edges_of(80, FS) if e < 40 * FS]
    card = gps_card(machine, 80, 0.0, edges)
    clock, events = through(TimedSource(card, pps="ch1", clocks=machine, sync=SyncWatch(lambda: SYNCED)))
    assert words(events) == [
        "pulses found: UTC is by the pulse per second",
        "no pulses any more: UTC is by the system clock",
    ]
    assert clock.state(30 * FS).source == "pps"
    assert clock.state().source == "system"
    got = clock.utc_ns(0, 79 * FS)
    assert got is not None
    assert abs(got - (UTC_0 + 79 * 10**9)) < 3_000_000


def test_second_is_named_anew_after_a_step_of_the_clock() -> None:
    machine = Machine()
    card = gps_card(machine, 60, 30.0, edges_of(60, FS * 1.00003), at={30 * FS: lambda: machine.step(-3600.0)})
    clock, events = through(TimedSource(card, pps="ch1", clocks=machine, sync=SyncWatch(lambda: SYNCED)))
    assert [w.split(" by ")[0] for w in words(events)][1] == "the system clock stepped"
    got = clock.utc_ns(0, 50 * FS)
    assert got is not None
    assert abs(got - (UTC_0 + 50 * FS / card.fs_true * 1e9 - 3600 * 10**9)) < 20_000
    assert (clock.state(50 * FS).source, clock.state(50 * FS).n_steps) == ("pps", 1)


def test_pulses_do_not_vouch_for_a_second_that_nobody_vouches_for() -> None:
    machine = Machine()
    card = gps_card(machine, 30, 0.0, edges_of(30, FS))
    unsynced = SyncWatch(lambda: SyncState(False, None, "kernel"))
    clock, _ = through(TimedSource(card, pps="ch1", clocks=machine, sync=unsynced))
    state = clock.state()
    assert (state.source, state.synced, state.est_error_ns) == ("pps", False, None)


def test_synchronised_clock_of_unstated_error_names_the_second_all_the_same() -> None:
    machine = Machine()
    card = gps_card(machine, 30, 0.0, edges_of(30, FS))
    vague = SyncWatch(lambda: SyncState(True, None, "timedatectl"))
    clock, events = through(TimedSource(card, pps="ch1", clocks=machine, sync=vague))
    start = next(e for e in events if isinstance(e, StreamStart))
    assert start.clock.est_error_ns is None
    state = clock.state()
    assert (state.source, state.synced) == ("pps", True)
    assert state.est_error_ns is not None
    assert state.est_error_ns < 50_000


def test_card_whose_latency_could_hide_half_a_second_gives_its_rate_only() -> None:
    machine = Machine()
    card = gps_card(machine, 40, 200.0, edges_of(40, FS * 1.0002), latency_ns=1_000_000_000)
    clock, events = through(TimedSource(card, pps="ch1", clocks=machine, sync=SyncWatch(lambda: SYNCED)))
    assert words(events) == []
    state = clock.state()
    assert state.source == "system"
    assert state.rate_ppm == pytest.approx(200.0, abs=0.5)


def test_gap_does_not_make_an_edge() -> None:
    finder = PulseFinder(FS)
    ramp = np.full(3 * FS, -0.4, np.float32)
    assert finder.process(ramp) == []
    finder.reset(5 * FS)
    assert finder.process(-ramp) == []


def gps_recording(path: Path, ppm: float, t_ns: int | None) -> float:
    soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")
    fs_true = FS * (1 + ppm * 1e-6)
    utc_0 = t_ns if t_ns is not None else UTC_0
    card = gps_card(Machine(), 40, ppm, edges_of(40, fs_true, utc_0))
    soundfile.write(path, card._x.T, FS, subtype="FLOAT")
    if t_ns is not None:
        path.with_suffix(".json").write_text(json.dumps({"t_first_sample_ns": t_ns}))
    return fs_true


def test_recording_with_a_channel_of_pulses_is_timed_by_them(tmp_path: Path) -> None:
    """Its own start time, right to 0.1 s, names the seconds."""
    t_ns = 1_700_000_000_900_000_000
    path = tmp_path / "sea.wav"
    fs_true = gps_recording(path, -150.0, t_ns)
    path.with_suffix(".json").write_text(json.dumps({"t_first_sample_ns": t_ns + 100_000_000}))
    source = open_source(SourceConfig(kind="file", path=str(path), pps_channel=1))
    assert isinstance(source, TimedSource)
    clock, _ = through(source)
    got = clock.utc_ns(0, 30 * FS)
    assert got is not None
    assert abs(got - (t_ns + 30 * FS / fs_true * 1e9)) < 20_000
    assert clock.state().source == "pps"
    assert clock.state().rate_ppm == pytest.approx(-150.0, abs=0.5)


def test_recording_of_unknown_time_has_its_rate_measured_and_no_time_claimed(tmp_path: Path) -> None:
    gps_recording(tmp_path / "sea.wav", 90.0, None)
    clock, _ = through(open_source(SourceConfig(kind="file", path=str(tmp_path / "sea.wav"), pps_channel=1)))
    assert clock.utc_ns(0, 30 * FS) is None
    assert clock.state().source == "none"
    assert clock.state().rate_ppm == pytest.approx(90.0, abs=0.5)


def test_pulse_channel_that_does_not_exist_is_named(tmp_path: Path) -> None:
    gps_recording(tmp_path / "sea.wav", 0.0, None)
    source = open_source(SourceConfig(kind="file", path=str(tmp_path / "sea.wav"), pps_channel=2))
    with pytest.raises(AudioFormatError, match="pps_channel is ch2, the channels are ch0, ch1"):
        source.read(0.0)
    with pytest.raises(AudioFormatError, match="there is no channel 2"):
        open_source(SourceConfig(kind="file", path=str(tmp_path / "sea.wav"), channels=(0,), pps_channel=2))
    with pytest.raises(ConfigError, match=r"also in source\.channels"):
        SourceConfig(kind="file", path="x", channels=(0, 1), pps_channel=1)


def test_gaps_and_ends_pass_through() -> None:
    class Broken(Card):
        def read(self, timeout_s: float) -> Event | None:
            event = super().read(timeout_s)
            if isinstance(event, AudioBlock) and event.first_sample == FS:
                return Gap(self.name, 0, FS, event.n_samples, 1, 0, "lost")
            return event

    machine = Machine()
    source = TimedSource(Broken(machine, np.zeros((2, 3 * FS)), FS), pps="ch0", clocks=machine)
    _, events = through(source)
    assert sum(isinstance(e, Gap) for e in events) == 1
    assert next(e for e in events if isinstance(e, StreamStart)).channels == ("ch1",)
