"""What other programs read is what the records say: places, bands, labels, numbers."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from daemon.cli import main
from daemon.export.tables import CSV_COLUMNS, RAVEN_COLUMNS
from daemon.record_file import RecordFile
from daemon.wire import encode, sequence_frame

soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")


def export(*words: str | Path) -> int:
    return main(["export", *map(str, words)])


def raven(path: Path) -> list[dict[str, str]]:
    head, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert tuple(head) == RAVEN_COLUMNS
    assert head[:7] == [
        "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
    ]  # fmt: skip
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_raven_table_has_each_signature_where_it_lies(heard: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "a.selections.txt"
    assert export(heard.records, "--to", "raven", "--out", out) == 0
    rows, said = raven(out), [m.body for m in heard.messages if m.family == "signature"]
    assert len(rows) == len(said) > 10
    for row, body in zip(rows, said, strict=True):
        assert row["Channel"] == "1"
        assert float(row["Begin Time (s)"]) == pytest.approx(body["first_sample"] / 8000, abs=1e-6)
        assert float(row["End Time (s)"]) == pytest.approx((body["first_sample"] + body["n_samples"]) / 8000, abs=1e-6)
        assert row["Label"] == body["label"]
        assert float(row["Probability"]) == pytest.approx(body["probability"], abs=1e-4)
        assert float(row["SNR (dB)"]) == pytest.approx(max(line["snr_db"] for line in body["lines"]), abs=0.01)
        assert float(row["Low Freq (Hz)"]) < min(line["freq_hz"] for line in body["lines"])
        assert float(row["High Freq (Hz)"]) > max(line["freq_hz"] for line in body["lines"])
    assert rows[3]["Begin Date Time"] == "2026/11/23 17:45:03.000000"
    assert [int(row["Selection"]) for row in rows] == list(range(1, len(rows) + 1))


def test_lines_and_contacts_have_tables_of_their_own(heard: SimpleNamespace, tmp_path: Path) -> None:
    for what in ("lines", "contacts"):
        assert export(heard.records, "--to", "raven", "--what", what, "--out", tmp_path / what) == 0
    signatures = [m.body for m in heard.messages if m.family == "signature"]
    assert len(raven(tmp_path / "lines")) == sum(len(s["lines"]) for s in signatures)
    ends = [m.body for m in heard.messages if m.family == "contact" and m.body["event"] == "end"]
    (row,) = raven(tmp_path / "contacts")
    assert (row["Kind"], row["Label"]) == ("contact", ends[0]["label"])


def test_csv_says_units_and_holds_what_json_lines_hold(heard: SimpleNamespace, tmp_path: Path) -> None:
    assert export(heard.records, "--to", "csv", "--what", "lines", "--out", tmp_path / "a.csv") == 0
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    said = sorted(
        line["freq_hz"] for m in heard.messages if m.family == "signature" for line in m.body["lines"]
    )  # fmt: skip
    np.testing.assert_allclose(sorted(float(r["freq_hz"]) for r in rows), said, atol=1e-4)
    assert {r["fs_hz"] for r in rows} == {"8000"}
    assert {r["test"] for r in rows} == {"false"}
    as_json = tmp_path / "records.json"
    as_json.write_text("".join(json.dumps({"topic": m.topic, **m.body, "arrays": []}) + "\n" for m in heard.messages))
    assert export(as_json, "--to", "csv", "--what", "lines", "--out", tmp_path / "b.csv") == 0
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()


def test_sigmf_is_valid_by_its_own_library_and_holds_the_samples(heard: SimpleNamespace, tmp_path: Path) -> None:
    sigmf = pytest.importorskip("sigmf", reason="the dev extra is not installed")
    words = (heard.records, "--to", "sigmf", "--recording", heard.recording, "--out", tmp_path / "a")
    assert export(*words) == 0
    found = sigmf.sigmffile.fromfile(str(tmp_path / "a.sigmf-meta"))
    found.validate()
    np.testing.assert_array_equal(np.ravel(found.read_samples()), heard.x[0])
    data = (tmp_path / "a.sigmf-data").read_bytes()
    assert found.get_global_field("core:sha512") == hashlib.sha512(data).hexdigest()
    notes = found.get_annotations()
    assert len(notes) == len([m for m in heard.messages if m.family == "signature"])
    assert notes[2]["core:sample_start"] == 16000
    assert notes[2]["core:label"] == "vessel_1"
    assert found.get_captures()[0]["core:datetime"].startswith("2026-11-23T17:45:00")
    assert export(*words) == 66  # never over what exists


def test_sigmf_without_the_sound_says_that_it_is_meta_only(heard: SimpleNamespace, tmp_path: Path) -> None:
    sigmf = pytest.importorskip("sigmf", reason="the dev extra is not installed")
    assert export(heard.records, "--to", "sigmf", "--out", tmp_path / "a.sigmf-meta") == 0
    meta = json.loads((tmp_path / "a.sigmf-meta").read_text())
    assert meta["global"]["core:metadata_only"] is True
    sigmf.SigMFFile(metadata=meta).validate()
    assert not (tmp_path / "a.sigmf-data").exists()


def test_times_count_from_the_recording_given(heard: SimpleNamespace, tmp_path: Path) -> None:
    later = tmp_path / "20261123T174510Z.wav"
    soundfile.write(later, heard.x[0, 80_000:160_000], 8000, subtype="PCM_24")
    assert export(heard.records, "--to", "raven", "--recording", later, "--out", tmp_path / "a") == 0
    rows = raven(tmp_path / "a")
    assert float(rows[0]["Begin Time (s)"]) == 0.0
    assert max(float(row["End Time (s)"]) for row in rows) == pytest.approx(10.0)
    assert "2026/11/23 17:45:12.000000" in {
        row["Begin Date Time"] for row in rows if row["Begin Time (s)"] == "2.000000"
    }


def test_several_streams_go_to_a_folder_and_archives_are_read(heard: SimpleNamespace, tmp_path: Path) -> None:
    both = tmp_path / "both"
    with RecordFile(both) as file:
        for epoch in (0, 1):
            for n, m in enumerate(heard.messages):
                if m.body.get("epoch") is not None:
                    message = type(m)(m.topic, {**m.body, "epoch": epoch}, m.arrays)
                    file.add([*encode(message), sequence_frame(n)])
    assert export(both, "--to", "raven", "--out", tmp_path / "one") == 64
    (tmp_path / "many").mkdir()
    assert export(both, "--to", "raven", "--out", tmp_path / "many") == 0
    assert sorted(p.name for p in (tmp_path / "many").iterdir()) == [
        "20261123T174500Z.wav.1.selections.txt", "20261123T174500Z.wav.selections.txt",
    ]  # fmt: skip
    pytest.importorskip("pyarrow", reason="the archive extra is not installed")
    pytest.importorskip("distributed", reason="the archive extra is not installed")
    sound = tmp_path / "sound"
    sound.mkdir()
    soundfile.write(sound / heard.recording.name, heard.x[0], 8000, subtype="PCM_24")
    assert main(["reprocess", str(sound), "--out", str(tmp_path / "archive"), "--workers", "1"]) == 0
    for source, name in ((heard.records, "live"), (tmp_path / "archive", "again")):
        assert export(source, "--to", "raven", "--what", "lines", "--out", tmp_path / name) == 0
    assert (tmp_path / "live").read_text() == (tmp_path / "again").read_text()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["/nonexistent"], 66, "cannot be read"),
        (["RECORDS", "--least-probability", "2"], 64, "give 0 to 1"),
        (["RECORDS", "--to", "sigmf", "--out", "-"], 64, "pair of files"),
        (["RECORDS", "--recording", "OTHER"], 66, "another recording"),
        (["FOLDER"], 66, "is no folder of 'tonald reprocess'"),
    ],
)
def test_what_cannot_be_exported_is_said(
    heard: SimpleNamespace, tmp_path: Path, words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "other.wav", np.zeros(4000, np.float32), 4000)
    names = {"RECORDS": heard.records, "OTHER": tmp_path / "other.wav", "FOLDER": tmp_path}
    given = [names.get(w, w) for w in words]
    assert export(*(["--to", "csv", "--out", tmp_path / "x", *given[1:]]), given[0]) == code
    assert said in capsys.readouterr().err
