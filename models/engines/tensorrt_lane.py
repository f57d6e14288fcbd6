"""One TensorRT plan at work. Imports TensorRT: only after CUDA was asked.

Sizes of batch that come again are captured as CUDA graphs: copies and kernels of a call are then launched at one
stroke. A graph holds for one size, one set of addresses and one context, so each has a context of its own; they share
one piece of scratch memory, since all work runs on one stream. Where capture is refused, calls are queued one by one.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.engines.cuda import Cuda
from models.engines.tensorrt_api import trt
from models.errors import EngineError
from models.manifest import GraphInfo

__all__ = ["Lane", "Scratch", "Stream"]

log = logging.getLogger(__name__)

#: Sizes of batch captured at once per graph; the one used least makes room for one used twice as often.
MAX_CAPTURED = 4
#: Device memory is never asked for in pieces of zero bytes.
MIN_SCRATCH = 256


@dataclass(frozen=True, slots=True)
class Stream:
    """Where the work of an engine is queued."""

    cuda: Cuda
    handle: int


@dataclass(frozen=True, slots=True)
class Scratch:
    """Device memory for what lies between the layers, shared by all contexts of a stream."""

    address: int
    n_bytes: int

    @classmethod
    def for_engines(cls, cuda: Cuda, engines: list[trt.ICudaEngine]) -> Scratch:
        """As much as the greediest needs.

        Raises
        ------
        EngineError
            If the card has no such memory.
        """
        n_bytes = max((int(e.device_memory_size_v2) for e in engines), default=0)
        n_bytes = max(n_bytes, MIN_SCRATCH)
        return cls(cuda.malloc(n_bytes), n_bytes)


class Lane:
    """One graph: its contexts, and buffers for the largest batch on the host and on the card.

    Raises
    ------
    EngineError
        If memory is short, or the engine's tensors are not those of the manifest.
    """

    def __init__(
        self, stream: Stream, scratch: Scratch, engine: trt.ICudaEngine, info: GraphInfo, max_batch: int
    ) -> None:
        self.info = info
        self.refusal: str | None = None
        """Why calls are not captured; None while they are."""
        self._cuda, self._stream, self._scratch, self._engine = stream.cuda, stream.handle, scratch, engine
        self._host: dict[str, npt.NDArray[Any]] = {}
        self._device: dict[str, int] = {}
        self._n_calls: Counter[int] = Counter()
        self._captured: dict[int, tuple[trt.IExecutionContext, int]] = {}
        try:
            self._take_buffers(max_batch)
            self._context: trt.IExecutionContext | None = self._new_context()
        except BaseException:
            self.close()
            raise

    @property
    def captured(self) -> tuple[int, ...]:
        """Sizes of batch that run as one CUDA graph."""
        return tuple(sorted(self._captured))

    def run(self, inputs: dict[str, npt.NDArray[Any]], batch: int) -> dict[str, npt.NDArray[Any]]:
        """Run one batch and wait for it; the arrays are views of pinned memory, good until the next run.

        Raises
        ------
        EngineError
            If CUDA or TensorRT fails.
        """
        for name, a in inputs.items():
            np.copyto(self._host[name][:batch], a)
        self._n_calls[batch] += 1
        if batch in self._captured:
            self._cuda.launch(self._captured[batch][1], self._stream)
            self._cuda.synchronise(self._stream)
        elif not (self._worth_capturing(batch) and self._run_and_capture(batch)):
            assert self._context is not None, "closed"
            self._queue(self._context, batch)
            self._cuda.synchronise(self._stream)
        return {t.name: self._host[t.name][:batch] for t in self.info.outputs}

    def close(self) -> None:
        """Free the buffers; arrays handed out must not be used any more."""
        while self._captured:
            self._drop(next(iter(self._captured)))
        self._context = None
        while self._device:
            self._cuda.free(self._device.popitem()[1])
        while self._host:
            self._cuda.free_pinned(self._host.popitem()[1])

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

    def _new_context(self) -> trt.IExecutionContext:
        context = self._engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise EngineError(f"tensorrt has no memory for graph {self.info.name}: lower the batch")
        context.set_device_memory(self._scratch.address, self._scratch.n_bytes)
        for name, address in self._device.items():
            if not context.set_tensor_address(name, address):
                raise EngineError(f"tensorrt refuses the address of {name} in graph {self.info.name}")
        return context

    def _queue(self, context: trt.IExecutionContext, batch: int) -> None:
        """Set the shapes, then queue copies and kernels of one call."""
        here = f"graph {self.info.name}"
        for t in self.info.inputs:
            shape = (batch, *t.item_shape)
            if not context.set_input_shape(t.name, shape):
                raise EngineError(f"tensorrt refuses shape {shape} of {t.name} in {here}")
        if missing := context.infer_shapes():
            raise EngineError(f"tensorrt cannot tell shapes in {here}: {', '.join(missing)}")
        for t in self.info.outputs:
            shape = tuple(context.get_tensor_shape(t.name))
            if shape != (batch, *t.item_shape):
                raise EngineError(f"tensorrt gives {t.name} of {here} as {shape}, not {(batch, *t.item_shape)}")
        self._queue_work(context, batch)

    def _queue_work(self, context: trt.IExecutionContext, batch: int) -> None:
        for t in self.info.inputs:
            self._cuda.upload(self._device[t.name], self._host[t.name][:batch], self._stream)
        if not context.execute_async_v3(self._stream):
            raise EngineError(f"tensorrt failed to start graph {self.info.name}")
        for t in self.info.outputs:
            self._cuda.download(self._host[t.name][:batch], self._device[t.name], self._stream)

    def _worth_capturing(self, batch: int) -> bool:
        if self.refusal is not None or self._n_calls[batch] < 2:
            return False
        if len(self._captured) < MAX_CAPTURED:
            return True
        rarest = min(self._captured, key=self._n_calls.__getitem__)
        if self._n_calls[batch] < 2 * self._n_calls[rarest]:
            return False
        self._drop(rarest)
        return True

    def _run_and_capture(self, batch: int) -> bool:
        """Run on a context of its own, as capturing demands one call before, then record the call for the next time.

        False: there is no memory for such a context, nothing was run.
        """
        try:
            context = self._new_context()
        except EngineError as e:
            self._refuse(e)
            return False
        self._queue(context, batch)
        self._cuda.synchronise(self._stream)
        try:
            captured = self._cuda.capture(self._stream, lambda: self._queue_work(context, batch))
        except EngineError as e:
            self._refuse(e)
        else:
            self._captured[batch] = (context, captured)
        return True

    def _refuse(self, e: EngineError) -> None:
        self.refusal = str(e)
        log.warning("graph %s runs without CUDA graphs, a little slower: %s", self.info.name, e)

    def _drop(self, batch: int) -> None:
        context, captured = self._captured.pop(batch)
        self._cuda.free_captured(captured)
        del context  # after the graph that uses it
