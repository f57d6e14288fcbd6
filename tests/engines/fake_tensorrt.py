"""TensorRT and libcudart on host memory, ONNX Runtime inside: shows that our code moves the right bytes around.

It is no TensorRT and proves no number of it. ``check_signatures`` compares the name of every argument with the stubs
made from the real bindings, so the double cannot drift from the original unseen. Fresh memory is poisoned.
"""

from __future__ import annotations

import ast
import ctypes
import enum
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

POISON = 0xA5


class Cudart:
    """What ``ctypes.CDLL('libcudart.so')`` would be: functions that fill in pointers and return a status."""

    def __init__(self, n_devices: int = 1, status: int = 0, fail: str = "") -> None:
        self.heap: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.log: list[str] = []
        functions: dict[str, Callable[..., int]] = {
            "cudaGetDeviceCount": lambda out: self._set(out, n_devices) or status,
            "cudaGetDeviceProperties": self._properties,
            "cudaStreamCreateWithFlags": lambda out, flags: self._stream(out, flags),
            "cudaStreamDestroy": lambda s: self._drop_stream(s.value),
            "cudaMalloc": lambda out, n: self._new(out, n.value),
            "cudaHostAlloc": lambda out, n, flags: self._new(out, n.value),
            "cudaFree": lambda p: self._drop(p.value),
            "cudaFreeHost": lambda p: self._drop(p.value),
            "cudaMemcpyAsync": self._copy,
            "cudaStreamSynchronize": lambda s: 0 if s.value in self.streams else 400,
        }
        for name, function in functions.items():
            setattr(self, name, (lambda *_: 2) if name == fail else self._logged(name, function))
        self.cudaGetErrorString = lambda status: f"fake reason {status}".encode()

    def _logged(self, name: str, function: Callable[..., int]) -> Callable[..., int]:
        def call(*args: Any) -> int:
            self.log.append(name)
            return function(*args)

        return call

    def _set(self, out: Any, value: int) -> None:
        out._obj.value = value

    def _properties(self, buffer: Any, device: int) -> int:
        ctypes.memmove(buffer, b"Fake Card\0", 10)
        return 0

    def _stream(self, out: Any, flags: int) -> int:
        self.streams.add(7 + len(self.streams))
        self._set(out, max(self.streams))
        return 0

    def _drop_stream(self, stream: int) -> int:
        self.streams.remove(stream)
        return 0

    def _new(self, out: Any, n_bytes: int) -> int:
        memory = ctypes.create_string_buffer(bytes([POISON]) * n_bytes, n_bytes)
        self.heap[ctypes.addressof(memory)] = memory
        self._set(out, ctypes.addressof(memory))
        return 0

    def _drop(self, address: int) -> int:
        del self.heap[address]  # freeing twice, or what was never given, is an error
        return 0

    def room(self, address: int, n_bytes: int) -> None:
        inside = any(a <= address and address + n_bytes <= a + len(m) for a, m in self.heap.items())
        assert inside, f"{n_bytes} bytes at {address:#x} lie outside every allocation"

    def _copy(self, to: Any, source: Any, n: Any, kind: int, stream: Any) -> int:
        assert stream.value in self.streams
        self.room(to.value, n.value)
        self.room(source.value, n.value)
        ctypes.memmove(to.value, source.value, n.value)
        return 0


class DataType(enum.Enum):
    FLOAT = 0
    INT32 = 3


DTYPES = {"tensor(float)": DataType.FLOAT, "tensor(int32)": DataType.INT32}


