"""The tables of an archive run: Arrow schemas made from the wire contract, rows made from the daemon's own messages.

A window is one row, its signatures are nested in it; contacts, modulation and gaps have tables of their own. Names and
meanings are those of docs/wire; what is the same for all rows of a run stands in the manifest instead.
``t_first_sample_ns`` becomes ``time``, a timestamp; ``probabilities`` becomes one column ``p_LABEL`` for each label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from daemon.wire import Message
from daemon.wire_schema import COMMON, FAMILIES, Field

__all__ = ["TABLES", "RowMaker", "mask_of", "schemas"]

TABLES = ("windows", "contacts", "demon", "gaps")
"""Folders of parts; a recording's part of ``windows`` is written last."""
_TABLE_OF = {"window": "windows", "contact": "contacts", "demon": "demon", "gap": "gaps"}
_SLOT = ("channel", "fs", "grid_index", "first_sample", "n_samples")
_OWN = ("mode", "label", "probability", "evidence_nats", "n_lines", "lines", "mask_cells")
"""Fields of a signature that do not repeat those of its window."""
_LEFT_OUT = {"source", "journal_seq", "probabilities", *_SLOT}
_PLAIN = {"str": pa.string(), "bool": pa.bool_(), "int": pa.int64(), "number": pa.float64()}


def schemas(labels: Sequence[str]) -> dict[str, pa.Schema]:
    """Schema of each table, for a bundle with these labels; each column carries its meaning as metadata ``doc``."""
    window = FAMILIES["window"]
    start = [
        _doc("recording", pa.string(), "path of the recording below the folder", null=False),
        _doc("time", pa.timestamp("ns", tz="UTC"), "UTC of first_sample; null: the recording does not tell"),
    ]
    span = [_column(name, {**COMMON, **window}[name]) for name in _SLOT]
    stated = [_column(name, COMMON[name]) for name in ("audio_digest", "lost_samples")]
    rest = [_column(name, field) for name, field in window.items() if name not in _LEFT_OUT]
    p = [_doc(f"p_{label}", pa.float64(), f"probability of {label}, 0..1; null: not analysed") for label in labels]
    own = [_column(name, FAMILIES["signature"][name]) for name in _OWN]
    mask = _doc("mask", pa.binary(), "cells of the mask, packed bits (row first, lowest bit first); null: not kept")
    signatures = _doc("signatures", pa.list_(pa.struct([*own, mask])), "what each label left in the window", null=False)
    spans = {name: [f for f in span if f.name in ("channel", "fs", "first_sample", "n_samples")] for name in TABLES}
    return {
        "windows": pa.schema([*start, *span, *stated, *rest, *p, signatures]),
        "contacts": pa.schema([*start, *spans["contacts"], *_rest("contact")]),
        "demon": pa.schema([*start, *spans["demon"], *_rest("demon")]),
        "gaps": pa.schema([*start, *spans["gaps"], *_rest("gap")]),
    }


class RowMaker:
    """Turns the messages of one recording into rows.

    Parameters
    ----------
    recording : str
        Its name in the column ``recording``.
    schemas : mapping
        As `schemas` gives them.
    """

    def __init__(self, recording: str, schemas: Mapping[str, pa.Schema]) -> None:
        self._recording = recording
        self._names = {table: schema.names for table, schema in schemas.items()}
        self._own = [f.name for f in schemas["windows"].field("signatures").type.value_type]
        self._window: dict[str, Any] | None = None
        self._n_due = 0

    def rows(self, message: Message) -> list[tuple[str, dict[str, Any]]]:
        """Rows, each with its table, that are whole with this message; a window is when its last signature came."""
        if message.family == "signature":
            assert self._window is not None, "a signature follows its window"
            self._window["signatures"].append(self._signature(message))
            self._n_due -= 1
        elif message.family == "window":
            self._window = self._row("windows", message)
            self._window |= {f"p_{label}": p for label, p in message.body["probabilities"].items()}
            self._window["signatures"] = []
            self._n_due = message.body["n_signatures"]
        elif message.family in _TABLE_OF:
            table = _TABLE_OF[message.family]
            return [(table, self._row(table, message))]
        if self._window is None or self._n_due:
            return []
        row, self._window = self._window, None
        return [("windows", row)]

    def _row(self, table: str, message: Message) -> dict[str, Any]:
        body = message.body
        row = {name: body[name] for name in self._names[table] if name in body}
        return {"recording": self._recording, "time": body["t_first_sample_ns"], **row}

    def _signature(self, message: Message) -> dict[str, Any]:
        masks = {name: np.packbits(a != 0, bitorder="little").tobytes() for name, a in message.arrays}
        return {name: message.body[name] for name in self._own if name != "mask"} | {"mask": masks.get("mask")}


def mask_of(packed: bytes, shape: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Mask ``(n_freq, n_time)`` from its packed bits; the shape stands in the manifest as ``mask_shape``."""
    n = shape[0] * shape[1]
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=n, bitorder="little").astype(np.bool_).reshape(shape)


def _rest(family: str) -> list[pa.Field]:
    return [_column(name, f) for name, f in FAMILIES[family].items() if name not in _LEFT_OUT]


def _column(name: str, field: Field) -> pa.Field:
    return _doc(name, _arrow(field), field.doc)


def _arrow(field: Field) -> pa.DataType:
    if field.kind == "list":
        assert field.of is not None, "a list says what is inside"
        return pa.list_(_arrow(field.of))
    if field.kind == "map":
        assert field.fields is not None, "a map with free keys has no column"
        return pa.struct([_column(name, f) for name, f in field.fields.items()])
    return _PLAIN[field.kind]


def _doc(name: str, kind: pa.DataType, doc: str, *, null: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=null, metadata={"doc": doc})
