"""TensorRT on host memory, ONNX Runtime inside: shows that our code moves the right bytes around.

It is no TensorRT and proves no number of it. ``check_signatures`` compares the name of every argument with the stubs
made from the real bindings, so the double cannot drift from the original unseen. Given the real bindings' module, it
takes enumerations, data types, shapes, logger and progress monitor from there.
"""

from __future__ import annotations

import ast
import ctypes
import enum
import functools
import json
import struct
import types
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from models.bundle import Bundle
from models.engines.base import EngineOptions
from models.engines.cuda import Cuda
from models.engines.tensorrt import TensorRtEngine
from tests.engines.fake_cuda import Cudart

#: What the fixture ``install`` is: puts the double in TensorRT's place, hands back its CUDA and what is built.
Install = Callable[..., tuple[Cudart, list[str]]]
#: Graphs of the toy bundle.
GRAPHS = ("classify", "explain", "fused")
#: Scratch bytes the double asks for per window, beside the size of the graph; it fills them with rubbish at each run.
N_SCRATCH = 1000


@functools.lru_cache(maxsize=8)
def _session(onnx: bytes) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    return ort.InferenceSession(onnx, settings, providers=["CPUExecutionProvider"])


class _Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class _ILogger:
    Severity = _Severity


class _IProgressMonitor: ...


def _stand_ins(version: str) -> dict[str, Any]:
    """What is taken from the real bindings where they are given."""
    names = types.SimpleNamespace
    dtype = enum.Enum("DataType", "FLOAT INT32")
    return {
        "__version__": version,
        "DataType": dtype,
        "nptype": lambda trt_type: {dtype.FLOAT: np.float32, dtype.INT32: np.int32}[trt_type],
        "Dims": tuple,
        "MemoryPoolType": names(WORKSPACE="workspace"),
        "BuilderFlag": names(TF32="TF32"),
        "NetworkDefinitionCreationFlag": names(STRONGLY_TYPED=1),
        "ProfilingVerbosity": names(DETAILED="detailed"),
        "LayerInformationFormat": names(JSON="json"),
        "ExecutionContextAllocationStrategy": names(USER_MANAGED="user"),
        "ILogger": _ILogger,
        "IProgressMonitor": _IProgressMonitor,
    }


