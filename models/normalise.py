"""Power of LOFARgram columns to features: decibels, background along frequency, clipped and scaled to 0..1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.background import SplitWindow
from models.feature_spec import FeatureSpec

__all__ = ["POWER_FLOOR", "Normaliser"]

F32 = npt.NDArray[np.float32]

#: Power added before each ratio and logarithm, re full scale squared: digital silence reads -180 dB, never -inf.
POWER_FLOOR = 1e-18


class Normaliser:
    """Normalises tiles of one shape; its results stand in buffers of its own until the next tile."""

    def __init__(self, spec: FeatureSpec, n_channels: int) -> None:
        self._spec = spec
        shape = (n_channels, spec.n_time_step, spec.n_freq)
        self.features: F32 = np.empty(shape, np.float32)
        """``(n_channels, n_time_step, n_freq)``, 0..1."""
        self.spectrum_db: F32 = np.empty(shape, np.float32)
        """Same shape, dB re full scale squared; a full-scale sine reads -3."""
        self.background_db: F32 = np.empty(shape, np.float32)
        """Same shape and unit: the background under ``spectrum_db``."""
        self.mean_square = np.empty((n_channels, spec.n_time_step, spec.n_freq - spec.row_lo))
        """``(n_channels, n_time_step, n_freq - row_lo)``: the power that ``spectrum_db`` states, rows in use."""
        self._background_of = SplitWindow(spec.n_freq, spec.row_lo, spec.tpsw_half, spec.tpsw_gap, spec.tpsw_clip)

    def __call__(self, power: F32) -> None:
        """Normalise ``power`` ``(n_channels, n_time_step, n_freq)``, full scale 1."""
        spec, features = self._spec, self.features
        _to_db(power, self.spectrum_db)
        _to_db(self._background_of(power), self.background_db)
        np.subtract(self.spectrum_db, self.background_db, out=features)
        np.subtract(features, np.float32(spec.floor_db), out=features)
        np.multiply(features, np.float32(1.0 / (spec.ceil_db - spec.floor_db)), out=features)
        features[..., : spec.row_lo] = spec.fill
        np.clip(features, np.float32(0.0), np.float32(1.0), out=features)
        np.divide(self.spectrum_db[..., spec.row_lo :], np.float32(10.0), out=self.mean_square, dtype=np.float32)
        np.power(10.0, self.mean_square, out=self.mean_square)


def _to_db(power: npt.NDArray[np.floating], out: F32) -> None:
    out[...] = power
    np.add(out, np.float32(POWER_FLOOR), out=out)
    np.log10(out, out=out)
    np.multiply(out, np.float32(10.0), out=out)
