"""``tonald selftest``: a known signature put in digitally must come out at a subscriber."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from daemon.commands.listen import client_keys
from daemon.config import Config
from daemon.log_lines import start_logging
from daemon.selftest.ask import ask_selftest
from daemon.selftest.run import Outcome, run_selftest
from models.errors import UsageError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.description = (
        "Start the daemon as configured in this process, with a source that plays the tonals of each class of the "
        "bundle, and with a private outlet; listen, and judge. A running daemon is not touched. Every record says "
        "'test: true'. Exit code 0: all came out as it went in; 1: it did not, and why."
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings of the daemon (default: the defaults)")
    parser.add_argument(
        "--live", action="store_true", help="in the daemon that runs with these settings (selftest.live)"
    )
    parser.add_argument(
        "--server-key", type=Path, metavar="FILE", help="with --live: the daemon's public key, if it asks"
    )
    parser.add_argument("--client-key", type=Path, metavar="FILE", help="with --live: our own key pair, if it asks")
    parser.add_argument("--bundle", metavar="FOLDER", help="instead of the configured one")
    parser.add_argument("--engine", choices=("auto", "tensorrt", "openvino", "onnxruntime"))
    parser.add_argument("--label", metavar="L", help="one class only (default: each that has a line template)")
    parser.add_argument("--fs", type=int, help="sample rate in Hz (default: as configured, else 8000)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of sound per class (default: %(default)g)")


def run(args: argparse.Namespace) -> int:
    """Print one line for each class and channel, then the verdict."""
    config = Config.load(args.config) if args.config else Config()
    if args.bundle:
        config = dataclasses.replace(config, bundle=args.bundle)
    if args.engine:
        config = dataclasses.replace(config, engine=dataclasses.replace(config.engine, name=args.engine))
    if args.fs is not None and args.fs < 1:
        raise UsageError(f"--fs {args.fs}: give the sample rate in Hz")
    start_logging("warning")
    if args.live:
        if args.config is None or any((args.bundle, args.engine, args.label, args.fs)):
            raise UsageError("--live goes with --config alone, and keys: bundle, engine and sound are the daemon's")
        outcome = ask_selftest(config, client_keys(args.server_key, args.client_key))
        print(f"{outcome.engine}: {outcome.n_messages} messages of the test at the subscriber")
        return show(outcome)
    outcome = run_selftest(
        config, fs=args.fs, seconds=args.seconds, label=args.label, progress=lambda text: print(text, file=sys.stderr)
    )
    print(f"{outcome.engine}, {outcome.fs} Hz, {outcome.n_messages} messages at the subscriber")
    return show(outcome)


def show(outcome: Outcome) -> int:
    """Print an outcome; 0 if it is good, else 1."""
    for verdict in outcome.verdicts:
        print(verdict)
        for problem in verdict.problems:
            print(f"       {problem}")
    for problem in outcome.problems:
        print(f"FAILED {problem}")
    n_bad = sum(bool(v.problems) for v in outcome.verdicts) + len(outcome.problems)
    print(
        "self-test passed: what went in came out" if outcome.good else f"self-test FAILED: {n_bad} problems, see above"
    )
    return int(not outcome.good)
