"""Records in a file: the frames of each message as they came, or the lines of ``tonald listen --json``.

A file of frames opens with the line ``tonald records 1``; each message is its number of frames (4 bytes,
little-endian), then per frame its length (the same) and the frame; the last frame is the sequence number. So a saved
message is byte by byte what was sent, arrays included. Lines of JSON hold all but the content of arrays.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from daemon.wire import MAX_ARRAY, MAX_ARRAYS, Message, decode
from daemon.wire_schema import COMMON, FAMILIES, check
from models.errors import InputError, WireError

__all__ = ["MAGIC", "RecordFile", "read_records"]

MAGIC = b"tonald records 1\n"
_LENGTH = struct.Struct("<I")
MAX_LINE = 4 << 20


class RecordFile:
    """Writes messages to a new file; use with ``with``.

    Raises
    ------
    InputError
        If the file exists, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file: BinaryIO = path.open("xb")
        except FileExistsError:
            raise InputError(f"{path} exists: records are not written over others; give another name") from None
        except OSError as e:
            raise InputError(f"{path}: cannot be written: {e.strerror or e}") from e
        self._write(MAGIC)

    def add(self, frames: Sequence[bytes]) -> None:
        """Append one message, all frames, the sequence number last; it is handed to the system at once."""
        parts = [_LENGTH.pack(len(frames))]
        for frame in frames:
            parts += [_LENGTH.pack(len(frame)), frame]
        self._write(b"".join(parts))

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as e:
            raise InputError(f"{self._path}: cannot be written: {e.strerror or e}") from e

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        self._file.close()


def read_records(path: Path) -> Iterator[Message]:
    """Messages of a file of either kind, in their order; those of lines of JSON have no arrays.

    Raises
    ------
    InputError
        If the file cannot be read.
    WireError
        If it is neither kind, or a message does not keep to the contract; its number is named.
    """
    try:
        with path.open("rb") as file:
            opening = file.read(len(MAGIC))
            if opening == MAGIC:
                yield from _frames(file, path)
            elif opening.lstrip()[:1] == b"{":
                file.seek(0)
                yield from _lines(file, path)
            else:
                raise WireError(
                    f"{path}: holds no records: give a file of 'tonald listen --save FILE' or of 'tonald listen --json'"
                )
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror or e}") from e


def _frames(file: BinaryIO, path: Path) -> Iterator[Message]:
    n = 0
    while head := file.read(_LENGTH.size):
        n += 1
        where = f"{path}: record {n}"
        n_frames = _number(head, where)
        if not 3 <= n_frames <= MAX_ARRAYS + 3:
            raise WireError(f"{where} says it has {n_frames} frames: the file is damaged")
        frames = []
        for _ in range(n_frames):
            size = _number(file.read(_LENGTH.size), where)
            if size > MAX_ARRAY:
                raise WireError(f"{where} has a frame of {size} bytes: the file is damaged")
            frame = file.read(size)
            if len(frame) != size:
                raise WireError(f"{where} is cut off")
            frames.append(frame)
        try:
            yield decode(frames)[0]
        except WireError as e:
            raise WireError(f"{where}: {e}") from e


def _number(data: bytes, where: str) -> int:
    if len(data) != _LENGTH.size:
        raise WireError(f"{where} is cut off")
    return int(_LENGTH.unpack(data)[0])


def _lines(file: BinaryIO, path: Path) -> Iterator[Message]:
    n = 0
    while line := file.readline(MAX_LINE):
        n += 1
        where = f"{path}: line {n}"
        if not line.strip():
            continue
        try:
            body: Any = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise WireError(f"{where} is no JSON: {e}") from e
        topic = body.pop("topic", None) if isinstance(body, dict) else None
        if not isinstance(topic, str):
            raise WireError(f"{where} is no record: it has no topic")
        check(COMMON, body, where)
        check(FAMILIES.get(topic.partition("/")[0], {}), body, where)
        del body["arrays"]  # their content is not in the line
        yield Message(topic, body)
