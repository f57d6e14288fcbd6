"""One audio file, read anywhere: what a record is held against."""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from daemon.sources.file_time import StartTime, time_of_first_sample
from daemon.takes.side_car import Take, read_take
from models.errors import AudioFormatError, InputError

__all__ = ["Recording"]

F32 = npt.NDArray[np.float32]

FORWARD_ONLY = frozenset({"OGG", "MPEG"})
"""Formats whose samples depend on where decoding began."""


class Recording:
    """Open audio; use with ``with``.

    Parameters
    ----------
    path : Path
    column : int, optional
        The one that holds the channel of every record, from 0. None: by the channel's name, ``ch2`` is column 2; of a
        file of one column that one.

    Raises
    ------
    InputError
        If there is no such file.
    AudioFormatError
        If it is no audio, or has no such column.
    """

    def __init__(self, path: Path, column: int | None = None) -> None:
        import soundfile

        self.path, self._column = path, column
        try:
            path.open("rb").close()
            self.start: StartTime | None = time_of_first_sample(path)
            """UTC of sample 0, by side-car or name."""
            self.take: Take | None = read_take(path)
            """What the daemon's own side-car says, if it has one."""
            self._audio: Any = soundfile.SoundFile(path)  # soundfile has no types
        except OSError as e:
            raise InputError(f"{path}: cannot be read: {e.strerror or e}") from e
        except soundfile.LibsndfileError as e:
            raise AudioFormatError(f"{path}: not audio, or damaged ({e.error_string.strip(' .')})") from e
        self.fs: int = self._audio.samplerate
        """Hz."""
        if column is not None and not 0 <= column < self._audio.channels:
            n = self._audio.channels
            self._audio.close()
            raise AudioFormatError(f"{path}: there is no column {column}: it has {n}, counted from 0")
        self._whole: F32 | None = None

    @property
    def n_samples(self) -> int:
        """Length, as the file states it."""
        return int(self._audio.frames)

    def read(self, first: int, n: int, channel: str) -> F32:
        """Samples ``(n,)`` of a channel from sample ``first`` on; fewer if the recording ends before.

        Raises
        ------
        AudioFormatError
            If it has no such channel, or is damaged there.
        """
        import soundfile

        column = self._column_of(channel)
        try:
            if self._audio.format in FORWARD_ONLY:
                if self._whole is None:
                    self._audio.seek(0)
                    self._whole = self._audio.read(dtype="float32", always_2d=True)
                x = self._whole[first : first + n]
            elif first >= self._audio.frames:
                return np.empty(0, np.float32)
            else:
                self._audio.seek(first)
                x = self._audio.read(n, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as e:
            raise AudioFormatError(f"{self.path}: cannot be read at sample {first}: {e.error_string}") from e
        taken: F32 = np.ascontiguousarray(x[:, column])
        return taken

    def _column_of(self, channel: str) -> int:
        if self._column is not None:
            return self._column
        if self.take is not None and channel in self.take.channels:
            return self.take.channels.index(channel)
        named = re.fullmatch(r"ch(\d+)", channel)
        n = int(self._audio.channels)
        if named and int(named[1]) < n:
            return int(named[1])
        if n == 1:
            return 0
        raise AudioFormatError(f"{self.path}: which of its {n} columns is channel {channel}? Say it with --column")

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._audio.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        self.close()
