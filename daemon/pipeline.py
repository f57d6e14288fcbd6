"""THE composition: what happens to an event of a source, from samples to records.

::

    AudioBlock ─► sieve ─► digest ─► front end ─► explainer ─► extractor ─► contacts ─► Analysed, Signature, Contact
                    ├─► DEMON ─────────────────────────────────────────────────────────────────────► Modulated
                    ├─► checks of each channel ────────────────────────────────────────────────────► Health
                    │                                 ▲                        ▲
    Gap ────────────┴─► grid: which slots are due ────┘ slots with a hole ─────┘ Skipped, with the reason

One ``Pipeline`` serves one source; it has no thread, socket or clock. All channels of a stream go through each stage in
one call, and all windows that a block completes through the engine in one batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from daemon.checks.channel import ChannelChecks
from daemon.config import ChecksConfig
from daemon.contacts import Contacts
from daemon.demon import Demon
from daemon.digest import AudioDigest
from daemon.extract import Extractor
from daemon.frames import (
    AudioBlock,
    ClockUpdate,
    Event,
    Gap,
    Quality,
    Record,
    Skipped,
    SourceState,
    StreamEnd,
    StreamStart,
    Window,
)  # fmt: skip
from daemon.grid import Grid, Hole, Slot
from daemon.no_signal import NoSignal
from daemon.overload import STEPS
from daemon.own_ship import heard
from daemon.sieve import Sieve
from models.check import CheckedExplainer
from models.demon import DemonSpec
from models.errors import ConfigError, SampleRateError
from models.explainer import Explainer
from models.features import FeatureSpec, FeatureWindow, FrontEnd

__all__ = ["Pipeline", "with_hop"]

F32 = npt.NDArray[np.float32]

#: Steps of the overload ladder from which every second slot is left out, and from which names are all there is.
HALF, NAMES = STEPS.index("half"), STEPS.index("names")

#: The channels of a slot are explained in so many turns, so that the first is on its way while the last is still
#: looked at; but not fewer windows at a time than these, as several at once cost less than one by one.
TURNS, LEAST_AT_ONCE = 4, 2


def with_hop(spec: FeatureSpec, hop_s: float) -> FeatureSpec:
    """Return ``spec`` with ``hop_s`` between windows; the windows themselves do not change.

    Raises
    ------
    ConfigError
        If the columns of a window are no multiple of that step.
    """
    n = round(hop_s / spec.column_s)
    if n < 1 or abs(n * spec.column_s - hop_s) > 1e-9 or spec.n_time % n:
        usable = [k * spec.column_s for k in range(1, spec.n_time + 1) if spec.n_time % k == 0]
        raise ConfigError(f"window.hop_s = {hop_s}: this bundle allows {', '.join(f'{h:g}' for h in usable)} s")
    return dataclasses.replace(spec, n_time_step=n)


class Pipeline:
    """From the events of one source to records; without ``contacts``, ``demon`` or ``checks`` there are none.

    ``live``: stretches without signal (daemon.no_signal) are faults of the source and not analysed.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        explainer: Explainer | CheckedExplainer,
        extractor: Extractor,
        contacts: Contacts | None = None,
        demon: DemonSpec | None = None,
        checks: ChecksConfig | None = None,
        *,
        live: bool = False,
    ) -> None:
        self._live = live
        self._demon_spec, self._limits = demon, checks
        self._spec, self._explainer, self._extractor, self._contacts = spec, explainer, extractor, contacts
        self._stream: _Stream | None = None
        self._step = 0

    def leave_out(self, step: int) -> None:
        """Go to a step of the overload ladder (`daemon.overload.STEPS`), from the next window on."""
        self._step = step

    def follow(self, before: Pipeline, *, same_contacts: bool) -> list[Record]:
        """Go on in the middle of the stream that ``before`` is at; that one is not to be used again.

        The grid goes on. Where the front end is another, the slots that began before it are ``warm-up``. Contacts go
        on, or end with reason ``reload``: those records are returned, with whatever else was left to tell.

        Raises
        ------
        SampleRateError
            If the front end cannot be used with the stream. ``before`` is then as it was.
        ConfigError
            If its windows are not those of the stream's grid; likewise.
        """
        told: list[Record] = []
        if before._stream is not None:
            told += before._stream.take_on(self._spec, self._demon_spec, self._limits)
        self._stream, self._step = before._stream, before._step
        if same_contacts:
            self._contacts = before._contacts
        elif before._contacts is not None:
            told += before._contacts.finish()
        return told

    def process(self, event: Event) -> Iterator[Record]:
        """Records that follow from one event, in the order they are to be published."""
        for record in self._records(event):
            yield from [record] if self._contacts is None else self._contacts.process(record)

    def _records(self, event: Event) -> Iterator[Record]:
        match event:
            case StreamStart():
                yield event
                try:
                    self._stream = _Stream(event, self._spec, self._demon_spec, self._limits, live=self._live)
                    if self._stream.demon is not None:
                        yield from self._stream.demon.unavailable()
                except SampleRateError as e:
                    self._stream = None
                    yield SourceState(event.source, "refused", f"{event.label or event.source}: {e}")
            case AudioBlock() if self._stream:
                yield from self._block(self._stream, event)
            case Gap():
                yield event
                if self._stream and event.n_missing is not None:
                    yield from self._gap(self._stream, event, event.n_missing)
            case StreamEnd():
                if self._stream:
                    yield from self._stream.sieve.finish()
                    if self._stream.no_signal is not None:
                        yield from self._stream.no_signal.finish()
                    if self._stream.demon is not None:
                        yield from self._stream.demon.finish()
                    event = self._stream.explain_end(event)
                self._stream = None
                yield event
            case SourceState() | ClockUpdate():
                yield event

    def _block(self, stream: _Stream, block: AudioBlock) -> Iterator[Record]:
        x, holes, gaps = stream.sieve.process(block)
        yield from gaps
        if stream.no_signal is not None:
            silent, gaps = stream.no_signal.process(block)
            yield from gaps
            for channel, hole in silent:
                stream.grid.add_hole(hole, channel)
                if stream.demon is not None:
                    stream.demon.hole(channel, hole.first, hole.last)
        for channel, hole in holes:
            stream.grid.add_hole(hole, channel)
            if stream.demon is not None:
                stream.demon.hole(channel, hole.first, hole.last)
            if stream.checks is not None:
                stream.checks.hole(channel, hole.first, hole.last)
        if stream.checks is not None:
            yield from stream.checks.process(x)
        stream.digest.process(x)
        windows = {w.grid_index: w for w in stream.front_end.process(x)}
        due = [slot for slots in stream.grid.due(block.first_sample + block.n_samples) for slot in slots]
        yield from self._slots(stream, due, windows)
        if stream.demon is not None:
            yield from stream.demon.process(x)

    def _gap(self, stream: _Stream, gap: Gap, n_missing: int) -> Iterator[Record]:
        end = gap.first_sample + n_missing
        if stream.no_signal is not None:
            yield from stream.no_signal.reset(end)
        stream.grid.add_hole(Hole(gap.first_sample, end, "gap"))
        stream.front_end.reset(end)
        stream.digest.reset(end)
        if stream.checks is not None:
            stream.checks.reset(end)
        if stream.demon is not None:
            yield from stream.demon.reset(end)
        for slots in stream.grid.due(end):  # one at a time: a gap may be long
            yield from self._slots(stream, slots, {})

    def _slots(self, stream: _Stream, due: list[Slot], done: dict[int, FeatureWindow]) -> Iterator[Record]:
        due = [stream.left_out(s) if self._step >= HALF and s.reason is None and s.grid_index % 2 else s for s in due]
        if self._step >= NAMES:
            yield from self._names(stream, due, done)
            return
        size = max(LEAST_AT_ONCE, -(-len(due) // TURNS))
        for i in range(0, len(due), size):
            yield from self._explained(stream, due[i : i + size], done)

    def _explained(self, stream: _Stream, due: list[Slot], done: dict[int, FeatureWindow]) -> Iterator[Record]:
        windows = {id(s): stream.window(s, done[s.grid_index], self._step) for s in due if s.reason is None}
        explained = self._explainer.explain(
            [w.features for w in windows.values()], [w.spectrum_db for w in windows.values()], by_network=not self._step
        )
        verdicts = dict(zip(windows, explained, strict=True))
        for slot in due:
            if (window := windows.get(id(slot))) is None:
                yield stream.skipped(slot)
                continue
            signatures, lines = self._extractor.process(window, verdicts[id(slot)])
            yield from heard(window, verdicts[id(slot)], signatures, lines)

    def _names(self, stream: _Stream, due: list[Slot], done: dict[int, FeatureWindow]) -> Iterator[Skipped]:
        """What the network says at first sight, and no more."""
        left = [s for s in due if s.reason is None]
        probabilities, _ = self._explainer.classify([done[s.grid_index].features[s.channel] for s in left])
        probabilities.setflags(write=False)
        named = dict(zip(map(id, left), probabilities, strict=True))
        for slot in due:
            yield stream.skipped(slot if slot.reason else stream.left_out(slot), named.get(id(slot)))


class _Stream:
    """The stages that hold state for one epoch."""

    def __init__(
        self,
        start: StreamStart,
        spec: FeatureSpec,
        demon: DemonSpec | None,
        limits: ChecksConfig | None,
        *,
        live: bool,
    ) -> None:
        n_channels = len(start.channels)
        self.start, self.spec = start, spec
        self.limits = limits
        self.front_end = FrontEnd(spec, start.fs, n_channels)
        self.grid = Grid(spec.step(start.fs), spec.n_samples(start.fs), n_channels)
        self.digest = AudioDigest(self.grid.step, self.grid.n_samples, n_channels)
        self.demon_spec, self.demon = demon, None if demon is None else Demon(demon, start)
        self.checks = None if limits is None else ChannelChecks(limits, start)
        self.no_signal = NoSignal(start.source, start.epoch, start.fs, n_channels) if live else None
        self.sieve = Sieve(start.source, start.epoch, start.fs, n_channels)

    def take_on(self, spec: FeatureSpec, demon: DemonSpec | None, limits: ChecksConfig | None) -> list[Record]:
        """Other numbers from the next sample on; what was left to tell of the old ones. All of it or nothing."""
        fs, n_channels, at, told = self.start.fs, len(self.start.channels), self.front_end.position, list[Record]()
        if spec != self.spec:
            front_end = FrontEnd(spec, fs, n_channels)
            if (spec.step(fs), spec.n_samples(fs)) != (self.grid.step, self.grid.n_samples):
                raise ConfigError(f"at {fs} Hz the windows of this bundle are not those of the grid: needs a restart")
            front_end.reset(at)
            self.spec, self.front_end = spec, front_end
            self.grid.add_hole(Hole(at, at, "warm-up"))  # no sample is lost; slots that lie across it are
        if demon != self.demon_spec:
            told += [] if self.demon is None else self.demon.finish()
            self.demon_spec, self.demon = demon, None if demon is None else Demon(demon, self.start)
            if self.demon is not None:
                told += self.demon.unavailable()
                told += self.demon.reset(at)
        if limits != self.limits:
            self.limits, self.checks = limits, None if limits is None else ChannelChecks(limits, self.start)
            if self.checks is not None:
                self.checks.reset(at)
        return told

    def left_out(self, slot: Slot) -> Slot:
        """A slot that is whole, but not analysed."""
        return dataclasses.replace(slot, reason="overload")

    def window(self, slot: Slot, done: FeatureWindow, step: int) -> Window:
        c = slot.channel
        return Window(
            self.start.source, self.start.channels[c], self.start.epoch, slot.grid_index, done.first_sample,
            done.n_samples, self.start.fs, done.features[c], done.spectrum_db[c], done.background_db[c],
            float(done.level_db[c]), self.digest.of(slot.grid_index)[c], step, self._quality(slot),
        )  # fmt: skip

    def skipped(self, slot: Slot, probabilities: F32 | None = None) -> Skipped:
        assert slot.reason is not None
        return Skipped(
            self.start.source, self.start.channels[slot.channel], self.start.epoch, slot.grid_index,
            slot.grid_index * self.grid.step, self.grid.n_samples, self.start.fs, slot.reason, slot.lost_samples,
            probabilities, self._quality(slot),
        )  # fmt: skip

    def _quality(self, slot: Slot) -> Quality | None:
        if self.checks is None:
            return None
        return self.checks.at(slot.channel, slot.grid_index * self.grid.step + self.grid.n_samples)

    def explain_end(self, end: StreamEnd) -> StreamEnd:
        """Say so if the stream was too short for one window."""
        if end.n_samples >= self.grid.n_samples or end.problem:
            return end
        has, needs = end.n_samples / self.start.fs, self.grid.n_samples / self.start.fs
        return dataclasses.replace(end, problem=f"too short: {has:.1f} s, one window needs {needs:.1f} s")
