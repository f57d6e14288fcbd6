"""From an ONNX graph to a TensorRT plan. Imports TensorRT: only after CUDA was asked.

Only calls that 10.3, 10.16, 11.x and TensorRT-RTX share. The precision is what the graph says: 11.x is always strongly
typed, 10.x is told to be. Numbers of flags are never written down, they moved between releases.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, SupportsInt

from models.engines.tensorrt_api import LOGGER, NAME, trt
from models.errors import EngineError
from models.manifest import GraphInfo

__all__ = ["Built", "build_plan", "layers_of", "load_plan", "make_runtime"]

log = logging.getLogger(__name__)

#: Takes one line for people.
Tell = Callable[[str], None]
#: Scratch memory a tactic may use.
WORKSPACE_BYTES = 1 << 30
#: How often a build says how far it is.
SECONDS_BETWEEN_NEWS = 5.0


@dataclass(frozen=True, slots=True)
class Built:
    """A plan and what its build cost."""

    plan: bytes
    timings: bytes
    """The timing cache after the build, with which the next one is faster; empty if TensorRT has none."""
    seconds: float


class _Progress(trt.IProgressMonitor):
    """Tells how far a build is: on a small card it takes minutes."""

    def __init__(self, graph: str, tell: Tell) -> None:
        trt.IProgressMonitor.__init__(self)  # the bindings ask for the call by name
        self._graph, self._tell = graph, tell
        self._began = self._told = time.monotonic()
        self._n_steps: dict[str, int] = {}

    def phase_start(self, phase_name: str, parent_phase: str, num_steps: SupportsInt) -> None:  # noqa: ARG002
        """Remember how many steps a phase has."""
        self._n_steps[phase_name] = int(num_steps)

    def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
        """Say where the build is, now and then; True: go on."""
        now = time.monotonic()
        if now - self._told >= SECONDS_BETWEEN_NEWS:
            self._told = now
            done, of = int(step) + 1, self._n_steps.get(phase_name, 0)
            self._tell(
                f"tensorrt builds graph {self._graph}: {phase_name}, step {done} of {of}, "
                f"{now - self._began:.0f} s so far"
            )
        return True

    def phase_finish(self, phase_name: str) -> None:
        """Forget a phase."""
        self._n_steps.pop(phase_name, None)


def build_plan(onnx: bytes, info: GraphInfo, max_batch: int, timings: bytes, tell: Tell = log.info) -> Built:
    """Build a plan for batches of 1 to ``max_batch``, at its best at ``max_batch``.

    Parameters
    ----------
    onnx
        The graph; its types decide the precision of each layer.
    info
        Its inputs.
    max_batch
        Most windows in one call.
    timings
        The timing cache of an earlier build with this TensorRT on this card, or nothing.
    tell
        Called now and then with how far the build is.

    Raises
    ------
    EngineError
        If TensorRT refuses the graph; the message holds the parser's words.
    """
    began = time.monotonic()
    try:
        builder = trt.Builder(LOGGER)
    except TypeError as e:  # "factory function returned nullptr" is all the bindings say
        raise EngineError(f"{NAME} has no builder here: {e}: do driver and TensorRT match?") from e
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    parser = trt.OnnxParser(network, LOGGER)
    if not parser.parse(onnx):
        words = " ".join("; ".join(parser.get_error(i).desc() for i in range(parser.num_errors)).split())[:500]
        raise EngineError(f"{NAME} cannot parse graph {info.name}: {words}")
    config = _config(builder, info, max_batch, tell)
    cache = config.create_timing_cache(timings)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        log.info("%s takes no timing cache for graph %s: it times all tactics anew", NAME, info.name)
        cache = None
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{NAME} cannot build graph {info.name}; its own messages stand above")
    return Built(bytes(plan), b"" if cache is None else bytes(cache.serialize()), time.monotonic() - began)


def _config(builder: trt.Builder, info: GraphInfo, max_batch: int, tell: Tell) -> trt.IBuilderConfig:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 stays float32: TF32 keeps 10 bits of mantissa
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that `layers_of` can tell each precision
    config.progress_monitor = _Progress(info.name, tell)
    profile = builder.create_optimization_profile()
    for i in info.inputs:
        smallest, largest = (1, *i.item_shape), (max_batch, *i.item_shape)
        profile.set_shape(i.name, smallest, largest, largest)
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"{NAME} refuses batches of 1 to {max_batch} for graph {info.name}")
    return config


def make_runtime() -> trt.Runtime:
    """Start the runtime.

    Raises
    ------
    EngineError
        If TensorRT and the driver do not match.
    """
    try:
        return trt.Runtime(LOGGER)
    except TypeError as e:
        raise EngineError(f"{NAME} does not start: {e}: do driver and TensorRT match?") from e


def load_plan(runtime: trt.Runtime, plan: bytes) -> trt.ICudaEngine | None:
    """Engine of a plan; None if it was built by another version or for another card."""
    return runtime.deserialize_cuda_engine(plan)


def layers_of(engine: trt.ICudaEngine) -> list[dict[str, Any]]:
    """Each layer as built: ``name``, ``type`` and the type and layout of each output, in TensorRT's own words.

    The precision of a plan cannot be asked for otherwise. Empty if the inspector says nothing that can be read.
    """
    inspector = engine.create_engine_inspector()
    text = "" if inspector is None else inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        layers = json.loads(text or "{}").get("Layers", [])
        return [_layer(layer) for layer in layers]
    except (ValueError, AttributeError) as e:
        log.warning("%s describes its layers in a form that cannot be read: %s", NAME, e)
        return []


def _layer(layer: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(layer, str):  # all that a plan without details says
        return {"name": layer, "type": "", "outputs": []}
    outputs = [str(o.get("Format/Datatype", o.get("Datatype", ""))) for o in layer.get("Outputs", [])]
    return {"name": layer.get("Name", ""), "type": layer.get("LayerType", ""), "outputs": outputs}
