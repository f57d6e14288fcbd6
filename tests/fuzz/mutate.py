"""Damage to bytes: bits, blocks, lengths, and words that parsers stumble over."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 2**63 - 1, 2**64 - 1)
WORDS = (
    b"nan", b"inf", b"-inf", b"1e999", b"-0.0", b"9" * 400, b"9" * 5000, b"null", b"true", b"{}", b"[]", b'""', b"\0",
    b"[" * 1200, b'{"a":' * 1200, b"\xff\xfe", b"\xed\xa0\x80", b"../../etc/passwd", b"__class__", b"-1", b"0x1", b"\n",
    b"'", b'"', b"=", b"[source]", b"1979-05-27T07:32:00Z", b"\\ud800", b" " * 300,
)  # fmt: skip


def mutated(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """One to six changes, most of them small."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        n = len(out)
        i = rng.randrange(n + 1)
        match rng.randrange(11):
            case 0 | 1 if n:
                out[i % n] ^= 1 << rng.randrange(8)
            case 2 if n:
                out[i % n] = rng.randrange(256)
            case 3:
                del out[i : i + rng.choice((1, 1, 2, 4, 8, 64, n // 2 + 1))]
            case 4:
                out[i:i] = rng.randbytes(rng.choice((1, 1, 2, 4, 8, 64)))
            case 5:
                out[i:i] = out[rng.randrange(n + 1) :][: rng.choice((1, 4, 16, 256))]
            case 6:
                width = rng.choice("BHIQ")
                top = 256 ** struct.calcsize(width)
                raw = struct.pack(rng.choice("<>") + width, rng.choice(NUMBERS) % top)
                out[i : i + len(raw)] = raw
            case 7 | 8:
                word = rng.choice(WORDS)
                out[i : i + rng.choice((0, len(word)))] = word
            case 9 if others:
                other = rng.choice(others)
                out[i:] = other[rng.randrange(len(other) + 1) :]
            case _:
                out = out[:i]
    return bytes(out)
