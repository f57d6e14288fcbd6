"""Spectral gating by the library noisereduce, alone and with a source-free clip; scored on what it lets through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.experiments.scene import Scene
from models.features import windows_of

__all__ = ["NoiseReduce"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

#: Share of a window's level below which the output counts as silent, dB: gated cells are zero.
SILENT_DB = -60.0


@dataclass(frozen=True, slots=True, eq=False)
class NoiseReduce:
    """Level of the gated audio over the background of the ungated, dB.

    Without a source-free clip the library takes the window's own steady part for noise, and tonals are steady: it
    does little better than chance. The clip is scaled to the window's level between ``f_lo_hz`` and ``f_hi_hz``. Frames
    are those of the front end; the smoothing of the gate is off (its default refuses frames of this length, and it
    would smear lines over rows).

    Raises
    ------
    ImportError
        If noisereduce is not installed (when maps are asked for).
    """

    stationary: bool
    clip: F32 | None = None
    """``(n_samples,)`` source-free sound at the windows' rate."""
    n_std: float = 1.5
    """Standard deviations over the noise's mean at which the gate opens, in stationary mode."""

    @property
    def name(self) -> str:
        """For tables."""
        mode = "stationary" if self.stationary else "non-stationary"
        return f"noisereduce, {mode}, " + ("no clip" if self.clip is None else f"clip, {self.n_std:g} sd")

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Output level over the input's background, dB."""
        from noisereduce import reduce_noise

        spec, fs = scene.spec, scene.fs
        ratio = fs / spec.fs_model
        out = np.zeros(scene.spectrum_db.shape, np.float32)
        for i, x in enumerate(scene.audio):
            gated = reduce_noise(
                y=(x - x.mean()).astype(np.float64),
                sr=fs,
                stationary=self.stationary,
                y_noise=None if self.clip is None else self._scaled_clip(scene, i),
                n_std_thresh_stationary=self.n_std,
                n_fft=round(spec.n_fft * ratio),
                hop_length=round(spec.hop * ratio),
                freq_mask_smooth_hz=None,
                time_mask_smooth_ms=None,
            )
            shown = next(windows_of(spec, fs, np.asarray(gated, np.float32)[None])).spectrum_db[0]
            floor = scene.spectrum_db[i] + SILENT_DB
            out[i] = np.maximum(shown, floor) - scene.background_db[i]
        out[:, : spec.row_lo] = 0.0
        return out

    def _scaled_clip(self, scene: Scene, i: int) -> npt.NDArray[np.float64]:
        assert self.clip is not None
        spec = scene.spec
        clip = self.clip.astype(np.float64) - self.clip.mean()
        levels = [_band_level(a, scene.fs, spec.f_lo_hz, spec.f_hi_hz) for a in (scene.audio[i], clip)]
        scaled: npt.NDArray[np.float64] = clip * (levels[0] / levels[1])
        return scaled


def _band_level(x: npt.NDArray[np.floating], fs: int, f_lo: float, f_hi: float) -> float:
    """Root mean square of ``x`` between two frequencies, by the median over rows: lines count little."""
    power = np.abs(np.fft.rfft((x - x.mean()).astype(np.float64))) ** 2 / x.size**2
    f = np.fft.rfftfreq(x.size, 1.0 / fs)
    return float(np.sqrt(np.median(power[(f >= f_lo) & (f < f_hi)])) + 1e-30)
