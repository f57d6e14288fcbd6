"""A source with a clock: what another source gives, and UTC of its samples measured beside it.

::

    stamps (sample count, CLOCK_MONOTONIC) ─► line ─┐
    CLOCK_REALTIME less CLOCK_MONOTONIC ─► steps ───┼─► ClockUpdate, before the block it was made at
    pulses on a spare channel ─► edges ─► line ─────┘

The samples pass unchanged, without the channel of the pulses. The clocks are read once per block.
"""

from __future__ import annotations

import dataclasses
from collections import deque

from daemon.clock_sync import SyncState, SyncWatch
from daemon.clock_system import ClockReading, Clocks, read_clocks
from daemon.frames import AudioBlock, Backlog, Event, Gap, Source, StreamEnd, StreamStart
from daemon.sources.clock_epoch import EpochClock
from models.errors import AudioFormatError

__all__ = ["TimedSource"]


class TimedSource:
    """Another source and its clock; implements :class:`daemon.frames.Source`.

    Parameters
    ----------
    source : Source
        Closed with this one.
    pps : str, optional
        Name of the channel that carries a pulse per second; it is taken out.
    clocks : callable
        Reads both clocks.
    sync : SyncWatch, optional
        Says whether the system clock is disciplined; started and closed with this source. None: nobody does.

    Raises
    ------
    AudioFormatError
        From ``read``, if there is no such channel, or no other.
    """

    def __init__(
        self, source: Source, *, pps: str | None = None, clocks: Clocks = read_clocks, sync: SyncWatch | None = None
    ) -> None:
        self.source = source
        self.name, self.live = source.name, source.live
        self._pps, self._clocks, self._sync = pps, clocks, sync
        self._events: deque[Event] = deque()
        self._clock: EpochClock | None = None
        self._column: int | None = None
        self._kept: list[int] = []
        if sync is not None:
            sync.start()

    def read(self, timeout_s: float) -> Event | None:
        """Next event; None if nothing came within ``timeout_s``."""
        if not self._events and (event := self.source.read(timeout_s)) is not None:
            self._take(event)
        return self._events.popleft() if self._events else None

    def backlog(self) -> Backlog | None:
        """What waits in the other source."""
        return self.source.backlog()

    def close(self) -> None:
        """Close the source and end the look at the clock; may be called twice."""
        self.source.close()
        if self._sync is not None:
            self._sync.close()

    def _take(self, event: Event) -> None:
        match event:
            case StreamStart():
                event = self._start(event, self._clocks())
            case AudioBlock() if self._clock is not None:
                event = self._block(self._clock, event)
            case Gap() if self._clock is not None and event.n_missing is not None:
                self._clock.skip(event.first_sample + event.n_missing)
            case StreamEnd():
                self._clock = None
        self._events.append(event)

    def _start(self, start: StreamStart, reading: ClockReading) -> StreamStart:
        names = list(start.channels)
        self._column = None
        if self._pps is not None:
            if self._pps not in names or len(names) < 2:
                raise AudioFormatError(
                    f"{start.label or start.source}: source.pps_channel is {self._pps}, the channels are "
                    f"{', '.join(names)}: it must be one of them, and not the only one"
                )
            self._column = names.index(self._pps)
        self._kept = [c for c in range(len(names)) if c != self._column]
        self._clock = EpochClock(start, self._column is not None, reading, self._state())
        channels = tuple(names[c] for c in self._kept)
        return dataclasses.replace(start, channels=channels, clock=self._clock.state)

    def _block(self, clock: EpochClock, block: AudioBlock) -> AudioBlock:
        reading = self._clocks()
        pulses = None if self._column is None else block.x[self._column]
        update = clock.note(block.first_sample, block.n_samples, block.arrived, pulses, reading, self._state())
        if update is not None:
            self._events.append(update)
        if self._column is None:
            return block
        x = block.x[self._kept]
        x.setflags(write=False)
        return dataclasses.replace(block, x=x)

    def _state(self) -> SyncState:
        if self._sync is None:
            return SyncState()
        if self._sync.failure is not None:
            raise RuntimeError("the thread that watches the system clock died") from self._sync.failure
        return self._sync.state
