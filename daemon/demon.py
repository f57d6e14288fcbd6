"""The DEMON stage: shaft and blade rate of each channel, from the same blocks as the LOFARgram.

It has a front end of its own at the rate of the source (`models.demon`) and speaks every ``step_s``, whatever the grid
of the windows does. All channels complete their span at once; they are told of one after the other, `APART_S` of sound
apart, so that an array of many is no burst of work. Samples that a sieve has zeroed are no sound: a channel says
nothing about a span that holds any, only of the part after them once that is long enough.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from daemon.frames import Modulated, StreamStart
from models.demon import DemonFrontEnd, DemonSpec, DemonWindow
from models.demon_lines import modulation
from models.errors import SampleRateError

__all__ = ["Demon"]

F32 = npt.NDArray[np.float32]

#: Sound between two channels' records, s, as far as all fit into nine tenths of a step.
APART_S = 0.05


class Demon:
    """Stage of one stream; below the least rate it says so once per channel and does nothing."""

    def __init__(self, spec: DemonSpec, start: StreamStart) -> None:
        self._spec, self._start = spec, start
        self._sound_from = [0] * len(start.channels)
        """Sample behind the last hole of each channel that began before the last window's end."""
        self._holes: list[tuple[int, int, int]] = []
        """Channel, first sample and the one behind the last, of holes not looked at yet."""
        self._front_end: DemonFrontEnd | None = None
        self._position = 0
        self._due: deque[tuple[int, DemonWindow, int, int]] = deque()  # sample, window, channel, its first sound
        n = max(1, len(start.channels))
        self._apart = int(min(APART_S, 0.9 * spec.step_s / n) * start.fs)
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

    def hole(self, channel: int, first_sample: int, end_sample: int) -> None:
        """Samples of a channel from ``first_sample`` to before ``end_sample`` were not fit for use."""
        self._holes.append((channel, first_sample, end_sample))

    def reset(self, at_sample: int) -> Iterator[Modulated]:
        """After a gap: tell what is left to tell, and start anew."""
        yield from self.finish()
        self._position = at_sample
        if self._front_end is not None:
            self._front_end.reset(at_sample)

    def finish(self) -> Iterator[Modulated]:
        """What is left to tell."""
        yield from self._told_until(math.inf)

    def process(self, x: F32) -> Iterator[Modulated]:
        """Feed ``(n_channels, n)`` samples; one record per channel and completed step."""
        if self._front_end is None:
            return
        self._position += x.shape[1]
        for window in self._front_end.process(x):
            end = window.first_sample + window.n_samples
            yield from self._told_until(end)
            for c, first, behind in self._holes:
                if first < end:
                    self._sound_from[c] = max(self._sound_from[c], behind)
            self._holes = [h for h in self._holes if h[1] >= end]
            for c, sound_from in enumerate(self._sound_from):
                self._due.append((end + c * self._apart, window, c, min(sound_from, end)))
        yield from self._told_until(self._position)

    def _told_until(self, sample: float) -> Iterator[Modulated]:
        while self._due and self._due[0][0] <= sample:
            _, window, channel, sound_from = self._due.popleft()
            if (told := self._told(window, channel, sound_from)) is not None:
                yield told

    def _told(self, window: DemonWindow, c: int, sound_from: int) -> Modulated | None:
        assert self._front_end is not None
        hop = self._front_end.hop
        n_lost = -(-max(0, sound_from - window.first_sample) // hop)
        envelope = window.envelope[c, :, n_lost:]
        if envelope.shape[1] < self._spec.least_s * window.fs_mod:
            return None
        s = self._start
        first = window.first_sample + n_lost * hop
        n_samples = window.n_samples - n_lost * hop
        found = modulation(envelope, window.fs_mod)
        return Modulated(s.source, s.channels[c], s.epoch, s.fs, first, n_samples, found)
