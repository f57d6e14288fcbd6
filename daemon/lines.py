r"""Tonal lines of one window, found without a class: the coherent ridges of the LOFARgram.

Per cell the excess over the background is ``e[f, t] = P[f, t] / B[f, t] - 1`` (mean 0 and deviation 1 on noise).
Averaged over ``N_SMOOTH`` columns, a steady tone stands out of the noise although it is weak in each column. A
candidate row is a local maximum of the excess averaged over one half of the window (three halves, overlapping, so that
a line heard for part of the window counts too); its trace follows the strongest of the three rows around it from column
to column.

Frequency and peak come from a parabola through the logarithms of the three averaged values around the trace (for a Hann
window its bias stays below 0.05 bins); the signal to noise ratio is the peak's excess, in the bin of one Hann frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from daemon.frames import Mask, TonalLine
from models.features import FeatureSpec

__all__ = ["LineTrace", "find_lines"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

N_SMOOTH = 9
"""Columns averaged before a ridge is followed (1.1 s)."""
MIN_COLUMNS = 16
"""A line is heard for at least so many columns (2 s)."""
HALF_WIDTH = 1
"""Rows to either side of a trace that belong to the line: the main lobe of the Hann window."""
HANN_3DB_BINS = 1.44
"""Width of the Hann window's main lobe at half power, bins (Harris, Proc. IEEE 66(1), 1978, table 1)."""
SCALLOP_DB = 1.5
"""A tone half-way between two rows reads up to this much less in each (Harris 1978, table 1)."""


@dataclass(frozen=True, slots=True, eq=False)
class LineTrace:
    """One line and the cells it runs through."""

    line: TonalLine
    rows: npt.NDArray[np.int64]
    """``(n_time,)`` row of the ridge in each column."""
    active: Mask
    """``(n_time,)`` columns in which the line is heard."""

    def cells(self, n_freq: int) -> Mask:
        """``(n_freq, n_time)`` the cells of the line."""
        rows = np.arange(n_freq)[:, None]
        inside: Mask = (np.abs(rows - self.rows) <= HALF_WIDTH) & self.active
        return inside


