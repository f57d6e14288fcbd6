from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle
from models.engines import golden
from models.engines.base import EngineOptions
from models.engines.cuda import Cuda
from models.engines.plan_cache import PlanCache
from models.engines.tensorrt import TensorRtEngine
from models.errors import EngineError, EngineUnavailable
from tests.engines import fake_tensorrt
from tests.engines.fake_cuda import Cudart
from tests.engines.fake_tensorrt import GRAPHS, Install, engine_of
from tests.toy_bundle import arguments, make_bundle, window

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "toy")


@pytest.mark.parametrize("version", ["10.3", "10.16", "11.4"])
def test_double_has_the_argument_names_of_the_real_bindings(version: str) -> None:
    module = fake_tensorrt.make(Cudart(), version, [])
    stub = REPO / "typings" / f"tensorrt-{version}" / "tensorrt" / "__init__.pyi"
    assert fake_tensorrt.check_signatures(module, stub) == []


def test_run_every_batch_reproduces_golden_and_single_windows(bundle: Bundle, install: Install) -> None:
    cudart, _ = install()
    engine = engine_of(bundle, cudart)
    found = golden.check(engine, bundle)
    assert max(d for by in found.values() for d in by.values()) <= 1e-4
    x = np.stack([window(low=0.1 * i, high=0.05 * i, seed=i) for i in range(8)])
    alone = [engine.run("fused", {"features": x[i : i + 1]})["mix"].copy() for i in range(8)]
    for n in (8, 1, 3, 8, 2):
        got = engine.run("fused", {"features": x[:n]})["mix"]
        assert np.abs(got - np.concatenate(alone[:n])).max() <= 1e-5  # float32 sums in another order
    engine.close()


def test_close_gives_back_all_memory_and_may_be_called_twice(bundle: Bundle, install: Install) -> None:
    cudart, _ = install()
    engine = engine_of(bundle, cudart)
    assert cudart.heap
    assert cudart.streams
    engine.close()
    engine.close()
    assert not cudart.heap
    assert not cudart.streams


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags"])
def test_open_out_of_memory_frees_what_it_took(bundle: Bundle, install: Install, call: str) -> None:
    cudart, _ = install(fail=call)
    with pytest.raises(EngineError, match=f"{call} failed: error 2, fake reason 2"):
        engine_of(bundle, cudart)
    assert not cudart.heap
    assert not cudart.streams


def test_run_failing_copy_is_an_engine_error(bundle: Bundle, install: Install) -> None:
    cudart, _ = install()
    engine = engine_of(bundle, cudart)
    cudart.cudaMemcpyAsync = lambda *_: 719
    x = np.stack([window()] * 5)  # a size never run before, so not captured
    with pytest.raises(EngineError, match="cudaMemcpyAsync failed: error 719"):
        engine.run("classify", {"features": x})


def test_build_is_strongly_typed_without_tf32_for_the_whole_range(bundle: Bundle, install: Install) -> None:
    cudart, built = install()
    engine_of(bundle, cudart, max_batch=5)
    assert built == ["clear TF32", "timing 0", "build 1..5"] * len(GRAPHS)


def test_plan_is_built_once_then_loaded(bundle: Bundle, install: Install, tmp_path: Path) -> None:
    cudart, built = install()
    engine_of(bundle, cudart, tmp_path)
    assert [b for b in built if b.startswith("timing")] == ["timing 0", "timing 1", "timing 2"]
    built.clear()
    engine = engine_of(bundle, cudart, tmp_path)
    assert built == []
    golden.check(engine, bundle)
    engine_of(bundle, cudart, tmp_path, max_batch=4)
    assert built.count("build 1..4") == len(GRAPHS)


def test_plan_of_another_version_is_not_used(bundle: Bundle, install: Install, tmp_path: Path) -> None:
    engine_of(bundle, install("10.3.0")[0], tmp_path)
    cudart, built = install("10.16.2")
    engine_of(bundle, cudart, tmp_path)
    assert built.count("build 1..8") == len(GRAPHS)
    assert built.count("timing 0") == 1, "timings of another version were taken"
    assert len(list((tmp_path / "tensorrt").glob("*.plan"))) == 2 * len(GRAPHS), (
        "neither version overwrites the other's"
    )


def test_plan_of_another_card_of_the_same_name_is_not_used(bundle: Bundle, install: Install, tmp_path: Path) -> None:
    engine_of(bundle, install()[0], tmp_path)
    cudart, built = install(n_multiprocessors=16)
    engine_of(bundle, cudart, tmp_path)
    assert built.count("build 1..8") == len(GRAPHS)


