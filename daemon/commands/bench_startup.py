"""``tonald bench startup``: from the start of the process to the first window, part by part."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from daemon.commands.bench_words import Target, add_json, check_json, tell_targets, write_json
from models.errors import UsageError

__all__ = ["add_arguments", "run"]

MOST_S = 2.0
RECORDING_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "Seconds from the start of a fresh 'tonald run' to its first window, with a recording that is there as a "
        "whole, so that the window's own duration does not count; and what they go into. Files are in the page cache; "
        "an engine that keeps plans finds its plan only if the settings name a state directory, which these do not."
    )
    parser.add_argument("--fs", type=int, default=32_000, help="sample rate of the recording, Hz (32000)")
    parser.add_argument("--channels", type=int, default=8, metavar="N", help="its channels (8)")
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="starts of either kind (7)")
    parser.add_argument("--engine", default="auto", help="engine (auto)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when all figures are there.

    Raises
    ------
    TonaldError
        If words are out of range or the daemon does not start.
    """
    if not 1 <= args.runs <= 1000 or not 1 <= args.channels <= 256:
        raise UsageError(f"--runs {args.runs} --channels {args.channels}: 1 to 1000 runs, 1 to 256 channels")
    check_json(args.json)
    import numpy as np

    from calibration.bench.cpu import cpu_name
    from daemon.measure.startup import measure_startup, write_recording

    with tempfile.TemporaryDirectory(prefix="tonald-") as folder:
        scratch = Path(folder)
        write_recording(scratch / "sound.wav", args.fs, args.channels, RECORDING_S)
        measured = measure_startup(scratch, scratch / "sound.wav", engine=args.engine, n_runs=args.runs)
    result: dict[str, Any] = {
        "start_to_first_window_s": float(np.median(measured["plain_s"])),
        "parts_s": {p: float(np.median([run[p] for run in measured["parts"]])) for p in measured["parts"][0]},
        **measured, "fs": args.fs, "n_channels": args.channels, "engine": args.engine, "cpu": cpu_name(),
    }  # fmt: skip
    target = Target("start to first window", result["start_to_first_window_s"], MOST_S, "s")
    result["targets"] = [target.to_dict()]
    write_json(args.json, result)
    print(f"{result['cpu']}; engine {args.engine}; recording of {args.channels} channels, {args.fs} Hz; medians of "
          f"{args.runs} runs\n")  # fmt: skip
    for part, seconds in result["parts_s"].items():
        print(f"{part:<26}{1e3 * seconds:>8.0f} ms")
    low, high = min(measured["plain_s"]), max(measured["plain_s"])
    print(f"\nwithout the clock in it: {result['start_to_first_window_s']:.2f} s ({low:.2f} to {high:.2f})")
    tell_targets([target])
    return 0
