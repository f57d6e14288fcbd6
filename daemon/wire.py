"""Messages as bytes: ``[topic, msgpack map, array frames…, sequence number]`` (docs/wire/README.md).

``encode`` gives all frames but the last, which the publisher adds; ``decode`` takes them all. Arrays are described in
the map and travel as little-endian bytes in frames of their own. Nothing here can run code from the wire: no pickle, no
extension types, element types from a list.
"""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from daemon.frames import ClockState
from daemon.wire_schema import COMMON, DTYPES, FAMILIES, VERSION, check
from models.errors import WireError

__all__ = [
    "JOURNALLED", "Identity", "Message", "common", "decode", "encode", "numbered", "sequence_frame", "topic_of",
]  # fmt: skip

Array = npt.NDArray[Any]

JOURNALLED = ("signature", "gap")
"""Families whose records carry a ``journal_seq`` and are kept for replay."""
MAX_TOPIC = 255
MAX_PART = 64
MAX_BODY = 1 << 20
MAX_ARRAY = 16 << 20
MAX_AXES = 4
MAX_ARRAYS = 16
_SEQUENCE = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks: the same in every record of one run."""

    node: str
    publisher: str
    bundle: str | None
    calibration_id: str | None = None
    test: bool = False

    @classmethod
    def new(cls, node: str, bundle: str | None) -> Identity:
        """Identity of a run that starts now, with a publisher id never used before."""
        return cls(node, uuid.uuid4().hex, bundle)


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One record on its way: ``body`` holds strings, numbers, maps and lists; arrays travel beside it."""

    topic: str
    body: Mapping[str, Any]
    arrays: tuple[tuple[str, Array], ...] = ()

    @property
    def family(self) -> str:
        """The part of the topic before the first ``/``: window, signature, …."""
        return self.topic.partition("/")[0]


def topic_of(family: str, *parts: str) -> str:
    """Topic that ends in ``/``, so that a prefix filter for ``ch1`` does not match ``ch10``.

    Raises
    ------
    WireError
        If a part is empty, longer than 64 characters, or holds ``/`` or a control character.
    """
    for part in parts:
        if not _is_part(part):
            raise WireError(f"{part!r} cannot be part of a topic: 1 to {MAX_PART} printable characters without '/'")
    return "/".join((family, *parts, ""))


def _is_part(part: str) -> bool:
    return 0 < len(part) <= MAX_PART and part.isprintable() and "/" not in part


def common(
    identity: Identity,
    family: str,
    *,
    epoch: int | None = None,
    first_sample: int | None = None,
    n_samples: int | None = None,
    t_first_sample_ns: int | None = None,
    audio_digest: str | None = None,
    lost_samples: int | None = None,
    clock: ClockState | None = None,
) -> dict[str, Any]:
    """Fields that every record holds; what does not apply is null."""
    return {
        "schema": f"tonald/{family}",
        "v": VERSION,
        "node": identity.node,
        "publisher": identity.publisher,
        "bundle": identity.bundle,
        "calibration_id": identity.calibration_id,
        "test": identity.test,
        "epoch": epoch,
        "first_sample": first_sample,
        "n_samples": n_samples,
        "t_first_sample_ns": t_first_sample_ns,
        "audio_digest": audio_digest,
        "lost_samples": lost_samples,
        "clock": None if clock is None else {
            "source": clock.source,
            "synced": clock.synced,
            "est_error_ns": clock.est_error_ns,
            "fs_measured": clock.fs_measured,
            "rate_ppm": clock.rate_ppm,
            "rate_err_ppm": clock.rate_err_ppm,
            "n_steps": clock.n_steps,
        },
    }  # fmt: skip


