"""From files of the ring to a folder of its own: the span wanted, joined where it is whole, never over a gap."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from daemon.forensic.store import Segment
from daemon.frames import AudioBlock, ClockUpdate, Gap, StreamStart
from daemon.takes.side_car import utc_text
from daemon.takes.take_writer import TakeWriter

__all__ = ["Freeze", "Frozen", "write_frozen"]

PIECE = 1 << 16
LONGEST_S = 7200.0


@dataclass(slots=True)
class Freeze:
    """A span that is wanted."""

    source: str
    stream: str
    epoch: int
    first: int
    """First sample wanted."""
    end: int
    """Sample after the last one wanted."""
    fs: int
    why: list[str] = field(default_factory=list)
    """E.g. ids of contacts, words of whoever commanded."""

    def takes_in(self, other: Freeze) -> bool:
        """Extend by another that touches it; False if it does not, or both would be too long."""
        same = (self.source, self.stream, self.epoch) == (other.source, other.stream, other.epoch)
        first, end = min(self.first, other.first), max(self.end, other.end)
        touch = other.first <= self.end and self.first <= other.end
        if not same or not touch or end - first > LONGEST_S * self.fs:
            return False
        self.first, self.end = first, end
        self.why += [w for w in other.why if w not in self.why]
        return True


@dataclass(frozen=True, slots=True)
class Frozen:
    """What there is now."""

    folder: Path
    n_files: int
    first_sample: int
    n_samples: int
    """From the first to the last, holes included."""
    n_missing: int
    """Of the samples wanted, those that the ring did not have."""
    t_first_sample_ns: int | None


def write_frozen(freeze: Freeze, segments: Sequence[Segment], into: Path) -> Frozen:
    """Write the part of ``segments`` that is wanted.

    Parameters
    ----------
    freeze : Freeze
    segments : sequence of Segment
        At least one; in order, all of the stream.
    into : Path
        A folder for it is made there.

    Raises
    ------
    InputError
        If the disk does not take it, or a file of the ring is damaged.
    OSError
        If the folder cannot be made.
    """
    head = segments[0].take
    first = max(freeze.first, head.first_sample)
    t_ns = None if head.t_first_sample_ns is None else (
        head.t_first_sample_ns + (first - head.first_sample) * 1_000_000_000 // head.fs
    )  # fmt: skip
    name = f"{utc_text(t_ns, compact=True) or 'notime'}_{head.stamp.stream[:8]}_e{freeze.epoch}_s{first:012d}"
    n, folder = 1, into / name
    while folder.exists():
        n, folder = n + 1, into / f"{name}-{n + 1}"
    folder.mkdir(mode=0o700)
    wanted = {"why": freeze.why, "first_sample": freeze.first, "n_samples": freeze.end - freeze.first}
    writer = TakeWriter(folder, head.stamp, file_s=LONGEST_S, sync=True, extra={"frozen": wanted})
    writer.process(
        StreamStart(head.source, head.epoch, head.fs, head.channels, head.label, None, dataclasses.replace(head.clock))
    )
    writer.start_at(first, "first sample wanted" if first == freeze.first else head.began)
    position = first
    for segment in segments:
        position = _copy(segment, writer, position, min(segment.end, freeze.end))
    writer.close("end of what was wanted")
    takes = [take for _, take in writer.done]
    n_kept = sum(t.n_samples for t in takes)
    end = takes[-1].first_sample + takes[-1].n_samples
    return Frozen(
        folder, len(takes), takes[0].first_sample, end - takes[0].first_sample, freeze.end - freeze.first - n_kept,
        takes[0].t_first_sample_ns,
    )  # fmt: skip


def _copy(segment: Segment, writer: TakeWriter, position: int, end: int) -> int:
    """Hand a file's samples from ``position`` to ``end`` on; return the next sample wanted."""
    import soundfile

    take = segment.take
    begin = max(position, take.first_sample)
    if begin >= end:
        return position
    if begin > position:
        reason = take.began.removeprefix("gap: ")
        writer.process(Gap(take.source, take.epoch, position, begin - position, 0, 0, reason))
    writer.process(ClockUpdate(take.source, take.epoch, take.first_sample, take.t_first_sample_ns, take.clock))
    with soundfile.SoundFile(segment.path) as audio:
        audio.seek(begin - take.first_sample)
        while begin < end:
            frames = audio.read(min(PIECE, end - begin), dtype="float32", always_2d=True)
            if not len(frames):
                break
            writer.process(AudioBlock(take.source, take.epoch, begin, take.fs, np.ascontiguousarray(frames.T)))
            begin += len(frames)
    return begin
