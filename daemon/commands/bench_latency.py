"""``tonald bench latency``: from the arrival of the block that completes a window to the message at a subscriber."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from daemon.commands.bench_words import Target, add_json, check_json, positive, tell_targets, write_json
from daemon.commands.progress import shown
from models.errors import UsageError

__all__ = ["add_arguments", "run"]

SHARES = {"contacts_10": 0.1, "contacts_100": 1.0}
P50_MS, P99_MS = 30.0, 100.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "Milliseconds from the arrival in the capture ring of the block that completes a window to the window's "
        "message, decoded, in a subscriber of another process; in real time, for a tenth and for all of the channels "
        "with a vessel. The settings are those of a daemon as installed."
    )
    parser.add_argument("--fs", type=int, default=32_000, help="sample rate per channel, Hz (32000)")
    parser.add_argument("--channels", type=int, default=8, metavar="N", help="number of channels (8)")
    parser.add_argument("--seconds", type=float, default=120.0, metavar="S", help="length of each run (120)")
    parser.add_argument("--engine", default="auto", help="engine (auto)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads of the engine; 0: all cores")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when all figures are there.

    Raises
    ------
    TonaldError
        If bundle, engine or words cannot be used, or no message came.
    """
    positive("--seconds", args.seconds, 10.0)
    if not 1 <= args.channels <= 4096:
        raise UsageError(f"--channels {args.channels}: numbers of channels go from 1 to 4096")
    check_json(args.json)
    with tempfile.TemporaryDirectory(prefix="tonald-") as scratch:
        result = _measure(args, Path(scratch))
    targets = [
        Target(f"{name}, {key.replace('_', ' ')} %", r[figure], most, "ms")
        for key, r in result["runs"].items()
        for name, figure, most in (("p50", "p50_ms", P50_MS), ("p99", "p99_ms", P99_MS))
    ]
    result["targets"] = [t.to_dict() for t in targets]
    write_json(args.json, result)
    _tell(result)
    tell_targets(targets)
    return 0


def _measure(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    from calibration.bench.cpu import cpu_name
    from daemon.capacity import render
    from daemon.compose import Composition
    from daemon.config import Config
    from daemon.measure.latency import RING_BLOCK_S, run_latency
    from daemon.publisher import Publisher
    from daemon.records import Recorder
    from daemon.site_state import Site
    from daemon.wire import Identity
    from models.bundle import Bundle
    from models.engines import open_engine
    from models.explainer import graphs_of

    config, bundle = Config(), Bundle.load(Bundle.shipped())
    n_threads = args.threads or os.cpu_count() or 1
    engine, report = open_engine(
        bundle, args.engine, max_batch=config.engine.max_batch, n_threads=n_threads, graphs=graphs_of(bundle)
    )
    runs = {}
    try:
        with shown() as progress:
            bank = render(scratch, args.fs, progress)
            for i, (key, share) in enumerate(SHARES.items()):
                progress("runs at pace", i, len(SHARES))
                composition = Composition.of(config, bundle, engine, Site(None))
                identity = Identity.new("latency", bundle.id)
                publisher = Publisher(identity, (f"ipc://{scratch}/{key}",), hwm=config.publish.hwm)
                publisher.start()
                try:
                    runs[key] = run_latency(
                        composition.pipeline(), Recorder(identity, composition.spec, bundle.labels), publisher, bank,
                        scratch, n_channels=args.channels, share=share, seconds=args.seconds,
                        n_expected=args.channels * composition.spec.n_windows(args.fs, round(args.seconds * args.fs)),
                    ).to_dict()  # fmt: skip
                finally:
                    publisher.close(1.0)
            progress("runs at pace", len(SHARES), len(SHARES))
    finally:
        engine.close()
    return {
        "runs": runs, "fs": args.fs, "ring_block_s": RING_BLOCK_S, "engine": str(report), "n_threads": n_threads,
        "mode": config.explanation.mode, "cpu": cpu_name(), "n_cores": os.cpu_count(), "bundle": bundle.id,
    }  # fmt: skip


def _tell(r: dict[str, Any]) -> None:
    print(f"{r['cpu']}, {r['n_cores']} cores; {r['engine']}, {r['n_threads']} threads; bundle {r['bundle']}, "
          f"mode {r['mode']}, {r['fs']} Hz, blocks of {1e3 * r['ring_block_s']:g} ms")  # fmt: skip
    print("\nchannels  vessel on  seconds  windows  of  with signature  lost messages  p50, ms    p90    p99    max")
    for x in r["runs"].values():
        print(f"{x['n_channels']:8d}  {100 * x['share']:7.0f} %  {x['seconds']:7.0f}  {x['n_windows']:7d}  "
              f"{x['n_expected']:<5d}{x['n_with_signature']:13d}  {x['n_lost_messages']:13d}  {x['p50_ms']:7.1f}"
              f"  {x['p90_ms']:5.1f}  {x['p99_ms']:5.1f}  {x['max_ms']:5.1f}")  # fmt: skip
        parts = ", ".join(f"{name} {ms:.1f}" for name, ms in x["parts_p50_ms"].items())
        print(f"          medians of the parts, ms: {parts}")
