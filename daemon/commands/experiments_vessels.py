"""``tonald experiments vessels``: vessel or not on real recordings, by splits that leak and one that does not."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from daemon.commands.progress import shown
from models.errors import InputError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="real recordings with labels.csv")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="shuffles the folds (0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from calibration.experiments import vessels

    with shown() as progress:
        result = vessels.run(args.data, args.seed, progress)
    n, m = result["n_windows"], result["n_vessel_windows"]
    groups = {k: len(v) for k, v in result["groups"].items()}
    print(
        f"REAL recordings: {m} windows of {groups['vessel']} vessels at {len(result['sites']['vessel'])} sites, "
        f"{n - m} of {groups['ambient']} ambient sessions at {len(result['sites']['ambient'])} other sites"
    )
    print("judge     split       area under curve, %       balanced accuracy, %")
    for judge, splits in result["judges"].items():
        for split, f in splits.items():
            print(f"{judge:9s} {split:10s}  {_told(f, 'auc'):24s}  {_told(f, 'balanced_accuracy')}")
    print("folder                windows  coherent lines  tones  in families  called a vessel, %")
    for name, f in result["folders"].items():
        print(
            f"{name:20s}  {f['n_windows']:7d}  {f['coherent']:14.1f}  {f['tones']:5.1f}  {f['in_families']:11.1f}  "
            f"{f['called_vessel']:18.0f}"
        )
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        except OSError as e:
            raise InputError(f"{args.json}: cannot be written: {e.strerror}") from e
    return 0


def _told(figures: dict[str, Any] | None, key: str) -> str:
    if figures is None:
        return "too few sites"
    low, high = figures[f"{key}_95"]
    return f"{figures[key]:.1f} [{low:.1f}, {high:.1f}]"
