"""The numbers of the front end, and what follows from them: rates, lengths, times."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import SampleRateError
from models.resample import Resampler

__all__ = ["FeatureSpec", "resampler"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSpec:
    """All numbers of the front end; stored in the bundle, written once, everything else is derived.

    Raises
    ------
    ValueError
        If two numbers contradict each other; the message names both.
    """

    name: str = "lofar"
    fs_model: int = 2000
    """Rate after resampling, Hz."""
    n_fft: int = 1000
    """Samples in a frame, at ``fs_model``."""
    hop: int = 250
    """Samples between frames, at ``fs_model``."""
    n_freq: int = 256
    """Rows kept, from 0 Hz."""
    n_time: int = 64
    """Columns in a window."""
    n_time_step: int = 8
    """Columns between windows."""
    f_lo_hz: float = 10.0
    """Rows below hold ``fill``: too steep there for a background estimate."""
    tpsw_half: int = 12
    """Rows to either side in the split window."""
    tpsw_gap: int = 2
    """Rows to either side left out around the centre."""
    tpsw_clip: float = 1.8
    """First pass: cells above this multiple of the mean are replaced by the mean."""
    floor_db: float = -3.0
    """Level over background that maps to 0."""
    ceil_db: float = 12.0
    """Level over background that maps to 1."""
    stopband_db: float = 100.0
    """Attenuation of what would alias into the rows kept."""

    def __post_init__(self) -> None:
        if not 1 <= self.hop <= self.n_fft:
            raise ValueError(f"hop={self.hop} is not in 1..n_fft={self.n_fft}")
        if not 1 <= self.n_freq <= self.n_fft // 2:
            raise ValueError(f"n_freq={self.n_freq} is not in 1..n_fft/2={self.n_fft // 2}")
        if self.n_time_step < 1 or self.n_time % self.n_time_step:
            raise ValueError(f"n_time={self.n_time} is not a multiple of n_time_step={self.n_time_step}")
        if not 0 <= self.tpsw_gap < self.tpsw_half:
            raise ValueError(f"tpsw_gap={self.tpsw_gap} is not in 0..tpsw_half-1={self.tpsw_half - 1}")
        if not self.floor_db < 0.0 < self.ceil_db:
            raise ValueError(f"floor_db={self.floor_db} < 0 < ceil_db={self.ceil_db} does not hold")

    @property
    def n_planes(self) -> int:
        """Input planes of the network."""
        return 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_planes, n_freq, n_time)`` of one window."""
        return self.n_planes, self.n_freq, self.n_time

    @property
    def bin_hz(self) -> float:
        """Width of a row, Hz."""
        return self.fs_model / self.n_fft

    @property
    def f_hi_hz(self) -> float:
        """Upper edge of the band kept, Hz."""
        return self.n_freq * self.bin_hz

    @property
    def column_s(self) -> float:
        """Time between columns, s."""
        return self.hop / self.fs_model

    @property
    def step_s(self) -> float:
        """Time between windows, s."""
        return self.n_time_step * self.column_s

    @property
    def n_model_tile(self) -> int:
        """Model samples under the columns of one step."""
        return (self.n_time_step - 1) * self.hop + self.n_fft

    @property
    def n_warmup(self) -> int:
        """Source samples before ``first_sample`` that enter a window: none, see the module text."""
        return 0

    @property
    def fill(self) -> float:
        """Feature value of the background itself (0 dB)."""
        return -self.floor_db / (self.ceil_db - self.floor_db)

    @property
    def frequencies_hz(self) -> npt.NDArray[np.float64]:
        """Centre of each row, Hz, shape ``(n_freq,)``."""
        f: npt.NDArray[np.float64] = np.arange(self.n_freq, dtype=np.float64) * self.bin_hz
        return f

    @property
    def row_lo(self) -> int:
        """First row in use."""
        return math.ceil(self.f_lo_hz / self.bin_hz)

    def ratio(self, fs: int) -> tuple[int, int]:
        """``(L, M)`` of ``fs_model / fs = L / M`` in lowest terms.

        Raises
        ------
        SampleRateError
            If ``fs`` is below ``fs_model``, or a window step is no whole number of source samples.
        """
        if fs < self.fs_model:
            raise SampleRateError(
                f"sampled at {fs} Hz, but the front end '{self.name}' needs at least {self.fs_model} Hz: "
                "record at a higher rate, or use a bundle made for this one"
            )
        if (self.n_time_step * self.hop * fs) % self.fs_model:
            raise SampleRateError(
                f"at {fs} Hz a window step of {self.step_s} s is no whole number of samples; "
                f"nearest usable rate: {round(fs * self.step_s) / self.step_s:.0f} Hz"
            )
        common = math.gcd(fs, self.fs_model)
        return self.fs_model // common, fs // common

    def step(self, fs: int) -> int:
        """Source samples between windows."""
        self.ratio(fs)
        return self.n_time_step * self.hop * fs // self.fs_model

    def n_samples(self, fs: int) -> int:
        """Source samples under one window, both halves of the filter included."""
        n_model = (self.n_time - 1) * self.hop + self.n_fft
        return resampler(self, fs).n_in(n_model)

    def n_windows(self, fs: int, n_samples: int) -> int:
        """Windows that fit into a stream of ``n_samples`` source samples."""
        need = self.n_samples(fs)
        return 0 if n_samples < need else (n_samples - need) // self.step(fs) + 1

    def column_centres(self, fs: int) -> npt.NDArray[np.float64]:
        """Centre of each column in source samples after the window's first sample, shape ``(n_time,)``."""
        model = np.arange(self.n_time, dtype=np.float64) * self.hop + self.n_fft / 2
        centres: npt.NDArray[np.float64] = resampler(self, fs).half + model * (fs / self.fs_model)
        return centres

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for the manifest."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FeatureSpec:
        """Build from a manifest's map; unknown or missing keys are errors.

        Raises
        ------
        ValueError
            If a key is unknown or missing, or a value does not fit.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        if set(values) != names:
            raise ValueError(
                f"front end: unknown keys {sorted(set(values) - names)}, missing keys {sorted(names - set(values))}"
            )
        return cls(**values)


@functools.lru_cache(maxsize=32)
def resampler(spec: FeatureSpec, fs: int) -> Resampler:
    """Return the resampler from ``fs``; it holds no state, so one serves all streams."""
    spec.ratio(fs)
    # what falls back into the rows kept lies above fs_model - f_hi_hz; up to there the filter may roll off
    return Resampler(fs, spec.fs_model, spec.f_hi_hz, spec.fs_model - spec.f_hi_hz, spec.stopband_db)
