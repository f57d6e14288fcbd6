"""How near the engine's call comes to what the machine gives for its convolutions alone.

Every convolution of the fused graph is timed by itself, at the sizes it has there, on OpenVINO, ONNX Runtime and torch
(oneDNN); of each the fastest counts, and their sum is the *limit*: no activation, pooling, dense layer, gathering or
mask is in it, and every input lies where it was left. The share is the limit's time over that of the whole call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import openvino
import torch
from onnx import TensorProto, helper, numpy_helper, shape_inference
from torch.nn import functional

from calibration.bench.rounds import ratio, timed
from models.bundle import Bundle
from models.engines.base import Engine
from models.engines.onnxruntime import silence_telemetry

__all__ = ["Convolution", "convolutions_of", "distance_to_limit"]

F32 = npt.NDArray[np.float32]
Call = Callable[[], object]
OPSET = 18


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """One convolution of a graph, at one batch size; stride and dilation 1."""

    shape: tuple[int, ...]
    """Of its input ``(n, n_in, height, width)``."""
    weight: F32
    """``(n_out, n_in, kernel height, kernel width)``"""
    bias: F32
    pads: tuple[int, ...]
    """As in ONNX: before and after along height and width."""

    @property
    def n_flop(self) -> int:
        """Multiplications and additions."""
        n, _, height, width = self.shape
        up, left, down, right = self.pads
        n_out, n_in, kh, kw = self.weight.shape
        n_at = (height + up + down - kh + 1) * (width + left + right - kw + 1)
        return int(2 * n * n_out * n_in * kh * kw * n_at)

    def model(self) -> bytes:
        """A graph of nothing else."""
        node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=list(self.pads))
        graph = helper.make_graph(
            [node], "convolution", [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(self.shape))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(self.weight, "w"), numpy_helper.from_array(self.bias, "b")],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        return bytes(shape_inference.infer_shapes(model).SerializeToString())


def convolutions_of(graph: bytes, n_batch: int) -> list[Convolution]:
    """Those of an ONNX graph whose first axis of every input is the batch.

    Raises
    ------
    ValueError
        If a shape does not follow from the batch, or a convolution strides, dilates or has groups.
    """
    model = onnx.load_from_string(graph)
    for given in model.graph.input:
        given.type.tensor_type.shape.dim[0].dim_value = n_batch
    model = shape_inference.infer_shapes(model, data_prop=True)
    shapes = {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
        for v in (*model.graph.value_info, *model.graph.input)
    }
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        words = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        x, w, b = node.input
        plain = all(set(words.get(k, [1])) == {1} for k in ("strides", "dilations")) and words.get("group", 1) == 1
        if not plain or not all(shapes.get(x, (0,))):
            raise ValueError(f"{node.name}: shape {shapes.get(x)}, {words}: cannot be timed alone")
        found.append(Convolution(shapes[x], weights[w], weights[b], tuple(words.get("pads", (0, 0, 0, 0)))))
    return found


def distance_to_limit(
    bundle: Bundle, engine: Engine, x: F32, n_threads: int, seconds: float, graph: str = "fused"
) -> dict[str, Any]:
    """Time the engine's call on ``x`` ``(n, n_planes, n_freq, n_time)`` beside its convolutions alone.

    Returns
    -------
    dict
        ``share`` the limit's time over the call's, median of the rounds; ``ms``, ``limit_ms`` of the batch;
        ``gflop`` of the convolutions, ``gflop_per_s`` of the call and ``limit_gflop_per_s``; ``convolutions`` one row
        each: ``shape``, ``n_out``, ``ms``, ``on`` what was fastest.
    """
    parts = convolutions_of(bundle.graph_bytes(graph, "f32"), len(x))
    calls: list[Call] = [lambda: engine.run(graph, {"features": x})]
    owners: list[tuple[int, str]] = []
    for i, part in enumerate(parts):
        for name, make in _RUNTIMES.items():
            calls.append(make(part, n_threads))
            owners.append((i, name))
    times = timed(calls, seconds)
    best = [_best(times[:, 1:], [o[0] for o in owners], i) for i in range(len(parts))]
    limit = times[:, 1:][:, best].sum(axis=1)
    n_flop = sum(p.n_flop for p in parts)
    ms, limit_ms = 1e3 * float(np.median(times[:, 0])), 1e3 * float(np.median(limit))
    return {
        "batch": len(x), "share": ratio(limit, times[:, 0]), "ms": ms, "limit_ms": limit_ms, "gflop": 1e-9 * n_flop,
        "gflop_per_s": 1e-6 * n_flop / ms, "limit_gflop_per_s": 1e-6 * n_flop / limit_ms,
        "convolutions": [
            {
                "shape": list(p.shape), "n_out": len(p.weight), "ms": 1e3 * float(np.median(times[:, 1 + k])),
                "on": owners[k][1],
            }
            for p, k in zip(parts, best, strict=True)
        ],
    }  # fmt: skip


def _best(times: npt.NDArray[np.float64], part_of: Sequence[int], part: int) -> int:
    """Column of the fastest way to do one convolution."""
    own = [k for k, i in enumerate(part_of) if i == part]
    return min(own, key=lambda k: float(np.median(times[:, k])))


def _input(part: Convolution) -> F32:
    return np.random.default_rng(0).random(part.shape, np.float32)


def _on_onnxruntime(part: Convolution, n_threads: int) -> Call:
    silence_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    session = onnxruntime.InferenceSession(part.model(), options, providers=["CPUExecutionProvider"])
    x = _input(part)
    return lambda: session.run(None, {"x": x})


def _on_openvino(part: Convolution, n_threads: int) -> Call:
    core = openvino.Core()
    words = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": n_threads, "NUM_STREAMS": 1}
    request = core.compile_model(core.read_model(part.model()), "CPU", words).create_infer_request()
    request.set_input_tensor(openvino.Tensor(_input(part)))
    return lambda: request.infer()


def _on_torch(part: Convolution, n_threads: int) -> Call:
    up, left, down, right = part.pads
    if (up, left) != (down, right):
        raise ValueError(f"pads {part.pads} differ before and after: torch's convolution has no such form")
    x, weight, bias = (torch.from_numpy(a.copy()) for a in (_input(part), part.weight, part.bias))

    def run() -> object:
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        try:
            with torch.inference_mode():
                return functional.conv2d(x, weight, bias, padding=(up, left))
        finally:
            torch.set_num_threads(before)

    return run


_RUNTIMES: dict[str, Callable[[Convolution, int], Call]] = {
    "ONNX Runtime": _on_onnxruntime, "OpenVINO": _on_openvino, "torch": _on_torch,
}  # fmt: skip
