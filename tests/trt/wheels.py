"""NVIDIA's wheels for the proof without a card, fetched once into a cache folder; nothing of them is committed.

The bindings import nine functions of NVIDIA's libraries when they are loaded. A library that does nothing, under each
name they ask for, lets them load without the libraries themselves, which are no wheels and want a driver.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BINDINGS", "CUDART", "CUDART_12", "RTX", "STUBGEN", "MissingError", "Wheel", "fetch", "null_libraries"]

REPO = Path(__file__).parents[2]
CACHE = REPO / "build" / "tensorrt"
NULL_SOURCE = """
#include <stddef.h>
void *createInferBuilder_INTERNAL(void *l, int v) { return NULL; }
void *createInferRefitter_INTERNAL(void *e, void *l, int v) { return NULL; }
void *createInferRuntime_INTERNAL(void *l, int v) { return NULL; }
void *createNvOnnxParserRefitter_INTERNAL(void *r, void *l, int v) { return NULL; }
void *createNvOnnxParser_INTERNAL(void *n, void *l, int v) { return NULL; }
void *getBuilderPluginRegistry(int c) { return NULL; }
int getNvOnnxParserVersion(void) { return 0; }
void *getPluginRegistry(void) { return NULL; }
_Bool initLibNvInferPlugins(void *l, const char *n) { return 1; }
"""


class MissingError(Exception):
    """Something the proof needs cannot be had here; the message says what and why."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package of the registry at one version."""

    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


#: The real bindings of each release served.
BINDINGS = {
    "10.3": Wheel("tensorrt-cu12-bindings", "10.3.0"),
    "10.16": Wheel("tensorrt-cu12-bindings", "10.16.1.11"),
    "11.4": Wheel("tensorrt-cu12-bindings", "11.4.0.106"),
}
#: TensorRT-RTX builds on the CPU by design; 95 MB.
RTX = (Wheel("tensorrt-rtx-cu13-bindings", "1.7.1.116"), Wheel("tensorrt-rtx-cu13-libs", "1.7.1.116"))
#: CUDA's real runtimes with their headers: the newest, and that of JetPack 6.
CUDART = Wheel("nvidia-cuda-runtime", "13.5.37")
CUDART_12 = Wheel("nvidia-cuda-runtime-cu12", "12.6.77")
STUBGEN = Wheel("pybind11-stubgen", "3.0.0")


def fetch(name: str, *wheels: Wheel) -> Path:
    """Folder in the cache with all ``wheels`` unpacked into it; fetched if they are not there yet.

    Raises
    ------
    MissingError
        If the registry does not answer or has no such wheel for this Python and machine.
    """
    folder = CACHE / name
    done = folder / ".whole"
    if done.is_file() and done.read_text() == " ".join(map(str, wheels)):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    for wheel in wheels:
        with zipfile.ZipFile(_download(wheel)) as z:
            z.extractall(folder)
    done.write_text(" ".join(map(str, wheels)))
    return folder


def null_libraries(folder: Path) -> Path:
    """Libraries that do nothing, under the names that the bindings in ``folder`` ask for; handed back is their folder.

    Raises
    ------
    MissingError
        If there is no C compiler or no readelf.
    """
    out = folder / "null"
    if out.is_dir():
        return out
    for tool in ("gcc", "readelf"):
        if shutil.which(tool) is None:
            raise MissingError(f"no {tool} here (apt install gcc binutils)")
    bindings = next(folder.glob("tensorrt*/tensorrt*.so"))
    dynamic = subprocess.run(["readelf", "-d", str(bindings)], capture_output=True, text=True, check=True).stdout
    making = folder / "null.part"
    making.mkdir(exist_ok=True)
    source = folder / "null.c"
    source.write_text(NULL_SOURCE)
    for name in re.findall(r"\[(libnv[^\]]+)\]", dynamic):
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(making / name), str(source)]
        subprocess.run(command, check=True)
    return making.rename(out)


def _download(wheel: Wheel) -> Path:
    store = CACHE / "wheels"
    pattern = f"{wheel.package.replace('-', '_')}-{wheel.version}-*.whl"
    if not list(store.glob(pattern)):
        command = [
            sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
            "--only-binary=:all:", "-d", str(store), f"{wheel.package}=={wheel.version}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            words = done.stderr.strip().splitlines()
            raise MissingError(f"{wheel} cannot be fetched: {words[-1] if words else 'pip says nothing'}")
    return next(store.glob(pattern))
