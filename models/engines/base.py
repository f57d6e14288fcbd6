"""The seam between the explainer and a runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from models.errors import EngineError
from models.manifest import GraphInfo

__all__ = ["Engine", "EngineOptions", "Tensors", "checked_inputs", "one_line", "usable_cores"]

Tensors: TypeAlias = Mapping[str, npt.NDArray[Any]]


class Engine(Protocol):
    """Runs the graphs of one bundle. Not thread-safe: one thread calls it.

    The arrays handed back may be views of the engine's own buffers: good until the same graph runs again.
    """

    name: str
    """``openvino``, ``onnxruntime`` or ``tensorrt``."""
    precision: str
    """``f32``, ``bf16`` or ``f16``: what the convolutions compute in."""
    device: str
    """For people: the processor or card."""
    max_batch: int
    """Most windows in one call."""
    graphs: tuple[str, ...]
    """Names it can run."""

    def run(self, graph: str, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Run one graph of the bundle; the batch (axis 0) may differ from call to call, 1 to ``max_batch``.

        Raises
        ------
        EngineError
            If a tensor does not fit the graph or the runtime fails; the message names engine and graph.
        """

    def close(self) -> None:
        """Free what the runtime holds; harmless when called again."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine is opened with."""

    graphs: tuple[str, ...]
    max_batch: int
    n_threads: int
    precision: str | None = None
    """None: the engine's own choice, ``f32`` on a CPU, ``f16`` on a card if the bundle has it."""
    state_dir: str | None = None
    """Where plans may be kept; None: nothing is written."""
    progress: Callable[[str], None] | None = None
    """Called now and then with one line, while opening takes minutes (a plan is built)."""


def usable_cores() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0))


def checked_inputs(engine: Engine, info: GraphInfo, tensors: Tensors) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """Inputs of a call in C order, and their batch.

    Raises
    ------
    EngineError
        If one is missing, unknown, of another type or shape, or the batch is not in 1..max_batch.
    """
    here = f"{engine.name}, graph {info.name}"
    if set(tensors) != {i.name for i in info.inputs}:
        raise EngineError(f"{here}: given {sorted(tensors)}, expected {sorted(i.name for i in info.inputs)}")
    out = {}
    batch = len(tensors[info.inputs[0].name])
    if not 1 <= batch <= engine.max_batch:
        raise EngineError(f"{here}: {batch} windows in a call are not in 1..max_batch={engine.max_batch}")
    for i in info.inputs:
        a = tensors[i.name]
        if a.dtype != np.dtype(i.dtype) or a.shape != (batch, *i.item_shape):
            raise EngineError(f"{here}: {i.name} is {a.dtype} {a.shape}, expected {i.dtype} {(batch, *i.item_shape)}")
        out[i.name] = np.ascontiguousarray(a)
    return out, batch


def one_line(e: BaseException) -> str:
    """What a runtime said, as one short line."""
    return " ".join(str(e).split())[:300]