def make(cudart: Cudart, version: str, built: list[str], real: types.ModuleType | None = None) -> types.ModuleType:
    """A module to stand in for ``tensorrt``; ``built`` collects what the builder was asked for."""
    trt = types.ModuleType("tensorrt")
    vars(trt).update(_stand_ins(version) if real is None else vars(real))
    trt.__version__ = version
    prefix = f"plan of {version}:".encode()
    hit = cudart.faults.hit
    strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    dtypes = {"tensor(float)": trt.DataType.FLOAT, "tensor(int32)": trt.DataType.INT32}

    class INetworkDefinition:
        def __init__(self, flags: int) -> None:
            self.flags, self.onnx = flags, b""

    class IOptimizationProfile:
        def __init__(self) -> None:
            self.shapes: dict[str, tuple[Any, Any, Any]] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
            assert all(lo <= o <= hi for lo, o, hi in zip(min, opt, max, strict=True))
            self.shapes[input] = (min, opt, max)

    class ITimingCache:
        def __init__(self, old: bytes) -> None:
            self.old = old

        def serialize(self) -> bytes:
            return self.old + b"t"

    class IBuilderConfig:
        profiling_verbosity: Any = None
        progress_monitor: Any = None

        def __init__(self) -> None:
            self.profile: Any = None

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            assert pool == trt.MemoryPoolType.WORKSPACE
            assert pool_size > 0

        def clear_flag(self, flag: Any) -> None:
            assert flag == trt.BuilderFlag.TF32
            built.append("clear TF32")

        def add_optimization_profile(self, profile: Any) -> int:
            self.profile = profile
            return -1 if hit("add_optimization_profile") else 0

        def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
            return None if hit("create_timing_cache") else ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            built.append(f"timing {len(cache.old)}")
            return not hit("set_timing_cache")

    class Builder:
        def __init__(self, logger: Any) -> None:
            assert isinstance(logger, trt.ILogger)
            if hit("Builder"):
                raise TypeError("factory function returned nullptr")

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            return INetworkDefinition(flags)

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
            assert network.flags == strong, "10.x builds weakly typed without STRONGLY_TYPED"
            assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
            if hit("build_serialized_network"):
                return None
            monitor = config.progress_monitor
            assert isinstance(monitor, trt.IProgressMonitor)
            monitor.phase_start("Building Engine", "", 2)
            assert monitor.step_complete("Building Engine", 0) is True, "False would cancel the build"
            assert monitor.step_complete("Building Engine", 1) is True
            monitor.phase_finish("Building Engine")
            low, _, high = next(iter(config.profile.shapes.values()))
            smallest, largest = low[0], high[0]
            built.append(f"build {smallest}..{largest}")
            return prefix + struct.pack("<iif", smallest, largest, cudart.error) + network.onnx

    class ParserError:
        def desc(self) -> str:
            return "no such op"

    class OnnxParser:
        num_errors = 1

        def __init__(self, network: Any, logger: Any) -> None:
            self.network = network

        def parse(self, model: bytes) -> bool:
            self.network.onnx = model
            return b"not a graph" not in model and not hit("OnnxParser.parse")

        def get_error(self, index: int) -> ParserError:
            return ParserError()

    class IExecutionContext:
        def __init__(self, engine: Any) -> None:
            self._engine = engine
            self._session = engine.session
            self._in = {i.name: i for i in self._session.get_inputs()}
            self._out = {o.name: o for o in self._session.get_outputs()}
            self._shape: dict[str, tuple[int, ...]] = {}
            self._address: dict[str, int] = {}
            self._scratch = 0

        def set_device_memory(self, memory: int, size: int) -> None:
            assert size >= self._engine.device_memory_size_v2
            cudart.room(memory, size)
            self._scratch = memory

        def set_input_shape(self, name: str, shape: Any) -> bool:
            self._shape[name] = tuple(shape)
            return self._engine.smallest <= shape[0] <= self._engine.largest and not hit("set_input_shape")

        def infer_shapes(self) -> list[str]:
            return [n for n in self._in if n not in self._shape or hit("infer_shapes")]

        def get_tensor_shape(self, name: str) -> Any:
            batch = next(iter(self._shape.values()))[0]
            return trt.Dims((batch + hit("get_tensor_shape"), *self._out[name].shape[1:]))

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._address[name] = memory
            return not hit("set_tensor_address")

        def execute_async_v3(self, stream_handle: int) -> bool:
            assert stream_handle in cudart.streams
            if hit("execute_async_v3"):
                return False
            if cudart.recording is None:
                self._compute()
                return True
            if cudart.refuse == "execute":
                cudart.broken = True
                return False
            me, shapes = weakref.ref(self), dict(self._shape)

            def again() -> None:
                context = me()
                assert context is not None, "the graph outlived its context"
                assert context._shape == shapes, "the context took another shape after the capture"
                context._compute()

            cudart.work(again)
            return True

        def _compute(self) -> None:
            assert self._scratch, "no device memory was given"
            cudart.room(self._scratch, self._engine.device_memory_size_v2)
            ctypes.memset(self._scratch, 0x5A, self._engine.device_memory_size_v2)
            feeds = {}
            for name, info in self._in.items():
                dtype = np.dtype(trt.nptype(dtypes[info.type]))
                n_bytes = int(np.prod(self._shape[name])) * dtype.itemsize
                cudart.room(self._address[name], n_bytes)
                raw = ctypes.string_at(self._address[name], n_bytes)
                feeds[name] = np.frombuffer(raw, dtype).reshape(self._shape[name])
            for name, y in zip(self._out, self._session.run(list(self._out), feeds), strict=True):
                cudart.room(self._address[name], y.nbytes)
                y = y + y.dtype.type(self._engine.error)
                ctypes.memmove(self._address[name], np.ascontiguousarray(y).ctypes.data, y.nbytes)

    class EngineInspector:
        def __init__(self, session: Any) -> None:
            self._session = session

        def get_engine_information(self, format: Any) -> str:  # noqa: A002
            assert format == trt.LayerInformationFormat.JSON
            if hit("get_engine_information"):
                return "no JSON"
            outputs = [{"Name": o.name, "Format/Datatype": "Float"} for o in self._session.get_outputs()]
            return json.dumps({"Layers": [{"Name": "all", "LayerType": "Double", "Outputs": outputs}]})

    class ICudaEngine:
        def __init__(self, onnx: bytes, smallest: int, largest: int, error: float) -> None:
            self.session = _session(onnx)
            self.smallest, self.largest, self.error = smallest, largest, error
            self._io = [*self.session.get_inputs(), *self.session.get_outputs()]
            self.num_io_tensors = len(self._io)
            self.device_memory_size_v2 = N_SCRATCH * largest + len(onnx)

        def get_tensor_name(self, index: int) -> str:
            return str(self._io[index].name)

        def get_tensor_dtype(self, name: str) -> Any:
            return next(dtypes[i.type] for i in self._io if i.name == name)

        def create_execution_context(self, strategy: Any) -> IExecutionContext | None:
            assert strategy == trt.ExecutionContextAllocationStrategy.USER_MANAGED
            return None if hit("create_execution_context") else IExecutionContext(self)

        def create_engine_inspector(self) -> EngineInspector | None:
            return None if hit("create_engine_inspector") else EngineInspector(self.session)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            assert isinstance(logger, trt.ILogger)
            if hit("Runtime"):
                raise TypeError("factory function returned nullptr")

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            if not serialized_engine.startswith(prefix) or hit("deserialize_cuda_engine"):
                return None
            rest = serialized_engine[len(prefix) :]
            return ICudaEngine(rest[12:], *struct.unpack("<iif", rest[:12]))

    classes = (INetworkDefinition, IOptimizationProfile, ITimingCache, IBuilderConfig, Builder, ParserError)
    for c in (*classes, OnnxParser, IExecutionContext, EngineInspector, ICudaEngine, Runtime):
        setattr(trt, c.__name__, c)
    trt.DOUBLES = (*classes, OnnxParser, IExecutionContext, EngineInspector, ICudaEngine, Runtime)
    return trt