def make(cudart: Cudart, version: str, built: list[str]) -> types.ModuleType:
    """A module to stand in for ``tensorrt``; ``built`` collects what the builder was asked for."""
    prefix = f"plan of {version}:".encode()

    class Logger:
        WARNING = 2

        def __init__(self, min_severity: Any = None) -> None: ...

    class INetworkDefinition:
        def __init__(self, flags: int) -> None:
            self.flags, self.onnx = flags, b""

    class IOptimizationProfile:
        def __init__(self) -> None:
            self.shapes: dict[str, tuple[Any, Any, Any]] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
            assert all(lo <= o <= hi for lo, o, hi in zip(min, opt, max, strict=True))
            self.shapes[input] = (min, opt, max)

    class IHostMemory(bytes):
        pass

    class ITimingCache:
        def __init__(self, old: bytes) -> None:
            self.old = old

        def serialize(self) -> bytes:
            return self.old + b"t"

    class IBuilderConfig:
        def __init__(self) -> None:
            self.profile: Any = None

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            assert pool == "workspace"
            assert pool_size > 0

        def clear_flag(self, flag: Any) -> None:
            built.append(f"clear {flag}")

        def add_optimization_profile(self, profile: Any) -> int:
            self.profile = profile
            return 0

        def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
            return ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            built.append(f"timing {len(cache.old)}")
            return True

    class Builder:
        def __init__(self, logger: Any) -> None: ...

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            return INetworkDefinition(flags)

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(self, network: Any, config: Any) -> IHostMemory:
            assert network.flags == 2, "10.x builds weakly typed without STRONGLY_TYPED"
            largest = next(iter(config.profile.shapes.values()))[2][0]
            built.append(f"build 1..{largest}")
            return IHostMemory(prefix + int(largest).to_bytes(4, "little") + network.onnx)

    class ParserError:
        def desc(self) -> str:
            return "no such op"

    class OnnxParser:
        num_errors = 1

        def __init__(self, network: Any, logger: Any) -> None:
            self.network = network

        def parse(self, model: bytes) -> bool:
            self.network.onnx = model
            return b"not a graph" not in model

        def get_error(self, index: int) -> ParserError:
            return ParserError()

    class IExecutionContext:
        def __init__(self, session: Any, largest: int) -> None:
            self._session, self._largest = session, largest
            self._in = {i.name: i for i in session.get_inputs()}
            self._out = {o.name: o for o in session.get_outputs()}
            self._shape: dict[str, tuple[int, ...]] = {}
            self._address: dict[str, int] = {}

        def set_input_shape(self, name: str, shape: Any) -> bool:
            self._shape[name] = tuple(shape)
            return 1 <= shape[0] <= self._largest

        def infer_shapes(self) -> list[str]:
            return [n for n in self._in if n not in self._shape]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            batch = next(iter(self._shape.values()))[0]
            return (batch, *self._out[name].shape[1:])

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._address[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            assert stream_handle in cudart.streams
            feeds = {}
            for name, info in self._in.items():
                dtype = np.dtype(nptype(DTYPES[info.type]))
                n_bytes = int(np.prod(self._shape[name])) * dtype.itemsize
                cudart.room(self._address[name], n_bytes)
                raw = ctypes.string_at(self._address[name], n_bytes)
                feeds[name] = np.frombuffer(raw, dtype).reshape(self._shape[name])
            for name, y in zip(self._out, self._session.run(list(self._out), feeds), strict=True):
                cudart.room(self._address[name], y.nbytes)
                ctypes.memmove(self._address[name], np.ascontiguousarray(y).ctypes.data, y.nbytes)
            return True

    class ICudaEngine:
        def __init__(self, onnx: bytes, largest: int) -> None:
            self._session, self._largest = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"]), largest
            self._io = [*self._session.get_inputs(), *self._session.get_outputs()]
            self.num_io_tensors = len(self._io)

        def get_tensor_name(self, index: int) -> str:
            return str(self._io[index].name)

        def get_tensor_dtype(self, name: str) -> DataType:
            return next(DTYPES[i.type] for i in self._io if i.name == name)

        def create_execution_context(self) -> IExecutionContext:
            return IExecutionContext(self._session, self._largest)

    class Runtime:
        def __init__(self, logger: Any) -> None: ...

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            if not serialized_engine.startswith(prefix):
                return None
            rest = serialized_engine[len(prefix) :]
            return ICudaEngine(rest[4:], int.from_bytes(rest[:4], "little"))

    def nptype(trt_type: DataType) -> Any:
        return {DataType.FLOAT: np.float32, DataType.INT32: np.int32}[trt_type]

    module = types.ModuleType("tensorrt")
    classes = (Logger, INetworkDefinition, IOptimizationProfile, ITimingCache, IBuilderConfig, Builder, ParserError)
    for c in (*classes, OnnxParser, IExecutionContext, ICudaEngine, Runtime):
        setattr(module, c.__name__, c)
    for name, value in {
        "__version__": version,
        "nptype": nptype,
        "DataType": DataType,
        "MemoryPoolType": types.SimpleNamespace(WORKSPACE="workspace"),
        "BuilderFlag": types.SimpleNamespace(TF32="TF32"),
        "NetworkDefinitionCreationFlag": types.SimpleNamespace(STRONGLY_TYPED=1),
    }.items():
        setattr(module, name, value)
    return module


def check_signatures(module: types.ModuleType, stub: Path) -> list[str]:
    """Methods of the double that are not in the stub with the same argument names."""
    real: dict[str, dict[str, list[list[str]]]] = {}
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ClassDef):
            methods = real.setdefault(node.name, {})
            for f in node.body:
                if isinstance(f, ast.FunctionDef):
                    methods.setdefault(f.name, []).append([a.arg for a in f.args.args if a.arg != "self"])
    wrong = []
    for name, cls in vars(module).items():
        if not isinstance(cls, type) or issubclass(cls, enum.Enum):
            continue
        for method, f in vars(cls).items():
            if isinstance(f, types.FunctionType) and not method.startswith("_"):
                mine = list(f.__code__.co_varnames[1 : f.__code__.co_argcount])
                known = real.get(name, {}).get(method, [])
                if not any(mine == k[: len(mine)] for k in known):
                    wrong.append(f"{name}.{method}{mine} is not among {known}")
    return wrong
