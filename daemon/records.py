"""From the pipeline's records to messages: which topic, which fields, which arrays.

``Recorder.process`` is a stage like the others: no thread, socket or clock. It remembers what a stream's start said
(rate, channel names, anchor of time) and how many samples each channel lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from daemon.checks.judge import worst
from daemon.clock import StreamClock
from daemon.frames import (
    Analysed,
    ClockState,
    ClockUpdate,
    Contact,
    ContactLine,
    Detection,
    Forensic,
    Gap,
    Health,
    Modulated,
    Overload,
    Quality,
    Record,
    Signature,
    Skipped,
    SourceState,
    StreamEnd,
    StreamStart,
    TonalLine,
    Window,
)
from daemon.levels import Levels
from daemon.wire import Array, Identity, Message, common, topic_of
from models.features import FeatureSpec

__all__ = ["Recorder", "contact_id", "info_message"]

NS_PER_S = 1_000_000_000


def info_message(
    identity: Identity,
    spec: FeatureSpec,
    *,
    version: str,
    labels: Sequence[str],
    engine: str,
    precision: str,
    device: str,
    endpoints: Sequence[str],
    contacts: Mapping[str, Any] | None = None,
    site: Mapping[str, Any] | None = None,
    hydrophones: Sequence[str] = (),
    own_ship: str = "",
    passed_over: Sequence[str] = (),
) -> Message:
    """What this daemon is, for ``info/``; the publisher sends it again to every new subscriber.

    ``contacts`` is the rule of contacts, as `daemon.contact_gate.EffectiveRule.to_dict` gives it; None: none are kept.
    ``site`` is what `daemon.site_state.Site.to_dict` says of the site calibration; None: there is none.
    ``hydrophones`` and ``own_ship`` say which channels are calibrated and what is known of the own ship.
    ``passed_over`` says of each engine tried before this one why it does not serve.
    """
    body = {
        **common(identity, "info"),
        "version": version,
        "labels": list(labels),
        "engine": {"name": engine, "precision": precision, "device": device, "passed_over": list(passed_over)},
        "features": spec.to_dict(),
        "contacts": None if contacts is None else dict(contacts),
        "endpoints": list(endpoints),
        "site": None if site is None else dict(site),
        "hydrophones": list(hydrophones),
        "own_ship": own_ship,
    }
    return Message(topic_of("info"), body)


@dataclass(slots=True)
class _Channel:
    """Running counts of one channel."""

    lost_samples: int = 0
    n_gaps: int = 0
    told: bool = True
    """Whether status/ has said so."""
    health: Health | None = None
    """Of its checks, the last."""


@dataclass(slots=True)
class _Stream:
    """What is known of a source."""

    start: StreamStart
    clock: StreamClock
    refused: str = ""
    channels: dict[str, _Channel] = field(default_factory=dict)


F32 = npt.NDArray[np.float32]


class Recorder:
    """Turns each record into the messages that tell it.

    Parameters
    ----------
    identity : Identity
    spec : FeatureSpec
        Gives arrays their axes.
    labels : sequence of str
        Of the bundle, in the order of ``Verdict.probabilities``.
    masks, explain, spectrogram : bool
        Whether masks go with signatures; whether explain/ and spectrogram/ are sent at all.
    levels : Levels, optional
        Measuring chains; without one levels re 1 µPa are null.
    """

    def __init__(
        self,
        identity: Identity,
        spec: FeatureSpec,
        labels: Sequence[str],
        *,
        masks: bool = True,
        explain: bool = False,
        spectrogram: bool = False,
        levels: Levels | None = None,
    ) -> None:
        self._identity, self._spec, self._labels = identity, spec, tuple(labels)
        self._masks, self._explain, self._spectrogram = masks, explain, spectrogram
        self._levels = Levels() if levels is None else levels
        self._streams: dict[str, _Stream] = {}
        self._step = 0

    def speak_as(self, identity: Identity) -> None:
        """Put another identity in all records from now on: another site calibration came into force."""
        self._identity = identity

    def follow(self, before: Recorder, *, same_checks: bool) -> None:
        """Go on with the streams of ``before``, which is not to be used again."""
        self._streams, self._step = before._streams, before._step
        if not same_checks:
            for channel in (c for stream in self._streams.values() for c in stream.channels.values()):
                channel.health = None

    def process(self, record: Record) -> Iterator[Message]:
        """Messages that tell one record, in the order they are to be published.

        Raises
        ------
        WireError
            If a channel or label cannot be part of a topic.
        """
        match record:
            case StreamStart():
                yield from self._start(record)
            case Analysed():
                yield self._analysed(record)
                if self._spectrogram:
                    yield self._features(record.window)
                yield from self._news(record.window)
            case Skipped():
                yield self._skipped(record)
                yield from self._news(record)
            case Signature():
                yield self._signature(record)
                if self._explain and not record.own_ship:
                    yield self._explained(record)
            case Contact():
                yield self._contact(record)
            case Modulated():
                yield self._modulated(record)
            case Gap():
                yield from self._gap(record)
            case Health():
                yield self._health(record)
            case StreamEnd():
                yield from self._end(record)
            case ClockUpdate():
                yield from self._clock(record)
            case SourceState():
                yield from self._state(record)
            case Forensic():
                yield self._forensic(record)
            case Overload():
                self._step = record.step
                yield from self._statuses(record.source, "running", detail=record.words)

    # streams

    def _start(self, start: StreamStart) -> Iterator[Message]:
        old = self._streams.get(start.source)
        channels = old.channels if old else {}
        for name in start.channels:
            channels.setdefault(name, _Channel()).health = None
        self._streams[start.source] = _Stream(start, StreamClock(start), channels=channels)
        yield from self._statuses(start.source, "running")

    def _end(self, end: StreamEnd) -> Iterator[Message]:
        stream = self._streams.get(end.source)
        detail = end.problem or (stream.refused if stream else "")
        yield from self._statuses(end.source, "ended", detail=detail, n_samples=end.n_samples, final=end.final)

    def _state(self, state: SourceState) -> Iterator[Message]:
        stream = self._streams.get(state.source)
        if stream and state.state == "refused":
            stream.refused = state.detail
        yield from self._statuses(state.source, state.state, detail=state.detail, n_retries=state.n_retries)

    def _clock(self, update: ClockUpdate) -> Iterator[Message]:
        """Count time by it; status/ only if something happened to the clock."""
        stream = self._streams[update.source]
        stream.clock.put(update)
        if update.words:
            yield from self._statuses(update.source, "running", detail=update.words, first_sample=update.from_sample)

    def _health(self, health: Health) -> Message:
        self._streams[health.source].channels[health.channel].health = health
        return self._status(health.source, health.channel, "running")

    def _news(self, slot: Window | Skipped) -> Iterator[Message]:
        """status/ once more if the channel lost samples since the last one."""
        stream = self._streams[slot.source]
        if not stream.channels[slot.channel].told:
            yield self._status(slot.source, slot.channel, "running")

    def _statuses(self, source: str, state: str, **more: Any) -> Iterator[Message]:  # noqa: ANN401  (see _status)
        stream = self._streams.get(source)
        for channel in stream.start.channels if stream else (None,):
            yield self._status(source, channel, state, **more)

    def _status(
        self,
        source: str,
        channel: str | None,
        state: str,
        *,
        detail: str = "",
        first_sample: int = 0,
        n_retries: int = 0,
        n_samples: int | None = None,
        final: bool = False,
    ) -> Message:
        stream = self._streams.get(source)
        start = stream.start if stream else None
        counts = stream.channels[channel] if stream and channel is not None else _Channel()
        counts.told = True
        body = {
            **common(
                self._identity, "status", epoch=start.epoch if start else None,
                first_sample=first_sample if start else None, n_samples=n_samples,
                t_first_sample_ns=stream.clock.utc_ns(start.epoch, first_sample) if stream and start else None,
                clock=stream.clock.state() if stream else None,
            ),
            "source": _text(source), "channel": channel, "fs": start.fs if start else None,
            "state": state, "label": _text(start.label) if start else "", "detail": _text(detail),
            "overload_step": self._step, "n_retries": n_retries, "lost_samples_total": counts.lost_samples,
            "n_gaps": counts.n_gaps, "final": final,
            "quality": None if counts.health is None else _health(counts.health),
        }  # fmt: skip
        return Message(topic_of("status", channel or _topic_safe(source)), body)

    # windows

    def _slot(self, slot: Window | Skipped, family: str, digest: str | None, lost: int) -> dict[str, Any]:
        stream = self._streams[slot.source]
        return {
            **common(
                self._identity, family, epoch=slot.epoch, first_sample=slot.first_sample, n_samples=slot.n_samples,
                t_first_sample_ns=stream.clock.utc_ns(slot.epoch, slot.first_sample), audio_digest=digest,
                lost_samples=lost, clock=stream.clock.state(slot.first_sample),
            ),
            "source": _text(slot.source), "channel": slot.channel, "fs": slot.fs, "grid_index": slot.grid_index,
            "overload_step": slot.overload_step if isinstance(slot, Window) else self._step,
            "quality": None if slot.quality is None else _checks(slot.quality),
        }  # fmt: skip

    def _analysed(self, record: Analysed) -> Message:
        window, verdict = record.window, record.verdict
        body = {
            **self._slot(window, "window", window.audio_digest, 0),
            "analysed": True, "reason": None,
            "detections": [_detection(d) for d in verdict.detections],
            "is_ambient": bool(verdict.is_ambient), "unknown": bool(verdict.unknown),
            "probabilities": self._named(verdict.probabilities),
            "nearest": verdict.nearest or None, "distance": _number(verdict.distance),
            **self._level(window), "own_ship": record.own_ship,
            "n_own_ship_lines": sum(x.own_ship for x in record.lines),
            "n_lines": len(record.lines), "unexplained_lines": _number(verdict.unexplained),
            "agreement": _known(verdict.agreement),
            "n_signatures": record.n_signatures,
        }  # fmt: skip
        return Message(topic_of("window", window.channel), body)

    def _named(self, probabilities: F32) -> dict[str, float | None]:
        return dict(zip(self._labels, map(_number, probabilities.tolist()), strict=True))

    def _skipped(self, skipped: Skipped) -> Message:
        body = {
            **self._slot(skipped, "window", None, skipped.lost_samples),
            "analysed": False, "reason": skipped.reason, "detections": [], "is_ambient": None, "unknown": None,
            "probabilities": {} if skipped.probabilities is None else self._named(skipped.probabilities),
            "nearest": None, "distance": None, "level_db_re_fs": None,
            "level_db_re_1upa": None, "own_ship": False, "n_own_ship_lines": 0,
            "n_lines": 0, "unexplained_lines": None, "agreement": None, "n_signatures": 0,
        }  # fmt: skip
        return Message(topic_of("window", skipped.channel), body)

    def _level(self, window: Window) -> dict[str, float | None]:
        return {
            "level_db_re_fs": _number(window.level_db),
            "level_db_re_1upa": _known(self._levels.window_db(window, self._spec)),
        }

    def _line(self, channel: str, line: TonalLine) -> dict[str, float | str | bool | None]:
        return {
            **_line(line),
            "level_db_re_1upa": _known(self._levels.line_db(channel, line)),
            "noise_db_re_1upa2_per_hz": _known(self._levels.noise_db(channel, line, self._spec)),
        }

    def _signature(self, signature: Signature) -> Message:
        window, verdict = signature.window, signature.verdict
        family = "own_ship" if signature.own_ship else "signature"
        body = {
            **self._slot(window, family, window.audio_digest, 0),
            "label": signature.label, "mode": signature.mode, "probability": _number(signature.probability),
            "evidence_nats": next((_known(d.evidence) for d in verdict.detections if d.label == signature.label), None),
            "is_ambient": bool(verdict.is_ambient), "unknown": bool(verdict.unknown),
            "nearest": verdict.nearest or None, "distance": _number(verdict.distance),
            **self._level(window), "own_ship": signature.own_ship,
            "n_lines": len(signature.lines), "lines": [self._line(window.channel, x) for x in signature.lines],
            "mask_cells": int(np.count_nonzero(signature.mask)), **self._axes(window), "journal_seq": None,
        }  # fmt: skip
        arrays = (("mask", signature.mask.astype(np.uint8)),) if self._masks else ()
        return Message(topic_of(family, window.channel, signature.label), body, arrays)

    def _explained(self, signature: Signature) -> Message:
        window, verdict = signature.window, signature.verdict
        body = {
            **self._slot(window, "explain", window.audio_digest, 0),
            "label": signature.label, **self._axes(window),
        }  # fmt: skip
        maps = {"cam": verdict.cam, "mix": verdict.mix}
        arrays: list[tuple[str, Array]] = [(name, a.astype(np.float32)) for name, a in maps.items() if a is not None]
        arrays.append(("mask", signature.mask.astype(np.uint8)))
        return Message(topic_of("explain", window.channel), body, tuple(arrays))

    def _features(self, window: Window) -> Message:
        body = {**self._slot(window, "spectrogram", window.audio_digest, 0), **self._axes(window)}
        return Message(topic_of("spectrogram", window.channel), body, (("features", window.features),))

    def _axes(self, window: Window) -> dict[str, float]:
        t_column_0_s = float(self._spec.column_centres(window.fs)[0]) / window.fs
        return {"bin_hz": self._spec.bin_hz, "column_s": self._spec.column_s, "t_column_0_s": t_column_0_s}

    # contacts

    def _contact(self, contact: Contact) -> Message:
        stream = self._streams[contact.source]
        body = {
            **common(
                self._identity, "contact", epoch=contact.epoch, first_sample=contact.first_sample,
                n_samples=contact.n_samples, t_first_sample_ns=stream.clock.utc_ns(contact.epoch, contact.first_sample),
                clock=stream.clock.state(contact.first_sample),
            ),
            "source": _text(contact.source), "channel": contact.channel, "fs": contact.fs,
            "contact_id": contact_id(self._identity, contact), "label": contact.label,
            "event": contact.event, "reason": contact.reason,
            "n_windows": contact.n_windows, "n_skipped": contact.n_skipped,
            "peak_probability": _number(contact.peak_probability), "peak_score": _number(contact.peak_score),
            "n_lines": len(contact.lines), "lines": [_contact_line(line) for line in contact.lines],
        }  # fmt: skip
        return Message(topic_of("contact", contact.channel), body)

    # modulation

    def _modulated(self, record: Modulated) -> Message:
        stream, m = self._streams[record.source], record.modulation
        lines = m.lines if m is not None and (m.found or m.pulses) else ()
        found = m is not None and m.found
        body = {
            **common(
                self._identity, "demon", epoch=record.epoch, first_sample=record.first_sample,
                n_samples=record.n_samples, t_first_sample_ns=stream.clock.utc_ns(record.epoch, record.first_sample),
                lost_samples=0, clock=stream.clock.state(record.first_sample),
            ),
            "source": _text(record.source), "channel": record.channel, "fs": record.fs,
            "available": m is not None, "reason": _text(record.reason) or None,
            "found": None if m is None else bool(m.found), "score_nats": None if m is None else _number(m.score),
            "shaft_hz": m.shaft_hz if m is not None and found else None,
            "shaft_err_hz": m.shaft_err_hz if m is not None and found else None,
            "blades": m.blades if m is not None and found else None,
            "blade_hz": m.blade_hz if m is not None and found else None,
            "pulse_hz": m.shaft_hz if m is not None and m.pulses else None,
            "n_lines": len(lines), "lines": [
                {"harmonic": line.harmonic, "freq_hz": line.freq_hz, "snr_db": line.snr_db} for line in lines
            ],
        }  # fmt: skip
        return Message(topic_of("demon", record.channel), body)

    # gaps

    def _gap(self, gap: Gap) -> Iterator[Message]:
        stream = self._streams.get(gap.source)
        if stream is None:
            yield self._gap_of(gap, None, None)
            return
        names = stream.start.channels
        for channel in names if gap.channel is None else (names[gap.channel],):
            counts = stream.channels[channel]
            estimate = round(gap.duration_ns * stream.start.fs / NS_PER_S)
            counts.lost_samples += estimate if gap.n_missing is None else gap.n_missing
            counts.n_gaps += 1
            counts.told = False
            yield self._gap_of(gap, channel, stream)

    def _gap_of(self, gap: Gap, channel: str | None, stream: _Stream | None) -> Message:
        body = {
            **common(
                self._identity, "gap", epoch=gap.epoch, first_sample=gap.first_sample, n_samples=gap.n_missing,
                t_first_sample_ns=stream.clock.utc_ns(gap.epoch, gap.first_sample) if stream else None,
                lost_samples=gap.n_missing, clock=stream.clock.state(gap.first_sample) if stream else ClockState(),
            ),
            "source": _text(gap.source), "channel": channel, "fs": stream.start.fs if stream else None,
            "reason": _text(gap.reason), "duration_ns": gap.duration_ns, "err_ns": gap.err_ns, "journal_seq": None,
        }  # fmt: skip
        return Message(topic_of("gap", channel or _topic_safe(gap.source)), body)

    # sound kept on disk

    def _forensic(self, record: Forensic) -> Message:
        stream = self._streams.get(record.source)
        known = stream is not None and stream.start.epoch == record.epoch
        body = {
            **common(
                self._identity, "forensic", epoch=record.epoch, first_sample=record.first_sample,
                n_samples=record.n_samples,
                t_first_sample_ns=stream.clock.utc_ns(record.epoch, record.first_sample) if stream and known else None,
                clock=stream.clock.state(record.first_sample) if stream and known else None,
            ),
            "source": _text(record.source), "event": record.event, "words": _text(record.words),
            "folder": record.folder, "n_missing": record.n_missing, "lost_samples_total": record.lost_samples_total,
        }  # fmt: skip
        return Message(topic_of("forensic"), body)


def contact_id(identity: Identity, contact: Contact) -> str:
    """Node, run, channel, epoch, first sample and label: the run is new at each start, so no two contacts share it."""
    parts = (identity.node, identity.publisher, contact.channel, contact.epoch, contact.first_sample, contact.label)
    return "/".join(map(str, parts))


def _contact_line(line: ContactLine) -> dict[str, int | float | bool]:
    return {
        "line": line.number, "freq_hz": float(line.freq_hz), "freq_first_hz": float(line.freq_first_hz),
        "freq_last_hz": float(line.freq_last_hz), "drift_hz_per_s": float(line.drift_hz_per_s),
        "snr_db": float(line.snr_db), "n_windows": line.n_windows, "alive": line.alive,
    }  # fmt: skip


def _line(line: TonalLine) -> dict[str, float | str | bool | None]:
    return {
        "freq_hz": float(line.freq_hz), "freq_err_hz": float(line.freq_err_hz),
        "bandwidth_hz": float(line.bandwidth_hz), "snr_db": float(line.snr_db),
        "level_db_re_fs": _number(line.level_db), "t_start_s": float(line.t_start_s),
        "t_end_s": float(line.t_end_s), "drift_hz_per_s": float(line.drift_hz_per_s),
        "label": line.label, "label_probability": float(line.label_probability),
        "family_hz": _known(line.family_hz), "own_ship": line.own_ship,
    }  # fmt: skip


def _detection(d: Detection) -> dict[str, float | str | None]:
    return {"label": d.label, "probability": _number(d.probability), "evidence_nats": _known(d.evidence)}


def _checks(quality: Quality) -> list[dict[str, str]]:
    return [{"check": check, "state": state} for check, state in quality]


def _health(health: Health) -> dict[str, Any]:
    return {
        "state": worst(health.quality), "checks": _checks(health.quality), "first_sample": health.first_sample,
        "level_db_re_fs": _number(health.level_db), "peak": _number(health.peak), "dc": _number(health.dc),
        "clipped_share": _number(health.clipped_share), "n_bits": 24 - health.low_bit,
        "n_stuck_bits": health.n_stuck_bits, "hum_db": _known(health.hum_db),
        "alike": _number(health.alike), "alike_to": health.alike_to,
    }  # fmt: skip


def _known(x: float | None) -> float | None:
    return None if x is None else _number(x)


def _number(x: float) -> float | None:
    """What is not finite is not known."""
    return float(x) if math.isfinite(x) else None


def _text(text: str) -> str:
    """File names may hold bytes that are no UTF-8; they go out as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _topic_safe(source: str) -> str:
    """Stand-in for the channel's name while a source has not named its channels."""
    kept = "".join(c if c.isprintable() and c != "/" else "_" for c in _text(source))
    return kept[:64] or "_"
