"""Which lines are the own ship's: those that stay, window after window, while nobody else is there.

Each recording is one regime (one speed, one set of machines). Within a regime a line counts if

* within ``2 x tolerance_hz`` it is heard in at least ``min_share`` of the windows, and
* in each quarter of the recording in at least half as many: what came and went was not the own ship's.

What is left is tried once more with a band of ``BAND_SHARE`` of the frequency: lines that wander with the speed. The
lines of several regimes are put together; bands that touch become one. With ``common`` only those count that every
regime has: a vessel that passed during one of them is then not learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.own_ship import OwnLine
from models.errors import InputError

__all__ = ["Heard", "learn", "together", "unite"]

F64 = npt.NDArray[np.float64]

#: Windows of a regime at least: 5 windows in each quarter.
LEAST_WINDOWS = 20
N_QUARTERS = 4
#: Width of a band of a line that wanders, as a share of its frequency, and at most, Hz.
BAND_SHARE, BAND_HZ = 0.02, 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """Tonals of one channel over consecutive windows that share no sample."""

    n_windows: int
    window: npt.NDArray[np.int64]
    """``(n,)`` in which window each was heard, 0..n_windows-1."""
    freq_hz: F64
    """``(n,)``"""
    level_db: F64
    """``(n,)``, dB re full scale squared."""


def learn(heard: Heard, tolerance_hz: float, min_share: float) -> list[OwnLine]:
    """Lines that stay, by rising frequency.

    Raises
    ------
    InputError
        If there are too few windows to tell what stays.
    """
    if heard.n_windows < LEAST_WINDOWS:
        raise InputError(
            f"{heard.n_windows} windows are too few to tell what stays: {LEAST_WINDOWS} are needed, about 3 minutes"
        )
    left = np.ones(heard.freq_hz.size, bool)
    lines = _found(heard, left, np.full(heard.freq_hz.size, 2.0 * tolerance_hz), min_share)
    lines += _found(heard, left, np.minimum(BAND_SHARE * heard.freq_hz, BAND_HZ), min_share)
    return unite(lines, 0.0)


def _found(heard: Heard, left: npt.NDArray[np.bool_], width_hz: F64, min_share: float) -> list[OwnLine]:
    """Lines within bands of ``width_hz`` ``(n,)`` that begin at a tonal, best first; what is used leaves ``left``."""
    lines: list[OwnLine] = []
    dead = np.zeros(left.size, bool)  # bands that begin here hold too little
    while (left & ~dead).any():
        order = np.flatnonzero(left)
        order = order[np.argsort(heard.freq_hz[order], kind="stable")]
        f, w = heard.freq_hz[order], heard.window[order]
        ends = np.searchsorted(f, f + width_hz[order], side="right")
        counts = np.array([0 if dead[order[i]] else np.unique(w[i:end]).size for i, end in enumerate(ends)])
        i = int(counts.argmax())
        if counts[i] < min_share * heard.n_windows:
            return lines
        band = order[i : ends[i]]
        if not _stays(heard, band, min_share):
            dead[order[i]] = True
            continue
        left[band] = False
        lines.append(
            OwnLine(
                lo_hz=float(heard.freq_hz[band].min()), hi_hz=float(heard.freq_hz[band].max()),
                share=float(counts[i]) / heard.n_windows, level_db_re_fs=float(np.median(heard.level_db[band])),
            )
        )  # fmt: skip
    return lines


def _stays(heard: Heard, band: npt.NDArray[np.int64], min_share: float) -> bool:
    edges = np.linspace(0, heard.n_windows, N_QUARTERS + 1)
    counts, _ = np.histogram(np.unique(heard.window[band]), edges)
    return bool((counts >= 0.5 * min_share * np.diff(edges)).all())


def unite(lines: Sequence[OwnLine], gap_hz: float) -> list[OwnLine]:
    """Bands that overlap, or lie no farther apart than ``gap_hz``, as one; by rising frequency."""
    out: list[OwnLine] = []
    for x in sorted(lines, key=lambda x: x.lo_hz):
        if out and x.lo_hz <= out[-1].hi_hz + gap_hz:
            last = out[-1]
            out[-1] = OwnLine(
                lo_hz=last.lo_hz, hi_hz=max(last.hi_hz, x.hi_hz), share=max(last.share, x.share),
                level_db_re_fs=max(last.level_db_re_fs, x.level_db_re_fs),
            )  # fmt: skip
        else:
            out.append(x)
    return out


def together(regimes: Sequence[Sequence[OwnLine]], tolerance_hz: float, *, common: bool) -> list[OwnLine]:
    """Lines of all regimes; with ``common`` of those only that every regime has within the tolerance."""
    every = [x for lines in regimes for x in lines]
    if common:
        every = [
            x
            for x in every
            if all(
                any(y.lo_hz - tolerance_hz <= x.hi_hz and x.lo_hz <= y.hi_hz + tolerance_hz for y in lines)
                for lines in regimes
            )
        ]
    return unite(every, tolerance_hz)
