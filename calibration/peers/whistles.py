"""The whistle denoiser of marine biologists: clicks out, bilateral filter, ridges traced.

After Mallawaarachchi, Ong, Chitre & Taylor, "Spectrogram denoising and automated extraction of the fundamental
frequency variation of dolphin whistles", J. Acoust. Soc. Am. 124(2), 2008; own implementation: columns that are loud
at most frequencies (clicks) are levelled, the picture is smoothed by a bilateral filter, ridge cells are those where
the curvature across frequency is that of a crest and the level is a local maximum, and crests linked over enough
columns are kept as traced lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from calibration.experiments.scene import Scene
from calibration.peers.filters import bilateral

__all__ = ["WhistleDenoiser"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

#: Smoothing across rows and columns before the curvature is taken.
SCALE = (1.0, 3.0)
#: Cells to which a traced ridge extends.
BAND = np.ones((3, 1), bool)
#: What lies outside traced ridges is ranked by its level less this, dB: below every ridge.
OUTSIDE_DB = 60.0


@dataclass(frozen=True, slots=True)
class WhistleDenoiser:
    """Level of traced ridges over background."""

    n_columns: int = 12
    """Columns that a traced ridge spans at least."""
    crest_db: float = 0.3
    """Least curvature of a ridge cell across frequency, dB per row squared."""

    @property
    def name(self) -> str:
        """For tables."""
        return "whistle denoiser (bilateral, ridges)"

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Smoothed level over background, dB, of traced ridges; far below elsewhere."""
        over = (scene.spectrum_db - scene.background_db).astype(np.float32)
        return np.stack([self._map(m, scene.spec.row_lo) for m in over])

    def _map(self, level: F32, row_lo: int) -> F32:
        used = level[row_lo:]
        clicks = np.median(used, axis=0, keepdims=True)
        smooth = bilateral((used - clicks + np.median(clicks)).astype(np.float32), 0.7, 4.0, 8.0)
        gentle = scipy.ndimage.gaussian_filter(smooth, SCALE, mode="nearest")
        bent = -np.gradient(np.gradient(gentle, axis=0), axis=0)
        peak = (gentle >= np.roll(gentle, 1, axis=0)) & (gentle >= np.roll(gentle, -1, axis=0))
        regions, _ = scipy.ndimage.label(peak & (bent > self.crest_db), np.ones((3, 3), bool))
        traced = np.zeros(used.shape, bool)
        for i, box in enumerate(scipy.ndimage.find_objects(regions), start=1):
            if box[1].stop - box[1].start >= self.n_columns:
                traced[box] |= regions[box] == i
        band = scipy.ndimage.binary_dilation(traced, BAND)
        crest = scipy.ndimage.grey_dilation(np.where(traced, gentle, -np.inf), footprint=BAND)
        out = np.full(level.shape, -OUTSIDE_DB, np.float32)
        out[row_lo:] = np.where(band, np.where(np.isfinite(crest), crest, 0.0), smooth - OUTSIDE_DB)
        return out
