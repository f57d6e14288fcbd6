"""``tonald calibrate --site`` as operators call it."""

import json
from pathlib import Path

import pytest

from calibration.site import SiteCalibration
from daemon.cli import main
from daemon.site_state import in_state
from models.bundle import Bundle
from tests.site.conftest import LOW_SHIP, noise, write


def calibrate(bundle: Bundle, *words: str | Path) -> int:
    return main(["calibrate", "--bundle", str(bundle.path), *map(str, words)])


def test_table_says_what_the_file_holds_and_the_state_directory_takes_it(
    bundle: Bundle, sea: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    assert calibrate(bundle, "--site", sea, "--state-dir", tmp_path / "state", "--json", figures) == 0
    site = SiteCalibration.read(in_state(tmp_path / "state"), bundle)
    out = capsys.readouterr().out
    assert f"site calibration {site.id}, version 1, for bundle {bundle.id}" in out
    assert "channel ch1: 32 windows of 8 recordings, 8 independent pieces" in out
    for channel in site.channels.values():
        for label, levels in channel.labels.items():
            for q, t in levels.items():
                row = (
                    f"{100 * float(q):.0f} %    0.{4 + [*levels].index(q)}00 {t.value:8.3f}   {100 * t.removed:5.1f} %"
                )
                assert any(label in line and row in line for line in out.splitlines()), row
    told = json.loads(figures.read_text())
    assert told["calibration_id"] == site.id
    assert told["channels"]["ch0"]["labels"]["low"]["0.95"]["value"] == site.channels["ch0"].labels["low"]["0.95"].value
    assert calibrate(bundle, "--site", sea, "--state-dir", tmp_path / "state") == 0
    assert SiteCalibration.read(in_state(tmp_path / "state"), bundle).version == 2


def test_named_channels_and_a_file_of_its_own(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(8):
        write(tmp_path / "rec" / f"bow_{i}.wav", noise(12.0, i))
        write(tmp_path / "rec" / f"other_{i}.wav", noise(12.0, i, LOW_SHIP))
    out = tmp_path / "site.json"
    assert calibrate(bundle, "--site", tmp_path / "rec", "--channel", "bow=bow_*", "--out", out) == 0
    assert list(SiteCalibration.read(out, bundle).channels) == ["bow"]
    assert f'calibration = "{out}"' in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["site.json"]


def test_windows_left_out_are_told_with_what_that_costs(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(8):
        write(tmp_path / "rec" / f"{i}.wav", noise(12.0, i))
    write(tmp_path / "rec" / "ship.wav", noise(12.0, 60, LOW_SHIP))
    words = ["--site", tmp_path / "rec", "--out", tmp_path / "site.json"]
    assert calibrate(bundle, *words) == 0
    assert "left out: 4 windows (11.1%) in which a class was detected; that biases" in capsys.readouterr().out
    assert calibrate(bundle, *words, "--keep-detected") == 0
    assert "kept: 4 windows (11.1%)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--site", "SEA"], 64, "say where it goes"),
        (["--site", "SEA", "--out", "OUT", "--state-dir", "OUT"], 64, "say where it goes"),
        (["--site", "SEA", "--out", "SEA"], 64, "is a folder"),
        (["--site", "SEA/no", "--out", "OUT"], 66, "no such folder"),
        (["--site", "SEA", "--out", "OUT", "--channel", "x"], 64, "write NAME=PATTERN"),
        (["--site", "SEA", "--out", "OUT", "--channel", "x=*", "--channel", "x=a"], 64, "given twice"),
        (["--site", "SEA", "--out", "OUT", "--hop", "20"], 66, "channel ch0: 8 source-free windows"),
        (["--site", "SEA", "--out", "OUT", "RUN"], 64, "one at a time"),
        (["--out", "OUT"], 64, "give RUN_DIR and --out BUNDLE, or --site FOLDER"),
        (["RUN", "--out", "OUT", "--hop", "1"], 64, "goes with --site only"),
        (["--site", "SEA", "--out", "OUT", "--json", "OUT/no/x.json"], 66, "no such folder"),
    ],
)
def test_words_that_do_not_fit_are_refused_in_one_line(
    bundle: Bundle, sea: Path, tmp_path: Path, words: list[str], code: int, message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = [w.replace("SEA", str(sea)).replace("OUT", str(tmp_path / "out")) for w in words]
    assert calibrate(bundle, *given) == code
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("tonald: ")
    assert message in err[-1]
    assert not (tmp_path / "out").exists()
