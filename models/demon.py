r"""DEMON front end: how loud a few bands far above the tonals are, two hundred times a second.

A cavitating propeller turns its broadband hiss up and down: once per turn because no two blades are alike, and once per
blade. The envelope of that hiss, not the hiss itself, holds shaft and blade rate (*detection of envelope modulation on
noise*). Per channel:

1. frames of ``2 hop`` source samples every ``hop``, ``hop = round(fs / fs_mod)``: mean removed, Hann window, FFT;
2. power within each band of half an octave from ``f_lo_hz`` up to ``0.45 fs``: one value per band and frame;
3. every ``step_s`` the last ``window_s`` of these envelopes, or what there is of them from ``least_s`` on.

Nothing is carried over a gap. The work is done in tiles of one second, always at the same place, so the size of the
blocks fed in changes no bit. What the envelopes say is told by `models.demon_lines`. Numpy and SciPy only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from models.errors import SampleRateError
from models.hann import hann

__all__ = ["DemonFrontEnd", "DemonSpec", "DemonWindow"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemonSpec:
    """Numbers of the front end.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    fs_mod: float = 200.0
    """Envelope values per second, as nearly as whole samples allow, Hz."""
    f_lo_hz: float = 1000.0
    """Lower edge of the lowest band."""
    f_hi_hz: float = 16_000.0
    """No band reaches higher."""
    window_s: float = 60.0
    step_s: float = 10.0
    least_s: float = 10.0
    """Envelope needed for the first result of a stream."""

    def __post_init__(self) -> None:
        if not 100.0 <= self.fs_mod <= 1000.0:
            raise ValueError(f"fs_mod={self.fs_mod} is not in 100..1000 Hz")
        if not 5.0 <= self.least_s <= self.window_s <= 600.0 or not 1.0 <= self.step_s <= self.window_s:
            raise ValueError(
                f"window_s={self.window_s}, step_s={self.step_s}, least_s={self.least_s}: a window lasts 5 to 600 s, "
                "and neither its step nor its least length exceeds it"
            )

    def bands_hz(self, fs: int) -> tuple[tuple[float, float], ...]:
        """Bands at a source rate, lowest first; none where the rate is too low."""
        top = min(self.f_hi_hz, 0.45 * fs)
        n = max(0, math.floor(2.0 * math.log2(top / self.f_lo_hz) + 1e-9))
        return tuple((self.f_lo_hz * 2 ** (i / 2), self.f_lo_hz * 2 ** ((i + 1) / 2)) for i in range(n))

    @property
    def least_fs(self) -> int:
        """Lowest source rate with a band, Hz."""
        return math.ceil(self.f_lo_hz * math.sqrt(2.0) / 0.45)


@dataclass(frozen=True, slots=True, eq=False)
class DemonWindow:
    """Envelopes of all channels of a stream."""

    index: int
    """Of the step, counted from the epoch's start."""
    first_sample: int
    """Source samples from the epoch's start."""
    n_samples: int
    envelope: F32
    """``(n_channels, n_bands, n)``, power, full scale 1."""
    fs_mod: float
    """Values per second."""


