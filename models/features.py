r"""The one front end of training, calibration and daemon: audio to normalised LOFARgram windows.

For each channel, with ``L/M = fs_model/fs`` in lowest terms:

1. resample: ``v[m] = sum_k h[k] x_up[m M + N - 1 - k]``, a linear-phase Kaiser low-pass in valid mode
   (no padding; ``x_up`` is ``x`` with ``L - 1`` zeros between samples); ``h`` stops what would alias into the rows
   kept;
2. frames of ``n_fft`` model samples every ``hop``, mean removed (DC), Hann window, FFT in float32;
3. power ``P[f, t] = 2 |X[f, t]|^2 / (sum w)^2``: a sine of amplitude ``a`` gives ``a^2 / 2`` in its bin;
4. background ``B[f, t]`` by the two-pass split window along frequency (TPSW): first the mean over ``tpsw_half`` rows to
   either side without the inner ``tpsw_gap``; then cells above ``tpsw_clip`` times that mean are replaced by it and
   the mean is taken again (Struzinski & Lowe, J. Acoust. Soc. Am. 76(6), 1984, compare such normalisers); the clipping
   biases the mean of exponentially distributed noise power to ``1 - c exp(-c)``, which is divided out;
5. ``features = clip((10 log10(P / B) - floor_db) / (ceil_db - floor_db), 0, 1)``; rows below ``f_lo_hz`` hold ``fill``.

Time is a sample index. Window ``g`` of an epoch covers source samples ``[g * step, g * step + n_samples)`` with
``step`` and ``n_samples`` fixed by the rate, filter and frames included: nothing outside that span enters, so
``n_warmup`` is 0 and a stream that starts at any slot gives the same windows. The work is done in tiles of one step
each, always of the same shape and at the same place, so the size of the blocks fed in changes no bit.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal

from models.errors import SampleRateError

__all__ = ["FeatureSpec", "FeatureWindow", "FrontEnd", "windows_of"]

F32 = npt.NDArray[np.float32]

#: Power added before each ratio and logarithm, re full scale squared: digital silence reads -180 dB, never -inf.
POWER_FLOOR = 1e-18


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
    floor_db: float = -5.0
    """Level over background that maps to 0."""
    ceil_db: float = 20.0
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


class Resampler:
    """Polyphase low-pass and rate change in valid mode (step 1 of the module text).

    Each output is one dot product over its own input samples, computed in a fixed order: cutting the stream anywhere
    changes no bit.
    """

    def __init__(self, spec: FeatureSpec, fs: int) -> None:
        self.up, self.down = spec.ratio(fs)
        self.half = 0
        """Source samples of filter on either side of an output's centre."""
        if fs == spec.fs_model:
            self.taps = np.ones(1, np.float32)
        else:
            # what falls back into the rows kept lies above fs_model - f_hi_hz; up to there the filter may roll off
            f_pass, f_stop = spec.f_hi_hz, spec.fs_model - spec.f_hi_hz
            n_half = (spec.stopband_db - 7.95) / (14.36 * (f_stop - f_pass) / fs) / 2  # Kaiser's formula
            self.half = math.ceil(n_half)
            h = scipy.signal.firwin(
                2 * self.half * self.up + 1,
                (f_pass + f_stop) / 2,
                window=("kaiser", scipy.signal.kaiser_beta(spec.stopband_db)),
                fs=float(fs * self.up),
            )
            self.taps = (h * self.up).astype(np.float32)
        # upfirdn pads the start with zeros: lead with zeros so that the first unpadded output falls on a whole index
        self.n_skip = -(-(self.taps.size - 1) // self.down)
        lead = self.n_skip * self.down - (self.taps.size - 1)
        self._padded = np.concatenate([np.zeros(lead, np.float32), self.taps])

    def first_in(self, first_out: int) -> int:
        """First source sample under output ``first_out`` (a multiple of ``up``)."""
        return first_out // self.up * self.down

    def n_in(self, n_out: int) -> int:
        """Source samples under ``n_out`` outputs, counted from output 0."""
        return ((n_out - 1) * self.down + self.taps.size - 1) // self.up + 1

    def __call__(self, x: F32, n_out: int) -> F32:
        """Outputs ``0..n_out`` of ``x`` ``(n_channels, n_in)``, whose first sample lies under output 0."""
        if self.taps.size == 1:
            return x[:, :n_out]
        y = scipy.signal.upfirdn(self._padded, x, self.up, self.down, axis=-1)
        out: F32 = y[:, self.n_skip : self.n_skip + n_out]
        return out


@functools.lru_cache(maxsize=32)
def resampler(spec: FeatureSpec, fs: int) -> Resampler:
    """Return the resampler from ``fs``; it holds no state, so one serves all streams."""
    return Resampler(spec, fs)


class Normaliser:
    """Steps 3 to 5 of the module text: power to level over background."""

    def __init__(self, spec: FeatureSpec) -> None:
        rows = np.arange(spec.n_freq)
        edge = functools.partial(np.clip, a_min=spec.row_lo, a_max=spec.n_freq)
        self._outer = edge(rows - spec.tpsw_half), edge(rows + spec.tpsw_half + 1)
        self._inner = edge(rows - spec.tpsw_gap), edge(rows + spec.tpsw_gap + 1)
        n_rows = (self._outer[1] - self._outer[0]) - (self._inner[1] - self._inner[0])
        self._weight = (1.0 / np.maximum(n_rows, 1)).astype(np.float64)
        self._bias = 1.0 - spec.tpsw_clip * math.exp(-spec.tpsw_clip)
        self._spec = spec

    def _split_mean(self, power: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        total = np.zeros((*power.shape[:-1], power.shape[-1] + 1))  # (..., n_freq + 1), running sum along frequency
        np.cumsum(power, axis=-1, out=total[..., 1:])
        outer = total[..., self._outer[1]] - total[..., self._outer[0]]
        inner = total[..., self._inner[1]] - total[..., self._inner[0]]
        mean: npt.NDArray[np.float64] = np.maximum(outer - inner, 0.0) * self._weight
        return mean

    def background(self, power: F32) -> npt.NDArray[np.float64]:
        """Two-pass split-window mean of ``power`` ``(..., n_freq)`` along the last axis."""
        p = power.astype(np.float64)
        mean = self._split_mean(p)
        return self._split_mean(np.where(p > self._spec.tpsw_clip * mean, mean, p)) / self._bias

    def scale(self, over_db: F32) -> F32:
        """Features in 0..1 of the level over background ``over_db`` ``(..., n_freq)``, dB."""
        spec = self._spec
        scaled = (over_db - np.float32(spec.floor_db)) * np.float32(1.0 / (spec.ceil_db - spec.floor_db))
        scaled[..., : spec.row_lo] = spec.fill
        out: F32 = np.clip(scaled, np.float32(0.0), np.float32(1.0))
        return out


def _to_db(power: npt.NDArray[np.floating[Any]]) -> F32:
    out: F32 = 10.0 * np.log10(power.astype(np.float32) + np.float32(POWER_FLOOR))
    return out


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
        self._resample = resampler(spec, fs)
        self._step, self._n_samples = spec.step(fs), spec.n_samples(fs)
        self._normalise = Normaliser(spec)
        self._window = scipy.signal.get_window("hann", spec.n_fft).astype(np.float32)
        # a sine of amplitude a reads a^2 / 2 in its bin; the mean square of noise needs the window's noise bandwidth
        self._tone_scale = np.float32(2.0 / float(self._window.sum(dtype=np.float64)) ** 2)
        self._enbw_bins = (
            spec.n_fft
            * float((self._window.astype(np.float64) ** 2).sum())
            / float(self._window.sum(dtype=np.float64)) ** 2
        )
        self._n_step_model = spec.n_time_step * spec.hop
        self._n_kept = spec.n_model_tile - self._n_step_model  # model samples shared by neighbouring tiles
        n_first_in = self._resample.n_in(spec.n_model_tile)
        self._buffer: F32 = np.zeros((n_channels, 2 * (n_first_in + self._step)), np.float32)
        # twice n_time columns, each written at two places: every window is one contiguous slice
        self._features: F32 = np.zeros((n_channels, spec.n_planes, spec.n_freq, 2 * spec.n_time), np.float32)
        self._spectrum: F32 = np.zeros((n_channels, spec.n_freq, 2 * spec.n_time), np.float32)
        self._background: F32 = np.zeros_like(self._spectrum)
        self.reset()

    @property
    def position(self) -> int:
        """Next source sample expected."""
        return self._position

    def reset(self, at_sample: int = 0) -> None:
        """Forget everything; the next block starts at ``at_sample`` of the epoch (its start, or the end of a gap)."""
        if at_sample < 0:
            raise ValueError(f"at_sample={at_sample} is negative")
        self._position = at_sample
        self._tile = -(-at_sample // self._step)  # first slot that lies wholly behind
        self._n_tiles = 0
        self._buffer_first = self._tile * self._step
        self._n_buffer = 0
        self._model_tail: F32 | None = None

    def process(self, x: F32) -> Iterator[FeatureWindow]:
        """Feed ``x`` ``(n_channels, n)``, the samples that follow ``position``; yield each window as it completes.

        The iterator must be run to its end before the next call.
        """
        if x.ndim != 2 or x.shape[0] != self.n_channels:
            raise ValueError(f"block of shape {x.shape} does not fit n_channels={self.n_channels}")
        start = max(0, self._buffer_first + self._n_buffer - self._position)  # samples before the first whole slot
        self._position += x.shape[1]
        while start < x.shape[1]:
            n = min(x.shape[1] - start, self._buffer.shape[1] - self._n_buffer)
            self._buffer[:, self._n_buffer : self._n_buffer + n] = x[:, start : start + n]
            self._n_buffer += n
            start += n
            while self._buffer_first + self._n_buffer >= self._tile_end():
                self._do_tile()
                if self._n_tiles >= self.spec.n_time // self.spec.n_time_step:
                    yield self._completed()

    def _tile_end(self) -> int:
        """Source sample behind the last one under the next tile."""
        return self._tile * self._step + self._resample.n_in(self.spec.n_model_tile)

    def _do_tile(self) -> None:
        """Compute the columns of the next tile, whose samples are all in the buffer."""
        model = self._model_samples(self._tile_end())
        self._model_tail = model[:, model.shape[1] - self._n_kept :].copy()
        self._write_columns(model)
        self._tile += 1
        self._n_tiles += 1
        self._drop_before(self._first_needed())

    def _next_out(self) -> int:
        """First model sample, from the epoch's start, that the next tile must compute, on a phase of the filter."""
        first = self._tile * self._n_step_model + (0 if self._model_tail is None else self._n_kept)
        return first - first % self._resample.up

    def _first_needed(self) -> int:
        return self._resample.first_in(self._next_out())

    def _model_samples(self, end: int) -> F32:
        """Model samples ``(n_channels, n_model_tile)`` of the tile whose source samples end at ``end``."""
        first_out = self._next_out()
        last_out = self._tile * self._n_step_model + self.spec.n_model_tile
        a = self._first_needed() - self._buffer_first
        fresh = self._resample(self._buffer[:, a : end - self._buffer_first], last_out - first_out)
        if self._model_tail is None:
            return fresh[:, fresh.shape[1] - self.spec.n_model_tile :]
        n_new = self.spec.n_model_tile - self._model_tail.shape[1]
        return np.concatenate([self._model_tail, fresh[:, fresh.shape[1] - n_new :]], axis=1)

    def _write_columns(self, model: F32) -> None:
        spec = self.spec
        frames = np.lib.stride_tricks.sliding_window_view(model, spec.n_fft, axis=1)[:, :: spec.hop]
        frames = (frames - frames.mean(axis=2, keepdims=True)) * self._window  # (n_channels, n_time_step, n_fft)
        bins = scipy.fft.rfft(frames, axis=2)[..., : spec.n_freq]
        power = (bins.real**2 + bins.imag**2) * self._tone_scale  # (n_channels, n_time_step, n_freq)
        at = (self._tile * spec.n_time_step) % spec.n_time
        spectrum, background = _to_db(power), _to_db(self._normalise.background(power))
        features = self._normalise.scale(spectrum - background)
        for k in (at, at + spec.n_time):
            self._features[:, 0, :, k : k + spec.n_time_step] = features.swapaxes(1, 2)
            self._spectrum[:, :, k : k + spec.n_time_step] = spectrum.swapaxes(1, 2)
            self._background[:, :, k : k + spec.n_time_step] = background.swapaxes(1, 2)

    def _drop_before(self, sample: int) -> None:
        n = min(sample - self._buffer_first, self._n_buffer)
        keep = self._n_buffer - n
        self._buffer[:, :keep] = self._buffer[:, n : self._n_buffer].copy()
        self._buffer_first += n
        self._n_buffer = keep

    def _completed(self) -> FeatureWindow:
        """The window that ends with the last tile."""
        spec = self.spec
        grid_index = self._tile - spec.n_time // spec.n_time_step
        at = (grid_index * spec.n_time_step) % spec.n_time
        features = self._features[..., at : at + spec.n_time].copy()
        spectrum = self._spectrum[..., at : at + spec.n_time].copy()
        mean_square = np.power(10.0, spectrum[:, spec.row_lo :] / 10.0, dtype=np.float64).mean(axis=2).sum(axis=1)
        level = 10.0 * np.log10(mean_square / self._enbw_bins + POWER_FLOOR)
        background = self._background[..., at : at + spec.n_time].copy()
        for a in (features, spectrum, background):
            a.setflags(write=False)
        first_sample, levels = grid_index * self._step, level.astype(np.float32)
        return FeatureWindow(grid_index, first_sample, self._n_samples, features, spectrum, background, levels)


def windows_of(spec: FeatureSpec, fs: int, x: F32) -> Iterator[FeatureWindow]:
    """All windows of a whole recording ``x`` ``(n_channels, n_samples)``, by the streaming front end."""
    yield from FrontEnd(spec, fs, x.shape[0]).process(np.asarray(x, np.float32))
