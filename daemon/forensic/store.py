"""Files of the ring on disk: within their budget, oldest deleted first, and never the last of a disk."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from daemon.takes.side_car import Take, read_take, side_car_of
from daemon.takes.take_file import PART
from models.errors import InputError

__all__ = ["FROZEN", "RING", "Segment", "Store"]

_LOG = logging.getLogger(__name__)

RING, FROZEN = "ring", "frozen"


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of the ring."""

    path: Path
    take: Take
    n_bytes: int

    @property
    def end(self) -> int:
        """Sample after its last."""
        return self.take.first_sample + self.take.n_samples


class Store:
    """Two folders and their budgets; used by one thread.

    Parameters
    ----------
    root : Path
        ``forensic`` in the state directory; made if absent.
    max_bytes, frozen_bytes, reserve_bytes : int
        Of the ring, of what is frozen, and left free on the disk.

    Raises
    ------
    InputError
        If it cannot be made or read.
    """

    def __init__(self, root: Path, max_bytes: int, frozen_bytes: int, reserve_bytes: int) -> None:
        self.ring, self.frozen = root / RING, root / FROZEN
        self._max, self._frozen_max, self._reserve = max_bytes, frozen_bytes, reserve_bytes
        self.segments: deque[Segment] = deque()
        """Oldest first."""
        try:
            for folder in (self.ring, self.frozen):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._scan()
        except OSError as e:
            raise InputError(f"{root}: cannot be used: {e.strerror or e}; see state_dir") from e

    def _scan(self) -> None:
        """Take over what an earlier run left; what it left half is removed."""
        for part in (*self.ring.glob(f"*{PART}"), *self.frozen.glob(f"*/*{PART}")):
            part.unlink(missing_ok=True)
        audio = [p for p in self.ring.iterdir() if p.suffix in (".flac", ".wav")]
        whole = {side_car_of(p) for p in audio}
        for lone in self.ring.glob("*.json"):  # its sound was never finished
            if lone not in whole:
                lone.unlink(missing_ok=True)
        for path in sorted(audio, key=lambda p: (p.stat().st_mtime_ns, p.name)):
            try:
                take = read_take(path)
            except InputError as e:
                _LOG.warning("forensic ring: %s; removed", e)
                take = None
            if take is None:
                self._remove(path)
            else:
                self._add(path, take)

    @property
    def n_bytes(self) -> int:
        """Of the ring."""
        return sum(s.n_bytes for s in self.segments)

    @property
    def n_bytes_frozen(self) -> int:
        """Of all that is frozen."""
        return sum(f.stat().st_size for f in self.frozen.rglob("*") if f.is_file())

    def add(self, path: Path, take: Take) -> None:
        """Take a new file in, and delete the oldest until the budget holds."""
        self._add(path, take)
        total = self.n_bytes
        while total > self._max and len(self.segments) > 1:
            total -= self._delete_oldest()

    def room_for(self, n_bytes: int, spare: Segment | None = None) -> bool:
        """Whether the disk has room, beside the reserve; the oldest of the ring goes for it, up to ``spare``."""
        try:
            while shutil.disk_usage(self.ring).free < self._reserve + n_bytes:
                if not self.segments or self.segments[0] is spare:
                    return False
                self._delete_oldest()
        except OSError as e:  # the folders went: make them again, for the next time
            _LOG.error("forensic ring: %s: %s", self.ring, e.strerror or e)
            self._make_again()
            return False
        return True

    def _make_again(self) -> None:
        self.segments.clear()
        for folder in (self.ring, self.frozen):
            with contextlib.suppress(OSError):  # the caller has said that there is no room
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def frozen_fits(self, n_bytes: int) -> bool:
        """Whether so much could be frozen at all."""
        return n_bytes <= self._frozen_max

    def trim_frozen(self, n_coming: int) -> list[str]:
        """Delete the oldest frozen until so much more fits; return their names."""
        gone = []
        folders = sorted((p for p in self.frozen.iterdir() if p.is_dir()), key=lambda p: (p.stat().st_mtime_ns, p.name))
        total = self.n_bytes_frozen
        for folder in folders:
            if total + n_coming <= self._frozen_max:
                break
            total -= sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
            shutil.rmtree(folder)
            gone.append(folder.name)
        return gone

    def _add(self, path: Path, take: Take) -> None:
        try:
            self._count(path, take)
        except OSError as e:
            _LOG.error("forensic ring: %s went as soon as it was written: %s", path.name, e.strerror or e)

    def _count(self, path: Path, take: Take) -> None:
        size = path.stat().st_size + side_car_of(path).stat().st_size
        self.segments.append(Segment(path, take, size))

    def _delete_oldest(self) -> int:
        segment = self.segments.popleft()
        self._remove(segment.path)
        return segment.n_bytes

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
            side_car_of(path).unlink(missing_ok=True)
        except OSError as e:  # read-only: nothing more is written either
            _LOG.error("forensic ring: %s cannot be deleted: %s", path, e.strerror or e)
