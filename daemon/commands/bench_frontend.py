"""``tonald bench frontend``: what the front end costs, against soxr in one shot and one batched FFT."""

from __future__ import annotations

import argparse
from typing import Any

from daemon.commands.bench_words import Target, add_json, check_json, positive, tell_targets, write_json
from daemon.commands.progress import shown
from models.errors import UsageError

__all__ = ["add_arguments", "run"]

MOST_RATIO = 1.5
RATES, CHANNELS = (32_000, 48_000), (1, 8, 32)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "Milliseconds per second of sound: the streaming front end in blocks of 0.1 s beside the limit, which has the "
        "whole recording at once: soxr (quality HQ) and one batched FFT of the same frames. Listed apart: "
        "normalisation beside running means of scipy.ndimage, DEMON beside the FFT of its frames, and the memory asked "
        "for per block."
    )
    parser.add_argument("--fs", type=int, nargs="+", default=RATES, metavar="HZ", help="rates (32000 48000)")
    parser.add_argument("--channels", type=int, nargs="+", default=CHANNELS, metavar="N", help="numbers of (1 8 32)")
    parser.add_argument("--seconds-per-cell", type=float, default=3.0, metavar="S", help="time for each figure (3)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when all figures are there.

    Raises
    ------
    TonaldError
        If a word is out of range or soxr is not installed.
    """
    positive("--seconds-per-cell", args.seconds_per_cell)
    if not all(1 <= n <= 4096 for n in args.channels):
        raise UsageError(f"--channels {' '.join(map(str, args.channels))}: numbers of channels go from 1 to 4096")
    check_json(args.json)
    from calibration.bench.cpu import cpu_name
    from calibration.bench.frontend import bench_frontend

    with shown() as progress:
        result = bench_frontend(tuple(args.fs), tuple(args.channels), args.seconds_per_cell, progress)
    targets = [
        Target(
            f"resampling + STFT over the limit, {r['n_channels']} channels of {r['fs']} Hz",
            r["stages"]["resampling + STFT"]["ratio"], MOST_RATIO, "",
        )
        for r in result["rows"]
    ]  # fmt: skip
    result |= {"cpu": cpu_name(), "targets": [t.to_dict() for t in targets]}
    write_json(args.json, result)
    _tell(result)
    tell_targets(targets)
    return 0


def _tell(r: dict[str, Any]) -> None:
    print(f"{r['cpu']}, one thread; soxr {r['soxr']}; {r['units']}\n")
    print(f"{'':<20}{'fs, Hz':>8}{'channels':>10}{'streaming':>11}{'limit':>9}{'ratio':>8}")
    for row in r["rows"]:
        for name, s in row["stages"].items():
            print(f"{name:<20}{row['fs']:>8}{row['n_channels']:>10}{s['ms']:>11.3f}{s['limit_ms']:>9.3f}"
                  f"{s['ratio']:>8.2f}")  # fmt: skip
        print(f"{'LOFAR front end':<20}{row['fs']:>8}{row['n_channels']:>10}{row['whole_ms']:>11.3f}")
    a = r["allocations"]
    print(f"\nbytes asked for in steady state, {a['n_channels']} channels of {a['fs']} Hz:")
    print(f"{a['block']:>12,.0f}  at most by a block that only fills buffers")
    print(f"{a['spectra']:>12,.0f}  at most by resampling and STFT of a block that completes a step (the FFT's result)")
    print(f"{a['window']:>12,.0f}  at most by the whole front end for it; {a['handed_on']:,.0f} of them are the window")
    print(f"{a['kept_per_block']:>12,.0f}  kept from block to block")
