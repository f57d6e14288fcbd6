"""The shipped graphs keep to what the oldest TensorRT served documents; a graph that does not is found out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.bundle import Bundle
from tests.trt.operators import check


def file(*nodes: Any, opset: int = 18, dtype: int = TensorProto.FLOAT, weights: dict[str, Any] | None = None) -> bytes:
    ends = [
        helper.make_tensor_value_info("x", dtype, ["batch", 1, 8, 8]),
        helper.make_tensor_value_info("y", dtype, None),
    ]
    constants = [numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def test_shipped_graphs_use_nothing_undocumented() -> None:
    bundle = Bundle.load(Bundle.shipped())
    for g in bundle.manifest.graphs:
        facts = check(bundle.graph_bytes(g.name, g.precision))
        assert facts.wrong == (), (g.name, g.precision)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (file(helper.make_node("Hardmax", ["x"], ["y"])), "not documented for 10.3"),
        (file(helper.make_node("Relu", ["x"], ["y"]), opset=21), "opset 21"),
        (file(helper.make_node("Relu", ["x"], ["y"]), dtype=TensorProto.DOUBLE), "DOUBLE is not documented"),
        (
            file(
                helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear", antialias=1),
                weights={"s": np.ones(4, np.float32)},
            ),
            "antialias",
        ),
        (
            file(
                helper.make_node("Resize", ["x", "", "s"], ["y"], mode="cubic"), weights={"s": np.ones(4, np.float32)}
            ),
            "mode cubic",
        ),
        (
            file(
                helper.make_node("Reshape", ["x", "r"], ["flat"]),
                helper.make_node("TopK", ["flat", "k"], ["y", "i"]),
                weights={"k": np.array([4096], np.int64), "r": np.array([1, -1], np.int64)},
            ),
            "k may be 3840 at most",
        ),
        (
            file(
                helper.make_node("Shape", ["x"], ["s"]),
                helper.make_node("ReduceMax", ["x", "s"], ["y"]),
            ),
            "axes must be a constant",
        ),
        (file(helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])), "indices"),
    ],
)  # fmt: skip
def test_what_is_not_documented_is_found(given: bytes, message: str) -> None:
    assert any(message in w for w in check(given).wrong), check(given).wrong
