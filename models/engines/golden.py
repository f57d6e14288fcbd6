"""The gate before service: an engine must reproduce the bundle's golden outputs on the machine it runs on.

A runtime can parse a graph, run it and be silently wrong (TensorRT 11.1 built such engines, NVIDIA/TensorRT issue 4813;
OpenVINO computes in bfloat16 unless told not to). So numbers decide, not version lists. Each graph runs as one batch
and with its last window alone, because batches of different size take different code inside a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.bundle import Bundle
from models.engines.base import Engine, Tensors
from models.errors import EngineError

__all__ = ["check", "difference_of", "differences", "miss", "tolerances"]


def check(engine: Engine, bundle: Bundle) -> dict[str, dict[str, float]]:
    """Largest absolute difference of each output of each graph, ``{graph: {output: difference}}``.

    Raises
    ------
    EngineError
        If one exceeds the bundle's tolerance for the engine's precision; engine, graph, output and both are named.
    """
    found = differences(engine, bundle)
    for graph, by_output in found.items():
        if why := miss(engine, bundle, graph, by_output):
            raise EngineError(why)
    return found


def miss(engine: Engine, bundle: Bundle, graph: str, by_output: Mapping[str, float]) -> str | None:
    """Why differences found in one graph forbid an engine to serve; None if they do not.

    Raises
    ------
    EngineError
        If the bundle was not calibrated for the engine's precision.
    """
    allowed = tolerances(bundle, graph, engine.precision)
    for output, difference in by_output.items():
        if not difference <= allowed[output]:
            return (
                f"{engine.name} ({engine.precision}) misses the golden outputs of graph {graph}: {output} differs "
                f"by {difference:.3g}, allowed is {allowed[output]:.3g}: it may not serve this bundle"
            )
    return None


def tolerances(bundle: Bundle, graph: str, precision: str) -> Mapping[str, float]:
    """Largest differences allowed, ``{output: difference}``.

    Raises
    ------
    EngineError
        If the bundle was not calibrated for the precision.
    """
    if (graph, precision) not in bundle.tolerances:
        has = sorted({p for _, p in bundle.tolerances})
        raise EngineError(f"the bundle states no tolerance of graph {graph} for {precision}, only for {', '.join(has)}")
    return bundle.tolerances[graph, precision]


def differences(engine: Engine, bundle: Bundle, *, full_batch: bool = False) -> dict[str, dict[str, float]]:
    """As `check`, but judge nothing; what is not a finite number on both sides differs by infinity.

    ``full_batch``: also the same windows again and again, as many as the engine takes at once.
    """
    out = {}
    for graph in engine.graphs:
        inputs, want = bundle.golden(graph)
        n = bundle.manifest.n_golden
        worst = dict.fromkeys(want, 0.0)
        every = np.arange(n)
        parts = [every[i : i + engine.max_batch] for i in range(0, n, engine.max_batch)] + [every[-1:]]
        if full_batch:
            parts.append(np.resize(every, engine.max_batch))
        for part in parts:
            got = engine.run(graph, {name: a[part] for name, a in inputs.items()})
            for name, difference in _distance(got, {name: a[part] for name, a in want.items()}).items():
                worst[name] = max(worst[name], difference)
        out[graph] = worst
    return out


def difference_of(engine: Engine, bundle: Bundle, graph: str, window: int) -> dict[str, float]:
    """As `differences`, of one graph and one golden window alone, ``{output: difference}``."""
    inputs, want = bundle.golden(graph)
    part = slice(window, window + 1)
    got = engine.run(graph, {name: a[part] for name, a in inputs.items()})
    return _distance(got, {name: a[part] for name, a in want.items()})


def _distance(got: Tensors, want: Tensors) -> dict[str, float]:
    return {name: _largest(got.get(name), a) for name, a in want.items()}


def _largest(got: np.ndarray | None, want: np.ndarray) -> float:
    if got is None or got.shape != want.shape or got.dtype != want.dtype:
        return np.inf
    gap = np.abs(got.astype(np.float64) - want.astype(np.float64))
    return float(gap.max()) if np.isfinite(gap).all() else np.inf
