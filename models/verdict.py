"""What is said of one window: which classes sound, by which evidence, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.tracks import Tracks

__all__ = ["Detection", "Verdict"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One label above its threshold in one window."""

    label: str
    probability: float
    """That the class sounds, 0..1."""
    score: F32
    """``(n_freq, n_time)``, 0..1: the score map that is thresholded."""
    cam: F32 | None = None
    """``(n_freq, n_time)``, 0..1: Score-CAM; None where the student stood in for it."""
    evidence: float | None = None
    """Log-likelihood ratio (nats) of the class's line template against foreign lines; None without a template."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What is said of one window."""

    detections: tuple[Detection, ...]
    """0..n classes, likeliest first; empty when ambient or unknown."""
    is_ambient: bool
    unknown: bool
    """Rejected: coherent lines, or an embedding, unlike anything the bundle knows."""
    probabilities: F32
    """``(n_labels,)`` of the network, in the order of the bundle's labels."""
    nearest: str
    """Representative whose embedding is nearest, e.g. ``vessel_0/12``."""
    distance: float
    """Euclidean distance to it, in the embedding."""
    tracks: Tracks | None
    """Line tracks of the window; None where no spectrum was given."""
    own: Mapping[str, F64]
    """Per label with a template, ``(n_tracks,)`` probability that it sounds and the track is its line."""
    unexplained: float
    """Coherent lines (a sum of probabilities) that no class explains."""
    agreement: float | None = None
    """Overlap of live and full explanation, 0..1; None where it was not checked."""

    @property
    def cam(self) -> F32 | None:
        """Score-CAM of the likeliest detection."""
        return self.detections[0].cam if self.detections else None

    @property
    def mix(self) -> F32 | None:
        """Score map of the likeliest detection."""
        return self.detections[0].score if self.detections else None
