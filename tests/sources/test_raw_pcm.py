from __future__ import annotations

import io
import os
import threading
import wave

import numpy as np
import pytest

from daemon.frames import AudioBlock, StreamEnd, StreamStart
from daemon.sources.raw_pcm import RawPcmSource
from models.errors import AudioFormatError


def feed(data: bytes, *, pieces: int = 10_000) -> int:
    """Read end of a pipe that a thread fills and closes."""
    r, w = os.pipe()

    def run() -> None:
        for i in range(0, len(data), pieces):
            os.write(w, data[i : i + pieces])
        os.close(w)

    threading.Thread(target=run, daemon=True).start()
    return r


def drain(source: RawPcmSource) -> list:
    events = []
    while not (events and isinstance(events[-1], StreamEnd)):
        event = source.read(5.0)
        assert event is not None
        events.append(event)
    assert source.read(0.0) is None
    return events


def audio(events: list) -> np.ndarray:
    return np.concatenate([e.x for e in events if isinstance(e, AudioBlock)], axis=1)


def counter(n: int, bits: int) -> np.ndarray:
    return np.random.default_rng(bits).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), n)


def pack24(v: np.ndarray) -> bytes:
    return v.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


@pytest.mark.parametrize("pieces", [1013, 65_536])
@pytest.mark.parametrize("kind", ["s16le", "s24le", "s32le", "f32le"])
def test_source_of_each_format_is_exact_however_the_pipe_cuts_it(kind: str, pieces: int) -> None:
    n = 2 * 12_345
    if kind == "f32le":
        v = np.random.default_rng(0).standard_normal(n).astype("<f4")
        data, expected = v.tobytes(), v
    else:
        bits = int(kind[1:3])
        v = counter(n, bits)
        data = pack24(v) if bits == 24 else v.astype(f"<i{bits // 8}").tobytes()
        expected = (v / 2.0 ** (bits - 1)).astype(np.float32)
    events = drain(RawPcmSource(feed(data, pieces=pieces), fs=8000, n_channels=2, sample_format=kind))
    np.testing.assert_array_equal(audio(events), expected.reshape(-1, 2).T)
    assert events[0].fs == 8000
    assert events[-1] == StreamEnd("pcm", 0, n // 2, final=True)
    assert max(e.n_samples for e in events if isinstance(e, AudioBlock)) <= 2000  # block_s of 0.25 s


def test_source_with_partial_frame_at_the_end_says_so() -> None:
    events = drain(RawPcmSource(feed(bytes(4 * 100 + 3)), fs=8000, n_channels=2))
    assert events[-1].n_samples == 100
    assert "3 bytes" in events[-1].problem


def wav(n: int, fs: int, n_channels: int, data_size: int | None = None) -> tuple[bytes, np.ndarray]:
    v = counter(n * n_channels, 16).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as w:
        w.setnchannels(n_channels)
        w.setsampwidth(2)
        w.setframerate(fs)
        w.writeframes(v.tobytes())
    data = bytearray(out.getvalue())
    if data_size is not None:
        data[40:44] = data_size.to_bytes(4, "little")
    return bytes(data), v.reshape(-1, n_channels).T / np.float32(2**15)


@pytest.mark.parametrize("data_size", [None, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
@pytest.mark.parametrize("pieces", [1, 65_536])
def test_source_with_wav_header_takes_rate_and_channels_from_it(pieces: int, data_size: int | None) -> None:
    data, x = wav(900, 16_000, 2, data_size)
    events = drain(RawPcmSource(feed(data, pieces=pieces)))
    assert isinstance(events[0], StreamStart)
    assert (events[0].fs, events[0].channels) == (16_000, ("ch0", "ch1"))
    np.testing.assert_array_equal(audio(events), x)
    assert not events[-1].problem


def test_source_with_wav_header_ignores_chunks_after_the_audio_and_tells_truncation() -> None:
    data, x = wav(900, 16_000, 1)
    events = drain(RawPcmSource(feed(data + b"LIST\x04\0\0\0abcd")))
    np.testing.assert_array_equal(audio(events), x)
    events = drain(RawPcmSource(feed(data[:-100])))
    assert events[-1].n_samples == 850
    assert "100 more bytes" in events[-1].problem


def test_source_with_wav_header_that_contradicts_what_was_asked_is_refused() -> None:
    data, _ = wav(900, 16_000, 2)
    with pytest.raises(AudioFormatError, match="fs = 8000 was asked, but the WAV header says 16000"):
        RawPcmSource(feed(data), fs=8000).read(5.0)
    with pytest.raises(AudioFormatError, match="n_channels = 4"):
        RawPcmSource(feed(data), n_channels=4).read(5.0)
    with pytest.raises(AudioFormatError, match="no channel 2"):
        RawPcmSource(feed(data), channels=[2]).read(5.0)


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "ended before"), (b"RI", "give its sample rate"), (b"abcdef" * 9, "rate")]
)
def test_source_without_rate_or_header_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(AudioFormatError, match=words):
        RawPcmSource(feed(data)).read(5.0)


def test_source_that_gets_nothing_returns_none_and_a_slow_pipe_is_not_held_back() -> None:
    r, w = os.pipe()
    source = RawPcmSource(r, fs=8000, block_s=1.0, max_wait_s=0.05)
    assert source.read(0.01) is None
    os.write(w, bytes(200))
    assert isinstance(source.read(0.0), StreamStart)
    blocks = [source.read(0.1) for _ in range(3)]
    assert [b.n_samples for b in blocks if b is not None] == [100]
    os.close(w)
    assert isinstance(source.read(1.0), StreamEnd)
    os.close(r)


def test_source_makes_the_writer_wait_instead_of_losing() -> None:
    r, w = os.pipe()
    os.set_blocking(w, False)
    source = RawPcmSource(r, fs=8000)
    sent = os.write(w, bytes(1 << 22))  # as much as the pipe takes: nothing is read behind our back
    assert sent <= 1 << 20
    os.close(w)
    assert drain(source)[-1].n_samples == sent // 2
    os.close(r)