def find_lines(spec: FeatureSpec, fs: int, spectrum_db: F32, background_db: F32, min_snr_db: float) -> list[LineTrace]:
    """All lines of a window, by rising frequency.

    Parameters
    ----------
    spec : FeatureSpec
    fs : int
        Rate of the source, Hz (for the times after the window's first sample).
    spectrum_db, background_db : float32 ``(n_freq, n_time)``
        Level and background of each cell, dB in the same unit.
    min_snr_db : float
        Lines below this in-bin signal to noise ratio are left out.
    """
    excess = 10.0 ** ((spectrum_db.astype(np.float64) - background_db) / 10.0) - 1.0
    excess[: spec.row_lo] = 0.0
    smooth = scipy.ndimage.uniform_filter1d(excess, N_SMOOTH, axis=1, mode="nearest")
    ridge = scipy.ndimage.maximum_filter1d(smooth, 2 * HALF_WIDTH + 1, axis=0, mode="nearest")
    half = spec.n_time // 2
    profile = np.max([ridge[:, k : k + half].mean(axis=1) for k in (0, half // 2, half)], axis=0)
    sharp = np.max([smooth[:, k : k + half].mean(axis=1) for k in (0, half // 2, half)], axis=0)
    least = 10.0 ** ((min_snr_db - SCALLOP_DB) / 10.0)
    peaks = (sharp >= scipy.ndimage.maximum_filter1d(sharp, 3, mode="nearest")) & (profile > least)
    peaks[: spec.row_lo + 1] = peaks[-HALF_WIDTH - 1 :] = False
    traces: list[LineTrace] = []
    for row in sorted(np.flatnonzero(peaks), key=lambda r: -sharp[r]):
        trace = _follow(spec, fs, int(row), excess, smooth, spectrum_db)
        if trace is not None and trace.line.snr_db >= min_snr_db and not any(_same(trace, t) for t in traces):
            traces.append(trace)
    return sorted(traces, key=lambda t: t.line.freq_hz)


def _same(a: LineTrace, b: LineTrace) -> bool:
    """Whether ``a`` runs along ``b`` for most of its time."""
    both = a.active & b.active
    near = np.abs(a.rows - b.rows)[both] <= 2 * HALF_WIDTH
    return bool(near.sum() > 0.5 * a.active.sum())


def _follow(spec: FeatureSpec, fs: int, row: int, excess: F64, smooth: F64, spectrum_db: F32) -> LineTrace | None:
    around = smooth[row - HALF_WIDTH : row + HALF_WIDTH + 1]
    rows = row - HALF_WIDTH + scipy.ndimage.median_filter(around.argmax(axis=0), N_SMOOTH, mode="nearest")
    columns = np.arange(spec.n_time)
    strength = smooth[rows, columns]
    active: Mask = strength > max(0.3 * float(np.quantile(strength, 0.75)), 0.8)
    n_active = int(active.sum())
    if n_active < MIN_COLUMNS:
        return None
    reach = 4
    offsets = np.arange(-reach, reach + 1)
    picked = np.clip(rows[active] + offsets[:, None], 0, spec.n_freq - 1)  # (2 reach + 1, n_active)
    mean = np.maximum(excess[picked, columns[active]].mean(axis=1), 1e-3)
    shift, peak = _parabola(10.0 * np.log10(mean[reach - 1 : reach + 2]))
    if not abs(shift) <= 1.0:
        return None
    power = (10.0 ** (spectrum_db[rows[active], columns[active]] / 10.0)).mean()
    tone = power * mean[reach] / (1.0 + mean[reach])  # what is over the background
    snr = 10.0 ** (peak / 10.0)
    seconds = spec.column_centres(fs) / fs
    line = TonalLine(
        freq_hz=float((rows[active].mean() + shift) * spec.bin_hz),
        freq_err_hz=_freq_err_hz(spec, snr, n_active),
        bandwidth_hz=_bandwidth_hz(mean, peak, reach, spec.bin_hz),
        snr_db=float(peak),
        level_db=float(10.0 * math.log10(tone) + peak - 10.0 * math.log10(mean[reach])),
        t_start_s=float(seconds[active][0] - spec.column_s / 2),
        t_end_s=float(seconds[active][-1] + spec.column_s / 2),
        drift_hz_per_s=_drift(rows[active], smooth[:, active], seconds[active]) * spec.bin_hz,
    )
    return LineTrace(line, rows, active)


def _parabola(y_db: F64) -> tuple[float, float]:
    """Vertex ``(offset in bins, height)`` of the parabola through three values at -1, 0, 1; the middle one if flat."""
    a, b, c = (float(v) for v in y_db)
    curve = a - 2.0 * b + c
    if curve >= 0.0:
        return 0.0, b
    shift = 0.5 * (a - c) / curve
    return shift, b - 0.25 * (a - c) * shift


def _freq_err_hz(spec: FeatureSpec, snr: float, n_active: int) -> float:
    """Standard error of the frequency.

    The parabola reads the slope between the two outer rows; with signal to noise ratio ``snr`` and ``n`` independent
    frames that slope has a relative error near ``sqrt((1 / snr + 1 / snr^2) / n)``. Frames overlap by 1 - hop / n_fft;
    0.5 bins is the factor measured on simulated tones, 0.018 bins the parabola's own bias.
    """
    n = max(1.0, n_active * spec.hop / spec.n_fft)
    return spec.bin_hz * math.hypot(0.5 * math.sqrt((1.0 / snr + 1.0 / snr**2) / n), 0.018)


def _bandwidth_hz(mean: F64, peak_db: float, reach: int, bin_hz: float) -> float:
    """Width at half of the peak, Hz, less that of the Hann window itself (in squares); 0 for a pure tone."""
    level = 10.0 * np.log10(mean)
    half = peak_db - 10.0 * math.log10(2.0)
    width = 0.0
    for side in (level[reach:], level[reach::-1]):
        below = np.flatnonzero(side < half)
        k = int(below[0]) if below.size else reach
        width += k - 1 + float(side[k - 1] - half) / max(float(side[k - 1] - side[k]), 1e-9) if k else 0.0
    return bin_hz * math.sqrt(max(width**2 - HANN_3DB_BINS**2, 0.0))


def _drift(rows: npt.NDArray[np.int64], smooth: F64, seconds: F64) -> float:
    """Slope of the ridge, bins per second, by least squares on its centroid in each column."""
    columns = np.arange(rows.size)
    near = np.clip(rows + np.arange(-HALF_WIDTH, HALF_WIDTH + 1)[:, None], 0, smooth.shape[0] - 1)
    weight = np.maximum(smooth[near, columns], 1e-3)
    centroid = (weight * near).sum(axis=0) / weight.sum(axis=0)
    t = seconds - seconds.mean()
    return float((t * centroid).sum() / max(float((t**2).sum()), 1e-9))
