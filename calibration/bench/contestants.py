"""Who takes part in ``tonald bench window``: engines, the torch reference, peers.

Each is asked for the same: windows in, maps of the likeliest class out. Each may do a batch in several *ways* (how many
windows per call, how many masked windows per forward pass); its fastest is what counts.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from calibration.bench.peers import PEERS
from models.bundle import Bundle
from models.engines import Engine, open_engine
from models.engines.base import EngineOptions
from models.engines.openvino import OpenVinoEngine
from models.errors import BundleError, EngineError
from models.score_cam import score_cam
from models.spec_cnn import SpecCnn
from models.weigher import Weigher, quick_score_cam

__all__ = ["GRAPH", "Contestant", "Way", "engines", "in_pieces", "peers", "references"]

F32 = npt.NDArray[np.float32]
Maps = Callable[[F32], F32]
GRAPH = "fused"
GRAPHS = ("classify", "explain", GRAPH)


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One way to do a batch."""

    name: str
    run: Maps


@dataclass(frozen=True, slots=True, eq=False)
class Contestant:
    """Someone who makes class activation maps."""

    name: str
    side: Literal["tonald", "reference", "peer"]
    precision: str
    n_channels: int
    """Channels weighed."""
    ways: Callable[[int], Sequence[Way]]
    """Ways to do a batch of so many windows."""
    engine: Engine | None = None


def in_pieces(way: Way, n: int) -> Way:
    """Do a batch as calls of ``n`` windows each."""

    def run(x: F32) -> F32:
        out: list[F32] = []
        for i in range(0, len(x), n):
            out.append(np.array(way.run(x[i : i + n])))  # noqa: PERF401  (engines hand back views: copy at once)
        return np.concatenate(out)

    parts = [f"{n} per call", *way.name.split(", ")[1:]]
    return Way(", ".join(parts), run)


def engines(bundle: Bundle, max_batch: int, n_threads: int) -> tuple[list[Contestant], list[str]]:
    """CPU engines with the fused graph in f32, OpenVINO in bf16 too, and one line for each that cannot take part.

    The f32 engines pass the golden gate. bf16 takes part without: its distance from the reference is stated.

    Raises
    ------
    BundleError
        If the bundle holds no fused graph.
    EngineError
        If no engine works in f32.
    """
    if GRAPH not in bundle.graph_names("f32"):
        raise BundleError(f"bundle {bundle.path}: holds no graph '{GRAPH}': calibrate it again")
    found, notes = [], []
    for name in ("openvino", "onnxruntime"):
        opened = _opened(bundle, name, max_batch, n_threads)
        if isinstance(opened, str):
            notes.append(opened)
        else:
            found.append(_of_engine(opened, bundle.k))
    if not found:
        raise EngineError(f"no engine works in f32: {'; '.join(notes)}")
    try:
        low = OpenVinoEngine(bundle, EngineOptions((GRAPH,), max_batch, n_threads, "bf16"))
        found.append(_of_engine(low, bundle.k))
        if (GRAPH, "bf16") not in bundle.tolerances:
            notes.append("openvino bf16 is measured only: the bundle allows no such error, so the daemon refuses it")
    except EngineError as e:
        notes.append(f"openvino bf16 is not measured: {e}")
    return found, notes


def _opened(bundle: Bundle, name: str, max_batch: int, n_threads: int) -> Engine | str:
    """The engine in f32, or why there is none."""
    try:
        return open_engine(bundle, name, max_batch=max_batch, n_threads=n_threads, graphs=GRAPHS, precision="f32")[0]
    except EngineError as e:
        return f"{name} f32 is not measured: {e}"


def _of_engine(engine: Engine, k: int) -> Contestant:
    def run(x: F32) -> F32:
        cam: F32 = engine.run(GRAPH, {"features": x})["cam"]
        return cam

    def ways(n: int) -> list[Way]:
        whole = Way(f"{n} per call", run)
        return [whole, *(in_pieces(whole, m) for m in (4, 8) if m < n)]

    return Contestant(f"tonald, {engine.name}", "tonald", engine.precision, k, ways, engine)


def references(network: SpecCnn, k: int, fill: float, weigher: Weigher | None) -> list[Contestant]:
    """`models.score_cam` by all channels and by ``k``, and `models.weigher` with as many passes, all in plain torch."""

    def of(channels: int, name: str) -> Contestant:
        def way(n: int, chunk: int) -> Way:
            def run(x: F32) -> F32:
                with torch.inference_mode():
                    t = torch.from_numpy(x)
                    cam = score_cam(network, t, network(t).argmax(1), fill=fill, channels=channels, chunk=chunk)
                    out: F32 = cam.numpy()
                return out

            return Way(f"{n} per call, {chunk} masked at once", run)

        def ways(n: int) -> list[Way]:
            return [way(n, c) for c in _chunks(n * channels)]

        return Contestant(name, "reference", "f32", channels, ways)

    def quick(weigher: Weigher) -> Contestant:
        def run(x: F32) -> F32:
            with torch.inference_mode():
                t = torch.from_numpy(x)
                cam: F32 = quick_score_cam(network, t, network(t).argmax(1), fill=fill, weigher=weigher).numpy()
            return cam

        def ways(n: int) -> list[Way]:
            whole = Way(f"{n} per call", run)
            return [whole, *(in_pieces(whole, m) for m in (4, 8) if m < n)]

        return Contestant(f"torch reference, {k} coarse", "reference", "f32", k, ways)

    every = network.n_channels
    found = [of(k, f"torch reference, top {k}"), of(every, "torch reference, all")]
    return found if weigher is None else [quick(weigher), *found]


def peers(network: SpecCnn) -> tuple[list[Contestant], list[str]]:
    """Public libraries that are installed, and one line for each that is not."""
    found, notes = [], []
    for name, (distribution, make) in PEERS.items():
        try:
            make(network, 1)
            version = importlib.metadata.version(distribution)
        except (ImportError, importlib.metadata.PackageNotFoundError) as e:
            notes.append(f"{name} is not measured: {e} (pip install --no-deps -r requirements-peers.txt)")
            continue

        def ways(n: int, make: Callable[[SpecCnn, int], Maps] = make) -> list[Way]:
            # the masked windows of a forward pass: grad-cam takes those of one window, torch-cam of the whole batch
            most = network.n_channels * (n if make is PEERS["torch-cam"][1] else 1)
            return [Way(f"{n} per call, batch_size {c}", make(network, c)) for c in _chunks(most)]

        found.append(Contestant(f"{name} {version}", "peer", "f32", network.n_channels, ways))
    return found, notes


def _chunks(most: int) -> list[int]:
    """Masked windows per forward pass that are worth a try."""
    return [c for c in (4, 8, 16, 32) if c <= most] or [most]
