"""``tonald bench window``: one table, all contestants, one run."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from daemon.commands.progress import shown
from models.bundle import Bundle
from models.errors import InputError, UsageError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "Milliseconds per explained window (class and Score-CAM): the fused graph on OpenVINO and ONNX Runtime, the "
        "torch reference, and the ScoreCAM of pytorch-grad-cam and torch-cam, on the same network, windows and "
        "threads, in turns. Needs the extra 'train'; the peers are in requirements-peers.txt."
    )
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="bundle; the shipped one by default")
    parser.add_argument(
        "--seconds-per-cell", type=float, default=6.0, metavar="S",
        help="time for each contestant at each batch size, at least five rounds (default: 6)",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="recordings: how true the maps are is told of their windows, too"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when all figures are there.

    Raises
    ------
    TonaldError
        If the bundle cannot be used, no engine works, or the contestants do not compute the same.
    """
    if not (math.isfinite(args.seconds_per_cell) and args.seconds_per_cell > 0.0):
        raise UsageError(f"--seconds-per-cell {args.seconds_per_cell:g}: must be more than 0")
    if args.json is not None and not args.json.parent.is_dir():
        raise InputError(f"{args.json}: no such folder {args.json.parent}")
    bundle = Bundle.load(Bundle.shipped() if args.bundle is None else args.bundle)
    from calibration.bench.window import bench_window

    with shown() as progress:
        result = bench_window(bundle, args.seconds_per_cell, args.data, progress)
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as e:
            raise InputError(f"{args.json}: cannot be written: {e.strerror or e}") from e
    _tell(result)
    return 0


def _tell(r: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {v}" for name, v in r["versions"].items() if v is not None)
    print(f"{r['cpu']}, {r['n_threads']} threads\n{versions}")
    print(f"bundle {r['bundle']['name']} {r['bundle']['id']}, k = {r['k']} of {r['n_channels']} channels; "
          f"windows: {r['windows']}")  # fmt: skip
    for note in r["notes"]:
        print(f"note: {note}")
    _tell_checks(r["checks"])
    for name, found in r["fidelity"].items():
        print(f"maps of the likeliest vessel against Score-CAM by all channels, {found['n_windows']} {name} windows: "
              f"overlap (IoU) {found['iou']:.3f}, rank correlation {found['rank_correlation']:.3f}")  # fmt: skip
    if r["trade_off"] is not None:
        _tell_trade_off(r["trade_off"])
    print("\nms per window: median of the rounds, quartiles; ratio: faster peer's time / this row's, paired by round")
    for batch in dict.fromkeys(row["batch"] for row in r["rows"]):
        rows = [row for row in r["rows"] if row["batch"] == batch]
        head = f"batch {batch}, {rows[0]['n_rounds']} rounds"
        print(f"\n{head:<32}{'channels':>9}{'ms':>9}{'quartiles':>17}"
              f"{'ratio':>8}   done as")  # fmt: skip
        for row in rows:
            lo, hi = row["quartiles_ms"]
            ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
            print(f"{row['contestant'] + ' ' + row['precision']:<32}{row['channels']:>9}{row['ms_per_window']:>9.2f}"
                  f"{f'{lo:.2f}..{hi:.2f}':>17}{ratio:>8}   {row['way']}")  # fmt: skip
    for key, steps in r["factors"].items():
        told = ", ".join(f"{name} {value:.2f}" for name, value in steps.items())
        print(f"\n{key.replace('_', ' ')}, against all channels in plain torch: {told}", end="")
    print("\n\nthe whole call beside its convolutions alone, each on the fastest of ONNX Runtime, OpenVINO and torch:")
    for name, found in r["limit"].items():
        print(
            f"  {name:<26} {found['ms']:8.2f} ms, convolutions alone {found['limit_ms']:.2f} ms: "
            f"{found['gflop_per_s']:.0f} of {found['limit_gflop_per_s']:.0f} GFLOP/s, {found['share']:.2f} of the limit"
        )
    print()
    for key, value in r["speedup"].items():
        told = "no peer to compare with" if value is None else f"{value:.2f} times the faster peer"
        print(f"best f32 engine, {key.replace('_', ' ')}: {told}")


def _tell_checks(checks: list[dict[str, Any]]) -> None:
    print("checked before timing, on the same windows:")
    for c in checks:
        if "cam_max_abs" in c:
            name = f"{c['contestant']} {c['precision']}"
            print(
                f"  {name:<30} logits within {c['logits_max_abs']:.1e} of torch, maps within {c['cam_max_abs']:.1e} of "
                f"each other; to Score-CAM by all channels: overlap {c['iou']:.3f}, rank correlation "
                f"{c['rank_correlation_full']:.3f}"
            )
        else:
            mine, own = (_number(c[key]) for key in ("rank_correlation", "rank_correlation_own_form"))
            print(f"  {c['contestant']:<30} rank correlation with the torch reference {mine}; computed in the peer's "
                  f"form {own}")  # fmt: skip


def _tell_trade_off(found: dict[str, Any]) -> None:
    """What calibration measured on windows held out: overlap and rank correlation for each number of passes."""
    table: dict[str, dict[int, str]] = {}
    for row in found["curve"]:
        name = f"coarse passes, {row['n_columns']} columns"
        table.setdefault(f"{name}, weights told", {})[row["k"]] = f"{row['iou']:.2f} {row['rank_correlation']:.3f}"
    for row in found["chosen"]:
        name = f"only the channels of greatest {row['criterion']}"
        table.setdefault(name, {})[row["k"]] = f"{row['iou']:.2f} {row['rank_correlation']:.3f}"
    passes = sorted({k for row in table.values() for k in row})
    head = "".join(f"{k:>12}" for k in passes)
    print("\ntrade-off, measured at calibration on windows held out: overlap (IoU) and rank correlation to Score-CAM")
    print(f"by all channels for each number of passes; this bundle does {found['k']}\n{'':<42}{head}")
    for name, row in table.items():
        print(f"{name:<42}" + "".join(f"{row.get(k, '-'):>12}" for k in passes))


def _number(value: float | None) -> str:
    return "- (flat maps)" if value is None else f"{value:.3f}"
