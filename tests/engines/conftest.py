from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

import models.engines
from tests.engines import fake_tensorrt, real_bindings
from tests.engines.fake_cuda import Cudart
from tests.engines.fake_tensorrt import Install

MODULES = ("tensorrt_api", "tensorrt_plan", "tensorrt_lane")
REAL = real_bindings.load()
VERSION = "10.3.0" if REAL is None else REAL.__version__


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put the double in TensorRT's place; what was imported against it is forgotten again."""

    def forget() -> None:
        for name in MODULES:
            sys.modules.pop(f"models.engines.{name}", None)
            if hasattr(models.engines, name):
                delattr(models.engines, name)

    def put(version: str = VERSION, **kwargs: Any) -> tuple[Cudart, list[str]]:
        forget()
        cudart, built = Cudart(**kwargs), list[str]()
        monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt.make(cudart, version, built, REAL))
        return cudart, built

    yield put
    forget()
