"""Sound for a day: some minutes of simulated sea, rendered once, played over and over; here and there it is spoilt."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from calibration.ocean import OceanStream, scenario_named

N_SPOILT = 100
"""Samples in a run of NaN, one run per channel and round."""


@dataclass(frozen=True)
class Loop:
    """``(n_channels, n)`` sound that follows itself without end."""

    fs: int
    x: np.ndarray
    places: tuple[int, ...]
    """First sample of the run of NaN, by channel."""

    @classmethod
    def render(cls, fs: int, n_channels: int, seconds: float) -> Loop:
        """Hydrophones near vessels that come and go."""
        ocean = OceanStream(scenario_named("standard"), "demo", 24, fs, n_channels)
        parts = [ocean.read(fs * 10) for _ in range(round(seconds / 10))]
        x = np.concatenate(parts, axis=1)
        places = tuple(round(x.shape[1] * (c + 0.5) / n_channels) for c in range(n_channels))
        for c, place in enumerate(places):
            x[c, place : place + N_SPOILT] = np.nan
        return cls(fs, x, places)

    def n_spoilt(self, channel: int, first: int, n: int) -> int:
        """Of the ``n`` samples of the stream from ``first`` on, how many are NaN."""
        return self._before(channel, first + n) - self._before(channel, first)

    def _before(self, channel: int, end: int) -> int:
        rounds, rest = divmod(end, self.x.shape[1])
        return rounds * N_SPOILT + min(max(0, rest - self.places[channel]), N_SPOILT)

    def play(self, fd: int, n_samples: int) -> None:
        """Write so many samples per channel to a pipe, float32 little-endian, interleaved."""
        data = memoryview(np.ascontiguousarray(self.x.T).astype("<f4").tobytes())
        frame = 4 * len(self.x)
        left = n_samples * frame
        while left:
            part = data[: min(left, len(data))]
            left -= len(part)
            while part:
                part = part[os.write(fd, part[: 1 << 20]) :]
