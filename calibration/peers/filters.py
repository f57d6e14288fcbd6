"""Non-linear filters of pictures, on the level over background: running median and bilateral filter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from calibration.experiments.scene import Scene

__all__ = ["Bilateral", "MedianFilter", "bilateral"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MedianFilter:
    """Running median along time: no shorter event survives."""

    n_columns: int = 9

    @property
    def name(self) -> str:
        """For tables."""
        return f"median filter, {self.n_columns} columns"

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Level over background, dB."""
        over = scene.spectrum_db - scene.background_db
        out: F32 = scipy.ndimage.median_filter(over, (1, 1, self.n_columns), mode="nearest").astype(np.float32)
        return out


@dataclass(frozen=True, slots=True)
class Bilateral:
    """Tomasi & Manduchi, ICCV 1998: a mean over neighbours that lie near and are alike."""

    rows: float = 0.7
    columns: float = 4.0
    alike_db: float = 8.0

    @property
    def name(self) -> str:
        """For tables."""
        return "bilateral filter"

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Level over background, dB."""
        over = (scene.spectrum_db - scene.background_db).astype(np.float32)
        return np.stack([bilateral(m, self.rows, self.columns, self.alike_db) for m in over])


def bilateral(level: F32, rows: float, columns: float, alike: float) -> F32:
    """Bilateral filter of ``level`` ``(n_freq, n_time)`` with Gaussian widths in rows, columns and levels.

    Neighbours are looked at to twice the widths.
    """
    half_f, half_t = max(1, round(2 * rows)), max(1, round(2 * columns))
    padded = np.pad(level, ((half_f, half_f), (half_t, half_t)), mode="symmetric")
    total, weights = np.zeros_like(level), np.zeros_like(level)
    n_freq, n_time = level.shape
    for df in range(-half_f, half_f + 1):
        for dt in range(-half_t, half_t + 1):
            other = padded[half_f + df : half_f + df + n_freq, half_t + dt : half_t + dt + n_time]
            near = (df / rows) ** 2 + (dt / columns) ** 2
            w = np.exp(-0.5 * (near + ((other - level) / alike) ** 2))
            total += w * other
            weights += w
    out: F32 = (total / weights).astype(np.float32)
    return out
