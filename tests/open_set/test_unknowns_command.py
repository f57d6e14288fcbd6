"""The experiment from end to end, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calibration.dataset import Clip, WindowSet
from calibration.experiments.unknowns import KINDS, OURS
from calibration.samples import BATCH, held_clips, sample_of
from calibration.scenarios import AMBIENT, scenario_named
from daemon.cli import main
from models.engines import open_engine
from tests.toy_bundle import LABELS, SPEC, make_bundle, window


def test_samples_hold_what_the_engine_says_in_any_number(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    n = BATCH + 3
    features = np.stack([window(low=0.7 * (i % 2), seed=i) for i in range(n)])
    clip = Clip("c", "low", "g", 2000, lambda: (np.zeros((1, 1), np.float32), None))
    index = np.zeros(n, np.int64)
    windows = WindowSet(SPEC, LABELS, (clip,), (None,), features, index, index, index, index)
    engine, _ = open_engine(bundle, "onnxruntime", max_batch=BATCH, n_threads=1, graphs=("classify",))
    try:
        whole = sample_of(engine, windows)
        first = sample_of(engine, windows.take(np.arange(5)))
    finally:
        engine.close()
    assert len(whole) == n
    assert whole.evidence.shape == (n, SPEC.n_freq)
    np.testing.assert_allclose(whole.logits[:5], first.logits, atol=1e-4)  # the engine's own tolerance
    assert np.array_equal(whole.evidence[:5], first.evidence)


def test_held_recordings_share_none_with_recipes_or_seeds() -> None:
    sea = scenario_named("standard")
    n_held = {"vessel": 2, AMBIENT: 3}
    names = [c.name for seed in (0, 1) for c in held_clips(sea, 10.0, 2000, seed=seed, n_held=n_held)]
    assert len(names) == len(set(names)) == 2 * (2 * len(sea.labels) + 3)
    assert all("/calibrate/" in name and int(name.rsplit("/", 1)[1]) >= 50_000 for name in names)


def test_a_bundle_not_from_the_simulator_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_bundle(tmp_path / "bundle")
    assert main(["experiments", "unknowns", "--bundle", str(tmp_path / "bundle")]) == 64
    assert "not made from a scenario" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--fresh-seed", "-1"], 64), (["--windows", "3"], 64), (["--json", "/nowhere/x.json"], 66)],
)
def test_words_that_do_not_fit_are_refused(words: list[str], code: int) -> None:
    assert main(["experiments", "unknowns", *words]) == code


@pytest.mark.slow
def test_the_shipped_network_with_our_score_finds_strangers(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    # a seed of the development, not one of those the documentation prints
    assert main(["experiments", "unknowns", "--fresh-seed", "900", "--windows", "32", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["synthetic"] is True
    assert set(result["n_windows"]) == set(KINDS)
    ours, nearest = result["methods"][OURS], result["methods"]["nearest representative"]
    assert ours["known_ambient_vs_strangers"]["auroc"] > nearest["known_ambient_vs_strangers"]["auroc"]
    assert ours["conformal"]["strangers"] > 50.0
