"""The trial of the generator: pairs, resumption, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import calibration.experiments.wgan as trial
from calibration.experiments.wgan import Plan, measure, paired
from calibration.experiments.wgan_classifier import accuracy, embeddings, train_classifier
from daemon.cli import main
from models.dataset import Dataset
from models.errors import InputError, UsageError

TINY = Plan(sizes=(6,), n_seeds=2, gan_steps=2, classifier_steps=2)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, n in (("N_EMBEDDER", 1), ("N_REFERENCE", 3), ("N_TEST", 1)):
        monkeypatch.setattr(trial, name, n)


def easy(n: int = 40, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = rng.uniform(0.0, 0.3, (n, 1, 32, 32)).astype(np.float32)
    x[np.arange(n), 0, 10 + 8 * y] = 0.9
    return Dataset(x, y, [f"r{i}" for i in range(n)], ("a", "b"))


def test_interval_of_paired_differences_by_hand() -> None:
    mean, low, high = paired([1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.3027, standard error 1 / sqrt(3)
    assert (mean, high - mean, mean - low) == pytest.approx((2.0, 2.4841, 2.4841), abs=1e-3)
    with pytest.raises(ValueError, match="at least two"):
        paired([1.0])


def test_classifier_learns_and_the_same_seed_gives_the_same_answers() -> None:
    a, b = train_classifier(easy(), 40, 1), train_classifier(easy(), 40, 1)
    test = easy(seed=9)
    assert accuracy(a, test) > 0.95
    np.testing.assert_array_equal(embeddings(a, test.features), embeddings(b, test.features))


def test_a_stopped_run_goes_on_and_gives_what_a_whole_one_gives(few: None, tmp_path: Path) -> None:
    path = tmp_path / "cells.json"
    whole = measure(TINY)
    held = json.loads(json.dumps({k: v for k, v in whole.items() if k != "table"}))
    for key in ("6/modern/1", "6/none/1"):
        del held["cells"][key]
    path.write_text(json.dumps(held))
    again = measure(TINY, path)
    assert again["cells"] == whole["cells"]
    assert again["table"] == whole["table"]
    assert json.loads(path.read_text())["cells"] == whole["cells"]
    by_method = {row["method"]: row for row in whole["table"]}
    assert set(by_method) == set(trial.METHODS)
    assert all(row["n_seeds"] == 2 for row in by_method.values())
    assert "difference" not in by_method["none"]
    modern = [whole["cells"][f"6/modern/{s}"]["accuracy"] - whole["cells"][f"6/none/{s}"]["accuracy"] for s in (0, 1)]
    assert by_method["modern"]["difference"] == pytest.approx(np.mean(modern))


def test_results_of_other_settings_and_damaged_ones_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "cells.json"
    about = trial._Store(TINY, None).about
    path.write_text(json.dumps({**about, "gan_steps": 7, "cells": {}}))
    with pytest.raises(UsageError, match="gan_steps"):
        measure(TINY, path)
    path.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        measure(TINY, path)


def test_training_reference_and_test_recordings_are_apart() -> None:
    scenario = trial.scenario_named("wide")
    sets = [
        trial.load_windows(scenario, "train", trial.TRAIN_FIRST, 1),
        trial.load_windows(scenario, "train", trial.REFERENCE_FIRST, 1),
        trial.load_windows(scenario, "train", trial.EMBEDDER_FIRST, 1),
        trial.load_windows(scenario, "test", trial.TEST_FIRST, 1),
    ]
    groups = [set(s.groups) for s in sets]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 4 * 1 * 5
    assert all(np.bincount(s.y).tolist() == [2] * 5 for s in sets)
    assert trial.TEST_FIRST + trial.N_TEST <= 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--windows", "20,x"], "whole numbers"), (["--windows", "7"], "even"), (["--methods", "magic"], "magic"),
     (["--seeds", "0"], "at least 1"), (["--json", "/nowhere/at/all.json"], "no such folder"),
     (["--scenario", "dessert"], "dessert")],
)  # fmt: skip
def test_words_that_do_not_fit_end_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiments", "wgan", *words]) in (64, 66)
    err = capsys.readouterr().err.strip()
    assert message in err
    assert len(err.splitlines()) == 1
