"""What stands beside a file of captured sound: ``NAME.json`` beside ``NAME.flac``.

``first_sample`` and ``epoch`` count as in the records of the run named ``stream``, so a record is found in the file
without a search; ``t_first_sample_ns`` is where `daemon.sources.file_time` looks for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from daemon.frames import ClockState
from models.errors import InputError

__all__ = ["SCHEMA", "Stamp", "Take", "read_take", "sha256_of", "side_car_of", "utc_text"]

SCHEMA = "tonald/take"
VERSION = 1
_DERIVED = ("schema", "v", "utc_first_sample")


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who captured: the same in every file of a run."""

    node: str
    stream: str
    """Of a daemon its ``publisher`` id; new at each start."""
    version: str
    """Of tonald."""
    bundle: str | None = None
    calibration_id: str | None = None
    """Site calibration in force."""
    hydrophones: tuple[dict[str, Any], ...] = ()
    """Numbers of the measuring chains in force (`calibration.hydrophone.Hydrophone.numbers`); none: not calibrated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One file: consecutive samples of all channels of one epoch."""

    stamp: Stamp
    source: str
    label: str
    epoch: int
    first_sample: int
    n_samples: int
    fs: int
    """Hz."""
    channels: tuple[str, ...]
    """One per column."""
    t_first_sample_ns: int | None
    clock: ClockState
    began: str
    """Why the file begins where it does."""
    n_missing_before: int | None
    """Samples between the file before and this one; None: not known, another epoch, or none before."""
    ended: str
    """Why it ends where it does."""
    samples_digest: str
    """BLAKE2b of the samples, float32 little-endian, channels interleaved: the same whatever the format."""
    sha256: str
    """Of the audio file."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Whatever else is known, e.g. why it was frozen."""

    def same_stream(self, other: Take) -> bool:
        """Whether both count their samples from the same moment."""
        return (self.stamp.stream, self.source, self.epoch) == (other.stamp.stream, other.source, other.epoch)

    def to_json(self) -> str:
        """Content of the side-car."""
        body: dict[str, Any] = {"schema": SCHEMA, "v": VERSION}
        body |= {"utc_first_sample": utc_text(self.t_first_sample_ns)}
        body |= {k: v for k, v in dataclasses.asdict(self).items() if k not in ("stamp", "extra")}
        body |= dataclasses.asdict(self.stamp)
        return json.dumps({**body, **self.extra}, indent=1) + "\n"

    def write(self, audio: Path, *, sync: bool) -> None:
        """Write it beside ``audio``, whole or not at all.

        Raises
        ------
        OSError
        """
        path = side_car_of(audio)
        part = path.with_name(path.name + ".part")
        with part.open("w", encoding="utf-8") as file:
            file.write(self.to_json())
            if sync:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)


def read_take(audio: Path) -> Take | None:
    """What the side-car of ``audio`` says; None if there is none, or it is of another kind.

    Raises
    ------
    InputError
        If it cannot be read, or is damaged.
    """
    path = side_car_of(audio)
    if path == audio or not path.is_file():
        return None
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f"{path}: side-car of {audio.name} cannot be read: {e}") from e
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        return None
    stamp = {f.name for f in dataclasses.fields(Stamp)}
    names = {f.name for f in dataclasses.fields(Take)} - {"stamp", "extra"}
    try:
        values: dict[str, Any] = {name: body.pop(name) for name in names}
        values["channels"] = tuple(values["channels"])
        values["clock"] = ClockState(**values["clock"])
        hydrophones = tuple(body.pop("hydrophones", ()))  # those of before had none
        known = Stamp(**{name: body.pop(name) for name in stamp - {"hydrophones"}}, hydrophones=hydrophones)
        if not all(isinstance(values[k], int) for k in ("epoch", "first_sample", "n_samples", "fs")):
            raise TypeError("epoch, first_sample, n_samples and fs are whole numbers")
    except (KeyError, TypeError) as e:
        raise InputError(f"{path}: side-car of {audio.name} is damaged: {e}") from e
    return Take(stamp=known, extra={k: v for k, v in body.items() if k not in _DERIVED}, **values)


def side_car_of(audio: Path) -> Path:
    """``NAME.json``."""
    return audio.with_suffix(".json")


def sha256_of(path: Path) -> str:
    """Of a file's bytes, hex."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def utc_text(t_ns: int | None, *, compact: bool = False) -> str | None:
    """``2026-11-23T17:45:00.123456Z``, or with ``compact`` as in file names, ``20261123T174500.123456Z``."""
    if t_ns is None:
        return None
    t = datetime.fromtimestamp(t_ns // 1_000_000_000, tz=timezone.utc)
    return t.strftime("%Y%m%dT%H%M%S" if compact else "%Y-%m-%dT%H:%M:%S") + f".{t_ns % 1_000_000_000 // 1000:06d}Z"
