"""``tonald inspect``: what a bundle holds, whether it is whole, and whether an engine reproduces it here."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.engines import AUTO_ORDER, EngineReport, open_engine
from models.engines.golden import tolerances
from models.features import FeatureSpec

__all__ = ["add_arguments", "run"]

#: Windows per call of the engine while it is tried.
MAX_BATCH = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, nargs="?", help="folder; by default the shipped bundle")
    parser.add_argument(
        "--engine", choices=("auto", *AUTO_ORDER), help="run the golden data through this engine and print differences"
    )
    parser.add_argument("--precision", choices=("f32", "bf16", "f16"), help="precision of that engine")
    parser.add_argument(
        "--example", metavar="NAME", help="show a representative window, as named in the records' key 'nearest'"
    )
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Load the bundle, which checks every byte, and print what it holds."""
    bundle = Bundle.load(Bundle.shipped() if args.bundle is None else args.bundle)
    if args.example is not None:
        _print_example(bundle, args.example)
        return 0
    report = None
    if args.engine is not None:
        engine, report = open_engine(bundle, args.engine, max_batch=MAX_BATCH, precision=args.precision)
        engine.close()
    if args.json:
        print(json.dumps(_as_json(bundle, report), indent=1, allow_nan=False))
        return 0
    _print_bundle(bundle)
    if report is not None:
        _print_engine(bundle, report)
    return 0


def _print_bundle(bundle: Bundle) -> None:
    m, t = bundle.manifest, bundle.thresholds
    print(f"{bundle.path}: good, every byte matches its hash")
    print(f"  name        {m.name}, id {bundle.id}, made {m.created}")
    print(f"  labels      {', '.join(m.labels)}")
    for i, line in enumerate(describe(bundle.spec)):
        print(f"  {'windows' if not i else '':11} {line}")
    print(f"  network     embedding of {m.n_embedding} numbers, {m.n_representatives} representatives")
    print(f"  explained   {m.explainer}, k = {m.k} channels, fill {m.fill:g}")
    levels = sorted({level for by in t.mix.values() for level in by})
    print("  thresholds  on the score map, by share of source-free cells removed; * is in use")
    head = "".join(f"{level + ('*' if level == t.nominal else ''):>9}" for level in levels)
    print(f"    {'label':16}{head}  unknown beyond  least probability")
    for label, by in t.mix.items():
        row = "".join(f"{by[level]:9.5f}" if level in by else f"{'-':>9}" for level in levels)
        print(f"    {label:16}{row}  {t.unknown_distance[label]:14.3f}  {t.min_probability[label]:17.3f}")
    if t.vessel:
        row = "".join(f"{t.vessel[level]:9.5f}" if level in t.vessel else f"{'-':>9}" for level in levels)
        print(f"    {'(mode vessel)':16}{row}")
    if t.evidence:
        asked = ", ".join(f"{name} {value:.1f}" for name, value in t.evidence.items())
        print(f"  evidence    asked of line tracks: {asked}")
    print(f"  unknown     {'by lines, doubt and distance' if bundle.rejection else 'by distance to the examples'}")
    print(f"  templates   {'of lines that move together, Hz' if bundle.templates.groups else 'none'}")
    for label, groups in bundle.templates.groups.items():
        for n, g in enumerate(groups):
            low, high = (100.0 * (math.exp(s) - 1.0) for s in g.shift)
            lines = ", ".join(f"{f:.1f}" for f in g.freq_hz)
            print(f"    {label if not n else '':16}{lines}  (together by {low:+.1f} to {high:+.1f} %)")
    print(f"  graphs      each proved on {m.n_golden} golden windows")
    for graph in m.graphs:
        wires = f"{', '.join(i.name for i in graph.inputs)} -> {', '.join(o.name for o in graph.outputs)}"
        print(f"    {graph.name + '.' + graph.precision:16}{m.files[graph.file].size / 1024:7.0f} KiB  {wires}")
    print("  training")
    for key, value in m.training.items():
        text = value if isinstance(value, str) else json.dumps(value)
        print(f"    {key:16}{text if len(text) <= 90 else text[:87] + '...'}")
    pages = [name for name in m.files if name.startswith("report/")]
    print(f"  report      {', '.join(pages) if pages else 'none'}")
    print(f"  files       {len(m.files) + 1}, {sum(f.size for f in m.files.values()) / 2**20:.2f} MiB")


