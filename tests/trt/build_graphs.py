"""Parse and build each graph of a bundle with NVIDIA's own parser and builder, by the engine's own code, and no card.

TensorRT-RTX builds on the CPU for a card that need not be there. It shares headers, parser and typing rules with
TensorRT 11. What passes is well-typed and buildable there; it says nothing of numbers, of speed, or of 10.3's parser.

Run in a process of its own: ``python -m tests.trt.build_graphs FOLDER BUNDLE MAX_BATCH``; JSON on stdout.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.bundle import Bundle
from models.errors import EngineError
from models.manifest import GraphInfo, TensorInfo

#: Cards built for: Ampere, Ada, Blackwell.
CAPABILITIES = ("SM86", "SM89", "SM120")
#: Layers whose type matters for precision.
HEAVY = ("CONVOLUTION", "MATRIX_MULTIPLY", "SOFTMAX", "TOPK", "RESIZE", "REDUCE")


def main(folder: str, bundle_path: str, max_batch: str) -> None:
    """Build everything; refuse what must be refused."""
    sys.path.insert(0, folder)
    rtx = importlib.import_module("tensorrt_rtx_bindings")
    capability = _stand_in(rtx)
    from models.engines import tensorrt_api, tensorrt_plan

    assert tensorrt_api.IS_RTX
    told = _Told()
    logging.getLogger().addHandler(told)
    logging.getLogger("models").setLevel(logging.INFO)
    tensorrt_plan.SECONDS_BETWEEN_NEWS = 0.0
    bundle = Bundle.load(bundle_path)
    out: dict[str, Any] = {"release": tensorrt_api.NAME, "graphs": [], "refused": {}}
    for info in bundle.manifest.graphs:
        file = bundle.graph_bytes(info.name, info.precision)
        for name in CAPABILITIES:
            capability["name"] = name
            told.lines.clear()
            built = tensorrt_plan.build_plan(file, info, int(max_batch), b"")
            out["graphs"].append({
                "graph": info.name, "precision": info.precision, "capability": name, "bytes": len(built.plan),
                "seconds": built.seconds, "n_news": sum("builds graph" in x for x in told.lines),
                "timing_cache": len(built.timings), **_typed(rtx, file, info),
            })  # fmt: skip
    for what, (file, info) in _wrong_graphs().items():
        out["refused"][what] = _refusal(partial(tensorrt_plan.build_plan, file, info, int(max_batch), b""))
    sys.stdout.write(json.dumps(out) + "\n")


def _refusal(build: Callable[[], object]) -> str | None:
    try:
        build()
    except EngineError as e:
        return str(e)
    return None


class _Told(logging.Handler):
    """What the engine and TensorRT said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _stand_in(rtx: Any) -> dict[str, str]:
    """Make the engine find TensorRT-RTX, and its builder build for a card that is not here."""
    capability = {"name": CAPABILITIES[0]}

    class Builder(rtx.Builder):  # type: ignore[misc]
        def create_builder_config(self) -> Any:
            config = super().create_builder_config()
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(rtx.ComputeCapability, capability["name"]), 0)
            return config

    module = type(sys)("tensorrt_rtx")
    vars(module).update({k: v for k, v in vars(rtx).items() if k != "__name__"}, Builder=Builder)
    sys.modules["tensorrt"] = None  # type: ignore[assignment]
    sys.modules["tensorrt_rtx"] = module
    return capability


def _typed(rtx: Any, file: bytes, info: GraphInfo) -> dict[str, Any]:
    """What the parser makes of a graph: its borders must be those of the manifest."""
    from models.engines.tensorrt_api import LOGGER

    network = rtx.Builder(LOGGER).create_network(0)
    parser = rtx.OnnxParser(network, LOGGER)
    assert parser.parse(file)
    tensors = {}
    for n, get in ((network.num_inputs, network.get_input), (network.num_outputs, network.get_output)):
        for t in map(get, range(n)):
            tensors[t.name] = (np.dtype(rtx.nptype(t.dtype)).name, tuple(t.shape))
    want = {t.name: (t.dtype, (-1, *t.item_shape)) for t in (*info.inputs, *info.outputs)}
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    kinds = Counter(f"{x.type.name} {x.get_output(0).dtype.name}" for x in layers if x.type.name in HEAVY)
    graph = onnx.load_from_string(file).graph
    types = {i.name: i.data_type for i in graph.initializer}
    n_half = sum(n.op_type == "Conv" and types.get(n.input[1]) == TensorProto.FLOAT16 for n in graph.node)
    return {
        "n_layers": len(layers), "kinds": kinds, "borders_agree": tensors == want,
        "precision_agrees": kinds["CONVOLUTION HALF"] == n_half,
    }  # fmt: skip


def _wrong_graphs() -> dict[str, tuple[bytes, GraphInfo]]:
    """What TensorRT must refuse, or this check would mean nothing."""
    x = TensorInfo("x", "float32", (1, 8, 8))
    y = TensorInfo("y", "float32", (1, 8, 8))
    half = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float16), "w")
    mixed = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    unknown = [helper.make_node("Unique", ["x"], ["y"])]
    return {
        "float32 convolved with float16": _graph(mixed, [half], x, y),
        "an operator it does not have": _graph(unknown, [], x, y),
    }


def _graph(nodes: list[Any], weights: list[Any], x: TensorInfo, y: TensorInfo) -> tuple[bytes, GraphInfo]:
    ends = [helper.make_tensor_value_info(t.name, TensorProto.FLOAT, ["batch", *t.item_shape]) for t in (x, y)]
    graph = helper.make_graph(nodes, "wrong", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString(), GraphInfo("wrong", "f32", "wrong.onnx", (x,), (y,))


if __name__ == "__main__":
    main(*sys.argv[1:])