def engine_of(
    bundle: Bundle,
    cudart: Cudart,
    state_dir: Path | None = None,
    max_batch: int = 8,
    graphs: Sequence[str] = GRAPHS,
) -> TensorRtEngine:
    """The engine under test on the double."""
    options = EngineOptions(tuple(graphs), max_batch, 1, state_dir=None if state_dir is None else str(state_dir))
    return TensorRtEngine(bundle, options, Cuda(lambda _: cudart))  # type: ignore[arg-type, return-value]


def check_signatures(module: types.ModuleType, stub: Path) -> list[str]:
    """Methods and attributes of the double that are not in the stub with the same argument names."""
    real: dict[str, dict[str, list[list[str]]]] = {}
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ClassDef):
            methods = real.setdefault(node.name, {})
            for f in node.body:
                if isinstance(f, ast.FunctionDef):
                    methods.setdefault(f.name, []).append([a.arg for a in f.args.args if a.arg != "self"])
                elif isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name):
                    methods.setdefault(f.target.id, [])
    wrong = []
    for cls in module.DOUBLES:
        for method, f in vars(cls).items():
            known = real.get(cls.__name__, {})
            if method.startswith("_"):
                continue
            if not isinstance(f, types.FunctionType):
                wrong += [] if method in known else [f"{cls.__name__}.{method} is not in {stub}"]
                continue
            mine = list(f.__code__.co_varnames[1 : f.__code__.co_argcount])
            if not any(mine == k[: len(mine)] for k in known.get(method, [])):
                wrong.append(f"{cls.__name__}.{method}{mine} is not among {known.get(method, [])}")
    return wrong
