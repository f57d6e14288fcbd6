r"""Class-blind line tracks: the best paths along time through a denoised LOFARgram, as cells and evidence.

From each row ``f0`` a path ``f(t)`` within ``f0 +- HALF`` rows is sought that maximises

.. math:: \sum_t N[f(t), t] - \gamma \sum_t |f(t) - f(t - 1)|

(Viterbi). Its evidence is that sum per column. Paths are kept, strongest first, unless too much of one lies on the band
of a kept one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from calibration.experiments.scene import Method, Scene

__all__ = ["ViterbiTracks", "best_paths"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

#: Rows a path may leave its start; cost of one row, dB; least evidence, dB.
HALF, STEP_DB, LEAST_DB = 3, 0.6, 0.3
#: Rows to either side that a kept path claims, and the share of a path on claimed cells at which it is dropped.
CLAIM, OVERLAP = 2, 0.2
#: A track is interrupted where its running mean over so many columns falls below this, dB.
N_MEAN, ACTIVE_DB = 17, -2.0
#: Rows to either side that belong to a line.
BAND = 1
NEVER = -5.0
"""Level beyond the edges, dB."""
OUTSIDE = 0.01
"""What lies outside all tracks is ranked by the map times this, below any track."""


@dataclass(frozen=True, slots=True)
class ViterbiTracks:
    """Line tracks on the map of another method, in dB."""

    base: Method

    @property
    def name(self) -> str:
        """For tables."""
        return f"Viterbi line tracks on {self.base.name}"

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Evidence of the track through each cell, dB per column; below 0 outside."""
        return np.stack([self._map(m, scene.spec.row_lo) for m in self.base.maps(scene, cls)])

    def _map(self, level: F32, row_lo: int) -> F32:
        level = np.clip(level, NEVER, None)
        level[:row_lo] = NEVER
        paths, evidence = best_paths(level)
        n_freq, n_time = level.shape
        columns = np.arange(n_time)
        out: F32 = (OUTSIDE * (level - level.max()) - OUTSIDE).astype(np.float32)
        taken = np.zeros(level.shape, bool)
        for f in np.argsort(-evidence, kind="stable"):
            if evidence[f] < LEAST_DB:
                break
            path = paths[f]
            if np.median(path) < row_lo + 1 or taken[path, columns].mean() > OVERLAP:
                continue
            for k in range(-CLAIM, CLAIM + 1):
                taken[np.clip(path + k, 0, n_freq - 1), columns] = True
            on = scipy.ndimage.uniform_filter1d(level[path, columns], N_MEAN, mode="nearest") > ACTIVE_DB
            for k in range(-BAND, BAND + 1):
                rows = np.clip(path + k, 0, n_freq - 1)[on]
                out[rows, columns[on]] = np.maximum(out[rows, columns[on]], evidence[f])
        return out


def best_paths(level: F32) -> tuple[I64, F32]:
    """Best path from each row and its score per column.

    Parameters
    ----------
    level
        ``(n_freq, n_time)``

    Returns
    -------
    paths, evidence
        Rows ``(n_freq, n_time)`` and ``(n_freq,)``.
    """
    n_freq, n_time = level.shape
    n_states = 2 * HALF + 1
    padded = np.pad(level, ((HALF, HALF), (0, 0)), constant_values=NEVER)
    gain = np.lib.stride_tricks.sliding_window_view(padded, n_states, axis=0)  # (n_freq, n_time, n_states)
    states = np.arange(n_states)
    cost = -STEP_DB * np.abs(states[:, None] - states)
    best = gain[:, 0].astype(np.float64)
    back = np.zeros((n_time, n_freq, n_states), np.int64)
    for t in range(1, n_time):
        options = best[:, None, :] + cost  # from the last axis
        back[t] = options.argmax(axis=2)
        best = options.max(axis=2) + gain[:, t]
    rows = np.arange(n_freq)
    state = best.argmax(axis=1)
    paths = np.empty((n_freq, n_time), np.int64)
    for t in range(n_time - 1, -1, -1):
        paths[:, t] = rows + state - HALF
        state = back[t, rows, state]
    return np.clip(paths, 0, n_freq - 1), (best.max(axis=1) / n_time).astype(np.float32)
