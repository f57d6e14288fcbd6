"""Folders to train and to test on: what both hold is told, what only looks alike is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from calibration.overlap import overlap
from calibration.sets import Recipe, cook
from daemon.cli import main
from models.features import FeatureSpec

SPEC = FeatureSpec()


def write(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(20_000), 2000, subtype="FLOAT")


def told(folder: Path) -> list[str]:
    found = overlap(Recipe(folder=str(folder / "train")), Recipe(folder=str(folder / "test")), SPEC)
    return [note.split(" is in both")[0] for note in found]


def test_a_vessel_in_both_folders_is_told(tmp_path: Path) -> None:
    for side, vessel in (("train", "MALASPINA"), ("test", "MALASPINA"), ("test", "KENNICOTT")):
        name = f"ferry/{vessel}_{side}.wav"
        write(tmp_path / side / name)
        table = tmp_path / side / "labels.csv"
        head = "" if table.exists() else "file,cls,vessel,source_repo,source_path\n"
        with table.open("a") as f:
            f.write(f"{head}{name},ferry,{vessel},r,{side}{vessel}.wav\n")
    assert told(tmp_path) == ["vessel MALASPINA"]


def test_parts_of_one_recording_on_both_sides_are_told_and_equal_names_are_not(tmp_path: Path) -> None:
    write(tmp_path / "train" / "tug" / "pass_part1.wav")
    write(tmp_path / "test" / "tug" / "pass_part2.wav")
    for side in ("train", "test"):
        write(tmp_path / side / "tug" / "0001.wav")
    assert told(tmp_path) == ["recording tug/pass in parts"]


def test_a_folder_against_itself_is_told_file_by_file(tmp_path: Path) -> None:
    write(tmp_path / "train" / "tug" / "0001.wav")
    (tmp_path / "test").symlink_to(tmp_path / "train")
    assert told(tmp_path) == [f"file {tmp_path / 'train' / 'tug' / '0001.wav'}"]


def test_the_simulated_ocean_has_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="simulated"):
        overlap(Recipe(scenario="standard"), Recipe(folder=str(tmp_path)), SPEC)


def test_no_set_of_a_training_run_shares_a_vessel_or_a_recording_with_another(tmp_path: Path) -> None:
    rows = ["file,cls,vessel"]
    for v in range(8):
        for part in (1, 2):
            for label, vessel in ((f"class_{v % 2}", f"SHIP {v}"), ("ambient", "")):
                rows.append(f"{label}/{v}_part{part}.wav,{label},{vessel}")
                write(tmp_path / label / f"{v}_part{part}.wav", seed=10 * v + part)
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    for seed in range(3):
        sets = cook(Recipe(folder=str(tmp_path), seed=seed), SPEC)
        sides = [set(w.groups) for w in (sets.train, sets.val, sets.calibrate)]
        assert all(sides)
        assert len(set.union(*sides)) == sum(map(len, sides))


def test_evaluate_prints_what_became_of_labels_the_bundle_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "trawler" / "a.wav")
    write(tmp_path / "ambient" / "b.wav", seed=1)
    bundle = Path(__file__).parents[2] / "models" / "bundles" / "simulated"
    words = ["evaluate", "--bundle", str(bundle), "--test", str(tmp_path), "--engine", "onnxruntime"]
    assert main(words) == 0
    assert "labels it does not know: 0.0 % of windows called unknown, 0.0 % named as a class" in capsys.readouterr().out
