"""From features to verdicts: composes the static graphs and numpy steps the manifest names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Detection", "Verdict"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Detection:
    """One label above its threshold in one window."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What the network says of one window."""

    detections: tuple[Detection, ...]
    """0..n classes; empty when ambient or unknown."""
    is_ambient: bool
    unknown: bool
    """Rejected: unlike anything the network was trained on."""
    probabilities: F32
    """``(n_labels,)`` in the order of the bundle's labels."""
    cam: F32 | None
    """``(n_freq, n_time)``, 0..1; None where no class was explained."""
    mix: F32 | None
    """``(n_freq, n_time)``, the score map that is thresholded: image CAM and class mask."""
    nearest: str
    """Representative whose embedding is nearest, e.g. ``vessel_0/12``."""
    distance: float
    """Euclidean distance to it, in the embedding."""
