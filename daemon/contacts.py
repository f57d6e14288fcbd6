"""From windows to contacts: what persists starts a contact, what is gone ends it, what belongs together is linked.

``Contacts`` stands behind the extractor: it hands every record on and adds its own behind the last record of the window
they follow from, ``end`` before the record that ends the stream. Each label, ``unknown`` included, has a contact of its
own on each channel, so several ships are several contacts, which may overlap in time.

No clock: time is a sample index. A record ``update`` is due with a window in which the contact is heard, at least one
second of sound after its last record. Slots that were not analysed count as neither heard nor unheard; a contact ends
with reason ``gap`` at the first slot by which more than ``m`` steps of the grid are certain to lie in no window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from daemon.contact_lines import LineTracks
from daemon.contact_rule import ContactRule, Persistence, score_of
from daemon.frames import Analysed, Contact, Record, Signature, Skipped, StreamEnd, StreamStart, TonalLine, Window
from models.features import FeatureSpec

__all__ = ["Contacts"]

UPDATE_S = 1.0
"""Least time between two records of one contact, s of sound; start and end always come."""


class Contacts:
    """Stage from records to records and contacts.

    Parameters
    ----------
    spec : FeatureSpec
        With the step between windows that is in use.
    rule : ContactRule
    """

    def __init__(self, spec: FeatureSpec, rule: ContactRule) -> None:
        self._spec, self._rule = spec, rule
        self._channels: dict[tuple[str, str], _Channel] = {}

    def process(self, record: Record) -> Iterator[Record]:
        """The record itself, and the contacts that start, go on or end with it."""
        match record:
            case StreamStart() | StreamEnd():
                for key in [k for k in self._channels if k[0] == record.source]:
                    yield from self._channels.pop(key).finish("ended")
                yield record
            case Analysed():
                yield record
                yield from self._channel(record.window).analysed(record.window, record.n_signatures)
            case Signature(own_ship=True):
                yield record
            case Signature():
                yield record
                yield from self._channel(record.window).signature(record)
            case Skipped():
                yield record
                yield from self._channel(record).skipped(record)
            case _:
                yield record

    def finish(self) -> Iterator[Contact]:
        """End what is held: from here on something else listens, with other labels or another rule."""
        for key in sorted(self._channels):
            yield from self._channels.pop(key).finish("reload")

    def reset(self) -> None:
        """Forget all streams; contacts that are held end without a record."""
        self._channels.clear()

    def _channel(self, slot: Window | Skipped) -> _Channel:
        key = (slot.source, slot.channel)
        if key not in self._channels:
            self._channels[key] = _Channel(slot, self._spec, self._rule)
        return self._channels[key]


class _Channel:
    """All labels of one channel within one epoch."""

    def __init__(self, slot: Window | Skipped, spec: FeatureSpec, rule: ContactRule) -> None:
        self._spec, self._rule = spec, rule
        self._step, self._span_s = spec.step(slot.fs), spec.n_time * spec.column_s
        self._labels: dict[str, _Label] = {}
        self._heard_until: int | None = None  # end of the last analysed window
        self._n_skipped = 0
        self._window: Window | None = None
        self._signatures: list[Signature] = []
        self._n_due = 0

    def analysed(self, window: Window, n_signatures: int) -> Iterator[Contact]:
        self._window, self._signatures, self._n_due = window, [], n_signatures
        if n_signatures == 0:
            yield from self._complete(window)

    def signature(self, signature: Signature) -> Iterator[Contact]:
        if self._window is not signature.window or len(self._signatures) >= self._n_due:
            raise ValueError(f"signature {signature.label} does not belong to the window before it")
        self._signatures.append(signature)
        if len(self._signatures) == self._n_due:
            yield from self._complete(signature.window)

    def skipped(self, slot: Skipped) -> Iterator[Contact]:
        self._n_skipped += 1
        # the next window begins one step on at the earliest: what lies before it and behind the last one is unheard
        yield from self._forget_beyond(slot.first_sample + self._step)

    def finish(self, reason: Literal["gap", "ended", "reload"]) -> Iterator[Contact]:
        """End what is held and forget the rest."""
        for name in sorted(self._labels):
            yield from self._labels[name].finish(reason)
        self._labels.clear()
        self._heard_until = None

    def _forget_beyond(self, next_window: int) -> Iterator[Contact]:
        if self._heard_until is not None and next_window - self._heard_until > self._rule.m * self._step:
            yield from self.finish("gap")

    def _complete(self, window: Window) -> Iterator[Contact]:
        yield from self._forget_beyond(window.first_sample)  # slots may be missing that nobody told of
        by_label: dict[str, Signature] = {}
        for s in self._signatures:  # should a label stand twice in a window, the clearer one counts
            if s.label not in by_label or score_of(s, self._span_s) > score_of(by_label[s.label], self._span_s):
                by_label[s.label] = s
        for name in by_label.keys() - self._labels.keys():
            self._labels[name] = _Label(name, self._spec, self._rule)
        for name in sorted(self._labels):
            yield from self._labels[name].process(window, by_label.get(name), self._n_skipped)
        self._labels = {name: label for name, label in self._labels.items() if not label.idle}
        self._heard_until = window.first_sample + window.n_samples


@dataclass(frozen=True, slots=True)
class _Seen:
    """One analysed window as one label sees it."""

    slot: tuple[int, int]
    """First sample, and the one behind the last."""
    n_skipped: int
    """Slots of the channel that were not analysed, up to here."""
    heard: bool
    """The label is in it, clearly enough to hold a contact."""
    probability: float = -math.inf
    score: float = -math.inf
    lines: tuple[TonalLine, ...] = ()


def foreign(signature: Signature) -> tuple[TonalLine, ...]:
    """Lines that are not the own ship's."""
    return tuple(x for x in signature.lines if not x.own_ship)


