"""What a training learns from; where the windows come from is none of its business."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Dataset"]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Windows with labels; a group is what must not be torn apart (a recording, a vessel)."""

    features: npt.NDArray[np.float32]
    """``(n, n_planes, n_freq, n_time)``, 0..1."""
    y: npt.NDArray[np.int64]
    """``(n,)`` index of the label."""
    groups: Sequence[str]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.features)
        if not n == len(self.y) == len(self.groups):
            raise ValueError(f"{n} windows, {len(self.y)} labels, {len(self.groups)} groups: must be as many")

    def fingerprint(self) -> str:
        """SHA-256 over features, labels and groups."""
        h = hashlib.sha256(np.ascontiguousarray(self.features, "<f4").tobytes())
        h.update(np.ascontiguousarray(self.y, "<i8").tobytes())
        h.update(json.dumps([list(self.groups), list(self.labels)]).encode())
        return h.hexdigest()
