"""Whether an audio file is as long as its own header says: libsndfile shortens a truncated file without a word."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

__all__ = ["truncation"]

_UNKNOWN = 0x7FFF_0000
"""A 32-bit size from here on is what recorders write that do not know it yet (arecord, ffmpeg, sox to a pipe)."""
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
_OGG_LAST_PAGE = 1 << 16
"""No Ogg page is longer than 65307 bytes."""


def truncation(path: Path) -> str:
    """What is missing at the file's end, one line for people; empty if it is whole or its format cannot tell.

    Known: WAV, RF64, W64 and AIFF (size of the audio chunk against size of the file), Ogg (end-of-stream page). FLAC
    shows truncation on reading; CAF refuses to open.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    n_file = path.stat().st_size
    with path.open("rb") as f:
        head = f.read(40)
        if head[:4] == b"OggS":
            return _ogg(f, n_file)
        if head[:16] == _W64_RIFF:
            n_announced = _w64_end(f, n_file)
        elif head[:4] in (b"RIFF", b"RF64"):
            n_announced = _chunks_end(f, n_file, "<", b"data", head)
        elif head[:4] == b"FORM":
            n_announced = _chunks_end(f, n_file, ">", b"SSND", head)
        else:
            return ""
    n_lost = n_announced - n_file
    return f"truncated: the header announces {n_lost} more bytes of audio than the file holds" if n_lost > 0 else ""


def _chunks_end(f: BinaryIO, n_file: int, order: str, wanted: bytes, head: bytes) -> int:
    """Byte after the audio chunk as announced; 0 if it is not announced."""
    at = 12
    while at + 8 <= n_file:
        f.seek(at)
        chunk = f.read(8)
        size = int(struct.unpack(order + "I", chunk[4:])[0])
        if chunk[:4] == wanted:
            if head[:4] == b"RF64" and size == 0xFFFF_FFFF and head[12:16] == b"ds64":
                return at + 8 + int(struct.unpack("<Q", head[28:36])[0])
            return 0 if size >= _UNKNOWN else at + 8 + size
        at += 8 + size + size % 2
    return 0


def _w64_end(f: BinaryIO, n_file: int) -> int:
    at = 40
    while at + 24 <= n_file:
        f.seek(at)
        chunk = f.read(24)
        size = int(struct.unpack("<Q", chunk[16:])[0])
        if chunk[:16] == _W64_DATA:
            return at + size
        if size < 24:
            return 0
        at += (size + 7) // 8 * 8
    return 0


def _ogg(f: BinaryIO, n_file: int) -> str:
    f.seek(max(0, n_file - _OGG_LAST_PAGE))
    tail = f.read()
    at = tail.rfind(b"OggS")
    page = tail[at:]
    if at >= 0 and len(page) >= 27 and len(page) >= 27 + page[26]:
        whole = len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
        if whole and page[5] & 4:
            return ""
    return "truncated: the last page does not end the stream"
