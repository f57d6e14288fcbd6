r"""Adaptive line enhancer: what can be predicted of the sound from its past, in the time domain.

.. math:: y(n) = w^T x_{n - D}, \qquad w \leftarrow w + \mu \, \frac{(x(n) - y(n)) \, x_{n-D}}{|x_{n-D}|^2 + \epsilon}

(Widrow et al., Proc. IEEE 63(12), 1975; NLMS). ``D`` is longer than the noise remembers itself, so that only tonals
can be predicted. Coloured noise remembers itself for long; the sound is first whitened by the window's own background.
The window is run through several times, so that the weights have settled in the run that counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.experiments.scene import Scene
from models.features import windows_of

__all__ = ["LineEnhancer", "enhanced"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LineEnhancer:
    """Level of what was predicted of the whitened sound, dB."""

    n_taps: int = 512
    delay_s: float = 0.05
    step: float = 0.01
    n_runs: int = 2

    @property
    def name(self) -> str:
        """For tables."""
        return "adaptive line enhancer (NLMS)"

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Predicted level, dB."""
        spec, fs = scene.spec, scene.fs
        white = np.stack([_whitened(scene, i) for i in range(len(scene))])
        predicted = enhanced(white, self.n_taps, max(1, round(self.delay_s * fs)), self.step, self.n_runs)
        out = np.stack([next(windows_of(spec, fs, y[None].astype(np.float32))).spectrum_db[0] for y in predicted])
        out[:, : spec.row_lo] = out[:, spec.row_lo :].min(axis=(1, 2))[:, None, None]
        return out


def enhanced(x: F64, n_taps: int, delay: int, step: float, n_runs: int) -> F64:
    """Prediction of each row of ``x`` ``(n, n_samples)``, all rows side by side."""
    n, n_samples = x.shape
    past = np.concatenate([np.zeros((n, n_taps + delay)), x], axis=1)
    weights = np.zeros((n, n_taps))
    y = np.zeros_like(x)
    for _ in range(n_runs):
        for k in range(n_samples):
            seen = past[:, k + 1 : k + 1 + n_taps]  # ends at sample k - delay
            y[:, k] = np.einsum("ij,ij->i", weights, seen)
            gain = step * (x[:, k] - y[:, k]) / (np.einsum("ij,ij->i", seen, seen) + 1e-9)
            weights += gain[:, None] * seen
    return y


def _whitened(scene: Scene, i: int) -> F64:
    """Window ``i`` with its mean background divided out, of unit variance."""
    spec, x = scene.spec, scene.audio[i].astype(np.float64)
    lo = spec.row_lo
    background = scene.background_db[i].mean(axis=1)
    background[:lo] = background[lo]
    f = np.fft.rfftfreq(x.size, 1.0 / scene.fs)
    gain = 10.0 ** (-np.interp(f, spec.frequencies_hz, background) / 20.0)
    gain[(f < spec.f_lo_hz) | (f >= spec.f_hi_hz)] = 0.0
    white = np.fft.irfft(np.fft.rfft(x - x.mean()) * gain, x.size)
    return white / max(float(white.std()), 1e-30)
