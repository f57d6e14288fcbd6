"""``tonald experiments unknowns``: which score finds vessels no network was trained on."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from daemon.commands.progress import shown
from models.bundle import Bundle
from models.errors import InputError, UsageError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.add_argument("--fresh-seed", type=int, default=0, metavar="N", help="which fresh recordings (default: 0)")
    parser.add_argument(
        "--windows", type=int, default=384, metavar="N", help="test windows of each kind (default: 384)"
    )
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="bundle; the shipped one by default")
    parser.add_argument("--engine", default="onnxruntime", help="auto, openvino, onnxruntime (default), tensorrt")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="real recordings with labels.csv, reported apart")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when the table is there.

    Raises
    ------
    TonaldError
        If the words do not fit together or the bundle cannot be used.
    """
    if args.fresh_seed < 0:
        raise UsageError(f"--fresh-seed {args.fresh_seed}: must not be negative")
    if args.json is not None and not args.json.parent.is_dir():
        raise InputError(f"{args.json}: no such folder {args.json.parent}")
    if args.data is not None and not args.data.is_dir():
        raise InputError(f"{args.data}: no such folder")
    from calibration.experiments.unknowns import run as measure
    from models.engines import open_engine

    start = time.monotonic()
    bundle = Bundle.load(Bundle.shipped() if args.bundle is None else args.bundle)
    engine, _ = open_engine(bundle, args.engine, max_batch=16, n_threads=1, graphs=("classify",))
    try:
        with shown() as progress:
            result = measure(bundle, engine, args.fresh_seed, args.windows, data=args.data, progress=progress)
    finally:
        engine.close()
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as e:
            raise InputError(f"{args.json}: cannot be written: {e.strerror or e}") from e
    _tell(result)
    print(f"\n{time.monotonic() - start:.0f} s")
    return 0


def _tell(result: dict[str, Any]) -> None:
    n, r = result["n_windows"], result["n_recordings"]
    print(f"unknowns: scenario {result['scenario']} (simulated), fresh seed {result['fresh_seed']}, "
          f"bundle {result['bundle']}")  # fmt: skip
    print("windows/recordings: " + ", ".join(f"{k.replace('_', ' ')} {n[k]}/{r[k]}" for k in n))
    print("named ambient by the network, per cent: "
          + ", ".join(f"{k.replace('_', ' ')} {v:.0f}" for k, v in result["named_ambient"].items()))  # fmt: skip
    print("\nAUROC, and FPR95 in per cent, +- standard error over recordings")
    pairs = [p for p in next(iter(result["methods"].values())) if "_vs_" in p]
    short = {"known_vs": "known", "ambient_vs": "ambient", "known_ambient_vs": "both"}
    for strange in ("strangers", "strangers_anew"):
        own = [p for p in pairs if p.endswith(f"_vs_{strange}")]
        heads = [short[p.removesuffix(f"_{strange}")] for p in own]
        print(f"{strange.replace('_', ' '):<32}" + "".join(f"{'vs ' + h:>16}" for h in heads) + f"{'FPR95 both':>16}")
        for name, row in result["methods"].items():
            cells = "".join(f"{row[p]['auroc']:>9.3f} +-{row[p]['auroc_se']:.3f}" for p in own)
            print(f"{name:<32}{cells}{_pm(row[own[-1]], 'fpr95'):>16}")
    kinds = list(n)
    for point, text in (
        ("conformal", f"limits from held-out recordings at {100 * result['share']:g} %, as at sea"),
        ("matched", f"limits set on these very windows, at most {100 * result['share']:g} % of known and of ambient"),
    ):
        print(f"\ncalled unknown, per cent: {text}")
        print(" " * 32 + "".join(f"{k.replace('_', ' '):>16}" for k in kinds))
        if point == "conformal":
            print(f"{'rule of the bundle':<32}" + "".join(f"{_pm(result['shipped_rule'], k):>16}" for k in kinds))
        for name, row in result["methods"].items():
            print(f"{name:<32}" + "".join(f"{_pm(row[point], k):>16}" for k in kinds))
    cost = result["cost_ms"]
    print(f"\ncost of one window: line evidence {cost['line_evidence']:.2f} ms, score {cost['score']:.2f} ms")

    if result["real"] is not None:
        _tell_real(result["real"])


def _tell_real(real: dict[str, Any]) -> None:
    print("\nreal recordings, every vessel a stranger; scores and limits of the simulator")
    print(f"{'label':<24}{'windows/groups':>16}{'named ambient %':>18}{'unknown %':>18}{'lines':>8}")
    for label, v in real["labels"].items():
        se = "" if v["unknown_se"] is None else f" +-{v['unknown_se']:.1f}"
        count = f"{v['n_windows']}/{v['n_groups']}"
        print(f"{label:<24}{count:>16}{v['named_ambient']:>18.0f}{v['unknown']:>11.1f}{se:<7}{v['lines']:>8.1f}")
    if real["vessels_vs_empty"] is not None:
        found = real["vessels_vs_empty"]
        print(f"vessels against an empty sea: AUROC {found['auroc']:.3f} +-{found['auroc_se']:.3f}")
    if real["notes"]:
        print(f"{len(real['notes'])} files left out")


def _pm(values: dict[str, float], key: str) -> str:
    return f"{values[key]:.1f} +-{values[key + '_se']:.1f}"
