"""Harmonic-percussive separation: what lasts along time against what spreads along frequency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from calibration.experiments.scene import Scene

__all__ = ["Hpss"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hpss:
    """Median filters along time and along frequency, soft mask (Fitzgerald 2010), by librosa.

    Raises
    ------
    ImportError
        If librosa is not installed (when maps are asked for).
    """

    score: Literal["mask", "level"] = "mask"
    """What is scored: the harmonic share of each cell, or the level of the harmonic part over background, dB."""
    kernel: int = 31
    """Columns, and rows, of the two medians: the library's own."""

    @property
    def name(self) -> str:
        """For tables."""
        return f"HPSS, {'soft mask' if self.score == 'mask' else 'harmonic level over background'}"

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Harmonic share 0..1, or dB over background."""
        from librosa.decompose import hpss

        lo = scene.spec.row_lo
        out = np.zeros(scene.spectrum_db.shape, np.float32)
        for i, level in enumerate(scene.spectrum_db):
            share, _ = hpss(10.0 ** (level / 20.0), kernel_size=self.kernel, mask=True)
            out[i, lo:] = share[lo:]
        if self.score == "mask":
            return out
        shown = 20.0 * np.log10(np.maximum(out, 1e-3)) + scene.spectrum_db - scene.background_db
        shown[:, :lo] = 0.0
        return shown.astype(np.float32)
