r"""What the lines of a class look like together, and how well the tracks of a window fit.

A vessel's lines move in groups: all harmonics of the propeller shaft scale with its speed, all that one machine drives
scales with that machine. So a *template* holds groups of lines, each with a nominal frequency, the share of recordings
that have it (presence ``p``), and the range of the common shift ``s`` (logarithm of the scale) seen in training. In a
window the shift is unknown but common: where it is, nearly all lines of the group fall on tracks at once, and a foreign
line that merely crosses the range of one line is told apart.

For a shift ``s`` line ``l`` is expected at row ``r_l e^s``. A track at distance ``d`` rows with tone probability ``q``
(`models.tracks.tone_probability`) speaks for the line against a foreign line there with odds

.. math:: o = p_l \, q \, \frac{e^{-d^2 / 2 \sigma^2}}{\lambda \sqrt{2 \pi} \sigma}, \qquad
          \Lambda(s) = \sum_l \ln(1 - P p_l + P \max_{tracks} o)

with ``lambda`` the foreign lines per row (those of source-free sea, or more where the window holds more lines than the
template: among thirty lines some fall into place by chance), ``P`` the chance that a line present is tracked, and
``sigma = 0.6 tol``. The evidence for the group is ``ln mean_s exp(Lambda)``, that for the class their sum; weights over
``s`` follow from ``exp(Lambda)``; a track's own probability is the weighted ``o / (1 + o)`` of the line it is the best
track of.

Templates are learned without truth from labelled recordings (`calibration.templates`). Numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BundleError
from models.feature_spec import FeatureSpec
from models.tracks import COHERENT, Tracks, tone_probability

__all__ = ["NO_TEMPLATES", "Fit", "LineGroup", "TemplateFitter", "Templates", "tolerance_rows"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Chance that a line that sounds is among the tracks.
P_TRACKED = 0.85
#: Shift grid: the highest line of a group moves so many rows per step; learned ranges are widened by this (logarithm).
STEP_ROWS, MARGIN = 0.25, 0.004
MAX_STEPS = 2000
#: A line of the class is expected within so many rows of its place.
NEAR_ROWS = 1.25


def tolerance_rows(row: npt.NDArray[np.floating] | float) -> F64:
    """Rows by which a track may miss its line: the centroid's error, and the line's own walk within a window."""
    return 0.6 + 0.002 * np.asarray(row, np.float64)


@dataclass(frozen=True, slots=True)
class LineGroup:
    """Lines that share one shift.

    Raises
    ------
    ValueError
        If lists differ in length or a number is out of its range.
    """

    freq_hz: tuple[float, ...]
    presence: tuple[float, ...]
    """Share of the training recordings that have the line, 0..1."""
    shift: tuple[float, float]
    """Least and largest shift seen, natural logarithm of the scale."""

    def __post_init__(self) -> None:
        if not self.freq_hz or len(self.freq_hz) != len(self.presence):
            raise ValueError(f"{len(self.freq_hz)} frequencies, but {len(self.presence)} presences")
        if not all(0.0 < f < 1e6 for f in self.freq_hz) or not all(0.0 < p <= 1.0 for p in self.presence):
            raise ValueError("frequencies must be positive and presences lie in 0..1")
        if not -0.7 <= self.shift[0] <= self.shift[1] <= 0.7:
            raise ValueError(f"shift={self.shift} is not an ascending pair within -0.7..0.7")


@dataclass(frozen=True, slots=True)
class Templates:
    """Templates of all classes that have one."""

    foreign_per_row: float
    """Lines of no class per row and window, from source-free windows."""
    groups: Mapping[str, tuple[LineGroup, ...]]
    """By label; a label without lines in common is left out."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        return {
            "foreign_per_row": self.foreign_per_row,
            "classes": {
                label: [
                    {"freq_hz": list(g.freq_hz), "presence": list(g.presence), "shift": list(g.shift)} for g in groups
                ]
                for label, groups in self.groups.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Templates:
        """Inverse of `to_dict`.

        Raises
        ------
        BundleError
            If a key is missing or unknown, or a value does not fit; the message says which.
        """
        try:
            if set(values) != {"foreign_per_row", "classes"}:
                raise ValueError(f"keys {sorted(values)}, expected classes and foreign_per_row")
            rate = float(values["foreign_per_row"])
            if not 0.0 < rate < 1.0:
                raise ValueError(f"foreign_per_row={rate} is not in 0..1")
            groups = {str(label): tuple(_group(g) for g in found) for label, found in values["classes"].items()}
        except (TypeError, ValueError, KeyError, AttributeError) as e:
            raise BundleError(f"templates: {e}") from e
        return cls(rate, groups)


#: Of a bundle whose classes are explained by the network alone.
NO_TEMPLATES = Templates(0.01, {})


def _group(values: Mapping[str, Any]) -> LineGroup:
    if set(values) != {"freq_hz", "presence", "shift"}:
        raise ValueError(f"a group has keys {sorted(values)}, expected freq_hz, presence and shift")
    low, high = (float(v) for v in values["shift"])
    return LineGroup(tuple(map(float, values["freq_hz"])), tuple(map(float, values["presence"])), (low, high))


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """One template on the tracks of one window."""

    own: F64
    """``(n_tracks,)`` probability that the track is a line of the class, if the class is there."""
    evidence: float
    """Log-likelihood ratio (nats) of "the class is there" against foreign lines alone."""
    expected: F64 | None
    """``(n_freq,)`` probability that a line of the class lies within a track's band of the row, if the class sounds;
    None where it was not asked for."""
    shifts: tuple[float, ...]
    """Mean shift of each group."""


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """One group on its grid of shifts."""

    shifts: F64
    """``(n_shifts,)``"""
    rows: F64
    """``(n_shifts, n_lines)`` expected rows."""
    tolerance: F64
    """As ``rows``."""
    presence: F64
    """``(n_lines,)``"""
    cells: I64
    """Line times rows plus row of each cell within `NEAR_ROWS` of where a line lies, for all lines and shifts."""
    cell_shifts: I64
    """As ``cells``: the shift."""


class TemplateFitter:
    """Fits the templates of a bundle; holds no state between calls."""

    def __init__(self, templates: Templates, spec: FeatureSpec) -> None:
        self._rate, self._n_freq = templates.foreign_per_row, spec.n_freq
        self._n_rows = spec.n_freq - spec.row_lo
        self._grids = {
            label: tuple(_grid(g, spec) for g in groups) for label, groups in templates.groups.items() if groups
        }

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that have a template."""
        return tuple(self._grids)

    def fit(
        self, label: str, tracks: Tracks, weight: npt.NDArray[np.floating] | None = None, *, expected: bool = True
    ) -> Fit:
        """How the template of ``label`` fits.

        Parameters
        ----------
        weight
            ``(n_tracks,)`` 0..1: how much of each track is still unexplained; all of it by default.
        expected
            Whether to say where the lines of the class would be, which costs more than all the rest.

        Raises
        ------
        KeyError
            If the label has no template.
        """
        return self.on(tracks).fit(label, weight, expected=expected)

    def on(self, tracks: Tracks) -> TemplatesOn:
        """The templates on the tracks of one window, for several fits."""
        return TemplatesOn(self, tracks)

    def _foreign_rate(self, label: str, tracks: Tracks) -> float:
        """Foreign lines per row of this window: as in source-free sea, or what the template cannot own at best."""
        n_own = sum(len(g.presence) for g in self._grids[label])
        n_coherent = int(np.count_nonzero(tracks.evidence >= COHERENT))
        return max(self._rate, (n_coherent - n_own) / self._n_rows)

    def _odds(self, label: str, tracks: Tracks, row: F64) -> list[F64]:
        """Per group ``(n_shifts, n_lines, n_tracks)``: odds that a tone at the track is the line, not a foreign one."""
        rate = self._foreign_rate(label, tracks) * math.sqrt(2.0 * math.pi)
        found = []
        for grid in self._grids[label]:
            sigma = 0.6 * grid.tolerance[:, :, None]
            miss = (grid.rows[:, :, None] - row) / sigma
            odds = np.exp(-0.5 * miss**2) * (grid.presence[:, None] / (rate * sigma))
            odds[np.abs(miss) >= 2.5] = 0.0
            found.append(odds)
        return found

    @staticmethod
    def _fit_group(grid: _Grid, odds: F64) -> tuple[F64, float, F64]:
        """Own probability of each track, evidence, weights over the shifts."""
        if not odds.shape[2]:
            gain = np.log(1.0 - P_TRACKED * grid.presence).sum()
            return np.zeros(0), float(gain), np.full(len(grid.shifts), 1.0 / len(grid.shifts))
        best = odds.max(axis=2)
        total = np.log(1.0 - P_TRACKED * grid.presence + P_TRACKED * best).sum(axis=1)
        top = total.max()
        weights = np.exp(total - top)
        evidence = float(top + np.log(weights.mean()))
        weights /= weights.sum()
        odds[odds < best[:, :, None]] = 0.0  # each line claims one track
        own = (odds / (1.0 + odds)).max(axis=1)  # (n_shifts, n_tracks)
        return weights @ own, evidence, weights

    def _expected(self, grid: _Grid, weights: F64) -> F64:
        """Probability per row that some line of the group lies within `NEAR_ROWS`."""
        n_lines = len(grid.presence)
        mass = np.bincount(grid.cells, weights[grid.cell_shifts], n_lines * self._n_freq)
        out: F64 = (grid.presence[:, None] * mass.reshape(n_lines, self._n_freq)).max(axis=0)
        return out


class TemplatesOn:
    """The templates of a `TemplateFitter` on the tracks of one window; what does not depend on weights is kept."""

    def __init__(self, fitter: TemplateFitter, tracks: Tracks) -> None:
        self._fitter, self._tracks = fitter, tracks
        self._row = tracks.row
        self._tone = tone_probability(tracks.evidence)
        self._odds: dict[str, list[F64]] = {}

    def fit(self, label: str, weight: npt.NDArray[np.floating] | None = None, *, expected: bool = True) -> Fit:
        """As `TemplateFitter.fit`."""
        fitter = self._fitter
        if label not in self._odds:
            self._odds[label] = fitter._odds(label, self._tracks, self._row)
        tone = self._tone if weight is None else self._tone * np.asarray(weight, np.float64)
        other = np.ones(len(self._tracks))
        rows = np.zeros(fitter._n_freq)
        evidence, shifts = 0.0, []
        for grid, odds in zip(fitter._grids[label], self._odds[label], strict=True):
            own, gain, over_shifts = fitter._fit_group(grid, odds * tone)
            other *= 1.0 - own
            evidence += gain
            shifts.append(float((over_shifts * grid.shifts).sum()))
            if expected:
                rows = np.maximum(rows, fitter._expected(grid, over_shifts))
        return Fit(1.0 - other, evidence, rows if expected else None, tuple(shifts))


def _grid(group: LineGroup, spec: FeatureSpec) -> _Grid:
    rows = np.array(group.freq_hz) / spec.bin_hz
    low, high = group.shift[0] - MARGIN, group.shift[1] + MARGIN
    n = min(MAX_STEPS, max(2, math.ceil((high - low) * rows.max() / STEP_ROWS) + 1))
    shifts = np.linspace(low, high, n)
    expected = rows * np.exp(shifts)[:, None]
    presence = np.clip(np.array(group.presence), 0.05, 0.97)
    row = np.floor(expected).astype(np.int64)[:, :, None] + np.arange(-2, 4)  # (n_shifts, n_lines, 6)
    ok = (row >= 0) & (row < spec.n_freq) & (np.abs(row - expected[:, :, None]) <= NEAR_ROWS)
    shift, line, _ = np.nonzero(ok)
    return _Grid(shifts, expected, tolerance_rows(expected), presence, line * spec.n_freq + row[ok], shift)
