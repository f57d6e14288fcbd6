"""How many channels to try: a prediction from runs without a pace, and a search from there with few paced probes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from daemon.capacity import BLOCK_S, Bank, PacedSource
from daemon.frames import AudioBlock, ClockState, StreamStart
from daemon.pipeline import Pipeline

__all__ = ["Cost", "cost_of", "largest", "lower", "predicted"]

#: Numbers of channels that are run without a pace, and seconds of sound: the first window, and the last ones looked at.
TRIED, SECONDS, LOOKED_AT = (8, 32), 14, 4
#: Share of the time that a prediction fills: the pace leaves gaps, publishing has its part.
FILLED = 0.85


@dataclass(frozen=True, slots=True)
class Cost:
    """What some channels cost."""

    n_channels: int
    load: float
    """Seconds of work for a second of sound."""
    burst_s: float
    """Longest work for one block: all channels complete their windows in the same."""


def cost_of(pipeline: Pipeline, bank: Bank, n_channels: int, share: float) -> Cost:
    """Run the stages over some seconds of sound as fast as they can."""
    source = PacedSource(bank, n_channels, share, SECONDS)
    names = tuple(f"ch{c}" for c in range(n_channels))
    list(pipeline.process(StreamStart("capacity", 0, bank.fs, names, "", None, ClockState())))
    n_block, spent = round(BLOCK_S * bank.fs), []
    for k in range(round(SECONDS / BLOCK_S)):
        x = source.block(k * n_block, n_block)
        begun = time.perf_counter()
        for _ in pipeline.process(AudioBlock("capacity", 0, k * n_block, bank.fs, x)):
            pass
        spent.append(time.perf_counter() - begun)
    last = spent[-round(LOOKED_AT / BLOCK_S) :]
    return Cost(n_channels, sum(last) / LOOKED_AT, max(last))


def predicted(few: Cost, many: Cost, hop_s: float) -> int:
    """Channels whose load fills most of the time and whose bursts end within a hop, straight through two costs."""

    def reach(a: float, b: float, limit: float) -> float:
        slope = max((b - a) / (many.n_channels - few.n_channels), 1e-9)
        return many.n_channels + (limit - b) / slope

    by_load = reach(few.load, many.load, FILLED)
    by_burst = reach(few.burst_s, many.burst_s, FILLED * hop_s)
    return max(1, int(min(by_load, by_burst, 1e6)))


def largest(passes: Callable[[int], bool], guess: int, step: int, most: int, n_probes: int = 100) -> int:
    """Largest number that passes, to within ``step`` or a sixteenth: from ``guess`` by eighths, then by halves.

    ``passes`` is taken to hold up to some number and to fail beyond it. Numbers asked are multiples of ``step`` from it
    up to ``most``; 0 if not even ``step`` passes. After ``n_probes`` it ends with the largest that passed, as soon as
    that is known to within a sixth: coarser, and never a number that was not tried.
    """

    def rounded(n: float) -> int:
        return int(min(max(step, n // step * step), most // step * step))

    good, bad = 0, most // step * step + step
    n, stride, asked = rounded(guess), max(step, guess / 8), 0
    while bad - good > max(step, good // (16 if asked < n_probes else 6)):
        asked += 1
        if passes(n):
            good = n
        else:
            bad = n
        if good and bad <= most:
            n = rounded((good + bad) / 2)
        else:
            n = rounded(n + stride if good else n - stride)
            stride *= 2
        n = min(max(n, good + step), bad - step)
        if not good < n < bad:
            break
    return good


def lower(n: int, step: int) -> int:
    """Next number to try after ``n`` was too many: a sixteenth less, at least ``step``; 0 when there is none."""
    return max(0, n - max(step, n // 16 // step * step))
