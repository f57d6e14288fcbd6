"""``tonald experiments demon``: shaft rates of simulated propellers, of noise, and of labelled recordings."""

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
    parser.add_argument("--fresh-seed", type=int, default=0, metavar="N", help="draws the simulated propellers (0)")
    parser.add_argument("--propellers", type=int, default=100, metavar="N", help="of each kind (100)")
    parser.add_argument("--noise", type=int, default=200, metavar="N", help="recordings without a propeller (200)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="real recordings with labels.csv, reported apart")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from calibration.experiments import demon

    with shown() as progress:
        result = demon.run(args.fresh_seed, args.propellers, args.noise, args.data, progress)
    print(f"SIMULATED propellers, 62 s, seed {result['fresh_seed']}, per cent:")
    print("  depth  hiss over sea   found        right        a multiple   blades")
    for r in result["simulated"]:
        cells = "  ".join(f"{r[k]:5.1f} +- {r[f'{k}_se']:3.1f}" for k in ("found", "right", "multiple", "blades"))
        print(f"  {r['depth']:5.1f}  {r['snr_db']:10.0f} dB  {cells}")
    noise = result["noise"]
    print(f"noise alone: {noise['found']:.1f} % of {noise['n']} found, highest score {noise['highest_score']:.1f} nats")
    if result["real"] is not None:
        _print_real(result["real"])
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        except OSError as e:
            raise InputError(f"{args.json}: cannot be written: {e.strerror}") from e
    return 0


def _print_real(real: dict[str, Any]) -> None:
    print("real recordings, labels by hand (shaft Hz / blades):")
    for r in real["rows"]:
        if r["cls"].startswith("vessel") or r["found"] or r["pulses"]:
            label = "      -  " if r["label_hz"] is None else f"{r['label_hz']:6.3f}/{r['label_blades']}"
            told = "pulses" if r["pulses"] else f"{r['blades']} blades" if r["found"] else "not found"
            ratio = 1.0 if r["label_hz"] is None else r["shaft_hz"] / r["label_hz"]
            right = "" if r["right"] is None else "right" if r["right"] else f"wrong ({ratio:.2f} of the label)"
            clear = "" if r["clear"] or r["label_hz"] is None else "unclear "
            name = r["recording"][-40:]
            print(f"  {name:40s} {label}  {r['shaft_hz']:6.3f} {told:9s} {r['score']:4.0f}  {clear}{right}")
    if real["n_clear"]:
        print(
            f"of {real['n_clear']} labelled clear: {real['right']:.0f} % right, {real['right_or_multiple']:.0f} % "
            f"right or a simple multiple, blades {real['blades']:.0f} %"
        )
    if real["n_without_vessel"]:
        print(
            f"of {real['n_without_vessel']} without a listed vessel: {real['found_without_vessel']:.0f} % found; "
            f"{real['n_rate_too_low']} of too low a rate, {real['n_too_short']} too short"
        )
