"""Boxes as they lie in one recording: shifted to its first sample, cut to its length."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from daemon.export.selections import Stream
from daemon.recording import Recording
from models.errors import InputError, UsageError

__all__ = ["Placed", "place"]


@dataclasses.dataclass(frozen=True, slots=True)
class Placed:
    """A stream's boxes in a recording."""

    stream: Stream
    """Its selections count from the recording's first sample."""
    n_left_out: int
    """Boxes that lie outside it."""
    first_sample: int | None
    """Of the recording, in the stream."""


def place(streams: list[Stream], path: Path) -> Placed:
    """Find the stream that the recording is of, and where it begins in it.

    By the daemon's own side-car; else by name; else the one stream there is. The recording is taken to begin where the
    stream does, unless side-car or times say otherwise.

    Raises
    ------
    InputError, AudioFormatError
        If the recording cannot be read, has another rate, or holds none of the boxes.
    UsageError
        If it cannot be told which stream it is of.
    """
    with Recording(path) as recording:
        take, start, fs, n = recording.take, recording.start, recording.fs, recording.n_samples
    by_car = [s for s in streams if take is not None and (s.publisher, s.epoch) == (take.stamp.stream, take.epoch)]
    by_name = [s for s in streams if Path(s.name).name == path.name]
    found = by_car or by_name or streams
    if len(found) != 1:
        names = ", ".join(s.name for s in found[:5])
        raise UsageError(f"{path}: of which of {len(found)} streams is it ({names}, ...)? give records of one stream")
    stream = found[0]
    if stream.fs != fs:
        raise InputError(f"{path}: has {fs} Hz, the records are of {stream.fs} Hz: this is another recording")
    shift = take.first_sample if by_car and take is not None else 0
    known = next((s for s in stream.selections if s.utc_ns is not None), None)
    if not by_car and not by_name and start is not None and known is not None and known.utc_ns is not None:
        shift = round(known.begin - (known.utc_ns - start.t_ns) * fs / 1e9)
    kept = [
        dataclasses.replace(s, begin=max(0.0, s.begin - shift), n_samples=_inside(s.begin - shift, s.n_samples, n))
        for s in stream.selections
        if s.begin - shift < n and s.begin - shift + s.n_samples > 0
    ]
    if not kept:
        raise InputError(f"{path}: none of the {len(stream.selections)} boxes lies in it: it is of another time")
    return Placed(dataclasses.replace(stream, selections=kept), len(stream.selections) - len(kept), shift)


def _inside(begin: float, n_samples: float, n: int) -> float:
    return min(begin + n_samples, n) - max(0.0, begin)
