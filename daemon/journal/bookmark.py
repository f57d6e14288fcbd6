"""Where a subscriber stopped, in a small file: the journal's id and the last ``journal_seq`` handed on."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from models.errors import InputError

__all__ = ["Bookmark"]

NOTE_S = 1.0
"""The file is written at most so often, and at the end; a reader that is killed is given again what came since."""


class Bookmark:
    """Of one subscriber.

    Raises
    ------
    InputError
        If the file is there and is no bookmark, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal, self.seq = self._read()
        self._noted_at = -NOTE_S
        if not path.parent.is_dir():
            raise InputError(f"{path}: no such folder {path.parent}")

    def _read(self) -> tuple[str, int | None]:
        try:
            body = json.loads(self.path.read_text(encoding="utf-8"))
            journal, seq = body["journal"], body["journal_seq"]
        except FileNotFoundError:
            return "", None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
            raise InputError(f"{self.path} is no bookmark of 'tonald listen --resume': {e}; name another file") from e
        if not isinstance(journal, str) or type(seq) is not int or seq < 0:
            raise InputError(f"{self.path} is no bookmark of 'tonald listen --resume': {body!r}; name another file")
        return journal, seq

    def note(self, journal: str, seq: int | None) -> None:
        """Write it, if the last time was long enough ago."""
        if time.monotonic() >= self._noted_at + NOTE_S:
            self.write(journal, seq)

    def write(self, journal: str, seq: int | None) -> None:
        """Write it now, whole or not at all."""
        if seq is None or not journal:
            return
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            with fresh.open("w", encoding="utf-8") as f:
                f.write(json.dumps({"journal": journal, "journal_seq": seq}) + "\n")
                f.flush()
                os.fsync(f.fileno())
            fresh.replace(self.path)
        except OSError as e:
            raise InputError(f"{self.path}: cannot be written: {e.strerror or e}") from e
        self._noted_at = time.monotonic()
