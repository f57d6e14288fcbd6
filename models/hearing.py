r"""Which classes sound in a window: the network's probabilities and the line templates together.

The network judges the whole window by one softmax, in which weak or several vessels lose; a template judges whether the
lines of its class are there, whatever else is. For each class with a template the odds of "it sounds" against
"source-free" are

.. math:: \ln o_c = E_c + \ln \max(p_c, \delta) - \ln \max(p_{ambient}, \delta)

with the evidence ``E_c`` of `models.line_template` and the network's probabilities ``p``. The likeliest class comes
first; its lines are then taken out of the tracks and the next class must find enough of its own in what is left
(*explaining away*), as often as one does. So several ships are heard at once, by a network that was trained on single
ones. Lines that no class explains are counted: more than source-free sea has, make the window ``unknown``; so does a
class that the network does not name and that fits less well than nearly all of its own windows do, amid more lines it
does not explain than nearly all of them have: that is how a vessel of no known class looks like a known one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.special

from models.line_template import Fit, TemplateFitter
from models.score_map import presence
from models.tracks import COHERENT, EVIDENCE_WIDTH, Tracks

__all__ = ["Heard", "LeastEvidence", "hear"]

F64 = npt.NDArray[np.float64]

#: Least probability of the network that counts: it may err by so much, whatever it says.
DELTA = 1e-3
#: Probability from which the network names a class, whatever else there is.
NAMED = 0.5
#: Ships at once.
MAX_SHIPS = 3


@dataclass(frozen=True, slots=True)
class LeastEvidence:
    """What is asked of the tracks; set at calibration on windows of one ship and of none."""

    first: float = -math.inf
    """Evidence (nats) of the likeliest class: what the network says cannot stand in for lines that are not there."""
    sure: float = -math.inf
    """Evidence (nats) of a class that stands although the network names another, or the window is otherwise like
    nothing known; a further class needs as much."""
    second: float = math.inf
    """Evidence (nats) of a further class in the tracks left by the classes before it."""
    unexplained: float = math.inf
    """Unexplained lines from which a window without a detection is unknown."""
    crowd: float = math.inf
    """Unexplained lines beside which a class must be certain."""
    certain: float = -math.inf
    """Evidence (nats) that a class then needs, unless the network names it too."""

    @classmethod
    def of(cls, values: Mapping[str, float]) -> LeastEvidence:
        """From the thresholds of a bundle; what is missing there never fires."""
        return cls(
            values.get("first", -math.inf), values.get("sure", -math.inf), values.get("second", math.inf),
            values.get("unexplained", math.inf), values.get("crowd", math.inf), values.get("certain", -math.inf),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What the tracks of one window say."""

    sounding: tuple[tuple[str, float, Fit], ...]
    """Classes with a template that sound, likeliest first: label, probability, its template on all tracks."""
    own: Mapping[str, F64]
    """Per label with a template, ``(n_tracks,)`` probability that it sounds and the track is one of its lines, tracks
    that likelier classes explain left to them."""
    unexplained: float
    """Coherent lines that no sounding class explains."""
    log_odds: Mapping[str, float]
    """Of each class with a template, network and tracks together."""
    stranger: bool = False
    """Classes would have sounded, but not certainly enough amid so many lines they do not explain."""


def _chance(evidence: float, least: float) -> float:
    """Probability of a class whose even evidence is ``least``."""
    return float(scipy.special.expit(evidence - least))


def hear(
    tracks: Tracks,
    fitter: TemplateFitter,
    probabilities: npt.NDArray[np.floating],
    labels: Sequence[str],
    ambient: int,
    least: LeastEvidence,
    min_probability: Mapping[str, float],
) -> Heard:
    """Judge one window.

    Parameters
    ----------
    probabilities
        ``(n_labels,)`` of the network.
    labels, ambient
        Names of the outputs, and which of them is the source-free one.
    min_probability
        By label, least probability of the first detection.
    """
    templates = fitter.on(tracks)
    fits = templates.fits()
    p = np.maximum(np.asarray(probabilities, np.float64), DELTA)
    odds = {
        label: fit.evidence + math.log(p[labels.index(label)]) - math.log(p[ambient]) for label, fit in fits.items()
    }
    own: dict[str, F64] = {}
    left = np.ones(len(tracks))
    sounding: list[tuple[str, float, Fit]] = []
    if odds:
        first = max(odds, key=odds.__getitem__)
        agrees = p[labels.index(first)] >= p.max() - 1e-9  # where it knows nothing it disagrees with nobody
        enough = fits[first].evidence >= (least.first if agrees else max(least.first, least.sure))
        probability = float(scipy.special.expit(odds[first]))
        if enough and odds[first] > 0.0 and probability >= min_probability.get(first, 0.0):
            sounding.append((first, probability, fits[first]))
            own[first] = fits[first].own * probability
            left *= 1.0 - fits[first].own
    rest: dict[str, Fit] = {}  # what is left of the tracks, seen by the classes that do not sound
    while sounding:
        rest = {label: fit for label, fit in templates.fits(left).items() if label not in own}
        best = max(rest, key=lambda c: rest[c].evidence, default=None)
        if best is None or rest[best].evidence < max(least.second, least.sure) or len(sounding) == MAX_SHIPS:
            break
        sounding.append((best, presence(rest[best]), fits[best]))
        own[best] = rest[best].own * presence(rest[best])
        left *= 1.0 - rest[best].own
    for label in fits:
        if label not in own:
            rest_of = rest[label] if sounding else fits[label]
            own[label] = rest_of.own * _chance(rest_of.evidence, least.second if sounding else 0.0)
    coherent = scipy.special.expit((tracks.evidence.astype(np.float64) - COHERENT) / EVIDENCE_WIDTH)
    unexplained = float((coherent * left).sum())
    doubtful = [
        (label, chance, fit)
        for label, chance, fit in sounding
        if unexplained >= least.crowd and fit.evidence < least.certain and p[labels.index(label)] < NAMED
    ]
    for label, _, fit in doubtful:
        own[label] = fit.own * _chance(fit.evidence, least.certain)
        unexplained += float((coherent * fit.own).sum())
    dropped = {label for label, _, _ in doubtful}
    kept = tuple(s for s in sounding if s[0] not in dropped)
    return Heard(kept, own, unexplained, odds, bool(doubtful) and not kept)
