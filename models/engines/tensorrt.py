"""TensorRT on an NVIDIA card: plans built where they run, from the bundle's ONNX graphs.

A plan fits one TensorRT version and one card. It is kept under the state directory by a key of graph, version, card,
precision and batch, with the timings of the build beside it; without a state directory each start builds again.

A runtime that builds can still be wrong (TensorRT 11.1 built such plans, NVIDIA/TensorRT issue 4813). So a new plan
reproduces the golden outputs before it is kept, and each plan again at every start. What a plan misses by, and the
precision of each layer, stand beside it in ``KEY.json``. One that misses is refused: not built again at each start, but
named in the reasons why another engine serves.
"""

from __future__ import annotations

import datetime
import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from models.bundle import Bundle
from models.engines import golden
from models.engines.base import EngineOptions, Tensors, checked_inputs
from models.engines.cuda import Cuda
from models.engines.plan_cache import PlanCache
from models.errors import EngineError, EngineUnavailable

if TYPE_CHECKING:
    import tensorrt as trt

    from models.engines import tensorrt_lane, tensorrt_plan

__all__ = ["TensorRtEngine"]

log = logging.getLogger(__name__)

#: Oldest releases whose calls were checked: TensorRT (of JetPack 6) and TensorRT-RTX.
OLDEST, OLDEST_RTX = (10, 3), (1, 7)
#: The golden outputs are compared one window alone, as one batch, and repeated to the largest batch; of each size a
#: second run captures and a third runs what was captured.
N_PROOFS = 3


@dataclass(slots=True)
class _Plan:
    """Plan of one graph and where it came from."""

    key: str
    engine: trt.ICudaEngine
    built: tensorrt_plan.Built | None
    """None: it was kept from an earlier start."""


