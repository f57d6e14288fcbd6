"""``tonald train``: a network from the simulated ocean or from a folder of recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

from daemon.commands.progress import shown

__all__ = ["add_arguments", "add_data_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = "Train the Spec-CNN. The next step is `tonald calibrate RUN_DIR --out BUNDLE`."
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--scenario", help="simulated ocean to learn from, e.g. standard")
    data.add_argument(
        "--data", type=Path, metavar="FOLDER", help="recordings: FOLDER/<label>/NAME.wav and FOLDER/ambient/..."
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN_DIR", help="folder for checkpoint and report")
    parser.add_argument(
        "--n-recordings", type=int, default=40, metavar="N", help="simulated recordings per label (default: 40)"
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="length of each simulated recording (default: 40)")
    add_data_arguments(parser)
    parser.add_argument(
        "--epochs",
        type=int,
        default=None,
        help="most epochs; stops earlier when it no longer helps (default: by the number of windows)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of data and network (default: 0)")


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how a folder of recordings is to be read."""
    parser.add_argument(
        "--labels-csv",
        type=Path,
        metavar="CSV",
        help="table with a column 'file' (default: FOLDER/labels.csv if there)",
    )
    parser.add_argument("--class-column", default="cls", metavar="NAME", help="column of the label (default: cls)")
    parser.add_argument(
        "--tier", action="append", default=[], metavar="T", help="licence tier to keep; may be repeated"
    )
    parser.add_argument("--label", action="append", default=[], metavar="L", help="class to use; may be repeated")
    parser.add_argument(
        "--ambient", action="append", default=[], metavar="L", help="label of source-free recordings (default: ambient)"
    )


def run(args: argparse.Namespace) -> int:
    """Train; 0 when the checkpoint is written.

    Raises
    ------
    TonaldError
        If the data cannot be used.
    """
    from calibration.build import train_network
    from calibration.sets import Recipe
    from models.features import FeatureSpec

    recipe = Recipe(
        scenario=args.scenario,
        n_recordings=args.n_recordings,
        seconds=args.seconds,
        folder=None if args.data is None else str(args.data),
        labels_csv=None if args.labels_csv is None else str(args.labels_csv),
        class_column=args.class_column,
        tiers=tuple(args.tier),
        labels=tuple(args.label),
        ambient=tuple(args.ambient) or ("ambient",),
        seed=args.seed,
    )
    with shown() as progress:
        sets, report = train_network(recipe, FeatureSpec(), args.out, n_epochs=args.epochs, progress=progress)
    for note in sets.notes:
        print(f"note: {note}")
    counts = ", ".join(f"{label} {n}" for label, n in sets.train.counts().items())
    print(f"{args.out}: trained on {len(sets.train)} windows ({counts})")
    print(
        f"  best of {len(report.curve)} epochs: {report.best_epoch + 1}, "
        f"validation windows named right {100 * report.accuracy:.1f} %"
    )
    return 0