class DemonFrontEnd:
    """Streaming front end of one stream: feed blocks, get windows.

    Parameters
    ----------
    spec : DemonSpec
    fs : int
        Rate of the source, Hz.
    n_channels : int

    Raises
    ------
    SampleRateError
        If the rate leaves no room for a band.
    """

    def __init__(self, spec: DemonSpec, fs: int, n_channels: int) -> None:
        if fs < spec.least_fs:
            raise SampleRateError(
                f"{fs} Hz is too low for DEMON, whose lowest band ends at {1.414 * spec.f_lo_hz:.0f} Hz: it needs "
                f"{spec.least_fs} Hz"
            )
        if n_channels < 1:
            raise ValueError(f"n_channels={n_channels} is not positive")
        self.spec, self.fs, self.n_channels = spec, fs, n_channels
        self.hop = round(fs / spec.fs_mod)
        self.fs_mod = fs / self.hop
        self._n_tile = round(self.fs_mod)  # frames
        self._per_step = max(1, round(spec.step_s))  # tiles
        self._n_kept = round(spec.window_s) * self._n_tile
        self._n_least = round(spec.least_s) * self._n_tile
        self._window = hann(2 * self.hop).astype(np.float32)
        f = np.fft.rfftfreq(2 * self.hop, 1.0 / fs)
        self._edges = [
            (int(np.searchsorted(f, lo)), max(int(np.searchsorted(f, lo)) + 1, int(np.searchsorted(f, hi))))
            for lo, hi in spec.bands_hz(fs)
        ]
        self._buffer: F32 = np.zeros((n_channels, (self._n_tile + 1) * self.hop), np.float32)
        self._frames_of_buffer = np.lib.stride_tricks.sliding_window_view(self._buffer, 2 * self.hop, axis=1)[
            :, :: self.hop
        ]
        shape = (n_channels, self._n_tile)
        self._frames: F32 = np.empty((*shape, 2 * self.hop), np.float32)
        self._mean: F32 = np.empty((*shape, 1), np.float32)
        self._power: F32 = np.empty((*shape, self.hop + 1), np.float32)
        self._square: F32 = np.empty_like(self._power)
        self._kept: F32 = np.zeros((n_channels, len(self._edges), self._n_kept), np.float32)
        self.reset()

    @property
    def n_bands(self) -> int:
        """Bands that the rate allows."""
        return len(self._edges)

    @property
    def n_tile_samples(self) -> int:
        """Source samples from one tile to the next, about a second."""
        return self._n_tile * self.hop

    def reset(self, at_sample: int = 0) -> None:
        """Forget everything; the next block starts at ``at_sample`` of the epoch (its start, or the end of a gap)."""
        if at_sample < 0:
            raise ValueError(f"at_sample={at_sample} is negative")
        self._position = at_sample
        self._tile = -(-at_sample // self.n_tile_samples)  # first tile that lies wholly behind
        self._n_done = 0  # tiles without a gap
        self._n_buffer = 0

    def process(self, x: F32) -> Iterator[DemonWindow]:
        """Feed ``x`` ``(n_channels, n)``, the samples that follow the last ones; yield each window as it completes.

        The iterator must be run to its end before the next call.
        """
        if x.ndim != 2 or x.shape[0] != self.n_channels:
            raise ValueError(f"block of shape {x.shape} does not fit n_channels={self.n_channels}")
        start = max(0, self._tile * self.n_tile_samples + self._n_buffer - self._position)
        self._position += x.shape[1]
        while start < x.shape[1]:
            n = min(x.shape[1] - start, self._buffer.shape[1] - self._n_buffer)
            self._buffer[:, self._n_buffer : self._n_buffer + n] = x[:, start : start + n]
            self._n_buffer += n
            start += n
            if self._n_buffer == self._buffer.shape[1]:
                self._do_tile()
                if self._tile % self._per_step == 0 and self._n_done * self._n_tile >= self._n_least:
                    yield self._completed()

    def _do_tile(self) -> None:
        frames, power, square = self._frames, self._power, self._square
        np.mean(self._frames_of_buffer, axis=2, keepdims=True, out=self._mean)
        np.subtract(self._frames_of_buffer, self._mean, out=frames)
        np.multiply(frames, self._window, out=frames)
        bins = scipy.fft.rfft(frames, axis=2)
        np.square(bins.real, out=power)
        np.square(bins.imag, out=square)
        np.add(power, square, out=power)
        self._kept[:, :, : -self._n_tile] = self._kept[:, :, self._n_tile :].copy()
        for i, (a, b) in enumerate(self._edges):
            self._kept[:, i, -self._n_tile :] = power[:, :, a:b].sum(axis=2)
        self._buffer[:, : self.hop] = self._buffer[:, -self.hop :].copy()
        self._n_buffer = self.hop
        self._tile += 1
        self._n_done += 1

    def _completed(self) -> DemonWindow:
        n = min(self._n_done * self._n_tile, self._n_kept)
        envelope = self._kept[:, :, self._n_kept - n :].copy()
        envelope.setflags(write=False)
        first = self._tile * self.n_tile_samples - n * self.hop
        return DemonWindow(self._tile // self._per_step, first, (n + 1) * self.hop, envelope, self.fs_mod)
