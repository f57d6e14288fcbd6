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

import dataclasses
import math
from collections.abc import Mapping, Sequence
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
#: A track farther from a line than so many standard deviations is not that line.
REACH_SIGMA = 2.5


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
    weights: tuple[F64, ...]
    """Of each group, how much each shift of its grid counts; sums to 1."""


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
    """Fits the templates of a bundle; holds no state between calls.

    All groups of all labels lie in one flat table, a row for each line at each shift: a dozen calls of numpy
    on the whole table cost a fraction of a dozen for each group.
    """

    def __init__(self, templates: Templates, spec: FeatureSpec) -> None:
        self._rate, self._n_freq = templates.foreign_per_row, spec.n_freq
        self._n_rows = spec.n_freq - spec.row_lo
        self._grids = {
            label: tuple(_grid(g, spec) for g in groups) for label, groups in templates.groups.items() if groups
        }
        self._table = _Table.of([g for groups in self._grids.values() for g in groups])
        self._n_cells = [sum(g.rows.size for g in groups) for groups in self._grids.values()]
        self._n_lines = [sum(len(g.presence) for g in groups) for groups in self._grids.values()]

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
            Whether to say where the lines of the class would be.

        Raises
        ------
        KeyError
            If the label has no template.
        """
        fit = self.on(tracks).fits(weight)[label]
        return self.with_expected(label, fit) if expected else fit

    def on(self, tracks: Tracks) -> TemplatesOn:
        """The templates on the tracks of one window, for several fits."""
        return TemplatesOn(self, tracks)

    def with_expected(self, label: str, fit: Fit) -> Fit:
        """The same fit, with where the lines of the class would be."""
        rows = np.zeros(self._n_freq)
        for grid, weights in zip(self._grids[label], fit.weights, strict=True):
            rows = np.maximum(rows, self._expected(grid, weights))
        return dataclasses.replace(fit, expected=rows)

    def _foreign_rates(self, tracks: Tracks) -> F64:
        """Foreign lines per row of this window, for each label ``(n_labels,)``.

        As in source-free sea, or what the template cannot own at best.
        """
        n_coherent = int(np.count_nonzero(tracks.evidence >= COHERENT))
        return np.array([max(self._rate, (n_coherent - n) / self._n_rows) for n in self._n_lines])

    def _odds(self, tracks: Tracks) -> _Odds:
        """Odds that a tone at a track is the line of a cell, not a foreign one, where they are near each other."""
        t = self._table
        miss = (t.rows - tracks.row[:, None]) * t.per_sigma  # (n_tracks, n_cells)
        track, cell = np.divmod(np.flatnonzero(np.abs(miss) < REACH_SIGMA), t.rows.size)
        rate = np.repeat(self._foreign_rates(tracks) * math.sqrt(2.0 * math.pi), self._n_cells)
        odds = np.exp(-0.5 * miss[track, cell] ** 2) * (t.presence * t.per_sigma / rate)[cell]
        return _Odds(track, cell, odds)

    def _expected(self, grid: _Grid, weights: F64) -> F64:
        """Probability per row that some line of the group lies within `NEAR_ROWS`."""
        n_lines = len(grid.presence)
        mass = np.bincount(grid.cells, weights[grid.cell_shifts], n_lines * self._n_freq)
        out: F64 = (grid.presence[:, None] * mass.reshape(n_lines, self._n_freq)).max(axis=0)
        return out


class TemplatesOn:
    """The templates of a `TemplateFitter` on the tracks of one window; what does not depend on weights is kept."""

    def __init__(self, fitter: TemplateFitter, tracks: Tracks) -> None:
        self._fitter, self._tone = fitter, tone_probability(tracks.evidence)
        self._odds = fitter._odds(tracks)

    def fits(self, weight: npt.NDArray[np.floating] | None = None) -> dict[str, Fit]:
        """Every label's template, as `TemplateFitter.fit` without where its lines would be."""
        if not self._fitter.labels:
            return {}
        t, near = self._fitter._table, self._odds
        tone = self._tone if weight is None else self._tone * np.asarray(weight, np.float64)
        odds = near.odds * tone[near.track]
        best = np.zeros(t.rows.size)  # without tracks every line is missed, at every shift
        np.maximum.at(best, near.cell, odds)
        total = np.add.reduceat(np.log(1.0 - P_TRACKED * t.presence + P_TRACKED * best), t.shift_starts)
        top = np.maximum.reduceat(total, t.group_starts)
        weights = np.exp(total - np.repeat(top, t.n_shifts))
        mass = np.add.reduceat(weights, t.group_starts)
        evidence = top + np.log(mass / t.n_shifts)
        weights /= np.repeat(mass, t.n_shifts)
        claims = np.flatnonzero(odds >= best[near.cell])  # each line claims one track
        own = np.zeros((len(tone), len(weights)))
        np.maximum.at(own, (near.track[claims], t.shift_of[near.cell[claims]]), odds[claims] / (1.0 + odds[claims]))
        own *= weights
        own = np.add.reduceat(own, t.group_starts, axis=1)  # (n_tracks, n_groups)
        shifts = np.add.reduceat(weights * t.shifts, t.group_starts)
        parts = np.split(weights, t.group_starts[1:])
        found, first = {}, 0
        for label, grids in self._fitter._grids.items():
            of = slice(first, first := first + len(grids))
            found[label] = Fit(
                1.0 - np.multiply.reduce(1.0 - own[:, of], axis=1), float(evidence[of].sum()), None,
                tuple(shifts[of].tolist()), tuple(parts[of]),
            )  # fmt: skip
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Odds:
    """Few of all pairs of a track and a cell are near each other: those that are."""

    track: I64
    """``(n_pairs,)``"""
    cell: I64
    odds: F64


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Lines at their shifts, of all groups, one after the other."""

    rows: F64
    """``(n_cells,)`` expected row; cells of a shift lie together, shifts of a group too."""
    per_sigma: F64
    """``(n_cells,)`` 1 / standard deviation of a track's miss, rows."""
    presence: F64
    """``(n_cells,)``"""
    shift_starts: I64
    """First cell of each shift of each group."""
    shifts: F64
    """``(n_shifts of all groups,)``"""
    group_starts: I64
    """Where each group begins in ``shifts``."""
    n_shifts: I64
    """``(n_groups,)``"""
    shift_of: I64
    """``(n_cells,)`` index into ``shifts``."""

    @classmethod
    def of(cls, grids: Sequence[_Grid]) -> _Table:
        """One table of several groups; none: an empty one."""
        if not grids:
            nothing, none = np.zeros(0), np.zeros(0, np.int64)
            return cls(nothing, nothing, nothing, none, nothing, none, none, none)
        n_lines = np.concatenate([np.full(len(g.shifts), len(g.presence)) for g in grids])
        n_shifts = np.array([len(g.shifts) for g in grids])
        return cls(
            np.concatenate([g.rows.ravel() for g in grids]),
            1.0 / (0.6 * np.concatenate([g.tolerance.ravel() for g in grids])),
            np.concatenate([np.tile(g.presence, len(g.shifts)) for g in grids]),
            np.cumsum(n_lines) - n_lines,
            np.concatenate([g.shifts for g in grids]),
            np.cumsum(n_shifts) - n_shifts,
            n_shifts,
            np.repeat(np.arange(len(n_lines)), n_lines),
        )


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
