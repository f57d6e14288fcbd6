"""A whole bundle of toy size for tests: real ONNX graphs with the names and types of the real ones.

``classify`` feels the energy in the lower and in the upper half of the rows: much below is ``low``, much above
``high``, little anywhere ``ambient``. Its golden data come from onnx's own reference evaluator, which is neither of the
engines under test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
from onnx import TensorProto, helper, numpy_helper

from models.bundle import Bundle, Representatives, Thresholds, write_bundle
from models.features import FeatureSpec

LABELS = ("low", "high", "ambient")
SPEC = FeatureSpec(n_freq=32, n_time=16)
N_CHANNELS, N_EMBEDDING, N_TRUNK_TIME = 4, 3, SPEC.n_time // 4
GOLDEN_WINDOWS = 3
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT32
IO = {
    "features": (FLOAT, ["batch", *SPEC.shape]),
    "trunk": (FLOAT, ["batch", N_CHANNELS, SPEC.n_freq, N_TRUNK_TIME]),
    "cls": (INT, ["batch"]),
    "logits": (FLOAT, ["batch", len(LABELS)]),
    "probs": (FLOAT, ["batch", len(LABELS)]),
    "embedding": (FLOAT, ["batch", N_EMBEDDING]),
    "cam": (FLOAT, ["batch", SPEC.n_freq, SPEC.n_time]),
    "mix": (FLOAT, ["batch", SPEC.n_freq, SPEC.n_time]),
}  # fmt: skip
CLASSIFY = ["logits", "probs", "embedding", "trunk"]
EXPLAIN = ["cam", "mix"]


def class_masks() -> np.ndarray:
    masks = np.zeros((len(LABELS), SPEC.n_freq, SPEC.n_time), np.float32)
    masks[0, : SPEC.n_freq // 2] = 1.0
    masks[1, SPEC.n_freq // 2 :] = 1.0
    return masks


def window(low: float = 0.0, high: float = 0.0, seed: int = 0) -> np.ndarray:
    """Features ``(1, n_freq, n_time)``: background, and a line of each given height in the lower and upper half."""
    x = np.full(SPEC.shape, 0.2, np.float32)
    x += np.random.default_rng(seed).normal(0.0, 0.01, x.shape).astype(np.float32)
    x[:, SPEC.n_freq // 4] += np.float32(low)
    x[:, 3 * SPEC.n_freq // 4] += np.float32(high)
    return np.clip(x, 0.0, 1.0)


def _weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    kernel = rng.normal(0.0, 0.1, (N_CHANNELS, 1, 3, 3))
    kernel[0] = 0.0
    kernel[0, 0, 1, 1] = 1.0  # channel 0 hands the features on
    feel = np.zeros((N_CHANNELS, SPEC.n_freq, N_EMBEDDING))
    feel[0, : SPEC.n_freq // 2, 0] = 1.0
    feel[0, SPEC.n_freq // 2 :, 1] = 1.0
    feel[1:, :, 2] = rng.normal(0.0, 0.05, (N_CHANNELS - 1, SPEC.n_freq))
    quiet = 0.215 * SPEC.n_freq / 2  # what each half adds up to without a line (the largest of 4 cells is kept)
    return {
        "kernel": kernel,
        "feel": feel.reshape(-1, N_EMBEDDING),
        "feel_bias": np.array([-quiet, -quiet, 0.5]),
        "name": np.array([[20.0, -20.0, -20.0], [-20.0, 20.0, -20.0], [0.0, 0.0, 0.0]]),
        "name_bias": np.array([0.0, 0.0, 5.0]),
        "masks": class_masks(),
    }


def _nodes(graph: str) -> list[Any]:
    node = helper.make_node
    classify = [
        node("Conv", ["features", "kernel"], ["conv"], pads=[1, 1, 1, 1]),
        node("Relu", ["conv"], ["wide"]),
        node("MaxPool", ["wide"], ["trunk"], kernel_shape=[1, 4], strides=[1, 4]),
        node("ReduceMean", ["trunk", "axis_3"], ["rows"], keepdims=0),
        node("Flatten", ["rows"], ["flat"]),
        node("Gemm", ["flat", "feel", "feel_bias"], ["felt"]),
        node("Relu", ["felt"], ["embedding"]),
        node("Gemm", ["embedding", "name", "name_bias"], ["logits"]),
        node("Softmax", ["logits"], ["probs"]),
    ]
    explain = [
        node("ReduceMean", ["trunk", "axis_1"], ["flat_map"], keepdims=1),
        node("Resize", ["flat_map", "", "scales"], ["map"], mode="linear"),
        node("Mul", ["map", "features"], ["seen"]),
        node("ReduceMax", ["seen", "axis_123"], ["top"], keepdims=1),
        node("Div", ["seen", "top"], ["scaled"]),
        node("Squeeze", ["scaled", "axis_1"], ["cam"]),
        node("Gather", ["masks", "cls"], ["mask"]),
        node("Add", ["cam", "mask"], ["both"]),
        node("Mul", ["both", "half"], ["mix"]),
    ]
    choose = [node("ArgMax", ["probs"], ["cls_64"], axis=1, keepdims=0), node("Cast", ["cls_64"], ["cls"], to=INT)]
    return {"classify": classify, "explain": explain, "fused": classify + choose + explain}[graph]


def graph_bytes(graph: str) -> bytes:
    inputs = {"classify": ["features"], "explain": ["trunk", "features", "cls"], "fused": ["features"]}[graph]
    outputs = {"classify": CLASSIFY, "explain": EXPLAIN, "fused": [*CLASSIFY[:3], "cls", *EXPLAIN]}[graph]
    nodes = _nodes(graph)
    constants = {name: w.astype(np.float32) for name, w in _weights().items()} | {
        "axis_1": np.array([1]), "axis_3": np.array([3]), "axis_123": np.array([1, 2, 3]),
        "scales": np.array([1.0, 1.0, 1.0, 4.0], np.float32), "half": np.array(0.5, np.float32),
    }  # fmt: skip
    used = {name for n in nodes for name in n.input}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            graph,
            [helper.make_tensor_value_info(n, *IO[n]) for n in inputs],
            [helper.make_tensor_value_info(n, *IO[n]) for n in outputs],
            [numpy_helper.from_array(a, n) for n, a in constants.items() if n in used],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def golden_of(graph: str, data: bytes, **inputs: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    reference = onnx.reference.ReferenceEvaluator(onnx.load_from_string(data))
    outputs = reference.run(None, inputs)
    return inputs, dict(zip(reference.output_names, outputs, strict=True))


def arguments(graphs: tuple[str, ...] = ("classify", "explain", "fused")) -> dict[str, Any]:
    """Everything ``write_bundle`` takes but the path."""
    features = np.stack([window(low=0.7), window(high=0.5, seed=1), window(seed=2)])
    assert len(features) == GOLDEN_WINDOWS
    files = {(g, "f32"): graph_bytes(g) for g in graphs}
    golden = {"classify": golden_of("classify", files["classify", "f32"], features=features)}
    trunk, cls = golden["classify"][1]["trunk"], np.array([0, 1, 0], np.int32)
    if "explain" in graphs:
        golden["explain"] = golden_of("explain", files["explain", "f32"], trunk=trunk, features=features, cls=cls)
    if "fused" in graphs:
        golden["fused"] = golden_of("fused", files["fused", "f32"], features=features)
    known = {label: golden["classify"][1]["embedding"][i] for i, label in enumerate(LABELS)}
    return {
        "labels": LABELS,
        "spec": SPEC,
        "k": 2,
        "graphs": files,
        "class_masks": class_masks(),
        "representatives": Representatives(
            tuple(f"{label}/0" for label in known),
            np.arange(len(LABELS), dtype=np.int32),
            np.stack(list(known.values())).astype(np.float32),
        ),
        "thresholds": Thresholds(
            mix={label: {"0.86": 0.4, "0.95": 0.5, "0.99": 0.6} for label in LABELS[:2]},
            nominal="0.95",
            unknown_distance={"low": 0.3, "high": 0.3, "ambient": 0.3},
            min_probability={"low": 0.5, "high": 0.5},
        ),
        "golden": golden,
        # the sums of 512 float32 products, of values up to 20, in another order: 20 * 512 * 6e-8 at worst, 1e-5 in fact
        "tolerances": {(g, "f32"): dict.fromkeys(golden[g][1], 1e-4) for g in graphs},
        "training": {"seed": 7, "command": "tests"},
    }


def make_bundle(path: Path, **changes: Any) -> Bundle:
    """Write the toy bundle at ``path`` and load it; ``changes`` replace arguments of ``write_bundle``."""
    return write_bundle(path, **(arguments() | changes))
