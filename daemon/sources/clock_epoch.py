"""UTC of one epoch as it is measured: by the system clock through stamps, by pulses, or by what a file says.

Holds no clock itself: readings are given to it, and what follows from them is an update of the mapping from samples to
UTC, each second at first, each ten later, and at once when something happened to the clock.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from daemon.clock import utc_of
from daemon.clock_fit import ClockFit
from daemon.clock_sync import SyncState
from daemon.clock_system import ClockReading, StampFit, StepWatch
from daemon.frames import ClockState, ClockUpdate, StreamStart
from daemon.pps import PulseFinder
from daemon.pps_clock import AMBIGUOUS_NS, PulseClock

__all__ = ["EpochClock"]

F32 = npt.NDArray[np.float32]

NS_PER_S = 1_000_000_000
YOUNG_S = 8
"""So long after the start or a step nothing was said of a window that begins behind it: the mapping may be bettered."""
EVERY_S = 10
ALARM_PPM = 500.0
"""No healthy sound card is off by more: it runs at another rate than it says, or samples are lost."""
MAX_ERR_PPM = 20.0
"""A rate less sure than this is not yet measured."""


class EpochClock:
    """See the module's docstring.

    Parameters
    ----------
    start : StreamStart
        Its ``clock`` says what ``t_first_sample_ns`` is worth; a card states its latency as the error.
    with_pulses : bool
    reading : ClockReading
        Both clocks now.
    sync : SyncState
        Of the system clock now.
    """

    def __init__(self, start: StreamStart, with_pulses: bool, reading: ClockReading, sync: SyncState) -> None:
        self._start, self._fs = start, start.fs
        self._own = start.clock.est_error_ns
        self._latency_ns = self._own or 0
        self._system = start.clock.source == "system"
        self._steps, self._stamps = StepWatch(reading), StampFit(start.fs)
        self._finder = PulseFinder(start.fs) if with_pulses else None
        # a card's samples were taken up to its latency before they came: the middle names seconds best
        doubt_ns = self._latency_ns // 2 if self._system else self._latency_ns
        self._named = start.t_first_sample_ns is not None and doubt_ns < AMBIGUOUS_NS
        if start.clock.source == "file" and self._own is None:
            self._named = False
        self._pulses = PulseClock(start.fs, named=self._named)
        self._sync, self._alarm, self._due, self._since = sync, False, start.fs, 0
        self.state = self._state(None, None, 0)
        """What is known of the clock now."""
        self._line = ClockUpdate(start.source, start.epoch, 0, start.t_first_sample_ns, self.state)

    def skip(self, to_sample: int) -> None:
        """Samples before ``to_sample`` are missing."""
        if self._finder is not None:
            self._finder.reset(to_sample)

    def note(
        self,
        first: int,
        n: int,
        arrived: tuple[int, int] | None,
        pulses: F32 | None,
        reading: ClockReading,
        sync: SyncState,
    ) -> ClockUpdate | None:
        """What a block says: ``n`` samples from ``first`` on, their stamp and pulses, and the clocks as it was read."""
        words = [*self._step(first, reading), *self._synced(sync)]
        if arrived is not None and self._system:
            self._stamps.add(*arrived)
        if pulses is not None and self._finder is not None:
            for edge in self._finder.process(pulses):
                self._pulses.add(edge, self._coarse_ns(edge))
        end = first + n
        if not words and end < self._due:
            return None
        by_pulse, by_stamp = self._pulses.fit(end), self._fit()
        young = end - self._since < YOUNG_S * self._fs
        self._due = end + (1 if young else EVERY_S) * self._fs
        at = self._since if young else max(first, self._since)
        state = self._state(by_pulse, by_stamp, end)
        words += [*self._source(state), *self._rate(state)]
        t_ns = self._utc_ns(at, by_pulse if state.source == "pps" else None, by_stamp)
        self.state = state
        self._line = ClockUpdate(self._start.source, self._start.epoch, at, t_ns, state, "; ".join(words))
        return self._line

    def _fit(self) -> ClockFit | None:
        return self._stamps.fit() if self._system else None

    def _step(self, first: int, reading: ClockReading) -> list[str]:
        """If the clock stepped: count anew from the last sample that was taken while it was known to be right."""
        before = self._steps.last.monotonic_ns
        moved = self._steps.look(reading)
        if not moved or not self._system:
            return []
        fit = self._fit()
        since = first if fit is None else fit.sample(before)  # may be still to come, if we are behind
        self._since = max(since, self._since)
        self._pulses.reset()
        return [f"the system clock stepped by {moved / NS_PER_S:+.6f} s: UTC is counted anew from sample {self._since}"]

    def _synced(self, sync: SyncState) -> list[str]:
        before, self._sync = self._sync, sync
        if not self._system or sync.synced == before.synced:
            return []
        if sync.synced:
            return [f"the system clock is synchronised ({sync.by})"]
        return [f"the system clock is {'not synchronised' if sync.synced is False else 'of unknown state'} ({sync.by})"]

    def _source(self, state: ClockState) -> list[str]:
        if state.source == self.state.source:
            return []
        if state.source == "pps":
            return ["pulses found: UTC is by the pulse per second"]
        return [f"no pulses any more: UTC is by the {state.source} clock"]

    def _rate(self, state: ClockState) -> list[str]:
        if state.rate_ppm is None or self._alarm == (abs(state.rate_ppm) > ALARM_PPM * (0.8 if self._alarm else 1.0)):
            return []
        self._alarm = not self._alarm
        how = f"{state.rate_ppm:+.1f} ppm ({state.fs_measured:.3f} Hz)"
        if self._alarm:
            return [f"the sample clock is off by {how}: wrong rate set, or samples are lost unseen"]
        return [f"the sample clock is good again: {how}"]

    def _coarse_ns(self, sample: float) -> int:
        """UTC of a sample without pulses, good enough to name a second; of no meaning but for its rate if unnamed."""
        whole = math.floor(sample)
        part_ns = round((sample - whole) * NS_PER_S / self._fs)
        coarse = self._utc_ns(whole, None, self._fit()) if self._named else None
        if coarse is None:
            return whole * NS_PER_S // self._fs + part_ns
        return coarse + part_ns - (self._latency_ns // 2 if self._system else 0)

    def _utc_ns(self, sample: int, by_pulse: ClockFit | None, by_stamp: ClockFit | None) -> int | None:
        start, offset_ns = self._start, self._steps.last.offset_ns
        if by_pulse is not None:
            return by_pulse.t_ns(sample)
        if start.t_first_sample_ns is None:
            return None
        if self._system and by_stamp is not None:
            return by_stamp.t_ns(sample) + offset_ns
        if self._system and (newest := self._stamps.newest) is not None:
            return utc_of(newest[1] + offset_ns, sample - int(newest[0]), self._fs, None)
        if self._system:
            return utc_of(start.t_first_sample_ns, sample, self._fs, None)
        return utc_of(self._t_line(), sample - self._line.from_sample, self._fs, self._line.clock.fs_measured)

    def _t_line(self) -> int:
        assert self._line.t_from_ns is not None  # known from the start, and never lost
        return self._line.t_from_ns

    def _state(self, by_pulse: ClockFit | None, by_stamp: ClockFit | None, at: int) -> ClockState:
        rate = by_pulse or by_stamp
        known: dict[str, Any] = {}
        if rate is not None and rate.err_ppm <= MAX_ERR_PPM:
            known = {"fs_measured": rate.fs_measured, "rate_ppm": rate.ppm, "rate_err_ppm": rate.err_ppm}
        state = dataclasses.replace(self._start.clock, n_steps=self._steps.n_steps if self._system else 0, **known)
        if self._system:
            state = dataclasses.replace(state, synced=self._sync.synced, est_error_ns=self._sync.est_error_ns)
        sure = not self._system or bool(state.synced)  # or the second that a pulse begins may be another
        if by_pulse is not None and self._named:
            error_ns = math.ceil(2 * by_pulse.error_ns(at) + by_pulse.scatter_ns)
            return dataclasses.replace(state, source="pps", est_error_ns=error_ns if sure else None)
        if self._system and state.est_error_ns is not None:
            fitted = 0.0 if by_stamp is None else by_stamp.error_ns(at) + by_stamp.scatter_ns
            error_ns = state.est_error_ns + self._latency_ns + math.ceil(fitted)
            return dataclasses.replace(state, est_error_ns=error_ns)
        return state
