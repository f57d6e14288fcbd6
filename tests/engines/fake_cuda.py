"""libcudart on host memory, with captured graphs and faults on demand. Fresh memory is poisoned.

It keeps CUDA's rules as far as our code touches them: no allocation and no waiting while a stream is captured, copies
only inside what was allocated, nothing freed twice, a graph runs only while all it uses exists.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

POISON = 0xA5
OUT_OF_MEMORY, CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED = 2, 900, 901


class Faults:
    """Makes the n-th of all calls fail, whichever it is; counts them all."""

    def __init__(self, at: int = -1) -> None:
        self.at, self.names = at, list[str]()

    def hit(self, name: str) -> bool:
        self.names.append(name)
        return len(self.names) - 1 == self.at


class Cudart:
    """What ``ctypes.CDLL('libcudart.so')`` would be: functions that fill in pointers and return a status."""

    def __init__(
        self,
        n_devices: int = 1,
        status: int = 0,
        fail: str = "",
        refuse: str = "",
        faults: Faults | None = None,
        n_multiprocessors: int = 8,
    ) -> None:
        """``fail``: a function that always fails; ``refuse``: the step at which capture is refused."""
        self.heap: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.ready: dict[int, list[Callable[[], None]]] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.broken = False
        self.error = 0.0
        """What plans built from now on add to every output."""
        self.refuse = refuse
        self.faults = faults or Faults()
        self.log: list[str] = []
        self.kinds: dict[str, set[tuple[str, ...]]] = {}
        """Of each function, what its arguments were: names of ctypes, or ``int``."""
        self._handles = 7
        functions: dict[str, Callable[..., int]] = {
            "cudaGetDeviceCount": lambda out: self._set(out, n_devices) or status,
            "cudaGetDeviceProperties": self._properties,
            "cudaDeviceGetAttribute": lambda out, which, device: self._set(
                out, {16: n_multiprocessors, 75: 8, 76: 7}[which]
            ),
            "cudaStreamCreateWithFlags": self._stream,
            "cudaStreamDestroy": lambda s: self.streams.remove(s.value) or 0,
            "cudaMalloc": lambda out, n: self._new(out, n.value),
            "cudaHostAlloc": lambda out, n, flags: self._new(out, n.value),
            "cudaFree": lambda p: self._drop(self.heap, p),
            "cudaFreeHost": lambda p: self._drop(self.heap, p),
            "cudaMemcpyAsync": self._copy,
            "cudaStreamSynchronize": self._synchronise,
            "cudaStreamBeginCapture": self._begin,
            "cudaStreamEndCapture": self._end,
            "cudaGraphInstantiateWithFlags": self._instantiate,
            "cudaGraphLaunch": self._launch,
            "cudaGraphDestroy": lambda g: self._drop(self.graphs, g),
            "cudaGraphExecDestroy": lambda g: self._drop(self.ready, g),
        }
        for name, function in functions.items():
            setattr(self, name, self._watched(name, (lambda *_: OUT_OF_MEMORY) if name == fail else function))
        self.cudaGetErrorString = lambda status: f"fake reason {status}".encode()
        self.cudaGetLastError = lambda: 0

    def work(self, do: Callable[[], None]) -> None:
        """Do work of the stream now, or record it."""
        if self.recording is None:
            do()
        else:
            self.recording.append(do)

    def room(self, address: int, n_bytes: int) -> None:
        inside = any(a <= address and address + n_bytes <= a + len(m) for a, m in self.heap.items())
        assert inside, f"{n_bytes} bytes at {address:#x} lie outside every allocation"

    def _watched(self, name: str, function: Callable[..., int]) -> Callable[..., int]:
        def call(*args: Any) -> int:
            self.log.append(name)
            self.kinds.setdefault(name, set()).add(tuple(type(a).__name__ for a in args))
            if not self.faults.hit(name):
                return function(*args)
            if name.endswith(("Destroy", "Free", "FreeHost", "EndCapture")):
                function(*args)  # done, though with an error of earlier work
                if name == "cudaStreamEndCapture":
                    self._drop(self.graphs, args[1]._obj)
                    args[1]._obj.value = None
            return OUT_OF_MEMORY

        return call

    def _set(self, out: Any, value: int) -> int:
        out._obj.value = value
        return 0

    def _handle(self) -> int:
        self._handles += 1
        return self._handles

    def _properties(self, buffer: Any, device: int) -> int:
        ctypes.memmove(buffer, b"Fake Card\0", 10)
        return 0

    def _stream(self, out: Any, flags: int) -> int:
        assert flags == 1, "the default stream waits for it otherwise"
        self._set(out, self._handle())
        self.streams.add(out._obj.value)
        return 0

    def _new(self, out: Any, n_bytes: int) -> int:
        if self.recording is not None:
            self.broken = True
            return CAPTURE_UNSUPPORTED
        memory = ctypes.create_string_buffer(bytes([POISON]) * n_bytes, n_bytes)
        self.heap[ctypes.addressof(memory)] = memory
        return self._set(out, ctypes.addressof(memory))

    def _drop(self, store: dict[int, Any], pointer: Any) -> int:
        assert self.recording is None, "nothing is freed while a stream is captured"
        del store[pointer.value]  # freeing twice, or what was never given, is an error
        return 0

    def _copy(self, to: Any, source: Any, n: Any, kind: int, stream: Any) -> int:
        assert stream.value in self.streams

        def copy(to: int = to.value, source: int = source.value, n_bytes: int = n.value) -> None:
            self.room(to, n_bytes)
            self.room(source, n_bytes)
            ctypes.memmove(to, source, n_bytes)

        self.work(copy)
        return 0

    def _synchronise(self, stream: Any) -> int:
        if self.recording is not None:
            self.broken = True
            return CAPTURE_UNSUPPORTED
        return 0 if stream.value in self.streams else 400

    def _begin(self, stream: Any, mode: int) -> int:
        assert self.recording is None
        assert mode == 1, "other threads' calls must not break a capture"
        if self.refuse == "begin":
            return CAPTURE_UNSUPPORTED
        self.recording, self.broken = [], False
        return 0

    def _end(self, stream: Any, out: Any) -> int:
        if self.recording is None:
            return 401
        recorded, self.recording = self.recording, None
        if self.broken or self.refuse == "end":
            return CAPTURE_INVALIDATED
        self._set(out, self._handle())
        self.graphs[out._obj.value] = recorded
        return 0

    def _instantiate(self, out: Any, graph: Any, flags: Any) -> int:
        if self.refuse == "instantiate":
            return CAPTURE_UNSUPPORTED
        self._set(out, self._handle())
        self.ready[out._obj.value] = self.graphs[graph.value]
        return 0

    def _launch(self, ready: Any, stream: Any) -> int:
        assert stream.value in self.streams
        for do in self.ready[ready.value]:
            do()
        return 0
