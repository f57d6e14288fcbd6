from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import models.engines
from models.bundle import Bundle
from models.engines import Engine, golden, open_engine
from models.engines.cuda import Cuda
from models.errors import EngineError, EngineUnavailable
from tests.toy_bundle import LABELS, N_EMBEDDING, SPEC, arguments, make_bundle, window

CPU_ENGINES = ("openvino", "onnxruntime")
#: The sums differ in order only: see tests/toy_bundle.py.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "toy")


@pytest.fixture(params=CPU_ENGINES)
def engine(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[Engine]:
    engine, _ = open_engine(bundle, request.param, max_batch=8, n_threads=1)
    yield engine
    engine.close()


def windows(n: int) -> np.ndarray:
    return np.stack([window(low=0.1 * (i % 8), high=0.1 * (i % 5), seed=i) for i in range(n)])


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_open_engine_reports_every_output_within_tolerance(bundle: Bundle, name: str) -> None:
    engine, report = open_engine(bundle, name, max_batch=4, n_threads=1)
    assert (report.name, report.precision, report.reasons) == (name, "f32", ())
    assert engine.max_batch == 4
    for graph in ("classify", "explain", "fused"):
        by_output = report.golden_max_abs[graph]
        assert by_output.keys() == bundle.golden(graph)[1].keys()
        assert max(by_output.values()) <= TOLERANCE


def test_open_engine_golden_check_covers_windows_beyond_max_batch(bundle: Bundle) -> None:
    _, report = open_engine(bundle, "onnxruntime", max_batch=2, n_threads=1)
    assert max(report.golden_max_abs["classify"].values()) <= TOLERANCE


@pytest.mark.parametrize("name", CPU_ENGINES)
@pytest.mark.parametrize(("graph", "output"), [("classify", "probs"), ("explain", "cam"), ("fused", "cls")])
def test_open_engine_that_misses_golden_refuses(tmp_path: Path, name: str, graph: str, output: str) -> None:
    given = arguments()
    inputs, outputs = given["golden"][graph]
    wrong = outputs[output].copy()
    wrong[-1] += 1 if output == "cls" else np.float32(0.01)
    given["golden"][graph] = (inputs, outputs | {output: wrong})
    from models.bundle import write_bundle

    bundle = write_bundle(tmp_path / "wrong", **given)
    with pytest.raises(EngineError, match=f"{name}.*graph {graph}: {output} differs by (0.01|1), allowed is 0.0001"):
        open_engine(bundle, name, max_batch=8, n_threads=1)


def test_golden_not_a_number_is_infinitely_far(bundle: Bundle, engine: Engine) -> None:
    class Broken:
        name, precision, device, max_batch, graphs = "broken", "f32", "none", 8, ("classify",)

        def run(self, graph: str, tensors: golden.Tensors) -> dict[str, np.ndarray]:
            out = {k: np.array(v) for k, v in engine.run(graph, tensors).items()}
            out["probs"][:] = np.nan
            return out

        def close(self) -> None:
            pass

    assert golden.differences(Broken(), bundle)["classify"]["probs"] == np.inf
    with pytest.raises(EngineError, match="probs differs by inf"):
        golden.check(Broken(), bundle)


def test_run_any_batch_in_any_order_equals_single_windows(engine: Engine) -> None:
    x = windows(8)
    alone = [{k: v.copy() for k, v in engine.run("fused", {"features": x[i : i + 1]}).items()} for i in range(len(x))]
    for n in (8, 1, 3, 8, 5):
        together = engine.run("fused", {"features": x[:n]})
        for name, a in together.items():
            assert a.shape[0] == n
            assert np.abs(a - np.concatenate([o[name] for o in alone[:n]])).max() <= TOLERANCE, name


def test_run_output_types_and_shapes_are_the_manifests(engine: Engine, bundle: Bundle) -> None:
    out = engine.run("fused", {"features": windows(2)})
    assert out["cls"].dtype == np.int32
    assert out["embedding"].shape == (2, N_EMBEDDING)
    assert out["probs"].shape == (2, len(LABELS))
    assert out["cam"].shape == (2, *SPEC.shape[1:])


def test_run_classify_then_explain_equals_fused(engine: Engine) -> None:
    x = windows(4)
    fused = {k: v.copy() for k, v in engine.run("fused", {"features": x}).items()}
    trunk = engine.run("classify", {"features": x})["trunk"]
    split = engine.run("explain", {"trunk": trunk, "features": x, "cls": fused["cls"]})
    for name in ("cam", "mix"):
        assert np.abs(split[name] - fused[name]).max() <= TOLERANCE


def test_run_input_that_is_no_c_array_gives_the_same(engine: Engine) -> None:
    x = windows(4)
    want = engine.run("classify", {"features": x})["probs"].copy()
    strided = np.asfortranarray(x)
    strided.setflags(write=False)
    assert np.array_equal(engine.run("classify", {"features": strided})["probs"], want)


@pytest.mark.parametrize(
    ("graph", "tensors", "message"),
    [
        ("classify", {}, "given \\[\\], expected \\['features'\\]"),
        ("classify", {"features": windows(2), "more": windows(2)}, "more"),
        ("classify", {"features": windows(9)}, "9 windows in a call are not in 1..max_batch=8"),
        ("classify", {"features": windows(1)[:0]}, "0 windows"),
        ("classify", {"features": windows(1).astype(np.float64)}, "float64"),
        ("classify", {"features": windows(1)[..., :-1]}, "expected float32"),
        ("student", {"features": windows(1)}, "graph student is not loaded"),
    ],
)
def test_run_tensors_that_do_not_fit_are_named(
    engine: Engine, graph: str, tensors: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        engine.run(graph, tensors)
    assert engine.name in str(caught.value)


def test_open_engine_only_graphs_wanted_are_loaded(bundle: Bundle) -> None:
    engine, report = open_engine(bundle, "onnxruntime", max_batch=2, n_threads=1, graphs=("classify",))
    assert set(report.golden_max_abs) == {"classify"}
    with pytest.raises(EngineError, match="explain is not loaded"):
        engine.run("explain", {})


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_open_engine_graph_that_is_no_onnx_is_one_line(tmp_path: Path, name: str) -> None:
    given = arguments()
    given["graphs"]["classify", "f32"] = b"not a graph at all"
    bundle = make_bundle(tmp_path / "bad", graphs=given["graphs"])
    with pytest.raises(EngineError, match=f"{name} cannot .* classify") as caught:
        open_engine(bundle, name, max_batch=2, n_threads=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_open_engine_runtime_absent_names_the_extra(bundle: Bundle, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    extra = {"openvino": "openvino", "onnxruntime": "cpu"}[name]
    with pytest.raises(EngineUnavailable, match=rf"pip install 'tonald\[{extra}\]'"):
        open_engine(bundle, name, max_batch=2)


def test_open_engine_unknown_name_or_numbers_are_refused(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="'torch' is unknown: choose auto"):
        open_engine(bundle, "torch", max_batch=2)
    with pytest.raises(EngineError, match="max_batch=0"):
        open_engine(bundle, max_batch=0)


def test_open_engine_bf16_without_tolerance_is_refused(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=r"states no tolerance .* for bf16|does not compute in bf16"):
        open_engine(bundle, "openvino", max_batch=2, precision="bf16")


def test_open_engine_bf16_with_own_tolerance_runs_in_bf16(tmp_path: Path) -> None:
    given = arguments()
    # bfloat16 keeps 8 bits: 2^-9 of logits up to 20 and of maps up to 1, a few roundings in a row
    loose = {g: dict.fromkeys(given["golden"][g][1], 0.5) for g in ("classify", "explain", "fused")}
    tolerances = given["tolerances"] | {(g, "bf16"): by for g, by in loose.items()}
    bundle = make_bundle(tmp_path / "toy", tolerances=tolerances)
    try:
        _, report = open_engine(bundle, "openvino", max_batch=4, n_threads=1, precision="bf16")
    except EngineUnavailable as e:
        pytest.skip(str(e))
    assert report.precision == "bf16"
    worst = max(report.golden_max_abs["classify"].values())
    assert worst > TOLERANCE, "as good as f32: the precision asked for was not used"


def test_auto_says_why_tensorrt_does_not_serve(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    if has_gpu():
        pytest.skip("a card is present")
    with caplog.at_level(logging.INFO):
        _, report = open_engine(bundle, max_batch=4, n_threads=1)
    assert report.name == "onnxruntime"
    assert len(report.reasons) == 1
    assert report.reasons[0].startswith("no tensorrt: ")
    assert "NVIDIA" in report.reasons[0]
    assert report.reasons[0] in caplog.text


def test_tensorrt_without_a_card_is_one_clear_line(bundle: Bundle) -> None:
    if has_gpu():
        pytest.skip("a card is present")
    with pytest.raises(EngineUnavailable, match="NVIDIA") as caught:
        open_engine(bundle, "tensorrt", max_batch=4)
    assert "\n" not in str(caught.value)
    assert "tensorrt" not in sys.modules, "TensorRT was touched before CUDA was asked"


def test_auto_engine_that_misses_golden_falls_back_loudly(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from models.engines.openvino import OpenVinoEngine

    honest = OpenVinoEngine.run

    def lying(self: OpenVinoEngine, graph: str, tensors: golden.Tensors) -> dict[str, np.ndarray]:
        return {k: v + np.float32(0.1) if k == "probs" else v for k, v in honest(self, graph, tensors).items()}

    monkeypatch.setattr(OpenVinoEngine, "run", lying)
    monkeypatch.setattr(models.engines, "AUTO_ORDER", CPU_ENGINES)
    with caplog.at_level(logging.WARNING):
        _, report = open_engine(bundle, max_batch=4, n_threads=1)
    assert report.name == "onnxruntime"
    assert "probs differs by 0.1" in report.reasons[0]
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_auto_nothing_works_names_every_reason(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CPU_ENGINES:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(models.engines, "AUTO_ORDER", CPU_ENGINES)
    with pytest.raises(EngineError, match=r"no engine works here: .*tonald\[openvino\].*tonald\[cpu\]"):
        open_engine(bundle, max_batch=4)


def test_import_of_run_time_modules_loads_no_runtime() -> None:
    code = (
        "import sys, models.bundle, models.engines, models.explainer, models.engines.tensorrt\n"
        "heavy = {'torch', 'onnx', 'openvino', 'onnxruntime', 'tensorrt', 'sklearn', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_open_engine_asks_nothing_of_the_network(bundle: Bundle, name: str) -> None:
    code = (
        "import sys\n"
        "seen = []\n"
        "watched = ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'subprocess.Popen', 'os.fork')\n"
        "sys.addaudithook(lambda event, args: seen.append(event) if event in watched else None)\n"
        "from models.bundle import Bundle\n"
        "from models.engines import open_engine\n"
        f"open_engine(Bundle.load({str(bundle.path)!r}), {name!r}, max_batch=2)\n"
        "import threading\n"
        "[t.join(20) for t in threading.enumerate() if t is not threading.main_thread()]\n"
        "print(seen, sys.modules.get('openvino_telemetry'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] None"


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_engine_leaves_nothing_behind_in_the_users_home(bundle: Bundle, name: str, tmp_path: Path) -> None:
    """What a library does by itself in native code no audit hook of Python sees; telemetry leaves its number there."""
    code = (
        "from models.bundle import Bundle\n"
        "from models.engines import open_engine\n"
        f"open_engine(Bundle.load({str(bundle.path)!r}), {name!r}, max_batch=2)\n"
        "print('open')"
    )
    no_ci = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_")) and k != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=no_ci | {"HOME": str(tmp_path)}
    )
    assert (done.stdout.strip(), done.stderr) == ("open", "")
    assert list(tmp_path.rglob("*")) == []


def has_gpu() -> bool:
    try:
        Cuda()
    except EngineUnavailable:
        return False
    return True
