r"""Tonal lines of one window: what the tracks of `models.tracks` say in field units.

Per cell the excess over the track finder's background is ``e[f, t] = P[f, t] / B[f] - 1`` (mean 0 and deviation 1 on
noise). A track is a line where its evidence suffices; it is heard in the columns in which the excess, averaged over
``N_SMOOTH`` columns along it, stands out.

Frequency and peak come from a parabola through the logarithms of the three averaged values around the track (for a Hann
window its bias stays below 0.05 bins); the signal to noise ratio is the peak's excess, in the bin of one Hann frame.

The level is the mean square of the line itself: the power over the background in the row of the ridge and those beside
it, by the share of a tone's power that a Hann window leaves there, 1.47 to 1.5 bins' worth. So it depends neither on
where between two rows the tone lies, nor on whether it wanders between them; a stronger line less than three rows away
adds to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
REACH = 4
"""Rows to either side of a ridge in which its width is measured."""
NATS_PER_DB = math.log(10.0) / 10.0
"""Of power."""
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
    is_own_ship: Callable[[float], bool] | None = None,
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
    is_own_ship : callable, optional
        Whether a line of that frequency (Hz) is the own ship's.
    """
    excess = np.exp((spectrum_db.astype(np.float64) - tracks.background_db[:, None]) * NATS_PER_DB) - 1.0
    excess[: spec.row_lo] = 0.0
    smooth = scipy.ndimage.uniform_filter1d(excess, N_SMOOTH, axis=1, mode="nearest")
    seconds = spec.column_centres(fs) / fs
    coherent = np.flatnonzero(tracks.evidence >= LEAST_EVIDENCE)
    background = np.exp(tracks.background_db.astype(np.float64) * NATS_PER_DB)
    measured = _measure(spec, seconds, tracks.rows[coherent], excess, smooth, background)
    found = [(k, m) for k, m in zip(coherent.tolist(), measured, strict=True) if m and m.values["snr_db"] >= min_snr_db]
    f0 = families([m.values["freq_hz"] for _, m in found], 0.25 * spec.bin_hz).tolist()
    labels, owners = tuple(own or ()), [p.tolist() for p in (own or {}).values()]
    out = []
    for (k, m), f in zip(found, f0, strict=True):
        probability, label = max(((p[k], name) for p, name in zip(owners, labels, strict=True)), default=(0.0, ""))
        line = TonalLine(
            **m.values, label=label or None, label_probability=probability, family_hz=None if math.isnan(f) else f,
            own_ship=is_own_ship is not None and is_own_ship(m.values["freq_hz"]),
        )  # fmt: skip
        out.append(LineTrace(line, m.rows, m.active))
    return sorted(out, key=lambda t: t.line.freq_hz)


class _Measured(NamedTuple):
    """A line but for what it has to do with others."""

    values: dict[str, float]
    """Fields of `daemon.frames.TonalLine`."""
    rows: npt.NDArray[np.int64]
    active: Mask


def _measure(
    spec: FeatureSpec, seconds: F64, tracks: F32, excess: F64, smooth: F64, background: F64
) -> list[_Measured | None]:
    """Tracks ``(n, n_time)`` as lines, all at once; None: not heard for long enough, or no peak.

    ``seconds`` ``(n_time,)`` are the centres of the columns after the first sample, ``background`` ``(n_freq,)`` is
    power.
    """
    columns = np.arange(spec.n_time)
    rows = np.clip(np.round(tracks).astype(np.int64), HALF_WIDTH, spec.n_freq - 1 - HALF_WIDTH)
    near = rows + np.arange(-HALF_WIDTH, HALF_WIDTH + 1)[:, None, None]  # (3, n, n_time)
    beside = smooth[near, columns]
    strength = beside.max(axis=0)
    active = strength > np.maximum(0.3 * np.quantile(strength, 0.75, axis=1), 0.8)[:, None] if len(rows) else rows > 0
    n_active = active.sum(axis=1)
    share = active / np.maximum(n_active, 1)[:, None]  # weights of a mean over the active columns
    picked = np.clip(rows + np.arange(-REACH, REACH + 1)[:, None, None], 0, spec.n_freq - 1)  # (2 REACH + 1, n, n_time)
    mean = np.maximum((excess[picked, columns] * share).sum(axis=2), 1e-3).T  # (n, 2 REACH + 1)
    tone = ((excess[near, columns] * background[near]).sum(axis=0) * share).sum(axis=1)
    noise = (background[rows] * share).sum(axis=1)
    row = (rows * share).sum(axis=1)
    drift = _drift(near, beside, active, share, seconds)
    return [
        _trace(
            spec,
            seconds,
            rows[i],
            active[i],
            int(n_active[i]),
            mean[i],
            float(tone[i]),
            float(noise[i]),
            float(row[i]),
            float(drift[i]),
        )
        if n_active[i] >= MIN_COLUMNS
        else None
        for i in range(len(rows))
    ]


