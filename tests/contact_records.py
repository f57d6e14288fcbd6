"""Records of a stream made by hand: what each slot of the grid held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from daemon.contact_rule import ContactRule
from daemon.contacts import Contacts
from daemon.extract import UNKNOWN
from daemon.frames import (
    Analysed,
    Contact,
    Record,
    Signature,
    Skipped,
    StreamEnd,
    StreamStart,
    TonalLine,
    Window,
)
from models.features import FeatureSpec

SPEC = FeatureSpec()
FS = 2000
STEP, LENGTH = SPEC.step(FS), SPEC.n_samples(FS)
VERDICT: Any = None  # contacts do not look at it
EMPTY = np.zeros((1, 1), np.float32)

Slot = dict[str, float | Sequence[TonalLine]] | None
"""Label -> probability, or for ``unknown`` its lines; None: the slot was not analysed."""


def line(freq_hz: float, snr_db: float = 8.0, t_start_s: float = 0.0, t_end_s: float = 8.5) -> TonalLine:
    return TonalLine(freq_hz, 0.1, 0.0, snr_db, -60.0, t_start_s, t_end_s)


def start(epoch: int = 0, channels: tuple[str, ...] = ("ch0",)) -> StreamStart:
    return StreamStart("s", epoch, FS, channels)


def slot(index: int, held: Slot, channel: str = "ch0", epoch: int = 0, step: int = STEP) -> Iterator[Record]:
    """The records of one slot, as the pipeline gives them."""
    first = index * step
    if held is None:
        yield Skipped("s", channel, epoch, index, first, LENGTH, FS, "gap", 1)
        return
    window = Window("s", channel, epoch, index, first, LENGTH, FS, EMPTY, EMPTY, EMPTY, -30.0, "")
    yield Analysed(window, VERDICT, (), len(held))
    for label, what in held.items():
        found = () if isinstance(what, float) else tuple(what)
        probability = what if isinstance(what, float) else 0.5
        yield Signature(window, VERDICT, label, probability, EMPTY > 0, found)


def stream(slots: Sequence[Slot], *, end: bool = True, channel: str = "ch0", epoch: int = 0) -> list[Record]:
    records: list[Record] = [start(epoch, (channel,))]
    for i, held in enumerate(slots):
        records += slot(i, held, channel, epoch)
    return [*records, StreamEnd("s", epoch, len(slots) * STEP + LENGTH, final=True)] if end else records


def contacts_of(records: Sequence[Record], rule: ContactRule | None = None, spec: FeatureSpec = SPEC) -> list[Contact]:
    stage = Contacts(spec, rule or ContactRule())
    return [r for record in records for r in stage.process(record) if isinstance(r, Contact)]


def heard(bits: str, label: str = "a", probability: float = 0.9) -> list[Slot]:
    """``x`` heard, ``.`` not heard, ``-`` not analysed."""
    return [None if b == "-" else {label: probability} if b == "x" else {} for b in bits]


def unknown(*frequencies_hz: float) -> dict[str, Sequence[TonalLine]]:
    return {UNKNOWN: [line(f) for f in frequencies_hz]}
