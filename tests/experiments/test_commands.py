"""The commands, whole and small, on the shipped bundle."""

from __future__ import annotations

import functools
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from calibration.experiments import paper_rows, peer_rows, table1, trial, wide
from calibration.experiments.peers import Entry
from calibration.peers.normalisers import Tpsw
from calibration.peers.viterbi import ViterbiTracks
from daemon.cli import EXTRAS, main
from daemon.commands.experiments import EXPERIMENTS

KEYS = ("removed_noise", "overwritten_tones", "intersecting_regions", "line_f1")


@pytest.fixture
def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Line tracks on a map that needs no training: what is trained is tested apart, and slowly."""
    monkeypatch.setattr(table1, "tracks_entry", lambda key, *_, **__: Entry(key, lambda: ViterbiTracks(Tpsw(9))))
    monkeypatch.setattr(trial, "N_CALM", 24)
    monkeypatch.setattr(wide, "N_TRAIN", 8)
    monkeypatch.setattr(wide, "N_CALIBRATE", 4)
    few = functools.partial(paper_rows.centroid_masks, n_epochs=1, n_recordings=2)
    monkeypatch.setattr(table1, "centroid_masks", few)
    monkeypatch.setattr(peer_rows, "_denoiser", lambda *_: lambda: Tpsw(5))


def numbers(values: Any) -> list[float]:
    """All figures of a JSON value but the times."""
    if isinstance(values, dict):
        return [n for k, v in sorted(values.items()) if k != "ms_per_window" for n in numbers(v)]
    return [values] if isinstance(values, (int, float)) else []


def check_table1(result: dict[str, Any]) -> None:
    for mode in ("signature", "vessel"):
        at = result[mode]["conformal_95"]
        for key in KEYS:
            assert at[key] is not None
            assert at[f"{key}_se"] is not None
        assert 0 <= at["overwritten_tones"] <= 100
        assert 80 <= at["removed_noise"] <= 100
    for cut, said in (("cut_65", 26.0), ("cut_75", 86.0), ("cut_85", 95.0)):
        for overlay in ("average", "add", "max"):
            row = result["paper"][f"{overlay}_{cut}"]
            assert row["published"]["removed_noise"] == said
            assert row["removed_noise_se"] >= 0
    # a higher cut keeps less
    cuts = [result["paper"][f"average_cut_{c}"]["overwritten_tones"] for c in (65, 75, 85)]
    assert cuts == sorted(cuts)
    assert result["reference"]["oracle"]["mask"]["overwritten_tones"] == 0
    assert result["synthetic"] is True


def written(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    assert main(["experiments", "table1", "--fresh-seed", "2", "--windows", "5", "--json", str(path)]) == 0
    return dict(json.loads(path.read_text()))


@pytest.mark.slow
def test_table1_is_the_same_again(without_training: None, tmp_path: Path) -> None:
    assert numbers(written(tmp_path, "a.json")) == numbers(written(tmp_path, "b.json"))


def test_table1_whole(without_training: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = written(tmp_path, "a.json")
    check_table1(result)
    assert result["n_windows"] == 8  # two of each recording, equal shares of four classes
    assert result["n_recordings"] == 4
    assert {row["name"] for row in result["ours"].values()} >= {"student alone", "tracks and templates alone"}
    assert result["wide"]["vessel"] == result["vessel"]
    for key in ("ae_centroids", "reverse"):
        assert result["paper"][key]["overwritten_tones"] is not None
    text = capsys.readouterr().out
    assert "SIMULATED" in text
    assert "fresh seed 2" in text
    assert "15+" in text
    assert "overlay add, cut 0.75" in text
    assert "reverse extraction" in text


@pytest.mark.slow
def test_table1_with_what_it_trains(tmp_path: Path) -> None:
    path = tmp_path / "table1.json"
    assert main(["experiments", "table1", "--fresh-seed", "2", "--windows", "8", "--json", str(path)]) == 0
    check_table1(json.loads(path.read_text()))


@pytest.mark.slow
def test_peers_are_all_there_on_two_ships(
    without_training: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "peers.json"
    words = ["experiments", "peers", "--fresh-seed", "2", "--windows", "8", "--scenario", "two_ships"]
    assert main([*words, "--asked", "true", "--json", str(path)]) == 0
    methods = json.loads(path.read_text())["methods"]
    assert not [m for m in methods.values() if "error" in m]
    for key in ("tpsw", "hpss_mask", "noise2self", "noisereduce_clip_15", "pcen_time", "wavelets", "rpca", "whistles"):
        assert methods[key]["threshold_free"]["ot_at_rn_95"] is not None
    assert "other ship removed" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["table1", "peers"])
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--windows", "0"], 64, "number of windows is 0"),
        (["--fresh-seed", "-3"], 64, "fresh seed is -3"),
        (["--json", "/no/such/folder/x.json"], 66, "no such folder"),
        (["--bundle", "/no/such/bundle"], 79, "/no/such/bundle"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    name: str, words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiments", name, *words]) == code
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len([line for line in error.splitlines() if line.startswith("tonald:")]) == 1


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_its_module_and_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"daemon.commands.experiments_{name}")
    assert callable(module.run)
    with pytest.raises(SystemExit) as stop:
        main(["experiments", name, "--help"])
    assert stop.value.code == 0
    assert f"usage: tonald experiments {name}" in capsys.readouterr().out


def test_missing_peers_name_their_extra() -> None:
    assert {EXTRAS[m] for m in ("librosa", "noisereduce", "pywt")} == {"experiments"}
