r"""The score map of a class: how much of each cell is a tonal of that class, in 0..1.

Three witnesses, none of which ever saw a true line:

* the *tracks* of the window (`models.tracks`) and how probably each is a line of the class (`models.line_template`);
* the *explanation*: which cells the network itself uses for the class (Score-CAM and class mask, or the student that
  was distilled from them);
* the *regions*: what insertion and deletion of each single track does to the network's score for the class.

.. math::
    p_k = \sigma(\mathrm{logit}(own_k) + R r_k), \quad
    S = \max_k [\text{cell in track k}] \; \pi p_k + \frac{\epsilon}{\sum_k p_k + 0.3} \,
        (0.75 \, e_f \min(W, 4) / 4 + 0.25 \, X)

with ``own_k`` the template's probability, ``r_k`` the region score in -1..1 (0 where none was computed), ``pi`` the
probability that the class sounds at all given the template's evidence, ``e_f`` the template's expectation for the row,
``W`` the whitened level and ``X`` the explanation.

The second term ranks what lies outside all tracks. It is divided by the number of lines explained: where the class
stands clearly in the window, what no track supports must count for less than in source-free windows, from which the
thresholds come. So a nominal share of removed noise is met there and surpassed where it matters.

A class without a template is mapped by its explanation alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import scipy.special

from models.line_template import Fit
from models.tracks import N_BLOCKS, Tracks, tone_probability

__all__ = ["own_probability", "presence", "score_map", "vessel_map"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: Weight of a region score, in units of log-odds.
REGION_WEIGHT = 2.0
#: Scale of all that lies outside tracks, and the lines added to those explained before dividing.
OUTSIDE, FEWEST = 0.02, 0.3
EXPECTED_SHARE, EXPLAINED_SHARE = 0.75, 0.25
#: Half a band of the vessel map, rows.
VESSEL_HALF = 1.2
#: Least and most certainty that a template may have of a track.
CERTAIN = 1e-4, 0.98


def own_probability(fit: Fit, regions: npt.NDArray[np.floating] | None = None) -> F64:
    """Probability ``(n_tracks,)`` that each track is a line of the class, if the class sounds.

    Parameters
    ----------
    regions
        Region scores ``(n_tracks,)`` in -1..1.
    """
    if regions is None:
        return fit.own
    odds = scipy.special.logit(np.clip(fit.own, *CERTAIN)) + REGION_WEIGHT * np.asarray(regions)
    out: F64 = scipy.special.expit(odds)
    return out


def presence(fit: Fit) -> float:
    """Probability that the class sounds, from its template's evidence, even odds beforehand."""
    return float(scipy.special.expit(fit.evidence))


def score_map(
    tracks: Tracks,
    fit: Fit | None,
    explained: npt.NDArray[np.floating],
    row_lo: int,
    regions: npt.NDArray[np.floating] | None = None,
) -> F32:
    """Score map ``(n_freq, n_time)`` of one class in one window; see the module text.

    Parameters
    ----------
    fit
        The class's template on the tracks; None for a class without one.
    explained
        ``(n_freq, n_time)`` in 0..1: Score-CAM mixed with the class mask, or the student's map.
    row_lo
        First row in use; those below are 0.
    regions
        Region scores of the tracks.
    """
    if fit is None:
        out = np.array(explained, np.float32)
    else:
        if fit.expected is None:
            raise ValueError("the fit of a score map must say where the lines of the class would be")
        own = own_probability(fit, regions)
        level = np.clip(np.repeat(tracks.strength, explained.shape[1] // N_BLOCKS, axis=1), 0.0, 4.0) / 4.0
        outside = EXPECTED_SHARE * fit.expected[:, None] * level + EXPLAINED_SHARE * explained
        out = (OUTSIDE / (own.sum() + FEWEST) * outside).astype(np.float32) + tracks.paint(own * presence(fit))
        np.minimum(out, 1.0, out=out)
    out[:row_lo] = 0.0
    return out


def vessel_map(tracks: Tracks, own: Mapping[str, F64], n_time: int, row_lo: int) -> F32:
    r"""Map ``(n_freq, n_time)`` of all coherent tracks of a vessel, whatever its class, in 0..1.

    With ``v_k`` the largest probability of any class that track ``k`` is its line, ``q_k`` that it is a tone at all,
    and ``N = sum v``:

    .. math:: V = \max_k [\text{cell in track k}] \; \max\left(v_k, \; \frac{q_k (1 - v_k)}{2 (1 + N)^2}\right)

    Where known classes explain the lines, a line that none explains needs more; where none does, every coherent line
    counts by its own evidence. Bands are a little narrower than in `score_map`: classes that vary widely put their
    lines anywhere, next to those of others.

    Parameters
    ----------
    own
        Per label, ``(n_tracks,)`` probability that it sounds and the track is its line (`models.hearing.Heard`).
    """
    v = np.max(np.stack(list(own.values())), axis=0) if own else np.zeros(len(tracks))
    n_explained = float(v.sum())
    value = np.maximum(v, 0.5 * tone_probability(tracks.evidence) * (1.0 - v) / (1.0 + n_explained) ** 2)
    level = np.clip(np.repeat(tracks.strength, n_time // N_BLOCKS, axis=1), 0.0, 4.0) / 4.0
    out = tracks.paint(value, VESSEL_HALF) + np.float32(0.1 * OUTSIDE / (n_explained + FEWEST)) * level
    out[:row_lo] = 0.0
    return np.asarray(np.minimum(out, 1.0), np.float32)
