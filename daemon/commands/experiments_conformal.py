"""``tonald experiments conformal``: truth-free thresholds, asked for and measured, here and at other places."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibration.thresholds import NOMINAL_LEVELS
from daemon.commands.progress import shown
from models.bundle import Bundle
from models.errors import InputError

__all__ = ["add_arguments", "run"]

SCENARIO = "standard"
REAL = {"real ambient": ("ambient", "ambient_2k"), "real, mains hum": ("ambient_hum",)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.add_argument("--fresh-seed", type=int, default=0, metavar="N", help="which fresh recordings (default: 0)")
    parser.add_argument("--repetitions", type=int, default=40, metavar="N", help="calibrations per size (default: 40)")
    parser.add_argument(
        "--pool", type=int, default=384, metavar="N",
        help="recordings that calibrations draw from, and as many to judge them (default: 384)",
    )  # fmt: skip
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="bundle; the shipped one by default")
    parser.add_argument("--engine", default="onnxruntime", help="engine of the bundle's graphs (default: onnxruntime)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="real recordings with labels.csv, reported apart")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when all figures are there, whatever they say.

    Raises
    ------
    TonaldError
        If the words do not fit together, or bundle or folders cannot be used.
    """
    if args.json is not None and not args.json.parent.is_dir():
        raise InputError(f"{args.json}: no such folder {args.json.parent}")
    from calibration import recordings
    from calibration.experiments import conformal
    from calibration.experiments.tables import write_json
    from calibration.scenarios import scenario_named
    from models.engines import open_engine
    from models.explainer import Explainer, graphs_of

    start = time.monotonic()
    bundle = Bundle.load(args.bundle or Bundle.shipped())
    catalogue = None if args.data is None else recordings.scan(args.data, bundle.spec)
    engine, _ = open_engine(bundle, args.engine, max_batch=32, n_threads=1, graphs=graphs_of(bundle))
    try:
        explainer = Explainer(bundle, engine)
        with shown() as progress:
            result = conformal.run(
                bundle, explainer, scenario_named(SCENARIO), seed=args.fresh_seed, n_pool=args.pool,
                n_repetitions=args.repetitions, progress=progress,
            )  # fmt: skip
            real = {}
            if catalogue is not None:
                for name, labels in REAL.items():
                    real[name] = conformal.on_recordings(bundle, explainer, catalogue, labels, progress=progress)
    finally:
        engine.close()
    result["real"] = real
    if args.json is not None:
        write_json(args.json, result)
    _tell(result)
    print(f"\n{time.monotonic() - start:.0f} s")
    return 0


def _tell(result: Mapping[str, Any]) -> None:
    print(f"bundle {result['bundle']}, scenario {result['scenario']} without vessels, fresh seed "
          f"{result['fresh_seed']}; per cent of source-free cells")  # fmt: skip
    print(f"\ncoverage: {result['n_repetitions']} calibrations of each label, windows drawn from {result['n_pool']} "
          f"recordings, judged on {result['n_test']} others")  # fmt: skip
    print("windows  nominal  removed +- SE    scatter  5..95 % of calibrations  stated interval holds")
    for size, levels in result["coverage"].items():
        for q, c in levels.items():
            print(f"{size:>7}  {100 * float(q):>7.0f}  {c['removed']:>7.2f} +- {c['se']:.2f}  {c['scatter']:>7.2f}  "
                  f"{c['low']:>12.2f}..{c['high']:.2f}  {c['stated_interval_holds']:>18.0f}")  # fmt: skip
    out = result["leaving_out"]
    print(f"\na class was detected in {out['share_detected']:.1f} % of these windows; thresholds from "
          f"{result['n_pool']} windows remove of all others:")  # fmt: skip
    for q, r in out["removed"].items():
        print(f"  nominal {100 * float(q):.0f}: {r['kept']:.2f} with such windows kept, {r['left_out']:.2f} left out")
    print(f"\nsites: thresholds of the bundle, and of the site from {result['n_site']} windows; judged on "
          f"{result['n_judge']} further recordings of the site")  # fmt: skip
    print(
        f"{'site':<18} {'nominal':>7}  {'bundle +- SE (least label)':>28}  {'site +- SE (least label)':>28}  detected"
    )
    for name, row in result["sites"].items():
        _tell_site(name, row, f"{row['share_detected']:.1f}")
    for name, row in result["real"].items():
        if row is None:
            print(f"{name:<18} fewer than two groups of recordings: nothing to leave out")
        else:
            _tell_site(name, row, f"({row['n_windows']} windows of {row['n_groups']} groups, each left out in turn; "
                       f"least: of a group)")  # fmt: skip


def _tell_site(name: str, row: Mapping[str, Any], more: str) -> None:
    for q in NOMINAL_LEVELS:
        r = row[q]
        cells = [f"{r[k]:.2f} +- {r[f'{k}_se']:.2f} ({r[f'{k}_least']:.2f})" for k in ("bundle", "site")]
        print(f"{name:<18} {100 * float(q):>7.0f}  {cells[0]:>28}  {cells[1]:>28}  {more}")
        name = more = ""
