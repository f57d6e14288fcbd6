"""NVIDIA's own Python bindings without its libraries: only their enumerations, types and signatures are real here.

``make check-tensorrt`` fetches them and sets `VARIABLE`; without it the tests use stand-ins.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import types
from pathlib import Path

VARIABLE = "TONALD_TENSORRT_BINDINGS"
#: Folder, beside the unpacked wheel, of libraries that do nothing.
NULL = "null"


def load() -> types.ModuleType | None:
    """The bindings in the folder that the environment names; None if it names none."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    if "tensorrt_bindings" not in sys.modules:
        for library in sorted((Path(folder) / NULL).iterdir()):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)  # the loader then finds the name loaded
        sys.path.insert(0, folder)
    return importlib.import_module("tensorrt_bindings")
