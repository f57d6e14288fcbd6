"""``tonald bench``: measurements of speed, each a word of its own."""

from __future__ import annotations

import argparse
import importlib

__all__ = ["add_arguments", "run"]

BENCHES = {
    "window": "milliseconds per explained window, against public libraries",
    "frontend": "what the front end costs, against soxr in one shot and one batched FFT",
    "latency": "from the block that completes a window to the message at a subscriber",
    "startup": "from the start of the process to the first window, part by part",
    "memory": "memory, threads and open files of a running daemon, and whether they stay",
    "capacity": "how many channels this machine sustains in real time",
    "delivery": "what keeping records costs, and how fast they come back to who missed them",
    "modes": "milliseconds per window on board, mode by mode, beside the plain fused graph",
}
"""Each lives in ``daemon/commands/bench_<name>.py``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    what = parser.add_subparsers(dest="bench", required=True, metavar="WHAT")
    for name, text in BENCHES.items():
        module = importlib.import_module(f"daemon.commands.bench_{name}")
        module.add_arguments(what.add_parser(name, help=text, description=text[0].upper() + text[1:] + "."))


def run(args: argparse.Namespace) -> int:
    """Hand over to the measurement named."""
    code: int = importlib.import_module(f"daemon.commands.bench_{args.bench}").run(args)
    return code
