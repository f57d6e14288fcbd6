"""Signing a bundle in its folder, and telling what its signature says (`models.bundle_signature` is the form of it)."""

from __future__ import annotations

import datetime
from pathlib import Path

from models.bundle import MAX_MANIFEST, Bundle
from models.bundle_files import read_bounded, replace_synced
from models.bundle_signature import MAX_SIGNATURE, SIGNATURE, Signed, sign, verify
from models.errors import BundleError
from models.manifest import MANIFEST

__all__ = ["sign_bundle", "verify_bundle"]


def sign_bundle(path: Path, secret_key: bytes, expires: datetime.datetime | None) -> tuple[Bundle, Signed]:
    """Sign a bundle that is whole; an older signature is replaced.

    Parameters
    ----------
    path : path
    secret_key : bytes
        PEM.
    expires : datetime or None
        With time zone; None: never.

    Raises
    ------
    BundleError
        If the bundle is not whole, the key is none, or the disk refuses.
    """
    bundle = Bundle.load(path)
    now = datetime.datetime.now(datetime.timezone.utc)
    try:
        replace_synced(path / SIGNATURE, sign(read_bounded(path / MANIFEST, MAX_MANIFEST), secret_key, now, expires))
    except BundleError as e:
        raise BundleError(f"bundle {path}: {e}") from e
    except OSError as e:
        raise BundleError(f"bundle {path}: cannot write {SIGNATURE}: {e.strerror}") from e
    return bundle, Signed(now.replace(microsecond=0), expires)


def verify_bundle(path: Path, signed_by: bytes) -> tuple[Bundle, Signed]:
    """Read a bundle as `Bundle.load` does; also tell what its signature says.

    Raises
    ------
    BundleError
        As `Bundle.load`.
    """
    bundle = Bundle.load(path, signed_by=signed_by)
    raw, signature = read_bounded(path / MANIFEST, MAX_MANIFEST), read_bounded(path / SIGNATURE, MAX_SIGNATURE)
    return bundle, verify(raw, signature, signed_by, datetime.datetime.now(datetime.timezone.utc))
