"""Plans built for this machine, kept between starts. Each file opens with the SHA-256 of its content.

A damaged plan must never reach TensorRT, which trusts it: what does not match its hash is built anew. A disk that
refuses costs the next start its time, nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from pathlib import Path

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
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as f:
                try:
                    f.write(hashlib.sha256(content).digest() + content)
                    f.flush()
                    os.fsync(f.fileno())
                    Path(f.name).rename(self._folder / name)
                except OSError:
                    Path(f.name).unlink(missing_ok=True)
                    raise
        except OSError as e:
            log.warning("%s cannot be kept (%s): the next start builds it again", self._folder / name, e.strerror)
