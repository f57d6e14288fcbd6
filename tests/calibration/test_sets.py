"""Recipes: from words to windows, apart where they must be apart, and clear where they cannot be cooked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from calibration.dataset import AMBIENT
from calibration.ocean import simulate
from calibration.scenarios import SCENARIOS
from calibration.sets import Recipe, cook, strangers, windows_for_test
from calibration.truth import truth_path
from models.errors import InputError, UsageError
from models.features import FeatureSpec

SPEC = FeatureSpec()
STANDARD = SCENARIOS["standard"]


def write_folder(folder: Path, labels: dict[str, int], seconds: float = 12.0, truth: bool = True) -> Path:
    for label, n in labels.items():
        (folder / label).mkdir(parents=True)
        for i in range(n):
            r = simulate(STANDARD, "train", i, label, seconds)
            path = folder / label / f"r{i}.wav"
            soundfile.write(path, r.x.T, r.fs, subtype="PCM_24")
            if truth:
                r.truth.write(truth_path(path))
    return folder


def test_recipe_survives_writing(tmp_path: Path) -> None:
    recipe = Recipe(folder="x", tiers=("A", "B"), ambient=("calm", "hum"), seed=3)
    recipe.write(tmp_path / "data.json")
    assert Recipe.read(tmp_path / "data.json") == recipe


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"scenario": "standard", "colour": 1}'])
def test_recipe_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.json").write_text(text)
    with pytest.raises((InputError, UsageError)):
        Recipe.read(tmp_path / "data.json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "either a scenario"),
        ({"scenario": "standard", "folder": "x"}, "either a scenario"),
        ({"scenario": "standard", "seconds": 2.0}, "10..3600"),
        ({"scenario": "standard", "n_recordings": 1}, "2..10000"),
    ],
)
def test_recipe_refuses_words_that_do_not_fit(words: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**words)  # type: ignore[arg-type]  # wrong words are the point


def test_simulated_sets_share_no_recording_and_are_the_same_each_time() -> None:
    recipe = Recipe(scenario="standard", n_recordings=2, seconds=10.0)
    sets = cook(recipe, SPEC)
    groups = [{c.group for c in s.clips} for s in (sets.train, sets.val, sets.calibrate)]
    assert not groups[0] & groups[1]
    assert not (groups[0] | groups[1]) & groups[2]
    assert sets.labels == (*STANDARD.labels, AMBIENT)
    assert sets.line_tables_hz["vessel_0"] == STANDARD.canonical_lines("vessel_0").tolist()
    np.testing.assert_array_equal(cook(recipe, SPEC).train.features, sets.train.features)


def test_another_seed_gives_other_recordings() -> None:
    a, b = (cook(Recipe(scenario="standard", n_recordings=2, seconds=10.0, seed=s), SPEC) for s in (0, 1))
    assert not {c.group for c in a.train.clips} & {c.group for c in b.train.clips}


def test_folder_sets_are_split_by_recording_with_lines_from_truth(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"vessel_0": 8, "vessel_1": 8, AMBIENT: 8})
    sets = cook(Recipe(folder=str(folder)), SPEC)
    groups = [{c.group for c in s.clips} for s in (sets.train, sets.val, sets.calibrate)]
    assert [len(g) for g in groups] == [18, 3, 3]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    table = np.array(sets.line_tables_hz["vessel_0"])
    for f in STANDARD.canonical_lines("vessel_0"):
        assert np.abs(table / f - 1).min() < 0.03  # the spread of shaft speed is 2.5 %
    assert not sets.notes


def test_folder_too_small_to_split_says_so_and_still_serves_each_set(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"vessel_0": 1, AMBIENT: 2}, truth=False)
    sets = cook(Recipe(folder=str(folder)), SPEC)
    assert all(n > 0 for s in (sets.train, sets.calibrate) for n in s.counts().values())
    assert sets.val.counts()["vessel_0"] == 0
    assert [n.split(":")[0] for n in sets.notes] == ["vessel_0", AMBIENT]
    assert sets.line_tables_hz == {}


def test_folder_without_ambient_or_classes_says_what_to_do(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", {"vessel_0": 2}, truth=False)
    with pytest.raises(InputError, match="name their labels with --ambient"):
        cook(Recipe(folder=str(folder)), SPEC)
    with pytest.raises(InputError, match="no class to learn"):
        cook(Recipe(folder=str(folder), ambient=("vessel_0",)), SPEC)
    with pytest.raises(UsageError, match="no usable recordings of 'tug'"):
        cook(Recipe(folder=str(folder), labels=("tug",)), SPEC)


def test_windows_for_test_bring_strangers_with_lines_of_their_own() -> None:
    windows, notes = windows_for_test(
        Recipe(scenario="standard", n_recordings=2, seconds=10.0), SPEC, (*STANDARD.labels, AMBIENT)
    )
    assert not notes
    assert np.count_nonzero(windows.y == -1) == 2 * len(STANDARD.classes)
    assert windows.counts()[AMBIENT] == 2
    other = strangers(STANDARD)
    for label in other.labels:
        for known in STANDARD.labels:
            gaps = np.abs(other.canonical_lines(label)[:, None] - STANDARD.canonical_lines(known))
            assert np.mean(gaps.min(axis=1) < SPEC.bin_hz) < 0.5  # some lines fall together, as at sea
