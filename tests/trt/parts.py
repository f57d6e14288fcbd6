"""The parts (a) to (f) of the proof that the TensorRT engine is right as far as no card is needed."""

from __future__ import annotations

import json
import re
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from models.bundle import Bundle
from models.engines.cuda import Cuda
from models.errors import EngineUnavailable
from tests.trt import half, operators, wheels
from tests.trt.rows import Row, python

__all__ = ["PARTS", "card", "on_a_card"]

ENGINE = ("base", "cuda", "golden", "plan_cache", "tensorrt", "tensorrt_api", "tensorrt_lane", "tensorrt_plan")
TESTS = ("tests/engines/test_tensorrt.py", "tests/engines/test_tensorrt_runs.py")
#: Errors that the type checker must find; the last only where 11 took the name away.
PLANTED = """
import tensorrt as trt
builder = trt.Builder(trt.Logger())
builder.build_serialized_network(builder)  # PLANTED
trt.Runtime(trt.Logger()).deserialize_cuda_engine(b"").num_io_tensors  # PLANTED
builder.create_network(0).no_such_call()  # PLANTED
builder.create_builder_config().set_flag(trt.BuilderFlag.FP16)  # IN 11
"""
MAX_BATCH = 32
N_WINDOWS = 60
#: Share of cells that may cross a threshold by rounding to half precision.
MAX_FLIPS = 1e-3


def types(row: Row, bundle: Bundle) -> None:
    """(a). What needs no wheel comes first."""
    files = [f"models/engines/{name}.py" for name in ENGINE]
    for version in wheels.BINDINGS:
        path = {"MYPYPATH": f"typings:typings/tensorrt-{version}"}
        cache = f".mypy_cache/tensorrt-{version}"
        done = python("-m", "mypy", "--strict", "--cache-dir", cache, *files, env=path)
        row.demand(done.returncode == 0, f"{version}: mypy --strict, {done.stdout.strip().splitlines()[-1]}")
        with tempfile.TemporaryDirectory() as folder:
            planted = Path(folder) / "planted.py"
            planted.write_text(PLANTED)
            said = python("-m", "mypy", "--strict", "--cache-dir", cache, str(planted), env=path).stdout
        found = {int(n) for n in re.findall(r"planted\.py:(\d+): error", said)}
        wanted = {i for i, line in enumerate(PLANTED.splitlines(), 1) if line.endswith(("PLANTED", _since_11(version)))}
        row.demand(found == wanted, f"{version}: {len(found & wanted)} of {len(wanted)} planted errors found")
    for version, wheel in wheels.BINDINGS.items():
        bindings = wheels.fetch(version, wheel)
        wheels.null_libraries(bindings)
        made = wheels.CACHE / "stubs" / version
        stubgen = wheels.fetch("stubgen", wheels.STUBGEN)
        python("-m", "tests.trt.stubs", str(bindings), str(stubgen), str(made)).check_returncode()
        committed = wheels.REPO / "typings" / f"tensorrt-{version}" / "tensorrt" / "__init__.pyi"
        same = committed.read_bytes() == (made / "tensorrt" / "__init__.pyi").read_bytes()
        row.demand(same, f"{version}: stub made anew from {wheel} is {'' if same else 'not '}the committed one")
    for wheel in (wheels.CUDART, wheels.CUDART_12):
        folder = wheels.fetch(wheel.package, wheel)
        done = python("-m", "tests.trt.cuda_calls", str(folder))
        found = json.loads(done.stdout) if done.returncode == 0 else {"wrong": [done.stderr.strip()[-300:]]}
        row.demand(
            not found["wrong"],
            f"{wheel}: {found.get('functions')} functions of CUDA are in library and header, called as that says, and "
            f"{found.get('constants')} numbers are its own{''.join(f'; {w}' for w in found['wrong'])}",
        )


