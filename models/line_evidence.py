"""Which rows of a window hold a steady line, of whatever origin: evidence that knows no class and needs no search.

Lighter than the tracks of `models.tracks` and blind to their drift: a row is a row. It is enough to *count* lines,
which is what tells a strange vessel from an empty sea (`models.rejection`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special

from models.feature_spec import FeatureSpec
from models.hann import hann

__all__ = ["EVEN_EVIDENCE", "line_evidence", "line_weight"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Real = npt.NDArray[np.floating[Any]]

#: Evidence (nats) at which a peak counts half as a line, and the width of that passage.
EVEN_EVIDENCE, EVIDENCE_WIDTH = 6.0, 0.3
#: A block of columns counts at most this many times the median block of its row: a burst proves no line.
BURST = 2.5
#: Mains frequencies, Hz; lines on at least `MAINS_LINES` multiples of one of them are hum of the recorder or the ship.
MAINS_HZ, MAINS_LINES = (50.0, 60.0), 2
#: Windows worked on at once: a bound on memory.
CHUNK = 64


def line_evidence(features: Real, spec: FeatureSpec) -> F32:
    """Evidence of a steady line in each row, blind to classes.

    The excess over background, limited as the features are, is averaged over the window in blocks of ``n_time_step``
    columns; each block is divided by its median row (a click lifts all rows) and limited to `BURST` times the row's
    median block. Of the mean ``m`` over ``n`` independent frames, with noise at 1, the log-likelihood ratio of a raised
    level is ``n (m - 1 - ln m)``. Local maxima along frequency keep it, all other rows read 0. So do multiples of 50 or
    of 60 Hz where a window has at least two of them: hum, which an empty sea has as well, would count as many lines.

    Parameters
    ----------
    features
        ``(n, n_planes, n_freq, n_time)`` in 0..1 of the front end ``spec``; plane 0 is read.

    Returns
    -------
    ``(n, n_freq)``, nats, at least 0; a window that is not finite reads nan throughout.

    Raises
    ------
    ValueError
        If the shape is not that of the front end.
    """
    x = np.asarray(features)
    if x.ndim != 4 or x.shape[1:] != spec.shape:
        raise ValueError(f"windows of shape {x.shape[1:]}, the front end gives {spec.shape}")
    out = np.zeros((len(x), spec.n_freq), np.float32)
    n_frames = _independent_frames(spec)
    for i in range(0, len(x), CHUNK):
        out[i : i + CHUNK] = _evidence(x[i : i + CHUNK, 0], spec, n_frames)
    return out


def _evidence(plane: Real, spec: FeatureSpec, n_frames: float) -> F64:
    """Evidence ``(n, n_freq)`` of feature planes ``(n, n_freq, n_time)``."""
    scale = np.float32((spec.ceil_db - spec.floor_db) * np.log(10.0) / 10.0)
    power = np.exp(plane.astype(np.float32) * scale + np.float32(spec.floor_db * np.log(10.0) / 10.0))
    n_blocks = spec.n_time // spec.n_time_step
    blocks = power.reshape(len(plane), spec.n_freq, n_blocks, spec.n_time_step).mean(axis=3).astype(np.float64)
    lo = min(spec.row_lo, spec.n_freq - 1)
    blocks /= np.median(blocks[:, lo:], axis=1, keepdims=True)
    mean = np.minimum(blocks, BURST * np.median(blocks, axis=2, keepdims=True)).mean(axis=2)
    mean /= np.median(mean[:, lo:], axis=1, keepdims=True)
    raised = np.maximum(mean, 1.0)  # of nan: nan
    evidence = n_frames * (raised - 1.0 - np.log(raised))
    odd = ~np.isfinite(evidence).all(axis=1)
    peak = np.zeros(evidence.shape, np.bool_)
    peak[:, 1:-1] = (evidence[:, 1:-1] > evidence[:, :-2]) & (evidence[:, 1:-1] >= evidence[:, 2:])
    peak[:, : lo + 1] = False  # the first row in use leans on what is not
    out: F64 = np.where(peak, evidence, 0.0)
    for comb in _mains_rows(spec):
        hum = (out[:, comb] >= EVEN_EVIDENCE).sum(axis=1) >= MAINS_LINES
        out[np.ix_(hum, comb)] = 0.0
    out[odd] = np.nan
    return out


def _mains_rows(spec: FeatureSpec) -> list[npt.NDArray[np.int64]]:
    """Rows of the multiples of each mains frequency."""
    out = []
    for mains in MAINS_HZ:
        multiples = np.arange(mains, (spec.n_freq - 1) * spec.bin_hz, mains)
        out.append(np.unique(np.round(multiples / spec.bin_hz).astype(np.int64)))
    return out


def _independent_frames(spec: FeatureSpec) -> float:
    """Independent frames that average as well as a window's overlapping Hann frames (Welch, 1967)."""
    w = hann(spec.n_fft)
    total = 1.0
    for k in range(1, spec.n_time):
        if (shift := k * spec.hop) >= spec.n_fft:
            break
        rho = float((w[shift:] * w[: spec.n_fft - shift]).sum()) / float((w**2).sum())
        total += 2.0 * (1.0 - k / spec.n_time) * rho**2
    return spec.n_time / total


def line_weight(evidence: Real) -> F64:
    """How far a peak of that evidence counts as a line, 0..1; 0 where there is no peak."""
    e = np.asarray(evidence, np.float64)
    out: F64 = np.where(e > 0.0, scipy.special.expit((e - EVEN_EVIDENCE) / EVIDENCE_WIDTH), e)  # nan stays nan
    return out
