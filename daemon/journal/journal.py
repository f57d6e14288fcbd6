"""Records on disk before they are published, within a budget of bytes and days, whatever happens to the disk.

Entries lie in files of a few megabytes, named by their first number; the oldest file goes when the budget asks for it.
A disk that is full, read-only or failing stops the journal, never the daemon: records go out with ``journal_seq`` null,
the heartbeat says what is wrong, and it is tried again until it works. What could not be written is counted.

One thread writes. `snapshot` may be called by any.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.journal.entry import Entry
from daemon.journal.segment import SUFFIX, Segment, first_seq_of, name_of, sync_folder
from models.errors import ConfigError

__all__ = ["Budget", "Journal", "Snapshot"]

_log = logging.getLogger(__name__)

RETRY_S = 5.0
"""Between attempts to write again."""
LOOK_S = 1.0
"""Between looks at the free space of the disk."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the journal may use."""

    max_bytes: int = 1 << 30
    max_age_s: float = 30 * 86400.0
    reserve_bytes: int = 200 << 20
    """Free space that it leaves to others: below it old files go first, then it pauses."""
    segment_bytes: int = 8 << 20
    """A file is closed when it has as many."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is to read, at one moment."""

    id: str
    files: tuple[tuple[int, Path], ...]
    """First number and path of each file, oldest first."""
    next_seq: int
    """All below is on disk, or never will be."""

    @property
    def first_seq(self) -> int:
        """Oldest number kept."""
        return self.files[0][0] if self.files else self.next_seq


