"""``tonald bench window``: milliseconds per explained window, engines against public libraries, in one run."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from calibration.bench import contestants
from calibration.bench.checks import check, true_to_all
from calibration.bench.contestants import Contestant, Way
from calibration.bench.cpu import cpu_name
from calibration.bench.limit import distance_to_limit
from calibration.bench.rounds import fastest, ratio, timed
from calibration.dataset import AMBIENT, Progress, clips_of, collect, no_progress, simulated_clips
from calibration.recordings import scan_tree
from calibration.scenarios import SCENARIOS
from models.bundle import Bundle
from models.engines.base import usable_cores
from models.features import FeatureSpec
from models.import_onnx import spec_cnn_from_onnx
from models.weigher import Weigher

__all__ = ["BATCHES", "bench_window", "recorded_windows", "windows_for_bench"]

F32 = npt.NDArray[np.float32]

BATCHES = (1, 32)
SCENARIO = "standard"
MOST_RECORDED = 64
DISTRIBUTIONS = ("numpy", "torch", "openvino", "onnxruntime", "grad-cam", "torchcam", "opencv-python-headless")


def bench_window(
    bundle: Bundle, seconds_per_cell: float, folder: Path | None = None, progress: Progress = no_progress
) -> dict[str, Any]:
    """Measure; the result is what ``--json`` writes.

    Parameters
    ----------
    seconds_per_cell
        Time for one contestant at one batch size, all rounds together. A slow one still gets five rounds.
    folder
        Recordings: how true the maps are is told of their windows, too.

    Returns
    -------
    dict
        ``speedup``: per batch size the median over the rounds of the faster peer's time over that of the best engine in
        f32, None without a peer. ``rows``: one per contestant and batch size; ``ratio`` is the faster peer's time over
        the row's. ``trade_off``: what calibration measured of other numbers of passes, None where the bundle came
        without its report. ``checks``: see `calibration.bench.checks`; ``limit``: see `calibration.bench.limit`.

    Raises
    ------
    BundleError
        If the bundle holds no fused graph or no Spec-CNN.
    EngineError
        If no engine works in f32, or one computes something else than torch does.
    """
    n_threads = usable_cores()
    network = spec_cnn_from_onnx(bundle.graph_bytes("classify", "f32"))
    x = windows_for_bench(bundle.spec, max(BATCHES), progress)
    kept = bundle.path / "report" / "weigher.npz"
    weigher = Weigher.load(kept) if kept.is_file() else None
    engines, notes = contestants.engines(bundle, max(BATCHES), n_threads)
    try:
        with _torch_threads(n_threads):
            found, absent = contestants.peers(network)
            notes += absent
            checks = check(network, x, bundle.manifest.fill, engines, found)
            everyone = [*engines, *contestants.references(network, bundle.k, bundle.manifest.fill, weigher), *found]
            trueness = {"simulated": true_to_all(network, engines[0], x, bundle.manifest.fill)}
            if folder is not None:
                real = recorded_windows(bundle.spec, folder, progress)
                trueness["recorded"] = true_to_all(network, engines[0], real, bundle.manifest.fill)
            rows = _race(everyone, x, seconds_per_cell, progress)
            limits = {
                f"{c.name.removeprefix('tonald, ')}, batch {n}": distance_to_limit(
                    bundle, c.engine, x[:n], n_threads, 0.25 * seconds_per_cell
                )
                for c in engines
                if c.engine is not None and c.precision == "f32"
                for n in BATCHES
            }
    finally:
        for c in engines:
            if c.engine is not None:
                c.engine.close()
    return {
        "speedup": {f"batch_{n}": _speedup(rows, n) for n in BATCHES},
        "rows": rows,
        "factors": {f"batch_{n}": _factors(rows, n) for n in BATCHES},
        "limit": limits,
        "checks": checks,
        "fidelity": trueness,
        "trade_off": _trade_off(bundle),
        "notes": notes,
        "cpu": cpu_name(),
        "n_threads": n_threads,
        "k": bundle.k,
        "n_channels": network.n_channels,
        "bundle": {"name": bundle.manifest.name, "id": bundle.id},
        "windows": f"{len(x)} of scenario {SCENARIO}, test seeds",
        "seconds_per_cell": seconds_per_cell,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in DISTRIBUTIONS},
        "units": "milliseconds per window, medians over rounds; ratio: the faster peer's time over the row's, "
        "median of the ratios within a round",
    }


def _trade_off(bundle: Bundle) -> dict[str, Any] | None:
    """Of the bundle's report: fidelity by number of passes and columns, and by criterion for choosing channels."""
    path = bundle.path / "report" / "report.json"
    if not path.is_file():
        return None
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")).get("score_cam")
    return found


