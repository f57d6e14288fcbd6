"""The CUDA runtime calls that TensorRT needs, on the system's own ``libcudart`` by ctypes: no package to install.

Where a driver is missing, TensorRT must not be touched: its runtime hands back a broken object and the process crashes
(seen with 11.4). ``Cuda()`` therefore asks for devices first and raises.

Giving back never raises: what cannot be freed is logged, so that the rest still is.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import EngineError, EngineUnavailable

__all__ = ["Cuda"]

log = logging.getLogger(__name__)

LIBRARIES = ("libcudart.so.13", "libcudart.so.12")
STREAM_NON_BLOCKING = 1
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2
#: Only this thread's calls count as part of a capture (``cudaStreamCaptureModeThreadLocal``).
CAPTURE_THREAD_LOCAL = 1
#: ``cudaDeviceAttr`` of what tells cards of one name apart.
N_MULTIPROCESSORS, CAPABILITY_MAJOR, CAPABILITY_MINOR = 16, 75, 76
#: Longer than cudaDeviceProp of any release (about 1 kB); its first member is the name, char[256].
N_PROPERTIES = 16384

Load = Callable[[str], ctypes.CDLL]


class Cuda:
    """CUDA runtime of the first device.

    Raises
    ------
    EngineUnavailable
        If there is no runtime library, no driver or no device.
    """

    def __init__(self, load: Load = ctypes.CDLL) -> None:
        self._lib = _library(load)
        properties = ctypes.create_string_buffer(N_PROPERTIES)
        # CUDA 12 kept the old symbol for old programs; the name comes first in either layout
        name = "cudaGetDeviceProperties_v2" if hasattr(self._lib, "cudaGetDeviceProperties_v2") else None
        self._call(name or "cudaGetDeviceProperties", properties, 0)
        card = ctypes.string_at(properties).decode(errors="replace")
        major, minor, n = (self._attribute(a) for a in (CAPABILITY_MAJOR, CAPABILITY_MINOR, N_MULTIPROCESSORS))
        self.device = f"{card} (sm_{major}{minor}, {n} multiprocessors)"

    def stream(self) -> int:
        """A new stream that does not wait for the default one."""
        out = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(out), STREAM_NON_BLOCKING)
        return out.value or 0

    def malloc(self, n_bytes: int) -> int:
        """Memory on the device."""
        out = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(out), ctypes.c_size_t(n_bytes))
        return out.value or 0

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
        """Page-locked array of the host, so that copies run beside computing; free it with `free_pinned`."""
        n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        out = ctypes.c_void_p()
        self._call("cudaHostAlloc", ctypes.byref(out), ctypes.c_size_t(n_bytes), 0)
        raw = (ctypes.c_ubyte * n_bytes).from_address(out.value or 0)
        flat: npt.NDArray[np.generic] = np.ctypeslib.as_array(raw).view(dtype)
        return flat.reshape(shape)

    def upload(self, device: int, host: npt.NDArray[np.generic], stream: int) -> None:
        """Queue a copy of ``host`` (C order) to the device."""
        self._copy(device, host.ctypes.data, host.nbytes, HOST_TO_DEVICE, stream)

    def download(self, host: npt.NDArray[np.generic], device: int, stream: int) -> None:
        """Queue a copy from the device into ``host`` (C order)."""
        self._copy(host.ctypes.data, device, host.nbytes, DEVICE_TO_HOST, stream)

    def synchronise(self, stream: int) -> None:
        """Wait until the stream has done all that was queued."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def capture(self, stream: int, queue: Callable[[], None]) -> int:
        """Record what ``queue`` puts on the stream, without running it; hand back what `launch` takes.

        Raises
        ------
        EngineError
            If something in it cannot be captured; the stream is as before.
        """
        graph = ctypes.c_void_p()
        self._call("cudaStreamBeginCapture", ctypes.c_void_p(stream), CAPTURE_THREAD_LOCAL)
        try:
            try:
                queue()
            finally:  # whatever happened: the stream must leave capture mode
                self._call("cudaStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
            ready = ctypes.c_void_p()
            self._call("cudaGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_ulonglong(0))
            return ready.value or 0
        except EngineError:
            self._lib.cudaGetLastError()  # a refusal is no failure of later calls
            raise
        finally:
            if graph.value:
                self._release("cudaGraphDestroy", graph)

    def launch(self, captured: int, stream: int) -> None:
        """Queue all that was recorded."""
        self._call("cudaGraphLaunch", ctypes.c_void_p(captured), ctypes.c_void_p(stream))

    def free(self, device: int) -> None:
        """Give back what `malloc` gave."""
        self._release("cudaFree", ctypes.c_void_p(device))

    def free_pinned(self, host: npt.NDArray[np.generic]) -> None:
        """Give back what `pinned` gave; the array must not be used again."""
        self._release("cudaFreeHost", ctypes.c_void_p(host.ctypes.data))

    def free_captured(self, captured: int) -> None:
        """Give back what `capture` gave."""
        self._release("cudaGraphExecDestroy", ctypes.c_void_p(captured))

    def free_stream(self, stream: int) -> None:
        """Give back what `stream` gave."""
        self._release("cudaStreamDestroy", ctypes.c_void_p(stream))

    def _attribute(self, which: int) -> int:
        out = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(out), which, 0)
        return out.value

    def _copy(self, to: int, source: int, n_bytes: int, kind: int, stream: int) -> None:
        self._call(
            "cudaMemcpyAsync", ctypes.c_void_p(to), ctypes.c_void_p(source), ctypes.c_size_t(n_bytes), kind,
            ctypes.c_void_p(stream),
        )  # fmt: skip

    def _call(self, name: str, *args: object) -> None:
        if status := getattr(self._lib, name)(*args):
            raise EngineError(f"{name} failed: {_why(self._lib, status)}")

    def _release(self, name: str, *args: object) -> None:
        try:
            self._call(name, *args)
        except EngineError as e:
            log.warning("%s", e)


def _why(lib: ctypes.CDLL, status: int) -> str:
    lib.cudaGetErrorString.restype = ctypes.c_char_p
    text: bytes = lib.cudaGetErrorString(status)
    return f"error {status}, {text.decode(errors='replace')}"


def _library(load: Load) -> ctypes.CDLL:
    """The first runtime that counts a device: a new one may ask for a newer driver than is here, an old one not."""
    why = ""
    for place in _places():
        try:
            lib = load(place)
        except OSError:  # absent there: the next place; if none has it, the error below names them
            continue
        n_devices = ctypes.c_int(0)
        status = lib.cudaGetDeviceCount(ctypes.byref(n_devices))
        if not status and n_devices.value > 0:
            return lib
        why = why or (f"CUDA says {_why(lib, status)}" if status else "CUDA counts none")
    if why:
        raise EngineUnavailable(f"no usable NVIDIA card: {why}; is its driver installed (nvidia-smi)?")
    raise EngineUnavailable(
        f"no CUDA runtime library ({' or '.join(LIBRARIES)}): install the NVIDIA driver and CUDA, "
        "or pip install 'tonald[tensorrt]'"
    )


def _places() -> list[str]:
    """The loader's own search first, then the packages that pip installs, which it does not know."""
    spec = importlib.util.find_spec("nvidia")
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [str(p) for folder in folders for name in LIBRARIES for p in sorted(Path(folder).glob(f"*/lib/{name}"))]
    return [*LIBRARIES, *found]
