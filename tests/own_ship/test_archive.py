"""An archive run with measuring chains and an own ship: levels in its tables, no signature of the own ship."""

from pathlib import Path

import pytest

from daemon.config import Config
from tests.own_ship.conftest import MACHINERY, put, sound, write

pq = pytest.importorskip("pyarrow.parquet")


def test_worker_needs_neither_the_files_nor_the_state_directory(learned: Path, tmp_path: Path) -> None:
    from daemon.archive.analyse import reprocess_recording
    from daemon.archive.folder import ArchiveFolder
    from daemon.archive.job import Job, units_of
    from daemon.archive.parts import part_path

    put(learned, tmp_path)
    (tmp_path / "h.csv").write_text("channel,full_scale_db\nch0,175\n")
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "x.wav", sound(MACHINERY, 20.0, 2))
    out = tmp_path / "out"
    with ArchiveFolder(out).locked():
        pass
    job = Job.of(Config(state_dir=str(tmp_path / "state"), hydrophones=str(tmp_path / "h.csv")), out)
    (tmp_path / "h.csv").unlink()
    (tmp_path / "state" / "site" / "own_ship.json").unlink()
    (unit,) = units_of(tmp_path / "in")
    outcome = reprocess_recording(job, unit)
    assert outcome["n_signatures"] == 0
    rows = pq.read_table(part_path(out, "windows", unit.part)).to_pylist()
    assert rows
    for row in rows:
        assert row["level_db_re_1upa"] == pytest.approx(row["level_db_re_fs"] + 175.0, abs=1e-4)
        assert row["n_own_ship_lines"] >= 8
    assert any(row["own_ship"] for row in rows)