class _Label:
    """One label of one channel: its recent windows, and its contact if there is one."""

    def __init__(self, name: str, spec: FeatureSpec, rule: ContactRule) -> None:
        self._name, self._rule, self._spec = name, rule, spec
        self._persistence = Persistence(rule, name)
        self._recent: deque[_Seen] = deque(maxlen=rule.m)
        self._held: _Held | None = None

    @property
    def idle(self) -> bool:
        return self._persistence.idle

    def process(self, window: Window, signature: Signature | None, n_skipped: int) -> Iterator[Contact]:
        """Take in one analysed window; ``n_skipped`` slots of the channel were not, up to now."""
        score = None if signature is None else score_of(signature, self._spec.n_time * self._spec.column_s)
        slot = window.first_sample, window.first_sample + window.n_samples
        if signature is not None and score is not None and self._persistence.hears(score):
            seen = _Seen(slot, n_skipped, True, signature.probability, score, foreign(signature))
        else:
            seen = _Seen(slot, n_skipped, False)
        change = self._persistence.process(score)
        if change == "end":
            yield from self.finish("lost")
        elif self._held is not None:
            self._held.add(seen)
            if seen.heard and self._held.update_due:
                yield self._held.told("update", "heard")
        else:
            self._recent.append(seen)
            if change == "start":
                self._held = self._begin(window)
                yield self._held.told("start", "heard")

    def finish(self, reason: Literal["lost", "gap", "ended", "reload"]) -> Iterator[Contact]:
        """End the contact, if there is one, and forget what was counted."""
        if self._held is not None:
            yield self._held.told("end", reason)
        self._held = None
        self._recent.clear()
        self._persistence.reset()

    def _begin(self, window: Window) -> _Held:
        """A contact of the recent windows, from the first on in which the label was heard."""
        while not self._recent[0].heard:
            self._recent.popleft()
        tracks = LineTracks(self._spec.bin_hz, self._rule.m)
        held = _Held(self._name, (window.source, window.channel, window.epoch, window.fs), self._recent[0], tracks)
        for seen in self._recent:
            held.add(seen)
        self._recent.clear()
        return held


class _Held:
    """A contact that has started."""

    def __init__(self, label: str, stream: tuple[str, str, int, int], first: _Seen, tracks: LineTracks) -> None:
        self._label, self._stream, self._first, self._tracks = label, stream, first, tracks
        self._fs = stream[3]
        self._n_windows = self._n_skipped = 0
        self._end = self._told_at = first.slot[0]
        self._peak_probability = self._peak_score = -math.inf

    def add(self, seen: _Seen) -> None:
        self._tracks.process(seen.lines, (seen.slot[0] - self._first.slot[0]) / self._fs)
        if seen.heard:
            self._n_windows += 1
            self._n_skipped = seen.n_skipped - self._first.n_skipped
            self._end = seen.slot[1]
            self._peak_probability = max(self._peak_probability, seen.probability)
            self._peak_score = max(self._peak_score, seen.score)

    @property
    def update_due(self) -> bool:
        return self._end - self._told_at >= UPDATE_S * self._fs

    def told(
        self,
        event: Literal["start", "update", "end"],
        reason: Literal["heard", "lost", "gap", "ended", "reload"],
    ) -> Contact:
        self._told_at = self._end
        source, channel, epoch, fs = self._stream
        first = self._first.slot[0]
        return Contact(
            source, channel, epoch, fs, self._label, event, reason, first, self._end - first, self._n_windows,
            self._n_skipped, self._peak_probability, self._peak_score,
            self._tracks.all if event == "end" else self._tracks.alive,
        )  # fmt: skip
