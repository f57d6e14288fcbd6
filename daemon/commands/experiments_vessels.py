"""``tonald experiments vessels``: vessel or not on real recordings, by splits that leak and one that does not."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from daemon.commands.progress import shown
from models.errors import InputError, UsageError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="real recordings with labels.csv")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of folds and mixtures (default: 0)")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="bundle; the shipped one by default")
    parser.add_argument("--engine", default="onnxruntime", help="auto, openvino, onnxruntime (default), tensorrt")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when all figures are there.

    Raises
    ------
    TonaldError
        If the words do not fit together, or recordings or bundle cannot be used.
    """
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed}: must not be negative")
    if args.json is not None and not args.json.parent.is_dir():
        raise InputError(f"{args.json}: no such folder {args.json.parent}")
    from calibration.experiments import vessels, vessels_bundle
    from models.bundle import Bundle
    from models.engines import open_engine
    from models.explainer import Explainer

    bundle = Bundle.load(Bundle.shipped() if args.bundle is None else args.bundle)
    engine, _ = open_engine(bundle, args.engine, max_batch=16, n_threads=1)
    try:
        with shown() as progress:
            result = vessels.run(args.data, args.seed, progress)
            result["bundle"] = vessels_bundle.by_folder(bundle, Explainer(bundle, engine), args.data, progress)
    finally:
        engine.close()
    n, m = result["n_windows"], result["n_vessel_windows"]
    groups = {k: len(v) for k, v in result["groups"].items()}
    print(
        f"REAL recordings: {m} windows of {groups['vessel']} vessels at {len(result['sites']['vessel'])} sites, "
        f"{n - m} of {groups['ambient']} ambient sessions at {len(result['sites']['ambient'])} other sites"
    )
    _tell(result)
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as e:
            raise InputError(f"{args.json}: cannot be written: {e.strerror}") from e
    return 0


def _tell(result: dict[str, Any]) -> None:
    print(
        "judge      split       area under curve, %    balanced accuracy, %   better than spectra by, balanced accuracy"
    )
    for judge, splits in result["judges"].items():
        for split, f in splits.items():
            rival = result["better_than_baseline"].get(judge, {}).get(split)
            gain = "" if rival is None else _told(rival, "balanced_accuracy")
            print(f"{judge:9s}  {split:10s}  {_told(f, 'auc'):21s}  {_told(f, 'balanced_accuracy'):21s}  {gain}")
    print("\nother folders for ambient: area under curve / balanced accuracy, %")
    for row in result["other_negatives"]:
        cells = [
            f"{s} {'too few' if row[s] is None else '{auc:.1f} / {balanced_accuracy:.1f}'.format(**row[s])}"
            for s in ("random", "by vessel", "by site")
        ]
        print(f"{row['ambient']:24s}  {row['judge']:32s}  {row['n_windows']:4d} windows  {'  '.join(cells)}")
    print("\nfolder                windows  coherent lines  tones  in families  called a vessel, %: mixed  simulated")
    for name, f in result["folders"].items():
        called = f["called_vessel"]
        print(
            f"{name:20s}  {f['n_windows']:7d}  {f['coherent']:14.1f}  {f['tones']:5.1f}  {f['in_families']:11.1f}  "
            f"{called['mixed']:25.0f}  {called['simulated']:9.0f}"
        )
    heard = result["bundle"]
    print(f"\nbundle {heard['bundle']} (simulated vessels only), windows of {heard['seconds']:.1f} s, per cent")
    print("folder                windows  named  unknown  heard")
    for name, f in heard["folders"].items():
        print(f"{name:20s}  {f['n_windows']:7d}  {f['named']:5.1f}  {f['unknown']:7.1f}  {f['heard']:5.1f}")
    if heard["left_out"]:
        print(f"{heard['left_out']} files left out, too short or of too low a rate")


def _told(figures: dict[str, Any] | None, key: str) -> str:
    if figures is None:
        return "too few sites"
    low, high = figures[f"{key}_95"]
    return f"{figures[key]:.1f} [{low:.1f}, {high:.1f}]"
