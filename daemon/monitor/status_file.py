"""The status file: written whole or not at all, read by ``tonald status`` and by whoever watches the machine."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from daemon.config import Config
from daemon.monitor.health import STALE_S
from daemon.monitor.snapshot import SCHEMA, boot_id
from models.errors import InputError

__all__ = ["NAME", "age_of", "read_status", "stale_words", "status_path", "write_status"]

NAME = "status.json"
MAX_BYTES = 4 << 20


def status_path(config: Config) -> Path | None:
    """Where it is written: ``status.file``, else below ``$RUNTIME_DIRECTORY``; None: nowhere."""
    if config.status.file:
        return Path(config.status.file)
    folder = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(folder) / NAME if folder else None


def write_status(path: Path, told: dict[str, Any]) -> None:
    """Put it in place of the one before, by rename: a reader sees one or the other.

    It is not synced to the disk: it is worth nothing after the next boot.

    Raises
    ------
    OSError
        If it cannot be written; the one before stays as it is.
    """
    fresh = path.with_name(f".{path.name}.new")
    data = json.dumps(told, indent=1, allow_nan=False).encode()
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    fresh.replace(path)


def read_status(path: Path) -> dict[str, Any]:
    """What a daemon last wrote.

    Raises
    ------
    InputError
        If there is none, or it is no status of tonald.
    """
    try:
        with path.open("rb") as file:
            told = json.loads(file.read(MAX_BYTES))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file: no daemon runs here, or it was not told to write one; set status.file, or start it "
            "by the unit, which has a RuntimeDirectory"
        ) from None
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror or e}; try as root, or as the daemon's user") from e
    except (ValueError, RecursionError) as e:
        raise InputError(f"{path}: is no status file: {e}") from e
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        raise InputError(f"{path}: is no status file of tonald")
    if told.get("v") != 1:
        raise InputError(f"{path}: is version {told.get('v')!r}, this tonald reads 1: use the daemon's own")
    return told


def age_of(told: dict[str, Any]) -> float | None:
    """How old it is, s, by a clock that does not step; None: it is of an earlier boot of the machine."""
    if told.get("boot_id") != boot_id():
        return None
    return max(0.0, time.monotonic() - float(told["written_monotonic_s"]))


def stale_words(told: dict[str, Any]) -> str | None:
    """Why it is not to be believed any longer; None: it is fresh."""
    age_s = age_of(told)
    if age_s is None:
        return "it was written before the machine was last started"
    if told["state"] in ("stopped", "failed"):
        return None  # a last word does not grow old
    if age_s > STALE_S:
        return (
            f"it was written {age_s:.0f} s ago, not within {STALE_S:g} s: the daemon hangs, was stopped or was killed"
        )
    return None
