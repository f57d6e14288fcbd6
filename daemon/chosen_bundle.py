"""The bundle that the settings name, and its signature, where the settings ask for one."""

from __future__ import annotations

import stat
from pathlib import Path

from daemon.config import Config
from daemon.key_files import key_path, read_guarded
from models.bundle import Bundle

__all__ = ["chosen_bundle", "signer_key"]


def chosen_bundle(config: Config, path: str | Path | None = None) -> Bundle:
    """Load ``path``, else the bundle of the settings, else the shipped one.

    Raises
    ------
    ConfigError
        If the file of the trusted key cannot be used.
    BundleError
        If the bundle is damaged, or not signed as ``bundle_key`` asks.
    """
    where = path or config.bundle or Bundle.shipped()
    if not config.bundle_key:
        return Bundle.load(where)
    return Bundle.load(where, signed_by=signer_key(key_path(config.bundle_key, "bundle_key")))


def signer_key(path: Path, what: str = "bundle_key") -> bytes:
    """The public key of a signer, in a file that only its owner may change.

    Raises
    ------
    ConfigError
        If it cannot be read, or others may change it.
    """
    return read_guarded(path, what, stat.S_IWGRP | stat.S_IWOTH, "go-w")
