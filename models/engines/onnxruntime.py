"""ONNX Runtime on the CPU: runs wherever numpy does."""

from __future__ import annotations

import os
import platform
from typing import Any

import numpy.typing as npt

from models.bundle import Bundle
from models.engines.base import EngineOptions, Tensors, checked_inputs, one_line
from models.errors import EngineError, EngineUnavailable

__all__ = ["OnnxRuntimeEngine", "silence_telemetry"]


class OnnxRuntimeEngine:
    """One session per graph on the CPU provider, all graph optimisations.

    Raises
    ------
    EngineUnavailable
        If ONNX Runtime is not installed, or another precision than f32 is asked for.
    EngineError
        If a graph cannot be loaded.
    """

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        silence_telemetry()
        try:
            import onnxruntime as ort
            from onnxruntime.capi import onnxruntime_pybind11_state as native
        except ImportError as e:
            raise EngineUnavailable(f"onnxruntime is not installed ({e}): pip install 'tonald[cpu]'") from e
        self.precision = options.precision or "f32"
        if self.precision != "f32":
            raise EngineUnavailable(f"onnxruntime serves f32 on the CPU, not {self.precision}")
        self.max_batch, self.graphs = options.max_batch, options.graphs
        self.device = f"{platform.machine()} CPU, {options.n_threads} threads"
        settings = ort.SessionOptions()
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.intra_op_num_threads = options.n_threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        # threads that spin for work between calls take the core that line tracks and the front end need
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # the exceptions of the runtime share no base of their own
        self._errors: tuple[type[Exception], ...] = (
            RuntimeError, ValueError,
            *(v for v in vars(native).values() if isinstance(v, type) and issubclass(v, Exception)),
        )  # fmt: skip
        self._infos = {name: bundle.manifest.graph(name, "f32") for name in self.graphs}
        self._sessions: dict[str, Any] = {}
        try:
            for name in self.graphs:
                data = bundle.graph_bytes(name, "f32")
                self._sessions[name] = ort.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
        except self._errors as e:
            raise EngineError(f"onnxruntime cannot load graph {name}: {one_line(e)}") from e

    def run(self, graph: str, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Run one graph; the arrays handed back are new."""
        if graph not in self._sessions:
            raise EngineError(f"onnxruntime: graph {graph} is not loaded, only {', '.join(self.graphs)}")
        info = self._infos[graph]
        inputs, _ = checked_inputs(self, info, tensors)
        names = [o.name for o in info.outputs]
        try:
            return dict(zip(names, self._sessions[graph].run(names, inputs), strict=True))
        except self._errors as e:
            raise EngineError(f"onnxruntime failed in graph {graph}: {one_line(e)}") from e

    def close(self) -> None:
        """Free the sessions."""
        self._sessions.clear()


def silence_telemetry() -> None:
    """Keep ONNX Runtime from calling home; to be called before it is imported.

    From 1.29 on ``import onnxruntime`` alone starts a thread, writes a device number and a database to
    ``~/.cache/Microsoft``, and queues an event for a host of its maker (seen with 1.32 on Linux). Its own
    ``disable_telemetry_events`` comes too late for that; this variable is read first.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
