"""One file of the journal, being written: entries at its end, nothing else ever."""

from __future__ import annotations

import os
from pathlib import Path

from daemon.journal.entry import FILE_HEAD, MAGIC, Entry, entries_of, pack

__all__ = ["SUFFIX", "Segment", "first_seq_of", "name_of", "sync_folder"]

SUFFIX = ".tonald-journal"


def name_of(first_seq: int) -> str:
    """File name of the segment that begins with ``first_seq``; names sort as numbers do."""
    return f"{first_seq:020d}{SUFFIX}"


def first_seq_of(path: Path) -> int | None:
    """What `name_of` put into the name; None for another file."""
    digits = path.name.removesuffix(SUFFIX)
    return int(digits) if path.name.endswith(SUFFIX) and len(digits) == 20 and digits.isdecimal() else None


def sync_folder(folder: Path) -> None:
    """Make what was created or removed there last."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Segment:
    """An open file; errors are those of the system (OSError).

    Attributes
    ----------
    next_seq : int
        Of the entry that comes next.
    n_bytes : int
        Of the file.
    n_cut : int
        Entries, or parts of one, that a crash or a bad disk left behind at the end and that were cut off.
    """

    def __init__(self, path: Path, first_seq: int) -> None:
        self.path, self.next_seq, self.n_cut = path, first_seq, 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.n_bytes = self._recover()
        except BaseException:
            os.close(self._fd)
            raise

    def _recover(self) -> int:
        """Find the end of what is whole and cut off the rest, whose numbers are not given again: they may be known."""
        data = _read_all(self._fd)
        if not data.startswith(FILE_HEAD):
            if data:
                self.n_cut = max(1, data.count(MAGIC))
            os.ftruncate(self._fd, 0)
            _write_all(self._fd, FILE_HEAD, 0)
            self.next_seq += self.n_cut
            os.fsync(self._fd)
            sync_folder(self.path.parent)
            return len(FILE_HEAD)
        end = len(FILE_HEAD)
        for _, entry, end in entries_of(data):  # noqa: B007  (the last one counts)
            self.next_seq = entry.seq + 1
        if rest := data[end:]:
            self.n_cut = max(1, rest.count(MAGIC))
            self.next_seq += self.n_cut
            os.ftruncate(self._fd, end)
            os.fsync(self._fd)
        return end

    def append(self, entry: Entry) -> None:
        """Write one entry at the end; not on disk for certain before `sync`."""
        data = pack(entry)
        try:
            _write_all(self._fd, data, self.n_bytes)
        except OSError:
            os.ftruncate(self._fd, self.n_bytes)
            raise
        self.n_bytes += len(data)
        self.next_seq = entry.seq + 1

    def sync(self) -> None:
        """Have it on disk. After an error this file must not be trusted with more: the kernel forgets what it lost."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def _read_all(fd: int) -> bytes:
    parts, at = [], 0
    while part := os.pread(fd, 1 << 20, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _write_all(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        n = os.pwrite(fd, view, at)
        view, at = view[n:], at + n
