"""Who may listen: public keys in a folder (one ``.pub`` file each) or in one TOML file (``name = "public key"``)."""

from __future__ import annotations

import logging
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from daemon.key_files import PublicKey, read_guarded, read_public
from models.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["AllowList", "read_allow_list"]

_log = logging.getLogger(__name__)

WHAT = "publish.allowed_keys"
OPEN = stat.S_IWGRP | stat.S_IWOTH

AllowList = Mapping[bytes, PublicKey]
"""By the 32 bytes of the key."""


def read_allow_list(path: Path) -> AllowList:
    """Read the list; an empty one lets nobody in.

    Raises
    ------
    ConfigError
        If it cannot be read whole, others than its owner may change it, or it names a key twice.
    """
    allowed: dict[bytes, PublicKey] = {}
    for key in _in_folder(path) if path.is_dir() else _in_file(path):
        if key.raw in allowed:
            both = f"{allowed[key.raw].name} and {key.name}"
            raise ConfigError(f"{WHAT}: {path}: {both} have the same key: each needs its own")
        allowed[key.raw] = key
    if not allowed:
        _log.warning("%s: %s holds no key: nobody can listen from the network", WHAT, path)
    return allowed


def _in_folder(path: Path) -> list[PublicKey]:
    try:
        mode, files = path.stat().st_mode, sorted(path.iterdir())
    except OSError as e:
        raise ConfigError(f"{WHAT}: {path} cannot be read: {e.strerror}") from e
    if mode & OPEN:
        raise ConfigError(
            f"{WHAT}: folder {path} may be changed by others (mode {stat.S_IMODE(mode):04o}): chmod go-w {path}"
        )
    if other := [f.name for f in files if f.suffix != ".pub"]:
        _log.warning("%s: %s: passed over, as it does not end in .pub: %s", WHAT, path, ", ".join(other[:5]))
    return [read_public(f, WHAT) for f in files if f.suffix == ".pub"]


def _in_file(path: Path) -> list[PublicKey]:
    text = read_guarded(path, WHAT, OPEN, "go-w").decode("utf-8", "replace")
    try:
        entries = tomllib.loads(text)
    except (ValueError, RecursionError) as e:  # no TOML, a number of thousands of digits, nested too deep
        raise ConfigError(f'{WHAT}: {path}: {e}; write one line for each client: bridge = "PUBLIC KEY"') from e
    for name, value in entries.items():
        if not isinstance(value, str):
            raise ConfigError(f'{WHAT}: {path}: {name} is no key; write {name} = "PUBLIC KEY"')
    return [PublicKey.parse(name, value, f"{WHAT}: {path}: {name}") for name, value in entries.items()]