class TensorRtEngine:
    """One plan, context and set of buffers per graph; one stream and one piece of scratch memory for all.

    Raises
    ------
    EngineUnavailable
        If CUDA finds no card, or TensorRT's Python bindings are missing or too old.
    EngineError
        If a graph cannot be built, does not fit into memory, or its plan misses the golden outputs.
    """

    name = "tensorrt"

    def __init__(self, bundle: Bundle, options: EngineOptions, cuda: Cuda | None = None) -> None:
        self._lanes: dict[str, tensorrt_lane.Lane] = {}
        self._scratch: tensorrt_lane.Scratch | None = None
        self._stream = 0
        self._cuda = Cuda() if cuda is None else cuda  # before any call of TensorRT: without a driver it crashes
        self._release = _release()
        self.device = f"{self._cuda.device}, {self._release}"
        self.max_batch, self.graphs = options.max_batch, options.graphs
        self.precision = options.precision or _best_precision(bundle, options.graphs)
        if self.precision not in ("f16", "f32"):
            raise EngineUnavailable(f"tensorrt serves f16 and f32 graphs, not {self.precision}")
        self._progress = options.progress
        self._cache = PlanCache(None if options.state_dir is None else Path(options.state_dir) / "tensorrt")
        try:
            from models.engines import tensorrt_plan

            self._runtime: trt.Runtime | None = tensorrt_plan.make_runtime()
            self._stream = self._cuda.stream()
            self._open(bundle)
        except BaseException:
            self.close()
            raise

    @property
    def captured(self) -> dict[str, tuple[int, ...]]:
        """Of each graph the sizes of batch that run as one CUDA graph."""
        return {name: lane.captured for name, lane in self._lanes.items()}

    def run(self, graph: str, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Run one graph; the arrays handed back are views of pinned memory, good until the same graph runs again."""
        if graph not in self._lanes:
            raise EngineError(f"tensorrt: graph {graph} is not loaded, only {', '.join(self.graphs)}")
        lane = self._lanes[graph]
        inputs, batch = checked_inputs(self, lane.info, tensors)
        return lane.run(inputs, batch)

    def close(self) -> None:
        """Free memory and stream of the card; arrays handed out must not be used any more."""
        self._unload()
        if self._stream:
            self._cuda.free_stream(self._stream)
            self._stream = 0
        self._runtime = None

    def _open(self, bundle: Bundle) -> None:
        """Load all graphs and prove them; what was kept and is wrong now is built anew, once."""
        plans = {name: self._plan(bundle, name) for name in self.graphs}
        self._load(bundle, plans)
        missed = self._prove(bundle, plans)
        stale = [name for name in missed if plans[name].built is None]
        if stale:
            self._unload()
            for name in stale:
                log.warning("the plan kept of graph %s is wrong now, building anew: %s", name, missed[name])
                self._cache.drop(f"{plans[name].key}.plan")
                plans[name] = self._plan(bundle, name)
            self._load(bundle, plans)
            missed = self._prove(bundle, plans)
        if missed:
            raise EngineError(next(iter(missed.values())))

    def _plan(self, bundle: Bundle, name: str) -> _Plan:
        """The plan kept, or one built now if there is none or the card refuses it.

        Raises
        ------
        EngineError
            If one was built before and missed the golden outputs: a build takes minutes, it would miss them again.
        """
        from models.engines import tensorrt_plan

        assert self._runtime is not None, "closed"
        info = bundle.manifest.graph(name, self.precision)
        onnx = bundle.graph_bytes(name, self.precision)
        facts = (self._release, self._cuda.device)
        key = PlanCache.key(onnx, *facts, self.precision, f"batch 1..{self.max_batch}", _tolerance(bundle, self, name))
        kept = self._cache.read(f"{key}.plan")
        if kept is not None and (engine := tensorrt_plan.load_plan(self._runtime, kept)) is not None:
            return _Plan(key, engine, None)
        page = self._cache.read_page(f"{key}.json")
        if page.get("refused"):
            raise EngineError(
                f"{page['refused']} (plan of {page.get('built')}; remove {self._cache.path(key)}.json to build again)"
            )
        self._tell(f"tensorrt builds graph {name} for {self.device}: once, it may take minutes")
        timing = f"{PlanCache.key(b'', *facts)}.timing"
        built = tensorrt_plan.build_plan(onnx, info, self.max_batch, self._cache.read(timing) or b"", self._tell)
        self._cache.write(timing, built.timings)
        log.info("graph %s is built, %d bytes in %.0f s", name, len(built.plan), built.seconds)
        engine = tensorrt_plan.load_plan(self._runtime, built.plan)
        if engine is None:
            raise EngineError(f"tensorrt refuses the plan of graph {name} that it has just built")
        return _Plan(key, engine, built)

    def _tell(self, line: str) -> None:
        log.info("%s", line)
        if self._progress is not None:
            self._progress(line)

    def _load(self, bundle: Bundle, plans: dict[str, _Plan]) -> None:
        from models.engines.tensorrt_lane import Lane, Scratch, Stream

        self._scratch = Scratch.for_engines(self._cuda, [p.engine for p in plans.values()])
        stream = Stream(self._cuda, self._stream)
        for name, plan in plans.items():
            info = bundle.manifest.graph(name, self.precision)
            self._lanes[name] = Lane(stream, self._scratch, plan.engine, info, self.max_batch)

    def _unload(self) -> None:
        while self._lanes:
            self._lanes.popitem()[1].close()
        if self._scratch is not None:
            self._cuda.free(self._scratch.address)
            self._scratch = None

    def _prove(self, bundle: Bundle, plans: dict[str, _Plan]) -> dict[str, str]:
        """Compare with the golden outputs, keep what is new and right; of each graph that is wrong, how."""
        runs = [golden.differences(self, bundle, full_batch=True) for _ in range(N_PROOFS)]
        missed = {}
        for name, plan in plans.items():
            found = {output: max(run[name][output] for run in runs) for output in runs[0][name]}
            if why := golden.miss(self, bundle, name, found):
                missed[name] = why
            if plan.built is None:
                continue
            if why is None:
                self._cache.write(f"{plan.key}.plan", plan.built.plan)
            self._cache.write_page(f"{plan.key}.json", self._page(bundle, name, plan, found, why))
        return missed

    def _page(self, bundle: Bundle, name: str, plan: _Plan, found: dict[str, float], why: str | None) -> dict[str, Any]:
        from models.engines.tensorrt_plan import layers_of

        assert plan.built is not None
        layers = layers_of(plan.engine)
        lane = self._lanes[name]
        return {
            "graph": name, "bundle": bundle.id, "tensorrt": self._release, "device": self._cuda.device,
            "precision": self.precision, "batch": [1, self.max_batch],
            "built": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(plan.built.seconds, 1), "bytes": len(plan.built.plan), "refused": why,
            "differences": found, "allowed": dict(golden.tolerances(bundle, name, self.precision)),
            "captured": list(lane.captured), "not_captured_because": lane.refusal,
            "outputs_by_type": Counter(o for layer in layers for o in layer["outputs"]), "layers": layers,
        }  # fmt: skip


def _release() -> str:
    """Which TensorRT is here; its bindings can be loaded and are new enough."""
    try:
        from models.engines import tensorrt_api
    except (ImportError, OSError) as e:
        raise EngineUnavailable(
            f"TensorRT's Python bindings cannot be loaded ({e}): pip install 'tonald[tensorrt]', "
            "on a Jetson apt install python3-libnvinfer"
        ) from e
    oldest = OLDEST_RTX if tensorrt_api.IS_RTX else OLDEST
    if tuple(int(n) for n in re.findall(r"\d+", tensorrt_api.VERSION)[:2]) < oldest:
        raise EngineUnavailable(f"{tensorrt_api.NAME} is too old: {oldest[0]}.{oldest[1]} or later is needed")
    return tensorrt_api.NAME


def _tolerance(bundle: Bundle, engine: TensorRtEngine, graph: str) -> str:
    """What the plan was judged by: a refusal holds for these figures only."""
    return str(sorted(golden.tolerances(bundle, graph, engine.precision).items()))


def _best_precision(bundle: Bundle, graphs: tuple[str, ...]) -> str:
    """Half precision if the bundle has all graphs in it."""
    return "f16" if set(graphs) <= set(bundle.graph_names("f16")) else "f32"
