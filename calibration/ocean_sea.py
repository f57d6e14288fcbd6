"""The sea as one hydrophone hears it when nothing passes: ambient noise, recorder, hum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calibration.ocean_physics import CHUNK_S, ShapedNoise, rng_of, wenz
from calibration.scenarios import Scenario
from models.errors import SampleRateError

__all__ = ["Hydrophone"]

F64 = npt.NDArray[np.float64]

_FS_LO, _FS_HI = 2000, 192_000


class Hydrophone:
    """A sea and the recorder in it: wind, shipping, depth, high-pass, hum; its own endless ambient noise.

    Parameters
    ----------
    scenario : Scenario
    seed_name : str
    fs : int
        2000 to 192000 Hz.

    Raises
    ------
    SampleRateError
        If ``fs`` is out of range.
    """

    def __init__(self, scenario: Scenario, seed_name: str, fs: int) -> None:
        if not _FS_LO <= fs <= _FS_HI:
            raise SampleRateError(f"the simulated ocean cannot be sampled at {fs} Hz: choose {_FS_LO}..{_FS_HI} Hz")
        rng = rng_of(seed_name, 0)
        self.fs = fs
        self.wind_kn = float(rng.uniform(*scenario.wind_kn))
        self.shipping = float(rng.uniform(*scenario.shipping))
        self.depth_m = float(np.exp(rng.uniform(np.log(15.0), np.log(120.0))))
        self._f_cut = float(rng.uniform(2.0, 6.0))
        mains = float(rng.choice([50.0, 60.0]) * (1.0 + rng.normal(0.0, 2e-4)))
        k = rng.choice(np.arange(1, 8), size=int(rng.integers(2, 5)), replace=False)
        snr = rng.uniform(4.0, 14.0, size=k.size)
        phase = rng.uniform(0.0, 1.0, size=k.size)
        hums = rng.random() < scenario.p_hum
        self.hum = (
            tuple((mains * float(m), float(s), float(p)) for m, s, p in zip(k, snr, phase, strict=True)) if hums else ()
        )
        """``(f_hz, snr_db, phase in turns)`` of each harmonic."""
        density = self.density(ShapedNoise.frequencies_hz(fs))
        self._noise = ShapedNoise(fs, seed_name, (1,), lambda _: density)
        self.rms = float(np.sqrt(density.sum() / (2.0 * CHUNK_S)))
        """Of the ambient noise, µPa."""

    def response(self, f_hz: F64) -> F64:
        """Power gain of the recorder's second-order high-pass."""
        r4 = (f_hz / self._f_cut) ** 4
        out: F64 = r4 / (1.0 + r4)
        return out

    def density(self, f_hz: F64) -> F64:
        """One-sided density of the ambient noise as recorded, µPa²/Hz."""
        return self.response(f_hz) * wenz(f_hz, self.wind_kn, self.shipping)

    def chunk(self, k: int) -> F64:
        """Ambient noise of chunk ``k``, shape ``(CHUNK_S * fs,)``, µPa."""
        return self._noise.chunk(k)

    def hum_chunk(self, k: int, amplitudes: list[float]) -> F64:
        """Hum of chunk ``k``, shape ``(CHUNK_S * fs,)``; phases run on from sample 0."""
        t = np.arange(CHUNK_S * self.fs) / self.fs
        x = np.zeros(t.size)
        for (f, _, phase), a in zip(self.hum, amplitudes, strict=True):
            turns = (f * CHUNK_S * k + phase) % 1.0  # kept small, so that months lose no precision
            x += a * np.cos(2.0 * np.pi * (f * t + turns))
        return x
