"""Plans built for this machine, kept between starts. Each opens with the SHA-256 of its content.

A damaged plan must never reach TensorRT, which trusts it: what does not match its hash is built anew. A disk that
refuses costs the next start its time, nothing else. Beside each plan lies a page for people, ``KEY.json``: how the plan
was built, how far it is from the golden outputs, the precision of each layer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["PlanCache"]

log = logging.getLogger(__name__)

N_DIGEST = hashlib.sha256().digest_size


class PlanCache:
    """Files in one folder, or nothing at all if ``folder`` is None; the folder is made at the first write."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @staticmethod
    def key(onnx: bytes, *facts: str) -> str:
        """Name under which the plan of a graph is kept; ``facts`` are all else that decides whether it fits."""
        return hashlib.sha256("\0".join((hashlib.sha256(onnx).hexdigest(), *facts)).encode()).hexdigest()

    def read(self, name: str) -> bytes | None:
        """Content, or None if there is none or it is damaged."""
        if self._folder is None:
            return None
        path = self._folder / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as e:
            log.warning("%s cannot be read (%s): building anew", path, e.strerror)
            return None
        if hashlib.sha256(data[N_DIGEST:]).digest() != data[:N_DIGEST]:
            log.warning("%s is damaged: building anew", path)
            return None
        return data[N_DIGEST:]

    def write(self, name: str, content: bytes) -> None:
        """Keep ``content``; it appears as a whole or not at all."""
        self._write(name, hashlib.sha256(content).digest() + content)

    def drop(self, name: str) -> None:
        """Forget what was kept, if anything."""
        if self._folder is None:
            return
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as e:
            log.warning("%s cannot be removed (%s)", self._folder / name, e.strerror)

    def write_page(self, name: str, page: dict[str, Any]) -> None:
        """Keep a page for people, as JSON."""
        self._write(name, (json.dumps(page, indent=1, default=str) + "\n").encode())

    def read_page(self, name: str) -> dict[str, Any]:
        """A page kept; empty if there is none or it cannot be read."""
        if self._folder is None:
            return {}
        path = self._folder / name
        try:
            page = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as e:
            log.warning("%s cannot be read (%s)", path, e)
            return {}
        return page if isinstance(page, dict) else {}

    def path(self, name: str) -> str:
        """Where something is kept, for messages."""
        return name if self._folder is None else str(self._folder / name)

    def _write(self, name: str, data: bytes) -> None:
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as f:
                try:
                    f.write(data)
                    f.flush()
                    os.fsync(f.fileno())
                    Path(f.name).rename(self._folder / name)
                except OSError:
                    Path(f.name).unlink(missing_ok=True)
                    raise
        except OSError as e:
            log.warning("%s cannot be kept (%s): the next start builds it again", self._folder / name, e.strerror)
