"""The DEMON stage: shaft and blade rate of each channel, from the same blocks as the LOFARgram.

It has a front end of its own at the rate of the source (`models.demon`) and speaks every ``step_s``, whatever the grid
of the windows does. Samples that a sieve has zeroed are no sound: a channel says nothing about a span that holds any,
only of the part after them once that is long enough.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from daemon.frames import Modulated, StreamStart
from models.demon import DemonFrontEnd, DemonSpec, DemonWindow
from models.demon_lines import modulation
from models.errors import SampleRateError

__all__ = ["Demon"]

F32 = npt.NDArray[np.float32]


class Demon:
    """Stage of one stream; below the least rate it says so once per channel and does nothing."""

    def __init__(self, spec: DemonSpec, start: StreamStart) -> None:
        self._spec, self._start = spec, start
        self._sound_from = [0] * len(start.channels)  # sample behind the last one that was not fit for use
        self._front_end: DemonFrontEnd | None = None
        self._refused = ""
        try:
            self._front_end = DemonFrontEnd(spec, start.fs, len(start.channels))
        except SampleRateError as e:
            self._refused = str(e)

    def unavailable(self) -> Iterator[Modulated]:
        """What to say at the start of a stream whose rate is too low."""
        if self._refused:
            for channel in self._start.channels:
                yield Modulated(
                    self._start.source, channel, self._start.epoch, self._start.fs, 0, 0, None, self._refused
                )

    def hole(self, channel: int, end_sample: int) -> None:
        """Samples of a channel before ``end_sample`` were not fit for use."""
        self._sound_from[channel] = max(self._sound_from[channel], end_sample)

    def reset(self, at_sample: int) -> None:
        """After a gap: start anew."""
        if self._front_end is not None:
            self._front_end.reset(at_sample)

    def process(self, x: F32) -> Iterator[Modulated]:
        """Feed ``(n_channels, n)`` samples; one record per channel and completed step."""
        if self._front_end is None:
            return
        for window in self._front_end.process(x):
            for c in range(len(self._start.channels)):
                if (told := self._told(window, c, self._front_end.hop)) is not None:
                    yield told

    def _told(self, window: DemonWindow, c: int, hop: int) -> Modulated | None:
        n_lost = -(-max(0, self._sound_from[c] - window.first_sample) // hop)
        envelope = window.envelope[c, :, n_lost:]
        if envelope.shape[1] < self._spec.least_s * window.fs_mod:
            return None
        s = self._start
        first = window.first_sample + n_lost * hop
        n_samples = window.n_samples - n_lost * hop
        found = modulation(envelope, window.fs_mod)
        return Modulated(s.source, s.channels[c], s.epoch, s.fs, first, n_samples, found)
