"""How many channels this machine sustains: a paced source of many channels, probes, and a search between them.

The sound is rendered beforehand into a file that is mapped into memory: vessels and source-free sea of the simulated
ocean, each channel starting at a place of its own. `PacedSource` hands it out on time, in blocks, as a sound card does,
and keeps what was not fetched for as long as the capture ring does; what is older is lost and counted. A probe runs
the daemon's own stages, recorder and publisher at that pace. It is passed if no sample was lost, the processing is not
falling behind at the end, and 99 % of the windows were published within one hop after the block that completed them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.ocean import simulate
from calibration.scenarios import AMBIENT, SCENARIOS, Scenario
from daemon.frames import Analysed, AudioBlock, Backlog, ClockState, Event, Gap, Signature, StreamEnd, StreamStart
from daemon.pipeline import Pipeline
from daemon.publisher import Publisher
from daemon.records import Recorder

__all__ = ["BLOCK_S", "Bank", "PacedSource", "Probe", "probe", "render"]

F32 = npt.NDArray[np.float32]

#: Recordings of either kind, and their length, s.
N_RECORDINGS, SECONDS = 6, 40.0
BLOCK_S = 0.1
#: As the capture ring.
RING_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """Rendered sound."""

    fs: int
    vessels: F32
    """``(n, n_samples)``, mapped from a file."""
    sea: F32
    """``(n, n_samples)``"""


def render(folder: Path, fs: int, progress: Callable[[str, int, int], None]) -> Bank:
    """Render the simulated ocean once; the same each time.

    Vessels of all classes in turn, and source-free sea with its foreign tonals.
    """
    scenario: Scenario = SCENARIOS["standard"]
    n = round(SECONDS * fs)
    kinds: dict[str, npt.NDArray[np.float32]] = {}
    for kind, labels in (("vessels", scenario.labels), ("sea", (AMBIENT,))):
        path = folder / f"{kind}.npy"
        store = np.lib.format.open_memmap(path, "w+", np.float32, (N_RECORDINGS, n))
        for i in range(N_RECORDINGS):
            progress(f"rendering {kind}", i, N_RECORDINGS)
            store[i] = simulate(scenario, "demo", 100 + i, labels[i % len(labels)], SECONDS, fs).x[0]
        progress(f"rendering {kind}", N_RECORDINGS, N_RECORDINGS)
        store.flush()
        kinds[kind] = np.load(path, mmap_mode="r")
    return Bank(fs, kinds["vessels"], kinds["sea"])


class PacedSource:
    """Many channels at the pace of the clock; the first ``share`` of them hear a vessel.

    ``due_of`` tells when the last sample of a block was there, seconds of `time.monotonic`.
    """

    name, live = "capacity", True

    def __init__(self, bank: Bank, n_channels: int, share: float, seconds: float) -> None:
        self._bank, self._n_blocks = bank, math.ceil(seconds / BLOCK_S)
        self.n_channels = n_channels
        n_vessels = round(share * n_channels)
        # spread evenly over the channels, so that no batch is all of one kind
        marks = np.floor(np.arange(1, n_channels + 1) * n_vessels / n_channels + 1e-9)
        self.hears_vessel = np.diff(marks, prepend=0.0) > 0
        self._n_block = round(BLOCK_S * bank.fs)
        length = bank.sea.shape[1]
        self._offset = np.arange(n_channels) * (length // max(n_channels, 1))
        self._next = 0
        self._start_s: float | None = None
        self.n_lost = 0
        """Samples per channel that were not fetched in time."""
        self.feed_s = 0.0
        """Time spent handing out blocks: not the daemon's."""
        self.worst_lag_s = 0.0
        self.lag_s = 0.0
        """How far behind the clock the last block was fetched."""

    def due_s(self, block: int) -> float:
        """When the last sample of a block is there."""
        assert self._start_s is not None
        return self._start_s + (block + 1) * BLOCK_S

    def due_of_sample(self, end_sample: int) -> float:
        """When the block that holds the sample before ``end_sample`` is there."""
        return self.due_s(-(-end_sample // self._n_block) - 1)

    def read(self, timeout_s: float) -> Event | None:
        """Next event, in time; None if none is due within ``timeout_s``."""
        fs = self._bank.fs
        if self._start_s is None:
            self._start_s = time.monotonic()
            names = tuple(f"ch{c}" for c in range(self.n_channels))
            return StreamStart(self.name, 0, fs, names, "rendered ocean", None, ClockState())
        if self._next >= self._n_blocks:
            return StreamEnd(self.name, 0, self._n_blocks * self._n_block, final=True)
        wait = self.due_s(self._next) - time.monotonic()
        if wait > timeout_s:
            time.sleep(timeout_s)
            return None
        time.sleep(max(wait, 0.0))
        self.lag_s = max(0.0, time.monotonic() - self.due_s(self._next))
        self.worst_lag_s = max(self.worst_lag_s, self.lag_s)
        first = self._next * self._n_block
        if self.lag_s > RING_S:
            behind = min(math.ceil(self.lag_s / BLOCK_S), self._n_blocks - self._next)
            self._next += behind
            n = behind * self._n_block
            self.n_lost += n
            return Gap(self.name, 0, first, n, round(n * 1e9 / fs), 0, "the reader was too slow")
        begun = time.perf_counter()
        x = self.block(first, self._n_block)
        self.feed_s += time.perf_counter() - begun
        self._next += 1
        return AudioBlock(self.name, 0, first, fs, x)

    def block(self, first: int, n: int) -> F32:
        """``(n_channels, n)`` samples from ``first`` on, read-only."""
        x = np.empty((self.n_channels, n), np.float32)
        for c in range(self.n_channels):
            x[c] = self.samples(c, first, n)
        x.setflags(write=False)
        return x

    def samples(self, channel: int, first: int, n: int) -> F32:
        """``n`` samples of a channel from ``first`` on, ``(n,)``, no more than a recording holds; it is gone round."""
        kind = self._bank.vessels if self.hears_vessel[channel] else self._bank.sea
        row = kind[channel % len(kind)]
        at = (first + self._offset[channel]) % len(row)
        if at + n <= len(row):
            whole: F32 = row[at : at + n]
            return whole
        return np.concatenate([row[at:], row[: at + n - len(row)]])

    def backlog(self) -> Backlog:
        """What is due and was not fetched."""
        if self._start_s is None:
            return Backlog(0.0, RING_S)
        return Backlog(max(0.0, time.monotonic() - self.due_s(self._next)), RING_S)

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass(slots=True)
class Probe:
    """Outcome of one run at pace."""

    n_channels: int
    share: float
    """Of the channels that hear a vessel."""
    seconds: float
    n_windows: int = 0
    n_signatures: int = 0
    n_lost: int = 0
    """Samples per channel."""
    final_lag_s: float = 0.0
    worst_lag_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    """From the arrival of the block that completes a window to its record being handed to ZeroMQ."""
    cpu_share: float = 0.0
    """Of one core, all threads of this process together, the feeder's own time taken off."""
    feed_share: float = 0.0
    """Of one core, handing out blocks."""
    hop_s: float = 1.0
    stages: dict[str, float] = field(default_factory=dict)
    """Share of the processing time by stage, where it was profiled."""

    @property
    def passed(self) -> bool:
        """Whether the machine sustains it."""
        return (
            self.n_windows > 0 and not self.n_lost and self.final_lag_s < self.hop_s and self.p99_ms < 1e3 * self.hop_s
        )

    def to_dict(self) -> dict[str, Any]:
        """All figures, for JSON."""
        names = (
            "n_channels", "share", "seconds", "n_windows", "n_signatures", "n_lost", "final_lag_s", "worst_lag_s",
            "p50_ms", "p99_ms", "cpu_share", "feed_share", "stages",
        )  # fmt: skip
        return {n: getattr(self, n) for n in names} | {"passed": self.passed}


def probe(
    pipeline: Pipeline, recorder: Recorder, publisher: Publisher, source: PacedSource, seconds: float, *,
    share: float, hop_s: float,
) -> Probe:  # fmt: skip
    """Run the stages at pace over what ``source`` hands out; the first window comes after its own duration.

    Ends early when more windows were late than the 99 % of a passed probe allow, however many follow.
    """
    most_late = 0.01 * source.n_channels * seconds / hop_s
    n_late = 0
    found = Probe(source.n_channels, share, seconds, hop_s=hop_s)
    latencies: list[float] = []
    cpu, wall = time.process_time(), time.monotonic()
    while True:
        event = source.read(0.25)
        if event is None:
            continue
        for record in pipeline.process(event):
            for message in recorder.process(record):
                publisher.put(message, wait=False)
            if isinstance(record, Analysed):
                found.n_windows += 1
                w = record.window
                latencies.append(time.monotonic() - source.due_of_sample(w.first_sample + w.n_samples))
                n_late += latencies[-1] > hop_s
            elif isinstance(record, Signature):
                found.n_signatures += 1
        if isinstance(event, StreamEnd) or n_late > most_late:
            break
    elapsed = time.monotonic() - wall
    found.n_lost, found.worst_lag_s, found.final_lag_s = source.n_lost, source.worst_lag_s, source.lag_s
    found.cpu_share = (time.process_time() - cpu - source.feed_s) / elapsed
    found.feed_share = source.feed_s / elapsed
    if latencies:
        found.p50_ms, found.p99_ms = (1e3 * float(q) for q in np.quantile(latencies, (0.5, 0.99)))
    return found
