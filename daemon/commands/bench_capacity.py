"""``tonald bench capacity``: how many channels this machine sustains in real time, and where the time goes."""

from __future__ import annotations

import argparse
import cProfile
import functools
import json
import os
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.commands.progress import shown
from models.errors import InputError, UsageError

__all__ = ["add_arguments", "run"]

SHARES = {"contacts_10": 0.1, "contacts_100": 1.0}
STEP = 8
#: Probes of a share, if one of them passes, before the confirmation: so that both fit into 25 minutes.
N_PROBES = 2
#: A probe whose p99 latency takes more of the hop than this is confirmed a step lower.
CLOSE = 0.8
#: Stage to what profiles call it: file and function whose cumulative time is the stage's.
STAGES = {
    "handing out blocks": ("capacity.py", "read"),
    "digest": ("digest.py", "process"),
    "front end": ("features.py", "process"),
    "DEMON": ("daemon/demon.py", "process"),
    "checks of channels": ("checks/channel.py", "process"),
    "line tracks": ("tracks.py", "find_all"),
    "hearing (templates)": ("hearing.py", "hear"),
    "network (engine)": ("engines/", "run"),
    "explainer, all": ("explainer.py", "explain"),
    "extraction": ("extract.py", "process"),
    "contacts": ("contacts.py", "process"),
    "records and publishing": ("records.py", "process"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "Find by bisection the largest number of channels that this machine processes in real time without losing a "
        "sample, for a tenth and for all of the channels with a vessel, and confirm it by a longer run. The settings "
        "are those of a daemon as installed. Takes about 25 minutes, and up to ten more per confirmation that fails."
    )
    parser.add_argument("--fs", type=int, default=32_000, help="sample rate per channel, Hz (32000)")
    parser.add_argument("--probe-seconds", type=float, default=60.0, metavar="S", help="length of a probe (60)")
    parser.add_argument("--confirm-seconds", type=float, default=600.0, metavar="S", help="of the confirmation (600)")
    parser.add_argument("--most", type=int, default=256, metavar="N", help="channels at most (256)")
    parser.add_argument("--channels", type=int, metavar="N", help="probe this number alone, without a search")
    parser.add_argument("--engine", default="auto", help="engine (auto)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads of the engine; 0: all cores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when all figures are there.

    Raises
    ------
    TonaldError
        If bundle, engine or words cannot be used.
    """
    if args.probe_seconds < 12.0 or args.confirm_seconds < 12.0:
        raise UsageError("probes shorter than 12 s hold hardly a window: give --probe-seconds 12 or more")
    if not STEP <= args.most <= 4096 or (args.channels is not None and not 1 <= args.channels <= 4096):
        raise UsageError(f"numbers of channels go from {STEP} to 4096")
    if args.json is not None and not args.json.parent.is_dir():
        raise InputError(f"{args.json}: no such folder {args.json.parent}")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tonald-") as scratch:
        result = _measure(args, Path(scratch))
    result["took_s"] = time.monotonic() - begun
    _tell(result)
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as e:
            raise InputError(f"{args.json}: cannot be written: {e.strerror}") from e
    return 0


def _measure(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    from calibration.bench.cpu import cpu_name
    from daemon.capacity import PacedSource, Probe, probe, render
    from daemon.capacity_search import TRIED, cost_of, largest, lower, predicted
    from daemon.compose import Composition
    from daemon.config import Config
    from daemon.publisher import Publisher
    from daemon.records import Recorder
    from daemon.site_state import Site
    from daemon.wire import Identity
    from models.bundle import Bundle
    from models.engines import open_engine
    from models.explainer import graphs_of

    config = Config()
    bundle = Bundle.load(Bundle.shipped())
    n_threads = args.threads or os.cpu_count() or 1
    engine, report = open_engine(
        bundle, args.engine, max_batch=config.engine.max_batch, n_threads=n_threads, graphs=graphs_of(bundle)
    )
    composition = Composition.of(config, bundle, engine, Site(None))
    identity = Identity.new("capacity", bundle.id)
    publisher = Publisher(identity, (f"ipc://{scratch}/out",), hwm=config.publish.hwm)
    publisher.start()
    probes: list[Probe] = []
    with shown() as progress:
        bank = render(scratch, args.fs, progress)

        def once(n: int, share: float, seconds: float) -> Probe:
            source = PacedSource(bank, n, share, seconds)
            recorder = Recorder(identity, composition.spec, bundle.labels)
            found = probe(
                composition.pipeline(), recorder, publisher, source, seconds, share=share, hop_s=config.window.hop_s
            )
            probes.append(found)
            progress(
                f"{n} channels, {100 * share:.0f} % with a vessel: {'kept up' if found.passed else 'too many'}", 1, 1
            )
            return found

        def passes(share: float, n: int) -> bool:
            tried = once(n, share, args.probe_seconds)
            found_at[share, n] = tried.p99_ms
            return tried.passed

        channels: dict[str, int] = {}
        found_at: dict[tuple[float, int], float] = {}
        for key, share in SHARES.items():
            if args.channels is not None:
                channels[key] = args.channels if once(args.channels, share, args.probe_seconds).passed else 0
                continue
            few, many = (cost_of(composition.pipeline(), bank, n, share) for n in TRIED)
            guess = predicted(few, many, config.window.hop_s)
            progress(f"{100 * share:.0f} % with a vessel, without a pace: about {guess} channels", 1, 1)
            n = largest(functools.partial(passes, share), guess, STEP, args.most, N_PROBES)
            if n and found_at[share, n] > CLOSE * config.window.hop_s * 1e3:
                n = lower(n, STEP)  # ten minutes hold worse moments than one
            while n and not once(n, share, args.confirm_seconds).passed:
                n = lower(n, STEP)
            channels[key] = n
        profiled = once_profiled(lambda: once(min(n for n in [*channels.values(), 8] if n) or 8, 1.0, 20.0))
        cost = {n: once(n, 0.1, args.probe_seconds).cpu_share / n for n in (8, 128) if n <= max(channels.values())}
    publisher.close(1.0)
    engine.close()
    return {
        "channels": channels,
        "mode": config.explanation.mode,
        "fs": args.fs,
        "engine": str(report),
        "n_threads": n_threads,
        "cpu": cpu_name(),
        "n_cores": os.cpu_count(),
        "bundle": bundle.id,
        "core_share_per_channel": {str(n): c for n, c in cost.items()},
        "probes": [p.to_dict() for p in probes],
        "profile": profiled,
    }


def once_profiled(call: Callable[[], object]) -> dict[str, float]:
    """Share of the processing time by stage, per cent; the profiler itself slows Python down, not what it calls."""
    profiler = cProfile.Profile()
    profiler.enable()
    call()
    profiler.disable()
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    busy = sum(own for (file, _, name), (_, _, own, _, _) in stats.items() if "sleep" not in name)
    out = {}
    for stage, (file, function) in STAGES.items():
        spent = [total for (f, _, name), (_, _, _, total, _) in stats.items() if file in f and name == function]
        slept = [total for (_, _, name), (_, _, _, total, _) in stats.items() if "sleep" in name]
        value = max(spent, default=0.0) - (sum(slept) if function == "read" else 0.0)
        out[stage] = 100.0 * max(value, 0.0) / busy
    return out


def _tell(r: dict[str, Any]) -> None:
    print(f"{r['cpu']}, {r['n_cores']} cores; {r['engine']}, {r['n_threads']} threads; bundle {r['bundle']}, "
          f"mode {r['mode']}, {r['fs']} Hz, one window per second and channel")  # fmt: skip
    print("\nchannels  vessel on  seconds  windows  lost samples  p50, ms  p99, ms  worst lag, s  cores  feeder")
    for p in r["probes"]:
        share = 100 * p["share"]
        print(f"{p['n_channels']:8d}  {share:7.0f} %  {p['seconds']:7.0f}  {p['n_windows']:7d}  {p['n_lost']:12d}"
              f"  {p['p50_ms']:7.0f}  {p['p99_ms']:7.0f}  {p['worst_lag_s']:12.2f}  {p['cpu_share']:5.2f}  "
              f"{p['feed_share']:6.3f}{'' if p['passed'] else '  too many'}")  # fmt: skip
    print("\nshare of the processing time by stage (profiled; stages within others are counted in both):")
    for stage, share in r["profile"].items():
        print(f"  {stage:24s}{share:5.1f} %")
    for n, c in r["core_share_per_channel"].items():
        print(f"per channel at {n}: {1e3 * c:.2f} thousandths of a core")
    print(f"took {r['took_s'] / 60:.1f} minutes")
    for key, n in r["channels"].items():
        print(f"{key}: {n} channels sustained")