def build(row: Row, bundle: Bundle) -> None:
    """(b)."""
    folder = wheels.fetch("rtx", *wheels.RTX)
    done = python("-m", "tests.trt.build_graphs", str(folder), str(bundle.path), str(MAX_BATCH))
    if done.returncode:
        row.demand(ok=False, line=f"the builder's process ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return
    out = json.loads(done.stdout)
    row.figures = out
    row.note(f"{out['release']}: parsed and built by the engine's own code for batches of 1..{MAX_BATCH}")
    for graph in dict.fromkeys((g["graph"], g["precision"]) for g in out["graphs"]):
        cases = [g for g in out["graphs"] if (g["graph"], g["precision"]) == graph]
        seconds = ", ".join(f"{g['capability']} {g['seconds']:.2f} s" for g in cases)
        kinds = ", ".join(f"{n} {kind.lower()}" for kind, n in sorted(cases[0]["kinds"].items()) if "CONV" in kind)
        good = all(
            g["borders_agree"] and g["precision_agrees"] and g["bytes"] and g["n_news"] and g["timing_cache"]
            for g in cases
        )
        row.demand(good, f"{'.'.join(graph)}: {cases[0]['n_layers']} layers ({kinds}), built for {seconds}")
    for what, words in out["refused"].items():
        row.demand(words is not None, f"{what}: {'refused, as it should be' if words else 'taken'}")


def documented(row: Row, bundle: Bundle) -> None:
    """(c)."""
    ops: set[str] = set()
    for g in bundle.manifest.graphs:
        facts = operators.check(bundle.graph_bytes(g.name, g.precision))
        ops |= facts.ops
        words = f"{g.name}.{g.precision}: {len(facts.ops)} operators, opset {facts.opset}"
        row.demand(not facts.wrong, f"{words}{'; ' if facts.wrong else ''}{'; '.join(facts.wrong)}")
    row.note(f"all of them among the {len(operators.TYPES)} documented: {', '.join(sorted(ops))}")
    row.figures = {"operators": sorted(ops)}


def rounding(row: Row, bundle: Bundle) -> None:
    """(d)."""
    if not bundle.graph_names("f16"):
        row.skip("the bundle has no half-precision graphs")
        return
    for graph, by in half.golden_differences(bundle).items():
        name, (gap, allowed) = max(by.items(), key=lambda item: item[1][0] / max(item[1][1], 1e-30))
        within = all(d <= a for d, a in by.values())
        row.demand(within, f"{graph}: golden outputs within tolerance, nearest to it {name} {gap:.1e} of {allowed:.1e}")
        row.figures[graph] = {output: d for output, (d, _) in by.items()}
    for mode, m in half.masks(bundle, N_WINDOWS).items():
        row.demand(m.n_other_labels == 0, f"{mode}: {m.n_other_labels} of {m.n_windows} windows named otherwise")
        row.demand(
            m.n_flips <= MAX_FLIPS * m.n_cells,
            f"{mode}: masks of {m.n_maps} maps, {m.n_flips} of {m.n_cells} cells flip (IoU {m.iou:.5f}), "
            f"largest difference {m.largest:.1e}",
        )
        if m.cam_cells:
            row.demand(
                m.cam_flips <= MAX_FLIPS * m.cam_cells,
                f"{mode}: Score-CAM alone, {m.cam_flips} of {m.cam_cells} cells cross its own 95 % quantile, "
                f"largest difference {m.cam_largest:.1e}",
            )
        row.figures[f"flips_{mode}"], row.figures[f"cam_flips_{mode}"] = m.n_flips, m.cam_flips


def driven(row: Row, bundle: Bundle) -> None:
    """(e)."""
    from tests.engines.real_bindings import VARIABLE

    for version, wheel in wheels.BINDINGS.items():
        bindings = wheels.fetch(version, wheel)
        wheels.null_libraries(bindings)
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder) / "results.xml"
            done = python(
                "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml", str(results), *TESTS,
                env={VARIABLE: str(bindings)},
            )  # fmt: skip
            suite = ET.parse(results).getroot().find("testsuite") if results.exists() else None
        last = (done.stdout.strip().splitlines() or ["pytest said nothing"])[-1]
        if suite is None:
            row.demand(ok=False, line=f"{version}: {last}")
            continue
        facts = {p.get("name"): p.get("value") for p in suite.iter("property")}
        row.demand(
            done.returncode == 0,
            f"{version}, enumerations and types of {wheel}: {last.strip('= ')}; batches {facts.get('batches')}, "
            f"captured and refused; {facts.get('calls_failed_in_turn')} calls of {facts.get('functions_failed')} "
            "functions failed in turn",
        )
        row.figures[version] = facts


def without_driver(row: Row, bundle: Bundle) -> None:
    """(f)."""
    if (name := card()) is not None:
        row.skip(f"a card is here: {name}")
        return
    try:
        library = next(wheels.fetch(wheels.CUDART.package, wheels.CUDART).rglob("libcudart.so.*"))
    except wheels.MissingError as e:
        row.note(f"not run with a real CUDA runtime: {e}")
        library = None
    situations = {"this machine as it is": ""}
    if library is not None:
        situations[f"with {wheels.CUDART}"] = str(library.parent)
    with tempfile.TemporaryDirectory() as folder:
        # whoever imports TensorRT before asking CUDA ends with 99, as the real one would with a segmentation fault
        (Path(folder) / "tensorrt.py").write_text("import os\nos._exit(99)\n")
        for what, libraries in situations.items():
            env = {"LD_LIBRARY_PATH": libraries, "PYTHONPATH": folder}
            done = python("-m", "daemon", "inspect", str(bundle.path), "--engine", "tensorrt", env=env)
            lines = done.stderr.strip().splitlines()
            good = done.returncode not in (0, 99) and len(lines) == 1 and "Traceback" not in done.stderr
            row.demand(good, f'{what}, --engine tensorrt: exit {done.returncode}, "{" / ".join(lines)}"')
            done = python("-m", "daemon", "inspect", str(bundle.path), "--engine", "auto", "--json", env=env)
            report = json.loads(done.stdout)["engine"] if done.returncode == 0 else {}
            why = next((r for r in report.get("reasons", ()) if r.startswith("no tensorrt: ")), None)
            row.demand(why is not None, f'{what}, --engine auto: {report.get("name")} serves, "{why}"')


def card() -> str | None:
    """Name of the card here, if there is one."""
    try:
        return Cuda().device
    except EngineUnavailable:
        return None


def on_a_card(row: Row, bundle: Bundle) -> None:
    """What only a card can prove."""
    try:
        Cuda()
    except EngineUnavailable as e:
        row.skip(f"{e} On a machine with a card: pytest -m gpu")
        return
    done = python("-m", "pytest", "-q", "-m", "gpu", "tests/engines", timeout_s=3600.0)
    row.demand(done.returncode == 0, done.stdout.strip().splitlines()[-1])


def _since_11(version: str) -> str:
    return "IN 11" if version.startswith("11") else "PLANTED"


PARTS = {
    "a": ("types against the real bindings", types),
    "b": ("NVIDIA's parser and builder", build),
    "c": ("operators of the 10.3 parser", documented),
    "d": ("half precision on the CPU", rounding),
    "e": ("run-time code on host memory", driven),
    "f": ("no driver", without_driver),
    "gpu": ("the same on a card", on_a_card),
}
