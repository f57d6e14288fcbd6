"""Tables and JSON: figures that cannot be told, rows that failed, files that are whole or absent."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from calibration.experiments.judge import Judgement
from calibration.experiments.peers import Entry, free_table, mask_table, reference_rows, run_rows
from calibration.experiments.scene import Scene
from calibration.experiments.tables import about, aligned, cell, figures, headline, write_json
from calibration.experiments.trial import Trial, make_trial
from calibration.peers.normalisers import Tpsw
from calibration.scenarios import AMBIENT, SCENARIOS
from models.errors import InputError
from models.features import FeatureSpec

STANDARD = SCENARIOS["standard"]


@pytest.fixture(scope="module")
def trial() -> Trial:
    return make_trial(STANDARD, 1, 4, FeatureSpec(), (*STANDARD.labels, AMBIENT), n_calm=24)


class Broken:
    name = "broken"

    def maps(self, scene: Scene, cls: np.ndarray) -> np.ndarray:
        raise ValueError("two\nlines")


def missing() -> Broken:
    raise ModuleNotFoundError("No module named 'librosa'", name="librosa")


def test_ratios_are_per_cent_counts_are_not_and_nan_is_null() -> None:
    rows = tuple({"p": {"removed_noise": v, "intersecting_regions": 2.0, "line_f1": math.nan}} for v in (0.5, 0.7, 0.9))
    got = figures(Judgement("x", rows, ("a", "a", "b"), math.nan))
    # recordings count once: (0.6 + 0.9) / 2, half their difference for an error
    assert got["p"]["removed_noise"] == pytest.approx(75.0)
    assert got["p"]["removed_noise_se"] == pytest.approx(15.0)
    assert got["p"]["intersecting_regions"] == 2.0
    assert got["p"]["line_f1"] is None
    assert got["ms_per_window"] is None
    assert cell(got["p"], "removed_noise") == "75.0 +- 15.0"
    assert cell(got["p"], "line_f1") == cell(None, "line_f1") == cell(got["p"], "no such") == "-"


def test_a_row_that_fails_is_in_the_table_with_its_reason(trial: Trial) -> None:
    entries = [Entry("a", Tpsw), Entry("gone", missing), Entry("b", Broken)]
    rows = run_rows(entries, trial, levels=(0.95,))
    assert list(rows) == ["a", "gone", "b"]
    assert "error" not in rows["a"]
    assert rows["gone"]["error"] == "needs librosa, which is not installed: pip install 'tonald[experiments]'"
    assert rows["b"]["error"] == "ValueError: two lines"
    all_rows = {**reference_rows(trial), **rows}
    for text in (free_table(all_rows), mask_table(all_rows, "conformal_95", "masks")):
        assert "gone: FAILED: needs librosa" in text
        assert "b: FAILED: ValueError: two lines" in text
        assert "TPSW, 1 frame" in text
    assert "oracle" in mask_table(all_rows, "conformal_95", "masks")
    with pytest.raises(ValueError, match="two"):
        run_rows(entries[2:], trial, levels=(0.95,), failures=())


def test_columns_stand_under_their_heads(trial: Trial) -> None:
    text = aligned(
        ["name", "a", "long head"], [["x", "1.0", "2"], ["failed: a whole line about it"], ["yy", "10.0", "3"]]
    )
    lines = text.split("\n")
    assert lines[0] == "name     a  long head"
    assert lines[2] == "x      1.0          2"
    assert lines[3] == "failed: a whole line about it"
    assert lines[4] == "yy    10.0          3"
    assert "other ship removed" not in mask_table(reference_rows(trial), "conformal_95", "masks")


def test_the_headline_says_simulated_and_the_seeds(trial: Trial) -> None:
    facts = about(trial, "standard", 1)
    text = headline(facts)
    assert "SIMULATED" in text
    assert "fresh seed 1" in text
    assert "4 windows of 4 recordings" not in text
    assert f"{len(trial.test)} windows of {len(set(trial.groups))} recordings" in text
    assert facts["first_recording"] == "standard/test/vessel_0/1010000"
    json.dumps(facts, allow_nan=False)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": math.nan})
    assert json.loads(path.read_text()) == {"a": 1}
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(InputError, match=f"{folder}: cannot be written"):
        write_json(folder, {"a": 1})
    with pytest.raises(InputError, match="cannot be written"):
        write_json(tmp_path / "none" / "x.json", {"a": 1})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figures.json", "folder"]
