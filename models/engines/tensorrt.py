"""TensorRT on an NVIDIA card: plans built where they run, from the bundle's ONNX graphs.

A plan fits one TensorRT version and one card. It is kept under the state directory by a key of graph, version, card,
precision and batch, with the timings of the build beside it; without a state directory each start builds again. Calls
are enqueued one by one on an own stream, copies go through page-locked memory.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from models.bundle import Bundle
from models.engines.base import EngineOptions, Tensors, checked_inputs
from models.engines.cuda import Cuda
from models.engines.plan_cache import PlanCache
from models.errors import EngineError, EngineUnavailable
from models.manifest import GraphInfo

if TYPE_CHECKING:
    import tensorrt as trt

    from models.engines import tensorrt_plan

__all__ = ["TensorRtEngine"]

log = logging.getLogger(__name__)

#: Oldest release whose calls were checked (JetPack 6).
OLDEST = (10, 3)


class TensorRtEngine:
    """One plan, context and set of buffers per graph; one stream for all.

    Raises
    ------
    EngineUnavailable
        If CUDA finds no card, or TensorRT's Python bindings are missing or too old.
    EngineError
        If a graph cannot be built or does not fit into memory.
    """

    name = "tensorrt"

    def __init__(self, bundle: Bundle, options: EngineOptions, cuda: Cuda | None = None) -> None:
        self._lanes: dict[str, tensorrt_plan.Lane] = {}
        self._stream = 0
        self._cuda = Cuda() if cuda is None else cuda  # before any call of TensorRT: without a driver it crashes
        _check_bindings()
        from models.engines import tensorrt_plan as plans

        self.device = f"{self._cuda.device}, TensorRT {plans.VERSION}"
        self.max_batch, self.graphs = options.max_batch, options.graphs
        self.precision = options.precision or _best_precision(bundle, options.graphs)
        if self.precision not in ("f16", "f32"):
            raise EngineUnavailable(f"tensorrt serves f16 and f32 graphs, not {self.precision}")
        self._cache = PlanCache(None if options.state_dir is None else Path(options.state_dir) / "tensorrt")
        self._runtime = plans.make_runtime()
        try:
            self._stream = self._cuda.stream()
            for name in self.graphs:
                info = bundle.manifest.graph(name, self.precision)
                engine = self._engine(bundle.graph_bytes(name, self.precision), info)
                self._lanes[name] = plans.Lane(self._cuda, engine, info, self.max_batch)
        except BaseException:
            self.close()
            raise

    def _engine(self, onnx: bytes, info: GraphInfo) -> trt.ICudaEngine:
        """Engine of the plan kept, or of one built now if there is none or the card refuses it."""
        from models.engines import tensorrt_plan as plans

        facts = (plans.VERSION, self._cuda.device)
        key = PlanCache.key(onnx, *facts, self.precision, f"batch 1..{self.max_batch}")
        kept = self._cache.read(f"{key}.plan")
        if kept is not None and (engine := plans.load_plan(self._runtime, kept)) is not None:
            return engine
        log.warning("tensorrt builds graph %s for %s: once, it may take minutes", info.name, self.device)
        timing = f"{PlanCache.key(b'', *facts)}.timing"
        plan, timings = plans.build_plan(onnx, info, self.max_batch, self._cache.read(timing) or b"")
        self._cache.write(f"{key}.plan", plan)
        self._cache.write(timing, timings)
        engine = plans.load_plan(self._runtime, plan)
        if engine is None:
            raise EngineError(f"tensorrt refuses the plan of graph {info.name} that it has just built")
        return engine

    def run(self, graph: str, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Run one graph; the arrays handed back are views of pinned memory, good until the same graph runs again."""
        if graph not in self._lanes:
            raise EngineError(f"tensorrt: graph {graph} is not loaded, only {', '.join(self.graphs)}")
        lane = self._lanes[graph]
        inputs, batch = checked_inputs(self, lane.info, tensors)
        return lane.run(inputs, batch, self._stream)

    def close(self) -> None:
        """Free memory and stream of the card; arrays handed out must not be used any more."""
        while self._lanes:
            self._lanes.popitem()[1].close()
        if self._stream:
            self._cuda.free_stream(self._stream)
            self._stream = 0


def _check_bindings() -> None:
    try:
        from models.engines import tensorrt_plan
    except (ImportError, OSError) as e:
        raise EngineUnavailable(
            f"TensorRT's Python bindings cannot be loaded ({e}): pip install 'tonald[tensorrt]', "
            "on a Jetson apt install python3-libnvinfer"
        ) from e
    if tuple(int(n) for n in re.findall(r"\d+", tensorrt_plan.VERSION)[:2]) < OLDEST:
        raise EngineUnavailable(f"TensorRT {tensorrt_plan.VERSION} is too old: 10.3 or later is needed")


def _best_precision(bundle: Bundle, graphs: tuple[str, ...]) -> str:
    """Half precision if the bundle has all graphs in it."""
    return "f16" if set(graphs) <= set(bundle.graph_names("f16")) else "f32"
