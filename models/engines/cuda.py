"""The dozen CUDA runtime calls that TensorRT needs, on the system's own ``libcudart`` by ctypes: no package to install.

Where a driver is missing, TensorRT must not be touched: its runtime hands back a broken object and the process crashes
(seen with 11.4). ``Cuda()`` therefore asks for devices first and raises.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import EngineError, EngineUnavailable

__all__ = ["Cuda"]

LIBRARIES = ("libcudart.so.13", "libcudart.so.12")
STREAM_NON_BLOCKING = 1
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2
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
        self._lib.cudaGetErrorString.restype = ctypes.c_char_p
        n_devices = ctypes.c_int(0)
        status = self._lib.cudaGetDeviceCount(ctypes.byref(n_devices))
        if status or n_devices.value < 1:
            why = f"CUDA says {self._why(status)}" if status else "CUDA counts none"
            raise EngineUnavailable(f"no usable NVIDIA card: {why}; is its driver installed (nvidia-smi)?")
        properties = ctypes.create_string_buffer(N_PROPERTIES)
        # CUDA 12 kept the old symbol for old programs; the name comes first in either layout
        name = "cudaGetDeviceProperties_v2" if hasattr(self._lib, "cudaGetDeviceProperties_v2") else None
        self._call(name or "cudaGetDeviceProperties", properties, 0)
        self.device = ctypes.string_at(properties).decode(errors="replace")

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

    def free(self, device: int) -> None:
        """Give back what `malloc` gave."""
        self._call("cudaFree", ctypes.c_void_p(device))

    def free_pinned(self, host: npt.NDArray[np.generic]) -> None:
        """Give back what `pinned` gave; the array must not be used again."""
        self._call("cudaFreeHost", ctypes.c_void_p(host.ctypes.data))

    def free_stream(self, stream: int) -> None:
        """Give back what `stream` gave."""
        self._call("cudaStreamDestroy", ctypes.c_void_p(stream))

    def _copy(self, to: int, source: int, n_bytes: int, kind: int, stream: int) -> None:
        self._call(
            "cudaMemcpyAsync", ctypes.c_void_p(to), ctypes.c_void_p(source), ctypes.c_size_t(n_bytes), kind,
            ctypes.c_void_p(stream),
        )  # fmt: skip

    def _call(self, name: str, *args: object) -> None:
        if status := getattr(self._lib, name)(*args):
            raise EngineError(f"{name} failed: {self._why(status)}")

    def _why(self, status: int) -> str:
        text: bytes = self._lib.cudaGetErrorString(status)
        return f"error {status}, {text.decode(errors='replace')}"


def _library(load: Load) -> ctypes.CDLL:
    places = _places()
    while places:
        with contextlib.suppress(OSError):  # absent there: the next place; if none has it, the error below names them
            return load(places.pop(0))
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
