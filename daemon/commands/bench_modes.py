"""``tonald bench modes``: what a window costs on board, mode by mode, beside the plain fused graph."""

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

#: The slow path is checked once in so many detections; its cost is shared out over them.
CHECK_EVERY = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "Milliseconds per window with a detection, in turns: the plain fused graph (class and Score-CAM at the "
        "bundle's k), the live mode, the full explanation, the parts of each, and the extraction behind them."
    )
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="bundle; the shipped one by default")
    parser.add_argument("--engine", default="onnxruntime", help="engine (default: onnxruntime)")
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="threads of the engine (default: all)")
    parser.add_argument(
        "--seconds-per-cell", type=float, default=6.0, metavar="S", help="time for each row (default: 6)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when all figures are there.

    Raises
    ------
    TonaldError
        If the bundle cannot be used or the engine does not work here.
    """
    if not (math.isfinite(args.seconds_per_cell) and args.seconds_per_cell > 0.0):
        raise UsageError(f"--seconds-per-cell {args.seconds_per_cell:g}: must be more than 0")
    if args.json is not None and not args.json.parent.is_dir():
        raise InputError(f"{args.json}: no such folder {args.json.parent}")
    bundle = Bundle.load(Bundle.shipped() if args.bundle is None else args.bundle)
    with shown() as progress:
        progress("turns", 0, 1)
        result = _measure(bundle, args)
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"{result['engine']}; bundle {bundle.manifest.name} {bundle.id}, k = {bundle.k}")
    print(f"one window with a detection per call; {result['n_rounds']} rounds\n")
    print(f"{'':<58}{'ms':>9}{'x plain fused':>15}")
    for row in result["rows"]:
        print(f"{row['what']:<58}{row['ms']:>9.2f}{row['ratio']:>15.2f}")
    print("\nmedian of the rounds; ratios are paired by round")
    return 0


def _measure(bundle: Bundle, args: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from calibration.bench.rounds import ratio, timed
    from calibration.ocean import simulate
    from calibration.scenarios import scenario_named
    from daemon.extract import Extractor, Limits
    from daemon.frames import Window
    from models.engines import open_engine
    from models.explainer import STUDENT, Explainer
    from models.features import windows_of
    from models.line_template import TemplateFitter
    from models.tracks import TrackFinder

    engine, report = open_engine(bundle, args.engine, max_batch=16, n_threads=args.threads)
    spec = bundle.spec
    live, full = Explainer(bundle, engine), Explainer(bundle, engine, "full")
    sea = scenario_named("standard")
    found = []
    for label in sea.labels:
        w = next(windows_of(spec, spec.fs_model, simulate(sea, "demo", 0, label, 10.0, spec.fs_model).x))
        if live.explain(w.features, w.spectrum_db)[0].detections:
            found.append(w)
    if not found:
        raise InputError("this bundle detects nothing in the windows of the simulated ocean: nothing to time")
    finder, fitter = TrackFinder(spec), TemplateFitter(bundle.templates, spec)
    extractor = Extractor(spec, Limits.of(bundle.thresholds, bundle.thresholds.nominal, 2.0, 0))
    tracks = [finder.find(w.spectrum_db[0]) for w in found]
    verdicts = [live.explain(w.features, w.spectrum_db)[0] for w in found]
    windows = [
        Window("s", "ch0", 0, 0, 0, w.n_samples, spec.fs_model, w.features[0], w.spectrum_db[0], w.background_db[0],
               float(w.level_db[0]), "")
        for w in found
    ]  # fmt: skip
    turn = {"n": 0}

    def of(call: Any) -> Any:  # noqa: ANN401  (each row takes other arguments)
        def one() -> object:
            turn["n"] += 1
            return call(turn["n"] % len(found))

        return one

    cls = np.zeros(1, np.int32)
    calls: dict[str, Any] = {
        "plain fused graph (class and Score-CAM)": of(lambda i: engine.run("fused", {"features": found[i].features})),
        "live mode, whole": of(lambda i: live.explain(found[i].features, found[i].spectrum_db)),
        "full explanation, whole": of(lambda i: full.explain(found[i].features, found[i].spectrum_db)),
        "  classify (one forward pass)": of(lambda i: engine.run("classify", {"features": found[i].features})),
        "  line tracks (numpy)": of(lambda i: finder.find(found[i].spectrum_db[0])),
        "  templates of all classes (numpy)": of(lambda i: fitter.on(tracks[i]).fits()),
        "extraction, mode signature (numpy)": of(lambda i: extractor.process(windows[i], verdicts[i])),
    }
    if bundle.thresholds.vessel:
        vessel = Extractor(spec, Limits.of(bundle.thresholds, bundle.thresholds.nominal, 2.0, 0), "vessel")
        calls["extraction, mode vessel (numpy)"] = of(lambda i: vessel.process(windows[i], verdicts[i]))
    if STUDENT in engine.graphs:
        calls["  student"] = of(lambda i: engine.run(STUDENT, {"features": found[i].features, "cls": cls}))
    seconds = timed(list(calls.values()), args.seconds_per_cell)
    engine.close()
    names = list(calls)
    plain = seconds[:, 0]
    rows = [
        {"what": n, "ms": 1e3 * float(np.median(seconds[:, i])), "ratio": ratio(seconds[:, i], plain)}
        for i, n in enumerate(names)
    ]
    amortised = seconds[:, 1] + seconds[:, 2] / CHECK_EVERY
    rows.insert(
        2,
        {
            "what": f"live mode, a full check every {CHECK_EVERY} detections included",
            "ms": 1e3 * float(np.median(amortised)), "ratio": ratio(amortised, plain),
        },
    )  # fmt: skip
    return {"engine": str(report), "bundle": bundle.id, "k": bundle.k, "n_rounds": len(seconds), "rows": rows}
