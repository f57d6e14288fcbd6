"""The fields of every kind of record, written once: ``decode`` checks by them, docs/wire is generated from them.

A field that is null says "not known" or "does not apply here". Fields are only ever added: a reader takes what it knows
and passes over the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from models.errors import WireError

__all__ = [
    "ARRAY",
    "CHECK",
    "COMMON",
    "CONTACT_LINE",
    "CONTACT_RULE",
    "DTYPES",
    "FAMILIES",
    "MODULATION_LINE",
    "QUALITY",
    "VERSION",
    "Field",
    "check",
    "json_schema",
]

VERSION = 1
"""Grows only when a field changes its meaning or goes."""

DTYPES = ("|u1", "|b1", "<i2", "<i4", "<i8", "<f4", "<f8")
"""Element types that may cross the wire, in numpy's spelling."""

Kind: TypeAlias = Literal["str", "bool", "int", "number", "map", "list"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its type, its meaning, and what is inside if it is a map or a list."""

    kind: Kind
    doc: str
    null: bool = False
    fields: Mapping[str, Field] | None = None
    """Of a map with fixed keys."""
    of: Field | None = None
    """Of a list, its elements; of a map with free keys, its values; None: anything."""
    least: int | None = None
    one_of: tuple[str, ...] = ()
    late: bool = False
    """Added after records of this version had been written: a reader does without it."""


def _int(doc: str, *, null: bool = False, least: int | None = 0) -> Field:
    return Field("int", doc, null, least=least)


def _num(doc: str, *, null: bool = False) -> Field:
    return Field("number", doc, null)


def _str(doc: str, *, null: bool = False, one_of: tuple[str, ...] = ()) -> Field:
    return Field("str", doc, null, one_of=one_of)


ARRAY: dict[str, Field] = {
    "name": _str("what it holds"),
    "dtype": _str("element type: kind and bytes, little-endian", one_of=DTYPES),
    "shape": Field("list", "elements along each axis, C order (last axis fastest)", of=_int("elements")),
}

CLOCK: dict[str, Field] = {
    "source": _str("where UTC comes from", one_of=("file", "system", "pps", "none")),
    "synced": Field("bool", "whether the system clock is disciplined", null=True),
    "est_error_ns": _int("estimated error of UTC, ns; null: it may be off by anything", null=True),
    "fs_measured": _num("sample rate against the clock, Hz; null: not yet measured", null=True),
    "rate_ppm": Field("number", "the same as deviation from fs, parts per million", null=True, late=True),
    "rate_err_ppm": Field("number", "standard error of rate_ppm", null=True, late=True),
    "n_steps": Field(
        "int",
        "times since the epoch's start that the clock stepped: times do not compare across it",
        least=0,
        late=True,
    ),
}

LINE: dict[str, Field] = {
    "freq_hz": _num("frequency, Hz"),
    "freq_err_hz": _num("standard error of freq_hz, Hz"),
    "bandwidth_hz": _num("bandwidth, Hz"),
    "snr_db": _num("in-bin signal to noise ratio, mean over its duration, dB"),
    "level_db_re_fs": _num("level of the line, dB re full scale squared", null=True),
    "t_start_s": _num("first heard, s after the window's first sample"),
    "t_end_s": _num("last heard, s after the window's first sample"),
    "drift_hz_per_s": _num("change of frequency, Hz/s"),
    "label": _str("class that most probably owns the line", null=True),
    "label_probability": _num("that this class sounds and the line is its, 0..1"),
    "family_hz": _num("fundamental of the harmonic family the line belongs to, Hz", null=True),
    "own_ship": Field("bool", "a line of the own ship, as learned", late=True),
    "level_db_re_1upa": Field(
        "number",
        "mean-square sound pressure level of the tonal, dB re 1 uPa; null: not calibrated",
        null=True,
        late=True,
    ),
    "noise_db_re_1upa2_per_hz": Field(
        "number",
        "mean-square sound pressure spectral density level of the noise under it, dB re 1 uPa^2/Hz; or null",
        null=True,
        late=True,
    ),
}

CONTACT_LINE: dict[str, Field] = {
    "line": _int("number of the line within the contact, stays the same"),
    "freq_hz": _num("mean frequency over its windows, Hz"),
    "freq_first_hz": _num("frequency in the first window it was heard in, Hz"),
    "freq_last_hz": _num("frequency in the last window it was heard in, Hz"),
    "drift_hz_per_s": _num("change of frequency over its windows (least squares), Hz/s"),
    "snr_db": _num("in-bin signal to noise ratio, mean over its windows, dB"),
    "n_windows": _int("windows it was heard in", least=1),
    "alive": Field("bool", "still followed; false: lost"),
}

MODULATION_LINE: dict[str, Field] = {
    "harmonic": _int("times the shaft or pulse rate", least=1),
    "freq_hz": _num("modulation frequency, Hz"),
    "snr_db": _num("over the background of the modulation spectrum, dB"),
}

CONTACT_RULE: dict[str, Field] = {
    "n_start": _int("of the last `m` analysed windows, how many must be heard to start a contact", least=1),
    "m": _int("windows looked back upon", least=1),
    "n_hold": _int("of the last `m`, how many hold it; with fewer it ends", least=1),
    "hop_s": _num("time between windows, s"),
    "class_gate": _num("least score of a class that counts towards a start; null: every detection counts", null=True),
    "unknown_gate": _num("the same of `unknown`; null: every signature counts", null=True),
    "false_alarms_per_day": _num("contact starts per day and channel asked for on source-free sea", null=True),
    "expected_per_day": _num("contact starts per day and channel expected there; null: not measured", null=True),
    "extrapolated": Field("bool", "expected_per_day lies beyond what was measured"),
    "words": _str("the rule in words"),
}

SITE: dict[str, Field] = {
    "in_force": Field("bool", "its thresholds serve; false: it was refused, the bundle's own serve"),
    "version": _int("counts up with each estimate; null: refused", null=True, least=None),
    "created": _str("UTC, ISO 8601; null: refused", null=True),
    "channels": Field("list", "channels that have thresholds of their own", of=_str("channel")),
    "words": _str("what serves, or why not, for people"),
}

DETECTION: dict[str, Field] = {
    "label": _str("class of the bundle"),
    "probability": _num("that the class sounds, 0..1", null=True),
    "evidence_nats": _num("of its tonals: log-likelihood ratio of its line template, nats", null=True),
}

CHECK: dict[str, Field] = {
    "check": _str("dead, clipped, dc, stuck_bits, coarse, hum, identical, level_low or level_high"),
    "state": _str("for how long it has failed", one_of=("suspect", "bad")),
}

QUALITY: dict[str, Field] = {
    "state": _str("the worst of its checks", one_of=("ok", "suspect", "bad")),
    "checks": Field("list", "checks that the channel fails", of=Field("map", "", fields=CHECK)),
    "first_sample": _int("the values below are of one second of samples from here on"),
    "level_db_re_fs": _num("mean square without the offset, dB re full scale squared; null: a flat line", null=True),
    "peak": _num("largest magnitude, full scale 1", null=True),
    "dc": _num("offset, full scale 1", null=True),
    "clipped_share": _num("share of samples at full scale, 0..1", null=True),
    "n_bits": _int("bits in use: from the sign to the lowest that moves, at most 24; 0: a flat line"),
    "n_stuck_bits": _int("bits that never move between others that do"),
    "hum_db": _num("third strongest harmonic of 50 or 60 Hz over its neighbourhood, dB; null: rate too low", null=True),
    "alike": _num("correlation with the most alike other channel, -1..1", null=True),
    "alike_to": _str("that channel; null: none", null=True),
}

COMMON: dict[str, Field] = {
    "schema": _str("`tonald/` and the family, the part of the topic before the first `/`"),
    "v": _int("version of this contract", least=1),
    "node": _str("name of the vessel or machine"),
    "publisher": _str("id of this run of the daemon; new at each start"),
    "bundle": _str("id of the bundle: networks, class masks and thresholds", null=True),
    "calibration_id": _str("id of the site calibration; null: none", null=True),
    "test": Field("bool", "the sound was injected by a self-test"),
    "epoch": _int("counts the streams of a source: new at each start of it, each file, each replaced card", null=True),
    "first_sample": _int("first source sample of the span, counted from the epoch's start", null=True),
    "n_samples": _int("source samples of the span, per channel", null=True),
    "t_first_sample_ns": _int("UTC of first_sample, Unix ns; null when unknown, never 'now'", null=True, least=None),
    "audio_digest": _str("digest of the source samples of the span, hex", null=True),
    "lost_samples": _int("of n_samples, how many are missing or unusable", null=True),
    "clock": Field("map", "what is known of the clock behind t_first_sample_ns", null=True, fields=CLOCK),
    "arrays": Field("list", "one entry per array frame, in the order of the frames", of=Field("map", "", fields=ARRAY)),
}

STREAM: dict[str, Field] = {
    "source": _str("name of the source"),
    "channel": _str("name of the channel; null: no channel is known yet", null=True),
    "fs": _int("sample rate of the source, Hz", null=True, least=1),
}

SLOT: dict[str, Field] = {
    **STREAM,
    "grid_index": _int("number of the window on the grid of its epoch"),
    "overload_step": Field(
        "int", "step of the overload ladder at this window, 0..3; 0: nothing was left out", least=0, late=True
    ),
    "quality": Field(
        "list",
        "checks that the channel fails at the end of the span, as in status/; empty: none; null: not checked",
        null=True,
        of=Field("map", "", fields=CHECK),
        late=True,
    ),
}

LEVEL: dict[str, Field] = {
    "level_db_re_fs": _num("mean-square level in the band of the front end, dB re full scale squared", null=True),
    "level_db_re_1upa": Field(
        "number",
        "mean-square sound pressure level in the band of the front end, dB re 1 uPa; null: not calibrated",
        null=True,
        late=True,
    ),
}

LINES = Field("list", "the tonal lines", of=Field("map", "", fields=LINE))

AXES: dict[str, Field] = {
    "bin_hz": _num("row r of an array is centred on r * bin_hz, Hz"),
    "column_s": _num("time between columns, s"),
    "t_column_0_s": _num("centre of column 0, s after the window's first sample"),
}

JOURNAL = _int("number in the journal, survives restarts; null: it is not in the journal", null=True)

JOURNAL_STATE: dict[str, Field] = {
    "id": _str("of the journal; numbers of another id are others'; null: it has never worked", null=True),
    "first_seq": _int("oldest number kept"),
    "next_seq": _int("number that comes next; all below are in the journal, or lost with a reason in the log"),
    "n_bytes": _int("of all its files"),
    "problem": _str("why nothing is written at present", null=True),
    "n_missed": _int("records since the start that are not in the journal"),
    "replay": Field("list", "endpoints that replay it", of=_str("ZeroMQ endpoint")),
}


def _signature(label: str) -> dict[str, Field]:
    """What stands in signature/ and, of the own ship, in own_ship/."""
    return {
        **SLOT,
        "label": _str(label),
        "mode": _str(
            "what mask and lines hold: the tonals of the label, or all coherent tonals of a vessel of any class",
            one_of=("signature", "vessel"),
        ),
        "probability": _num("that the class sounds, 0..1; for `unknown`: the highest of all", null=True),
        "evidence_nats": _num("of its tonals: log-likelihood ratio of its line template, nats", null=True),
        "is_ambient": Field("bool", "nothing but ambient noise, says the network"),
        "unknown": Field("bool", "unlike anything the network was trained on"),
        "nearest": _str("representative of the bundle that is most alike", null=True),
        "distance": _num("Euclidean distance to it, in the embedding", null=True),
        **LEVEL,
        "own_ship": Field("bool", "nothing but lines of the own ship speaks for it; so in own_ship/ only", late=True),
        "n_lines": _int("tonal lines"),
        "lines": LINES,
        "mask_cells": _int("cells of the mask that belong to the label"),
        **AXES,
        "journal_seq": JOURNAL,
    }


COUNTS: dict[str, Field] = {
    "n_sent": _int("messages handed to ZeroMQ"),
    "n_dropped": _int("messages of a live source dropped because the publisher's queue was full"),
    "n_stalls": _int("times a stuck subscriber held up a replay for too long and lost messages"),
    "n_subscriptions": _int("subscriptions at present, over all subscribers"),
}

ENGINE: dict[str, Field] = {
    "name": _str("runtime"),
    "precision": _str("what the convolutions compute in"),
    "device": _str("processor or card"),
    "passed_over": Field("list", "engines tried before it, and why each does not serve", of=_str("one line")),
}

FAMILIES: dict[str, dict[str, Field]] = {
    "info": {
        "version": _str("version of tonald"),
        "labels": Field("list", "classes of the bundle, in its order", of=_str("label")),
        "engine": Field("map", "what runs the network", fields=ENGINE),
        "features": Field("map", "settings of the front end, see models/features.py", of=None),
        "contacts": Field("map", "when a contact starts and ends; null: none are kept", null=True, fields=CONTACT_RULE),
        "endpoints": Field("list", "where this publisher can be reached", of=_str("endpoint")),
        "site": Field("map", "the site calibration; null: there is none", null=True, fields=SITE),
        "hydrophones": Field(
            "list", "calibrated channels: what full scale is; empty: levels are re FS", of=_str("one line"), late=True
        ),
        "own_ship": Field("str", "what is known of the own ship, for people", late=True),
    },
    "heartbeat": {
        "interval_s": _num("time to the next heartbeat, s"),
        "uptime_s": _num("since the publisher started, s"),
        "t_sent_ns": _int("system clock when this was sent, Unix ns", least=None),
        "final": Field("bool", "the publisher ends; nothing follows"),
        "high_water": Field(
            "map", "last sequence number sent or dropped, by topic; this heartbeat itself not counted", of=_int("n")
        ),
        **COUNTS,
        "journal": Field("map", "what is kept for replay; null: nothing", null=True, fields=JOURNAL_STATE, late=True),
    },
    "status": {
        **STREAM,
        "state": _str("what the source does", one_of=("running", "waiting", "refused", "ended")),
        "label": _str("what the stream is, for people: file, device or scenario"),
        "detail": _str("why, for people; empty: nothing to say"),
        "overload_step": Field("int", "step of the overload ladder, 0..3; 0: nothing is left out", least=0, late=True),
        "n_retries": _int("attempts to get the source back"),
        "lost_samples_total": _int("missing or unusable samples of the channel since the daemon started"),
        "n_gaps": _int("gaps of the channel since the daemon started"),
        "final": Field("bool", "the source gives no more streams"),
        "quality": Field("map", "checks of the channel; null: not checked", null=True, fields=QUALITY, late=True),
    },
    "window": {
        **SLOT,
        "analysed": Field("bool", "false: see reason"),
        "reason": _str(
            "why not analysed; overload: sound came faster than it could be analysed; "
            "warm-up: the front end was exchanged within it",
            null=True,
            one_of=("gap", "invalid", "overload", "warm-up"),
        ),
        "detections": Field("list", "classes above their threshold", of=Field("map", "", fields=DETECTION)),
        "is_ambient": Field("bool", "nothing but ambient noise, says the network", null=True),
        "unknown": Field("bool", "unlike anything the network was trained on", null=True),
        "probabilities": Field(
            "map", "of each label, 0..1; empty: not even classified", of=Field("number", "probability", null=True)
        ),
        "nearest": _str("representative of the bundle that is most alike", null=True),
        "distance": _num("Euclidean distance to it, in the embedding", null=True),
        **LEVEL,
        "own_ship": Field("bool", "the own ship was heard, it is left out of detections and unknown", late=True),
        "n_own_ship_lines": Field("int", "of n_lines, how many are the own ship's", least=0, late=True),
        "n_lines": _int("tonal lines found, whatever they belong to"),
        "unexplained_lines": _num("coherent lines that no class explains, a sum of probabilities", null=True),
        "agreement": _num("overlap of live and full explanation, 0..1; null: this window was not checked", null=True),
        "n_signatures": _int("signature/ records of this window"),
    },
    "signature": _signature("class of the bundle, or `unknown`"),
    "own_ship": _signature("class that the own ship is taken for, or `unknown`"),
    "contact": {
        **STREAM,
        "contact_id": _str("the same in all records of one contact, in no other contact of any run"),
        "label": _str("class of the bundle, or `unknown`"),
        "event": _str("the contact starts, goes on, or is over", one_of=("start", "update", "end")),
        "reason": _str(
            "heard; or why it ends: no longer heard, too long a gap, the stream ended",
            one_of=("heard", "lost", "gap", "ended", "reload"),
        ),
        "n_windows": _int("windows it was heard in", least=1),
        "n_skipped": _int("slots of the grid in its span that were not analysed"),
        "peak_probability": _num("highest in any window, 0..1; of `unknown`: the highest of any class", null=True),
        "peak_score": _num(
            "highest score in any window: ln(p / (1 - p)) of the class; of `unknown`: lines, by share of the window",
            null=True,
        ),
        "n_lines": _int("entries of lines"),
        "lines": Field(
            "list", "tonals followed at present; at the end all that lasted", of=Field("map", "", fields=CONTACT_LINE)
        ),
    },
    "demon": {
        **STREAM,
        "available": Field("bool", "false: this stream has no DEMON, see reason"),
        "reason": _str("why it is not available", null=True),
        "found": Field("bool", "the hiss is modulated as by a propeller; null: not available", null=True),
        "score_nats": _num("evidence of the best family of modulation lines, nats", null=True),
        "shaft_hz": _num("shaft rate, turns per second; null: not found", null=True),
        "shaft_err_hz": _num(
            "standard error of shaft_hz, if it is not a multiple or part of the true rate, Hz", null=True
        ),
        "blades": _int("blades of the propeller", null=True, least=1),
        "blade_hz": _num("blade rate, Hz", null=True),
        "pulse_hz": _num("rate of evenly paced pulses (a sounder, a recorder's clicks) found instead, Hz", null=True),
        "n_lines": _int("entries of lines"),
        "lines": Field("list", "lines of the family", of=Field("map", "", fields=MODULATION_LINE)),
    },
    "gap": {
        **STREAM,
        "reason": _str("why the samples are missing or unusable"),
        "duration_ns": _int("length of the gap, ns"),
        "err_ns": _int("error of duration_ns, ns; 0: counted in samples"),
        "journal_seq": JOURNAL,
    },
    "forensic": {
        "source": _str("name of the source"),
        "event": _str(
            "a span was frozen; or samples were not kept, or a span could not be frozen", one_of=("frozen", "lost")
        ),
        "words": _str("why it was frozen, or what went wrong, for people"),
        "folder": _str("folder below forensic/frozen in the daemon's state directory", null=True),
        "n_missing": _int("of the span's samples, those that are not on disk"),
        "lost_samples_total": _int("samples per channel that the ring did not keep since the daemon started"),
    },
    "explain": {**SLOT, "label": _str("what is explained"), **AXES},
    "spectrogram": {**SLOT, **AXES},
}
"""Family -> its fields beside the common ones."""

_PYTHON: dict[Kind, tuple[type, ...]] = {
    "str": (str,), "bool": (bool,), "int": (int,), "number": (int, float), "map": (dict,), "list": (list,),
}  # fmt: skip
_JSON: dict[Kind, str] = {
    "str": "string", "bool": "boolean", "int": "integer", "number": "number", "map": "object", "list": "array",
}  # fmt: skip


def check(fields: Mapping[str, Field], body: Mapping[str, Any], where: str) -> None:
    """Check that ``body`` holds all ``fields``, each of its type; fields not known are passed over.

    Raises
    ------
    WireError
        Naming ``where`` and the field.
    """
    for name, field in fields.items():
        if name not in body:
            if field.late:
                continue
            raise WireError(f"{where}: field '{name}' is missing")
        _check_value(field, body[name], f"{where}: {name}")


def _check_value(field: Field, value: object, where: str) -> None:
    if value is None and field.null:
        return
    if not isinstance(value, _PYTHON[field.kind]) or (isinstance(value, bool) and field.kind != "bool"):
        raise WireError(f"{where} is {type(value).__name__}, not {field.kind}")
    if field.least is not None and isinstance(value, int) and value < field.least:
        raise WireError(f"{where} = {value} is less than {field.least}")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise WireError(f"{where} = {value} is not finite")
    if field.one_of and value not in field.one_of:
        raise WireError(f"{where} = {value!r} is not one of {', '.join(field.one_of)}")
    if isinstance(value, dict):
        if field.fields is not None:
            check(field.fields, value, where)
        elif field.of is not None:
            for key, inner in value.items():
                _check_value(field.of, inner, f"{where}[{key!r}]")
    elif isinstance(value, list) and field.of is not None:
        for n, inner in enumerate(value):
            _check_value(field.of, inner, f"{where}[{n}]")


def json_schema(family: str) -> dict[str, Any]:
    """JSON Schema (2020-12) of the msgpack map of one family."""
    fields = {**COMMON, **FAMILIES[family]}
    schema = _object(fields)
    schema["properties"]["schema"]["const"] = f"tonald/{family}"
    schema["properties"]["v"]["const"] = VERSION
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:tonald:wire:{VERSION}:{family}",
        "title": f"tonald/{family}, version {VERSION}",
        **schema,
    }


def _object(fields: Mapping[str, Field]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [name for name, field in fields.items() if not field.late],
        "properties": {name: _schema(field) for name, field in fields.items()},
        "additionalProperties": True,
    }


def _schema(field: Field) -> dict[str, Any]:
    schema: dict[str, Any] = {} if field.fields is None else _object(field.fields)
    schema["type"] = [_JSON[field.kind], "null"] if field.null else _JSON[field.kind]
    if field.doc:
        schema["description"] = field.doc
    if field.least is not None:
        schema["minimum"] = field.least
    if field.one_of:
        schema["enum"] = [*field.one_of, None] if field.null else list(field.one_of)
    if field.of is not None:
        schema["items" if field.kind == "list" else "additionalProperties"] = _schema(field.of)
    return schema
