"""Many processes: identical records, a killed one is replaced, and nobody else can reach them."""

import contextlib
import dataclasses
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from daemon.archive.cluster import Pool, checked_scheduler, local_pool, remote_pool
from daemon.archive.folder import ArchiveFolder
from daemon.archive.job import Job, units_of
from daemon.archive.run import in_pool, reprocess
from daemon.archive.tables import TABLES
from daemon.cli import main
from models.errors import InputError, UsageError
from tests.archive.conftest import FS, write

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
MakeJob = Callable[[Path], Job]


def parts(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for t in TABLES for p in (out / t).glob("*.parquet")}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with local_pool(2, "2GiB") as made:
        yield made


@dataclasses.dataclass
class Alone:
    """What the command did with one process."""

    code: int
    said: str
    out: Path


@pytest.fixture(scope="module")
def alone(good: Path, bad: Path, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """Good and bad recordings in one archive, done by the command with one process."""
    root, out = tmp_path_factory.mktemp("both"), tmp_path_factory.mktemp("one")
    shutil.copytree(good, root, dirs_exist_ok=True)
    shutil.copytree(bad, root, dirs_exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = main(["reprocess", str(root), "--out", str(out), "--workers", "1"])
    return Alone(code, said.getvalue(), out)


@pytest.fixture(scope="module")
def expected(good: Path, alone: Alone) -> dict[str, bytes]:
    """Parts of the good ones, by one process."""
    names = {f"{table}/{u.part}.parquet" for u in units_of(good) for table in TABLES}
    return {name: data for name, data in parts(alone.out).items() if name in names}


def test_two_processes_make_the_same_of_it_as_one(
    good: Path, tmp_path: Path, pool: Pool, make_job: MakeJob, expected: dict[str, bytes]
) -> None:
    folder = ArchiveFolder(tmp_path / "out")
    told = []
    with folder.locked():
        summary = reprocess(
            folder, make_job(folder.path), units_of(good), in_pool(pool), lambda *words: told.append(words)
        )
    assert len(summary.with_state("done")) == len(units_of(good)) == 6
    assert told == [("recordings", n, 6) for n in range(1, 7)]
    assert len(expected) == 6 * len(TABLES)
    assert parts(folder.path) == expected


def test_a_killed_process_is_replaced_and_nothing_is_lost(
    good: Path, tmp_path: Path, pool: Pool, make_job: MakeJob, expected: dict[str, bytes]
) -> None:
    folder, marks = ArchiveFolder(tmp_path / "out"), tmp_path / "marks"
    marks.mkdir()

    def killed_in_the_middle(job: Job, unit: Any) -> dict[str, Any]:
        """The first process to come here dies with the parts half written."""
        import os
        import signal

        from daemon.archive.analyse import reprocess_recording
        from daemon.archive.parts import Parts

        with contextlib.suppress(FileExistsError):
            (marks / "killed").touch(exist_ok=False)

            def dies(self: Parts, about: object) -> None:
                os.kill(os.getpid(), signal.SIGKILL)

            Parts.finish = dies
        return reprocess_recording(job, unit)

    with folder.locked():
        work = in_pool(pool, killed_in_the_middle)
        summary = reprocess(folder, make_job(folder.path), units_of(good), work, lambda *_: None)
        assert list((folder.path / "unfinished").iterdir()), "it died with parts half written"
    assert (marks / "killed").exists()
    assert summary.with_state("failed") == []
    assert parts(folder.path) == expected
    assert not list((folder.path / "unfinished").iterdir())


@pytest.mark.slow  # four processes die and start anew
def test_a_recording_that_kills_whoever_reads_it_fails_alone(
    good: Path, tmp_path: Path, pool: Pool, make_job: MakeJob, expected: dict[str, bytes]
) -> None:
    folder = ArchiveFolder(tmp_path / "out")

    def deadly(job: Job, unit: Any) -> dict[str, Any]:
        import os
        import signal

        from daemon.archive.analyse import reprocess_recording

        if unit.recording == "ambient/site.wav":
            os.kill(os.getpid(), signal.SIGKILL)
        return reprocess_recording(job, unit)

    with folder.locked():
        summary = reprocess(folder, make_job(folder.path), units_of(good), in_pool(pool, deadly), lambda *_: None)
    (failed,) = summary.with_state("failed")
    assert (failed["recording"], "died" in failed["detail"]) == ("ambient/site.wav", True)
    rest = {name: data for name, data in expected.items() if "ambient_site" not in name}
    assert parts(folder.path) == rest


def test_nothing_listens_beyond_loopback_and_strangers_are_turned_away(pool: Pool) -> None:
    me = psutil.Process()
    found = [
        c.laddr.ip
        for p in (me, *me.children(recursive=True))
        for c in p.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    ]
    assert len(found) >= 3, "scheduler and two workers listen"
    assert set(found) == {"127.0.0.1"}
    address = pool.client.scheduler_info()["address"]
    assert address.startswith("tls://127.0.0.1:")
    code = (
        "import sys, distributed\n"
        f"for a in ('{address}', '{address}'.replace('tls', 'tcp')):\n"
        "    try: distributed.Client(a, timeout=2)\n"
        "    except Exception as e: print('refused', type(e).__name__)\n"
    )
    stranger = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert stranger.stdout.count("refused") == 2, stranger.stdout + stranger.stderr


def test_a_cluster_is_spoken_to_over_tls(good: Path, tmp_path: Path, pool: Pool, make_job: MakeJob) -> None:
    security = pool.client.security
    files = {}
    for name, text in (
        ("ca", security.tls_ca_file),
        ("cert", security.tls_client_cert),
        ("key", security.tls_client_key),
    ):
        files[name] = tmp_path / f"{name}.pem"
        files[name].write_text(text)
    address = pool.client.scheduler_info()["address"]
    folder = ArchiveFolder(tmp_path / "out")
    with folder.locked(), remote_pool(address, files["ca"], files["cert"], files["key"]) as other:
        summary = reprocess(folder, make_job(folder.path), units_of(good)[:1], in_pool(other), lambda *_: None)
    assert len(summary.with_state("done")) == 1
    with pytest.raises(InputError, match="cannot be read"), remote_pool(address, tmp_path / "no", None, None):
        pass


@pytest.mark.parametrize(
    ("address", "has_tls", "unencrypted", "refused"),
    [
        ("tcp://127.0.0.1:8786", False, False, None),
        ("tcp://localhost:8786", False, False, None),
        ("tcp://[::1]:8786", False, False, None),
        ("tcp://10.0.0.5:8786", False, False, "run code on the cluster"),
        ("tcp://cluster:8786", False, False, "run code on the cluster"),
        ("tcp://cluster:8786", False, True, None),
        ("tls://cluster:8786", True, False, None),
        ("tls://cluster:8786", False, False, "--tls-ca"),
        ("tcp://cluster:8786", True, False, "write tls://"),
        ("cluster:8786", False, False, "tls://HOST:PORT"),
    ],
)
def test_work_goes_beyond_this_machine_only_over_tls_or_on_ones_word(
    address: str, has_tls: bool, unencrypted: bool, refused: str | None
) -> None:
    if refused is None:
        assert checked_scheduler(address, has_tls=has_tls, unencrypted=unencrypted) == address
    else:
        with pytest.raises(UsageError, match=refused):
            checked_scheduler(address, has_tls=has_tls, unencrypted=unencrypted)


def test_interrupted_it_ends_all_and_goes_on_where_it_was(
    good: Path, tmp_path: Path, pool: Pool, make_job: MakeJob, expected: dict[str, bytes]
) -> None:
    """Ctrl-C reaches the whole group, as from a terminal, while one process is at a recording of an hour."""
    archive, out = tmp_path / "archive", tmp_path / "out"
    shutil.copytree(good, archive)
    long = write(archive / "long.wav", np.random.default_rng(0).normal(0.0, 0.01, 3600 * FS).astype(np.float32))
    words = ["reprocess", str(archive), "--out", str(out), "--workers", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "daemon", *words], cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as run:
        windows = out / "windows"
        while run.poll() is None and not (windows.is_dir() and any(windows.iterdir())):
            time.sleep(0.01)
        children = psutil.Process(run.pid).children(recursive=True)
        os.killpg(run.pid, signal.SIGINT)
        _, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert parts(out).items() <= expected.items(), "what is there is whole"
    assert parts(out)
    assert not list((out / "unfinished").iterdir())
    long.unlink()
    folder = ArchiveFolder(out)
    with folder.locked():
        summary = reprocess(folder, make_job(out), units_of(archive), in_pool(pool), lambda *_: None)
    assert summary.n_before >= 1
    assert summary.n_before + len(summary.with_state("done")) == 6
    assert parts(out) == expected


def test_command_tells_failures_and_ends_with_65(alone: Alone) -> None:
    assert alone.code == 65
    assert "8 recordings done, 0 were done before, 2 failed" in alone.said
    assert "FAILED: low.wav: low.wav: sampled at 1000 Hz" in alone.said
    assert "with a note: short.wav: too short" in alone.said


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--workers", "0"], "at least 1"),
        (["--workers", "1", "--scheduler", "tcp://127.0.0.1:1"], "leave it out"),
        (["--tls-ca", "x"], "belong to --scheduler"),
        (["--scheduler", "tls://h:1", "--tls-ca", "x"], "go together"),
        (["--worker-memory", "much"], "such as 2GiB"),
    ],
)
def test_words_that_do_not_fit_are_refused(
    good: Path, tmp_path: Path, words: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reprocess", str(good), "--out", str(tmp_path / "out"), *words]) == 64
    assert what in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["reprocess", str(good), "--out", str(tmp_path / "out")]) == 64
    assert "pip install 'tonald[archive]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not DATA.is_dir(), reason="the real recordings (../shared/data) are not at hand")
def test_real_recordings_give_the_same_records_by_one_process_and_by_two(
    tmp_path: Path, pool: Pool, make_job: MakeJob
) -> None:
    """A few of each kind; `tonald reprocess` of all with 1 and 2 workers is in docs/archive.md."""
    units = units_of(DATA)[::30]
    folder = ArchiveFolder(tmp_path / "two")
    with folder.locked():
        reprocess(folder, make_job(folder.path), units, in_pool(pool), lambda *_: None)
    single = ArchiveFolder(tmp_path / "one")
    with single.locked():
        from daemon.archive.analyse import reprocess_recording

        job = make_job(single.path)
        reprocess(single, job, units, lambda job, units: (reprocess_recording(job, u) for u in units), lambda *_: None)
    assert parts(single.path) == parts(folder.path)
    assert pq.read_table(single.path / "windows").num_rows > 20
