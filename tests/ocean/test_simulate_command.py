from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from calibration.ocean import SCENARIOS, simulate
from calibration.truth import Truth, truth_path
from daemon.commands.simulate import add_arguments, run
from models.errors import InputError, SampleRateError, UsageError

soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(list(words)))


def test_simulate_writes_audio_truth_and_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sea"
    assert call(str(out), "--scenario", "two_ships", "--n-recordings", "2", "--seconds", "9", "--start-index", "3") == 0
    assert "10 synthetic recordings" in capsys.readouterr().out
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.wav"))
    labels = (*SCENARIOS["two_ships"].labels, "ambient")
    assert files == sorted(f"{x}/two_ships-test-000{i}.wav" for x in labels for i in (3, 4))
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["synthetic"] is True
    assert (manifest["scenario"], manifest["version"], manifest["space"]) == ("two_ships", 1, "test")
    for entry in manifest["recordings"]:
        path = out / entry["file"]
        truth = Truth.read(truth_path(path))
        assert list(truth.labels) == entry["labels"]
        assert entry["label"] == path.parent.name
        assert truth.labels[:1] == (() if entry["label"] == "ambient" else (entry["label"],))
    x, fs = soundfile.read(out / "vessel_1" / "two_ships-test-0004.wav", always_2d=True)
    expected = simulate(SCENARIOS["two_ships"], "test", 4, "vessel_1", 9.0)
    assert fs == 2000
    np.testing.assert_allclose(x.T, expected.x, atol=2.0**-23)  # 24 bits
    assert np.abs(x).max() < 1.0


def test_simulate_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "precious.wav").write_bytes(b"x")
    with pytest.raises(InputError, match="not an empty folder"):
        call(str(tmp_path), "--n-recordings", "1", "--seconds", "1")
    assert [p.name for p in tmp_path.iterdir()] == ["precious.wav"]
    with pytest.raises(InputError, match="not an empty folder"):
        call(str(tmp_path / "precious.wav"), "--n-recordings", "1", "--seconds", "1")


def test_simulate_accepts_an_empty_folder_and_the_empty_scenario(tmp_path: Path) -> None:
    assert call(str(tmp_path), "--scenario", "empty", "--n-recordings", "1", "--seconds", "1", "--fs", "4000") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ambient", "manifest.json"]


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        (("--scenario", "standrd"), UsageError, "standard"),
        (("--n-recordings", "0"), UsageError, "n-recordings"),
        (("--seconds", "-1"), UsageError, "seconds"),
        (("--seconds", "nan"), UsageError, "seconds"),
        (("--start-index", "-1"), UsageError, "start-index"),
        (("--fs", "100"), SampleRateError, "100 Hz"),
    ],
)
def test_simulate_bad_words_write_nothing(
    tmp_path: Path, words: tuple[str, ...], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        call(str(tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()
