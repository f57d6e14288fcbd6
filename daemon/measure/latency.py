"""From the arrival in the ring of the block that completes a window to the message at a subscriber.

::

    feeder process ─► capture ring ─► PortAudioSource ─► pipeline ─► recorder ─► publisher ─► ZeroMQ ─► listener process
       stamp when a block is whole                                                               stamp when decoded

Source, stages, recorder and publisher are the daemon's own, with the settings of a daemon as installed; only the card
is replaced, by a process that writes rendered sound into the same ring at pace. All stamps are CLOCK_MONOTONIC, which
the processes of a machine share.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from daemon.capacity import Bank, PacedSource
from daemon.frames import Analysed, AudioBlock, Gap
from daemon.measure.fresh import command
from daemon.pipeline import Pipeline
from daemon.publisher import Publisher
from daemon.records import Recorder
from daemon.sources.portaudio import PortAudioSource
from models.errors import EngineError

__all__ = ["RING_BLOCK_S", "Latencies", "Measured", "run_latency", "write_audio"]

RING_BLOCK_S = 0.02
"""Length of a block that the feeder writes, as a sound card's period."""
SETTLE_S = 2.0
"""After the last block: time for what it completed to be heard."""

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Measured:
    """One window on its way, CLOCK_MONOTONIC, ns."""

    arrived: int
    """The block with its last sample was whole in the ring."""
    fetched: int
    """The daemon had read that block from the ring."""
    put: int
    """Its record was handed to the publisher."""
    heard: int
    """The subscriber had decoded its last message: the window's own, or that of a signature in it."""
    has_signature: bool


@dataclass(slots=True)
class Latencies:
    """Outcome of one run."""

    n_channels: int
    share: float
    """Of the channels that hear a vessel."""
    seconds: float
    n_expected: int
    """Windows that the samples hold."""
    windows: list[Measured] = field(default_factory=list)
    n_lost_messages: int = 0
    n_gaps: int = 0

    def quantiles_ms(self, q: Sequence[float]) -> list[float]:
        """Of the whole way, over all windows."""
        return [1e-6 * float(v) for v in np.quantile([w.heard - w.arrived for w in self.windows], q)]

    def to_dict(self) -> dict[str, Any]:
        """All figures, for JSON."""
        p50, p90, p99, most = self.quantiles_ms((0.5, 0.9, 0.99, 1.0))
        parts = {
            "ring to daemon": [w.fetched - w.arrived for w in self.windows],
            "daemon": [w.put - w.fetched for w in self.windows],
            "ZeroMQ to subscriber": [w.heard - w.put for w in self.windows],
        }
        return {
            "n_channels": self.n_channels, "share": self.share, "seconds": self.seconds, "n_expected": self.n_expected,
            "n_windows": len(self.windows), "n_with_signature": sum(w.has_signature for w in self.windows),
            "n_lost_messages": self.n_lost_messages, "n_gaps": self.n_gaps,
            "p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "max_ms": most,
            "parts_p50_ms": {name: 1e-6 * float(np.median(v)) for name, v in parts.items()},
        }  # fmt: skip


def write_audio(path: Path, bank: Bank, n_channels: int, share: float, seconds: float) -> int:
    """Write what the feeder feeds, float32 ``(n_samples, n_channels)``; return the number of ring blocks.

    The sound of `daemon.capacity.PacedSource`: ``share`` of the channels hear a vessel, each begins elsewhere.
    """
    n_block = round(RING_BLOCK_S * bank.fs)
    n_blocks = round(seconds * bank.fs) // n_block
    n = n_blocks * n_block
    source = PacedSource(bank, n_channels, share, seconds)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (n, n_channels))
    for c in range(n_channels):
        for first in range(0, n, bank.fs):
            out[first : first + bank.fs, c] = source.samples(c, first, min(bank.fs, n - first))
    out.flush()
    return n_blocks


