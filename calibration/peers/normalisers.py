"""Background normalisers of LOFAR processing: level over a background estimated along frequency, nothing more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from calibration.experiments.scene import Scene

__all__ = ["MedianSubtraction", "OrderTruncateAverage", "Tpsw", "truncated_mean"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tpsw:
    """Two-pass split window: level over the front end's own background, dB, averaged over columns.

    Struzinski & Lowe, J. Acoust. Soc. Am. 76(6), 1984; see `models.background`.
    """

    n_columns: int = 1
    """Columns of the running mean along time."""

    @property
    def name(self) -> str:
        """For tables."""
        return "TPSW, 1 frame" if self.n_columns == 1 else f"TPSW, {self.n_columns}-frame mean"

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Level over background, dB."""
        over = scene.spectrum_db - scene.background_db
        if self.n_columns > 1:
            over = scipy.ndimage.uniform_filter1d(over, self.n_columns, axis=2, mode="nearest")
        out: F32 = over.astype(np.float32)
        return out


@dataclass(frozen=True, slots=True)
class OrderTruncateAverage:
    r"""Order-truncate-average: level over the mean of the window's cells below ``ratio`` times its median, dB.

    Around each row the ``2 half + 1`` rows are put in order, those above ``ratio`` times the median left out, and the
    rest averaged (Struzinski & Lowe 1984, as above).
    """

    half: int = 12
    ratio: float = 2.0

    @property
    def name(self) -> str:
        """For tables."""
        return "order-truncate-average"

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Level over background, dB."""
        lo = scene.spec.row_lo
        out = np.zeros(scene.spectrum_db.shape, np.float32)
        for i, level in enumerate(scene.spectrum_db[:, lo:]):
            power = 10.0 ** (level.astype(np.float64) / 10.0)
            mean = truncated_mean(power, self.half, self.ratio)
            out[i, lo:] = 10.0 * np.log10((power + 1e-30) / (mean + 1e-30))
        return out


def truncated_mean(power: F64, half: int, ratio: float) -> F64:
    """Mean of the cells below ``ratio`` times the median, of ``2 half + 1`` rows around each; ``(n_freq, n_time)``."""
    padded = np.pad(power, ((half, half), (0, 0)), mode="symmetric")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)  # (n_freq, n_time, 2 half + 1)
    kept = around <= ratio * np.median(around, axis=2, keepdims=True)
    mean: F64 = (around * kept).sum(axis=2) / kept.sum(axis=2)
    return mean


@dataclass(frozen=True, slots=True)
class MedianSubtraction:
    """Level less the running median along frequency, dB."""

    n_rows: int = 25

    @property
    def name(self) -> str:
        """For tables."""
        return f"median subtraction, {self.n_rows} rows"

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Level over the median, dB."""
        lo = scene.spec.row_lo
        out = np.zeros(scene.spectrum_db.shape, np.float32)
        level = scene.spectrum_db[:, lo:]
        out[:, lo:] = level - scipy.ndimage.median_filter(level, (1, self.n_rows, 1), mode="nearest")
        return out
