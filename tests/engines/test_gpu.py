"""The TensorRT engine on a real card: the same parity that is tested on host memory, and what only a card can show."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle
from models.engines import golden, open_engine
from models.engines.base import EngineOptions
from models.engines.cuda import Cuda
from models.engines.onnxruntime import OnnxRuntimeEngine
from models.engines.tensorrt import TensorRtEngine
from models.errors import EngineUnavailable

pytestmark = pytest.mark.gpu

MAX_BATCH = 8
MIXED = (1, 8, 1, 3, 8, 2, 3, 1, 5, 8, 1)
PRECISIONS = ("f32", "f16")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(Bundle.shipped())


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module", params=PRECISIONS)
def engine(request: pytest.FixtureRequest, bundle: Bundle, state_dir: Path) -> Iterator[TensorRtEngine]:
    try:
        Cuda()
    except EngineUnavailable as e:
        pytest.skip(str(e))
    graphs = bundle.graph_names(request.param)
    if not graphs:
        pytest.skip(f"the bundle has no graphs in {request.param}")
    made = TensorRtEngine(bundle, EngineOptions(graphs, MAX_BATCH, 1, request.param, str(state_dir)))
    yield made
    made.close()


def inputs_of(bundle: Bundle, graph: str, n: int) -> dict[str, np.ndarray]:
    """``n`` windows of golden data, those few again and again."""
    given, _ = bundle.golden(graph)
    return {name: np.resize(a, (n, *a.shape[1:])) for name, a in given.items()}


def test_golden_outputs_are_reproduced(engine: TensorRtEngine, bundle: Bundle) -> None:
    golden.check(engine, bundle)


def test_mixed_batches_agree_with_onnxruntime(engine: TensorRtEngine, bundle: Bundle) -> None:
    reference = OnnxRuntimeEngine(bundle, EngineOptions(engine.graphs, MAX_BATCH, 1))
    for graph in engine.graphs:
        allowed = golden.tolerances(bundle, graph, engine.precision)
        for n in MIXED:
            given = inputs_of(bundle, graph, n)
            want, got = reference.run(graph, given), engine.run(graph, given)
            for name, a in want.items():
                gap = np.abs(got[name].astype(np.float64) - a.astype(np.float64)).max()
                assert gap <= 2 * allowed[name], (graph, name, n, gap)  # each may be off by one tolerance


def test_captured_and_queued_calls_agree_bit_by_bit(engine: TensorRtEngine, bundle: Bundle) -> None:
    for graph in engine.graphs:
        given = inputs_of(bundle, graph, 4)
        first, again, captured = ({k: v.copy() for k, v in engine.run(graph, given).items()} for _ in range(3))
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])
            np.testing.assert_array_equal(first[name], captured[name])


def test_capture_is_granted(engine: TensorRtEngine, bundle: Bundle) -> None:
    for graph in engine.graphs:
        for _ in range(3):
            engine.run(graph, inputs_of(bundle, graph, MAX_BATCH))
    assert all(MAX_BATCH in sizes for sizes in engine.captured.values()), engine.captured


def test_pages_tell_that_convolutions_are_in_the_precision_asked_for(engine: TensorRtEngine, state_dir: Path) -> None:
    pages = [json.loads(p.read_text()) for p in (state_dir / "tensorrt").glob("*.json")]
    mine = [p for p in pages if p["precision"] == engine.precision]
    assert {p["graph"] for p in mine} == set(engine.graphs)
    for page in mine:
        assert page["refused"] is None
        assert page["layers"], f"the inspector says nothing of {page['graph']}"
        if engine.precision == "f32":
            assert not any("half" in kind.lower() for kind in page["outputs_by_type"]), page["outputs_by_type"]


def test_second_start_builds_nothing(
    engine: TensorRtEngine, bundle: Bundle, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        again, report = open_engine(
            bundle, "tensorrt", max_batch=MAX_BATCH, state_dir=state_dir, precision=engine.precision,
            graphs=engine.graphs,
        )  # fmt: skip
        again.close()
    assert report.name == "tensorrt"
    assert "tensorrt builds graph" not in caplog.text
