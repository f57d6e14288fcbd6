"""Sound for the faults that need no card: recordings of the simulated sea, rendered once per run of the catalogue."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from calibration.ocean import SCENARIOS, simulate

FS = 8000


@functools.cache
def _folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="sea-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.cache
def sound(seconds: float, fs: int = FS, label: str = "vessel_1") -> np.ndarray:
    """``(n,)`` float32 of one hydrophone near a vessel."""
    return simulate(SCENARIOS["standard"], "test", 900, label, seconds, fs).x[0]


def write(path: Path, x: np.ndarray, fs: int = FS) -> Path:
    """``(n,)`` or ``(n_channels, n)`` as a float WAV file."""
    soundfile.write(path, np.atleast_2d(x).T, fs, subtype="FLOAT")
    return path


def recording(seconds: float = 40.0, fs: int = FS) -> Path:
    """A WAV file of one channel."""
    path = _folder() / f"sea{seconds:g}_{fs}.wav"
    return path if path.exists() else write(path, sound(seconds, fs), fs)


def of_file(path: Path) -> dict[str, object]:
    """Settings that hear a file from its beginning once a subscriber is there."""
    return {"source.kind": "file", "source.path": str(path), "publish.wait_subscriber_s": 30.0}


OCEAN = {"source.kind": "simulated", "source.fs": 4000, "publish.wait_subscriber_s": 30.0}
"""In real time, 10 s at once."""
