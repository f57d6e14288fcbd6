"""Records as boxes in time and frequency: of signatures, of their tonals, or of contacts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from daemon.record_file import read_records
from daemon.wire import Message
from models.errors import InputError, WireError

__all__ = ["KINDS", "Selection", "Stream", "What", "column_of", "read_streams"]

What: TypeAlias = Literal["signatures", "lines", "contacts"]
LEAST_HZ = 1.0
"""Height of a box at least: a flatter one cannot be seen."""
KINDS: dict[What, str] = {"signatures": "signature", "lines": "line", "contacts": "contact"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """One box."""

    kind: str
    channel: str
    label: str
    probability: float | None
    begin: float
    """Samples after the stream's first."""
    n_samples: float
    low_hz: float
    high_hz: float
    freq_hz: float | None = None
    """Of one tonal."""
    snr_db: float | None = None
    """In-bin signal to noise ratio; of several tonals the highest."""
    level_db_re_fs: float | None = None
    utc_ns: int | None = None
    """Of its begin."""
    n_windows: int = 1
    contact_id: str = ""
    test: bool = False
    """Of sound that was injected."""


@dataclass(slots=True)
class Stream:
    """What was heard in one epoch of one source of one run, or in one recording of an archive."""

    name: str
    """A file name or source; for people, and for names of files."""
    fs: int
    """Hz."""
    publisher: str = ""
    epoch: int = 0
    node: str = ""
    bundle: str = ""
    selections: list[Selection] = field(default_factory=list)


def read_streams(path: Path, what: What) -> list[Stream]:
    """Streams of a file of records, or of a folder of ``tonald reprocess``, each with its boxes in order of time.

    Raises
    ------
    InputError
        If there is no such file, or nothing of that kind in it.
    WireError
        If it is damaged.
    """
    streams = _of_archive(path, what) if path.is_dir() else _of_records(read_records(path), what)
    found = [s for s in streams if s.selections]
    if not found:
        raise InputError(
            f"{path}: holds no {KINDS[what]}: other choices are {', '.join(k for k in KINDS if k != what)}"
        )
    for stream in found:
        stream.selections.sort(key=lambda s: (s.begin, s.channel, s.low_hz))
    return found


def _of_records(messages: Iterable[Message], what: What) -> list[Stream]:
    streams: dict[tuple[str, str, int], Stream] = {}
    labels: dict[tuple[str, str, int], str] = {}
    contacts: dict[str, tuple[tuple[str, str, int], Selection]] = {}
    for message in messages:
        body = message.body
        if body.get("epoch") is None or "source" not in body:
            continue
        key = (body["publisher"], body["source"], body["epoch"])
        if message.family == "status":
            labels.setdefault(key, body["label"])
        if message.family not in ("signature", "contact") or body.get("fs") is None:
            continue
        stream = streams.setdefault(
            key,
            Stream(body["source"], body["fs"], body["publisher"], body["epoch"], body["node"], body["bundle"] or ""),
        )
        if message.family == "contact" and what == "contacts":
            contacts[body["contact_id"]] = key, _contact(body)  # the last that was said of it
        elif message.family == "signature" and what != "contacts":
            stream.selections += _boxes(body, what)
    for key, selection in contacts.values():
        streams[key].selections.append(selection)
    for key, stream in streams.items():
        stream.name = labels.get(key) or stream.name
    return list(streams.values())


def _of_archive(folder: Path, what: What) -> Iterator[Stream]:
    import pyarrow
    import pyarrow.parquet

    table = "contacts" if what == "contacts" else "windows"
    parts = sorted((folder / table).glob("*.parquet"))
    if not (folder / "manifest.json").is_file() or not parts:
        raise InputError(f"{folder}: is no folder of 'tonald reprocess': it has no manifest.json and {table}/*.parquet")
    for part in parts:
        try:
            found = pyarrow.parquet.read_table(part)
            at = found.schema.get_field_index("time")
            rows = found.set_column(at, "t_first_sample_ns", found["time"].cast(pyarrow.int64())).to_pylist()
        except (OSError, ValueError, KeyError, pyarrow.ArrowException) as e:
            raise WireError(f"{part}: cannot be read: {e}") from e
        if not rows:
            continue
        stream = Stream(rows[0]["recording"], rows[0]["fs"])
        last: dict[str, Selection] = {}
        for row in rows:
            row.setdefault("test", False)
            if what == "contacts":
                last[row["contact_id"]] = _contact(row)
            else:
                for signature in row["signatures"]:
                    stream.selections += _boxes({**row, **signature}, what)
        stream.selections += last.values()
        yield stream


def _boxes(body: Mapping[str, Any], what: What) -> Iterator[Selection]:
    lines, fs = body["lines"], body["fs"]
    if what == "lines":
        for line in lines:
            begin = line["t_start_s"] * fs
            yield _box(
                body, "line", [line], begin, (line["t_end_s"] - line["t_start_s"]) * fs, freq_hz=line["freq_hz"],
                level_db_re_fs=line["level_db_re_fs"], label=line["label"] or body["label"],
            )  # fmt: skip
    else:
        yield _box(body, "signature", lines, 0.0, body["n_samples"], level_db_re_fs=body["level_db_re_fs"])


def _contact(body: Mapping[str, Any]) -> Selection:
    lines = [{**line, "bandwidth_hz": 0.0} for line in body["lines"]]
    return _box(
        body, "contact", lines, 0.0, body["n_samples"], probability=body["peak_probability"],
        n_windows=body["n_windows"], contact_id=body["contact_id"],
    )  # fmt: skip


def _box(
    body: Mapping[str, Any], kind: str, lines: list[dict[str, Any]], begin: float, n_samples: float, **more: Any  # noqa: ANN401
) -> Selection:  # fmt: skip
    """Around the tonals; over the whole band where there are none."""
    low = min((line["freq_hz"] - max(line["bandwidth_hz"], LEAST_HZ) / 2 for line in lines), default=0.0)
    high = max((line["freq_hz"] + max(line["bandwidth_hz"], LEAST_HZ) / 2 for line in lines), default=body["fs"] / 2)
    t_ns = body["t_first_sample_ns"]
    values: dict[str, Any] = {
        "kind": kind, "channel": body["channel"], "label": body["label"], "probability": body.get("probability"),
        "begin": body["first_sample"] + begin, "n_samples": n_samples, "low_hz": max(0.0, low), "high_hz": high,
        "snr_db": max((line["snr_db"] for line in lines), default=None), "test": body["test"],
        "utc_ns": None if t_ns is None else t_ns + round(begin / body["fs"] * 1e9),
    }  # fmt: skip
    return Selection(**{**values, **more})


def column_of(channel: str) -> int:
    """Column of a channel named as the sources name them, ``ch2`` is 2; of another name 0."""
    named = re.fullmatch(r"ch(\d+)", channel)
    return int(named[1]) if named else 0
