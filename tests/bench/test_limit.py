"""The bare convolutions that the engine's call is held against."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional

from calibration.bench.limit import Convolution, convolutions_of, distance_to_limit
from models.bundle import Bundle
from models.engines import open_engine

BATCH = 2


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(Bundle.shipped())


def test_convolutions_are_those_of_the_graph(bundle: Bundle) -> None:
    graph = bundle.graph_bytes("fused", "f32")
    found = convolutions_of(graph, BATCH)
    nodes = [n for n in onnx.load_from_string(graph).graph.node if n.op_type == "Conv"]
    assert len(found) == len(nodes) > 4
    plain = [c for c in found if c.shape[0] == BATCH]
    coarse = [c for c in found if c.shape[0] == BATCH * bundle.k]
    assert plain[0].shape == (BATCH, *bundle.spec.shape)
    assert len(plain) + len(coarse) == len(found)
    for one in found:
        assert one.weight.shape[1] == one.shape[1]


def test_a_convolution_alone_is_that_convolution() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((5, 3, 3, 3), np.float32), rng.standard_normal(5, np.float32)
    part = Convolution((2, 3, 8, 6), weight, bias, (1, 1, 1, 1))
    x = rng.random(part.shape, np.float32)
    session = onnxruntime.InferenceSession(part.model(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    want = functional.conv2d(torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias), padding=1).numpy()
    np.testing.assert_allclose(y, want, atol=1e-5)
    assert part.n_flop == 2 * want.size * 3 * 9


def test_share_is_told_with_its_parts(bundle: Bundle) -> None:
    engine, _ = open_engine(bundle, "onnxruntime", max_batch=BATCH, n_threads=1, graphs=("fused",))
    x = np.random.default_rng(0).random((BATCH, *bundle.spec.shape), np.float32)
    try:
        found = distance_to_limit(bundle, engine, x, 1, 0.02)
    finally:
        engine.close()
    parts = found["convolutions"]
    assert found["gflop"] == pytest.approx(
        1e-9 * sum(c.n_flop for c in convolutions_of(bundle.graph_bytes("fused", "f32"), BATCH))
    )
    assert {p["on"] for p in parts} <= {"ONNX Runtime", "OpenVINO", "torch"}
    assert found["limit_ms"] > 0.0
    assert found["ms"] > 0.0
    assert found["share"] == pytest.approx(found["limit_ms"] / found["ms"], rel=0.5)


def test_a_convolution_that_strides_is_refused(bundle: Bundle) -> None:
    model = onnx.load_from_string(bundle.graph_bytes("fused", "f32"))
    strides = next(a for n in model.graph.node if n.op_type == "Conv" for a in n.attribute if a.name == "strides")
    strides.ints[:] = [2, 2]
    with pytest.raises(ValueError, match="cannot be timed alone"):
        convolutions_of(model.SerializeToString(), 1)
