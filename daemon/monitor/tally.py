"""What happened since the start, counted by label: the one place that status file and metrics read.

The processing thread writes, any thread reads a copy. Keys are bounded: channels, labels of the bundle and reasons.
"""

from __future__ import annotations

import copy
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from daemon.frames import (
    Analysed,
    AudioBlock,
    Backlog,
    ClockState,
    ClockUpdate,
    Contact,
    Event,
    Forensic,
    Gap,
    Health,
    Overload,
    Quality,
    Record,
    Signature,
    Skipped,
    SourceState,
    StreamEnd,
    StreamStart,
)
from models.engines.base import Engine, Tensors

__all__ = ["BUCKETS_S", "Facts", "Histogram", "SourceFacts", "Tally", "TimedEngine"]

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the histogram of engine calls, s."""


@dataclass(slots=True)
class Histogram:
    """How long calls took."""

    n_at: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    """Calls of each bucket, not summed up; the last: longer than all bounds."""
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one call."""
        self.n_at[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds


@dataclass(slots=True)
class SourceFacts:
    """Where a source stands."""

    state: str = "opening"
    """``opening``, ``running``, ``waiting``, ``refused`` or ``ended``."""
    detail: str = ""
    n_retries: int = 0
    """Of the loss under way, or of the last."""
    n_lost: int = 0
    """Times it went from running to waiting."""
    n_restarts: int = 0
    """Times it came back."""
    n_streams: int = 0
    label: str = ""
    epoch: int | None = None
    fs: int = 0
    channels: tuple[str, ...] = ()
    position: int = 0
    """Samples per channel of the epoch, gaps included."""
    n_samples: int = 0
    """Samples per channel that came since the start."""
    t_samples_s: float | None = None
    """When samples last came, CLOCK_MONOTONIC, s."""


@dataclass(slots=True)
class Facts:
    """All counts, at one moment."""

    windows: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By channel and outcome: ``analysed``, or why not."""
    signatures: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    """By channel, label, and whether they are the own ship's."""
    contacts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By label and event."""
    gaps: Counter[str] = field(default_factory=Counter)
    """By reason."""
    lost_samples: Counter[str] = field(default_factory=Counter)
    """By reason; per channel, for gaps whose length is known."""
    lost_s: dict[str, float] = field(default_factory=dict)
    """By reason: length of all gaps, those between epochs estimated, s."""
    t_window_s: dict[str, float] = field(default_factory=dict)
    """When a slot of the channel was last settled, CLOCK_MONOTONIC, s."""
    quality: dict[str, tuple[Quality, float]] = field(default_factory=dict)
    """Of each channel: checks it fails, level in dB re full scale squared."""
    sources: dict[str, SourceFacts] = field(default_factory=dict)
    clock: ClockState = field(default_factory=ClockState)
    n_clock_steps: int = 0
    """Over all epochs."""
    overload_step: int = 0
    n_overloads: int = 0
    """Steps up."""
    backlog: Backlog | None = None
    calls: dict[str, Histogram] = field(default_factory=dict)
    """By graph."""
    n_frozen: int = 0
    forensic_lost_samples: int = 0


class Tally:
    """Counts events, records and engine calls.

    Parameters
    ----------
    now : callable
        CLOCK_MONOTONIC, s.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._lock, self._facts = now, threading.Lock(), Facts()

    def facts(self) -> Facts:
        """A copy that changes no more."""
        with self._lock:
            return copy.deepcopy(self._facts)

    def event(self, event: Event) -> None:
        """Note what the source gave."""
        with self._lock:
            source = self._facts.sources.setdefault(event.source, SourceFacts())
            match event:
                case StreamStart():
                    source.state, source.detail = "running", ""
                    source.label, source.epoch, source.fs = event.label or event.source, event.epoch, event.fs
                    source.channels, source.position = event.channels, 0
                    source.n_streams += 1
                    self._clock(event.clock, fresh=True)
                case AudioBlock():
                    source.position = event.first_sample + event.n_samples
                    source.n_samples += event.n_samples
                    source.t_samples_s = self._now()
                case Gap() if event.n_missing is not None:
                    source.position = event.first_sample + event.n_missing
                case StreamEnd() if event.final:
                    source.state, source.detail = "ended", event.problem
                case SourceState():
                    source.n_lost += event.state == "waiting" and source.state != "waiting"
                    source.n_restarts += event.state == "running" and source.state == "waiting"
                    source.state, source.detail, source.n_retries = event.state, event.detail, event.n_retries
                case ClockUpdate():
                    self._clock(event.clock, fresh=False)

    def backlog(self, backlog: Backlog) -> None:
        """Note how much sound waits."""
        with self._lock:
            self._facts.backlog = backlog

    def record(self, record: Record) -> None:
        """Count what the pipeline made."""
        with self._lock:
            f = self._facts
            match record:
                case Analysed():
                    self._window(record.window.channel, "analysed")
                case Skipped():
                    self._window(record.channel, record.reason)
                case Signature():
                    f.signatures[record.window.channel, record.label, record.own_ship] += 1
                case Contact():
                    f.contacts[record.label, record.event] += 1
                case Gap():
                    f.gaps[record.reason] += 1
                    f.lost_samples[record.reason] += record.n_missing or 0
                    f.lost_s[record.reason] = f.lost_s.get(record.reason, 0.0) + record.duration_ns / 1e9
                case Health():
                    f.quality[record.channel] = record.quality, record.level_db
                case Overload():
                    f.n_overloads += record.step > f.overload_step
                    f.overload_step = record.step
                case Forensic():
                    f.n_frozen += record.event == "frozen"
                    f.forensic_lost_samples = max(f.forensic_lost_samples, record.lost_samples_total)

    def call(self, graph: str, seconds: float) -> None:
        """Count a call of the engine."""
        with self._lock:
            self._facts.calls.setdefault(graph, Histogram()).add(seconds)

    def _window(self, channel: str, outcome: str) -> None:
        self._facts.windows[channel, outcome] += 1
        self._facts.t_window_s[channel] = self._now()

    def _clock(self, clock: ClockState, *, fresh: bool) -> None:
        before = 0 if fresh else self._facts.clock.n_steps
        self._facts.n_clock_steps += max(0, clock.n_steps - before)
        self._facts.clock = clock


class TimedEngine:
    """Another engine, its calls timed; implements :class:`models.engines.base.Engine`."""

    def __init__(self, engine: Engine, tally: Tally) -> None:
        self._engine, self._tally = engine, tally
        self.name, self.precision, self.device = engine.name, engine.precision, engine.device
        self.max_batch, self.graphs = engine.max_batch, engine.graphs

    def run(self, graph: str, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """As the engine does; a call that fails is not counted.

        Raises
        ------
        EngineError
            As the engine raises it.
        """
        began = time.perf_counter()
        out = self._engine.run(graph, tensors)
        self._tally.call(graph, time.perf_counter() - began)
        return out

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()
