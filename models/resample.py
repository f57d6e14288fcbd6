"""Rate change by a polyphase low-pass in valid mode: no state, no padding, the same bits wherever the stream is cut."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["Resampler"]

F32 = npt.NDArray[np.float32]


class Resampler:
    """``v[m] = sum_k h[k] x_up[m M + N - 1 - k]`` with ``L / M = fs_out / fs`` in lowest terms.

    ``x_up`` is ``x`` with ``L - 1`` zeros between samples, ``h`` a linear-phase Kaiser low-pass of ``N`` taps. Each
    output is one dot product over its own input samples, computed in a fixed order.

    Parameters
    ----------
    fs, fs_out : int
        Rates in and out, Hz; equal rates pass through.
    f_pass_hz, f_stop_hz : float
        Edges of pass and stop band, Hz.
    stopband_db : float
    """

    def __init__(self, fs: int, fs_out: int, f_pass_hz: float, f_stop_hz: float, stopband_db: float) -> None:
        common = math.gcd(fs, fs_out)
        self.up, self.down = fs_out // common, fs // common
        self.half = 0
        """Source samples of filter on either side of an output's centre."""
        self.taps: F32 = np.ones(1, np.float32)
        if fs != fs_out:
            width = (f_stop_hz - f_pass_hz) / fs
            self.half = math.ceil((stopband_db - 7.95) / (14.36 * width) / 2)  # Kaiser's formula for the length
            cutoff = (f_pass_hz + f_stop_hz) / (fs * self.up)  # of half the rate of x_up
            self.taps = (_low_pass(2 * self.half * self.up + 1, cutoff, stopband_db) * self.up).astype(np.float32)
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
        import scipy.signal  # half a second, and only for rates that do not divide

        y = scipy.signal.upfirdn(self._padded, x, self.up, self.down, axis=-1)
        out: F32 = y[:, self.n_skip : self.n_skip + n_out]
        return out


def _low_pass(n: int, cutoff: float, stopband_db: float) -> npt.NDArray[np.float64]:
    """Linear-phase low-pass of ``n`` taps that sum to 1, by a Kaiser window; ``cutoff`` re half the rate."""
    over = stopband_db - 21.0
    beta = 0.1102 * (stopband_db - 8.7) if stopband_db > 50.0 else 0.5842 * max(over, 0.0) ** 0.4 + 0.07886 * over
    k = np.arange(n) - (n - 1) / 2
    h: npt.NDArray[np.float64] = np.sinc(cutoff * k) * np.kaiser(n, beta)
    h /= h.sum()
    return h
