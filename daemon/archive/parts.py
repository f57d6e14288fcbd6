"""Parts of the tables: one Parquet file per recording and table, there as a whole or not at all.

What is written goes to ``DIR/unfinished`` first, is flushed to the disk, and is moved into its place when all is known.
The part of ``windows`` comes last: it is what makes a recording done. Its footer says under which settings and of which
state of the recording it was made, so each part explains itself and nothing else needs to be kept in step with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from daemon.archive.tables import TABLES
from models.errors import InputError

__all__ = ["UNFINISHED", "Parts", "about_part", "part_path", "remove_parts", "write_whole"]

UNFINISHED = "unfinished"
ROWS = 256
"""Rows of a row group; so many are held in memory."""
_ABOUT = b"tonald"


def part_path(out: Path, table: str, part: str) -> Path:
    """Where a recording's part of a table lies."""
    return out / table / f"{part}.parquet"


class Parts:
    """Writes the parts of one recording; leaving the context without `finish` leaves nothing behind.

    Raises
    ------
    InputError
        If folder or disk refuses.
    """

    def __init__(self, out: Path, part: str, schemas: Mapping[str, pa.Schema]) -> None:
        self._out, self._part, self._schemas = out, part, schemas
        self._unique = f"{part}.{uuid.uuid4().hex[:12]}"
        self._rows: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}
        self._writers: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> Parts:
        with _told(self._out):
            for table in TABLES:
                path = self._unfinished(table)
                self._writers[table] = pq.ParquetWriter(path, self._schemas[table], compression="zstd")
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for table, writer in self._writers.items():
            with contextlib.suppress(OSError, pa.ArrowException):  # a full disk was told already; the file goes anyway
                writer.close()
            self._unfinished(table).unlink(missing_ok=True)

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Append a row."""
        rows = self._rows[table]
        rows.append(row)
        if len(rows) >= ROWS:
            self._flush(table)

    def finish(self, about: Mapping[str, Any]) -> None:
        """Put all parts into their places; ``about`` goes into their footers."""
        with _told(self._out):
            for table, writer in self._writers.items():
                self._flush(table)
                writer.add_key_value_metadata({_ABOUT: json.dumps(about, sort_keys=True, allow_nan=False)})
                writer.close()
                _to_disk(self._unfinished(table))
            self._writers.clear()
            for table in reversed(TABLES):  # that of windows last, when the others are safe: it is what counts
                self._unfinished(table).replace(part_path(self._out, table, self._part))
                _to_disk(self._out / table)

    def _flush(self, table: str) -> None:
        rows, self._rows[table] = self._rows[table], []
        if rows:
            with _told(self._out):
                self._writers[table].write_table(pa.Table.from_pylist(rows, self._schemas[table]))

    def _unfinished(self, table: str) -> Path:
        return self._out / UNFINISHED / f"{self._unique}.{table}"


def about_part(out: Path, part: str) -> dict[str, Any] | None:
    """What the part of ``windows`` says of itself; None if there is none, or it is damaged."""
    try:
        metadata = pq.read_metadata(part_path(out, "windows", part)).metadata or {}
        about = json.loads(metadata[_ABOUT])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None  # not done, or not whole: it will be done again
    if not isinstance(about, dict):
        return None
    whole = all(part_path(out, table, part).exists() for table in TABLES)
    return about if whole else None


def remove_parts(out: Path, part: str) -> None:
    """Remove a recording's parts, that of ``windows`` first."""
    with _told(out):
        for table in TABLES:
            part_path(out, table, part).unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there as a whole or not at all.

    Raises
    ------
    InputError
        If folder or disk refuses.
    """
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.new")
    with _told(path):
        try:
            new.write_bytes(data)
            _to_disk(new)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:  # pyarrow raises it, too
        raise InputError(f"{path}: cannot be written: {e.strerror or e}") from e


def _to_disk(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
