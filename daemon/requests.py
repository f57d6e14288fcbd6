"""How a command asks a running daemon: by a file in its state directory, which only its user and root can write.

No signal, which would end a process that does not wait for it, and no socket. ``ID.request`` holds why, at most 200
characters; the daemon takes it away and leaves ``ID.answer``, one line for people.
"""

from __future__ import annotations

import logging
import time
import uuid
from pathlib import Path

from models.errors import InputError

__all__ = ["Requests", "ask"]

_LOG = logging.getLogger(__name__)

FOLDER = "requests"
MAX_WHY = 200
TURN_S = 0.1


class Requests:
    """The daemon's side.

    Parameters
    ----------
    root : Path
        Folder of what is asked for; made if absent.

    Raises
    ------
    OSError
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in (*self._folder.glob("*.request"), *self._folder.glob("*.answer")):  # nobody waits for it any more
            old.unlink(missing_ok=True)

    def take(self) -> tuple[Path, str] | None:
        """One request and why it was made; None if there is none."""
        for path in sorted(self._folder.glob("*.request")):
            try:
                with path.open(encoding="utf-8", errors="replace") as file:
                    why = file.read(MAX_WHY)
                path.unlink()
            except OSError as e:
                _LOG.warning("request %s passed over: %s", path.name, e.strerror or e)
                continue
            return path, " ".join(why.split()) or "command"
        return None

    def answer(self, request: Path, words: str) -> None:
        """Tell whoever asked."""
        part = request.with_suffix(".part")
        try:
            part.write_text(words + "\n", encoding="utf-8")
            part.replace(request.with_suffix(".answer"))
        except OSError as e:
            _LOG.warning("no answer to %s: %s", request.name, e.strerror or e)


def ask(root: Path, why: str, timeout_s: float, setting: str) -> str | None:
    """Ask the daemon that looks into ``root``, if ``setting`` is on; its answer, or None if it gives none in time.

    Raises
    ------
    InputError
        If there is no such folder, or this user may not write there.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: no daemon with {setting} ran there")
    name = uuid.uuid4().hex
    request, answer, part = folder / f"{name}.request", folder / f"{name}.answer", folder / f"{name}.part"
    try:
        part.write_text(why[:MAX_WHY], encoding="utf-8")
        part.replace(request)
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if answer.exists():
                words = answer.read_text(encoding="utf-8").strip()
                answer.unlink()
                return words
            time.sleep(TURN_S)
        request.unlink(missing_ok=True)
    except OSError as e:
        raise InputError(f"{folder}: {e.strerror or e}: run it as root, or as the daemon's user") from e
    return None
