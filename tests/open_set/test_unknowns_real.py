"""Recordings from a folder: labels apart, errors by group, lines make a stranger where the network hears nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from calibration.experiments.unknowns_real import on_recordings
from models.bundle import Bundle
from models.engines import open_engine
from models.engines.base import Engine
from models.errors import InputError
from models.rejection import PARTS, Rejection
from tests.toy_bundle import LABELS, N_EMBEDDING, SPEC, make_bundle

FS, SECONDS = 2000, 8.0


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bundle, Engine]]:
    bundle = make_bundle(tmp_path_factory.mktemp("toy") / "bundle")
    engine, _ = open_engine(bundle, "onnxruntime", max_batch=16, n_threads=1, graphs=("classify",))
    yield bundle, engine
    engine.close()


def counting(limit: float = 2.5) -> Rejection:
    """Counts lines, whatever the network says."""
    n, p = len(LABELS), len(PARTS)
    return Rejection(
        LABELS, np.ones((n, SPEC.n_freq)), np.zeros(n), np.zeros((n, N_EMBEDDING)), np.eye(N_EMBEDDING),
        np.zeros((n, p)), np.ones((n, p)), np.array([1.0, 0.0, 0.0]), np.full(n, limit),
    )  # fmt: skip


def write(folder: Path, label: str, name: str, tones_hz: tuple[float, ...], seed: int) -> None:
    t = np.arange(round(SECONDS * FS)) / FS
    x = 0.05 * np.random.default_rng(seed).standard_normal(t.size)
    for f in tones_hz:
        x += 0.02 * np.sin(2 * np.pi * f * t)  # 15 dB over noise in a frame
    (folder / label).mkdir(exist_ok=True)
    soundfile.write(folder / label / f"{name}.wav", x, FS, subtype="FLOAT")


def test_vessels_of_a_folder_are_strangers_by_their_lines(tmp_path: Path, toy: tuple[Bundle, Engine]) -> None:
    for i in range(3):
        write(tmp_path, "ambient", f"sea{i}", (), i)
        write(tmp_path, "vessel_x", f"ship{i}", (18.0, 26.0, 34.0, 42.0, 54.0), 10 + i)
    found = on_recordings(*toy, counting(), tmp_path)
    ship, sea = found["labels"]["vessel_x"], found["labels"]["ambient"]
    assert ship["n_groups"] == sea["n_groups"] == 3
    assert ship["unknown"] > 80.0 > 20.0 > sea["unknown"]
    assert ship["lines"] > sea["lines"] + 2.0
    assert found["vessels_vs_empty"]["auroc"] > 0.95


def test_a_folder_without_vessels_has_no_auroc_and_one_group_no_error(
    tmp_path: Path, toy: tuple[Bundle, Engine]
) -> None:
    write(tmp_path, "ambient", "sea", (), 0)
    found = on_recordings(*toy, counting(), tmp_path)
    assert found["vessels_vs_empty"] is None
    assert found["labels"]["ambient"]["unknown_se"] is None


def test_a_folder_without_recordings_is_refused(tmp_path: Path, toy: tuple[Bundle, Engine]) -> None:
    with pytest.raises(InputError):
        on_recordings(*toy, counting(), tmp_path)
