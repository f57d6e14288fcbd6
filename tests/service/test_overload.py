"""Too much sound: the daemon leaves out work step by step, says so, and takes it up again; nothing is lost before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.ocean import SCENARIOS, simulate
from daemon import service as service_module
from daemon.config import Config, PublishConfig
from daemon.extract import Extractor, Limits
from daemon.frames import (
    Analysed,
    AudioBlock,
    Backlog,
    ClockState,
    Event,
    Record,
    Signature,
    Skipped,
    StreamEnd,
    StreamStart,
)
from daemon.overload import HOLD_S, STEPS, Ladder
from daemon.pipeline import Pipeline
from daemon.service import Service
from daemon.wire import Message
from models.bundle import Bundle
from models.check import CheckedExplainer
from models.engines import open_engine
from models.explainer import Explainer, graphs_of

FS, SECONDS = 4000, 14
N_SLOTS = 6


class Machine:
    """Analyses ``speed`` seconds of sound a second at each step; sound that waits longer than the ring is lost."""

    def __init__(self, speed: Callable[[int, float], float], ring_s: float = 10.0) -> None:
        self.ladder, self._speed, self._ring_s = Ladder(ring_s), speed, ring_s
        self.now = self.done = self.lost = 0.0
        self.steps: list[tuple[float, int]] = []

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            waiting = self.now - self.done
            if self.ladder.process(waiting, self.done):
                self.steps.append((self.now, self.ladder.n))
            block = min(waiting, 0.25)
            if block < 0.01:
                self.now += 0.01
                continue
            self.now += block / self._speed(self.ladder.n, self.now)
            self.done += block
            if (over := self.now - self.done - self._ring_s) > 0.0:
                self.lost += over
                self.done += over


def test_a_machine_that_keeps_up_leaves_nothing_out() -> None:
    machine = Machine(lambda _n, _t: 1.2)
    machine.run(600.0)
    assert machine.steps == []


def test_a_machine_that_was_stopped_works_it_off_and_leaves_nothing_out() -> None:
    machine = Machine(lambda _n, _t: 4.0)
    machine.run(60.0)
    machine.now += 9.0  # stopped: the ring fills
    machine.run(60.0)
    assert (machine.steps, machine.lost) == ([], 0.0)
    assert machine.now - machine.done < 0.5


def test_a_machine_that_was_stopped_and_is_too_slow_steps_up() -> None:
    machine = Machine(lambda n, _t: 0.9 if n < 3 else 2.0)
    machine.now += 3.0
    machine.run(60.0)
    assert [n for _, n in machine.steps][:3] == [1, 2, 3]
    assert machine.lost == 0.0


@given(st.lists(st.floats(0.4, 0.99), min_size=3, max_size=3))
@settings(max_examples=50, deadline=None)
def test_no_sample_is_lost_where_the_last_step_is_fast_enough(speeds: list[float]) -> None:
    machine = Machine(lambda n, _t: 1.0 + n if n == 3 else sorted(speeds)[n])
    machine.run(900.0)
    assert machine.lost == 0.0
    assert machine.steps[0][1] == 1
    assert all(abs(b - a) == 1 for a, b in itertools.pairwise([0, *(n for _, n in machine.steps)]))


def test_steps_are_gone_up_one_by_one_before_anything_is_lost_and_announced_by_name() -> None:
    machine = Machine(lambda _n, _t: 0.5)
    machine.run(19.0)
    assert machine.lost == 0.0
    assert [n for _, n in machine.steps] == [1, 2, 3]
    assert machine.ladder.step == "names"
    assert "step 3 of 3 (names)" in machine.ladder.words(4.2)
    assert "4.2 s of sound wait" in machine.ladder.words(4.2)
    machine.run(5.0)
    assert machine.lost > 0.0, "a machine too slow for names alone cannot be helped, and the loss shows"


def test_each_step_is_taken_back_after_a_calm_while() -> None:
    machine = Machine(lambda n, t: 4.0 if t > 60.0 else (0.6, 0.8, 0.9, 2.0)[n])
    machine.run(300.0)
    up = [t for t, n in machine.steps if t <= 62.0]
    down = [(t, n) for t, n in machine.steps if t > 62.0]
    assert up
    assert [n for _, n in down] == list(range(down[0][1], -1, -1))
    assert machine.ladder.n == 0
    gaps = np.diff([t for t, _ in down])
    assert (gaps >= HOLD_S - 1.0).all()


def test_a_machine_at_its_limit_does_not_swing_to_and_fro() -> None:
    """Step 0 is a little too slow, step 1 fast enough: each try of step 0 comes later than the one before."""
    machine = Machine(lambda n, _t: 0.9 if n == 0 else 1.5)
    machine.run(3600.0)
    assert machine.lost == 0.0
    tries = [t for t, n in machine.steps if n == 0]
    assert 4 <= len(tries) <= 20
    waits = np.diff(tries)
    assert waits[-1] > 4 * waits[0]


def test_patience_must_be_given() -> None:
    with pytest.raises(ValueError, match="patience_s=0"):
        Ladder(0.0)


@pytest.fixture(scope="module")
def sea() -> np.ndarray:
    return simulate(SCENARIOS["standard"], "test", 810, "vessel_0", float(SECONDS), FS).x


@pytest.fixture(scope="module")
def parts() -> Iterator[tuple]:
    bundle = Bundle.load(Bundle.shipped())
    engine, _ = open_engine(bundle, max_batch=8, graphs=graphs_of(bundle))
    limits = Limits.of(bundle.thresholds, "0.95", 3.0, 2)
    live, full = Explainer(bundle, engine), Explainer(bundle, engine, "full")
    yield bundle.spec, CheckedExplainer(live, full, limits.score, 1), Extractor(bundle.spec, limits)
    engine.close()


def run(parts: tuple, x: np.ndarray, step_at: dict[int, int]) -> list[Record]:
    """Blocks of a quarter second; ``step_at`` maps a second to the step that begins there."""
    pipeline = Pipeline(*parts)
    out: list[Record] = list(pipeline.process(StreamStart("s", 0, FS, ("ch0",))))
    for i in range(4 * SECONDS):
        if i % 4 == 0 and i // 4 in step_at:
            pipeline.leave_out(step_at[i // 4])
        out += pipeline.process(AudioBlock("s", 0, i * FS // 4, FS, x[:, i * FS // 4 : (i + 1) * FS // 4]))
    return out + list(pipeline.process(StreamEnd("s", 0, SECONDS * FS, final=True)))


def slots(records: list[Record]) -> list[Analysed | Skipped]:
    return [r for r in records if isinstance(r, Analysed | Skipped)]


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_every_slot_gives_one_record_at_each_step(parts: tuple, sea: np.ndarray, step: int) -> None:
    whole, less = (slots(run(parts, sea, {0: s})) for s in (0, step))
    assert len(less) == N_SLOTS
    for a, b in zip(whole, less, strict=True):
        assert isinstance(a, Analysed)
        left_out = step >= 2 and a.window.grid_index % 2
        if step == 3 or left_out:
            assert isinstance(b, Skipped)
            assert (b.reason, b.lost_samples, b.grid_index) == ("overload", 0, a.window.grid_index)
            if left_out:
                assert b.probabilities is None
            else:
                np.testing.assert_allclose(b.probabilities, a.verdict.probabilities, atol=1e-5)
            continue
        assert isinstance(b, Analysed)
        assert b.window.overload_step == step
        assert (b.verdict.agreement is None) == (step > 0 or not b.verdict.detections)
        assert [d.label for d in b.verdict.detections] == [d.label for d in a.verdict.detections]


def test_templates_alone_give_nearly_the_same_signature(parts: tuple, sea: np.ndarray) -> None:
    whole, less = ([r for r in run(parts, sea, {0: s}) if isinstance(r, Signature)] for s in (0, 1))
    assert len(whole) == len(less) >= 4
    for a, b in zip(whole, less, strict=True):
        assert (a.mask & b.mask).sum() / (a.mask | b.mask).sum() > 0.8
        assert np.array_equal(a.verdict.detections[0].score > 0.05, b.verdict.detections[0].score > 0.05)


def test_after_overload_all_is_as_if_there_had_been_none(parts: tuple, sea: np.ndarray) -> None:
    never, once = slots(run(parts, sea, {})), slots(run(parts, sea, {9: 1, 10: 3, 12: 0}))
    assert any(isinstance(r, Skipped) for r in once)
    assert isinstance(once[-1], Analysed)
    a, b = never[-1], once[-1]
    assert isinstance(a, Analysed)
    assert np.array_equal(a.window.features, b.window.features)
    assert a.window.audio_digest == b.window.audio_digest
    assert b.window.overload_step == 0
    assert np.array_equal(a.verdict.probabilities, b.verdict.probabilities)


class Card:
    """Live; of what it has given, so much waits as ``waiting_s`` says."""

    name, live = "card", True

    def __init__(self, x: np.ndarray, waiting_s: Callable[[float], float]) -> None:
        self._x, self._waiting_s, self._at = x, waiting_s, -1

    def read(self, timeout_s: float) -> Event | None:
        self._at += 1
        if self._at == 0:
            return StreamStart(self.name, 0, FS, ("ch0",), "card", None, ClockState())
        first = (self._at - 1) * FS // 4
        if first >= self._x.shape[1]:
            return StreamEnd(self.name, 0, self._x.shape[1], final=True)
        return AudioBlock(self.name, 0, first, FS, self._x[:, first : first + FS // 4])

    def backlog(self) -> Backlog:
        return Backlog(self._waiting_s(self._at / 4.0), 10.0)

    def close(self) -> None:
        pass


def test_daemon_announces_each_step_and_takes_it_back(
    sea: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.concatenate([sea] * 5, axis=1)
    card = Card(x, lambda t: 5.0 if 15.0 < t < 18.0 else 0.0)
    monkeypatch.setattr(service_module, "open_source", lambda *_: card)
    messages: list[Message] = []
    service = Service(Config(publish=PublishConfig(endpoints=(f"ipc://{tmp_path}/out",))), messages.append)
    service.start()
    try:
        assert service.finished.wait(120)
    finally:
        service.stop()
    service.raise_failure()
    told = [m.body for m in messages if m.family == "status" and "overload step" in m.body["detail"]]
    assert [t["overload_step"] for t in told] == [1, 2, 3, 2]
    assert "every second window is left out" in told[2]["detail"]
    assert service.counts.n_overloads == 3
    bodies = [m.body for m in messages if m.family == "window"]
    assert [b["grid_index"] for b in bodies] == list(range(len(bodies)))
    assert {b["overload_step"] for b in bodies} >= {0, 3}
    names = [b for b in bodies if b["reason"] == "overload" and b["probabilities"]]
    assert names
    assert all(set(b["probabilities"]) == set(service.in_force.bundle.labels) for b in names)
    assert all(b["lost_samples"] == 0 for b in bodies)
