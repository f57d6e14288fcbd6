"""Simulated ocean as a source: endless or for a given time, as fast as it is read or paced in real time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from calibration.ocean import OceanStream, ScheduleItem, SeedSpace, scenario_named
from daemon.frames import AudioBlock, ClockState, Event, StreamEnd, StreamStart
from models.errors import UsageError

__all__ = ["SimulatedSource"]

_NS = 1_000_000_000


class SimulatedSource:
    """Hydrophones in a simulated sea; implements :class:`daemon.frames.Source`.

    In real time the first ``head_start_s`` come at once, as if they had been recorded just before the start, and the
    rest when CLOCK_MONOTONIC says that its samples are over. A reader that is late finds everything waiting: the
    sea can wait, nothing is lost, so ``live`` is False.

    Time: as fast as possible there is no true time, and none is claimed. In real time sample 0 lies ``head_start_s``
    before the start by the system clock; whether that clock is disciplined, and how far it is off, is not known here.

    Parameters
    ----------
    name : str
        Of the source.
    scenario : str
        One of ``calibration.ocean.SCENARIOS``.
    fs : int
        2000 to 192000 Hz.
    channels : sequence of str
        One name per hydrophone.
    index : int
        Which sea; another index has other noise, lines and schedule.
    space : SeedSpace
    realtime : bool
    duration_s : float, optional
        Length of the stream; None: endless.
    head_start_s : float
        Audio that is there at once, when in real time.
    block_s : float
        Length of a block.
    schedule : sequence of ScheduleItem, optional
        What is heard; by default drawn per channel, a vessel first.
    monotonic_ns, utc_ns, sleep : callable
        Clocks, for tests.

    Raises
    ------
    UsageError
        If the scenario is unknown or a number is out of range.
    SampleRateError
        If ``fs`` is out of range.
    """

    live = False

    def __init__(
        self,
        *,
        name: str = "ocean",
        scenario: str = "standard",
        fs: int = 8000,
        channels: Sequence[str] = ("ch0",),
        index: int = 0,
        space: SeedSpace = "demo",
        realtime: bool = True,
        duration_s: float | None = None,
        head_start_s: float = 10.0,
        block_s: float = 0.1,
        schedule: Sequence[ScheduleItem] | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if duration_s is not None and duration_s <= 0:
            raise UsageError(f"a simulated stream of {duration_s} s is empty: give a positive duration, or none")
        if head_start_s < 0 or block_s <= 0:
            raise UsageError(f"{head_start_s=} must not be negative and {block_s=} must be positive")
        self.name, self.fs, self.channels = name, fs, tuple(channels)
        self._ocean = OceanStream(scenario_named(scenario), space, index, fs, len(self.channels), schedule)
        self._label = f"simulated ocean, scenario {scenario}, {space} {index}"
        self._n_total = None if duration_s is None else round(duration_s * fs)
        self._n_block = max(1, round(block_s * fs))
        self._realtime, self._n_head = realtime, round(head_start_s * fs) if realtime else 0
        self._monotonic_ns, self._utc_ns, self._sleep = monotonic_ns, utc_ns, sleep
        self._t0_ns = 0
        self._started = self._ended = False

    def read(self, timeout_s: float) -> Event | None:
        """Next event; None if its samples are not over within ``timeout_s``."""
        if self._ended:
            return None
        if not self._started:
            return self._start()
        if self._ocean.position == self._n_total:
            self._ended = True
            return StreamEnd(self.name, 0, self._ocean.position, final=True)
        n = self._n_block
        if self._n_total is not None:
            n = min(n, self._n_total - self._ocean.position)
        if not self._wait_for(self._ocean.position + n, timeout_s):
            return None
        first = self._ocean.position
        x = self._ocean.read(n)
        x.setflags(write=False)
        end = first + n
        taken = (end, self._due_ns(end)) if self._realtime else None
        return AudioBlock(self.name, 0, first, self.fs, x, taken)

    def backlog(self) -> None:
        """Nothing is lost here: what is not read waits."""

    def close(self) -> None:
        """End the stream; may be called twice."""
        self._ended = True

    def truth_labels_at(self, sample: int, channel: int | str = 0) -> tuple[str, ...]:
        """Classes that truly sound at ``sample`` of a channel (index or name); empty for ambient noise.

        Raises
        ------
        ValueError
            If the sample has not been read yet, or lies many segments back; or if there is no such channel.
        """
        known = channel in self.channels if isinstance(channel, str) else 0 <= channel < len(self.channels)
        if not known:
            raise ValueError(f"{channel=} is none of {self.channels}")
        return self._ocean.labels_at(sample, self.channels.index(channel) if isinstance(channel, str) else channel)

    def _start(self) -> StreamStart:
        self._started = True
        self._t0_ns = self._monotonic_ns()
        t_first = self._utc_ns() - self._n_head * _NS // self.fs if self._realtime else None
        clock = ClockState("system") if self._realtime else ClockState("none")
        return StreamStart(self.name, 0, self.fs, self.channels, self._label, t_first, clock)

    def _wait_for(self, end_sample: int, timeout_s: float) -> bool:
        """Wait until the samples before ``end_sample`` are over, at most ``timeout_s``; say whether they are."""
        if not self._realtime:
            return True
        left_s = (self._due_ns(end_sample) - self._monotonic_ns()) / _NS
        if left_s <= 0:
            return True
        self._sleep(min(left_s, max(timeout_s, 0.0)))
        return left_s <= timeout_s

    def _due_ns(self, end_sample: int) -> int:
        """CLOCK_MONOTONIC at which the samples before ``end_sample`` are over."""
        return self._t0_ns + (end_sample - self._n_head) * _NS // self.fs
