"""From sample index to UTC, in whole numbers: a line per stretch of a stream, the newest first measured, never bent."""

from __future__ import annotations

from daemon.frames import ClockState, ClockUpdate, StreamStart

__all__ = ["StreamClock", "utc_of"]

NS_PER_S = 1_000_000_000
MAX_LINES = 1024


def utc_of(t_from_ns: int, n: int, fs: int, fs_measured: float | None) -> int:
    """UTC ``n`` samples after ``t_from_ns``, Unix ns, rounded to the nearest ns.

    By the nominal rate in whole numbers, so that no error accumulates however long the stream is; by a measured rate
    the measured part alone is a float: a part in a thousand of the span at most.
    """
    nominal = (2 * n * NS_PER_S + fs) // (2 * fs)
    if fs_measured is None:
        return t_from_ns + nominal
    return t_from_ns + nominal + round(n * NS_PER_S * (fs - fs_measured) / (fs * fs_measured))


class StreamClock:
    """Time of one epoch: what its start said, replaced from a sample on by each `ClockUpdate`.

    What was said of earlier samples stands, so the same sample has the same time in every record, and a step of the
    clock lies at one sample, not between two records. The last `MAX_LINES` lines are kept; older ones are thinned, but
    never across a step.
    """

    def __init__(self, start: StreamStart) -> None:
        self.epoch, self._fs = start.epoch, start.fs
        self._lines = [ClockUpdate(start.source, start.epoch, 0, start.t_first_sample_ns, start.clock)]

    def put(self, update: ClockUpdate) -> None:
        """Count by ``update`` from its sample on; one of another epoch changes nothing."""
        if update.epoch != self.epoch:
            return
        lines = self._lines
        while lines and lines[-1].from_sample >= update.from_sample:
            lines.pop()
        lines.append(update)
        if len(lines) > MAX_LINES:
            half = MAX_LINES // 2
            same = [k for k in range(1, half, 2) if lines[k].clock.n_steps == lines[k - 1].clock.n_steps]
            self._lines = [line for k, line in enumerate(lines) if k not in set(same)]

    def utc_ns(self, epoch: int, sample: int) -> int | None:
        """UTC of a sample, Unix ns; None when unknown, also for a sample of another epoch."""
        line = self._line(sample)
        if line.t_from_ns is None or epoch != self.epoch:
            return None
        return utc_of(line.t_from_ns, sample - line.from_sample, self._fs, line.clock.fs_measured)

    def state(self, sample: int | None = None) -> ClockState:
        """What is known of the clock at a sample; None: at the newest."""
        return (self._lines[-1] if sample is None else self._line(sample)).clock

    def _line(self, sample: int) -> ClockUpdate:
        return next((line for line in reversed(self._lines) if line.from_sample <= sample), self._lines[0])
