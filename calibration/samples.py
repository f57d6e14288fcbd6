"""What a network and the line finder say of windows: all that the rejection of unknowns is fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from calibration.dataset import Clip, WindowSet, simulated_clips
from calibration.scenarios import AMBIENT, Scenario
from models.line_evidence import line_evidence

__all__ = ["N_HELD", "Classifier", "Sample", "held_clips", "sample_of"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

BATCH = 16
#: Simulated recordings of each vessel, and of ambient, that set scales and limits. A limit at 2 % rests on the few
#: strangest recordings: from 20 recordings of ambient it came out so high that 1.0 % of ambient and 60 % of strange
#: windows were unknown, from 128 recordings 1.8 and 86 % (development recordings).
N_HELD = {"vessel": 40, AMBIENT: 120}
#: Index of the first of them within the space ``calibrate``, beyond those of any recipe.
FIRST_HELD = 50_000


class Classifier(Protocol):
    """An engine, or the torch reference."""

    def run(self, graph: str, tensors: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
        """Run one graph."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What a network says of windows; one entry per window in each array.

    Raises
    ------
    ValueError
        If lengths differ or a value is not finite.
    """

    y: I64
    """``(n,)`` index of the true label; -1 for a stranger."""
    groups: I64
    """``(n,)`` recording of each window."""
    logits: F64
    """``(n, n_labels)``"""
    embedding: F64
    """``(n, n_embedding)``"""
    evidence: F64
    """``(n, n_freq)``, from `models.rejection.line_evidence`."""

    def __post_init__(self) -> None:
        n = len(self.y)
        for name in ("groups", "logits", "embedding", "evidence"):
            a = np.asarray(getattr(self, name))
            if len(a) != n:
                raise ValueError(f"{len(a)} {name} for {n} windows")
            if not np.isfinite(a).all():
                raise ValueError(f"{name} holds values that are not finite")

    def __len__(self) -> int:
        return len(self.y)

    @property
    def named(self) -> I64:
        """``(n,)`` label the network names."""
        out: I64 = np.asarray(self.logits).argmax(axis=1)
        return out

    def take(self, index: npt.ArrayLike) -> Sample:
        """The windows of ``index`` (indices or a mask)."""
        i = np.asarray(index)
        return Sample(self.y[i], self.groups[i], self.logits[i], self.embedding[i], self.evidence[i])


def joined(samples: Sequence[Sample]) -> Sample:
    """All windows of several samples of different recordings."""
    groups, first = [], 0
    for s in samples:
        groups.append(s.groups + first)
        first += int(s.groups.max(initial=-1)) + 1
    return Sample(
        np.concatenate([s.y for s in samples]), np.concatenate(groups), np.concatenate([s.logits for s in samples]),
        np.concatenate([s.embedding for s in samples]), np.concatenate([s.evidence for s in samples]),
    )  # fmt: skip


def sample_of(classifier: Classifier, windows: WindowSet) -> Sample:
    """Classify windows and find their lines.

    Parameters
    ----------
    classifier
        Takes at least `BATCH` windows at once and gives ``logits`` and ``embedding`` from the graph ``classify``.
    """
    logits, embeddings = [], []
    for i in range(0, len(windows), BATCH):
        out = classifier.run("classify", {"features": np.ascontiguousarray(windows.features[i : i + BATCH])})
        logits.append(np.array(out["logits"], np.float64))
        embeddings.append(np.array(out["embedding"], np.float64))
    evidence = line_evidence(windows.features, windows.spec).astype(np.float64)
    return Sample(windows.y, windows.clip, np.concatenate(logits), np.concatenate(embeddings), evidence)


def held_clips(
    scenario: Scenario, seconds: float, fs: int, *, seed: int = 0, n_held: Mapping[str, int] = N_HELD
) -> list[Clip]:
    """Simulated recordings of the space ``calibrate`` for `calibration.open_set.fit`, apart from those of any recipe.

    Parameters
    ----------
    seed
        That of the recipe: another one shares no recording.
    n_held
        Recordings of each ``vessel`` and of ``ambient``.
    """
    clips: list[Clip] = []
    for label in (*scenario.labels, AMBIENT):
        n = n_held[AMBIENT if label == AMBIENT else "vessel"]
        made = simulated_clips(scenario, "calibrate", n, seconds, first=seed * 100_000 + FIRST_HELD, fs=fs)
        clips += [c for c in made if c.label == label]
    return clips
