"""``tonald bench memory``: memory, threads and open files of a running daemon, and whether they stay."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from daemon.commands.bench_words import Target, add_json, check_json, positive, tell_targets, write_json
from daemon.commands.progress import shown
from models.errors import UsageError

__all__ = ["add_arguments", "run"]

MOST_MB, MOST_GROWTH = 350.0, 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "Resident memory, threads and open files of a daemon process that takes in an hour of sound as fast as it "
        "can, with one subscriber and every other channel hearing a vessel: how much, and whether it grows. Linux."
    )
    parser.add_argument("--fs", type=int, default=32_000, help="sample rate per channel, Hz (32000)")
    parser.add_argument("--channels", type=int, default=8, metavar="N", help="number of channels (8)")
    parser.add_argument("--seconds", type=float, default=3600.0, metavar="S", help="sound to take in (3600)")
    parser.add_argument("--engine", default="auto", help="engine (auto)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when all figures are there.

    Raises
    ------
    TonaldError
        If words are out of range or the daemon ends before its time.
    """
    positive("--seconds", args.seconds, 10.0)
    if not 1 <= args.channels <= 256:
        raise UsageError(f"--channels {args.channels}: numbers of channels go from 1 to 256")
    check_json(args.json)
    from calibration.bench.cpu import cpu_name
    from daemon.capacity import render
    from daemon.measure.memory import measure_memory

    with tempfile.TemporaryDirectory(prefix="tonald-") as folder, shown() as progress:
        scratch = Path(folder)
        bank = render(scratch, args.fs, progress)
        result: dict[str, Any] = measure_memory(
            bank, scratch, n_channels=args.channels, seconds=args.seconds, engine=args.engine, progress=progress
        )
    threads, files = result["n_threads"], result["n_files"]
    targets = [
        Target("resident memory", result["rss_mb"], MOST_MB, "MB"),
        Target("growth, last tenth over first", result["growth_percent"], MOST_GROWTH, "%"),
        Target("threads, most less least", float(threads[1] - threads[0]), 0.0, ""),
        Target("open files, most less least", float(files[1] - files[0]), 0.0, ""),
    ]
    result |= {
        "fs": args.fs, "n_channels": args.channels, "seconds": args.seconds, "engine": args.engine, "cpu": cpu_name(),
        "targets": [t.to_dict() for t in targets],
    }  # fmt: skip
    write_json(args.json, result)
    print(f"{result['cpu']}; engine {args.engine}; {args.channels} channels of {args.fs} Hz, {args.seconds:g} s of "
          f"sound as fast as possible, {result['n_windows_heard']} windows heard by the subscriber")  # fmt: skip
    print(f"{'sound, s':>10}{'RSS, MB':>10}{'threads':>9}{'files':>7}")
    readings = result["readings"]
    for r in readings[:: max(1, len(readings) // 10)]:
        print(f"{r['audio_s']:>10.0f}{1e-6 * r['rss']:>10.1f}{r['n_threads']:>9}{r['n_files']:>7}")
    print(f"peak {result['peak_mb']:.1f} MB; threads {threads[0]} to {threads[1]}, files {files[0]} to {files[1]} "
          "after warming up")  # fmt: skip
    tell_targets(targets)
    return 0
