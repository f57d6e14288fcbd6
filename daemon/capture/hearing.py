"""Whether a sound card that gives samples gives signal: for how long it has not, and from where on it does again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from daemon.ring import SampleRing
from daemon.signal_watch import Fault, SignalWatch

__all__ = ["Hearing"]

HEARD_S = 0.5
"""So much signal without a break, and the card is heard again."""
READ_S = 0.25


class Hearing:
    """One life of a capture process, or one stream of it.

    Parameters
    ----------
    fs : int
        Hz.
    n_channels : int
    silent_s : float
        Without signal on all channels for so long the card is lost; 0: never.
    """

    def __init__(self, fs: int, n_channels: int, silent_s: float) -> None:
        self._watch, self._fs, self._n_silent = SignalWatch(fs, n_channels), fs, silent_s * fs
        self._silent = self._heard = self._at = 0
        self._fault = Fault.NONE

    @property
    def lost(self) -> str:
        """Why the card counts as lost; empty: it does not."""
        if not self._n_silent or self._silent < self._n_silent:
            return ""
        return f"{self._fault.words}, on all channels for {self._n_silent / self._fs:g} s"

    def process(self, x: npt.NDArray[np.float32]) -> int | None:
        """Feed ``(n_channels, n)``; the first sample of the signal, if there now is ``HEARD_S`` of it in a row."""
        begin = None
        for tile in self._watch.process(x):
            n = tile.last - tile.first
            if tile.heard:
                # a tile after silence may be half of it: the signal counts from the next
                self._silent, self._heard = 0, 0 if self._silent else self._heard + n
                if self._heard >= HEARD_S * self._fs and begin is None:
                    begin = tile.last - self._heard
            else:
                self._silent, self._heard = self._silent + n, 0
                self._fault = Fault(int(tile.faults[0]))
        return begin

    def reset(self, at_sample: int) -> None:
        """Samples were lost: the next is ``at_sample``. What was heard before does not count."""
        self._watch.reset(at_sample)
        self._silent = self._heard = 0

    def listen(self, ring: SampleRing) -> int | None:
        """Go through what is new in the ring; index of its first sample with signal, None: not heard yet."""
        while self._at < ring.n_written:
            got = ring.read(self._at, round(READ_S * self._fs))
            if got.n_lost:
                self.reset(got.first)
            self._at = got.first + got.x.shape[1]
            if (begin := self.process(got.x)) is not None:
                return begin
        return None
