"""An own ship of ten steady lines, learned by the command, and recordings of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daemon.cli import main
from daemon.site_state import own_ship_in

soundfile = pytest.importorskip("soundfile")

FS = 2000
MACHINERY = (31.0, 62.0, 93.0, 124.0, 155.0, 212.3, 278.9, 301.4, 367.7, 421.0)
STRANGER = (44.0, 75.2, 110.5, 171.3, 190.0, 233.8, 255.6, 322.2, 341.9, 389.4, 440.6)


def sound(tones: tuple[float, ...], seconds: float, seed: int, level: float = 0.006) -> np.ndarray:
    t = np.arange(round(seconds * FS)) / FS
    x = np.random.default_rng(seed).normal(0.0, 1e-2, t.size)
    return (x + sum(level * np.cos(2 * np.pi * f * t + f) for f in tones)).astype(np.float32)


def write(path: Path, x: np.ndarray) -> Path:
    soundfile.write(path, x, FS, subtype="FLOAT")
    return path


def put(learned: Path, tmp_path: Path) -> None:
    path = own_ship_in(tmp_path / "state")
    path.parent.mkdir(parents=True)
    path.write_bytes(own_ship_in(learned).read_bytes())


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory in which the machinery was learned by the command."""
    folder = tmp_path_factory.mktemp("own")
    recording = write(folder / "alone.wav", sound(MACHINERY, 200.0, 1))
    assert main(["own-ship", "learn", str(recording), "--state-dir", str(folder / "state")]) == 0
    return folder / "state"
