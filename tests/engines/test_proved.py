"""An engine that serves goes on proving itself: a real runtime, made to lie in flight by another's sessions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnxruntime
import pytest

from models.bundle import Bundle
from models.engines import golden, open_engine
from models.engines.onnxruntime import OnnxRuntimeEngine
from models.engines.proved import ProvedEngine
from models.errors import EngineError
from tests import toy_bundle
from tests.toy_bundle import graph_bytes, make_bundle, window


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "toy")


@pytest.fixture
def engine(bundle: Bundle) -> Iterator[OnnxRuntimeEngine]:
    engine, _ = open_engine(bundle, "onnxruntime", max_batch=4, n_threads=1)
    assert isinstance(engine, OnnxRuntimeEngine)
    yield engine
    engine.close()


def ask(engine: ProvedEngine, seed: int = 0) -> dict[str, np.ndarray]:
    return engine.run("classify", {"features": window(low=0.5, seed=seed)[np.newaxis]})


def test_answers_are_those_of_the_engine(bundle: Bundle, engine: OnnxRuntimeEngine) -> None:
    proved = ProvedEngine(engine, bundle, every=2)
    for seed in range(7):
        want = engine.run("classify", {"features": window(low=0.5, seed=seed)[np.newaxis]})
        got = ask(proved, seed)
        assert all(np.array_equal(got[name], a) for name, a in want.items())
    assert (proved.name, proved.precision, proved.max_batch, proved.graphs) == (
        engine.name, engine.precision, engine.max_batch, engine.graphs,
    )  # fmt: skip


def give_other_weights(engine: OnnxRuntimeEngine, monkeypatch: pytest.MonkeyPatch, bias: float) -> None:
    """As if the memory of the engine had gone bad."""
    weights = toy_bundle._weights()
    weights["name_bias"] = weights["name_bias"] + bias
    monkeypatch.setattr(toy_bundle, "_weights", lambda: weights)
    engine._sessions["classify"] = onnxruntime.InferenceSession(graph_bytes("classify"))


def test_engine_that_begins_to_lie_is_found_at_the_next_golden_window(
    bundle: Bundle, engine: OnnxRuntimeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    proved = ProvedEngine(engine, bundle, every=4)
    for _ in range(5):
        ask(proved)
    give_other_weights(engine, monkeypatch, 0.01)
    for _ in range(2):
        ask(proved)
    with pytest.raises(EngineError, match=r"misses the golden outputs of graph classify.*last 4 calls is doubtful"):
        ask(proved)


def test_answer_that_is_no_number_is_refused_at_once(
    bundle: Bundle, engine: OnnxRuntimeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    proved = ProvedEngine(engine, bundle)
    ask(proved)
    give_other_weights(engine, monkeypatch, np.nan)
    with pytest.raises(EngineError, match=r"onnxruntime \(f32\) answered numbers that are not finite: graph classify"):
        ask(proved)


def test_every_golden_window_has_its_turn(
    bundle: Bundle, engine: OnnxRuntimeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    of = golden.difference_of

    def noted(e: OnnxRuntimeEngine, b: Bundle, graph: str, n: int) -> dict[str, float]:
        seen.append(n)
        return of(e, b, graph, n)

    monkeypatch.setattr(golden, "difference_of", noted)
    proved = ProvedEngine(engine, bundle, every=3)
    for _ in range(3 * 2 * bundle.manifest.n_golden):
        ask(proved)
    assert sorted(seen) == sorted(2 * list(range(bundle.manifest.n_golden)))


def test_every_must_be_positive(bundle: Bundle, engine: OnnxRuntimeEngine) -> None:
    with pytest.raises(ValueError, match="every=0"):
        ProvedEngine(engine, bundle, every=0)