def _print_example(bundle: Bundle, name: str) -> None:
    from calibration.examples import read_examples

    example = read_examples(bundle)[name]
    print(f"{example.name}: from {example.clip}, sample {example.first_sample} on")
    print(f"  steady lines, strongest first: {', '.join(f'{f:g} Hz' for f in example.lines_hz) or 'none'}")
    shades = " .:-=+*#%@"
    plane = example.features[0]
    n = plane.shape[1] // 8  # columns averaged, so that steady lines stand out
    smooth = plane[:, : 8 * n].reshape(plane.shape[0], 8, n).mean(axis=2)
    rows = plane.shape[0] // 8
    top = smooth[: rows * 8].reshape(rows, 8, 8).max(axis=1)
    for r in range(rows - 1, -1, -1):
        cells = "".join(6 * shades[min(9, max(0, int(14 * v - 4)))] for v in top[r])
        print(f"  {r * 8 * bundle.spec.bin_hz:6.0f} Hz  {cells}")


def describe(spec: FeatureSpec) -> list[str]:
    """The front end in words, one fact per line."""
    span_s = ((spec.n_time - 1) * spec.hop + spec.n_fft) / spec.fs_model
    return [
        f"{spec.f_lo_hz:g} to {spec.f_hi_hz:g} Hz in {spec.n_freq} rows of {spec.bin_hz:g} Hz",
        f"{span_s:.1f} s in {spec.n_time} columns of {spec.column_s:g} s, a window every {spec.step_s:g} s",
        f"{spec.floor_db:g} to {spec.ceil_db:g} dB over background",
        f"from any source sampled at {spec.fs_model} Hz or more",
    ]


def _print_engine(bundle: Bundle, report: EngineReport) -> None:
    print(f"  engine      {report.name} ({report.precision}) on {report.device}: reproduces the golden outputs")
    for reason in report.reasons:
        print(f"    {reason}")
    for graph, by_output in report.golden_max_abs.items():
        allowed = tolerances(bundle, graph, report.precision)
        for output, difference in by_output.items():
            print(f"    {graph + '.' + output:24} differs by {difference:8.2g}, allowed {allowed[output]:.2g}")
    sys.stdout.flush()


def _as_json(bundle: Bundle, report: EngineReport | None) -> dict[str, Any]:
    m, t = bundle.manifest, bundle.thresholds
    return {
        "path": str(bundle.path),
        "id": bundle.id,
        "name": m.name,
        "created": m.created,
        "labels": list(m.labels),
        "features": m.spec.to_dict(),
        "k": m.k,
        "fill": m.fill,
        "explainer": m.explainer,
        "thresholds": {
            "nominal": t.nominal,
            "mix": _plain(t.mix),
            "unknown_distance": dict(t.unknown_distance),
            "min_probability": dict(t.min_probability),
            "vessel": dict(t.vessel),
            "evidence": dict(t.evidence),
        },
        "templates": bundle.templates.to_dict(),
        "graphs": [f"{g.name}.{g.precision}" for g in m.graphs],
        "n_golden": m.n_golden,
        "n_embedding": m.n_embedding,
        "representatives": list(bundle.representatives.names),
        "training": dict(m.training),
        "files": {name: dataclasses.asdict(info) for name, info in m.files.items()},
        "hashes_ok": True,  # or loading would have raised
        "engine": None
        if report is None
        else {
            "name": report.name,
            "precision": report.precision,
            "device": report.device,
            "reasons": list(report.reasons),
            "golden_max_abs": _plain(report.golden_max_abs),
        },
    }


def _plain(nested: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {key: dict(by) for key, by in nested.items()}
