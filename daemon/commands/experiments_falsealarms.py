"""``tonald experiments falsealarms``: contact starts on source-free sea, asked for and measured."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibration.false_alarms import FILE_NAME, HOURS_PER_DAY, FalseAlarms
from calibration.false_alarms_bundle import put_into_bundle
from daemon.commands.progress import shown
from daemon.config import Config
from daemon.contact_gate import EffectiveRule, measured, rule_of
from models.bundle import Bundle
from models.errors import ConfigError, InputError, UsageError

__all__ = ["add_arguments", "run"]

SCENARIO = "standard"
N_EXPECTED = 30
"""Contacts that the first setting lets expect; 20 are the least that tell anything."""
FACTORS = (1.0, 1.0 / 3.0, 1.0 / 30.0)
"""The first setting, and rarer ones beside it."""
AMBIENT_LABELS, HUM_LABELS = ("ambient", "ambient_2k"), ("ambient_hum",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "Contact starts on source-free sea: the curve by gate, measured on the seed space 'calibrate' unless the "
        "bundle holds one, then the setting 'contacts.false_alarms_per_day' proven on fresh simulated recordings."
    )
    parser.add_argument("--hours", type=float, default=10.0, help="h of fresh source-free sea (default: 10)")
    parser.add_argument("--fresh-seed", type=int, default=0, metavar="N", help="which fresh recordings (default: 0)")
    parser.add_argument(
        "--calibrate-hours", type=float, default=20.0, metavar="H", help="h to measure a curve on (default: 20)"
    )
    parser.add_argument("--recalibrate", action="store_true", help="measure the curve although the bundle holds one")
    parser.add_argument("--curve", type=Path, metavar="FILE", help=f"write the curve there ({FILE_NAME} of a bundle)")
    parser.add_argument("--into", type=Path, metavar="BUNDLE", help="write the bundle once more there, with the curve")
    parser.add_argument("--force", action="store_true", help="--into may replace what stands there")
    parser.add_argument("--only-curve", action="store_true", help="measure and write the curve, prove nothing")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="bundle; the shipped one by default")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings of windows, extraction and contacts")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="real recordings with labels.csv, reported apart")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when all figures are there, whatever they say.

    Raises
    ------
    TonaldError
        If the words do not fit together, or bundle, settings or folders cannot be used.
    """
    _check(args)
    config = Config.load(args.config) if args.config else Config()
    folder = args.bundle or (Path(config.bundle) if config.bundle else Bundle.shipped())
    bundle = Bundle.load(folder)
    from models.engines import open_engine

    engine, _ = open_engine(bundle, "onnxruntime", max_batch=32, n_threads=1)
    try:
        result = _measure(args, config, bundle, engine)
    finally:
        engine.close()
    if args.json is not None:
        _write(args.json, json.dumps(result, indent=1, allow_nan=False) + "\n")
    _tell(result)
    return 0


def _check(args: argparse.Namespace) -> None:
    for word in ("hours", "calibrate_hours"):
        value = getattr(args, word)
        if not (math.isfinite(value) and 0.1 <= value <= 1000.0):
            raise UsageError(f"--{word.replace('_', '-')} {value:g}: must lie in 0.1..1000")
    if args.fresh_seed < 0:
        raise UsageError(f"--fresh-seed {args.fresh_seed}: must not be negative")
    if args.only_curve and args.curve is None and args.into is None:
        raise UsageError("--only-curve: give --curve FILE or --into BUNDLE to write it to")
    for path in (args.json, args.curve):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path}: no such folder {path.parent}")


def _measure(args: argparse.Namespace, config: Config, bundle: Bundle, engine: Any) -> dict[str, Any]:  # noqa: ANN401
    from calibration import recordings
    from calibration.experiments import falsealarms as fa
    from calibration.scenarios import scenario_named
    from daemon.contact_counting import ContactCounter

    scenario, counter = scenario_named(SCENARIO), ContactCounter(bundle, engine, config)
    with shown() as progress:
        alarms = None if args.recalibrate or args.curve or args.into else measured(config, bundle)
        if alarms is None:
            curves = fa.measure_curves(counter, fa.sea_to_calibrate(scenario, args.calibrate_hours), progress=progress)
            alarms = _alarms(config, bundle, curves)
        if args.curve is not None:
            _write(args.curve, alarms.to_json())
        if args.into is not None:
            put_into_bundle(bundle, alarms, args.into, force=args.force)
        result: dict[str, Any] = {"bundle": bundle.id, "synthetic": True, "curve": json.loads(alarms.to_json())}
        if args.only_curve:
            return {**result, "settings": []}
        rules = _settings(config, alarms, args.hours)
        gates = {s: (r.rule.class_gate, r.rule.unknown_gate) for s, r in rules.items()}
        proof = fa.prove(counter, fa.fresh_sea(scenario, args.fresh_seed, args.hours), gates, progress=progress)
        ships = fa.find_ships(counter, scenario, args.fresh_seed, gates, progress=progress)
        real, hum = {}, {}
        if args.data is not None:
            catalogue = recordings.scan(args.data, bundle.spec)
            real = fa.count_real(counter, catalogue, AMBIENT_LABELS, gates)
            hum = fa.count_real(counter, catalogue, HUM_LABELS, gates)
    rows = [
        {**rule.to_dict(), **proof[s], "ships": ships[s], "real_ambient": real.get(s), "real_hum": hum.get(s)}
        for s, rule in rules.items()
    ]
    return {**result, "fresh_seed": args.fresh_seed, "scenario": SCENARIO, "settings": rows}


