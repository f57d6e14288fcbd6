"""From the events of a source to files: a new one at each gap, epoch, step of the clock, and after so many samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from daemon.clock import StreamClock
from daemon.frames import AudioBlock, ClockState, ClockUpdate, Event, Gap, StreamEnd, StreamStart
from daemon.takes.side_car import Stamp, Take, sha256_of, utc_text
from daemon.takes.take_file import Encoding, TakeFile, encoding_for, exact_in_24_bits, most_samples
from models.errors import InputError

__all__ = ["TakeWriter"]


@dataclasses.dataclass(slots=True)
class _Open:
    """The file under way."""

    file: TakeFile
    first_sample: int
    t_first_sample_ns: int | None
    clock: ClockState
    began: str
    n_missing: int | None


class TakeWriter:
    """Writes all channels of one source into a folder; use with ``with``, or call ``close``.

    Parameters
    ----------
    folder : Path
        Is there.
    stamp : Stamp
    file_s : float
        Longest a file may be.
    encoding : str, optional
        ``wav``: floats always. None: FLAC where it is exact.
    sync : bool
        Whether each file is forced to the disk before it gets its name.
    extra : dict, optional
        Put into each side-car.
    """

    def __init__(
        self, folder: Path, stamp: Stamp, *, file_s: float, encoding: Encoding | None = None, sync: bool = True,
        extra: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._folder, self.stamp, self._file_s, self._wanted = folder, stamp, file_s, encoding
        self._sync, self._extra = sync, extra or {}
        self._start: StreamStart | None = None
        self._clock: StreamClock | None = None
        self._open: _Open | None = None
        self._encoding: Encoding = "flac"
        self._position = 0
        self._began, self._n_missing = "start", None  # type: str, int | None
        self.done: list[tuple[Path, Take]] = []
        """Files that are whole; the caller may take them out."""
        self.n_lost = 0
        """Samples per channel that no file took."""
        self.lost_from: int | None = None
        """First of them; the caller sets it back."""
        self._problem: InputError | None = None

    def __enter__(self) -> TakeWriter:
        return self

    def __exit__(self, kind: object, *_rest: object) -> None:
        self.close("stopped")

    def use(self, stamp: Stamp) -> None:
        """Another bundle or calibration is in force: what follows goes into another file.

        Raises
        ------
        InputError
            If the file under way cannot be finished.
        """
        if stamp != self.stamp:
            self.close("another bundle or calibration came into force")
            self.stamp = stamp

    def start_at(self, first_sample: int, why: str) -> None:
        """What comes before ``first_sample`` of the stream is not wanted."""
        self._position, self._began, self._n_missing = first_sample, why, None

    def process(self, event: Event) -> None:
        """Write what the event brings.

        Raises
        ------
        InputError
            If a file cannot be written; what was not written of this event is lost, and the next file says so.
        """
        self._problem = None
        match event:
            case StreamStart():
                self._finish("another stream began")
                self._start, self._clock = event, StreamClock(event)
                self._encoding = self._wanted or encoding_for(len(event.channels), event.fs)
                self._position, self._began, self._n_missing = 0, "start", None
            case AudioBlock() if self._start is not None and event.epoch == self._start.epoch:
                self._block(event)
            case Gap() if self._start is not None and event.n_missing is not None and event.channel is None:
                self._finish(f"gap: {event.reason}")
                self._position = event.first_sample + event.n_missing
                self._began, self._n_missing = f"gap: {event.reason}", event.n_missing + (self._n_missing or 0)
            case ClockUpdate() if self._clock is not None:
                if event.clock.n_steps != self._clock.state().n_steps:
                    self._finish("the system clock stepped")
                    self._began = "the system clock stepped"
                self._clock.put(event)
            case StreamEnd():
                self._finish("end of the stream")
                self._start = None
        if self._problem is not None:
            raise self._problem

    def _finish(self, why: str) -> None:
        """Close; what goes wrong is raised when the event is dealt with."""
        try:
            self.close(why)
        except InputError as e:
            self._problem = e

    def close(self, why: str) -> None:
        """Finish the file under way, if there is one.

        Raises
        ------
        InputError
            If it cannot be written; it is then removed.
        """
        opened, self._open = self._open, None
        start = self._start
        if opened is None or start is None:
            return
        try:
            digest = opened.file.close(sync=self._sync)
            take = Take(
                stamp=self.stamp, source=start.source, label=start.label, epoch=start.epoch,
                first_sample=opened.first_sample, n_samples=opened.file.n_samples, fs=start.fs, channels=start.channels,
                t_first_sample_ns=opened.t_first_sample_ns, clock=opened.clock, began=opened.began,
                n_missing_before=opened.n_missing, ended=why, samples_digest=digest,
                sha256=sha256_of(opened.file.part), extra=self._extra,
            )  # fmt: skip
            take.write(opened.file.path, sync=self._sync)
            opened.file.settle()
        except OSError as e:
            self._abandon(opened, "the disk did not take it")
            raise InputError(f"{opened.file.path}: cannot be written: {e.strerror or e}") from e
        except InputError:
            self._abandon(opened, "the disk did not take it")
            raise
        self.done.append((opened.file.path, take))
        self._began, self._n_missing = why, 0

    def _abandon(self, opened: _Open, why: str) -> None:
        n = opened.file.n_samples
        opened.file.discard()
        self._lose(opened.first_sample, n)
        self._began, self._n_missing = why, n + (opened.n_missing or 0)

    def _lose(self, first_sample: int, n: int) -> None:
        self.n_lost += n
        self.lost_from = first_sample if self.lost_from is None else min(self.lost_from, first_sample)

    def _block(self, block: AudioBlock) -> None:
        assert self._start is not None
        if block.first_sample != self._position:
            n = block.first_sample - self._position
            self._finish("samples were passed over")
            self._began, self._n_missing = "samples were passed over", n + (self._n_missing or 0)
            self._position = block.first_sample
        n_channels = len(self._start.channels)
        n_most = max(1, min(round(self._file_s * block.fs), most_samples(n_channels)))
        if self._encoding == "flac" and not exact_in_24_bits(block.x):
            self._finish("24 bits do not hold what follows")
            self._encoding = "wav"
        at = 0
        try:
            while at < block.n_samples:
                opened = self._open or self._begin(block.first_sample + at)
                n = min(block.n_samples - at, n_most - opened.file.n_samples)
                opened.file.write(block.x[:, at : at + n])
                at += n
                if opened.file.n_samples >= n_most:
                    self._finish("length")
        except InputError as e:  # no file could be begun, or written to
            self._problem = e
            opened_now, self._open = self._open, None
            if opened_now is not None:
                self._abandon(opened_now, "the disk did not take it")
            n = block.n_samples - at
            self._lose(block.first_sample + at, n)
            self._n_missing = n + (self._n_missing or 0)
        self._position = block.first_sample + block.n_samples

    def _begin(self, first_sample: int) -> _Open:
        start, clock = self._start, self._clock
        assert start is not None
        assert clock is not None
        t_ns = clock.utc_ns(start.epoch, first_sample)
        when = utc_text(t_ns, compact=True) or f"notime-{self.stamp.stream[:8]}"
        stem = f"{when}_{self.stamp.node}_e{start.epoch}_s{first_sample:012d}"
        path = self._folder / f"{stem}.{self._encoding}"
        n = 1
        while any(self._folder.glob(f"{stem}.*")):  # a clock set back, or a copy of the same recording
            n, stem = n + 1, f"{when}_{self.stamp.node}_e{start.epoch}_s{first_sample:012d}-{n + 1}"
            path = self._folder / f"{stem}.{self._encoding}"
        file = TakeFile(path, start.fs, len(start.channels))
        self._open = _Open(file, first_sample, t_ns, clock.state(first_sample), self._began, self._n_missing)
        self._began, self._n_missing = "", 0
        return self._open