def test_plan_that_is_damaged_is_built_anew(
    bundle: Bundle, install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cudart, built = install()
    engine_of(bundle, cudart, tmp_path)
    for path in (tmp_path / "tensorrt").glob("*.plan"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    built.clear()
    with caplog.at_level(logging.WARNING):
        golden.check(engine_of(bundle, cudart, tmp_path), bundle)
    assert built.count("build 1..8") == len(GRAPHS)
    assert caplog.text.count("is damaged: building anew") == len(GRAPHS)


def test_without_state_dir_nothing_is_written(
    bundle: Bundle, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine_of(bundle, install()[0])
    assert list(tmp_path.iterdir()) == []


def test_half_precision_graphs_are_preferred_when_all_exist(tmp_path: Path, install: Install) -> None:
    given = arguments()
    # the double computes what the file says: these are the f32 graphs again, under the other name
    graphs = given["graphs"] | {(g, "f16"): given["graphs"][g, "f32"] for g in GRAPHS}
    tolerances = given["tolerances"] | {(g, "f16"): given["tolerances"][g, "f32"] for g in GRAPHS}
    both = make_bundle(tmp_path / "toy", graphs=graphs, tolerances=tolerances)
    cudart, built = install()
    engine = engine_of(both, cudart, tmp_path / "state")
    assert engine.precision == "f16"
    golden.check(engine, both)
    built.clear()
    options = EngineOptions(GRAPHS, 8, 1, "f32", str(tmp_path / "state"))
    assert TensorRtEngine(both, options, Cuda(lambda _: cudart)).precision == "f32"  # type: ignore[arg-type, return-value]
    assert built.count("build 1..8") == len(GRAPHS), "a plan of the other precision was taken"


def test_graph_that_tensorrt_refuses_is_named(tmp_path: Path, install: Install) -> None:
    given = arguments()
    given["graphs"]["explain", "f32"] = b"not a graph"
    bad = make_bundle(tmp_path / "bad", graphs=given["graphs"])
    with pytest.raises(EngineError, match="cannot parse graph explain: no such op"):
        engine_of(bad, install()[0])


@pytest.mark.parametrize("version", ["8.6.1", "10.0.1"])
def test_release_that_is_too_old_is_unavailable(bundle: Bundle, install: Install, version: str) -> None:
    with pytest.raises(EngineUnavailable, match=f"TensorRT {version} is too old: 10.3"):
        engine_of(bundle, install(version)[0])


def test_bindings_absent_names_the_extra(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, install: Install) -> None:
    cudart, _ = install()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineUnavailable, match=r"pip install 'tonald\[tensorrt\]'.*Jetson"):
        engine_of(bundle, cudart)


@pytest.mark.parametrize(
    ("n_devices", "status", "message"), [(0, 0, "CUDA counts none"), (0, 35, "error 35, fake reason 35")]
)
def test_cuda_without_device_asks_nothing_more(n_devices: int, status: int, message: str) -> None:
    cudart = Cudart(n_devices, status)
    with pytest.raises(EngineUnavailable, match=message):
        Cuda(lambda _: cudart)
    assert set(cudart.log) == {"cudaGetDeviceCount"}


def test_cuda_takes_the_runtime_that_counts_a_device() -> None:
    too_new, fits = Cudart(0, 35), Cudart()
    cuda = Cuda(lambda name: too_new if name.endswith("13") else fits)  # type: ignore[arg-type, return-value]
    assert cuda.device == "Fake Card (sm_87, 8 multiprocessors)"
    assert set(too_new.log) == {"cudaGetDeviceCount"}


def test_tensorrt_rtx_serves_where_tensorrt_is_not(
    bundle: Bundle, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudart, built = install("1.7.1")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", sys.modules["tensorrt"])
    sys.modules["tensorrt_rtx"].__name__ = "tensorrt_rtx"
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    engine = engine_of(bundle, cudart)
    assert engine.device.endswith("TensorRT-RTX 1.7.1")
    assert built.count("build 1..8") == len(GRAPHS)
    golden.check(engine, bundle)


def test_messages_of_tensorrt_become_log_records(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install()
    from models.engines.tensorrt_api import LOGGER, trt

    with caplog.at_level(logging.INFO):
        for severity in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
            LOGGER.log(getattr(trt.ILogger.Severity, severity), severity.lower())
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("ERROR", "internal_error"), ("ERROR", "error"), ("WARNING", "warning"),
    ]  # fmt: skip


def test_cuda_without_library_says_what_to_install() -> None:
    def absent(name: str) -> Cudart:
        raise OSError(name)

    with pytest.raises(EngineUnavailable, match=r"libcudart\.so\.13 or libcudart\.so\.12.*driver"):
        Cuda(absent)


def test_plan_cache_unwritable_folder_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = PlanCache(tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        cache.write("a.plan", b"plan")
        assert cache.read("a.plan") is None
    assert "cannot be kept" in caplog.text


def test_plan_cache_gives_back_what_was_written_and_no_rubbish(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path / "deep" / "down")
    assert cache.read("a.plan") is None
    cache.write("a.plan", b"one")
    cache.write("a.plan", b"two")
    assert cache.read("a.plan") == b"two"
    assert [p.name for p in (tmp_path / "deep" / "down").iterdir()] == ["a.plan"]
    assert len({PlanCache.key(b"g", "a", "b"), PlanCache.key(b"g", "ab", ""), PlanCache.key(b"h", "a", "b")}) == 3


def test_planned_module_is_importable_only_with_tensorrt() -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed")
    with pytest.raises(ModuleNotFoundError, match="tensorrt"):
        importlib.import_module("models.engines.tensorrt_plan")
