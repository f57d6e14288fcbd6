"""Recordings as a source: one file, several, or a folder; as fast as they are read, or in real time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from daemon.frames import AudioBlock, ClockState, Event, Gap, SourceState, StreamEnd, StreamStart
from daemon.sources.channels import pick
from daemon.sources.container import truncation
from daemon.sources.file_time import StartTime, time_of_first_sample
from daemon.takes.side_car import Take, read_take
from models.errors import AudioFormatError, InputError, TonaldError

__all__ = ["EXTENSIONS", "AudioFileSource", "audio_files"]

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".rf64", ".w64", ".caf"})
"""What is taken from a folder; a file that is named is opened whatever its suffix."""
_NS = 1_000_000_000
_MAX_FS = 10_000_000
"""Hz; the fastest recorders for hydrophones take 2 MHz."""


def audio_files(paths: Path | Iterable[Path]) -> list[Path]:
    """Files named, and the audio files below folders named, each folder sorted.

    Raises
    ------
    InputError
        If a path does not exist, or a folder holds no audio.
    """
    files: list[Path] = []
    for path in [paths] if isinstance(paths, Path) else paths:
        try:
            if not path.exists():
                raise InputError(f"{path}: no such file or folder")
            if not path.is_dir():
                files.append(path)
                continue
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
        except OSError as e:
            raise InputError(f"{path}: cannot be read: {e.strerror or e}") from e
        if not found:
            raise InputError(f"{path}: holds no audio file ({', '.join(sorted(EXTENSIONS))})")
        files += found
    if not files:
        raise InputError("no audio file is named")
    return files


@dataclass(slots=True)
class _Recording:
    """One open file."""

    path: Path
    audio: Any  # soundfile.SoundFile has no types
    fs: int
    columns: tuple[int, ...]
    names: tuple[str, ...]
    start: StartTime | None
    truncated: str
    n_read: int = 0
    problem: str = ""

    @classmethod
    def open(cls, path: Path, channels: Sequence[int] | None) -> _Recording:
        import soundfile

        try:
            path.open("rb").close()
            truncated = truncation(path)
            start = time_of_first_sample(path)
            audio = soundfile.SoundFile(path)
        except OSError as e:
            raise InputError(f"{path}: cannot be read: {e.strerror or e}") from e
        except soundfile.LibsndfileError as e:
            raise AudioFormatError(
                f"{path}: not audio, or damaged at its start ({e.error_string.strip(' .')}): "
                "WAV, FLAC, OGG, AIFF, RF64, W64 and CAF are read"
            ) from e
        try:
            if audio.samplerate > _MAX_FS:  # a block of such a rate would fill the memory
                raise AudioFormatError(f"{path}: its header says {audio.samplerate} Hz: damaged, or no sound in water")
            columns, names = pick(channels, audio.channels, str(path), AudioFormatError)
        except AudioFormatError:
            audio.close()
            raise
        return cls(path, audio, audio.samplerate, columns, names, start, truncated)

    def read(self, n: int) -> npt.NDArray[np.float32]:
        """Up to ``n`` samples ``(n_channels, n)`` of the columns wanted; empty at the end. Sets ``problem``."""
        import soundfile

        if self.problem:
            return np.empty((len(self.columns), 0), np.float32)
        x = np.empty((n, self.audio.channels), np.float32)
        try:
            n_got = len(self.audio.read(out=x))
        except soundfile.LibsndfileError as e:  # the decoder stopped within this block: keep what lies before
            n_got = max(0, self.audio.tell() - self.n_read)
            n_good, n_all = self.n_read + n_got, self.audio.frames
            what = e.error_string.removeprefix("Error :").strip(" .")
            self.problem = f"damaged or truncated after {n_good} of {n_all} samples ({what})"
        self.n_read += n_got
        if n_got == 0 and not self.problem:
            self.problem = self._shortfall()
        taken: npt.NDArray[np.float32] = np.ascontiguousarray(x[:n_got, self.columns].T)
        return taken

    def _shortfall(self) -> str:
        n_known = self.audio.frames
        if self.truncated:
            return f"{self.truncated}; {self.n_read} samples were read"
        if self.n_read < n_known < 1 << 62:  # libsndfile says 2^63 - 1 where it does not know
            return f"ends after {self.n_read} samples, its header announces {n_known}"
        return ""

    def close(self) -> None:
        self.audio.close()


class AudioFileSource:
    """Recordings; implements :class:`daemon.frames.Source`.

    Each file is an epoch of its own. With ``join`` all files are one epoch: their start times (side-car, or in their
    names, UTC) are put on the sample grid of the first, and what lies between them is a gap of so many samples; the
    gap's error is the last digit of that time, at least one sample. ``t_first_sample_ns`` is taken from the same
    places and is None where they say nothing.

    What a damaged or truncated file holds is given; its ``StreamEnd`` says what was wrong. Among several files, one
    that cannot be used is refused by a ``SourceState`` and the next is taken. Samples pass unchanged, NaN included.

    A reader that is slow is waited for: nothing is ever lost.

    Parameters
    ----------
    paths : Path or iterable of Path
        Files and folders; folders are searched through, in sorted order.
    name : str
        Of the source.
    realtime : bool
        Give each block when its samples would be over.
    channels : sequence of int, optional
        Which, from 0; None: all.
    join : bool
    block_s : float
        Length of a block.
    monotonic_ns, sleep : callable
        Clock, for tests.

    Raises
    ------
    InputError
        If a path is missing or unreadable, or a folder holds no audio.
    AudioFormatError
        If none of the files can be used; with ``join``, also if one cannot, or times are unknown or overlap.
    """

    live = False

    def __init__(
        self,
        paths: Path | Iterable[Path],
        *,
        name: str = "file",
        realtime: bool = False,
        channels: Sequence[int] | None = None,
        join: bool = False,
        block_s: float = 0.25,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._channels, self._realtime, self._join, self._block_s = channels, realtime, join, block_s
        self._monotonic_ns, self._sleep = monotonic_ns, sleep
        self._files = deque(audio_files(paths))
        self._n_files = len(self._files)
        self._events: deque[Event] = deque()
        self._problems: list[str] = []
        self._epoch = self._position = 0
        self._t0_ns = 0
        self._ended = False
        self._held: AudioBlock | None = None
        if join:
            self._join_starts = _join_plan(self._files, channels)
        refused: list[TonaldError] = []
        self._now = self._open_next(refused)
        if self._now is None:
            if self._n_files == 1:
                raise refused[0]
            raise AudioFormatError(f"none of {self._n_files} files can be used; the first: {refused[0]}")
        self._refuse(refused)
        self._start(self._now)

    def read(self, timeout_s: float) -> Event | None:
        """Next event; None only in real time, if its samples are not over within ``timeout_s``."""
        if self._ended:
            return None
        while not self._events and self._held is None and self._now is not None:
            self._advance(self._now)
        if self._events:
            event = self._events.popleft()
            self._ended = isinstance(event, StreamEnd) and event.final
            return event
        block = self._held
        if block is None or not self._wait_for(block.first_sample + block.n_samples, block.fs, timeout_s):
            return None
        self._held = None
        return block

    def backlog(self) -> None:
        """Nothing is lost here: what is not read waits."""

    def close(self) -> None:
        """Close the file under way; may be called twice."""
        self._ended = True
        if self._now is not None:
            self._now.close()
            self._now = None

    def _advance(self, now: _Recording) -> None:
        """Put the next block into ``_held``, or what ends this file and begins the next into ``_events``."""
        x = now.read(max(1, round(self._block_s * now.fs)))
        if x.shape[1]:
            x.setflags(write=False)
            self._held = AudioBlock(self.name, self._epoch, self._position, now.fs, x)
            self._position += x.shape[1]
            return
        now.close()
        refused: list[TonaldError] = []
        self._now = self._open_next(refused)
        if now.problem:
            self._problems.append(f"{now.path.name}: {now.problem}" if self._join else now.problem)
        if self._now is None:  # the last word is the end of the stream
            self._refuse(refused)
            self._events.append(self._end(final=True))
        elif self._join:
            self._bridge(now, self._now)
        else:
            self._events.append(self._end(final=False))
            self._refuse(refused)
            self._epoch += 1
            self._start(self._now)

    def _end(self, *, final: bool) -> StreamEnd:
        problem = "; ".join(self._problems)
        self._problems.clear()
        return StreamEnd(self.name, self._epoch, self._position, final, problem)

    def _open_next(self, refused: list[TonaldError]) -> _Recording | None:
        while self._files:
            opened = self._try(self._files.popleft())
            if isinstance(opened, _Recording):
                return opened
            refused.append(opened)
        return None

    def _try(self, path: Path) -> _Recording | TonaldError:
        try:
            return _Recording.open(path, self._channels)
        except TonaldError as e:
            if self._join:
                raise
            return e

    def _refuse(self, refused: list[TonaldError]) -> None:
        self._events.extend(SourceState(self.name, "refused", str(e)) for e in refused)

    def _start(self, now: _Recording) -> None:
        self._position = 0
        self._t0_ns = self._monotonic_ns()
        t_first_ns = None if now.start is None else now.start.t_ns
        known = now.start
        clock = ClockState("none") if known is None else ClockState("file", est_error_ns=known.resolution_ns)
        label = (
            now.path.name if not self._join or self._n_files == 1 else f"{now.path.name} and {len(self._files)} more"
        )
        self._events.append(StreamStart(self.name, self._epoch, now.fs, now.names, label, t_first_ns, clock))

    def _bridge(self, before: _Recording, after: _Recording) -> None:
        """Within a joined stream: the gap between two files, longer than announced if the first was cut short."""
        begins = self._join_starts[after.path]
        n_missing = begins - self._position
        if n_missing > 0:
            reason = f"{before.problem or 'nothing recorded'}: {before.path.name} to {after.path.name}"
            assert after.start is not None  # or the plan had been refused
            duration_ns, err_ns = n_missing * _NS // after.fs, max(_NS // after.fs, after.start.resolution_ns)
            self._events.append(Gap(self.name, self._epoch, self._position, n_missing, duration_ns, err_ns, reason))
            self._position = begins

    def _wait_for(self, end_sample: int, fs: int, timeout_s: float) -> bool:
        if not self._realtime:
            return True
        left_s = (self._t0_ns + end_sample * _NS // fs - self._monotonic_ns()) / _NS
        if left_s > 0:
            self._sleep(min(left_s, max(timeout_s, 0.0)))
        return left_s <= timeout_s


def _join_plan(files: Iterable[Path], channels: Sequence[int] | None) -> dict[Path, int]:
    """Where each file begins on the sample grid of the first.

    A file that seems to begin before the end of the one before it, by less than the last digit of its time tells (one
    second in most names) or one sample, begins at that end.
    """
    starts: dict[Path, int] = {}
    first: _Recording | None = None
    origin: Take | None = None
    end = 0
    for path in files:
        now = _Recording.open(path, channels)
        now.close()
        if first is None:
            first, origin = now, read_take(path)
        if (now.fs, now.audio.channels) != (first.fs, first.audio.channels):
            raise AudioFormatError(
                f"{path}: {now.fs} Hz, {now.audio.channels} channel(s) cannot join {first.path.name} with "
                f"{first.fs} Hz, {first.audio.channels} channel(s)"
            )
        if now.start is None or first.start is None:
            raise AudioFormatError(
                f"{path}: cannot be joined, its start time is unknown: put it into the name (20220925T223450Z) "
                f"or into {path.with_suffix('.json').name} as t_first_sample_ns"
            )
        take = read_take(path)
        at = ((now.start.t_ns - first.start.t_ns) * now.fs + _NS // 2) // _NS
        if origin is not None and take is not None and take.same_stream(origin):
            at = take.first_sample - origin.first_sample  # counted, not measured
        if at < end - max(1, now.start.resolution_ns * now.fs // _NS):
            raise AudioFormatError(
                f"{path}: cannot be joined, it begins {(end - at) / now.fs:.3f} s before the end of the file before it"
            )
        starts[path] = max(at, end)
        end = starts[path] + now.audio.frames
    return starts
