"""One record in a journal file, and how to find the good ones in a file that is not.

::

    file:   "TONALDJ1"  entry  entry  …
    entry:  magic 4 | payload bytes u32 | journal_seq u64 | UTC ns i64 | CRC-32 u32 | payload
    payload: frames u16 | length of each u32 | the frames, one after the other

Little-endian; the CRC covers the head after the magic, up to itself, and the payload. A file that was cut short or has
gone bad still gives every entry that is whole: reading goes on at the next magic whose entry passes its CRC.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["FILE_HEAD", "MAGIC", "MAX_PAYLOAD", "Entry", "entries_of", "pack", "unpack_at"]

FILE_HEAD = b"TONALDJ1"
MAGIC = b"\xa5TJ1"
HEAD = struct.Struct("<4sIQqI")
COVERED = struct.Struct("<IQq")
MAX_PAYLOAD = 64 << 20
"""Bytes; what claims to be longer is no entry."""
MAX_FRAMES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One journalled message."""

    seq: int
    """Its ``journal_seq``."""
    t_ns: int
    """When it was written, UTC."""
    frames: tuple[bytes, ...]
    """As published, topic first, sequence number last."""


def pack(entry: Entry) -> bytes:
    """As it stands in the file.

    Raises
    ------
    ValueError
        If it has too many frames or bytes.
    """
    frames = entry.frames
    payload = b"".join(
        [struct.pack("<H", len(frames)), *(struct.pack("<I", len(f)) for f in frames), *frames]
    )  # fmt: skip
    if not 0 < len(frames) <= MAX_FRAMES or len(payload) > MAX_PAYLOAD:
        raise ValueError(f"{len(frames)} frames of {len(payload)} bytes do not fit into a journal entry")
    covered = COVERED.pack(len(payload), entry.seq, entry.t_ns)
    return MAGIC + covered + struct.pack("<I", zlib.crc32(payload, zlib.crc32(covered))) + payload


def unpack_at(data: bytes | memoryview, at: int) -> tuple[Entry, int] | None:
    """The entry that begins at ``at`` and where it ends; None if none does, or it is not whole."""
    if at + HEAD.size > len(data):
        return None
    magic, n, seq, t_ns, crc = HEAD.unpack_from(data, at)
    end = at + HEAD.size + n
    if magic != MAGIC or n > MAX_PAYLOAD or end > len(data):
        return None
    payload = bytes(data[at + HEAD.size : end])
    if zlib.crc32(payload, zlib.crc32(COVERED.pack(n, seq, t_ns))) != crc:
        return None
    frames = _frames(payload)
    return None if frames is None else (Entry(seq, t_ns, frames), end)


def _frames(payload: bytes) -> tuple[bytes, ...] | None:
    if len(payload) < 2:
        return None
    (n,) = struct.unpack_from("<H", payload)
    if not 0 < n <= MAX_FRAMES or len(payload) < 2 + 4 * n:
        return None
    lengths: Sequence[int] = struct.unpack_from(f"<{n}I", payload, 2)
    at, out = 2 + 4 * n, []
    if at + sum(lengths) != len(payload):
        return None
    for length in lengths:
        out.append(payload[at : at + length])
        at += length
    return tuple(out)


def entries_of(data: bytes | memoryview, start: int = len(FILE_HEAD)) -> Iterator[tuple[int, Entry, int]]:
    """Every whole entry from ``start`` on: where it begins, the entry, where it ends; the rest is passed over."""
    raw = data if isinstance(data, bytes) else bytes(data)
    at = start
    while 0 <= at < len(raw):
        found = unpack_at(raw, at)
        if found is None:
            at = raw.find(MAGIC, at + 1)
            continue
        entry, end = found
        yield at, entry, end
        at = end
