"""``tonald support``: all that whoever helps will ask for, in one archive, without secrets."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import tarfile
import time
from pathlib import Path
from typing import Any

from daemon.commands.freeze import forensic_root
from daemon.config import Config
from daemon.forensic.store import FROZEN, RING
from daemon.key_files import key_path, read_pair
from daemon.support.gather import made, parts_of
from daemon.support.redact import Redactor
from daemon.takes.side_car import read_take, side_car_of
from models.errors import ConfigError, InputError, UsageError

__all__ = ["add_arguments", "run"]

TOP = "tonald-support"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.description = (
        "Gather versions, settings, unit, log, doctor's findings and what the daemon says into one archive, and list "
        "what is in it. Key files are never included; what looks like a key is masked."
    )
    parser.add_argument("--out", metavar="FILE.tar.gz", type=Path, required=True, help="new file, readable by you only")
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings of the daemon (default: the defaults)")
    parser.add_argument("--unit", metavar="FILE", type=Path, help="unit file (default: the one installed)")
    parser.add_argument("--metrics", metavar="URL", help="of the daemon on this machine (default: metrics.listen)")
    parser.add_argument(
        "--audio", metavar="S", type=float, nargs="?", const=60.0,
        help="also the last S seconds of the forensic ring (%(const)g): anyone who has the archive can hear them",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Write the archive, print what is in it."""
    if args.audio is not None and not 0.0 < args.audio < float("inf"):
        raise UsageError(f"--audio {args.audio:g}: give a positive number of seconds")
    logging.getLogger().addHandler(logging.NullHandler())
    problem = ""
    try:
        config = Config.load(args.config) if args.config else Config()
    except ConfigError as e:  # help is needed most when the settings are wrong
        config, problem = Config(), str(e)
    sounds = _sounds(config, args.audio) if args.audio is not None else []
    redact = Redactor(_secrets(config))
    try:
        fd = os.open(args.out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise InputError(f"{args.out} exists: it is not written over; give another name") from None
    except OSError as e:
        raise InputError(f"{args.out}: cannot be written: {e.strerror or e}") from e
    try:
        with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            if problem:
                _add(archive, "config-problem.txt", redact(problem + "\n").encode())
            for part in parts_of(config, args.config, args.unit, args.metrics):
                _add(archive, part[0], redact(made(part)).encode("utf-8", "replace"))
            for path in sounds:
                _add(archive, f"audio/{path.name}", path.read_bytes())
    except BaseException as e:
        args.out.unlink(missing_ok=True)
        if isinstance(e, OSError):
            raise InputError(f"{args.out}: cannot be written: {e.strerror or e}") from e
        raise
    masked = f", {redact.n} places masked" if redact.n else ""
    print(f"{args.out}: {args.out.stat().st_size / 1e3:.0f} kB{masked}; look through it before you send it")
    return 0


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(f"{TOP}/{name}")
    entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
    archive.addfile(entry, io.BytesIO(data))
    print(f"{len(data):10d}  {name}")


def _secrets(config: Config) -> list[str]:
    """Secrets that this user can read, so that they are masked wherever they stand."""
    if not config.publish.server_key:
        return []
    from zmq.utils import z85

    with contextlib.suppress(ConfigError):  # who may not read it cannot include it either
        pair: Any = read_pair(key_path(config.publish.server_key, "publish.server_key"), "publish.server_key")
        return [z85.encode(pair.secret).decode("ascii")]
    return []


def _sounds(config: Config, seconds: float) -> list[Path]:
    """Files of the ring that hold the last ``seconds``, with their side-cars.

    Raises
    ------
    ConfigError, InputError
        If there is no ring, or nothing in it.
    """
    root = forensic_root(config)
    try:
        files = sorted(
            (p for p in (root / RING).glob("*") if p.suffix in (".flac", ".wav")), key=lambda p: p.stat().st_mtime_ns
        )
    except OSError as e:
        raise InputError(f"{root}: cannot be read: {e.strerror or e}: run it as root, or as the daemon's user") from e
    chosen: list[Path] = []
    left = seconds
    for path in reversed(files):
        if left <= 0 or (take := read_take(path)) is None:
            break
        chosen += [side_car_of(path), path]
        left -= take.n_samples / take.fs
    if not chosen:
        raise InputError(f"{root / RING}: holds no sound; what was frozen lies in {root / FROZEN}")
    return chosen[::-1]
