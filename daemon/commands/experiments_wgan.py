"""``tonald experiments wgan``: whether generated windows help a classifier, and how good they are."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from daemon.commands.progress import shown
from models.errors import InputError, UsageError

__all__ = ["add_arguments", "run"]

METHODS = ("none", "remix", "modern", "text")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.add_argument("--scenario", default="wide", help="scenario of the simulated ocean (default: wide)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds, each with its own data (default: 5)")
    parser.add_argument("--windows", default="20,50,100", metavar="N,N", help="real windows per label (20,50,100)")
    parser.add_argument("--methods", default=",".join(METHODS), metavar="M,M", help=f"of {', '.join(METHODS)} (all)")
    parser.add_argument("--gan-steps", type=int, default=250, metavar="N", help="steps of each critic (default: 250)")
    parser.add_argument(
        "--classifier-steps", type=int, default=100, metavar="N", help="steps of each classifier (default: 100)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="results, written cell by cell; a stopped run goes on from there"
    )
    parser.add_argument(
        "--figures", type=Path, metavar="FOLDER",
        help="only train on 100 windows of one class by the paper's recipes and ours, and draw Figures 5 and 6",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when the table is there.

    Raises
    ------
    TonaldError
        If the words do not fit together or a file cannot be used.
    """
    for path in (args.json, args.figures):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path}: no such folder {path.parent}")
    start = time.monotonic()
    if args.figures is not None:
        from calibration.experiments.wgan_figures import draw

        with shown() as progress:
            for name, words in draw(args.figures, args.scenario, progress=progress).items():
                print(f"{name}: {words}")
    else:
        from calibration.experiments.wgan import Plan, measure

        plan = Plan(
            scenario=args.scenario, sizes=_numbers(args.windows), n_seeds=args.seeds,
            methods=tuple(args.methods.split(",")), gan_steps=args.gan_steps, classifier_steps=args.classifier_steps,
        )  # fmt: skip
        with shown() as progress:
            result = measure(plan, args.json, progress=progress)
        if args.json is not None:
            try:
                args.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            except OSError as e:
                raise InputError(f"{args.json}: cannot be written: {e.strerror or e}") from e
        _tell(result)
    print(f"\n{time.monotonic() - start:.0f} s")
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise UsageError(f"--windows {text}: give whole numbers with commas between") from None


#: Columns of the table: key, heading, format.
COLUMNS = (
    ("accuracy", "accuracy", "8.1f"), ("kid", "KID", "8.3f"), ("tonal_rows", "tonal", "6.2f"),
    ("precision", "prec", "5.2f"), ("recall", "rec", "5.2f"), ("density", "dens", "5.2f"),
    ("coverage", "cov", "5.2f"), ("copied", "copied", "6.1f"), ("nearest_ratio", "near", "5.3f"),
)  # fmt: skip


def _tell(result: dict[str, Any]) -> None:
    print(
        f"wgan: scenario {result['scenario']} (simulated); tested on {result['n_test_recordings']} recordings per label"
    )
    print("accuracy in per cent, mean over labels and seeds; difference to 'none' pair by pair, 95 % interval\n")
    width = {key: max(int(form.split(".")[0]), len(head)) for key, head, form in COLUMNS}
    print(f"{'windows':>7} {'method':<7}{'seeds':>6}  {'difference':<22}"
          + " ".join(f"{head:>{width[key]}}" for key, head, _ in COLUMNS))  # fmt: skip
    for row in result["table"]:
        d = f"{row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]" if "difference" in row else ""
        cells = " ".join(
            f"{row[key]:>{width[key]}.{form.split('.')[1]}}" if key in row else " " * width[key]
            for key, _, form in COLUMNS
        )
        print(f"{row['windows']:>7} {row['method']:<7}{row['n_seeds']:>6}  {d:<22}{cells}")
    print("\nKID, tonal distance (rows of 2 Hz), precision, recall, density, coverage: generated windows against real\n"
          "ones of other recordings; in the rows 'none' the real training windows themselves, the floor. copied: per\n"
          "cent nearer to one training window than 99 % of real ones; near: nearest over median distance")  # fmt: skip