def encode(message: Message) -> list[bytes]:
    """Frames of a message, without the sequence number.

    Raises
    ------
    WireError
        If an array is of a type that may not cross the wire, or the map holds anything but plain values.
    """
    described, frames = [], []
    for name, array in message.arrays:
        little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        if little.dtype.str not in DTYPES or little.ndim > MAX_AXES:
            raise WireError(f"{message.topic}: array '{name}' of {array.dtype}, {array.ndim} axes, cannot be sent")
        described.append({"name": name, "dtype": little.dtype.str, "shape": list(little.shape)})
        frames.append(little.tobytes())
    try:
        body = msgpack.packb({**message.body, "arrays": described}, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as e:
        raise WireError(f"{message.topic}: the map cannot be packed: {e}") from e
    return [message.topic.encode(), body, *frames]


_NOT_NUMBERED = msgpack.packb("journal_seq") + msgpack.packb(None)


def numbered(frames: Sequence[bytes], journal_seq: int) -> list[bytes]:
    """Frames of an encoded record with its number in the journal in place of null.

    Raises
    ------
    WireError
        If the record has no ``journal_seq`` that is null.
    """
    if frames[1].count(_NOT_NUMBERED) != 1:
        raise WireError(f"{frames[0]!r} has no place for a journal_seq")
    number = _NOT_NUMBERED[:-1] + msgpack.packb(journal_seq)
    return [frames[0], frames[1].replace(_NOT_NUMBERED, number), *frames[2:]]


def sequence_frame(sequence: int) -> bytes:
    """Last frame: the sequence number of the topic, 8 bytes, little-endian."""
    return _SEQUENCE.pack(sequence)


def decode(frames: Sequence[bytes]) -> tuple[Message, int]:
    """Message and sequence number from all frames; unknown fields and families are kept as they are.

    Raises
    ------
    WireError
        If the frames do not keep to the contract; the message names the topic and the field.
    """
    if not 3 <= len(frames) <= MAX_ARRAYS + 3:
        raise WireError(f"{len(frames)} frames: a message has topic, map, arrays if any, and sequence number")
    topic = _topic(frames[0])
    if len(frames[-1]) != _SEQUENCE.size:
        raise WireError(f"{topic}: sequence number of {len(frames[-1])} bytes, not {_SEQUENCE.size}")
    body = _map(topic, frames[1])
    version, family = body.get("v"), topic.partition("/")[0]
    if version != VERSION or isinstance(version, bool):
        raise WireError(f"{topic}: contract version {version!r}; this reader knows {VERSION}: update it")
    check(COMMON, body, topic)
    if body["schema"] != f"tonald/{family}":
        raise WireError(f"{topic}: schema {body['schema']!r} does not belong to the topic")
    check(FAMILIES.get(family, {}), body, topic)
    arrays = _arrays(topic, body.pop("arrays"), frames[2:-1])
    return Message(topic, body, arrays), int(_SEQUENCE.unpack(frames[-1])[0])


def _topic(frame: bytes) -> str:
    try:
        topic = bytes(frame[: MAX_TOPIC + 1]).decode()
    except UnicodeDecodeError:
        raise WireError("topic is not UTF-8") from None
    if len(frame) > MAX_TOPIC or not topic.endswith("/") or not all(map(_is_part, topic[:-1].split("/"))):
        raise WireError(f"topic {topic[:40]!r} is not parts that each end in '/'")
    return topic


def _map(topic: str, frame: bytes) -> dict[str, Any]:
    if len(frame) > MAX_BODY:
        raise WireError(f"{topic}: map of {len(frame)} bytes exceeds {MAX_BODY}")
    try:
        body = msgpack.unpackb(frame, raw=False, strict_map_key=True, ext_hook=_no_extension)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as e:
        raise WireError(f"{topic}: second frame is not a msgpack map: {e}") from e
    if not isinstance(body, dict) or not all(isinstance(k, str) for k in body):
        raise WireError(f"{topic}: second frame is not a map with string keys")
    return body


def _no_extension(code: int, _data: bytes) -> object:
    raise ValueError(f"extension type {code} is not allowed")


def _arrays(topic: str, described: list[dict[str, Any]], frames: Sequence[bytes]) -> tuple[tuple[str, Array], ...]:
    if len(described) != len(frames):
        raise WireError(f"{topic}: {len(described)} arrays described, {len(frames)} frames sent")
    arrays = []
    for entry, frame in zip(described, frames, strict=True):
        name, dtype, shape = entry["name"], np.dtype(entry["dtype"]), entry["shape"]
        n_bytes = math.prod(shape) * dtype.itemsize
        if len(shape) > MAX_AXES or max((*shape, n_bytes)) > MAX_ARRAY or n_bytes != len(frame):
            raise WireError(f"{topic}: array '{name}' {dtype.str} {shape} does not fit its frame of {len(frame)} bytes")
        if dtype == np.bool_ and frame and max(frame) > 1:
            raise WireError(f"{topic}: array '{name}' holds bytes that are neither 0 nor 1")
        arrays.append((name, np.frombuffer(frame, dtype).reshape(shape)))
    return tuple(arrays)
