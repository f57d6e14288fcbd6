"""What the parent asks of the capture process and what it answers: one line of JSON each way."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

__all__ = ["Ready", "Refusal", "Request", "parse_answer"]


@dataclass(frozen=True, slots=True)
class Request:
    """What to capture."""

    device: str
    """Pattern, see ``daemon.capture.devices.choose``."""
    fs: int = 0
    """Hz; 0: the device's default."""
    channels: tuple[int, ...] | None = None
    """Inputs to take, from 0, in this order; None: all."""
    latency_s: float = 0.5
    """Asked of the card: below 0.5 s ALSA loses samples when the machine is busy for 300 ms."""
    ring_s: float = 10.0
    """How long the reader may be away before it is lapped."""
    pace: float = 0.0
    """For a device without a clock (the ALSA ``file`` plugin): hold it back to this many times its rate; 0: never."""
    was: str = ""
    """Identity of the device in use before: no other is taken; empty: this is the first time."""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Inverse of ``to_json``."""
        fields = json.loads(text)
        channels = fields.pop("channels")
        return cls(**fields, channels=None if channels is None else tuple(channels))


@dataclass(frozen=True, slots=True)
class Ready:
    """The stream runs."""

    device: str
    """Name and host API."""
    fs: int
    columns: tuple[int, ...]
    latency_s: float
    """Between sound and block, as PortAudio says, at most 1 s."""
    nice: int = 0
    """Of the capture process; below 0 it comes before the rest of the machine."""
    identity: str = ""
    """To recognise the device by when it comes again."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The stream cannot run."""

    detail: str
    absent: bool = False
    """The device is not there now; it may come."""


def parse_answer(line: str) -> Ready | Refusal:
    """Answer of the child, from one line of JSON."""
    fields = json.loads(line)
    if "detail" in fields:
        return Refusal(**fields)
    return Ready(**{**fields, "columns": tuple(fields["columns"])})