def _alarms(config: Config, bundle: Bundle, curves: Any) -> FalseAlarms:  # noqa: ANN401
    c, x, hours = config.contacts, config.extract, curves[0].hours
    return FalseAlarms(
        n_start=c.n_start, m=c.m, n_hold=c.n_hold, hop_s=config.window.hop_s, line_snr_db=x.line_snr_db,
        n_lines_unknown=x.n_lines_unknown, mode=x.mode, synthetic=True, bundle=bundle.id, curves=curves,
        data=f"{hours:.1f} h of simulated ocean without vessels (scenario {SCENARIO}, seeds for calibration)",
    )  # fmt: skip


def _settings(config: Config, alarms: FalseAlarms, hours: float) -> dict[float, EffectiveRule]:
    """Settings to prove: one with enough contacts expected, rarer ones, and that of the configuration."""
    first = N_EXPECTED * HOURS_PER_DAY / hours
    must = {round(a, 6) for a in (first, config.contacts.false_alarms_per_day) if a > 0.0}
    asked = must | {round(first * f, 6) for f in FACTORS}
    rules = {s: _rule(config, alarms, s, needed=s in must) for s in sorted(asked, reverse=True)}
    return {s: rule for s, rule in rules.items() if rule is not None}


def _rule(config: Config, alarms: FalseAlarms, per_day: float, *, needed: bool) -> EffectiveRule | None:
    """Rule for one setting; None where it is too rare for the curve and nobody insists."""
    try:
        return rule_of(config, alarms, per_day)
    except ConfigError:
        if needed:
            raise
        return None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as e:
        raise InputError(f"{path}: cannot be written: {e.strerror or e}") from e


def _tell(result: Mapping[str, Any]) -> None:
    curve = result["curve"]
    print(f"bundle {result['bundle']}; curve: {curve['data']}")
    for c in curve["curves"]:
        unit = "log-odds" if c["kind"] == "class" else "lines"
        print(f"\ngate of {c['kind']:<8} ({unit:>8})   starts   in recordings   per hour   95 % interval")
        last = None
        for gate, n, seas, rate, (lo, hi) in zip(
            c["gates"], c["counts"], c["recordings"], c["per_hour"], c["interval_95_per_hour"], strict=True
        ):
            if n != last:
                print(f"{gate:>28.2f}{n:>9}{seas:>16}{rate:>11.3f}   {lo:.3f}..{hi:.3f}")
            last = n
    for row in result["settings"]:
        _tell_setting(row)


def _tell_setting(row: Mapping[str, Any]) -> None:
    lo, hi = row["interval_95_per_day"]
    print(f"\nasked for {row['false_alarms_per_day']:g} starts per day and channel: {row['words']}")
    print(f"  fresh simulated sea  {row['n_starts']} starts in {row['hours']:.1f} h of {row['n_recordings']} "
          f"recordings ({row['n_expected']:.1f} expected by the setting): {row['per_day']:.1f} +- "
          f"{row['per_day_se']:.1f} per day, 95 % {lo:.1f}..{hi:.1f}; twice nominal is "
          f"{'not exceeded' if row['holds'] else 'EXCEEDED'}")  # fmt: skip
    if row["dispersion"] is not None:
        by = ", ".join(f"{label} {n}" for label, n in row["by_label"].items())
        print(f"  of which             {by}; variance over mean between recordings {row['dispersion']:.2f}")
    for label, s in row["ships"].items():
        soon = "" if s["median_s"] is None else f", after {s['median_s']:.0f} s (median)"
        print(f"  {label:<20} found in {s['found']:.0f} % of {s['n_recordings']} fresh recordings of a minute{soon}; "
              f"another class named in {s['misnamed']:.0f} %")  # fmt: skip
    for name, r in (("real ambient", row["real_ambient"]), ("real, mains hum", row["real_hum"])):
        if r is not None:
            lo, hi = r["interval_95_per_day"]
            by = ", ".join(f"{label} {n}" for label, n in r["by_label"].items()) or "none"
            print(f"  {name:<20} {r['n_starts']} starts in {60 * r['hours']:.1f} min, 95 % {lo:.0f}..{hi:.0f} per day: "
                  f"{by}")  # fmt: skip
