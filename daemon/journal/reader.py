"""Pages of a journal for whoever missed them, while it is being written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from daemon.journal.entry import FILE_HEAD, Entry, entries_of
from daemon.journal.journal import Snapshot

__all__ = ["Page", "Reader"]


@dataclass(slots=True)
class Page:
    """What one look gave."""

    entries: list[Entry] = field(default_factory=list)
    """In order."""
    missing: list[tuple[int, int]] = field(default_factory=list)
    """Ranges, both ends included, that are not in the journal though they lie between what is: torn or gone bad."""
    next_seq: int = 0
    """Where to go on."""
    first_seq: int = 0
    """Oldest number kept; what was asked for below it has expired."""
    end_seq: int = 0
    """The number that comes next in the journal."""


class Reader:
    """Reads forward; goes on where it stopped without looking at a file twice.

    Parameters
    ----------
    snapshot : callable
        `Journal.snapshot`.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self._at: tuple[int, Path, int] | None = None  # next number, file, place in it

    def page(self, first: int, n: int, max_bytes: int) -> Page:
        """At most ``n`` entries from number ``first`` on, of about ``max_bytes`` at most, but one at least."""
        snapshot = self._snapshot()
        end = snapshot.next_seq
        page = Page(next_seq=max(first, min(snapshot.first_seq, end)), first_seq=snapshot.first_seq, end_seq=end)
        room = max_bytes
        for i, (_, path) in enumerate(snapshot.files):
            beyond = snapshot.files[i + 1][0] if i + 1 < len(snapshot.files) else end
            if beyond <= page.next_seq:
                continue
            try:
                room = self._file(path, page, min(beyond, end), n, room)
            except FileNotFoundError:  # its time came while we read
                self._miss(page, beyond)
            if len(page.entries) >= n or room <= 0:
                return page
        if page.next_seq < end:
            self._miss(page, end)
        return page

    def _file(self, path: Path, page: Page, beyond: int, n: int, room: int) -> int:
        """Entries of one file, below number ``beyond``; what is left of ``room``."""
        data, offset = _read_from(path, self._place(path, page.next_seq))
        for _, entry, stop in entries_of(data, 0):
            if entry.seq < page.next_seq:
                continue
            if entry.seq >= beyond:
                break
            self._miss(page, entry.seq)
            page.entries.append(entry)
            page.next_seq = entry.seq + 1
            room -= sum(map(len, entry.frames))
            if len(page.entries) >= n or room <= 0:
                self._at = page.next_seq, path, offset + stop
                return room
        self._miss(page, beyond)
        return room

    def _place(self, path: Path, seq: int) -> int:
        if self._at is not None and self._at[0] == seq and self._at[1] == path:
            return self._at[2]
        return len(FILE_HEAD)

    @staticmethod
    def _miss(page: Page, upto: int) -> None:
        """Note that numbers up to, not including, ``upto`` are not there."""
        if upto > page.next_seq:
            page.missing.append((page.next_seq, upto - 1))
            page.next_seq = upto


def _read_from(path: Path, offset: int) -> tuple[bytes, int]:
    with path.open("rb") as f:
        f.seek(offset, os.SEEK_SET)
        return f.read(), offset
