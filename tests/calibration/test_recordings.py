"""Folders of recordings: both layouts, what is refused and why, and groups that a split must not cut."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from calibration.recordings import read, scan
from models.errors import AudioFormatError, InputError
from models.features import FeatureSpec

SPEC = FeatureSpec()


def write(path: Path, seconds: float = 10.0, fs: int = 4000, n_channels: int = 1, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    x = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * fs), n_channels))
    soundfile.write(path, x, fs, subtype="PCM_24")
    return path


def write_csv(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_scan_plain_folders_gives_label_rate_and_side_car(tmp_path: Path) -> None:
    write(tmp_path / "tug" / "a.wav", n_channels=2)
    write(tmp_path / "tug" / "b.flac", fs=2000)
    write(tmp_path / "ambient" / "c.wav")
    (tmp_path / "tug" / "a.truth.json").write_text('{"labels": [], "lines": []}')
    (tmp_path / "tug" / "notes.txt").write_text("no audio")
    found = scan(tmp_path, SPEC)
    assert found.labels == ("ambient", "tug")
    assert [(r.path.name, r.fs, r.n_channels) for r in found.recordings] == [
        ("c.wav", 4000, 1), ("a.wav", 4000, 2), ("b.flac", 2000, 1),
    ]  # fmt: skip
    assert [r.truth is not None for r in found.recordings] == [False, True, False]
    assert not found.refused
    assert read(found.recordings[1]).shape == (2, 40000)


def test_scan_refuses_low_rate_short_and_damaged_files_and_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "x" / "good.wav")
    write(tmp_path / "x" / "low.wav", fs=1000, seconds=20)
    write(tmp_path / "x" / "short.wav", seconds=2)
    (tmp_path / "x" / "text.wav").write_text("this is no audio")
    found = scan(tmp_path, SPEC)
    reasons = {r.path.name: r.reason for r in found.refused}
    assert [r.path.name for r in found.recordings] == ["good.wav"]
    assert "1000 Hz" in reasons["low.wav"]
    assert "2000 Hz" in reasons["low.wav"]
    assert "2.00 s is shorter than one window" in reasons["short.wav"]
    assert "not audio" in reasons["text.wav"]


def test_scan_csv_groups_by_vessel_source_and_parts(tmp_path: Path) -> None:
    rows = [
        {"file": "v/a_part1.wav", "cls": "v", "vessel": "unknown", "source_path": "a[1..9]", "tier": "C"},
        {"file": "v/a_part2.wav", "cls": "v", "vessel": "unknown", "source_path": "a[10..17]", "tier": "C"},
        {"file": "v/b.wav", "cls": "v", "vessel": "MALASPINA", "source_path": "5.wav", "tier": "C"},
        {"file": "w/c.wav", "cls": "w", "vessel": "MALASPINA", "source_path": "9.wav", "tier": "A"},
        {"file": "w/d.wav", "cls": "w", "vessel": "", "source_path": "9.wav", "tier": "A"},
        {"file": "w/e.wav", "cls": "w", "vessel": "", "source_path": "", "tier": "A"},
    ]
    for row in rows:
        write(tmp_path / row["file"])
    write_csv(tmp_path, rows)
    group = {r.path.stem: r.group for r in scan(tmp_path, SPEC).recordings}
    assert group["a_part1"] == group["a_part2"]
    assert group["b"] == group["c"] == group["d"]
    assert len({group["a_part1"], group["b"], group["e"]}) == 3


def test_scan_csv_takes_another_class_column_and_filters_tiers(tmp_path: Path) -> None:
    rows = [
        {"file": "a.wav", "cls": "x", "kind": "noisy", "tier": "A"},
        {"file": "b.wav", "cls": "x", "kind": "", "tier": "A"},
        {"file": "c.wav", "cls": "x", "kind": "calm", "tier": "C"},
    ]
    for row in rows:
        write(tmp_path / row["file"])
    write_csv(tmp_path, rows)
    found = scan(tmp_path, SPEC, class_column="kind", tiers=["A"])
    assert [(r.path.name, r.label) for r in found.recordings] == [("a.wav", "noisy")]


@pytest.mark.parametrize(
    ("column", "message"), [("size", "column 'size' is missing; it has"), ("cls", "none of 1 files can be used")]
)
def test_scan_says_what_is_wrong_with_a_csv(tmp_path: Path, column: str, message: str) -> None:
    write_csv(tmp_path, [{"file": "absent.wav", "cls": "x"}])
    with pytest.raises(InputError, match=message):
        scan(tmp_path, SPEC, class_column=column)


def test_scan_of_an_empty_or_missing_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected"):
        scan(tmp_path, SPEC)
    with pytest.raises(InputError, match="no such folder"):
        scan(tmp_path / "none", SPEC)


def test_read_refuses_samples_that_are_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "x" / "nan.wav"
    path.parent.mkdir()
    x = np.zeros(40000, np.float32)
    x[1000] = np.nan
    soundfile.write(path, x, 4000, subtype="FLOAT")
    (recording,) = scan(tmp_path, SPEC).recordings
    with pytest.raises(AudioFormatError, match="not finite"):
        read(recording)


def test_scan_of_the_shared_recordings_never_parts_a_vessel() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is absent")
    found = scan(folder, SPEC)
    assert len(found.recordings) + len(found.refused) == 194
    with (folder / "labels.csv").open() as file:
        vessel = {folder / row["file"]: row["vessel"] for row in csv.DictReader(file)}
    groups: dict[str, set[str]] = {}
    for r in found.recordings:
        if vessel[r.path] not in ("", "unknown"):
            groups.setdefault(vessel[r.path], set()).add(r.group)
    assert groups
    assert all(len(g) == 1 for g in groups.values())
