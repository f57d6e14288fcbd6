"""Measured false alarms put into a bundle: a new bundle, all else to the byte the same."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from calibration.false_alarms import FILE_NAME, FalseAlarms
from models.bundle import Bundle
from models.bundle_files import new_folder, read_bounded, write_synced
from models.errors import BundleError
from models.manifest import MANIFEST, FileInfo, render_manifest

__all__ = ["put_into_bundle"]


def put_into_bundle(bundle: Bundle, alarms: FalseAlarms, target: Path, *, force: bool = False) -> Bundle:
    """Write a bundle that holds ``alarms`` beside all files of ``bundle``; its id is another.

    Parameters
    ----------
    target
        Folder to write; it appears as a whole, checked, or not at all. May be the bundle's own with ``force``.
    force
        Replace what stands there.

    Raises
    ------
    BundleError
        If they were measured with another bundle, a file changed since the bundle was loaded, ``target`` exists, or the
        disk refuses.
    """
    if alarms.bundle not in (None, bundle.id):
        raise BundleError(f"{FILE_NAME} was measured with bundle {alarms.bundle}, not with {bundle.id}: measure again")
    try:
        files = {name: _unchanged(bundle, name, info) for name, info in bundle.manifest.files.items()}
        files[FILE_NAME] = dataclasses.replace(alarms, bundle=None).to_json().encode()
        listed = {name: FileInfo(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}
        with new_folder(target, force=force) as folder:
            for name, data in files.items():
                write_synced(folder / name, data)
            write_synced(folder / MANIFEST, render_manifest(dataclasses.replace(bundle.manifest, files=listed)))
            Bundle.load(folder)
    except OSError as e:
        raise BundleError(f"bundle {target}: {e.filename}: {e.strerror}") from e
    return Bundle.load(target)


def _unchanged(bundle: Bundle, name: str, info: FileInfo) -> bytes:
    data = read_bounded(bundle.path / name, info.size)
    if hashlib.sha256(data).hexdigest() != info.sha256:
        raise BundleError(f"bundle {bundle.path}: {name} changed since it was loaded: fetch it again")
    return data
