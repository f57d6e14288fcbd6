"""Wavelet shrinkage of the whitened LOFARgram."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.experiments.scene import Scene

__all__ = ["WaveletShrinkage"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

#: Median absolute deviation of a normal distribution, in standard deviations.
MAD = 0.6745


@dataclass(frozen=True, slots=True)
class WaveletShrinkage:
    r"""Soft thresholds on a two-dimensional wavelet transform (Donoho & Johnstone 1994), by PyWavelets.

    Every detail is shrunk by ``share * sigma * sqrt(2 ln n)``, ``sigma`` from the finest diagonal details. Shifts of
    the grid are averaged out over a few of them ("cycle spinning").

    Raises
    ------
    ImportError
        If PyWavelets is not installed (when maps are asked for).
    """

    wavelet: str = "sym4"
    n_levels: int = 3
    share: float = 0.5
    n_shifts: int = 4

    @property
    def name(self) -> str:
        """For tables."""
        return f"wavelets, {self.wavelet}, soft"

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Level over background, dB, shrunk."""
        import pywt

        lo = scene.spec.row_lo
        over = (scene.spectrum_db - scene.background_db)[:, lo:]
        out = np.zeros(scene.spectrum_db.shape, np.float32)
        for i, level in enumerate(over):
            for shift in range(self.n_shifts):
                rolled = np.pad(level, ((shift, 8), (shift, 8)), mode="symmetric")
                coarse, *details = pywt.wavedec2(rolled, self.wavelet, "symmetric", self.n_levels)
                sigma = float(np.median(np.abs(details[-1][2]))) / MAD
                cut = self.share * sigma * math.sqrt(2.0 * math.log(rolled.size))
                shrunk = [tuple(pywt.threshold(d, cut, "soft") for d in level_) for level_ in details]
                whole = pywt.waverec2([coarse, *shrunk], self.wavelet, "symmetric")
                out[i, lo:] += whole[shift : shift + level.shape[0], shift : shift + level.shape[1]] / self.n_shifts
        return out
