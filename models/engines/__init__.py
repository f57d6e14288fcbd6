"""Runtimes behind one small protocol: ``open_engine`` picks, proves and returns one.

An engine runs named static graphs and knows nothing of Score-CAM. Before it may serve it reproduces the bundle's
golden outputs within the manifest's tolerance for its precision (:func:`models.engines.golden.check`). The runtime
library is imported when its engine is opened, not before.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.bundle import Bundle
from models.engines import golden
from models.engines.base import Engine, EngineOptions, usable_cores
from models.errors import EngineError, EngineUnavailable

__all__ = ["AUTO_ORDER", "Engine", "EngineReport", "open_engine"]

log = logging.getLogger(__name__)

#: ``auto`` tries these in turn: a card first, then the faster runtime of a CPU.
AUTO_ORDER = ("tensorrt", "onnxruntime", "openvino")
CLASSES = {"tensorrt": "TensorRtEngine", "openvino": "OpenVinoEngine", "onnxruntime": "OnnxRuntimeEngine"}


@dataclass(frozen=True, slots=True)
class EngineReport:
    """Which engine serves, and why not another."""

    name: str
    precision: str
    device: str
    reasons: tuple[str, ...]
    """One line for each engine tried before it."""
    golden_max_abs: Mapping[str, Mapping[str, float]]
    """``{graph: {output: largest difference from the golden data}}``, measured here."""

    def __str__(self) -> str:
        worst = max((d for by in self.golden_max_abs.values() for d in by.values()), default=0.0)
        why = f"; {'; '.join(self.reasons)}" if self.reasons else ""
        return f"{self.name} ({self.precision}) on {self.device}, golden outputs within {worst:.2g}{why}"


def open_engine(
    bundle: Bundle,
    name: str = "auto",
    *,
    max_batch: int,
    n_threads: int | None = None,
    state_dir: Path | None = None,
    precision: str | None = None,
    graphs: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Engine, EngineReport]:
    """Open an engine and prove it on the bundle's golden outputs.

    Parameters
    ----------
    name
        An engine, or ``auto``: the first of `AUTO_ORDER` that works here.
    max_batch
        Most windows in one call.
    n_threads
        Threads on a CPU; as many as there are processors by default.
    state_dir
        Where plans built for this machine are kept; without it nothing is written.
    precision
        ``f32``, ``bf16`` or ``f16``; by default ``f32`` on a CPU, on a card ``f16`` if the bundle has such graphs, and
        ``f32`` there if those fail.
    graphs
        The graphs wanted; by default all the bundle has.
    progress
        Called now and then with one line, while opening takes minutes (a plan is built for a card).

    Raises
    ------
    EngineUnavailable
        If the one named has no library or hardware here.
    EngineError
        If it misses the golden outputs, or, for ``auto``, if none works: each reason is named.
    """
    if name != "auto" and name not in CLASSES:
        raise EngineError(f"engine '{name}' is unknown: choose auto, {', '.join(AUTO_ORDER)}")
    if max_batch < 1 or (n_threads is not None and n_threads < 1):
        raise EngineError(f"{max_batch=} and {n_threads=} must be positive")
    options = EngineOptions(
        tuple(graphs if graphs is not None else bundle.graph_names("f32")), max_batch, n_threads or usable_cores(),
        precision, None if state_dir is None else str(state_dir), progress,
    )  # fmt: skip
    reasons: list[str] = []
    for candidate in AUTO_ORDER if name == "auto" else (name,):
        attempts = _attempts(candidate, bundle, options)
        while attempts:
            tried = _tried(candidate, bundle, attempts.pop(0))
            if not isinstance(tried, EngineError):
                engine, found = tried
                report = EngineReport(engine.name, engine.precision, engine.device, tuple(reasons), found)
                log.info("engine %s", report)
                return engine, report
            absent = isinstance(tried, EngineUnavailable)
            if absent:
                attempts.clear()
            if name != "auto" and not attempts:
                raise tried
            # an absent runtime is normal on most machines, a wrong one is not
            log.log(logging.INFO if absent else logging.WARNING, "no %s: %s", candidate, tried)
            reasons.append(f"no {candidate}: {tried}")
            del tried  # its traceback holds what was built; the next attempt may need that memory
    raise EngineError(f"no engine works here: {'; '.join(reasons)}")


def _attempts(name: str, bundle: Bundle, options: EngineOptions) -> list[EngineOptions]:
    """A card whose half precision misses the golden outputs gets a second try in float32, before a CPU."""
    half = name == "tensorrt" and options.precision is None and set(options.graphs) <= set(bundle.graph_names("f16"))
    return [options, dataclasses.replace(options, precision="f32")] if half else [options]


def _tried(
    name: str, bundle: Bundle, options: EngineOptions
) -> tuple[Engine, dict[str, dict[str, float]]] | EngineError:
    try:
        return _proved(name, bundle, options)
    except EngineError as e:
        return e


def _proved(name: str, bundle: Bundle, options: EngineOptions) -> tuple[Engine, dict[str, dict[str, float]]]:
    make: Callable[[Bundle, EngineOptions], Engine] = getattr(
        importlib.import_module(f"models.engines.{name}"), CLASSES[name]
    )
    engine = make(bundle, options)
    try:
        return engine, golden.check(engine, bundle)
    except BaseException:
        engine.close()
        raise