class Journal:
    """Append-only, numbered without end.

    Parameters
    ----------
    folder : Path
        Its own; made if it does not exist.
    budget : Budget

    Raises
    ------
    ConfigError
        If another daemon writes there. A disk that does not work is no error: see ``problem``.
    """

    def __init__(self, folder: Path, budget: Budget = Budget()) -> None:
        self.folder, self.budget = folder, budget
        self.id = ""
        """Of this journal; another one, or one that was deleted, has another. Empty until the disk has worked once."""
        self.problem: str | None = None
        """Why nothing is written at present."""
        self.n_missed = 0
        """Records since the start that could not be written."""
        self.n_cut = 0
        """Entries found torn at the end of the last file when it was opened."""
        self._segment: Segment | None = None
        self._old: list[tuple[int, Path, int]] = []  # first number, path, bytes: files that are full
        self._next_seq = self._durable_seq = 1
        self._lock_fd = -1
        self._retry_at = self._look_at = 0.0
        self._snapshot = Snapshot("", (), 1)
        self._try_open()

    def append(self, frames: Sequence[Sequence[bytes]], number: Any) -> list[int | None]:  # noqa: ANN401
        """Write records and have them on disk; the number of each, None where it could not be written.

        Parameters
        ----------
        frames
            Of each record.
        number
            Called with the frames of a record and its number: the frames to be kept.
        """
        if self._segment is None and time.monotonic() >= self._retry_at:
            self._try_open()
        if self._segment is None:
            self.n_missed += len(frames)
            return [None] * len(frames)
        given: list[int | None] = []
        try:
            self._make_room()
            for each in frames:
                seq = self._next_seq
                entry = Entry(seq, time.time_ns(), tuple(number(each, seq)))
                self._segment.append(entry)
                self._next_seq = seq + 1
                given.append(seq)
            self._segment.sync()
        except OSError as e:
            # numbers already given are not given again: nobody saw them, and no reader may take others for them
            self._give_up(e)
            self.n_missed += len(frames)
            return [None] * len(frames)
        self._durable_seq = self._next_seq
        self._publish_snapshot()
        return given

    def snapshot(self) -> Snapshot:
        """What may be read now; files may be gone when it is used."""
        return self._snapshot

    def state(self) -> dict[str, Any]:
        """For the heartbeat."""
        snapshot = self._snapshot
        return {
            "id": self.id or None, "first_seq": snapshot.first_seq, "next_seq": snapshot.next_seq,
            "n_bytes": sum(n for _, _, n in self._old) + (self._segment.n_bytes if self._segment else 0),
            "problem": self.problem, "n_missed": self.n_missed,
        }  # fmt: skip

    def close(self) -> None:
        """Let go of all files; may be called twice."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # opening

    def _try_open(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock()
            self._identify()
            self._list()
            self._enough_space()
            self._open_segment()
        except OSError as e:
            self._give_up(e)
            return
        if self.problem is not None:
            _log.warning("journal: writing again; %d records were published without it", self.n_missed)
        self.problem = None
        self._publish_snapshot()

    def _lock(self) -> None:
        if self._lock_fd >= 0:
            return
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise ConfigError(
                f"journal {self.folder}: another tonald writes there; give each daemon a state_dir of its own"
            ) from None
        self._lock_fd = fd

    def _identify(self) -> None:
        path = self.folder / "id"
        try:
            kept = path.read_text("ascii", "replace").strip()
        except FileNotFoundError:
            kept = ""
        if not self.id and not any(self.folder.glob(f"*{SUFFIX}")):
            kept = ""  # numbers begin anew, so must the name
        if len(kept) != 32 or not all(c in "0123456789abcdef" for c in kept):
            kept = uuid.uuid4().hex
            fresh = path.with_suffix(".new")
            with open(fresh, "w", encoding="ascii", opener=_private) as f:
                f.write(kept + "\n")
                f.flush()
                os.fsync(f.fileno())
            fresh.replace(path)
            sync_folder(self.folder)
        self.id = kept

    def _list(self) -> None:
        found = [(first, p) for p in self.folder.glob(f"*{SUFFIX}") if (first := first_seq_of(p)) is not None]
        self._old = [(first, p, p.stat().st_size) for first, p in sorted(found)]

    def _open_segment(self) -> None:
        """Go on in the last file, or in a new one if that is full, or not to be trusted."""
        if self._old and self._segment is None:
            first, path, n_bytes = self._old[-1]
            last = Segment(path, first)
            self._next_seq = max(self._next_seq, last.next_seq)
            if last.n_cut:
                self.n_cut += last.n_cut
                _log.warning("journal: %d torn at the end of %s cut off", last.n_cut, path.name)
            if self.problem is None and n_bytes < self.budget.segment_bytes and last.next_seq == self._next_seq:
                self._old.pop()
                self._segment = last
                self._durable_seq = self._next_seq
                return
            last.close()
            if self._next_seq == first:  # it holds nothing: it is the new one
                self._old.pop()
        self._segment = Segment(self.folder / name_of(self._next_seq), self._next_seq)
        self._durable_seq = self._next_seq

    # writing

    def _make_room(self) -> None:
        """Before writing: another file if this one is full, old ones away, enough free space."""
        segment = self._segment
        assert segment is not None
        if segment.n_bytes >= self.budget.segment_bytes:
            segment.sync()
            segment.close()
            first = first_seq_of(segment.path)
            assert first is not None
            self._old.append((first, segment.path, segment.n_bytes))
            self._segment = Segment(self.folder / name_of(self._next_seq), self._next_seq)
            self._prune()
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_S
            self._prune()
            self._enough_space()

    def _prune(self) -> None:
        limit = self.budget.max_bytes - self.budget.segment_bytes
        now = time.time()
        while self._old:
            total = sum(n for _, _, n in self._old)
            try:
                aged = now - self._old[0][1].stat().st_mtime > self.budget.max_age_s
            except FileNotFoundError:
                aged = True  # somebody else took it away
            if total <= limit and not aged:
                break
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, path, _ = self._old.pop(0)
        path.unlink(missing_ok=True)
        sync_folder(self.folder)

    def _enough_space(self) -> None:
        while self._free() < self.budget.reserve_bytes:
            if not self._old:
                raise OSError(
                    errno.ENOSPC, f"less than journal.reserve_mb = {self.budget.reserve_bytes / 1e6:.0f} MB are free"
                )
            self._drop_oldest()

    def _free(self) -> int:
        s = os.statvfs(self.folder)
        return s.f_bavail * s.f_frsize

    def _give_up(self, error: OSError) -> None:
        """Say so once, and try again later, in a new file: this one's end is not known to be on disk."""
        text = f"{error.strerror or error}: {self.folder}"
        if self.problem is None:
            _log.error("journal: %s; records go out without it, replay has a hole here", text)
        self.problem = text
        self._retry_at = time.monotonic() + RETRY_S
        if self._segment is not None:
            try:
                self._segment.close()
            except OSError as e:
                _log.warning("journal: %s cannot be closed: %s", self._segment.path, e)
            self._segment = None
        self._publish_snapshot()

    def _publish_snapshot(self) -> None:
        files = [(first, path) for first, path, _ in self._old]
        if self._segment is not None and (first := first_seq_of(self._segment.path)) is not None:
            files.append((first, self._segment.path))
        self._snapshot = Snapshot(self.id, tuple(files), self._durable_seq)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
