"""What is the own ship's leaves the verdict: its signatures follow a window, but are no detection and no unknown."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from daemon.frames import Analysed, Record, Signature, TonalLine, Verdict, Window

__all__ = ["heard"]


def heard(
    window: Window, verdict: Verdict, signatures: Sequence[Signature], lines: tuple[TonalLine, ...]
) -> Iterator[Record]:
    """The outcome of one window, then its signatures, those of the own ship last."""
    own = {s.label for s in signatures if s.own_ship}
    if own:
        left = tuple(d for d in verdict.detections if d.label not in own)
        verdict = dataclasses.replace(verdict, detections=left, unknown=verdict.unknown and "unknown" not in own)
        signatures = [s if s.own_ship else dataclasses.replace(s, verdict=verdict) for s in signatures]
    yield Analysed(window, verdict, lines, sum(not s.own_ship for s in signatures), bool(own))
    yield from signatures
