"""Raw PCM from a pipe: ``arecord -t raw ... | tonald run --source -``; a WAV header is read if there is one."""

from __future__ import annotations

import os
import select
import struct
import time
from collections import deque
from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from daemon.frames import AudioBlock, ClockState, Event, StreamEnd, StreamStart
from daemon.sources.channels import pick
from models.errors import AudioFormatError, InputError, UsageError

__all__ = ["RawPcmSource", "SampleFormat", "decode_pcm"]

SampleFormat = Literal["s16le", "s24le", "s32le", "f32le"]
WIDTH = {"s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}
"""Bytes per sample."""
_MAX_HEADER = 1 << 16
_EXTENSIBLE = 0xFFFE
_UNKNOWN_SIZE = 0x7FFF_0000
"""A data size from here on means: until the pipe ends (arecord writes 0x7fff....)."""


class Stream(Protocol):
    """Anything with a file descriptor."""

    def fileno(self) -> int:
        """File descriptor to read from."""


def decode_pcm(data: bytes | memoryview, sample_format: SampleFormat, n_channels: int) -> npt.NDArray[np.float32]:
    """Samples ``(n_channels, n)``, full scale 1, of interleaved bytes; 32-bit integers round to 24 bits."""
    if sample_format == "s24le":
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        flat = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    elif sample_format == "f32le":
        flat = np.frombuffer(data, "<f4").astype(np.float32)
    elif sample_format == "s16le":
        flat = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(2**15)
    else:
        flat = np.frombuffer(data, "<i4").astype(np.float32) / np.float32(2**31)
    return np.ascontiguousarray(flat.reshape(-1, n_channels).T)


class RawPcmSource:
    """Interleaved little-endian PCM from a pipe or file; implements :class:`daemon.frames.Source`.

    One epoch. The writer is waited for and made to wait: nothing is lost here (a recorder that cannot wait loses on
    its own side). When the samples were taken is unknown, so no UTC is claimed.

    Parameters
    ----------
    stream : int or object with ``fileno``
        What is read, e.g. ``sys.stdin.buffer``; never closed here.
    fs : int, optional
        Hz. None: the stream must begin with a WAV header.
    n_channels : int, optional
    sample_format : SampleFormat, optional
        None for either: as the WAV header says, else 1 channel of ``s16le``. ``n_channels`` = 1 and ``s16le`` are taken
        as such defaults when there is a header; any other value must agree with it.
    channels : sequence of int, optional
        Which are taken, from 0; None: all.
    name : str
    block_s : float
        Length of a block.
    max_wait_s : float
        After this long a shorter block is given, so that a slow pipe is not held back.

    Raises
    ------
    UsageError
        If a number is out of range.
    AudioFormatError
        At the first ``read``: the header contradicts what was asked, or there is neither header nor ``fs``; no such
        channel.
    """

    live = False

    def __init__(
        self,
        stream: Stream | int,
        *,
        fs: int | None = None,
        n_channels: int | None = None,
        sample_format: SampleFormat | None = None,
        channels: Sequence[int] | None = None,
        name: str = "pcm",
        block_s: float = 0.25,
        max_wait_s: float = 0.5,
    ) -> None:
        if fs is not None and fs <= 0:
            raise UsageError(f"{fs=} Hz of raw PCM is not positive")
        if n_channels is not None and n_channels < 1:
            raise UsageError(f"{n_channels=} of raw PCM is not positive")
        if sample_format is not None and sample_format not in get_args(SampleFormat):
            raise UsageError(f"{sample_format=} of raw PCM is not one of {', '.join(get_args(SampleFormat))}")
        self.name = name
        self._fd = stream if isinstance(stream, int) else stream.fileno()
        self._fs, self._n_channels, self._format = fs, n_channels, sample_format
        self._wanted, self._block_s, self._max_wait_s = channels, block_s, max_wait_s
        self._bytes = bytearray()
        self._left: int | None = None  # bytes of audio still to come, where a header says so
        self._events: deque[Event] = deque()
        self._started = self._ended = self._at_eof = False
        self._position = 0
        self._columns: tuple[int, ...] = ()
        self._n_block_bytes = self._frame = 0
        self._oldest = 0.0

    def read(self, timeout_s: float) -> Event | None:
        """Next event; None if nothing came within ``timeout_s``."""
        if self._ended:
            return None
        deadline = time.monotonic() + max(timeout_s, 0.0)
        while not self._events:
            if not self._started:
                self._begin()
            else:
                self._cut()
            if not self._events and not self._fill(deadline):
                return None
        event = self._events.popleft()
        self._ended = isinstance(event, StreamEnd)
        return event

    def backlog(self) -> None:
        """Nothing is lost here: what is not read waits."""

    def close(self) -> None:
        """End the stream; may be called twice. The pipe itself belongs to the caller."""
        self._ended = True

    def _fill(self, deadline: float) -> bool:
        """Wait for bytes until ``deadline``; False if none came."""
        wait_s = max(0.0, deadline - time.monotonic())
        try:
            if not select.select([self._fd], [], [], wait_s)[0]:
                return False
            data = os.read(self._fd, 1 << 16)
        except (OSError, ValueError) as e:
            raise InputError(f"{self.name}: standard input cannot be read: {e}") from e
        if not self._bytes:
            self._oldest = time.monotonic()
        self._bytes += data
        self._at_eof = not data
        return True

    def _begin(self) -> None:
        """Start the stream once it is clear whether it opens with a WAV header."""
        if self._bytes[:4] == b"RIFF"[: len(self._bytes)] and not self._at_eof and len(self._bytes) < 12:
            return
        if self._bytes[:4] == b"RIFF" and self._bytes[8:12] == b"WAVE":
            if not self._take_header():
                return
        elif not self._fs:
            if self._at_eof and not self._bytes:
                raise AudioFormatError(f"{self.name}: standard input ended before the first sample")
            if not self._bytes:
                return
            raise AudioFormatError(f"{self.name}: raw PCM without a WAV header: give its sample rate (source.fs)")
        fs, n, kind = self._fs or 0, self._n_channels or 1, self._format or "s16le"
        self._columns, names = pick(self._wanted, n, f"{self.name}: standard input", AudioFormatError)
        self._fs, self._n_channels, self._format = fs, n, kind
        self._frame = WIDTH[kind] * n
        self._n_block_bytes = max(1, round(self._block_s * fs)) * self._frame
        label = f"standard input, {fs} Hz, {n} x {kind}"
        self._events.append(StreamStart(self.name, 0, fs, names, label, None, ClockState("none")))
        self._started = True

    def _take_header(self) -> bool:
        """Read the WAV header off the stream; False while it is incomplete."""
        at, fmt = 12, b""
        while len(self._bytes) >= at + 8:
            size = int(struct.unpack_from("<I", self._bytes, at + 4)[0])
            if self._bytes[at : at + 4] == b"data":
                break
            if self._bytes[at : at + 4] == b"fmt ":
                fmt = bytes(self._bytes[at + 8 : at + 8 + size])
            at += 8 + size + size % 2
        else:
            if self._at_eof or len(self._bytes) > _MAX_HEADER:
                raise AudioFormatError(f"{self.name}: the WAV header on standard input has no audio data")
            return False
        if len(fmt) < 16:
            raise AudioFormatError(f"{self.name}: the WAV header on standard input has no format")
        tag, n, fs, _, _, bits = struct.unpack_from("<HHIIHH", fmt)
        if tag == _EXTENSIBLE and len(fmt) >= 26:
            tag = struct.unpack_from("<H", fmt, 24)[0]
        kinds: dict[tuple[int, int], SampleFormat] = {
            (1, 16): "s16le", (1, 24): "s24le", (1, 32): "s32le", (3, 32): "f32le",
        }  # fmt: skip
        kind = kinds.get((tag, bits))
        if kind is None or n < 1 or fs < 1:
            raise AudioFormatError(
                f"{self.name}: WAV on standard input has format {tag} with {bits} bits, {n} channels, {fs} Hz: "
                "16, 24, 32-bit integer or 32-bit float is read"
            )
        self._agree("fs", self._fs, fs, None)
        self._agree("n_channels", self._n_channels, n, 1)
        self._agree("sample_format", self._format, kind, "s16le")
        self._fs, self._n_channels, self._format = fs, n, kind
        self._left = None if size >= _UNKNOWN_SIZE or size == 0 else size
        del self._bytes[: at + 8]
        return True

    def _agree(self, key: str, asked: object, header: object, default: object) -> None:
        if asked not in (None, default, header):
            raise AudioFormatError(f"{self.name}: {key} = {asked} was asked, but the WAV header says {header}")

    def _cut(self) -> None:
        """Turn whole frames into a block if they are enough, old enough, or the last."""
        n_have = len(self._bytes) if self._left is None else min(len(self._bytes), self._left)
        done = self._at_eof or (self._left is not None and n_have == self._left)
        n = min(n_have, self._n_block_bytes) // self._frame * self._frame
        waited = time.monotonic() - self._oldest >= self._max_wait_s
        if n and (n >= self._n_block_bytes or done or waited):
            assert self._fs is not None
            assert self._n_channels is not None
            assert self._format is not None
            x = decode_pcm(bytes(self._bytes[:n]), self._format, self._n_channels)
            x = np.ascontiguousarray(x[list(self._columns)])
            x.setflags(write=False)
            del self._bytes[:n]
            self._left = None if self._left is None else self._left - n
            self._oldest = time.monotonic()
            self._events.append(AudioBlock(self.name, 0, self._position, self._fs, x))
            self._position += x.shape[1]
        elif done:
            self._events.append(StreamEnd(self.name, 0, self._position, final=True, problem=self._shortfall(n_have)))

    def _shortfall(self, n_rest: int) -> str:
        if self._left is not None and self._left > n_rest:
            return f"truncated: the WAV header announces {self._left - n_rest} more bytes than came"
        return f"the last {n_rest} bytes are no whole frame of {self._frame} bytes" if n_rest else ""