def _trace(
    spec: FeatureSpec,
    seconds: F64,
    rows: npt.NDArray[np.int64],
    active: Mask,
    n_active: int,
    mean: F64,
    tone: float,
    noise: float,
    row: float,
    drift: float,
) -> _Measured | None:
    """One line from its means over the active columns: ``mean`` ``(2 REACH + 1,)`` excess around the ridge."""
    level = [10.0 * math.log10(v) for v in mean.tolist()]
    shift, peak = _parabola(level[REACH - 1 : REACH + 2])
    if not abs(shift) <= 1.0:
        return None
    if tone <= 0.0:
        return None
    first, last = int(active.argmax()), active.size - 1 - int(active[::-1].argmax())
    values = {
        "freq_hz": (row + shift) * spec.bin_hz,
        "freq_err_hz": _freq_err_hz(spec, 10.0 ** (peak / 10.0), n_active),
        "bandwidth_hz": _bandwidth_hz(level, peak, spec.bin_hz),
        "snr_db": peak,
        "level_db": 10.0 * math.log10(tone / _main_lobe(shift)),
        "noise_db": 10.0 * math.log10(max(noise, 1e-30)),
        "t_start_s": float(seconds[first]) - spec.column_s / 2,
        "t_end_s": float(seconds[last]) + spec.column_s / 2,
        "drift_hz_per_s": drift * spec.bin_hz,
    }
    return _Measured(values, rows, active)


def _parabola(y_db: Sequence[float]) -> tuple[float, float]:
    """Vertex ``(offset in bins, height)`` of the parabola through three values at -1, 0, 1; the middle one if flat."""
    a, b, c = y_db
    curve = a - 2.0 * b + c
    if curve >= 0.0:
        return 0.0, b
    shift = 0.5 * (a - c) / curve
    return shift, b - 0.25 * (a - c) * shift


def _main_lobe(shift: float) -> float:
    """Power of a Hann window's lines at -1, 0 and 1 bins from a tone ``shift`` bins off, its own peak being 1."""
    total = 0.0
    for k in (-1.0, 0.0, 1.0):
        x = k - shift
        edge = abs(abs(x) - 1.0) < 1e-6  # the limit at one bin
        total += (0.5 if edge else float(np.sinc(x)) / (1.0 - x * x)) ** 2
    return total


def _freq_err_hz(spec: FeatureSpec, snr: float, n_active: int) -> float:
    """Standard error of the frequency.

    The parabola reads the slope between the two outer rows; with signal to noise ratio ``snr`` and ``n`` independent
    frames that slope has a relative error near ``sqrt((1 / snr + 1 / snr^2) / n)``. Frames overlap by 1 - hop / n_fft;
    0.5 bins is the factor measured on simulated tones, 0.018 bins the parabola's own bias.
    """
    n = max(1.0, n_active * spec.hop / spec.n_fft)
    return spec.bin_hz * math.hypot(0.5 * math.sqrt((1.0 / snr + 1.0 / snr**2) / n), 0.018)


def _bandwidth_hz(level: Sequence[float], peak_db: float, bin_hz: float) -> float:
    """Width at half of the peak, Hz, less that of the Hann window itself (in squares); 0 for a pure tone."""
    half = peak_db - 10.0 * math.log10(2.0)
    width = 0.0
    for side in (level[REACH:], level[REACH::-1]):
        k = next((k for k, v in enumerate(side) if v < half), REACH)
        width += k - 1 + (side[k - 1] - half) / max(side[k - 1] - side[k], 1e-9) if k else 0.0
    return bin_hz * math.sqrt(max(width**2 - HANN_3DB_BINS**2, 0.0))


def _drift(near: npt.NDArray[np.int64], beside: F64, active: Mask, share: F64, seconds: F64) -> F64:
    """Slope of each ridge ``(n,)``, bins per second, by least squares on its centroid in each active column."""
    weight = np.maximum(beside, 1e-3)
    centroid = (weight * near).sum(axis=0) / weight.sum(axis=0)  # (n, n_time)
    t = (seconds - (seconds * share).sum(axis=1, keepdims=True)) * active
    out: F64 = (t * centroid).sum(axis=1) / np.maximum((t**2).sum(axis=1), 1e-9)
    return out
