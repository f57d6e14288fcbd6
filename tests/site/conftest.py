"""A toy bundle that takes white noise for ambient, and recordings of white noise as the sea of a site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle, Thresholds
from models.engines import open_engine
from models.explainer import Explainer, graphs_of
from models.line_template import NO_TEMPLATES, LineGroup, Templates
from tests import toy_bundle

soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")

FS = 2000


def noise(seconds: float, seed: int, tones: tuple[float, ...] = (), level: float = 0.006) -> np.ndarray:
    """One channel of white noise of deviation 0.01 and steady tones."""
    t = np.arange(round(seconds * FS)) / FS
    x = np.random.default_rng(seed).normal(0.0, 0.01, t.size)
    return (x + sum(level * np.cos(2 * np.pi * f * t + f) for f in tones)).astype(np.float32)


def write(path: Path, *channels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack(channels, 1), FS, subtype="FLOAT")
    return path


LOW_SHIP = (14.0, 18.0, 22.0, 26.0)
"""Tones in the lower half of the toy's rows: together they are heard as ``low``."""


def make(path: Path, *, vessel: dict[str, float], templates: Templates = NO_TEMPLATES) -> Bundle:
    weights = toy_bundle._weights()
    # white noise adds up to 4.2..5.7 below and 5.2..6.6 above, with the tones of `LOW_SHIP` 7.3..7.8 below
    weights["feel_bias"] = np.array([-6.5, -7.5, 0.5])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_bundle, "_weights", lambda: weights)
        return toy_bundle.make_bundle(
            path,
            templates=templates,
            thresholds=Thresholds(
                mix={label: {"0.86": 0.4, "0.95": 0.5, "0.99": 0.6} for label in toy_bundle.LABELS[:2]},
                nominal="0.95",
                unknown_distance=dict.fromkeys(toy_bundle.LABELS, 1e9),
                min_probability={"low": 0.5, "high": 0.5},
                vessel=vessel,
            ),
        )


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make(tmp_path_factory.mktemp("bundle") / "toy", vessel={})


@pytest.fixture(scope="session")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """As ``bundle``, with line templates and so with a vessel map."""
    groups = {
        "low": (LineGroup(LOW_SHIP, (0.9,) * 4, (-0.02, 0.02)),),
        "high": (LineGroup((40.0, 44.0, 52.0, 58.0), (0.9,) * 4, (-0.02, 0.02)),),
    }
    return make(
        tmp_path_factory.mktemp("bundle") / "tracked",
        vessel={"0.86": 0.01, "0.95": 0.02, "0.99": 0.03},
        templates=Templates(0.01, groups),
    )


@pytest.fixture(scope="session")
def explainer(bundle: Bundle) -> Iterator[Explainer]:
    engine, _ = open_engine(bundle, "onnxruntime", max_batch=8, n_threads=1, graphs=graphs_of(bundle))
    yield Explainer(bundle, engine)
    engine.close()


@pytest.fixture(scope="session")
def sea(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight recordings of 12 s, two channels, the second with a hum."""
    folder = tmp_path_factory.mktemp("sea")
    for i in range(8):
        write(folder / f"sea{i}.wav", noise(12.0, i), noise(12.0, 100 + i, (50.0,), 0.002))
    return folder
