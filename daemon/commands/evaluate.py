"""``tonald evaluate``: train, calibrate and score on any recordings, or score a bundle."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.commands.progress import shown
from daemon.commands.train import add_data_arguments
from models.errors import InputError, UsageError

if TYPE_CHECKING:
    from calibration.dataset import Progress
    from calibration.sets import Recipe
    from models.bundle import Bundle

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "Train on one folder, calibrate, and score on another: accuracy, and where NAME.truth.json lies beside "
        "NAME.wav the quality of the signatures (Table I). Or score an existing bundle."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--train", type=Path, metavar="FOLDER", help="recordings to train and calibrate on")
    source.add_argument("--bundle", type=Path, metavar="BUNDLE", help="bundle to score instead")
    parser.add_argument("--test", type=Path, required=True, metavar="FOLDER", help="recordings to score on")
    add_data_arguments(parser)
    parser.add_argument("--k", type=int, help="forward passes of Score-CAM (default: the fewest that keep it true)")
    parser.add_argument(
        "--epochs", type=int, default=None, help="most epochs of training (default: by the number of windows)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of split and network (default: 0)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep run folder and bundle there")
    parser.add_argument("--engine", default="auto", help="auto, openvino, onnxruntime or tensorrt (default: auto)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def run(args: argparse.Namespace) -> int:
    """Evaluate; 0 when all figures are there.

    Raises
    ------
    TonaldError
        If data or bundle cannot be used.
    """
    from calibration.evaluate import calibrated, evaluate
    from calibration.sets import windows_for_test
    from models.bundle import Bundle
    from models.engines import open_engine
    from models.explainer import Explainer

    if args.k is not None and args.k < 1:
        raise UsageError(f"--k {args.k}: at least 1 forward pass is needed")
    if args.json is not None and not args.json.parent.is_dir():
        raise InputError(f"{args.json}: no such folder {args.json.parent}")
    with shown() as progress, tempfile.TemporaryDirectory(prefix="tonald-") as scratch:
        notes: tuple[str, ...] = ()
        if args.bundle is None:
            bundle, notes = _trained(args, args.keep or Path(scratch), progress)
        else:
            bundle = Bundle.load(args.bundle)
        windows, left_out = windows_for_test(_recipe(args, args.test), bundle.spec, bundle.labels, progress=progress)
        engine, report = open_engine(bundle, args.engine, max_batch=16, n_threads=None, state_dir=None)
        try:
            evaluation = evaluate(calibrated(bundle), Explainer(bundle, engine), windows, progress=progress)
        finally:
            engine.close()
    result = {
        **evaluation,
        "bundle": bundle.id,
        "engine": {"name": report.name, "precision": report.precision, "device": report.device},
        "notes": [*notes, *left_out],
        "units": "per cent; intersecting_regions counts lines, tone_auc and auroc lie in 0..1",
    }
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as e:
            raise InputError(f"{args.json}: cannot be written: {e.strerror or e}") from e
    _tell(result)
    return 0


def _recipe(args: argparse.Namespace, folder: Path) -> Recipe:
    from calibration.sets import Recipe

    return Recipe(
        folder=str(folder),
        labels_csv=None if args.labels_csv is None else str(args.labels_csv),
        class_column=args.class_column,
        tiers=tuple(args.tier),
        labels=tuple(args.label),
        ambient=tuple(args.ambient) or ("ambient",),
        seed=args.seed,
    )


def _trained(args: argparse.Namespace, folder: Path, progress: Progress) -> tuple[Bundle, tuple[str, ...]]:
    """Train and calibrate on ``--train`` within ``folder``."""
    from calibration.build import calibrate_sets, train_network
    from calibration.overlap import overlap
    from models.features import FeatureSpec

    if (folder / "bundle").exists():
        raise UsageError(f"--keep {folder}: holds a bundle already; choose another folder")
    flattered = overlap(_recipe(args, args.train), _recipe(args, args.test), FeatureSpec())
    sets, _ = train_network(
        _recipe(args, args.train), FeatureSpec(), folder / "run", n_epochs=args.epochs, progress=progress
    )
    bundle, _ = calibrate_sets(folder / "run", sets, folder / "bundle", k=args.k, progress=progress)
    return bundle, (*flattered, *sets.notes)


def _tell(result: dict[str, Any]) -> None:
    for note in result["notes"]:
        print(f"note: {note}")
    engine = result["engine"]
    print(f"bundle {result['bundle']}, {engine['name']} {engine['precision']} on {engine['device']}")
    print(f"accuracy {_value(result, 'accuracy')} % of {result['n_windows']} windows, "
          f"{_value(result, 'accuracy_recordings')} % of {result['n_recordings']} recordings")  # fmt: skip
    for label, entry in result["per_class"].items():
        print(f"  {label:<24} {_value(entry, 'accuracy'):>7} %   unknown {_value(entry, 'rejected')} %")
    unknown = result["unknown"]
    if unknown["rejected_strange"] is not None:
        print(f"labels it does not know: {unknown['rejected_strange']:.1f} % of windows called unknown, "
              f"{unknown['named_strange']:.1f} % named as a class")  # fmt: skip
    if result["signature"] is None:
        print("no truth side-cars: signatures are not scored")
        return
    print(f"{'threshold':<14}{'noise removed %':>18}{'tones overwritten %':>22}{'regions':>16}{'line F1 %':>16}")
    for point, s in result["signature"].items():
        if point != "threshold_free":
            print(f"{point:<14}{_value(s, 'removed_noise'):>18}{_value(s, 'overwritten_tones'):>22}"
                  f"{_value(s, 'intersecting_regions'):>16}{_value(s, 'line_f1'):>16}")  # fmt: skip


def _value(values: dict[str, Any], key: str) -> str:
    value, se = values[key], values.get(f"{key}_se")
    if value is None:
        return "-"
    return f"{value:.1f}" if se is None else f"{value:.1f} +- {se:.1f}"
