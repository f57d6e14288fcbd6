r"""The one front end of training, calibration and daemon: audio to normalised LOFARgram windows.

For each channel:

1. resample to ``fs_model`` by a linear-phase low-pass that stops what would alias into the rows kept
   (:mod:`models.resample`, :mod:`models.decimate`);
2. frames of ``n_fft`` model samples every ``hop``, mean removed (DC), Hann window, FFT in float32 (:mod:`models.stft`);
3. power ``P[f, t] = 2 |X[f, t]|^2 / (sum w)^2``: a sine of amplitude ``a`` gives ``a^2 / 2`` in its bin;
4. background ``B[f, t]`` by the two-pass split window along frequency (:mod:`models.background`);
5. ``features = clip((10 log10(P / B) - floor_db) / (ceil_db - floor_db), 0, 1)``; rows below ``f_lo_hz`` hold ``fill``.

Time is a sample index. Window ``g`` of an epoch covers source samples ``[g * step, g * step + n_samples)`` with
``step`` and ``n_samples`` fixed by the rate, filter and frames included: nothing outside that span enters, so
``n_warmup`` is 0 and a stream that starts at any slot gives the same windows. The work is done in tiles of one step
each, always of the same shape and at the same place, so the size of the blocks fed in changes no bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.feature_spec import FeatureSpec
from models.normalise import POWER_FLOOR, Normaliser
from models.stft import Stft

__all__ = ["FeatureSpec", "FeatureWindow", "FrontEnd", "windows_of"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureWindow:
    """One slot of the grid, analysed, for all channels of a stream."""

    grid_index: int
    first_sample: int
    """Source samples from the epoch's start."""
    n_samples: int
    features: F32
    """``(n_channels, n_planes, n_freq, n_time)``, 0..1."""
    spectrum_db: F32
    """``(n_channels, n_freq, n_time)``, dB re full scale squared; a full-scale sine reads -3."""
    background_db: F32
    """``(n_channels, n_freq, n_time)``, the background under ``spectrum_db``, same unit."""
    level_db: F32
    """``(n_channels,)``, mean-square level between ``f_lo_hz`` and ``f_hi_hz``, dB re full scale squared."""


class FrontEnd:
    """Streaming front end of one stream: feed blocks, get windows.

    Parameters
    ----------
    spec : FeatureSpec
    fs : int
        Rate of the source, Hz, at least ``spec.fs_model``.
    n_channels : int

    Raises
    ------
    SampleRateError
        If the rate cannot be used.
    """

    def __init__(self, spec: FeatureSpec, fs: int, n_channels: int) -> None:
        if n_channels < 1:
            raise ValueError(f"n_channels={n_channels} is not positive")
        self.spec, self.fs, self.n_channels = spec, fs, n_channels
        self._stft = Stft(spec, fs, n_channels)
        self._step, self._n_samples = self._stft.step, spec.n_samples(fs)
        self._normalise = Normaliser(spec, n_channels)
        self._enbw_bins = self._stft.enbw_bins
        # twice n_time columns, each written at two places: every window is one contiguous slice
        self._features: F32 = np.zeros((n_channels, spec.n_planes, spec.n_freq, 2 * spec.n_time), np.float32)
        self._spectrum: F32 = np.zeros((n_channels, spec.n_freq, 2 * spec.n_time), np.float32)
        self._background: F32 = np.zeros_like(self._spectrum)
        self._mean_square = np.zeros((n_channels, spec.n_freq - spec.row_lo, 2 * spec.n_time))
        self._n_tiles = 0

    @property
    def position(self) -> int:
        """Next source sample expected."""
        return self._stft.position

    def reset(self, at_sample: int = 0) -> None:
        """Forget everything; the next block starts at ``at_sample`` of the epoch (its start, or the end of a gap)."""
        self._stft.reset(at_sample)
        self._n_tiles = 0

    def process(self, x: F32) -> Iterator[FeatureWindow]:
        """Feed ``x`` ``(n_channels, n)``, the samples that follow ``position``; yield each window as it completes.

        The iterator must be run to its end before the next call.
        """
        for tile, power in self._stft.process(x):
            self._normalise(power)
            self._write_columns(tile)
            self._n_tiles += 1
            if self._n_tiles >= self.spec.n_time // self.spec.n_time_step:
                yield self._completed(tile + 1)

    def _write_columns(self, tile: int) -> None:
        """Put the columns of a tile, normalised, into their places."""
        n, n_time, done = self.spec.n_time_step, self.spec.n_time, self._normalise
        at = (tile * n) % n_time
        for k in (at, at + n_time):
            self._features[:, 0, :, k : k + n] = done.features.swapaxes(1, 2)
            self._spectrum[:, :, k : k + n] = done.spectrum_db.swapaxes(1, 2)
            self._background[:, :, k : k + n] = done.background_db.swapaxes(1, 2)
            self._mean_square[:, :, k : k + n] = done.mean_square.swapaxes(1, 2)

    def _completed(self, end_tile: int) -> FeatureWindow:
        """The window whose last tile is the one before ``end_tile``."""
        spec = self.spec
        grid_index = end_tile - spec.n_time // spec.n_time_step
        at = (grid_index * spec.n_time_step) % spec.n_time
        features = self._features[..., at : at + spec.n_time].copy()
        spectrum = self._spectrum[..., at : at + spec.n_time].copy()
        mean_square = self._mean_square[..., at : at + spec.n_time].mean(axis=2).sum(axis=1)
        level = 10.0 * np.log10(mean_square / self._enbw_bins + POWER_FLOOR)
        background = self._background[..., at : at + spec.n_time].copy()
        for a in (features, spectrum, background):
            a.setflags(write=False)
        first_sample, levels = grid_index * self._step, level.astype(np.float32)
        return FeatureWindow(grid_index, first_sample, self._n_samples, features, spectrum, background, levels)


def windows_of(spec: FeatureSpec, fs: int, x: F32) -> Iterator[FeatureWindow]:
    """All windows of a whole recording ``x`` ``(n_channels, n_samples)``, by the streaming front end."""
    yield from FrontEnd(spec, fs, x.shape[0]).process(np.asarray(x, np.float32))
