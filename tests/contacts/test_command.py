"""``tonald experiments falsealarms``: words that do not fit, and a whole run, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calibration.experiments import falsealarms as fa
from calibration.false_alarms import FalseAlarms
from daemon import cli


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--hours", "0"], 64, "--hours 0: must lie in 0.1..1000"),
        (["--hours", "nan"], 64, "--hours nan"),
        (["--calibrate-hours", "1e9"], 64, "--calibrate-hours 1e+09"),
        (["--fresh-seed", "-1"], 64, "--fresh-seed -1"),
        (["--only-curve"], 64, "--only-curve: give --curve FILE"),
        (["--json", "/no/such/folder/x.json"], 66, "/no/such/folder/x.json: no such folder"),
        (["--bundle", "/no/such/bundle"], 79, "bundle /no/such/bundle: no such folder"),
        (["--config", "/no/such.toml"], 78, "/no/such.toml: no such file"),
    ],
)
def test_words_that_do_not_fit_are_one_line_and_a_code(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(["experiments", "falsealarms", *words]) == code
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_small_run_gives_curve_proof_and_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Ten-minute recordings cut to one minute, one ship of each class: all parts meet, whatever the figures."""
    monkeypatch.setattr(fa, "RECORDING_S", 60.0)
    monkeypatch.setattr(fa, "N_SHIPS", 1)
    monkeypatch.setattr(fa, "SHIP_S", 12.0)
    monkeypatch.setattr(fa, "CLASS_GATES", (-20.0, 1.0, 2.0))
    monkeypatch.setattr(fa, "UNKNOWN_GATES", (0.0, 3.0, 6.0, 9.0))
    (tmp_path / "t.toml").write_text("[contacts]\nfalse_alarms_per_day = 400.0\n[extract]\nn_lines_unknown = 2\n")
    curve, out = tmp_path / "curve.json", tmp_path / "out.json"
    words = ["--hours", "0.1", "--calibrate-hours", "0.2", "--curve", str(curve), "--json", str(out)]
    assert cli.main(["experiments", "falsealarms", *words, "--config", str(tmp_path / "t.toml")]) == 0
    said = capsys.readouterr().out
    result = json.loads(out.read_text())
    alarms = FalseAlarms.read(curve)
    assert alarms.curve("unknown").hours == pytest.approx(0.2)
    assert [c["counts"] for c in result["curve"]["curves"]] == [list(c.counts) for c in alarms.curves]
    asked = [row["false_alarms_per_day"] for row in result["settings"]]
    assert 400.0 in asked
    assert max(asked) == 30 * 24 / 0.1
    for row in result["settings"]:
        lo, hi = row["interval_95_per_day"]
        assert lo <= row["per_day"] <= hi
        assert row["n_starts"] == sum(row["by_label"].values())
        assert row["holds"] == (lo <= 2 * row["false_alarms_per_day"])
        assert set(row["ships"]) == {"vessel_0", "vessel_1", "vessel_2", "vessel_3", "strangers"}
        assert row["real_ambient"] is None
    assert "twice nominal is not exceeded" in said
    assert "found in" in said
