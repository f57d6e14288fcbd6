"""Two records of the same window: what differs by more than it may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from daemon.wire import Message
from daemon.wire_schema import COMMON, STREAM
from models.bundle import Bundle
from models.engines.golden import tolerances

__all__ = ["Tolerance", "differences"]

ROUNDING = 1e-5
"""Relative: plain arithmetic on the same samples, on another processor."""
NOT_COMPARED = frozenset(COMMON) | frozenset(STREAM) | {"grid_index", "journal_seq", "agreement", "quality"}
"""Who, when and where; ``agreement``, measured on one window of many; and ``quality``, which has a history."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Absolute differences allowed beside rounding."""

    probability: float
    nats: float
    distance: float
    score: float
    """Of a map that is thresholded."""

    @classmethod
    def of(cls, bundle: Bundle, precision: str) -> Tolerance:
        """The golden tolerances of a bundle for a precision.

        Raises
        ------
        EngineError
            If the bundle states none for it.
        """
        classify, explain = (tolerances(bundle, graph, precision) for graph in ("classify", "explain"))
        score = explain["mix"]
        if ("student", precision) in bundle.tolerances:
            score = max(score, bundle.tolerances["student", precision]["map"])
        n = bundle.representatives.embeddings.shape[1]
        return cls(classify["probs"], classify["logits"], classify["embedding"] * float(np.sqrt(n)), score)

    def of_field(self, name: str) -> float:
        """Of one field, by its name."""
        if "probabilit" in name:
            return self.probability
        if name.endswith("_nats"):
            return self.nats
        return {"distance": self.distance, "unexplained_lines": self.probability}.get(name, ROUNDING)


def differences(
    record: Message, made: Message, tolerance: Tolerance, score: npt.NDArray[np.float32] | None, limit: float
) -> list[str]:
    """What of ``record`` differs from ``made``, one line each; fields that only one of them has are passed over.

    ``score`` ``(n_freq, n_time)`` and ``limit``: the map that was thresholded to the mask, and where; a cell whose
    score lies within the tolerance of the limit may fall to either side.
    """
    undecided = np.zeros((), bool) if score is None else np.abs(score - limit) <= tolerance.score
    found: list[str] = []
    for name in made.body:
        if name in NOT_COMPARED or name not in record.body:
            continue
        if name == "mask_cells":
            found += _cells(record.body[name], made.body[name], int(undecided.sum()))
        else:
            found += _compare(name, name, record.body[name], made.body[name], tolerance)
    masks = [dict(m.arrays).get("mask") for m in (record, made)]
    if masks[0] is not None and masks[1] is not None:
        found += _masks(masks[0], masks[1], undecided)
    return found


def _cells(said: int, got: int, n_undecided: int) -> list[str]:
    if abs(said - got) <= n_undecided:
        return []
    return [f"mask_cells is {said} in the record, {got} here"]


def _masks(said: npt.NDArray[Any], got: npt.NDArray[Any], undecided: npt.NDArray[np.bool_]) -> list[str]:
    if said.shape != got.shape:
        return [f"mask has shape {said.shape} in the record, {got.shape} here"]
    wrong = ((said != 0) != (got != 0)) & ~undecided
    return [f"mask differs in {int(wrong.sum())} cells"] if wrong.any() else []


def _compare(path: str, name: str, said: object, got: object, tolerance: Tolerance) -> Iterator[str]:
    if isinstance(said, Mapping) and isinstance(got, Mapping):
        if name == "probabilities" and said.keys() != got.keys():
            yield f"{path} is of {', '.join(map(str, said))} in the record, of {', '.join(map(str, got))} here"
        for key in (k for k in got if k in said):
            inner = name if name == "probabilities" else str(key)
            yield from _compare(f"{path}.{key}", inner, said[key], got[key], tolerance)
    elif isinstance(said, list) and isinstance(got, list):
        if len(said) != len(got):
            yield f"{path} has {len(said)} entries in the record, {len(got)} here"
        for k, (a, b) in enumerate(zip(said, got, strict=False)):
            yield from _compare(f"{path}[{k}]", name, a, b, tolerance)
    elif isinstance(said, int | float) and isinstance(got, int | float) and bool not in (type(said), type(got)):
        if not abs(said - got) <= tolerance.of_field(name) + ROUNDING * abs(got):
            yield f"{path} is {said!r} in the record, {got!r} here"
    elif said != got:
        yield f"{path} is {said!r} in the record, {got!r} here"
