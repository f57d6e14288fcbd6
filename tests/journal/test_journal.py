"""The journal on real disks: full, read-only, torn, killed, at its budget."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.journal import journal as module
from daemon.journal.entry import FILE_HEAD, entries_of
from daemon.journal.journal import Budget, Journal
from daemon.journal.reader import Page, Reader
from daemon.journal.segment import SUFFIX
from models.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SMALL = Budget(max_bytes=100_000, max_age_s=1e9, reserve_bytes=0, segment_bytes=10_000)


def write(journal: Journal, n: int, size: int = 100) -> list[int | None]:
    return [s for k in range(n) for s in journal.append([[b"gap/ch0/", bytes([k % 256]) * size]], lambda f, _: f)]


def read(journal: Journal, first: int = 0) -> Page:
    return Reader(journal.snapshot).page(first, 10**6, 1 << 40)


def numbers(journal: Journal, first: int = 0) -> list[int]:
    return [e.seq for e in read(journal, first).entries]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_numbers_go_on_over_restarts(tmp_path: Path) -> None:
    for n in range(4):
        journal = Journal(tmp_path / "j", SMALL)
        assert write(journal, 10) == list(range(10 * n + 1, 10 * n + 11))
        assert numbers(journal) == list(range(1, 10 * n + 11))
        journal.close()
    assert journal.problem is None


def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    with pytest.raises(ConfigError, match="another tonald writes there"):
        Journal(tmp_path / "j")
    journal.close()
    Journal(tmp_path / "j").close()


def test_a_journal_that_was_deleted_has_another_name(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j")
    write(first, 3)
    first.close()
    again = Journal(tmp_path / "j")
    assert again.id == first.id
    again.close()
    for path in files(tmp_path / "j"):
        path.unlink()
    other = Journal(tmp_path / "j")
    assert other.id != first.id
    other.close()


def test_torn_at_every_byte_of_the_last_record(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", SMALL)
    write(journal, 5)
    journal.close()
    (path,) = files(tmp_path / "j")
    whole = path.read_bytes()
    ends = [end for _, _, end in entries_of(whole)]
    for cut in range(ends[-2], ends[-1]):
        path.write_bytes(whole[:cut])
        torn = Journal(tmp_path / "j", SMALL)
        assert numbers(torn) == [1, 2, 3, 4]
        # a part of number 5 is there: it may be known to somebody, and is not given again
        expected = 5 if cut == ends[-2] else 6
        assert write(torn, 1) == [expected]
        page = read(torn, 5)
        assert [e.seq for e in page.entries] == [expected]
        assert page.missing == ([] if expected == 5 else [(5, 5)])
        torn.close()
        for extra in files(tmp_path / "j"):
            extra.unlink()


def test_a_bad_spot_costs_its_record_and_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", SMALL)
    write(journal, 9)
    (path,) = files(tmp_path / "j")
    data = bytearray(path.read_bytes())
    at, _, end = list(entries_of(bytes(data)))[3]
    data[(at + end) // 2] ^= 0x10
    path.write_bytes(data)
    page = read(journal)
    assert [e.seq for e in page.entries] == [1, 2, 3, 5, 6, 7, 8, 9]
    assert page.missing == [(4, 4)]
    journal.close()
    again = Journal(tmp_path / "j", SMALL)
    assert write(again, 1) == [10]
    again.close()


def test_a_file_of_something_else_is_begun_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", SMALL)
    write(journal, 3)
    journal.close()
    (path,) = files(tmp_path / "j")
    path.write_bytes(bytes(500))
    again = Journal(tmp_path / "j", SMALL)
    (given,) = write(again, 1)
    assert given is not None
    assert numbers(again) == [given]
    assert path.read_bytes().startswith(FILE_HEAD)
    again.close()


def test_the_oldest_go_when_the_budget_is_used(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", SMALL)
    write(journal, 2000)
    total = sum(p.stat().st_size for p in files(tmp_path / "j"))
    assert total <= SMALL.max_bytes + SMALL.segment_bytes
    kept = numbers(journal)
    assert kept == list(range(kept[0], 2001))
    assert kept[0] > 1
    page = read(journal, 1)
    assert (page.first_seq, page.missing) == (kept[0], [])
    journal.close()


def test_old_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    journal = Journal(tmp_path / "j", Budget(max_bytes=10**9, max_age_s=3600.0, reserve_bytes=0, segment_bytes=2000))
    write(journal, 50)
    n = len(files(tmp_path / "j"))
    for path in files(tmp_path / "j")[:2]:
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    write(journal, 1)
    assert len(files(tmp_path / "j")) == n - 2
    journal.close()


def test_a_full_disk_pauses_it_and_space_brings_it_back(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    journal = Journal(tiny / "j", Budget(max_bytes=10**9, reserve_bytes=0, segment_bytes=200_000))
    ballast = tiny / "ballast"
    ballast.write_bytes(bytes(300_000))
    given = write(journal, 300, size=5000)
    assert None in given
    assert journal.problem is not None
    assert "No space left" in journal.problem
    assert journal.n_missed == given.count(None)
    before = [s for s in given if s is not None]
    assert numbers(journal) == before
    ballast.unlink()
    (after,) = write(journal, 1)
    assert after is not None
    assert after > before[-1]
    assert journal.problem is None
    page = read(journal)
    assert [e.seq for e in page.entries] == [*before, after]
    journal.close()


def test_it_leaves_room_to_others(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    journal = Journal(tiny / "j", Budget(max_bytes=10**9, reserve_bytes=500_000, segment_bytes=50_000))
    write(journal, 300, size=5000)
    s = os.statvfs(tiny)
    assert s.f_bavail * s.f_frsize > 400_000
    assert journal.problem is None
    given: list[int | None] = []
    for n in range(4):  # others need more and more: the old files go, at last it pauses
        (tiny / f"ballast{n}").write_bytes(bytes(150_000))
        given += write(journal, 1)
    assert given[0] is not None
    assert given[-1] is None
    assert journal.problem is not None
    assert "journal.reserve_mb" in journal.problem
    journal.close()


def test_a_folder_that_cannot_be_written(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    journal = Journal(tiny / "j", SMALL)
    assert write(journal, 3) == [1, 2, 3]
    journal.close()
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    closed = Journal(tiny / "j", SMALL)
    assert write(closed, 2) == [None, None]
    assert closed.problem is not None
    assert "Read-only" in closed.problem
    subprocess.run(["mount", "-o", "remount,rw", str(tiny)], check=True)
    assert write(closed, 1) == [4]
    assert closed.problem is None
    closed.close()


def test_a_disk_that_fails_to_sync_is_not_trusted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    journal = Journal(tmp_path / "j", SMALL)
    write(journal, 3)
    fails = iter([True, False, False, False])
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        if next(fails, False):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    assert write(journal, 1) == [None]
    assert write(journal, 1) == [5]  # 4 may or may not be on disk: nobody was told of it
    assert len(files(tmp_path / "j")) == 2
    assert 5 in numbers(journal)
    journal.close()


def _kill_once(folder: Path, rng: random.Random) -> int:
    """Last number that a writer said was on disk before it was killed."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.journal.writer", str(folder)], stdout=subprocess.PIPE, cwd=ROOT
    ) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline()]
        time.sleep(rng.uniform(0.0, 0.06))
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.read().split(b"\n")
    return max(int(line) for line in said if line.strip())


