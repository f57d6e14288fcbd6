"""The run-time code of the TensorRT engine on host memory: captured and not, and with each call failing in turn."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from models.bundle import Bundle
from models.engines import open_engine, tensorrt
from models.engines.base import EngineOptions
from models.engines.cuda import Cuda
from models.engines.plan_cache import PlanCache
from models.engines.tensorrt import TensorRtEngine
from models.errors import EngineError
from tests.engines.fake_cuda import Cudart, Faults
from tests.engines.fake_tensorrt import Install, engine_of
from tests.toy_bundle import arguments, make_bundle, window

GRAPH = "fused"
MIXED = (1, 8, 5, 1, 3, 8, 2, 5, 3, 1, 5, 8, 1)
X = np.stack([window(low=0.1 * i, high=0.05 * i, seed=i) for i in range(8)])
STEPS = ("begin", "execute", "end", "instantiate")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "toy")


@pytest.fixture(scope="module")
def wanted(bundle: Bundle) -> dict[int, dict[str, np.ndarray]]:
    """What ONNX Runtime alone makes of the first n windows."""
    session = ort.InferenceSession(bundle.graph_bytes(GRAPH, "f32"), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return {n: dict(zip(names, session.run(names, {"features": X[:n]}), strict=True)) for n in range(1, 9)}


def assert_runs(engine: TensorRtEngine, wanted: dict[int, dict[str, np.ndarray]], sizes: tuple[int, ...]) -> None:
    for n in sizes:
        got = engine.run(GRAPH, {"features": X[:n]})
        for name, want in wanted[n].items():
            np.testing.assert_array_equal(got[name], want, err_msg=f"{name}, batch {n}")


def assert_empty(cudart: Cudart) -> None:
    for kind in ("heap", "streams", "graphs", "ready"):
        assert not getattr(cudart, kind), f"{kind} not given back"


def test_mixed_batches_are_bit_equal_and_captured_when_they_come_again(
    bundle: Bundle,
    install: Install,
    wanted: dict[int, dict[str, np.ndarray]],
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    cudart, _ = install()
    engine = engine_of(bundle, cudart)
    record_testsuite_property("batches", " ".join(map(str, MIXED)))
    assert engine.captured[GRAPH] == (1, 3, 8), "proving runs the golden windows together, one alone, and a full batch"
    before = cudart.log.count("cudaGraphLaunch")
    assert_runs(engine, wanted, MIXED)
    assert engine.captured[GRAPH] == (1, 3, 5, 8)
    assert cudart.log.count("cudaGraphLaunch") - before == len([n for n in MIXED if n in (1, 3, 8)]) + 1
    engine.close()
    assert_empty(cudart)


def test_captured_size_makes_room_for_one_used_more_often(
    bundle: Bundle, install: Install, wanted: dict[int, dict[str, np.ndarray]]
) -> None:
    cudart, _ = install()
    engine = engine_of(bundle, cudart, graphs=(GRAPH,))
    assert_runs(engine, wanted, (1, 3, 8) * 9 + (2, 2))
    assert engine.captured[GRAPH] == (1, 2, 3, 8)
    assert_runs(engine, wanted, (5,) * 3)
    assert 5 not in engine.captured[GRAPH]
    assert_runs(engine, wanted, (5, 5, 8, 1, 2, 3))
    assert engine.captured[GRAPH] == (1, 3, 5, 8)
    engine.close()
    assert_empty(cudart)


@pytest.mark.parametrize("step", STEPS)
def test_refused_capture_changes_no_result(
    bundle: Bundle,
    install: Install,
    wanted: dict[int, dict[str, np.ndarray]],
    caplog: pytest.LogCaptureFixture,
    step: str,
) -> None:
    cudart, _ = install(refuse=step)
    with caplog.at_level(logging.WARNING):
        engine = engine_of(bundle, cudart, graphs=(GRAPH,))
        assert_runs(engine, wanted, MIXED)
    assert engine.captured[GRAPH] == ()
    assert cudart.log.count("cudaStreamBeginCapture") == 1, "what was refused once is not tried at each call"
    assert caplog.text.count("runs without CUDA graphs") == 1
    engine.close()
    assert_empty(cudart)


def test_each_call_failing_in_turn_is_an_engine_error_or_harmless(
    bundle: Bundle,
    install: Install,
    wanted: dict[int, dict[str, np.ndarray]],
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    sizes = (1, 2, 2, 2, 1)

    def runs_or_fails_once(engine: TensorRtEngine, n: int) -> bool:
        try:
            assert_runs(engine, wanted, (n,))
        except EngineError:
            assert_runs(engine, wanted, (n,))  # one failed call does not spoil the next
            return False
        return True

    def drive(at: int) -> tuple[list[str], bool]:
        """Names of all calls, and whether the one that failed was survived."""
        faults = Faults(at)
        cudart, _ = install(faults=faults)
        survived, engine = True, None
        try:
            engine = engine_of(bundle, cudart, graphs=(GRAPH,), max_batch=4)
        except EngineError:
            survived = False
        if engine is not None:
            for n in sizes:
                survived &= runs_or_fails_once(engine, n)
            engine.close()
        assert_empty(cudart)
        return faults.names, survived

    calls, survived = drive(-1)
    assert survived
    outcome: dict[str, set[bool]] = {}
    for at, name in enumerate(calls):
        names, survived = drive(at)
        assert names[at] == name, "the calls before the failing one are always the same"
        outcome.setdefault(name, set()).add(survived)
    record_testsuite_property("calls_failed_in_turn", len(calls))
    record_testsuite_property("functions_failed", len(outcome))
    always = {name for name, o in outcome.items() if o == {True}}
    sometimes = {name for name, o in outcome.items() if len(o) == 2}
    assert always == {
        "create_timing_cache", "set_timing_cache", "create_engine_inspector", "get_engine_information",
        "cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiateWithFlags", "cudaGraphDestroy",
        "cudaGraphExecDestroy", "cudaFree", "cudaFreeHost", "cudaStreamDestroy", "cudaGetDeviceCount",
    }  # fmt: skip
    never = {name for name, o in outcome.items() if o == {False}}
    assert never == {
        "Builder", "OnnxParser.parse", "add_optimization_profile", "build_serialized_network", "Runtime",
        "deserialize_cuda_engine", "set_input_shape", "infer_shapes", "get_tensor_shape", "cudaGetDeviceProperties",
        "cudaDeviceGetAttribute", "cudaStreamCreateWithFlags", "cudaMalloc", "cudaHostAlloc", "cudaStreamSynchronize",
        "cudaGraphLaunch",
    }  # fmt: skip
    # harmless while capturing and for the contexts that capturing takes
    assert sometimes == {"create_execution_context", "set_tensor_address", "execute_async_v3", "cudaMemcpyAsync"}


def test_new_plan_that_misses_the_golden_outputs_is_refused_once_and_for_all(
    bundle: Bundle, install: Install, tmp_path: Path
) -> None:
    cudart, built = install()
    cudart.error = 0.5
    with pytest.raises(EngineError, match=r"misses the golden outputs of graph fused: .* differs by 0\.5"):
        engine_of(bundle, cudart, tmp_path, graphs=(GRAPH,))
    assert_empty(cudart)
    assert not list((tmp_path / "tensorrt").glob("*.plan"))
    (page,) = (tmp_path / "tensorrt").glob("*.json")
    assert "misses the golden outputs" in json.loads(page.read_text())["refused"]
    built.clear()
    with pytest.raises(EngineError, match=r"misses the golden outputs.*remove .*\.json to build again"):
        engine_of(bundle, cudart, tmp_path, graphs=(GRAPH,))
    assert built == [], "a build of minutes is not repeated in vain"
    page.unlink()
    cudart.error = 0.0
    engine_of(bundle, cudart, tmp_path, graphs=(GRAPH,))
    assert json.loads(page.read_text())["refused"] is None


def test_kept_plan_that_is_wrong_now_is_built_anew(
    bundle: Bundle, install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cudart, built = install()
    engine_of(bundle, cudart, tmp_path).close()
    cache = PlanCache(tmp_path / "tensorrt")
    for path in (tmp_path / "tensorrt").glob("*.json"):
        if json.loads(path.read_text())["graph"] == GRAPH:
            plan = cache.read(f"{path.stem}.plan")
            assert plan is not None
            wrong = bytearray(plan)
            at = plan.index(b":") + 9  # the error that the double adds, a float32
            wrong[at : at + 4] = np.float32(0.5).tobytes()
            cache.write(f"{path.stem}.plan", bytes(wrong))
    built.clear()
    with caplog.at_level(logging.WARNING):
        engine = engine_of(bundle, cudart, tmp_path)
    assert [b for b in built if b.startswith("build")] == ["build 1..8"]
    assert "the plan kept of graph fused is wrong now, building anew" in caplog.text
    engine.close()
    built.clear()
    engine_of(bundle, cudart, tmp_path).close()
    assert built == []
    assert_empty(cudart)


def test_page_beside_the_plan_tells_differences_and_precisions(
    bundle: Bundle, install: Install, tmp_path: Path
) -> None:
    engine_of(bundle, install()[0], tmp_path, graphs=(GRAPH,))
    (page,) = (json.loads(p.read_text()) for p in (tmp_path / "tensorrt").glob("*.json"))
    assert page["graph"] == GRAPH
    assert page["batch"] == [1, 8]
    assert page["refused"] is None
    assert set(page["differences"]) == set(page["allowed"]) == set(bundle.golden(GRAPH)[1])
    assert all(page["differences"][o] <= page["allowed"][o] for o in page["allowed"])
    assert page["outputs_by_type"] == {"Float": len(page["layers"][0]["outputs"])}
    assert page["captured"] == [1, 3, 8]
    assert page["not_captured_because"] is None


def test_auto_passes_over_a_wrong_plan_and_says_why(
    bundle: Bundle, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudart, _ = install()
    cudart.error = 0.5
    monkeypatch.setattr(tensorrt, "Cuda", lambda: Cuda(lambda _: cudart))  # type: ignore[arg-type, return-value]
    engine, report = open_engine(bundle, "auto", max_batch=4, n_threads=1, state_dir=tmp_path)
    engine.close()
    assert report.name != "tensorrt"
    assert "no tensorrt: tensorrt (f32) misses the golden outputs of graph" in report.reasons[0]
    assert_empty(cudart)


@pytest.mark.parametrize("name", ["auto", "tensorrt"])
def test_float32_serves_on_the_card_where_half_precision_is_wrong(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    given = arguments()
    wrong = onnx.load_from_string(given["graphs"][GRAPH, "f32"])
    half = next(i for i in wrong.graph.initializer if i.name == "half")
    half.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(half) + np.float32(0.25), "half"))
    graphs = given["graphs"] | {(g, "f16"): data for (g, _), data in given["graphs"].items()}
    tolerances = given["tolerances"] | {(g, "f16"): by for (g, _), by in given["tolerances"].items()}
    both = make_bundle(
        tmp_path / "toy", graphs=graphs | {(GRAPH, "f16"): wrong.SerializeToString()}, tolerances=tolerances
    )
    cudart, _ = install()
    monkeypatch.setattr(tensorrt, "Cuda", lambda: Cuda(lambda _: cudart))  # type: ignore[arg-type, return-value]
    for _ in range(2):
        engine, report = open_engine(both, name, max_batch=4, n_threads=1, state_dir=tmp_path / "state")
        engine.close()
        assert (report.name, report.precision) == ("tensorrt", "f32")
        assert "no tensorrt: tensorrt (f16) misses the golden outputs of graph fused" in report.reasons[0]
    assert_empty(cudart)


def test_build_tells_how_far_it_is(
    bundle: Bundle, install: Install, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cudart, _ = install()
    from models.engines import tensorrt_plan

    monkeypatch.setattr(tensorrt_plan, "SECONDS_BETWEEN_NEWS", 0.0)
    told: list[str] = []
    options = EngineOptions((GRAPH,), 4, 1, progress=told.append)
    with caplog.at_level(logging.INFO):
        TensorRtEngine(bundle, options, Cuda(lambda _: cudart)).close()  # type: ignore[arg-type, return-value]
    assert [line.split(",")[0] for line in told] == [
        f"tensorrt builds graph {GRAPH} for Fake Card (sm_87",
        f"tensorrt builds graph {GRAPH}: Building Engine",
        f"tensorrt builds graph {GRAPH}: Building Engine",
    ]
    assert "step 1 of 2" in told[1]
    assert "step 2 of 2" in told[2]
    assert all(line in caplog.text for line in told)