def windows_for_bench(spec: FeatureSpec, n: int, progress: Progress = no_progress) -> F32:
    """``n`` simulated windows ``(n, n_planes, n_freq, n_time)`` of test seeds, all classes and ambient in turn."""
    scenario = SCENARIOS[SCENARIO]
    labels = (*scenario.labels, AMBIENT)
    per_label = -(-n // len(labels))
    # the grid ends with the last whole window: per_label windows without common samples, and one to spare
    seconds = (per_label + 1) * spec.n_time * spec.hop / spec.fs_model + spec.n_fft / spec.fs_model
    clips = simulated_clips(scenario, "test", 1, seconds, fs=spec.fs_model)
    every = spec.n_time // spec.n_time_step
    windows = collect(clips, spec, labels, every=every, what="windows", progress=progress)
    in_turn = np.argsort(np.concatenate([np.arange(c) for c in windows.counts().values()]), kind="stable")
    return np.ascontiguousarray(windows.features[in_turn[:n]])


def recorded_windows(spec: FeatureSpec, folder: Path, progress: Progress = no_progress) -> F32:
    """The first window of each recording below ``folder``, at most `MOST_RECORDED`, evenly taken.

    Raises
    ------
    InputError
        If there is none.
    """
    clips = clips_of(scan_tree(folder, spec, "recorded"))
    clips = [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, min(len(clips), MOST_RECORDED)).astype(int))]
    return collect(clips, spec, ("recorded", AMBIENT), every=10**6, what="recordings", progress=progress).features


def _race(everyone: Sequence[Contestant], x: F32, seconds: float, progress: Progress) -> list[dict[str, Any]]:
    """Choose each contestant's fastest way, then time all cells together."""
    cells: list[tuple[Contestant, int, Way]] = []
    for i, c in enumerate(everyone):
        progress("trying", i, len(everyone))
        alone: Way | None = None
        for n in BATCHES:
            ways = [*c.ways(n), *([contestants.in_pieces(alone, 1)] if alone else [])]
            way = ways[fastest([_call(w, x[:n]) for w in ways])]
            alone = alone or way
            cells.append((c, n, way))
    progress("trying", len(everyone), len(everyone))
    # a batch size at a time: the calls of one round are then alike in length, so their ratios share the same minute
    rows = []
    for n in BATCHES:
        own = [(c, way) for c, m, way in cells if m == n]
        told = functools.partial(progress, f"batch {n}")
        times = timed([_call(way, x[:n]) for _, way in own], seconds, told=told)
        rows += _rows(own, n, times)
    return rows


def _call(way: Way, x: F32) -> Callable[[], object]:
    return lambda: way.run(x)


def _rows(own: Sequence[tuple[Contestant, Way]], n: int, times: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    median = np.median(times, axis=0)
    rivals = [i for i, (c, _) in enumerate(own) if c.side == "peer"]
    faster = min(rivals, key=lambda i: median[i], default=None)
    return [
        {
            "contestant": c.name,
            "side": c.side,
            "precision": c.precision,
            "channels": c.n_channels,
            "batch": n,
            "ms_per_window": 1e3 * float(median[i]) / n,
            "quartiles_ms": [1e3 * float(q) / n for q in np.quantile(times[:, i], (0.25, 0.75))],
            "ratio": None if faster is None else ratio(times[:, faster], times[:, i]),
            "way": way.name,
            "n_rounds": len(times),
        }
        for i, (c, way) in enumerate(own)
    ]


def _speedup(rows: Sequence[dict[str, Any]], n: int) -> float | None:
    """Ratio of the best engine in f32 to the faster peer."""
    ours = [r for r in rows if r["batch"] == n and r["side"] == "tonald" and r["precision"] == "f32"]
    best = min(ours, key=lambda r: float(r["ms_per_window"]))
    value: float | None = best["ratio"]
    return value


def _factors(rows: Sequence[dict[str, Any]], n: int) -> dict[str, float]:
    """What the ratio to Score-CAM by all channels in plain torch is made of, by medians."""
    ms = {r["contestant"]: float(r["ms_per_window"]) for r in rows if r["batch"] == n and r["side"] == "reference"}
    ours = [r for r in rows if r["batch"] == n and r["side"] == "tonald"]
    best = {
        p: min((float(r["ms_per_window"]) for r in ours if r["precision"] == p), default=None) for p in ("f32", "bf16")
    }
    every, top, coarse = (
        next((v for name, v in ms.items() if what in name), None) for what in ("all", "top", "coarse")
    )
    steps = {
        "channels, all to k": (every, top),
        "coarse passes, weights told": (top, coarse),
        "engine, f32": (coarse or top, best["f32"]),
        "precision, bf16": (best["f32"], best["bf16"]),
    }
    return {name: a / b for name, (a, b) in steps.items() if a is not None and b is not None}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@contextmanager
def _torch_threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
