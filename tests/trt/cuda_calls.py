"""Each call of CUDA that the engine makes, held against CUDA's own header: ctypes itself checks nothing.

Run in a process of its own: ``python -m tests.trt.cuda_calls FOLDER``, FOLDER an unpacked wheel of CUDA's runtime; JSON
on stdout.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from models.engines import cuda
from tests.engines import fake_tensorrt
from tests.engines.fake_cuda import Cudart
from tests.toy_bundle import make_bundle, window

GRAPH = "fused"
#: What Python passes where the header has a pointer or a handle.
POINTERS = {"CArgObject", "c_void_p", "c_char_Array_16384"}
#: Called without arguments, or with a status alone.
UNCHECKED = ("cudaGetErrorString", "cudaGetLastError")
#: Numbers of the header that stand in the engine.
CONSTANTS = {
    "cudaStreamNonBlocking": cuda.STREAM_NON_BLOCKING,
    "cudaMemcpyHostToDevice": cuda.HOST_TO_DEVICE,
    "cudaMemcpyDeviceToHost": cuda.DEVICE_TO_HOST,
    "cudaStreamCaptureModeThreadLocal": cuda.CAPTURE_THREAD_LOCAL,
    "cudaDevAttrMultiProcessorCount": cuda.N_MULTIPROCESSORS,
    "cudaDevAttrComputeCapabilityMajor": cuda.CAPABILITY_MAJOR,
    "cudaDevAttrComputeCapabilityMinor": cuda.CAPABILITY_MINOR,
}


def main(folder: str) -> None:
    """Print what is wrong, and how much was compared."""
    header = "\n".join(
        next(Path(folder).rglob(f"include/{n}.h")).read_text() for n in ("cuda_runtime_api", "driver_types")
    )
    library = ctypes.CDLL(str(next(Path(folder).rglob("libcudart.so.*"))))
    calls = _calls()
    wrong = [w for name, kinds in calls.items() for k in kinds for w in _compared(name, k, header)]
    wrong += [f"{name} is not in the library" for name in (*calls, *UNCHECKED) if not hasattr(library, name)]
    for name, mine in CONSTANTS.items():
        found = re.search(rf"\b{name}\s*(?:=|\s)\s*(0x[0-9a-fA-F]+|\d+)", header)
        theirs = int(found[1], 0) if found else None
        if theirs != mine:
            wrong.append(f"{name} is {theirs}, not {mine}")
    sys.stdout.write(
        json.dumps({"functions": len(calls) + len(UNCHECKED), "constants": len(CONSTANTS), "wrong": wrong}) + "\n"
    )


def _calls() -> dict[str, set[tuple[str, ...]]]:
    """The kinds of arguments of all calls of an engine that is opened, runs, captures and is closed."""
    cudart = Cudart()
    modules: dict[str, Any] = sys.modules
    modules["tensorrt"] = fake_tensorrt.make(cudart, "10.3.0", [])
    with tempfile.TemporaryDirectory() as folder:
        engine = fake_tensorrt.engine_of(make_bundle(Path(folder) / "toy"), cudart, graphs=(GRAPH,), max_batch=4)
        for n in (1, 4, 4, 4):
            engine.run(GRAPH, {"features": np.stack([window()] * n)})
        engine.close()
    return cudart.kinds


def _compared(name: str, kinds: tuple[str, ...], header: str) -> list[str]:
    found = re.search(rf"cudaError_t\s+CUDARTAPI\s+{name}\(([^)]*)\)", re.sub(r"__dv\([^)]*\)", "", header))
    if found is None:
        return [f"{name} is not in the header"]
    want = [p.strip() for p in found[1].split(",") if p.strip() not in ("", "void")]
    if len(want) != len(kinds):
        return [f"{name} takes {len(want)} arguments, not {len(kinds)}"]
    return [f"{name}: {p} is given as {k}" for p, k in zip(want, kinds, strict=True) if not _fits(p, k)]


def _fits(parameter: str, kind: str) -> bool:
    if "*" in parameter or re.match(r"(const )?cuda(Stream|Graph|GraphExec)_t\b", parameter):
        return kind in POINTERS
    if parameter.startswith("size_t"):
        return kind == ctypes.c_size_t.__name__
    if parameter.startswith("unsigned long long"):
        return kind == ctypes.c_ulonglong.__name__
    return parameter.startswith(("int", "unsigned int", "enum")) and kind == "int"


if __name__ == "__main__":
    main(*sys.argv[1:])
