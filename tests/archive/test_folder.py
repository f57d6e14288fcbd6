"""The folder: done is what is whole and was made with these settings of this recording; nothing else counts."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from daemon.archive.analyse import reprocess_recording
from daemon.archive.folder import MANIFEST, ArchiveFolder
from daemon.archive.job import Job, Unit, differences, units_of
from daemon.archive.parts import part_path
from daemon.archive.run import Summary, reprocess
from daemon.archive.tables import TABLES
from daemon.config import Config, SourceConfig
from models.errors import ConfigError, EngineError, InputError, UsageError

MakeJob = Callable[[Path], Job]


def here(job: Job, units: Sequence[Unit]) -> Iterator[dict[str, Any]]:
    """Work in this process."""
    for unit in units:
        yield reprocess_recording(job, unit)


def nobody(job: Job, units: Sequence[Unit]) -> Iterator[dict[str, Any]]:
    pytest.fail(f"{[u.recording for u in units]} were to be done again") if units else None
    yield from ()


def run(out: Path, job: Job, units: Sequence[Unit], work: Any = here, **words: Any) -> Summary:
    folder = ArchiveFolder(out)
    with folder.locked():
        return reprocess(folder, job, units, work, lambda *_: None, **words)


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    """Two recordings that may be changed."""
    root = tmp_path / "recordings"
    for name in ("vessel_0/20250901T070000Z.wav", "ambient/site.wav"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes((good / name).read_bytes())
    return root


@pytest.fixture
def done(copy: Path, tmp_path: Path, make_job: MakeJob) -> tuple[Path, Job]:
    out = tmp_path / "done"
    job = make_job(out)
    assert len(run(out, job, units_of(copy)).outcomes) == 2
    return out, job


def test_what_is_done_is_not_done_again(copy: Path, done: tuple[Path, Job]) -> None:
    summary = run(*done, units_of(copy), nobody)
    assert (summary.n_before, summary.outcomes) == (2, [])


@pytest.mark.parametrize("harm", ["cut", "emptied", "removed", "other table removed", "strange footer"])
def test_a_part_that_is_not_whole_is_done_again(copy: Path, done: tuple[Path, Job], harm: str) -> None:
    out, job = done
    unit = units_of(copy)[0]
    path = part_path(out, "windows", unit.part)
    before = path.read_bytes()
    if harm == "cut":
        path.write_bytes(before[: len(before) // 2])
    elif harm == "emptied":
        path.write_bytes(b"")
    elif harm == "removed":
        path.unlink()
    elif harm == "other table removed":
        part_path(out, "contacts", unit.part).unlink()
    else:
        pq.write_table(pq.read_table(path).replace_schema_metadata({"tonald": "[]"}), path)
    summary = run(out, job, units_of(copy))
    assert [o["recording"] for o in summary.outcomes] == [unit.recording]
    assert path.read_bytes() == before
    assert all(part_path(out, table, unit.part).exists() for table in TABLES)


@pytest.mark.parametrize("change", ["sound", "time", "side-car"])
def test_a_recording_that_changed_is_done_again(copy: Path, done: tuple[Path, Job], change: str) -> None:
    path = copy / "ambient" / "site.wav"
    if change == "sound":
        path.write_bytes(path.read_bytes()[:-4000])
    elif change == "time":
        os.utime(path, ns=(0, 10**18))
    else:
        path.with_suffix(".json").write_text('{"t_first_sample_ns": 1700000000000000000}')
    summary = run(*done, units_of(copy))
    assert (summary.n_before, summary.n_changed, len(summary.outcomes)) == (1, 1, 1)


def test_records_of_recordings_moved_away_stay_and_new_ones_are_added(
    copy: Path, good: Path, done: tuple[Path, Job]
) -> None:
    out, job = done
    (copy / "ambient" / "site.wav").unlink()
    (copy / "new.wav").write_bytes((good / "vessel_1" / "20250901T070010Z.wav").read_bytes())
    summary = run(out, job, units_of(copy))
    assert (summary.n_before, summary.n_gone, [o["recording"] for o in summary.outcomes]) == (1, 1, ["new.wav"])
    names = [r["recording"] for r in pq.read_table(out / "recordings.parquet").to_pylist()]
    assert names == ["ambient/site.wav", "new.wav", "vessel_0/20250901T070000Z.wav"]
    assert {r["recording"] for r in pq.read_table(out / "windows").to_pylist()} == set(names)
    assert json.loads((out / MANIFEST).read_text())["counts"]["n_open"] == 0


def test_other_settings_are_refused_and_said_and_redo_replaces_all(copy: Path, done: tuple[Path, Job]) -> None:
    out, job = done
    other = dataclasses.replace(job, settings={**job.settings, "bundle": "0" * 16, "calibration_id": "f" * 16})
    manifest = (out / MANIFEST).read_bytes()
    with pytest.raises(
        UsageError, match=r'bundle was "[0-9a-f]{16}", is "0{16}"; calibration_id was null, is "f{16}".*--redo'
    ):
        run(out, other, units_of(copy), nobody)
    assert (out / MANIFEST).read_bytes() == manifest
    assert len(list((out / "windows").iterdir())) == 2
    slower = dataclasses.replace(job, settings={**job.settings, "node": "another"})
    assert len(run(out, slower, units_of(copy)[:1], redo=True).outcomes) == 1
    assert [len(list((out / table).iterdir())) for table in TABLES] == [1] * len(TABLES), "none of the old remain"
    assert json.loads((out / MANIFEST).read_text())["settings"]["node"] == "another"


def test_failed_ones_are_listed_and_tried_again(bad: Path, tmp_path: Path, make_job: MakeJob) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        summary = run(out, make_job(out), units_of(bad))
        assert {o["recording"] for o in summary.with_state("failed")} == {"garbage.flac", "low.wav"}
        failed = json.loads((out / "failed.json").read_text())
        assert [f["recording"] for f in failed] == ["garbage.flac", "low.wav"]
        assert "not audio" in failed[0]["reason"]
        table = {r["recording"]: r for r in pq.read_table(out / "recordings.parquet").to_pylist()}
        assert {n: r["state"] for n, r in table.items()} == {
            "cut.wav": "done", "garbage.flac": "failed", "low.wav": "failed", "short.wav": "done"
        }  # fmt: skip
        assert "truncated" in table["cut.wav"]["detail"]
    counts = json.loads((out / MANIFEST).read_text())["counts"]
    assert counts["n_windows"] == pq.read_table(out / "windows").num_rows > 0
    assert (counts["n_recordings"], counts["n_failed"], counts["n_open"]) == (4, 2, 0)


def test_an_interrupted_run_leaves_the_lists_in_order(copy: Path, tmp_path: Path, make_job: MakeJob) -> None:
    def interrupted(job: Job, units: Sequence[Unit]) -> Iterator[dict[str, Any]]:
        yield reprocess_recording(job, units[0])
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(out, make_job(out), units_of(copy), interrupted)
    assert pq.read_table(out / "recordings.parquet").num_rows == 1
    assert json.loads((out / MANIFEST).read_text())["counts"]["n_open"] == 1
    assert len(run(out, make_job(out), units_of(copy)).outcomes) == 1


def test_an_engine_that_fails_ends_the_run(
    copy: Path, tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise EngineError("no engine works here")

    monkeypatch.setattr("daemon.archive.analyse._stages", fails)
    with pytest.raises(EngineError):
        run(tmp_path / "out", make_job(tmp_path / "out"), units_of(copy))


def test_the_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="something else"), ArchiveFolder(tmp_path).locked():
        pass
    with pytest.raises(UsageError, match="something else"), ArchiveFolder(tmp_path / "thesis.tex").locked():
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with ArchiveFolder(tmp_path).locked():
        with pytest.raises(UsageError, match="another 'tonald reprocess'"), ArchiveFolder(tmp_path).locked():
            pass
        (tmp_path / "unfinished" / "left").write_bytes(b"half")
    with ArchiveFolder(tmp_path).locked():
        assert not list((tmp_path / "unfinished").iterdir())


def test_a_damaged_manifest_is_said(tmp_path: Path, make_job: MakeJob) -> None:
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(InputError, match="damaged"):
        run(tmp_path, make_job(tmp_path), [], nobody)


def test_names_of_parts_are_safe_and_never_meet(tmp_path: Path) -> None:
    names = ["a/b.wav", "a_b.wav", "_hidden.wav", ".dot.wav", "x=1/y.wav", "é.wav", "è.wav", "n" * 200 + ".wav"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / os.fsdecode(b"\xff.wav")).write_bytes(b"")
    units = units_of(tmp_path)
    assert len({u.part for u in units}) == len(units) == len(names) + 1
    for u in units:
        assert u.part[0].isalnum()
        assert u.part.isascii()
        assert "=" not in u.part
        assert len(u.part) < 100
        u.recording.encode("utf-8")


def test_differences_name_what_came_and_went() -> None:
    assert differences({"a": 1, "b": 2}, {"a": 1, "c": None, "b": [3]}) == ["b was 2, is [3]"]
    assert differences({}, {"c": 1}) == ["c was null, is 1"]


def test_settings_that_an_archive_cannot_follow_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="join"):
        Job.of(Config(source=SourceConfig(kind="file", path="x", join=True)), tmp_path)
    (tmp_path / "site.json").write_text("{}")
    config = Config.parse(f"[site]\ncalibration = '{tmp_path}/site.json'\n")
    with pytest.raises(InputError, match="site calibration"):
        Job.of(config, tmp_path)
