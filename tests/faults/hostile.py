"""What hostile or broken peers put into a socket: garbage, mutated ZMTP, frames that claim a gigabyte, floods."""

from __future__ import annotations

import contextlib
import random
import socket
import struct

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)
CURVE = GREETING[:12] + b"CURVE" + bytes(15) + b"\0" + bytes(31)


def command(name: bytes, body: bytes) -> bytes:
    """A ZMTP command frame."""
    text = bytes([len(name)]) + name + body
    return b"\x04" + bytes([len(text)]) + text if len(text) < 256 else b"\x06" + struct.pack(">Q", len(text)) + text


def ready(kind: bytes) -> bytes:
    return command(b"READY", b"\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, put in, taken out."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        i = rng.randrange(len(out) + 1)
        match rng.randrange(4):
            case 0 if out:
                out[i % len(out)] = rng.randrange(256)
            case 1:
                out[i:i] = rng.randbytes(rng.randint(1, 20))
            case 2:
                del out[i : i + rng.randint(1, 10)]
            case _:
                out[i:i] = b"\xff" * rng.randint(1, 9)
    return bytes(out)


def zmtp(rng: random.Random) -> bytes:
    """A malformed opening of a conversation."""
    kinds = [b"SUB", b"XSUB", b"DEALER", b"REQ", b"PUB", b"???", b"A" * 300]
    match rng.randrange(8):
        case 0:
            return mutated(rng, GREETING)
        case 1:
            return GREETING + rng.randbytes(rng.randint(1, 300))
        case 2:
            return GREETING + mutated(rng, ready(rng.choice(kinds)))
        case 3:
            return GREETING + ready(b"SUB") + mutated(rng, b"\x00\x05\x01sig2") + rng.randbytes(rng.randint(0, 100))
        case 4:
            size = rng.choice([2**63, 2**64 - 1, 2**31, 2**40, 70_000])
            return GREETING + ready(b"DEALER") + bytes([2 | rng.randrange(256)]) + struct.pack(">Q", size) + bytes(50)
        case 5:
            return CURVE + mutated(rng, command(b"HELLO", rng.randbytes(194)))
        case 6:
            body = b"".join(command(b"SUBSCRIBE", rng.randbytes(rng.randint(0, 60))) for _ in range(20))
            return GREETING + ready(b"SUB") + body
        case _:
            return b"\x01\x00" * rng.randint(1, 40) + rng.randbytes(20)


def garbage(rng: random.Random) -> bytes:
    """Random bytes."""
    return rng.randbytes(rng.randint(0, 400))


def throw(address: tuple[str, int] | str, data: bytes, rng: random.Random) -> socket.socket | None:
    """Connect, send in pieces, go away in one of three ways; the socket, if it is to stay half open."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(2)
    with contextlib.suppress(OSError):  # it may hang up on us: that is its good right
        s.connect(address)
        i = 0
        while i < len(data):
            n = rng.randint(1, len(data))
            s.sendall(data[i : i + n])
            i += n
        if rng.random() < 0.05:
            return s
        if family == socket.AF_INET and rng.random() < 0.3:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
    return None


def throw_many(addresses: list[tuple[str, int] | str], n: int, make, seed: int) -> int:  # noqa: ANN001
    """``n`` such connections to each; the number made."""
    rng = random.Random(seed)
    held: list[socket.socket] = []
    for i in range(n * len(addresses)):
        kept = throw(addresses[i % len(addresses)], make(rng), rng)
        if kept is not None:
            held.append(kept)
        if len(held) > 100:
            held.pop(0).close()
    for s in held:
        s.close()
    return n * len(addresses)