def _kill(folder: Path, n: int) -> None:
    rng = random.Random(1)
    for _ in range(n):
        told = _kill_once(folder, rng)
        journal = Journal(folder, Budget(max_bytes=1 << 30, reserve_bytes=0, segment_bytes=1 << 16))
        page = read(journal, max(0, told - 2000))
        kept = [e.seq for e in page.entries]
        assert told in kept
        assert kept == sorted(set(kept))
        holes = {s for a, b in page.missing for s in range(a, b + 1)}
        assert not [
            s for s in range(max(journal.snapshot().first_seq, told - 2000), told + 1) if s not in {*kept, *holes}
        ]
        assert not [h for h in holes if h == told]
        journal.close()


def test_killed_at_random_nothing_that_was_said_is_lost(tmp_path: Path) -> None:
    _kill(tmp_path / "j", 5)


@pytest.mark.slow
def test_killed_two_hundred_times(tmp_path: Path) -> None:
    _kill(tmp_path / "j", 200)


def test_pages_go_on_where_they_stopped(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", SMALL)
    write(journal, 500)
    first = journal.snapshot().first_seq
    reader, got, at = Reader(journal.snapshot), [], 0
    while True:
        page = reader.page(at, 7, 1 << 20)
        assert len(page.entries) <= 7
        got += [e.seq for e in page.entries]
        at = page.next_seq
        if at == page.end_seq:
            break
    assert got == list(range(first, 501))
    assert reader.page(at, 7, 1 << 20).entries == []
    write(journal, 1)
    assert [e.seq for e in reader.page(at, 7, 1 << 20).entries] == [501]
    journal.close()


def test_a_page_is_not_larger_than_asked(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", SMALL)
    write(journal, 20, size=1000)
    assert len(Reader(journal.snapshot).page(0, 100, 3000).entries) == 3
    assert len(Reader(journal.snapshot).page(0, 100, 1).entries) == 1
    journal.close()


def test_files_that_vanish_are_missing_not_an_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", SMALL)
    write(journal, 300)
    middle = files(tmp_path / "j")[1]
    middle.unlink()
    page = read(journal)
    assert len(page.missing) == 1
    a, b = page.missing[0]
    assert [e.seq for e in page.entries] == [s for s in range(1, 301) if not a <= s <= b]
    journal.close()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        journal = Journal(tmp_path / "j", SMALL)
        write(journal, 200)
        journal.close()
        journal.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    shutil.rmtree(tmp_path / "j")
