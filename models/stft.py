"""Blocks of sound to the power of each new LOFARgram column: resampling, frames, FFT, for all channels at once.

The work is done in tiles of one step each, always of the same shape and at the same place of the stream, so the size
of the blocks fed in changes no bit. All buffers are made once; only the FFT's result is new in each tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.fft

from models.decimate import Decimator
from models.feature_spec import FeatureSpec, resampler
from models.hann import hann

__all__ = ["Stft"]

F32 = npt.NDArray[np.float32]


class Stft:
    """Streaming resampler and short-time Fourier transform of one stream.

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
        self.spec, self.n_channels = spec, n_channels
        self.step = spec.step(fs)
        """Source samples between tiles."""
        self._resample = resampler(spec, fs)
        self.window: F32 = hann(spec.n_fft).astype(np.float32)
        # a sine of amplitude a reads a^2 / 2 in its bin
        self._tone_scale = np.float32(2.0 / float(self.window.sum(dtype=np.float64)) ** 2)
        self._n_step_model = spec.n_time_step * spec.hop
        self._n_kept = spec.n_model_tile - self._n_step_model  # model samples shared by neighbouring tiles
        # every span of model samples that a tile asks for is a multiple of what hop and n_fft have in common
        unit = Decimator.unit_of(self._resample, math.gcd(spec.hop, spec.n_fft))
        self._decimate = Decimator(self._resample, unit, n_channels, spec.n_model_tile) if unit else None
        n_pad = self._decimate.n_pad if self._decimate else 0
        n_most = self._resample.n_in(spec.n_model_tile) + self._resample.down  # tiles may begin off the filter's phase
        self._n_pad = n_pad
        self._buffer: F32 = np.zeros((n_channels, n_most + n_pad), np.float32)
        self._model: F32 = np.zeros((n_channels, spec.n_model_tile), np.float32)
        self._frames_of_model = np.lib.stride_tricks.sliding_window_view(self._model, spec.n_fft, axis=1)[
            :, :: spec.hop
        ]
        self._frames: F32 = np.empty((n_channels, spec.n_time_step, spec.n_fft), np.float32)
        self._mean: F32 = np.empty((n_channels, spec.n_time_step, 1), np.float32)
        self._power: F32 = np.empty((n_channels, spec.n_time_step, spec.n_freq), np.float32)
        self._square: F32 = np.empty_like(self._power)
        self.reset()

    @property
    def position(self) -> int:
        """Next source sample expected."""
        return self._position

    @property
    def enbw_bins(self) -> float:
        """Noise bandwidth of the window, in rows: the mean square of noise needs it."""
        w = self.window.astype(np.float64)
        return float(self.spec.n_fft * (w**2).sum() / w.sum() ** 2)

    def reset(self, at_sample: int = 0) -> None:
        """Forget everything; the next block starts at ``at_sample`` of the epoch (its start, or the end of a gap)."""
        if at_sample < 0:
            raise ValueError(f"at_sample={at_sample} is negative")
        self._position = at_sample
        self._tile = -(-at_sample // self.step)  # first slot that lies wholly behind
        self._buffer_first = self._tile * self.step
        self._n_buffer = 0
        self._primed = False  # the model samples shared with the tile before are there

    def process(self, x: F32) -> Iterator[tuple[int, F32]]:
        """Feed ``x`` ``(n_channels, n)``, the samples that follow ``position``; yield each tile as it completes.

        A tile is its number, counted from the epoch's start, and the power of its columns
        ``(n_channels, n_time_step, n_freq)``, full scale 1, good until the next. The iterator must be run to its end.
        """
        if x.ndim != 2 or x.shape[0] != self.n_channels:
            raise ValueError(f"block of shape {x.shape} does not fit n_channels={self.n_channels}")
        start = max(0, self._buffer_first + self._n_buffer - self._position)  # samples before the first whole slot
        self._position += x.shape[1]
        end = self._tile_end()
        while start < x.shape[1]:
            n = min(x.shape[1] - start, end - self._buffer_first - self._n_buffer)
            self._buffer[:, self._n_buffer : self._n_buffer + n] = x[:, start : start + n]
            self._n_buffer += n
            start += n
            if self._buffer_first + self._n_buffer == end:
                self._resample_tile()
                self._transform()
                self._tile += 1
                self._drop_before(self._resample.first_in(self._next_out()))
                end = self._tile_end()
                yield self._tile - 1, self._power

    def _tile_end(self) -> int:
        """Source sample behind the last one under the next tile."""
        return self._tile * self.step + self._resample.n_in(self.spec.n_model_tile)

    def _next_out(self) -> int:
        """First model sample, from the epoch's start, that the next tile must compute, on a phase of the filter."""
        first = self._tile * self._n_step_model + (self._n_kept if self._primed else 0)
        return first - first % self._resample.up

    def _resample_tile(self) -> None:
        """Model samples of the tile whose source samples are all in the buffer, and end with it."""
        model, first_out = self._model, self._next_out()
        if self._primed:
            model[:, : self._n_kept] = model[:, self._n_step_model :].copy()  # the two may overlap
        fresh = model[:, self._n_kept if self._primed else 0 :]
        self._primed = True
        a = self._resample.first_in(first_out) - self._buffer_first
        if self._decimate:
            self._buffer[:, self._n_buffer : self._n_buffer + self._n_pad] = 0.0
            self._decimate(self._buffer[:, a : self._n_buffer + self._n_pad], fresh)
            return
        n_out = self._tile * self._n_step_model + self.spec.n_model_tile - first_out
        fresh[:] = self._resample(self._buffer[:, a : self._n_buffer], n_out)[:, n_out - fresh.shape[1] :]

    def _transform(self) -> None:
        frames, power, square = self._frames, self._power, self._square
        np.mean(self._frames_of_model, axis=2, keepdims=True, out=self._mean)
        np.subtract(self._frames_of_model, self._mean, out=frames)
        np.multiply(frames, self.window, out=frames)
        bins = scipy.fft.rfft(frames, axis=2)[..., : self.spec.n_freq]
        np.square(bins.real, out=power)
        np.square(bins.imag, out=square)
        np.add(power, square, out=power)
        np.multiply(power, self._tone_scale, out=power)

    def _drop_before(self, sample: int) -> None:
        n = min(sample - self._buffer_first, self._n_buffer)
        keep = self._n_buffer - n
        self._buffer[:, :keep] = self._buffer[:, n : self._n_buffer].copy()  # the two may overlap
        self._buffer_first += n
        self._n_buffer = keep
