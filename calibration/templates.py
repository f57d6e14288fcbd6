r"""Line templates of the classes, learned from labelled recordings without any truth about their lines.

Foreign lines stand elsewhere in each recording; those of the class recur, group by group under a common shift. So:

1. the tracks of a recording's windows are merged into *lines of the recording*: those seen in at least
   ``MIN_SHARE_WINDOWS`` of its windows;
2. *seed*: of all triples of lines of a recording rich in lines, the one that most other recordings hold too, under some
   common shift (three lines agree by chance in less than 1 % of recordings, truly in about 70 %);
3. *grow*: each recording is shifted onto the seed; lines on which most of them then agree form the group, which gives
   better shifts, and so on;
4. the lines explained are taken out, and the rest searched for the next group; at last single lines that most
   recordings hold within a narrow range become groups of one.

Groups whose shifts agree are merged. On simulated vessels of widely varying speed (shaft +-15 %, machinery +-6 %) this
finds the canonical lines to a fraction of a row, in two seconds per class; see `docs/method.md`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.dataset import AMBIENT, Progress, WindowSet, no_progress
from models.feature_spec import FeatureSpec
from models.line_template import LineGroup, Templates, tolerance_rows
from models.tracks import TrackFinder, Tracks

__all__ = ["learn_templates", "lines_of_recording", "templates_of"]

F64 = npt.NDArray[np.float64]

#: A line of a recording is tracked in at least this share of its windows, with at least this evidence.
MIN_SHARE_WINDOWS, MIN_EVIDENCE = 0.4, 7.0
#: Tracks of neighbouring windows nearer than this (rows) are the same line.
SAME_ROWS = 0.75
#: Largest shifts between two recordings of a class (natural logarithm: 6 %, a factor of 1.43). The narrow range
#: is tried first: a class whose lines stand in simple ratios fits itself at wrong shifts, too.
MAX_SHIFTS = (0.06, 0.36)
#: Share of the recordings that must agree on a line, on a seed (of either range).
MIN_SHARE, MIN_SHARE_SEED = 0.62, (0.55, 0.4)
#: Recordings tried as the source of a seed, groups tried, half-widths of the range of a single line.
N_SEEDS, MAX_GROUPS, SINGLE_RANGES = 6, 4, (0.01, 0.03, 0.1)
#: Fewer recordings teach no recurrence.
MIN_RECORDINGS = 4


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """One group on the way."""

    rows: F64
    presence: F64
    shift: F64
    """``(n_recordings,)``, nan where the group is not heard."""


def templates_of(windows: WindowSet, *, progress: Progress = no_progress) -> Templates:
    """Templates of all classes of a training set.

    Parameters
    ----------
    windows
        Labelled windows, ambient among them, with their spectra.
    """
    finder = TrackFinder(windows.spec)
    found: dict[tuple[int, int], list[Tracks]] = {}
    for i, spectrum in enumerate(windows.spectra_of(np.arange(len(windows)))):
        if i % 50 == 0:
            progress("line tracks", i, len(windows))
        found.setdefault((int(windows.y[i]), int(windows.clip[i])), []).append(finder.find(spectrum))
    progress("line tracks", len(windows), len(windows))
    by_label = {
        label: [lines_of_recording(t) for (y, _), t in found.items() if y == c]
        for c, label in enumerate(windows.labels)
        if label != AMBIENT
    }
    quiet = [lines_of_recording(t) for (y, _), t in found.items() if windows.labels[y] == AMBIENT]
    return learn_templates(by_label, foreign_rate(quiet, windows.spec), windows.spec)


def foreign_rate(source_free: Sequence[F64], spec: FeatureSpec) -> float:
    """Lines per row of source-free recordings, from the lines of each."""
    n = sum(lines.size for lines in source_free)
    n_rows = max(1, len(source_free)) * (spec.n_freq - spec.row_lo)
    return float(np.clip(n / n_rows, 1e-3, 0.2))


def lines_of_recording(windows: Sequence[Tracks]) -> F64:
    """Rows of the lines of one recording, ascending, from the tracks of its windows."""
    strong = [t.row[t.evidence >= MIN_EVIDENCE] for t in windows]
    row = np.concatenate(strong) if strong else np.zeros(0)
    window = np.concatenate([np.full(len(r), i) for i, r in enumerate(strong)]) if strong else np.zeros(0)
    order = np.argsort(row, kind="stable")
    row, window = row[order], window[order]
    cuts = np.flatnonzero(np.diff(row) >= SAME_ROWS) + 1
    parts = np.split(np.arange(row.size), cuts)
    need = MIN_SHARE_WINDOWS * len(windows)
    kept = [float(np.median(row[p])) for p in parts if p.size and np.unique(window[p]).size >= need]
    return np.array(kept)


def learn_templates(recordings: Mapping[str, Sequence[F64]], foreign_per_row: float, spec: FeatureSpec) -> Templates:
    """Templates from the lines of the recordings of each class.

    Parameters
    ----------
    recordings
        By label, the rows of the lines of each recording (`lines_of_recording`).
    foreign_per_row
        Foreign lines per row.
    """
    groups = {label: tuple(_learn(list(lines), foreign_per_row, spec)) for label, lines in recordings.items()}
    return Templates(foreign_per_row, {label: g for label, g in groups.items() if g})


def _learn(recordings: list[F64], rate: float, spec: FeatureSpec) -> list[LineGroup]:
    if len(recordings) < MIN_RECORDINGS:
        return []
    left = [r.copy() for r in recordings]
    found: list[_Found] = []
    for largest, least in zip(MAX_SHIFTS, MIN_SHARE_SEED, strict=True):
        for _ in range(MAX_GROUPS):
            seed = _seed(left, largest, least)
            if seed is None or (group := _grow(left, seed, largest, least)) is None:
                break
            found.append(group)
            left = _without(left, group)
    while (single := _single(left, rate)) is not None:
        found.append(single)
        left = _without(left, single)
    return [_finished(g, spec) for g in _merged(found)]


def _finished(group: _Found, spec: FeatureSpec) -> LineGroup:
    shift = group.shift[np.isfinite(group.shift)]
    middle = float(np.median(shift))
    low, high = np.quantile(shift - middle, [0.02, 0.98])
    order = np.argsort(group.rows)
    freq = group.rows[order] * np.exp(middle) * spec.bin_hz
    return LineGroup(
        tuple(round(float(f), 3) for f in freq),
        tuple(round(float(np.clip(p, 0.05, 1.0)), 3) for p in group.presence[order]),
        (round(float(low), 5), round(float(high), 5)),
    )


def _nearest_rows(lines: F64, recording: F64) -> F64:
    """Distance of each line to the nearest of the recording, in units of the tolerance; ``lines (..., n)``."""
    distance: F64 = np.abs(lines[..., None] - recording).min(axis=-1) / tolerance_rows(lines)
    return distance


def _best_shift(lines: F64, recording: F64, largest: float) -> tuple[float, int]:
    """Shift under which most of ``lines`` lie on lines of the recording (closest among equals), and how many."""
    if not recording.size:
        return 0.0, 0
    shifts = (np.log(recording) - np.log(lines)[:, None]).ravel()
    shifts = shifts[np.abs(shifts) <= largest]
    if not shifts.size:
        return 0.0, 0
    miss = _nearest_rows(lines * np.exp(shifts)[:, None], recording)
    closeness = np.clip(1.0 - miss**2, 0.0, None).sum(axis=1)
    best = int(closeness.argmax())
    return float(shifts[best]), int((miss[best] < 1.0).sum())


def _seed(recordings: Sequence[F64], largest: float, least: float) -> F64 | None:
    """Three lines that most recordings hold under a common shift."""
    richest = sorted(range(len(recordings)), key=lambda i: -recordings[i].size)[:N_SEEDS]
    best_count, best = 0, None
    for i in richest:
        for triple in itertools.combinations(recordings[i][:20], 3):
            lines = np.array(triple)
            if np.ptp(lines) < 4:
                continue
            count, n_left = 0, len(recordings)
            for r in recordings:
                if count + n_left <= best_count:
                    break
                count += _best_shift(lines, r, largest)[1] == 3
                n_left -= 1
            if count > best_count:
                best_count, best = count, lines
    return best if best_count >= least * len(recordings) else None


def _grow(recordings: Sequence[F64], seed: F64, largest: float, least: float) -> _Found | None:
    lines, presence = seed, np.ones(len(seed))
    for _ in range(4):
        shifts, used = _shifts(recordings, lines, largest)
        if used.sum() < least * len(recordings):
            return None
        middle = float(np.median(shifts[used]))
        moved = [r * np.exp(middle - s) for r, s, ok in zip(recordings, shifts, used, strict=True) if ok]
        lines, presence = _agreed(moved)
        if len(lines) < 3:
            return None
    # the seed may come from an outermost recording
    shifts, used = _shifts(recordings, lines, min(2.0 * largest, MAX_SHIFTS[-1]))
    return _Found(lines, presence, np.where(used, shifts, np.nan))


def _shifts(recordings: Sequence[F64], lines: F64, largest: float) -> tuple[F64, npt.NDArray[np.bool_]]:
    """Shift of each recording, and whether enough lines agree to believe it."""
    found = [_best_shift(lines, r, largest) for r in recordings]
    need = max(3, 0.5 * len(lines))
    shifts, enough = np.array([s for s, _ in found]), np.array([n >= need for _, n in found])
    if enough.any():  # a shift far from all others is a chance fit
        away = np.abs(shifts - np.median(shifts[enough]))
        enough &= away <= max(0.01, 4.0 * float(np.median(away[enough])))
    return shifts, enough


def _agreed(recordings: Sequence[F64]) -> tuple[F64, F64]:
    """Lines on which ``MIN_SHARE`` of the recordings agree, ascending, and their shares."""
    row = np.concatenate(recordings)
    owner = np.concatenate([np.full(len(r), i) for i, r in enumerate(recordings)])
    free = np.ones(row.size, np.bool_)
    lines: list[float] = []
    shares: list[float] = []
    while free.any():
        near = (np.abs(row[:, None] - row) < tolerance_rows(row)[:, None]) & free & free[:, None]
        counts = np.array([np.unique(owner[n]).size for n in near])
        best = int(counts.argmax())
        if counts[best] < MIN_SHARE * len(recordings):
            break
        line = float(np.median(row[near[best]]))
        lines.append(line)
        shares.append(counts[best] / len(recordings))
        free &= np.abs(row - line) >= 1.2 * tolerance_rows(line)
        free[best] = False
    order = np.argsort(lines)
    return np.array(lines)[order], np.array(shares)[order]


def _without(recordings: Sequence[F64], group: _Found) -> list[F64]:
    """Recordings without the lines that the group explains."""
    out = []
    for r, s in zip(recordings, group.shift, strict=True):
        if not np.isfinite(s) or not r.size:
            out.append(r)
            continue
        expected = group.rows * np.exp(s)
        near = (np.abs(r[:, None] - expected) < tolerance_rows(expected)).any(axis=1)
        out.append(r[~near])
    return out


def _single(recordings: Sequence[F64], rate: float) -> _Found | None:
    """The line held by most recordings within the narrowest range, clearly more than by chance."""
    row = np.concatenate(recordings)
    owner = np.concatenate([np.full(len(r), i) for i, r in enumerate(recordings)])
    for half in SINGLE_RANGES:
        half_width = np.maximum(half, tolerance_rows(row) / np.maximum(row, 1.0))  # no narrower than the tolerance
        near = np.abs(np.log(row[:, None] / row)) < half_width[:, None]
        share = np.array([np.unique(owner[n]).size for n in near]) / len(recordings)
        chance = 1.0 - np.exp(-rate * 2.0 * half_width * row)
        good = (share >= MIN_SHARE) & (share > chance + 0.4)
        if good.any():
            best = int(np.where(good, share, 0.0).argmax())
            line, width = float(np.median(row[near[best]])), float(half_width[best])
            shift = np.full(len(recordings), np.nan)
            for i, r in enumerate(recordings):
                distance = np.log(r / line)
                if r.size and np.abs(distance).min() < width:
                    shift[i] = distance[np.abs(distance).argmin()]
            if np.isfinite(shift).mean() >= MIN_SHARE:
                return _Found(np.array([line]), np.array([np.isfinite(shift).mean()]), shift)
    return None


def _merged(groups: list[_Found]) -> list[_Found]:
    """Groups whose shifts go together become one."""
    out: list[_Found] = []
    for group in groups:
        for i, other in enumerate(out):
            both = np.isfinite(group.shift) & np.isfinite(other.shift)
            if both.sum() < 0.4 * both.size:
                continue
            offset = float(np.median((group.shift - other.shift)[both]))
            top = max(group.rows.max(), other.rows.max())
            miss = np.abs((group.shift - other.shift)[both] - offset) * top / tolerance_rows(top)
            if (miss < 1.0).mean() >= 0.8:
                rows = np.concatenate([other.rows, group.rows * np.exp(offset)])
                shift = np.where(np.isfinite(other.shift), other.shift, group.shift - offset)
                out[i] = _Found(rows, np.concatenate([other.presence, group.presence]), shift)
                break
        else:
            out.append(group)
    return out
