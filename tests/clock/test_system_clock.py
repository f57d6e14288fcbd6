"""UTC by the system clock: rate and time from stamps that jitter, steps, states; each with its truth known."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from daemon.clock import MAX_LINES, StreamClock
from daemon.clock_fit import fit_marks
from daemon.clock_sync import SyncState, SyncWatch
from daemon.clock_system import StampFit, StepWatch, read_clocks
from daemon.frames import AudioBlock, ClockState, ClockUpdate, Event, StreamStart
from daemon.sources.timed import TimedSource
from tests.clock.card import UTC_0, Card, Machine

FS = 8000
HOUR_NS = 3_600_000_000_000
SYNCED = SyncState(True, 2_000_000, "kernel")


def through(source: TimedSource) -> list[Event]:
    events = []
    while (event := source.read(1.0)) is not None:
        events.append(event)
    source.close()
    return events


def timed(card: Card, machine: Machine, state: SyncState = SYNCED) -> TimedSource:
    return TimedSource(card, clocks=machine, sync=SyncWatch(lambda: state))


def updates(events: list[Event]) -> list[ClockUpdate]:
    return [e for e in events if isinstance(e, ClockUpdate)]


def clock_of(events: list[Event]) -> StreamClock:
    clock = StreamClock(next(e for e in events if isinstance(e, StreamStart)))
    for update in updates(events):
        clock.put(update)
    return clock


@pytest.mark.parametrize("ppm", [200.0, -200.0, 3.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_drift_is_measured_within_the_stated_error_from_stamps_that_jitter_and_lie(ppm: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    machine = Machine()

    def late_ns() -> int:
        glitch = rng.normal(0, 0.3e9) if rng.random() < 0.02 else 0.0
        return round(rng.exponential(2e6) + glitch)  # 2 ms of jitter; one stamp in fifty is 0.3 s off, either way

    card = Card(machine, np.zeros(600 * FS), FS, ppm, late_ns)
    events = through(timed(card, machine))
    state = updates(events)[-1].clock
    assert state.rate_ppm is not None
    assert state.rate_err_ppm is not None
    assert state.fs_measured == pytest.approx(FS * (1 + state.rate_ppm * 1e-6))
    assert abs(state.rate_ppm - ppm) <= 4 * state.rate_err_ppm
    assert state.rate_err_ppm < 0.3
    clock = clock_of(events)
    for sample in range(0, 600 * FS, 10 * FS):
        true = UTC_0 + sample / card.fs_true * 1e9
        got, said = clock.utc_ns(0, sample), clock.state(sample).est_error_ns
        assert got is not None
        assert said is not None
        assert abs(got - true) <= said, sample / FS
        assert said < 6_000_000


def test_least_late_stamp_of_a_second_counts() -> None:
    stamps = StampFit(FS)
    for n in range(0, 60 * FS, FS // 4):
        late = 0 if n % FS == FS // 2 else 40_000_000 + n
        stamps.add(n, round(n * 1e9 / FS) + late)
    fit = stamps.fit()
    assert fit is not None
    assert abs(fit.ppm) < 0.01
    assert abs(fit.t_ns(30 * FS) - 30_000_000_000) < 1000


def test_no_line_is_drawn_through_nonsense() -> None:
    rng = np.random.default_rng(0)
    assert fit_marks(FS, [(n * FS, round(rng.uniform(0, 1e12))) for n in range(100)]) is None
    assert fit_marks(FS, [(n * FS, n * 10**9) for n in range(4)]) is None
    assert fit_marks(FS, [(7, n * 10**9) for n in range(10)]) is None
    assert fit_marks(FS, [(n * FS, n * 1_003_000_000) for n in range(10)]) is None  # 3000 ppm: no card


def test_third_of_wrong_marks_does_not_move_the_line() -> None:
    rng = np.random.default_rng(4)
    marks = [(n * FS, n * 10**9 + (round(rng.uniform(1e8, 5e8)) if n % 4 == 0 else 0)) for n in range(200)]
    fit = fit_marks(FS, marks)
    assert fit is not None
    assert (fit.n_used, fit.n_rejected) == (150, 50)
    assert abs(fit.ppm) < 1e-3
    assert fit.t_ns(100 * FS + 0.5) == 100_000_000_000 + 500_000_000 // FS
    assert fit.sample(fit.t_ns(12_345) + 1) == 12_345


@pytest.mark.parametrize("hours", [1.0, -1.0])
def test_step_of_an_hour_is_announced_and_the_mapping_starts_anew(hours: float) -> None:
    machine = Machine()
    at = 60 * FS
    card = Card(machine, np.zeros(120 * FS), FS, 50.0, at={at: lambda: machine.step(hours * 3600)})
    events = through(timed(card, machine))
    (told,) = [u for u in updates(events) if u.words]
    assert f"the system clock stepped by {hours * 3600:+.6f} s" in told.words
    assert told.clock.n_steps == 1
    assert abs(told.from_sample - at) <= FS // 2  # one block, and what the rate is not known to
    clock = clock_of(events)
    before_and_after = range(0, 120 * FS, FS)
    for a, b in itertools.pairwise(before_and_after):
        t_a, t_b = clock.utc_ns(0, a), clock.utc_ns(0, b)
        assert t_a is not None
        assert t_b is not None
        stepped = clock.state(b).n_steps - clock.state(a).n_steps
        expected = 1e9 * FS / card.fs_true + stepped * hours * HOUR_NS
        assert abs(t_b - t_a - expected) < 1_000_000, (a, b)  # backwards only where the record tells


def test_slewed_clock_is_no_step_and_small_steps_are() -> None:
    machine = Machine()
    watch = StepWatch(machine())
    for _ in range(10):
        machine.monotonic_ns += 250_000_000
        machine.offset_ns += 4_000_000
        assert watch.look(machine()) == 0
    machine.offset_ns -= 6_000_000
    assert watch.look(machine()) == -6_000_000
    assert watch.n_steps == 1


def test_frozen_for_ten_seconds_while_the_clock_is_set() -> None:
    """The card goes on, the daemon does not: what it finds waiting is timed by one clock or the other, and told."""
    machine = Machine()

    def freeze() -> None:
        machine.monotonic_ns += 10_000_000_000
        machine.step(-3600.0)

    at = 40 * FS
    card = Card(machine, np.zeros(90 * FS), FS, at={at: freeze})
    events = through(timed(card, machine))
    (told,) = [u for u in updates(events) if u.words]
    clock = clock_of(events)
    assert abs(told.from_sample - at) <= FS // 2
    true = UTC_0 + 80 * 10**9 - HOUR_NS
    got = clock.utc_ns(0, 80 * FS)
    assert got is not None
    assert abs(got - true) < 1_000_000
    assert [e.first_sample for e in events if isinstance(e, AudioBlock)] == list(range(0, 90 * FS, FS // 4))


def test_what_was_waiting_when_the_clock_was_set_keeps_the_time_it_was_taken_at() -> None:
    machine = Machine()

    def fall_behind() -> None:
        machine.monotonic_ns += 10_000_000_000

    card = Card(machine, np.zeros(90 * FS), FS, at={40 * FS: fall_behind, 42 * FS: lambda: machine.step(3600.0)})
    events = through(timed(card, machine))
    (told,) = [u for u in updates(events) if u.words]
    assert abs(told.from_sample - 50 * FS) <= FS // 2  # ten seconds behind: taken before the clock was set
    clock = clock_of(events)
    for second, stepped in ((41, 0), (45, 0), (49, 0), (51, 1), (80, 1)):
        got = clock.utc_ns(0, second * FS)
        assert got is not None
        assert abs(got - (UTC_0 + second * 10**9 + stepped * HOUR_NS)) < 1_000_000, second
        assert clock.state(second * FS).n_steps == stepped


def test_state_of_the_system_clock_is_in_every_update_and_its_change_told() -> None:
    states = iter([SyncState(False, None, "kernel")] * 3 + [SYNCED] * 1000)
    machine = Machine()
    watch = SyncWatch(lambda: next(states), every_s=0.001)
    card = Card(machine, np.zeros(30 * FS), FS, latency_ns=100_000_000)
    source = TimedSource(card, clocks=machine, sync=watch)
    start = source.read(1.0)
    assert isinstance(start, StreamStart)
    assert start.clock.synced is False
    assert start.clock.est_error_ns is None  # it may be off by anything
    while watch.state is not SYNCED:
        time.sleep(0.001)
    told = [u for u in updates(through(source)) if u.words]
    assert [u.words for u in told] == ["the system clock is synchronised (kernel)"]
    assert told[0].clock.synced is True
    error = told[0].clock.est_error_ns
    assert error is not None
    assert 102_000_000 <= error < 103_000_000  # the clock's and the card's latency


def test_card_at_another_rate_than_it_says_is_told() -> None:
    machine = Machine()
    card = Card(machine, np.zeros(60 * FS), FS, 900.0)
    told = [u.words for u in updates(through(timed(card, machine))) if u.words]
    assert len(told) == 1
    assert "the sample clock is off by +900.0 ppm (8007.200 Hz)" in told[0]


def test_time_said_once_of_a_sample_is_never_said_otherwise() -> None:
    rng = np.random.default_rng(9)
    machine = Machine()
    card = Card(machine, np.zeros(120 * FS), FS, 80.0, lambda: round(rng.exponential(5e6)))
    events = through(timed(card, machine))
    clock = StreamClock(next(e for e in events if isinstance(e, StreamStart)))
    said: dict[int, int | None] = {}
    for event in events:
        if isinstance(event, ClockUpdate):
            clock.put(event)
        elif isinstance(event, AudioBlock):
            first = event.first_sample + event.n_samples - round(8.4 * FS)  # of the window that ends here
            said.update({first: clock.utc_ns(0, first)} if first >= 0 else {})
    assert len(said) > 400
    assert {n: clock.utc_ns(0, n) for n in said} == said
    assert list(said.values()) == sorted(said.values(), key=lambda t: t or 0)


def test_stream_clock_keeps_steps_when_it_thins_its_memory() -> None:
    start = StreamStart("s", 0, FS, ("ch0",), "", 0, ClockState("system"))
    clock = StreamClock(start)
    step = 101
    for k in range(1, 3 * MAX_LINES):
        t = k * 10**9 + (HOUR_NS if k >= step else 0)
        clock.put(ClockUpdate("s", 0, k * FS, t, ClockState("system", n_steps=int(k >= step))))
    assert clock.utc_ns(0, step * FS) == step * 10**9 + HOUR_NS
    assert clock.utc_ns(0, step * FS - 1) == step * 10**9 - 125_000
    assert clock.utc_ns(1, 0) is None
    clock.put(ClockUpdate("s", 1, 0, 5, ClockState()))
    assert clock.utc_ns(0, 0) == 0


def test_clocks_of_this_machine_are_read_together() -> None:
    a, b = read_clocks(), read_clocks()
    assert b.monotonic_ns >= a.monotonic_ns
    assert abs(b.offset_ns - a.offset_ns) < 1_000_000_000
