"""From an ONNX graph to a TensorRT plan, and from a plan to results. Imports TensorRT: only after CUDA was asked.

Only calls that 10.3, 10.16 and 11.x share. The precision is what the graph says: 11.x is always strongly typed, 10.x
is told to be. Numbers of flags are never written down, they moved between releases.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorrt as trt

from models.engines.cuda import Cuda
from models.errors import EngineError
from models.manifest import GraphInfo

__all__ = ["VERSION", "Lane", "build_plan", "load_plan", "make_runtime"]

log = logging.getLogger(__name__)

VERSION: str = trt.__version__
#: TensorRT's own messages from warnings upwards, on the process's stderr.
LOGGER = trt.Logger(trt.Logger.WARNING)
#: Scratch memory a tactic may use.
WORKSPACE_BYTES = 1 << 30


def build_plan(onnx: bytes, info: GraphInfo, max_batch: int, timing: bytes) -> tuple[bytes, bytes]:
    """Build a plan for batches of 1 to ``max_batch``; return it and the new timing cache.

    Raises
    ------
    EngineError
        If TensorRT refuses the graph; the message holds the parser's words.
    """
    try:
        builder = trt.Builder(LOGGER)
    except TypeError as e:  # "factory function returned nullptr" is all the bindings say
        raise EngineError(f"tensorrt {VERSION} has no builder here: {e}: do driver and TensorRT match?") from e
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    parser = trt.OnnxParser(network, LOGGER)
    if not parser.parse(onnx):
        words = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineError(f"tensorrt {VERSION} cannot parse graph {info.name}: {words}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 stays float32: TF32 keeps 10 bits of mantissa
    profile = builder.create_optimization_profile()
    for i in info.inputs:
        smallest, largest = (1, *i.item_shape), (max_batch, *i.item_shape)
        profile.set_shape(i.name, smallest, largest, largest)
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"tensorrt {VERSION} refuses batches of 1 to {max_batch} for graph {info.name}")
    cache = config.create_timing_cache(timing)
    if cache is not None:
        config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"tensorrt {VERSION} cannot build graph {info.name}; its own messages stand above")
    return bytes(plan), b"" if cache is None else bytes(cache.serialize())


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
        raise EngineError(f"tensorrt {VERSION} does not start: {e}: do driver and TensorRT match?") from e


def load_plan(runtime: trt.Runtime, plan: bytes) -> trt.ICudaEngine | None:
    """Engine of a plan; None if it was built by another version or for another card."""
    return runtime.deserialize_cuda_engine(plan)


class Lane:
    """One graph at work: its context, and buffers for the largest batch on the host and on the card.

    Raises
    ------
    EngineError
        If memory is short, or the engine's tensors are not those of the manifest.
    """

    def __init__(self, cuda: Cuda, engine: trt.ICudaEngine, info: GraphInfo, max_batch: int) -> None:
        self.info, self._cuda, self._engine = info, cuda, engine
        context = engine.create_execution_context()
        if context is None:
            raise EngineError(f"tensorrt has no memory for graph {info.name}: lower the batch")
        self._context = context
        self._host: dict[str, npt.NDArray[Any]] = {}
        self._device: dict[str, int] = {}
        try:
            self._take_buffers(max_batch)
        except BaseException:
            self.close()
            raise

    def _take_buffers(self, max_batch: int) -> None:
        want = {t.name: t for t in (*self.info.inputs, *self.info.outputs)}
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        if set(names) != set(want):
            raise EngineError(f"tensorrt sees {sorted(names)} in graph {self.info.name}, the manifest {sorted(want)}")
        for name in names:
            dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
            if dtype != np.dtype(want[name].dtype):
                raise EngineError(f"tensorrt holds {name} as {dtype}, the manifest says {want[name].dtype}")
            self._host[name] = self._cuda.pinned((max_batch, *want[name].item_shape), dtype)
            self._device[name] = self._cuda.malloc(self._host[name].nbytes)
            if not self._context.set_tensor_address(name, self._device[name]):
                raise EngineError(f"tensorrt refuses the address of {name} in graph {self.info.name}")

    def run(self, inputs: dict[str, npt.NDArray[Any]], batch: int, stream: int) -> dict[str, npt.NDArray[Any]]:
        """Run one batch and wait for it; the arrays are views of pinned memory, good until the next run."""
        here = f"graph {self.info.name}"
        for name, a in inputs.items():
            if not self._context.set_input_shape(name, a.shape):
                raise EngineError(f"tensorrt refuses shape {a.shape} of {name} in {here}")
        if missing := self._context.infer_shapes():
            raise EngineError(f"tensorrt cannot tell shapes in {here}: {', '.join(missing)}")
        for name, a in inputs.items():
            staged = self._host[name][:batch]
            np.copyto(staged, a)
            self._cuda.upload(self._device[name], staged, stream)
        if not self._context.execute_async_v3(stream):
            raise EngineError(f"tensorrt failed to start {here}")
        out = {}
        for t in self.info.outputs:
            shape = tuple(self._context.get_tensor_shape(t.name))
            if shape != (batch, *t.item_shape):
                raise EngineError(f"tensorrt gives {t.name} of {here} as {shape}, not {(batch, *t.item_shape)}")
            out[t.name] = self._host[t.name][:batch]
            self._cuda.download(out[t.name], self._device[t.name], stream)
        self._cuda.synchronise(stream)
        return out

    def close(self) -> None:
        """Free the buffers; arrays handed out must not be used any more."""
        while self._device:
            self._cuda.free(self._device.popitem()[1])
        while self._host:
            self._cuda.free_pinned(self._host.popitem()[1])
