"""TensorRT's Python bindings, whichever are installed: TensorRT, else TensorRT-RTX, which has the same calls.

Imports TensorRT: only after CUDA was asked.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorrt as trt
else:
    try:
        trt = importlib.import_module("tensorrt")
    except ImportError as missing:
        try:
            trt = importlib.import_module("tensorrt_rtx")
        except ImportError:
            raise missing from None  # the first is what most machines should have

__all__ = ["IS_RTX", "LOGGER", "NAME", "VERSION", "trt"]

VERSION: str = trt.__version__
IS_RTX: bool = trt.__name__.startswith("tensorrt_rtx")
NAME: str = f"TensorRT{'-RTX' if IS_RTX else ''} {VERSION}"
"""For people and for the keys of plans."""


class _Logger(trt.ILogger):
    """TensorRT's messages as our own log records."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)  # the bindings ask for the call by name

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Pass one message on; below a warning they are for debugging."""
        level = logging.DEBUG
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            level = logging.ERROR
        elif severity == trt.ILogger.Severity.WARNING:
            level = logging.WARNING
        logging.getLogger("tensorrt").log(level, "%s", msg)


LOGGER = _Logger()
