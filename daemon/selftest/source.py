"""Injected sound as a source: one stream after the other, the same tonals on every channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from daemon.frames import AudioBlock, Event, StreamEnd, StreamStart
from daemon.selftest.signal import Injection

__all__ = ["SOURCE", "InjectedSource", "events"]

SOURCE = "selftest"
BLOCK_S = 0.5


def events(
    injections: Sequence[Injection], fs: int, channels: Sequence[str], block_s: float = BLOCK_S
) -> Iterator[Event]:
    """Each injection as an epoch of its own. No time is claimed: it is no sound that was ever taken."""
    n_block = max(1, round(block_s * fs))
    for epoch, injection in enumerate(injections):
        yield StreamStart(SOURCE, epoch, fs, tuple(channels), f"self-test: {injection.label or 'noise'}")
        for first in range(0, injection.n_samples, n_block):
            x = np.ascontiguousarray(injection.x[:, first : first + n_block])
            x.setflags(write=False)
            yield AudioBlock(SOURCE, epoch, first, fs, x)
        yield StreamEnd(SOURCE, epoch, injection.n_samples, final=epoch == len(injections) - 1)


class InjectedSource:
    """Implements :class:`daemon.frames.Source`; nothing is lost, it can wait."""

    name = SOURCE
    live = False

    def __init__(self, injections: Sequence[Injection], fs: int, channels: Sequence[str]) -> None:
        self._events = events(injections, fs, channels)

    def read(self, timeout_s: float) -> Event | None:  # noqa: ARG002  (it never has to wait)
        """Next event; None after the last."""
        return next(self._events, None)

    def backlog(self) -> None:
        """Nothing is lost here."""

    def close(self) -> None:
        """Nothing is held."""