def run_latency(
    pipeline: Pipeline, recorder: Recorder, publisher: Publisher, bank: Bank, scratch: Path, *,
    n_channels: int, share: float, seconds: float, n_expected: int,
) -> Latencies:  # fmt: skip
    """Run once at pace.

    Raises
    ------
    DeviceError
        If the feeder does not start.
    EngineError
        If the run gave no window, or the listener did not subscribe.
    """
    audio, stamps_path, heard_path = (scratch / name for name in ("audio.npy", "stamps.npy", "heard.jsonl"))
    n_block = round(RING_BLOCK_S * bank.fs)
    n_blocks = write_audio(audio, bank, n_channels, share, seconds)
    stamps = np.lib.format.open_memmap(stamps_path, "w+", np.int64, (n_blocks,))
    found = Latencies(n_channels, share, seconds, n_expected)
    listener = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
        command("daemon.measure.listener", publisher.endpoints[0], str(heard_path)), stdin=subprocess.PIPE
    )
    try:
        if not publisher.wait_for_subscriber(30.0):
            raise EngineError("bench latency: the subscriber did not come within 30 s: is the machine overloaded?")
        words = (str(audio), str(stamps_path), str(bank.fs), str(n_block))
        source = PortAudioSource("rendered", fs=bank.fs, child=command("daemon.measure.feeder", *words))
        try:
            ways = _pump(source, pipeline, recorder, publisher, found, n_blocks * n_block, seconds)
        finally:
            source.close()
        publisher.flush(SETTLE_S)
        time.sleep(SETTLE_S)
    finally:
        assert listener.stdin is not None
        listener.stdin.close()
        try:
            listener.wait(10.0)
        except subprocess.TimeoutExpired:
            listener.kill()
            listener.wait()
    _join(found, ways, heard_path, stamps, n_block)
    if not found.windows:
        raise EngineError(f"bench latency: {seconds:g} s of sound gave no window at the subscriber")
    return found


def _pump(
    source: PortAudioSource, pipeline: Pipeline, recorder: Recorder, publisher: Publisher, found: Latencies,
    n_samples: int, seconds: float,
) -> dict[Key, tuple[int, int]]:  # fmt: skip
    """What the daemon's processing thread does; when each window's block was fetched and its record put, by window."""
    ways: dict[Key, tuple[int, int]] = {}
    give_up = time.monotonic() + 3.0 * seconds + 30.0
    done = 0
    while done < n_samples and time.monotonic() < give_up:
        event = source.read(0.25)
        if event is None:
            continue
        fetched = time.monotonic_ns()
        for record in pipeline.process(event):
            for message in recorder.process(record):
                publisher.put(message, wait=False)
            if isinstance(record, Analysed):
                ways[record.window.channel, record.window.first_sample] = fetched, time.monotonic_ns()
        if isinstance(event, AudioBlock):
            done = event.first_sample + event.n_samples
        elif isinstance(event, Gap):
            found.n_gaps += 1
    return ways


def _join(
    found: Latencies, ways: dict[Key, tuple[int, int]], heard_path: Path, stamps: npt.NDArray[np.int64], n_block: int
) -> None:
    """Bring together what the three processes noted."""
    heard: dict[Key, tuple[int, int, bool]] = {}
    for line in heard_path.read_text(encoding="utf-8").splitlines():
        family, *rest = json.loads(line)
        if family == "lost":
            found.n_lost_messages = int(rest[0])
            continue
        channel, epoch, first_sample, n_samples, t_ns = rest
        if epoch != 0:
            continue  # the feeder died and came again: its stamps count anew
        _, before, signed = heard.get((channel, first_sample), (0, 0, False))
        end = first_sample + n_samples
        heard[channel, first_sample] = end, max(t_ns, before), signed or family == "signature"
    for key, (fetched, put) in ways.items():
        if key in heard:
            end, t_ns, signed = heard[key]
            found.windows.append(Measured(int(stamps[-(-end // n_block) - 1]), fetched, put, t_ns, signed))
