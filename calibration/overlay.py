"""Files of the site state: strict JSON that holds its own digest, written as a whole or not at all.

The digest stands in the first key and is taken over the text with sixty-four zeros in its place: no byte can change
unseen. It guards against damage and mix-ups; it is no signature and proves no author.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import BundleError, InputError
from models.strict_json import StrictMap

__all__ = ["read_at_most", "sealed", "unsealed", "write_whole"]

_BLANK = "0" * 64


def sealed(kind: str, schema: int, content: Mapping[str, Any]) -> bytes:
    """``content`` as a file, below its digest, what it is and the version of its schema."""
    whole = {"digest": _BLANK, "kind": kind, "schema_version": schema, **content}
    text = (json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    return text.replace(_BLANK.encode(), hashlib.sha256(text).hexdigest().encode(), 1)


def unsealed(raw: bytes, kind: str, schema: int) -> StrictMap:
    """Content of a file, but for what `sealed` put above it.

    Raises
    ------
    BundleError
        If a byte was changed, or it is of another kind or schema.
    """
    try:
        data = json.loads(raw.decode())
    except (ValueError, RecursionError) as e:  # no UTF-8, no JSON, a number of thousands of digits
        raise BundleError(f"is damaged, it is no JSON: {e}") from e
    top = StrictMap(data, "content")
    digest, its_kind, its_schema = top.of("digest", str), top.of("kind", str), top.of("schema_version", int)
    if its_kind != kind:
        raise BundleError(f"is none: its kind is {its_kind!r}")
    if its_schema != schema:
        raise BundleError(f"has schema {its_schema}, this tonald reads {schema}")
    blank = raw.replace(digest.encode(), _BLANK.encode(), 1) if len(digest) == len(_BLANK) else b""
    if hashlib.sha256(blank).hexdigest() != digest:
        raise BundleError("does not match its own digest, it was changed or damaged")
    return top


def read_at_most(path: Path, n_bytes: int, what: str) -> bytes:
    """Content of a file, and one byte more than ``n_bytes`` if it is longer.

    Raises
    ------
    InputError
        Saying ``what`` cannot be read.
    """
    try:
        with path.open("rb") as f:
            return f.read(n_bytes + 1)
    except OSError as e:
        raise InputError(f"{what} {path} cannot be read: {e.strerror or e}") from e


def write_whole(path: Path, raw: bytes, what: str) -> None:
    """Replace ``path`` as a whole; the content is on the disk before the name is.

    Raises
    ------
    InputError
        If the folder or disk refuses; what stood there stays.
    """
    work: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        work = Path(name)
        with os.fdopen(fd, "wb") as f:
            f.write(raw)
            f.flush()
            os.fsync(f.fileno())
        work.chmod(0o644)
        work.replace(path)
        work = None
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as e:
        raise InputError(f"{what} {path} cannot be written: {e.strerror or e}") from e
    finally:
        if work is not None:
            with contextlib.suppress(OSError):
                work.unlink()
