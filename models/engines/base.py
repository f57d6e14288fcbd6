"""The seam between the explainer and a runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Engine", "Tensors"]

Tensors: TypeAlias = Mapping[str, npt.NDArray[Any]]


class Engine(Protocol):
    """Runs the graphs of one bundle. Not thread-safe: one thread calls it.

    The arrays handed back may be views of the engine's own buffers: good until the next call.
    """

    name: str
    """``openvino``, ``onnxruntime`` or ``tensorrt``."""
    precision: str
    """``f32``, ``bf16`` or ``f16``: what the convolutions compute in."""
    device: str
    """For people: the processor or card."""

    def run(self, graph: str, tensors: Tensors) -> dict[str, npt.NDArray[np.generic]]:
        """Run one graph of the bundle; the batch (axis 0) may differ from call to call.

        Raises
        ------
        EngineError
            If the runtime fails; the message names engine and graph.
        """

    def close(self) -> None:
        """Free what the runtime holds."""
