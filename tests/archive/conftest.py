"""A small archive of simulated recordings, some of them bad, and what it takes to analyse it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calibration.ocean import AMBIENT, scenario_named, simulate
from daemon.config import Config

soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")
pytest.importorskip("pyarrow", reason="the archive extra is not installed")
pytest.importorskip("distributed", reason="the archive extra is not installed")

from daemon.archive.folder import ArchiveFolder  # noqa: E402
from daemon.archive.job import Job  # noqa: E402

FS = 4000
SECONDS = 16.0
HOLE = slice(10 * FS, 11 * FS)
"""Samples of the second channel of ``_strange name é/two.wav`` that are no numbers."""


def sound(label: str, index: int, seconds: float = SECONDS) -> np.ndarray:
    """``(n_samples,)`` of the simulated ocean, space train."""
    return simulate(scenario_named("standard"), "train", index, label, seconds, FS).x[0]


def write(path: Path, *channels: np.ndarray, fs: int = FS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack(channels, 1), fs, subtype="FLOAT")
    return path


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recordings that can be analysed, one of two channels with a hole."""
    root = tmp_path_factory.mktemp("good")
    for n, label in enumerate(("vessel_0", "vessel_1", "vessel_2", "vessel_3")):
        write(root / label / f"20250901T0700{n}0Z.wav", sound(label, n))
    write(root / AMBIENT / "site.wav", sound(AMBIENT, 5))
    holed = sound("vessel_2", 6).copy()
    holed[HOLE] = np.nan
    write(root / "_strange name é" / "two.wav", sound("vessel_1", 7), holed)
    return root


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings that cannot be analysed, or not whole; see `test_recordings`."""
    root = tmp_path_factory.mktemp("bad")
    cut = write(root / "cut.wav", sound("vessel_0", 10))
    cut.write_bytes(cut.read_bytes()[: -6 * FS * 4])
    (root / "garbage.flac").write_bytes(b"fLaC but no more than that")
    write(root / "low.wav", sound("vessel_0", 11)[::4], fs=FS // 4)
    write(root / "short.wav", sound("vessel_0", 12)[: 3 * FS])
    return root


@pytest.fixture(scope="session")
def make_job(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Job]:
    """A job like that of the command without words; the engine is proved once."""
    job = Job.of(Config(), tmp_path_factory.mktemp("out"))

    def made(out: Path) -> Job:
        return dataclasses.replace(job, out=str(out))

    return made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty archive folder, as a run finds it."""
    path = tmp_path / "out"
    with ArchiveFolder(path).locked():
        return path
