from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon.cli import main
from models.bundle import Bundle
from tests.toy_bundle import LABELS, arguments, make_bundle


def test_inspect_prints_what_the_bundle_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "toy")
    assert main(["inspect", str(bundle.path)]) == 0
    out = capsys.readouterr().out
    for part in (bundle.id, *LABELS, "10 to 64 Hz in 32 rows of 2 Hz", "every 1 s", "k = 2", "0.95*", "explain.f32"):
        assert part in out
    assert "engine" not in out


def test_inspect_engine_prints_each_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "toy")
    assert main(["inspect", str(bundle.path), "--engine", "onnxruntime"]) == 0
    out = capsys.readouterr().out
    assert "onnxruntime (f32)" in out
    for graph in ("classify", "explain", "fused"):
        for output in bundle.golden(graph)[1]:
            assert f"{graph}.{output} " in out


def test_inspect_json_is_one_object_with_the_same_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "toy")
    assert main(["inspect", str(bundle.path), "--json", "--engine", "openvino"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["id"] == bundle.id
    assert found["labels"] == list(LABELS)
    assert found["thresholds"]["mix"]["low"]["0.95"] == bundle.thresholds.mix_of("low")
    assert found["engine"]["name"] == "openvino"
    assert found["engine"]["golden_max_abs"]["explain"]["cam"] <= 1e-4


def test_inspect_damaged_bundle_is_one_line_and_79(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "toy")
    path = bundle.path / "graphs" / "explain.f32.onnx"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert main(["inspect", str(bundle.path)]) == 79
    out, err = capsys.readouterr()
    assert out == ""
    assert "graphs/explain.f32.onnx is damaged" in err
    assert err.count("\n") == 1


def test_inspect_engine_that_misses_golden_is_80(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments()
    inputs, outputs = given["golden"]["explain"]
    given["golden"]["explain"] = (inputs, outputs | {"mix": outputs["mix"] + outputs["mix"].dtype.type(0.5)})
    bundle = make_bundle(tmp_path / "toy", golden=given["golden"])
    assert main(["inspect", str(bundle.path), "--engine", "onnxruntime"]) == 80
    assert "mix differs by 0.5" in capsys.readouterr().err


def test_inspect_shows_the_example_that_a_record_names(capsys: pytest.CaptureFixture[str]) -> None:
    name = Bundle.load(Bundle.shipped()).representatives.names[0]
    assert main(["inspect", "--example", name]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{name}: from standard/train/")
    assert "Hz" in said
    assert main(["inspect", "--example", "vessel_0/no"]) == 64
    assert "no example 'vessel_0/no'" in capsys.readouterr().err
