"""``tonald calibrate``: from a trained network to a bundle; with ``--site`` from empty sea to a site's thresholds."""

from __future__ import annotations

import argparse
from pathlib import Path

from daemon.commands.calibrate_site import add_site_words, run_site
from daemon.commands.progress import shown
from models.errors import UsageError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "Choose representatives, make class masks, set thresholds, export the graphs and write the bundle with its "
        "report. The data are those the network was trained with, from recordings or seeds apart. With --site: "
        "measure the thresholds of a place on recordings of its sea without vessels; the bundle is not changed."
    )
    parser.add_argument(
        "run_dir", type=Path, nargs="?", metavar="RUN_DIR", help="what `tonald train --out RUN_DIR` wrote"
    )
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="what to write: the bundle's folder, or with --site the file"
    )
    parser.add_argument("--k", type=int, help="forward passes of Score-CAM (default: the fewest that keep it true)")
    parser.add_argument(
        "--n-test", type=int, default=20, metavar="N", help="simulated test recordings per label (default: 20)"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing bundle")
    add_site_words(parser)


def run(args: argparse.Namespace) -> int:
    """Calibrate; 0 when the bundle is written and loads again.

    Raises
    ------
    TonaldError
        If the run folder is none, or the bundle cannot be written.
    """
    if args.site is not None:
        if args.run_dir is not None:
            raise UsageError(f"--site and {args.run_dir}: calibrate a site or a trained network, one at a time")
        return run_site(args)
    if args.run_dir is None or args.out is None:
        raise UsageError("give RUN_DIR and --out BUNDLE, or --site FOLDER")
    for word in ("bundle", "state_dir", "channel", "hop", "json"):
        if getattr(args, word) is not None:
            raise UsageError(f"--{word.replace('_', '-')} goes with --site only")
    if args.keep_detected:
        raise UsageError("--keep-detected goes with --site only")
    from calibration.build import calibrate_run

    if args.k is not None and args.k < 1:
        raise UsageError(f"--k {args.k}: at least 1 forward pass is needed")
    if args.n_test < 1:
        raise UsageError(f"--n-test {args.n_test}: at least 1 recording is needed")
    with shown() as progress:
        bundle, results = calibrate_run(
            args.run_dir, args.out, k=args.k, n_test=args.n_test, force=args.force, progress=progress
        )
    evaluation = results["evaluation"]
    print(f"{bundle.path}: bundle {bundle.id}, {len(bundle.labels)} labels, k={bundle.k}")
    print(f"  evaluated on {results['evaluated_on']}")
    print(f"  windows named right {evaluation['accuracy']:.1f} %")
    if evaluation["signature"]:
        s = evaluation["signature"]["conformal_95"]
        print(f"  noise removed {s['removed_noise']:.1f} %, tones overwritten {s['overwritten_tones']:.1f} %")
    print(f"  report: {bundle.path / 'report' / 'index.html'}")
    return 0
