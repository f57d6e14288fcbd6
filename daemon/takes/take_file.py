"""One file under way: FLAC where 24 bits hold every sample exactly, else WAV of floats; read back when closed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from models.errors import InputError

__all__ = ["Encoding", "TakeFile", "encoding_for", "exact_in_24_bits", "most_samples"]

F32 = npt.NDArray[np.float32]
Encoding: TypeAlias = Literal["flac", "wav"]

FULL_SCALE = float(1 << 23)
MOST_FLAC_CHANNELS, MOST_FLAC_FS = 8, 655_350
MOST_WAV_BYTES = 2_000_000_000
"""Well below the 4 GB that a WAV file can state."""
PART = ".part"
PIECE = 1 << 16


def exact_in_24_bits(x: F32) -> bool:
    """Whether whole numbers of 24 bits hold every sample as it is; what an ADC gave always fits.

    A negative zero does not: it would come back without its sign, and so with another digest.
    """
    scaled = x.astype(np.float64) * FULL_SCALE
    with np.errstate(invalid="ignore"):
        whole = (scaled == np.rint(scaled)) & (scaled >= -FULL_SCALE) & (scaled < FULL_SCALE)
    return bool(np.all(whole)) and not bool(np.any((x == 0.0) & np.signbit(x)))


def encoding_for(n_channels: int, fs: int) -> Encoding:
    """What FLAC can hold is tried in FLAC."""
    return "flac" if n_channels <= MOST_FLAC_CHANNELS and fs <= MOST_FLAC_FS else "wav"


def most_samples(n_channels: int) -> int:
    """Samples per channel that one file may have."""
    return MOST_WAV_BYTES // (4 * n_channels)


class TakeFile:
    """Open file; while it is written it has another name, so that nobody takes it for whole.

    Parameters
    ----------
    path : Path
        Its name when it is closed; ``.flac`` or ``.wav``.
    fs : int
        Hz.
    n_channels : int

    Raises
    ------
    InputError
        If it cannot be made.
    """

    def __init__(self, path: Path, fs: int, n_channels: int) -> None:
        import soundfile

        self.path, self.n_samples = path, 0
        self.encoding: Encoding = "flac" if path.suffix == ".flac" else "wav"
        self._part = path.with_name(path.name + PART)
        self._digest = hashlib.blake2b(digest_size=16)
        try:
            self._audio: Any = soundfile.SoundFile(
                self._part, "w", fs, n_channels, subtype="PCM_24" if self.encoding == "flac" else "FLOAT",
                format=self.encoding.upper(),
            )  # fmt: skip
        except (OSError, soundfile.LibsndfileError) as e:
            raise InputError(f"{path}: cannot be written: {e}") from e

    def write(self, x: F32) -> None:
        """Append ``(n_channels, n_samples)``; a FLAC file takes only what `exact_in_24_bits`.

        Raises
        ------
        InputError
            If the disk does not take it.
        """
        import soundfile

        frames = np.ascontiguousarray(x.T)
        if self.encoding == "flac":  # whole numbers: libsndfile would scale floats by 2^23 - 1
            data: Any = (frames.astype(np.float64) * FULL_SCALE).astype(np.int32) << 8
        else:
            data = frames
        try:
            self._audio.write(data)
        except (OSError, soundfile.LibsndfileError, AssertionError) as e:  # the last: fewer were written than given
            raise InputError(f"{self.path}: cannot be written: {e or 'the disk takes no more'}") from e
        self._digest.update(frames.astype("<f4", copy=False).tobytes())
        self.n_samples += len(frames)

    def close(self, *, sync: bool) -> str:
        """Close, read back, return the digest of the samples; the name is given by `settle`.

        Raises
        ------
        InputError
            If what is on disk is not what was written.
        """
        import soundfile

        try:
            self._audio.close()
            if sync:
                with self._part.open("rb") as file:
                    os.fsync(file.fileno())
            again = hashlib.blake2b(digest_size=16)
            with soundfile.SoundFile(self._part) as audio:
                while len(frames := audio.read(PIECE, dtype="float32", always_2d=True)):
                    again.update(frames.astype("<f4", copy=False).tobytes())
        except (OSError, soundfile.LibsndfileError) as e:
            raise InputError(f"{self.path}: cannot be written: {e}") from e
        if again.digest() != self._digest.digest():
            raise InputError(f"{self.path}: what was written cannot be read back: the disk is full or damaged")
        return self._digest.hexdigest()

    @property
    def part(self) -> Path:
        """Where it lies before `settle`."""
        return self._part

    def settle(self) -> None:
        """Give it its name."""
        self._part.replace(self.path)

    def discard(self) -> None:
        """Close it and remove what is there of it."""
        import soundfile

        try:
            self._audio.close()
        except (OSError, soundfile.LibsndfileError, AssertionError):
            pass  # it goes anyway
        finally:
            self._part.unlink(missing_ok=True)
