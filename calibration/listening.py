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
#: Share of source-free windows that may show a class's lines by chance, and the least evidence of a class (nats).
FIRST_SHARE, LEAST_FIRST = 0.01, 1.0
#: A class whose evidence is below this share of what all but few of its own windows have is not sure. Vessels of no
#: known class show a class's lines by chance with 6 nats in 2 % of their windows, known ones with 16 in all but 2 %.
SURE_SHARE, SURE_QUANTILE = 0.5, 0.02
#: Beside more unexplained lines than this share of windows of one ship has, a class must show evidence within so many
#: standard deviations of what such windows of its own have (a quantile would hang on two or three windows). On
#: development recordings that leaves 2 of 11 windows of strangers misnamed and none of 144 windows of vessels unnamed.
CROWD_QUANTILE, CERTAIN_SDS = 0.9, 2.0
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
    has = [label in fitter.labels for label in windows.labels]
    by_chance: list[float] = []
    own: list[float] = []
    second: list[float] = []
    crowd: list[tuple[float, float]] = []  # unexplained lines, evidence of the class named
    unexplained: dict[bool, list[float]] = {True: [], False: []}
    for i, spectrum in enumerate(windows.spectra_of(np.arange(len(windows)))):
        tracks = finder.find(spectrum)
        heard = hear(tracks, fitter, probabilities[i], windows.labels, ambient, LeastEvidence(), {})
        quiet = bool(windows.y[i] == ambient)
        if quiet:
            by_chance.append(max(fitter.fit(c, tracks).evidence for c in fitter.labels))
        unexplained[quiet].append(heard.unexplained)
        if not quiet:
            own += [fitter.fit(windows.labels[windows.y[i]], tracks).evidence] if has[windows.y[i]] else []
        if not quiet and heard.sounding:
            first, _, fit = heard.sounding[0]
            crowd.append((heard.unexplained, fit.evidence))
            rest = [fitter.fit(c, tracks, 1.0 - fit.own).evidence for c in fitter.labels if c != first]
            second.append(max(rest, default=-np.inf))
    limits = [float(np.quantile(v, 1.0 - UNKNOWN_SHARE)) for v in unexplained.values() if v]
    found = {
        "first": max(LEAST_FIRST, float(np.quantile(by_chance, 1.0 - FIRST_SHARE)) if by_chance else LEAST_FIRST),
        "sure": SURE_SHARE * max(0.0, float(np.quantile(own, SURE_QUANTILE))) if own else 0.0,
        "second": max(LEAST_SECOND, float(np.quantile(second, 1.0 - SECOND_SHARE)) if second else LEAST_SECOND),
        "unexplained": max(limits),
    }
    if crowd:
        lines, evidence = np.array(crowd).T
        found["crowd"] = float(np.quantile(lines, CROWD_QUANTILE))
        crowded = evidence[lines >= found["crowd"]]
        found["certain"] = max(0.0, float(crowded.mean() - CERTAIN_SDS * crowded.std()))
    return found
