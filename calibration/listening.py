"""What is asked of line tracks before a further ship or an unknown source is claimed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calibration.dataset import AMBIENT, WindowSet
from models.hearing import LeastEvidence, hear
from models.line_template import TemplateFitter, Templates
from models.tracks import TrackFinder

__all__ = ["least_evidence"]

F32 = npt.NDArray[np.float32]

#: Share of windows of one ship in which a second may be claimed, and of known windows that may count as unknown.
SECOND_SHARE, UNKNOWN_SHARE = 0.005, 0.02
#: A second ship needs no less evidence than this (nats), however few windows there were to learn from.
LEAST_SECOND = 5.0


def least_evidence(templates: Templates, windows: WindowSet, probabilities: F32) -> dict[str, float]:
    """Thresholds of `models.hearing.LeastEvidence`, as a bundle keeps them.

    Parameters
    ----------
    windows
        Calibration windows, one ship in each or none.
    probabilities
        ``(n, n_labels)`` of the network.
    """
    if not templates.groups:
        return {}
    finder, fitter = TrackFinder(windows.spec), TemplateFitter(templates, windows.spec)
    ambient = windows.labels.index(AMBIENT)
    second: list[float] = []
    unexplained: dict[bool, list[float]] = {True: [], False: []}
    for i, spectrum in enumerate(windows.spectra_of(np.arange(len(windows)))):
        tracks = finder.find(spectrum)
        heard = hear(tracks, fitter, probabilities[i], windows.labels, ambient, LeastEvidence(), {})
        quiet = bool(windows.y[i] == ambient)
        unexplained[quiet].append(heard.unexplained)
        if not quiet and heard.sounding:
            first, _, fit = heard.sounding[0]
            rest = [fitter.fit(c, tracks, 1.0 - fit.own).evidence for c in fitter.labels if c != first]
            second.append(max(rest, default=-np.inf))
    limits = [float(np.quantile(v, 1.0 - UNKNOWN_SHARE)) for v in unexplained.values() if v]
    return {
        "second": max(LEAST_SECOND, float(np.quantile(second, 1.0 - SECOND_SHARE)) if second else LEAST_SECOND),
        "unexplained": max(limits),
    }
