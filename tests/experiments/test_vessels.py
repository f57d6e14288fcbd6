"""Vessel or not: what leaks is seen to leak, what is grouped stays together, lines are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from calibration.experiments.vessels import SPLITS, Windows, judged, look, run
from models.errors import InputError

FS, SECONDS = 2000, 10.2


def write(folder: Path, name: str, tones_hz: tuple[float, ...], seed: int) -> None:
    t = np.arange(round(SECONDS * FS)) / FS
    x = 0.05 * np.random.default_rng(seed).standard_normal(t.size) + 0.01
    for f in tones_hz:
        x += 0.02 * np.sin(2 * np.pi * f * t)
    (folder / name).parent.mkdir(exist_ok=True)
    soundfile.write(folder / name, x, FS, subtype="FLOAT")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("real")
    rows = ["file,cls,vessel"]
    for site in ("bay", "strait"):
        for i in range(3):
            name = f"vessel_a/{site}_{i}.wav"
            write(place, name, (40.0, 62.0, 90.0, 133.0, 181.0, 240.0), 10 * i + len(site))
            rows.append(f"{name},vessel_a,{site.upper()} {i}")
    for site in ("reef", "shelf"):
        for i in range(3):
            name = f"ambient/{site}_2020010{i}.wav"
            write(place, name, (), 2000 + 10 * i + len(site))
            rows.append(f"{name},ambient,")
    (place / "labels.csv").write_text("\n".join(rows) + "\n")
    return place


def test_lines_tell_vessels_of_sites_never_heard(folder: Path) -> None:
    found = run(folder, 0)
    assert (found["n_windows"], found["n_vessel_windows"]) == (24, 12)
    assert found["sites"] == {"vessel": ["bay", "strait"], "ambient": ["reef", "shelf"]}
    by_site = found["judges"]["lines"]["by site"]
    assert by_site["n_folds"] == 4
    assert by_site["auc"] == 100.0
    assert by_site["auc_95"] == [100.0, 100.0]
    assert found["folders"]["vessel_a"]["coherent"] > found["folders"]["ambient"]["coherent"] + 4
    assert found["folders"]["vessel_a"]["called_vessel"] == 100.0


def windows_of_recorders(seed: int = 0) -> Windows:
    """Each session has a spectrum of its own, vessels and sea have nothing apart: only a leak can tell them."""
    rng = np.random.default_rng(seed)
    folder, group, site, spectra = [], [], [], []
    for i in range(16):
        own = rng.standard_normal(32) * 3.0
        for _ in range(6):
            folder.append("vessel_a" if i < 8 else "ambient")
            group.append(f"g{i}")
            site.append(f"s{i // 4}")
            spectra.append(own + 0.3 * rng.standard_normal(32))
    return Windows(np.array(folder), np.array(group), np.array(site), np.array(spectra), np.zeros((96, 5)))


def test_a_random_split_leaks_and_a_grouped_one_does_not() -> None:
    seen = {name: [] for name in SPLITS}
    for seed in range(4):
        w = windows_of_recorders(seed)
        for name, split in SPLITS.items():
            figures = judged(split(w, "spectra", seed), w)
            assert figures is not None
            seen[name].append(figures["auc"])
    assert np.mean(seen["random"]) > 97.0
    assert np.mean(seen["by vessel"]) < 80.0
    assert np.mean(seen["by site"]) < 80.0


def test_no_group_is_on_both_sides() -> None:
    w = windows_of_recorders()
    for test, _ in SPLITS["by vessel"](w, "lines", 0):
        assert not set(w.group[test].tolist()) & set(np.delete(w.group, test).tolist())
    for test, _ in SPLITS["by site"](w, "count", 0):
        assert len(set(w.site[test].tolist())) == 2


def test_tables_and_recordings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.csv: cannot be read"):
        look(tmp_path)
    (tmp_path / "labels.csv").write_text("file,cls\na.wav,ambient\n")
    with pytest.raises(InputError, match="lacks the column vessel"):
        look(tmp_path)
    (tmp_path / "labels.csv").write_text("file,cls,vessel\na.wav,ambient,\n")
    with pytest.raises(InputError, match=r"a\.wav: cannot be read"):
        look(tmp_path)
