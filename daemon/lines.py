r"""Tonal lines of one window: what the tracks of `models.tracks` say in field units.

Per cell the excess over the track finder's background is ``e[f, t] = P[f, t] / B[f] - 1`` (mean 0 and deviation 1 on
noise). A track is a line where its evidence suffices; it is heard in the columns in which the excess, averaged over
``N_SMOOTH`` columns along it, stands out.

Frequency and peak come from a parabola through the logarithms of the three averaged values around the track (for a Hann
window its bias stays below 0.05 bins); the signal to noise ratio is the peak's excess, in the bin of one Hann frame.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from daemon.frames import Mask, TonalLine
from models.families import families
from models.features import FeatureSpec
from models.tracks import Tracks

__all__ = ["LEAST_EVIDENCE", "LineTrace", "lines_of"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

LEAST_EVIDENCE = 10.0
"""Evidence (nats) of a published line; pure noise gives 0.05 such tracks per window, measured over 160 windows."""
N_SMOOTH = 9
"""Columns averaged to tell where a line is heard (1.1 s)."""
MIN_COLUMNS = 16
"""A line is heard for at least so many columns (2 s)."""
HALF_WIDTH = 1
"""Rows to either side of a trace that belong to the line: the main lobe of the Hann window."""
HANN_3DB_BINS = 1.44
"""Width of the Hann window's main lobe at half power, bins (Harris, Proc. IEEE 66(1), 1978, table 1)."""


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


def lines_of(
    spec: FeatureSpec,
    fs: int,
    tracks: Tracks,
    spectrum_db: F32,
    min_snr_db: float,
    own: Mapping[str, F64] | None = None,
) -> list[LineTrace]:
    """All lines of a window, by rising frequency.

    Parameters
    ----------
    spec : FeatureSpec
    fs : int
        Rate of the source, Hz (for the times after the window's first sample).
    tracks : Tracks
        Those of the window.
    spectrum_db : float32 ``(n_freq, n_time)``
    min_snr_db : float
        Lines below this in-bin signal to noise ratio are left out.
    own : mapping label -> ``(n_tracks,)``, optional
        Probability that the label sounds and the track is its line; the likeliest label is told with each line.
    """
    excess = 10.0 ** ((spectrum_db.astype(np.float64) - tracks.background_db[:, None]) / 10.0) - 1.0
    excess[: spec.row_lo] = 0.0
    smooth = scipy.ndimage.uniform_filter1d(excess, N_SMOOTH, axis=1, mode="nearest")
    seconds = spec.column_centres(fs) / fs
    found: list[tuple[LineTrace, str | None, float]] = []
    for k in np.flatnonzero(tracks.evidence >= LEAST_EVIDENCE):
        trace = _measure(spec, seconds, tracks.rows[k], excess, smooth, spectrum_db)
        if trace is None or trace.line.snr_db < min_snr_db:
            continue
        scores = [(float(p[k]), label) for label, p in (own or {}).items()]
        probability, label = max(scores, default=(0.0, ""))
        found.append((trace, label or None, probability))
    f0 = families([t.line.freq_hz for t, _, _ in found], 0.25 * spec.bin_hz)
    out = [
        dataclasses.replace(
            trace,
            line=dataclasses.replace(
                trace.line, label=label, label_probability=probability, family_hz=float(f) if np.isfinite(f) else None
            ),
        )
        for (trace, label, probability), f in zip(found, f0, strict=True)
    ]
    return sorted(out, key=lambda t: t.line.freq_hz)


def _measure(
    spec: FeatureSpec, seconds: F64, track: F32, excess: F64, smooth: F64, spectrum_db: F32
) -> LineTrace | None:
    """One track as a line; ``seconds`` ``(n_time,)`` are the centres of the columns after the first sample."""
    columns = np.arange(spec.n_time)
    rows = np.clip(np.round(track).astype(np.int64), HALF_WIDTH, spec.n_freq - 1 - HALF_WIDTH)
    near = rows + np.arange(-HALF_WIDTH, HALF_WIDTH + 1)[:, None]
    strength = smooth[near, columns].max(axis=0)
    active: Mask = strength > max(0.3 * _upper_quartile(strength), 0.8)
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


def _upper_quartile(x: F64) -> float:
    """``np.quantile(x, 0.75)``, which takes fifty times as long over so few values."""
    ranked = np.sort(x)
    place = 0.75 * (x.size - 1)
    k = math.floor(place)
    a, b, share = float(ranked[k]), float(ranked[min(k + 1, x.size - 1)]), place - k
    return a + (b - a) * share if share < 0.5 else b - (b - a) * (1.0 - share)


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
