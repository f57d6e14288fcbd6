"""``tonald record``: sound of the configured source into files, for calibration and for proof."""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
import signal
import sys
import threading
import time
import uuid
from pathlib import Path

from daemon.commands.run import add_source_words, settings
from daemon.frames import AudioBlock, ClockUpdate, Event, Gap, Source, SourceState, StreamEnd, StreamStart
from daemon.levels import levels_of
from daemon.log_lines import start_logging
from daemon.open_source import open_source
from daemon.takes.side_car import Stamp
from daemon.takes.take_writer import TakeWriter
from models.errors import AudioFormatError, InputError, UsageError

__all__ = ["add_arguments", "run"]

TURN_S = 0.25
SAY_S = 5.0
RESERVE_BYTES = 100_000_000
"""Left free on the disk."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.description = (
        "Write the source's sound, all channels, sample by sample as captured: FLAC of 24 bits where that is exact, "
        "else WAV of floats. Each file has a side-car with its UTC, clock and place in the stream. A gap ends a file. "
        "Files are named by UTC, so the same folder can be used again."
    )
    add_source_words(parser)
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="where the files go; made if absent")
    parser.add_argument("--seconds", metavar="S", type=float, help="of sound (default: until Ctrl-C or the end)")
    parser.add_argument("--file-seconds", metavar="S", type=float, default=600.0, help="longest file (%(default)g)")
    parser.add_argument("--wav", action="store_true", help="WAV of floats always")


def run(args: argparse.Namespace) -> int:
    """Record; say at the end what there is."""
    for name, value in (("--seconds", args.seconds), ("--file-seconds", args.file_seconds)):
        if value is not None and not 0.0 < value < float("inf"):
            raise UsageError(f"{name} {value:g}: give a positive number of seconds")
    config = settings(args)
    start_logging(config.log.level, config.log.format)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f"{args.out}: cannot be made: {e.strerror or e}") from e
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _n, _frame: stop.set())
    chains = levels_of(config).numbers()
    stamp = Stamp(config.node, uuid.uuid4().hex, importlib.metadata.version("tonald"), hydrophones=chains)
    source = open_source(config.source)
    try:
        writer = TakeWriter(args.out, stamp, file_s=args.file_seconds, encoding="wav" if args.wav else None)
        with writer:
            session = _Session(writer, args.out, args.seconds)
            session.record(source, stop)
        session.told()
    finally:
        source.close()
    if not session.n_files:
        raise AudioFormatError(session.problem or "the source gave no sound: nothing was written")
    print(session.summary())
    return 0


class _Session:
    """One recording under way."""

    def __init__(self, writer: TakeWriter, out: Path, seconds: float | None) -> None:
        self._writer, self._out, self._seconds = writer, out, seconds
        self._audio_s = 0.0
        self._left: int | None = None
        self._n_gaps = 0
        self._said = time.monotonic()
        self.n_files = self._n_bytes = 0
        self.problem = ""

    def record(self, source: Source, stop: threading.Event) -> None:
        """Until enough was recorded, the source ends, or ``stop``."""
        while not stop.is_set():
            event = source.read(TURN_S)
            if event is not None and self._take(event):
                return
            self.told()
            if time.monotonic() - self._said >= SAY_S:
                self._said = time.monotonic()
                of = f" of {self._seconds:g} s" if self._seconds else ""
                sys.stderr.write(f"tonald: {self._audio_s:.0f} s{of}, {self.n_files} files, {self._n_gaps} gaps\n")

    def _take(self, event: Event) -> bool:
        """Write an event; True if that was the last."""
        match event:
            case StreamStart():
                self._room(event)
                if self._seconds is not None and self._left is None:
                    self._left = max(1, round(self._seconds * event.fs))
            case AudioBlock():
                event = self._cut(event)
                self._audio_s += event.n_samples / event.fs
            case Gap():
                self._n_gaps += 1
                sys.stderr.write(f"tonald: gap: {event.reason}: {event.duration_ns / 1e9:.3f} s\n")
            case SourceState():
                self.problem = event.detail
                sys.stderr.write(f"tonald: source {event.source} is {event.state}: {event.detail}\n")
            case ClockUpdate() if event.words:
                sys.stderr.write(f"tonald: clock: {event.words}\n")
        self._writer.process(event)
        if isinstance(event, StreamEnd):
            self.problem = event.problem or self.problem
            return event.final
        return self._left == 0

    def _cut(self, block: AudioBlock) -> AudioBlock:
        """No more samples than were asked for."""
        if self._left is None:
            return block
        n = min(self._left, block.n_samples)
        self._left -= n
        if n == block.n_samples:
            return block
        return AudioBlock(block.source, block.epoch, block.first_sample, block.fs, block.x[:, :n])

    def _room(self, start: StreamStart) -> None:
        """Refuse what the disk could not hold."""
        if self._seconds is None:
            return
        needed = round(self._seconds * start.fs) * len(start.channels) * 4 + RESERVE_BYTES
        free = shutil.disk_usage(self._out).free
        if needed > free:
            raise InputError(
                f"{self._out}: {needed / 1e6:.0f} MB may be needed, "
                f"{free / 1e6:.0f} MB are free: record less, or elsewhere"
            )

    def told(self) -> None:
        """Name each file that is whole."""
        for path, take in self._writer.done:
            self.n_files += 1
            self._n_bytes += path.stat().st_size
            print(f"{path}  {take.n_samples / take.fs:.3f} s, {len(take.channels)} ch, {take.fs} Hz, {take.ended}")
        self._writer.done.clear()

    def summary(self) -> str:
        """What there is now."""
        short = self._seconds is not None and self._left != 0
        return f"{self._audio_s:.3f} s in {self.n_files} files, {self._n_bytes / 1e6:.1f} MB, {self._n_gaps} gaps" + (
            f"; the source ended before {self._seconds:g} s" if short else ""
        )
