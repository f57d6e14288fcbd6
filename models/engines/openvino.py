"""OpenVINO on the CPU: the default where there is no card."""

from __future__ import annotations

import sys
from typing import Any

import numpy.typing as npt

from models.bundle import Bundle
from models.engines.base import EngineOptions, Tensors, checked_inputs, one_line
from models.errors import EngineError, EngineUnavailable

__all__ = ["OpenVinoEngine", "silence_telemetry"]


class OpenVinoEngine:
    """Graphs compiled once with a dynamic batch; the precision is always stated, OpenVINO's own choice may be bfloat16.

    Nothing is cached on disk and nothing leaves the machine: see `silence_telemetry`.

    Raises
    ------
    EngineUnavailable
        If OpenVINO is not installed, or the processor lacks the precision asked for.
    EngineError
        If a graph cannot be compiled.
    """

    name = "openvino"

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        silence_telemetry()
        try:
            import openvino as ov
        except ImportError as e:
            raise EngineUnavailable(f"openvino is not installed ({e}): pip install 'tonald[openvino]'") from e
        self.precision = options.precision or "f32"
        self.max_batch, self.graphs = options.max_batch, options.graphs
        core = ov.Core()
        self.device = f"{str(core.get_property('CPU', 'FULL_DEVICE_NAME')).strip()}, {options.n_threads} threads"
        self._check_precision(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        settings = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "EXECUTION_MODE_HINT": "ACCURACY" if self.precision == "f32" else "PERFORMANCE",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(options.n_threads),
            # two copies of a daemon, or a container with a quota, must not be tied to the same core
            "ENABLE_CPU_PINNING": False,
        }
        self._infos = {name: bundle.manifest.graph(name, "f32") for name in self.graphs}
        self._requests: dict[str, Any] = {}
        for name in self.graphs:
            try:
                model = core.compile_model(core.read_model(bundle.graph_bytes(name, "f32")), "CPU", settings)
            except RuntimeError as e:
                raise EngineError(f"openvino cannot compile graph {name}: {one_line(e)}") from e
            runs_in = model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            if runs_in != self.precision:
                raise EngineError(f"openvino would run graph {name} in {runs_in}, not in {self.precision}")
            self._requests[name] = model.create_infer_request()

    def _check_precision(self, can: list[str]) -> None:
        needs = {"f32": "FP32", "bf16": "BF16"}.get(self.precision)
        if needs is None:
            raise EngineUnavailable(f"openvino serves f32 and bf16, not {self.precision}")
        if needs not in can:
            raise EngineUnavailable(f"this processor does not compute in {self.precision}, only in {', '.join(can)}")

    def run(self, graph: str, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Run one graph; the arrays handed back are views, good until the same graph runs again."""
        if graph not in self._requests:
            raise EngineError(f"openvino: graph {graph} is not loaded, only {', '.join(self.graphs)}")
        info, request = self._infos[graph], self._requests[graph]
        inputs, _ = checked_inputs(self, info, tensors)
        try:
            request.infer(inputs, share_inputs=True)
            return {o.name: request.get_tensor(o.name).data for o in info.outputs}
        except RuntimeError as e:
            raise EngineError(f"openvino failed in graph {graph}: {one_line(e)}") from e

    def close(self) -> None:
        """Free the compiled graphs."""
        self._requests.clear()


def silence_telemetry() -> None:
    """Keep OpenVINO from calling home; to be called before it is imported.

    ``import openvino`` alone sends an event to Google Analytics (seen with 2026.4: a look-up of the host name at each
    start). Where its package ``openvino_telemetry`` cannot be imported it uses a stand-in of its own that sends
    nothing; an entry of None makes it so.
    """
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)
